"""The methods with a loop of their own, step by step, against plain torch (plain.py).

LLFT, DiffGda, DiffPrune and FairPrune; those that `training.fit` trains are in test_one_step.py.
Every network has dropout and comes in train mode, so that a forgotten `eval()` shows.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from plain import (
    CELLS,
    assert_agrees,
    cross_entropy,
    descend,
    double,
    forward,
    keep,
    measure,
    rows_of,
    signed_gap,
)
from torch import Tensor, nn

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Finetuning, Optimizer
from swift_debias.learning.context import Context
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import ExternalSet, Samples
from swift_debias.methods._iterate import Evaluation, Selection, SelectionSettings

OPTIMIZERS = {  # none of these methods has the task's optimizer
    "sgd": Optimizer(name="sgd", lr=0.7, momentum=0.3, weight_decay=0.2),
    "adam": Optimizer(name="adam", lr=0.7, weight_decay=0.2),
}
ADAM = Optimizer(name="adam", lr=1, weight_decay=0)


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    """Label and attribute go together, in cells of four sizes."""
    cells = np.random.default_rng(0).permutation(np.repeat(CELLS, (40, 14, 18, 33), axis=0))
    return make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=1)


@pytest.fixture(scope="module")
def trained(make_classifier: Any, make_samples: Any, train: Any) -> Classifier:
    """Accurate and biased."""
    return train(make_classifier(), make_samples(160, seed=0, correlation=0.9))


@pytest.fixture
def classifier(trained: Classifier) -> Classifier:
    """In train mode and without gradients: a method chooses both itself."""
    return copy.deepcopy(trained).train().requires_grad_(False)


@pytest.fixture
def make(make_context: Any) -> Any:
    """A context whose settings for training are traps."""

    def make(optimizer: str = "sgd", batchnorm: Any = "eval", **options: Any) -> Context:
        context = make_context(
            batch_size=128,
            augmentation=Augmentation(),
            finetuning=Finetuning(lr_extractor=0.5, lr_head=0.6, batchnorm=batchnorm),
            **options,
        )
        context.optimizer = OPTIMIZERS[optimizer]
        return context

    return make


def run(
    algorithm: str, classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    method = methods.load(algorithm)
    return method.debias(classifier, external, method.Settings(**options), context)


# --- llft -----------------------------------------------------------------------------------------


@pytest.mark.key("llft.steps", "llft.lr", "llft.alpha")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("alpha", [0.0, 1.7])
def test_llft(
    optimizer: str,
    alpha: float,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new head on equal cells: cross-entropy and alpha R, by the published code's constants."""
    network, before = double(classifier), classifier.head.linear.weight.clone()
    drawn: list[Tensor] = []
    pixels = Samples.pixels
    monkeypatch.setattr(
        Samples, "pixels", lambda s, index: drawn.append(s.rows[index]) or pixels(s, index)
    )
    # the new head is seen after a step too small to move it
    new = run("llft", classifier, external, make(optimizer), steps=1, lr=1e-30, alpha=alpha)
    start = new.head.linear
    assert not torch.equal(start.weight, before)
    assert start.weight.abs().max() < 6**-0.5  # as torch.nn.Linear draws it, of 6 features
    network.head.linear.load_state_dict(start.state_dict())
    context = make(optimizer)
    run("llft", classifier, external, context, steps=8, lr=0.4, alpha=alpha)

    rows, smallest = torch.cat(drawn), 14
    n = 4 * smallest
    assert len(rows) == 2 * n and torch.equal(rows[:n], rows[n:])
    assert not torch.isin(rows, external.balanced.rows).all()  # drawn from the full set
    x, y, a = (part[rows[:n]] for part in rows_of(external.full))
    assert all(int(((y == label) & (a == group)).sum()) == smallest for label, group in CELLS)

    def loss() -> Tensor:
        p = network(x).sigmoid()
        wrong = torch.stack([p * (1 - y), (1 - p) * y])
        gaps = wrong[:, a == 0].mean(dim=1) - wrong[:, a == 1].mean(dim=1)
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean() + alpha * gaps.abs().sum()

    published = Optimizer(name="sgd", lr=1, momentum=0.9, weight_decay=5e-4)
    seen = descend(network, [loss] * 8, {"head": 0.4}, published)
    assert_agrees(classifier, network)
    assert [row["loss"] for row in context.history] == pytest.approx(seen[-1:], rel=1e-4)


# --- diffgda and diffprune ------------------------------------------------------------------------

STEPS = 4
SEARCHES = {"diffgda": {"lr": 1e-2}, "diffprune": {"step_size": 0.1, "max_steps": STEPS}}


