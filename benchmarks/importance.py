"""Cost of the diagonal importances, against other ways and against the floor.

    python -m benchmarks.importance

The floor is one plain forward and backward pass over the set (the work of an epoch without its
optimizer). Every contestant is timed in every round, so that a drift of the machine hits all alike,
and divided by that round's floor; the medians of these ratios are reported, per image. On one CPU
thread the clock is the process's CPU time, which other jobs on the machine disturb least.

- per_sample: `fisher.per_sample`, hooks; all diagonals (prediction, bias, each group) in one pass
- minibatch: `fisher.minibatch`, two diagonals (prediction and bias)
- both: both estimators in one pass, six diagonals
- minibatch_autograd: two diagonals by plain automatic differentiation, one forward, two backwards
- loop: a loop over single images, gradient of the logit, one accumulator for each diagonal
- loop_two_passes: a loop over single images, forward and backward for each of two diagonals
- vmap: torch.func per-sample gradients in chunks
- backpack: BackPACK's `SumGradSquared` of the logit, one diagonal; only where the package
  `backpack-for-pytorch` is installed (it is no requirement) and on networks that its converter
  can take; why it did not run is recorded
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
from collections.abc import Callable

import torch
from benchmarks.common import Clock, parser, prepare, seconds, write
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.importance import estimators
from swift_debias.learning import losses
from swift_debias.learning.networks import build
from swift_debias.learning.samples import Batch

WEIGHTS = (0.5, 0.5)


def make_batches(n: int, size: int, batch: int, device: torch.device) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, size, size, generator=generator).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = (torch.arange(n, device=device) % 2).float()
    attributes = torch.arange(n, device=device) // 2 % 2
    columns = [column.split(batch) for column in (images, labels, attributes)]
    return [Batch(*parts) for parts in zip(*columns, strict=True)]


def calibrate(network: nn.Module, images: Tensor) -> None:
    """Normalize activations with the statistics of these images, as training would have.

    The activations of an untrained EfficientNet in eval mode vanish, and so would its gradients.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad(), torch.random.fork_rng():
        network(images)
    network.eval()


def floor(network: nn.Module, batches: list[Batch]) -> None:
    for batch in batches:
        losses.weighted_bce(network(batch.images), batch.labels, WEIGHTS).backward()
        network.zero_grad(set_to_none=True)


def coefficients(batches: list[Batch]) -> Tensor:
    """Four objectives' coefficients (4, N); their values do not matter for the cost."""
    n = sum(len(batch.labels) for batch in batches)
    return torch.linspace(0.1, 1, 4 * n, device=batches[0].images.device).view(4, n)


def both(network: nn.Module, batches: list[Batch]) -> None:
    labels, attributes = (
        torch.cat([getattr(batch, name) for batch in batches]) for name in ("labels", "attributes")
    )
    per_sample = estimators.PerSample(labels, attributes, WEIGHTS)
    estimators.estimate(network, batches, per_sample, estimators.Minibatch(weights=WEIGHTS))


def minibatch_autograd(network: nn.Module, batches: list[Batch]) -> None:
    parameters = list(network.parameters())
    sums = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
    for batch in batches:
        logits = network(batch.images)
        prediction = losses.weighted_bce(logits, batch.labels, WEIGHTS)
        bias = losses.eodds_gap(logits, batch.labels, batch.attributes)
        for loss, total in ((prediction, sums[0]), (bias, sums[1])):
            gradients = torch.autograd.grad(loss, parameters, retain_graph=loss is prediction)
            for part, gradient in zip(total, gradients, strict=True):
                part.addcmul_(gradient, gradient)


def loop(network: nn.Module, batches: list[Batch]) -> None:
    parameters = list(network.parameters())
    weights = coefficients(batches).square().tolist()
    sums = [[torch.zeros_like(p) for p in parameters] for _ in weights]
    images = [image[None] for batch in batches for image in batch.images]
    for i, image in enumerate(images):
        gradients = torch.autograd.grad(network(image).squeeze(), parameters)
        for total, weight in zip(sums, weights, strict=True):
            for part, gradient in zip(total, gradients, strict=True):
                part.addcmul_(gradient, gradient, value=weight[i])


def loop_two_passes(network: nn.Module, batches: list[Batch]) -> None:
    parameters = list(network.parameters())
    for _ in range(2):
        sums = [torch.zeros_like(p) for p in parameters]
        for image in (image for batch in batches for image in batch.images):
            gradients = torch.autograd.grad(network(image[None]).squeeze(), parameters)
            for part, gradient in zip(sums, gradients, strict=True):
                part.addcmul_(gradient, gradient)


