"""Keys of the methods that search or prune, against counts, plain autograd and their own record."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Compute, Finetuning, Optimizer
from swift_debias.learning.context import Context
from swift_debias.learning.networks import UNIT_MASK, Classifier
from swift_debias.learning.samples import ExternalSet, Samples

SIZE = 8  # pixels a side


@pytest.fixture(scope="module")
def external() -> ExternalSet:
    """64 images: the label brightens one corner, the group tints all; the two are correlated."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    groups = np.where(rng.random(64) < 0.75, labels, 1 - labels)
    images = rng.normal(110, 20, (64, 3, SIZE, SIZE))
    images[:, :, :4, :4] += (18 * labels + rng.normal(0, 12, 64))[:, None, None, None]
    images[:, 2] += (36 * groups + rng.normal(0, 9, 64))[:, None, None]
    samples = Samples(
        torch.from_numpy(images.clip(0, 255).astype(np.uint8)),
        torch.arange(64),
        torch.tensor(labels, dtype=torch.float32),
        torch.tensor(groups),
    )
    return ExternalSet(samples, samples)


@pytest.fixture(scope="module")
def learnt(external: ExternalSet) -> Classifier:
    """Accurate and biased; two BatchNorms."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        extractor = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        classifier = Classifier(extractor, 6, dropout=0.0).train()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.02)
    inputs, labels = images_of(external), external.full.labels
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(classifier(inputs), labels).backward()
        optimizer.step()
    return classifier.eval()


@pytest.fixture
def trained(learnt: Classifier) -> Classifier:
    """A copy for one test."""
    return copy.deepcopy(learnt)


def images_of(external: ExternalSet) -> Tensor:
    """The whole set as the network sees it: z-scored by the statistics of ImageNet."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (external.full.source.float() / 255 - mean) / std


def debias(
    algorithm: str,
    classifier: Classifier,
    external: ExternalSet,
    importance: Any = None,
    epochs: int = 3,
    unprivileged: int | None = None,
    batchnorm: Any = "train",
    **keys: Any,
) -> tuple[Classifier, Context]:
    """What the method makes of the classifier, which may change; an epoch is one batch."""
    method = methods.load(algorithm)
    context = Context(
        seed=0, epochs=epochs, batch_size=64, optimizer=Optimizer(name="sgd", lr=0.1),
        finetuning=Finetuning(batchnorm=batchnorm), augmentation=Augmentation(),
        compute=Compute(device="cpu"),
        importance=lambda: importance, unprivileged=lambda: unprivileged, log=io.StringIO(),
    )  # fmt: skip
    found = method.debias(classifier, external, method.Settings(**keys), context)
    return found, context


def rate_gap(logits: Tensor, external: ExternalSet, proxy: str) -> Tensor:
    """Mean score of group 0 minus that of group 1: of all, of the positives, or of both classes."""
    scores, labels, groups = logits.sigmoid(), external.full.labels, external.full.attributes
    classes = {"spd": [labels >= 0], "eopp": [labels == 1], "eodds": [labels == 0, labels == 1]}
    gaps = [
        scores[of_class & (groups == 0)].mean() - scores[of_class & (groups == 1)].mean()
        for of_class in classes[proxy]
    ]
    return torch.stack(gaps).mean()


# --- diffgda --------------------------------------------------------------------------------------


@pytest.mark.key("diffgda.lr", "diffgda.proxy")
@pytest.mark.parametrize(("lr", "proxy"), [(1e-3, "eodds"), (4e-3, "spd"), (2e-3, "eopp")])
def test_diffgda_steps_by_adam_along_its_proxy(
    trained: Classifier, external: ExternalSet, lr: float, proxy: str
) -> None:
    """One step, from the start model, whose BatchNorm statistics stay."""
    network = copy.deepcopy(trained).requires_grad_(True)
    gap = rate_gap(network(images_of(external)), external, proxy)
    assert gap < -0.1
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    (-gap).backward()  # a negative bias is raised
    optimizer.step()
    options = {"lr": lr, "proxy": proxy, "batchnorm": "eval"}
    debias("diffgda", trained, external, epochs=1, **options)
    for (name, found), expected in zip(
        trained.named_parameters(), network.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=name)