def descent(
    classifier: Classifier, samples: Samples, kind: str, batchnorm: str = "eval"
) -> list[Classifier]:
    """Iterates of DiffGda: Adam on the signed gap alone, towards zero, without dropout."""
    x, y, a = rows_of(samples)
    start = double(classifier)
    sign = 1 if measure(start(x), y, a, kind)[1] >= 0 else -1
    iterates = [start]
    for steps in range(1, STEPS + 1):
        network = double(classifier)
        loss = [lambda n=network: sign * signed_gap(forward(n, x, batchnorm), y, a, kind)] * steps
        descend(network, loss, {"": SEARCHES["diffgda"]["lr"]}, ADAM)
        iterates.append(network)
    return iterates


class Pruned(nn.Module):
    """A classifier whose first BatchNorm's output is multiplied by a mask."""

    def __init__(self, network: Classifier, mask: Tensor) -> None:
        super().__init__()
        self.network, self.mask = network, mask

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm, *rest = self.network.extractor
        self.units = norm(convolution(x)) * self.mask
        return self.network.head(nn.Sequential(*rest)(self.units.clone()))


def pruning(classifier: Classifier, samples: Samples, kind: str, unit: str) -> list[Pruned]:
    """Iterates of DiffPrune: a tenth of the units a step, those that drive the gap from zero."""
    x, y, a = rows_of(samples)
    shape = (4, 6, 6) if unit == "position" else (4, 1, 1)
    iterates = [Pruned(double(classifier), torch.ones(shape, dtype=torch.float64))]
    sign = 1 if measure(iterates[0](x), y, a, kind)[1] >= 0 else -1
    for _ in range(STEPS):
        last = iterates[-1]
        gap = signed_gap(last(x), y, a, kind)
        (gradient,) = torch.autograd.grad(sign * gap, last.units)
        influence = gradient.sum(dim=0) if unit == "position" else gradient.sum(dim=(0, 2, 3))
        worst = influence.flatten().masked_fill(last.mask.flatten() == 0, -torch.inf).argsort()
        mask = last.mask.clone()
        mask.view(-1)[worst.flip(0)[: max(1, round(0.1 * mask.numel()))]] = 0
        iterates.append(Pruned(last.network, mask))
    return iterates


def iterates_of(
    algorithm: str, classifier: Classifier, samples: Samples, kind: str, unit: str = "position"
) -> tuple[list[Any], list[tuple[float, float]]]:
    """All iterates of a search that nothing stops, and what is measured of them."""
    x, y, a = rows_of(samples)
    if algorithm == "diffgda":
        iterates: list[Any] = descent(classifier, samples, kind)
    else:
        iterates = pruning(classifier, samples, kind, unit)
    return iterates, [measure(network(x), y, a, kind) for network in iterates]


def assert_is_iterate(found: Classifier, expected: Any) -> None:
    """The weights of an iterate, and its mask if it is a pruned one."""
    if isinstance(expected, Pruned):
        state = found.state_dict()
        mask = state.pop("extractor.1.unit_mask", torch.ones(()))
        assert torch.equal(mask.expand_as(expected.mask).double(), expected.mask)
        for name, value in expected.network.state_dict().items():
            assert torch.equal(state.pop(name).double(), value.double())
        assert not state
    else:
        assert_agrees(found, expected)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("proxy", ["spd", "eopp", "eodds"])
