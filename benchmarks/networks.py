"""Today's networks, one by one: is it built, does its importance take the fast road, at what price,
and does SWiFT run?

    python -m benchmarks.networks
    python -m benchmarks.networks --size 224 --networks vit_b_16 timm:deit_small_patch16_224

Networks are torchvision's, and timm's where timm is installed, with one output and untrained
weights. Importances are counted in forward-backward passes over the same images (see
importance.py): mini-batch (two objectives), per sample (four), both at once, and the mini-batch's
two by plain automatic differentiation; medians of ratios within a round. `slow` is the number of
parameter tensors that the functions of `importance/` do not serve. SWiFT is the library's class,
one epoch a step.

Results of several sizes are kept beside one another in results/networks.json. The tables of
docs/performance.md are made of resources/networks.json, a copy of such a file (page.py).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.common import RESULTS, Clock, parser, prepare, ratio, rounds, write
from benchmarks.importance import calibrate, floor, make_batches, minibatch_autograd
from torch import Tensor, nn

from swift_debias import ImageSet, SWiFT
from swift_debias.importance.layers import slow_parameters, squared_gradients
from swift_debias.learning.networks import import_torchvision
from swift_debias.learning.samples import Batch

NETWORKS = (
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_b3",
    "vit_b_16",
    "swin_t",
    "convnext_tiny",
    "timm:deit_small_patch16_224",
    "timm:vit_small_patch14_reg4_dinov2",
    "timm:swin_tiny_patch4_window7_224",
    "timm:convnext_tiny",
    "timm:efficientnet_lite0",
    "timm:efficientnet_b3",
)
WAYS = ("minibatch", "per_sample", "both", "autograd")


class OneLogit(nn.Module):
    """(B, 1) -> (B,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).squeeze(1)


def make(name: str, size: int) -> nn.Module:
    """An untrained network with one output, for images of this size."""
    torch.manual_seed(0)
    models = import_torchvision().models
    library, _, own = name.rpartition(":")
    if library == "timm":
        import timm

        sized = any(part in own for part in ("vit", "deit", "swin"))
        return timm.create_model(own, num_classes=1, **({"img_size": size} if sized else {}))
    network = models.get_model(
        own, weights=None, num_classes=1, **({"image_size": size} if "vit" in own else {})
    )
    if "vit" in own:  # it starts with a head of zeros, through which no gradient comes
        nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    return network


def passes(network: nn.Module, data: list[Batch], repeats: int, clock: Clock) -> dict[str, Any]:
    """What the importances cost, in forward-backward passes over the same images."""
    n = sum(len(batch.labels) for batch in data)
    c = torch.linspace(0.1, 1, 4 * n, device=data[0].images.device).view(4, n)
    d = torch.linspace(-1, 1, 2 * n, device=data[0].images.device).view(2, n)
    ways: dict[str, Callable[[], object]] = {
        "floor": lambda: floor(network, data),
        "minibatch": lambda: squared_gradients(network, data, None, d),
        "per_sample": lambda: squared_gradients(network, data, c),
        "both": lambda: squared_gradients(network, data, c, d),
        "autograd": lambda: minibatch_autograd(network, data),
    }
    floor(network, data[:1])
    times = rounds(ways, repeats, clock)
    return {name: ratio(times[name], times["floor"]) for name in WAYS}


def swift(network: nn.Module, size: int) -> str:
    """'yes', or why it did not run."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    labels, groups = np.arange(32) % 2, np.arange(32) // 2 % 2
    external = ImageSet.from_arrays(images, labels, groups)
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225)
    calibrate(network, seen)  # an untrained network's scores would all be 0 or 1
    try:
        SWiFT(epochs=1, batch_size=16, min_cell=2, min_group=2, device="cpu").fit(network, external)
    except Exception as error:  # whatever it is, it is the result
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return "yes"


def measure(
    name: str, size: int, options: argparse.Namespace, device: torch.device, clock: Clock
) -> dict[str, Any]:
    """One network's row."""
    size -= size % 14 if "patch14" in name else 0  # whole patches
    try:
        network = make(name, size)
    except Exception as error:  # not installed, or it cannot be of this size: that is the result
        return {"built": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    row: dict[str, Any] = {"built": "yes", "size": size, "images": options.images}
    row |= {"batch": options.batch, "rounds": options.repeats}
    whole = OneLogit(network).to(device, memory_format=torch.channels_last).eval()
    data = make_batches(options.images, size, options.batch, device)
    calibrate(whole, data[0].images)
    if options.swift:
        start = time.monotonic()
        row |= {"swift": swift(network, size), "swift_seconds": round(time.monotonic() - start, 1)}
    slow = slow_parameters(whole, data[0].images)
    row |= {"parameters": len(list(whole.parameters())), "slow": slow}
    return row | passes(whole, data, options.repeats, clock)


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options_of.add_argument("--sizes", nargs="+", type=int, default=[64], help="pixels a side")
    options_of.add_argument("--images", type=int, default=64)
    options_of.add_argument("--batch", type=int, default=32)
    options_of.set_defaults(repeats=2)
    options_of.add_argument("--no-swift", dest="swift", action="store_false")
    options = options_of.parse_args(arguments)
    device, clock = prepare(options)
    if options.quick:
        options.sizes, options.images, options.batch, options.repeats = [64], 8, 4, 1
        options.networks = ["resnet18", "swin_t"]
    path = RESULTS / "networks.json"
    results: dict[str, Any] = {}
    if path.is_file():
        results = json.loads(path.read_text())["results"]
    for size in options.sizes:
        for name in options.networks:
            results.setdefault(name, {})[str(size)] = measure(name, size, options, device, clock)
            write("networks", options, results)


if __name__ == "__main__":
    main()