def kept(history: list[dict[str, Any]], start: dict[str, Any], floor: float) -> dict[str, Any]:
    """The least biased of what was measured that is accurate enough; the start if none is."""
    accurate = [
        row
        for row in history
        if row["balanced_accuracy"] >= floor * start["balanced_accuracy"]
        and abs(row["hard_bias"]) < abs(start["hard_bias"])
    ]
    return min(accurate, key=lambda row: abs(row["hard_bias"]), default=start)


def measured(classifier: Classifier, external: ExternalSet, proxy: str = "eodds") -> dict[str, Any]:
    """Balanced accuracy and hard bias at the threshold that is best, in numpy."""
    with torch.no_grad():
        scores = classifier.eval()(images_of(external)).double().sigmoid().numpy()
    y, a = external.full.labels.numpy(), external.full.attributes.numpy()
    thresholds = np.linspace(0, 1, 101)
    accuracy = [
        ((scores[y == 1] > t).mean() + (scores[y == 0] <= t).mean()) / 2 for t in thresholds
    ]
    hard = scores > thresholds[int(np.argmax(accuracy))]
    classes = {"spd": [y >= 0], "eopp": [y == 1], "eodds": [y == 0, y == 1]}[proxy]
    gaps = [hard[c & (a == 0)].mean() - hard[c & (a == 1)].mean() for c in classes]
    return {"balanced_accuracy": max(accuracy), "hard_bias": float(np.mean(gaps))}


SEARCHES = {
    "diffgda": {"lr": 0.02, "stop_balanced_accuracy": 0.0},
    "diffprune": {"step_size": 0.06, "max_steps": 8, "stop_balanced_accuracy": 0.0},
}


@pytest.mark.key("diffgda.min_balanced_accuracy", "diffprune.min_balanced_accuracy")
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_the_least_biased_iterate_above_the_floor_is_kept(
    trained: Classifier, external: ExternalSet, algorithm: str
) -> None:
    """Floors between the accuracies that were met choose different iterates."""
    start, found = measured(trained, external), {}
    for floor in (0.0, 0.7, 0.9, 0.99):
        keys = SEARCHES[algorithm] | {"min_balanced_accuracy": floor}
        debiased, context = debias(algorithm, copy.deepcopy(trained), external, **keys)
        best = kept(context.history, start, floor)
        found[floor] = measured(debiased, external)
        for name, value in found[floor].items():
            assert value == pytest.approx(best[name], abs=1e-6)
    assert abs(found[0.0]["hard_bias"]) < abs(found[0.99]["hard_bias"])


@pytest.mark.key("diffgda.stop_balanced_accuracy", "diffprune.stop_balanced_accuracy")
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_search_stops_when_accuracy_is_gone(
    trained: Classifier, external: ExternalSet, algorithm: str
) -> None:
    """At an accuracy that was met, and just below it."""

    def accuracies(stop: float) -> list[float]:
        keys = SEARCHES[algorithm] | {"stop_balanced_accuracy": stop}
        _, context = debias(algorithm, copy.deepcopy(trained), external, epochs=8, **keys)
        return [row["balanced_accuracy"] for row in context.history]

    whole = accuracies(stop=0)
    met = sorted(set(whole))[-3:]
    assert min(whole) < met[0] < 1
    for stop in (*met, *(value - 1e-6 for value in met)):
        last = next(i for i, value in enumerate(whole) if value <= stop)
        assert accuracies(stop) == whole[: last + 1]


# --- diffprune ------------------------------------------------------------------------------------