@pytest.mark.parametrize("unit", [None, "position", "channel"])
def test_every_step_of_a_search(
    swapped: bool,
    proxy: str,
    unit: str | None,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """DiffGda and DiffPrune on the full set: direction, iterates, and which of them is kept."""
    algorithm = "diffgda" if unit is None else "diffprune"
    if swapped:
        external.full = external.full.with_attributes(1 - external.full.attributes)
    iterates, measured = iterates_of(algorithm, classifier, external.full, proxy, unit or "")
    context, options = make(epochs=STEPS), {"unit": unit} if unit else {}
    found = run(
        algorithm, classifier, external, context, proxy=proxy,
        min_balanced_accuracy=0, stop_balanced_accuracy=0, **SEARCHES[algorithm], **options,
    )  # fmt: skip
    kept, _ = keep(measured)
    assert measured[0][1] * (1 if swapped else -1) > 0
    history = [(row["balanced_accuracy"], row["hard_bias"]) for row in context.history]
    np.testing.assert_allclose(history, measured[1:], rtol=1e-6, atol=1e-9)
    assert_is_iterate(found, iterates[kept])
    assert kept > 0


@pytest.mark.key("finetuning.batchnorm")
@pytest.mark.parametrize("batchnorm", ["train", "masked"])
def test_batchnorm_of_diffgda(
    batchnorm: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """One step; in the other tests statistics stay."""
    _, expected = descent(classifier, external.full, "eodds", batchnorm)[:2]
    context = make(epochs=1, batchnorm=batchnorm)
    found = run(
        "diffgda", classifier, external, context,
        min_balanced_accuracy=0, stop_balanced_accuracy=0, **SEARCHES["diffgda"],
    )  # fmt: skip
    assert context.history[0]["hard_bias"] != 0
    if batchnorm == "train":
        # what a convolution adds before BatchNorm is taken off again: its gradient is rounding, of
        # which Adam takes the sign
        for network in (found, expected):
            network.extractor[3].bias.data.zero_()
            network.extractor[4].running_mean.zero_()
    assert_is_iterate(found, expected)


@pytest.mark.parametrize("side", [-1e-9, 1e-9])
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_search_ends_at_its_accuracy(
    algorithm: str, side: float, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """`stop_balanced_accuracy` a hair below and above that of step 3."""
    iterates, measured = iterates_of(algorithm, classifier, external.full, "eodds")
    stop = measured[3][0] + side
    kept, steps = keep(measured, stop=stop)
    assert steps == (3 if side > 0 else STEPS)
    context = make(epochs=STEPS)
    found = run(
        algorithm, classifier, external, context,
        min_balanced_accuracy=0, stop_balanced_accuracy=stop, **SEARCHES[algorithm],
    )  # fmt: skip
    assert len(context.history) == steps
    assert_is_iterate(found, iterates[kept])


@pytest.mark.parametrize("side", [-1e-9, 1e-9])
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_an_iterate_of_too_little_accuracy_is_not_kept(
    algorithm: str, side: float, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """`min_balanced_accuracy`, a share of the start's, a hair below and above the best one's."""
    iterates, measured = iterates_of(algorithm, classifier, external.full, "eodds")
    best, _ = keep(measured)
    least = measured[best][0] / measured[0][0] + side
    kept, _ = keep(measured, least)
    assert (kept == best) == (side < 0) and kept > 0
    found = run(
        algorithm, classifier, external, make(epochs=STEPS),
        min_balanced_accuracy=least, stop_balanced_accuracy=0, **SEARCHES[algorithm],
    )  # fmt: skip
    assert_is_iterate(found, iterates[kept])


def test_an_iterate_as_accurate_as_it_must_be_is_kept() -> None:
    selection = Selection(Evaluation(0.8, 0.3, 0.5), SelectionSettings(min_balanced_accuracy=1), 0)
    assert selection.offer(Evaluation(0.8, -0.2, 0.5))


# --- fairprune ------------------------------------------------------------------------------------


def fisher(network: Classifier, samples: Samples, group: int) -> dict[str, Tensor]:
    """Mean squared gradient of Eq. 1, sample by sample; the classes of the whole set weigh it."""
    x, y, a = rows_of(samples)
    parameters = dict(network.named_parameters())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for i in torch.nonzero(a == group).flatten().split(1):
        loss = cross_entropy(network(x[i]), y[i], y.mean())
        for name, g in zip(sums, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            sums[name] += g**2 / (a == group).sum()
    return sums


@pytest.mark.parametrize("unprivileged", [0, 1])
@pytest.mark.parametrize(
    ("ratio", "beta", "iterations", "prune_all"),
    [(0.2, 0.8, 1, False), (0.2, 0.0, 1, False), (0.6, 1.0, 1, True), (0.5, 0.6, 3, False)],
)
def test_fairprune(
    unprivileged: int,
    ratio: float,
    beta: float,
    iterations: int,
    prune_all: bool,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    make_importance: Any,
) -> None:
    """The shared importances decide first, those of the pruned network after that."""
    network, importance = double(classifier), make_importance(classifier)
    # no exact zeros: the order of equal scores is a matter of taste
    shared = {k: {n: v + 1e-3 for n, v in h.items()} for k, h in importance.items()}
    weights = {n: p.data for n, p in network.named_parameters() if prune_all or p.ndim > 1}
    alive, pruned = sum(int((w != 0).sum()) for w in weights.values()), 0
    for iteration in range(iterations):
        groups = [
            fisher(network, external.full, g) if iteration else shared[f"per_sample.full.group{g}"]
            for g in (0, 1)
        ]
        low, high = groups[unprivileged], groups[1 - unprivileged]
        score = torch.cat(
            [
                (w**2 / 2 * (low[n] - beta * high[n])).masked_fill(w == 0, torch.inf).flatten()
                for n, w in weights.items()
            ]
        )
        target = round(ratio * alive * (iteration + 1) / iterations)
        chosen = torch.isin(torch.arange(len(score)), score.argsort(stable=True)[: target - pruned])
        for w, part in zip(
            weights.values(), chosen.split([w.numel() for w in weights.values()]), strict=True
        ):
            w.masked_fill_(part.view(w.shape), 0)
        pruned = target
    context = make(importance=lambda: shared, unprivileged=lambda: unprivileged)
    found = run(
        "fairprune", classifier, external, context,
        ratio=ratio, beta=beta, iterations=iterations, prune_all=prune_all,
    )  # fmt: skip
    assert sum(int((p == 0).sum()) for p in found.parameters()) >= pruned > 0
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name].double(), value.double()), name