def vmap(network: nn.Module, batches: list[Batch]) -> None:
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def logit(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(network, (parameters, buffers), (image[None],)).squeeze()

    gradient = torch.func.vmap(torch.func.grad(logit), (None, 0))
    weights = coefficients(batches).square()
    sums = {name: p.new_zeros(4, p.numel()) for name, p in parameters.items()}
    done = 0
    for batch in batches:
        some = weights[:, done : done + len(batch.labels)]
        done += len(batch.labels)
        for name, value in gradient(parameters, batch.images).items():
            sums[name].addmm_(some, value.flatten(1).square_())


def backpack_runner(network: nn.Module) -> Callable[[nn.Module, list[Batch]], object]:
    """BackPACK on its own converted copy of the network; raises whatever it raises."""
    if importlib.util.find_spec("backpack") is None:
        raise ImportError("not installed: pip install backpack-for-pytorch")
    from backpack import backpack, extend
    from backpack.extensions import SumGradSquared

    # Plain modules: the converter follows neither a squeeze nor in-place activations.
    layers = nn.Sequential(copy.deepcopy(network.extractor), copy.deepcopy(network.head.linear))
    converted = extend(layers.eval(), use_converter=True)

    def run(_network: nn.Module, batches: list[Batch]) -> None:
        sums = [torch.zeros_like(p) for p in converted.parameters()]
        for batch in batches:
            with backpack(SumGradSquared()):
                converted(batch.images).sum().backward()
            for total, parameter in zip(sums, converted.parameters(), strict=True):
                total += parameter.sum_grad_squared
                del parameter.sum_grad_squared
                parameter.grad = None

    run(network, make_batches(2, 32, 2, network.device))  # does it run at all?
    return run


CONTESTANTS: dict[str, Callable[[nn.Module, list[Batch]], object]] = {
    "per_sample": lambda network, batches: estimators.per_sample(network, batches, WEIGHTS),
    "minibatch": lambda network, batches: estimators.minibatch(network, batches, weights=WEIGHTS),
    "both": both,
    "minibatch_autograd": minibatch_autograd,
    "loop": loop,
    "loop_two_passes": loop_two_passes,
    "vmap": vmap,
}
SLOW = ("loop", "loop_two_passes", "vmap", "backpack")


def measure(
    architecture: str, options: argparse.Namespace, device: torch.device, clock: Clock
) -> dict[str, object]:
    """Median cost of each contestant, in floors."""
    layout = {"memory_format": torch.channels_last}
    network = build(Backbone(architecture=architecture), seed=0).to(device, **layout)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # vmap needs it; the same for all
    many = make_batches(options.images, options.size, options.batch, device)
    few = make_batches(options.slow_images, options.size, options.batch, device)
    chunks = make_batches(options.slow_images, options.size, options.vmap_chunk, device)
    calibrate(network, many[0].images)

    contestants = {name: CONTESTANTS[name] for name in options.contestants if name != "backpack"}
    left_out: dict[str, str] = {}
    if "backpack" in options.contestants:
        try:
            contestants["backpack"] = backpack_runner(network)
        except Exception as error:  # another package's: whatever it raises is the result
            left_out["backpack"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]

    def of_one_image(run: Callable[[nn.Module, list[Batch]], object], data: list[Batch]) -> float:
        images = sum(len(batch.labels) for batch in data)
        return seconds(lambda: run(network, data), clock) / images

    floor(network, many[:1])
    floors: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.repeats):
        floors.append(of_one_image(floor, many))
        for name, run in contestants.items():
            data = chunks if name in ("vmap", "backpack") else few if name in SLOW else many
            ratios[name].append(of_one_image(run, data) / floors[-1])
    return {
        "floor_images_per_second": round(1 / statistics.median(floors), 1),
        "ratio_to_floor": {n: round(statistics.median(r), 3) for n, r in ratios.items()},
        "lowest": {n: round(min(r), 3) for n, r in ratios.items()},
        "highest": {n: round(max(r), 3) for n, r in ratios.items()},
        "left_out": left_out,
    }


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    backbones, names = ["resnet50", "densenet121", "efficientnet_b3"], [*CONTESTANTS, "backpack"]
    options_of.add_argument("--architectures", nargs="+", default=backbones)
    options_of.add_argument("--contestants", nargs="+", default=names, choices=names)
    options_of.add_argument("--size", type=int, help="pixels a side; default: 64, on a GPU 256")
    options_of.add_argument("--images", type=int, help="default: 64, on a GPU 256")
    options_of.add_argument("--slow-images", type=int, help="of loops, vmap and BackPACK: 8, 32")
    options_of.add_argument("--batch", type=int, help="default: 32, on a GPU the paper's 128")
    options_of.add_argument("--vmap-chunk", type=int, default=8)
    options = options_of.parse_args(arguments)
    device, clock = prepare(options)
    gpu = device.type == "cuda"
    options.size = options.size or (256 if gpu else 64)
    options.images = options.images or (256 if gpu else 64)
    options.slow_images = options.slow_images or (32 if gpu else 8)
    options.batch = options.batch or (128 if gpu else 32)
    if options.quick:
        options.size, options.images, options.batch, options.repeats = 32, 16, 8, 1
    results = {}
    for name in options.architectures:
        results[name] = measure(name, options, device, clock)
        write("importance", options, results)


if __name__ == "__main__":
    main()