@pytest.mark.key("diffprune.step_size", "diffprune.max_steps", "diffprune.unit")
@pytest.mark.parametrize(
    ("unit", "step_size", "max_steps"),
    [("position", 0.01, 4), ("position", 0.05, 2), ("channel", 0.25, 3), ("channel", 0.5, 1)],
)
def test_diffprune_silences_so_many_units_in_so_many_steps(
    trained: Classifier, external: ExternalSet, unit: str, step_size: float, max_steps: int
) -> None:
    keys = {"unit": unit, "step_size": step_size, "max_steps": max_steps}
    _, context = debias(
        "diffprune", copy.deepcopy(trained), external, stop_balanced_accuracy=0, **keys
    )
    units = 4 * SIZE * SIZE if unit == "position" else 4
    a_step = round(step_size * units)
    assert [row["silenced"] for row in context.history] == [
        a_step * step for step in range(1, max_steps + 1)
    ]


@pytest.mark.key("diffprune.layer")
def test_diffprune_masks_the_layer_that_is_named(
    trained: Classifier, external: ExternalSet
) -> None:
    shapes = {None: ("extractor.1", (4, 8, 8)), "extractor.4": ("extractor.4", (6, 3, 3))}
    for layer, (masked, shape) in shapes.items():
        keys = {"layer": layer, "step_size": 0.1, "min_balanced_accuracy": 0}
        pruned, _ = debias("diffprune", copy.deepcopy(trained), external, **keys)
        added = {n: v.shape for n, v in pruned.state_dict().items() if UNIT_MASK in n}
        assert added == {f"{masked}.{UNIT_MASK}": shape}


@pytest.mark.key("diffprune.proxy")
@pytest.mark.parametrize("proxy", ["spd", "eopp", "eodds"])
def test_diffprune_silences_what_drives_its_proxy(
    trained: Classifier, external: ExternalSet, proxy: str
) -> None:
    """The channel with the lowest mean gradient of the gap; the gap is negative."""
    keys = {"unit": "channel", "step_size": 0.25, "max_steps": 1, "min_balanced_accuracy": 0}
    _, context = debias("diffprune", copy.deepcopy(trained), external, proxy=proxy, **keys)
    outputs: list[Tensor] = []
    network = copy.deepcopy(trained)
    network.extractor[1].register_forward_hook(
        lambda module, inputs, output: (
            outputs.append(output.detach().requires_grad_()) or outputs[-1]
        )
    )
    gap = rate_gap(network(images_of(external)), external, proxy)
    (gradient,) = torch.autograd.grad(gap, outputs[0])
    lowest = int(gradient.sum(dim=(0, 2, 3)).argmin())
    silent = copy.deepcopy(trained)
    silent.extractor[1].register_forward_hook(
        lambda module, inputs, output: output * (torch.arange(4) != lowest).view(1, 4, 1, 1)
    )
    expected = measured(silent, external, proxy)
    for name, value in expected.items():
        assert context.history[0][name] == pytest.approx(value, abs=1e-6)


# --- fairprune ------------------------------------------------------------------------------------


@pytest.mark.key("fairprune.ratio", "fairprune.beta")
@pytest.mark.parametrize(("ratio", "beta"), [(0.1, 0.33), (0.35, 0.9), (0.6, 0.0)])
@pytest.mark.parametrize("low", [0, 1])  # the unprivileged group
def test_fairprune_zeroes_the_share_of_the_lowest_scores(
    trained: Classifier, external: ExternalSet, ratio: float, beta: float, low: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = {n: p.detach() for n, p in trained.named_parameters() if p.dim() > 1}
    importance = [
        {n: torch.rand(p.shape, generator=generator) for n, p in trained.named_parameters()}
        for _ in (0, 1)
    ]
    saliency = np.concatenate(
        [
            (w.square() / 2 * (importance[low][n] - beta * importance[1 - low][n])).flatten()
            for n, w in weights.items()
        ]
    )
    expected = np.argsort(saliency)[: round(ratio * len(saliency))]
    shared = {f"per_sample.full.group{group}": importance[group] for group in (0, 1)}
    keys = {"ratio": ratio, "beta": beta}
    pruned, _ = debias("fairprune", trained, external, shared, unprivileged=low, **keys)
    state = pruned.state_dict()
    flat = torch.cat([state[name].flatten() for name in weights])
    assert set(torch.nonzero(flat == 0).flatten().tolist()) == set(expected.tolist())
