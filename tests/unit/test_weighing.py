"""Methods that weigh samples (reweight, groupdro, jtt), and batches by cells, in plain torch."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain import CELLS, assert_agrees, cross_entropy, descend, double, eodds, rows_of
from torch import Tensor

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Finetuning, Optimizer
from swift_debias.errors import UserError
from swift_debias.learning import batches, loop
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Combined, Context
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import ExternalSet, Samples
from swift_debias.methods.groupdro import OnlineWeights

EPOCHS = 3
RATES = {"extractor": 0.03, "head": 0.2}
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.7, momentum=0.8, weight_decay=0.04),
    "adam": Optimizer(name="adam", lr=0.01, weight_decay=0.04),
}
SIZES = {(0, 0): 16, (0, 1): 4, (1, 0): 5, (1, 1): 7}  # (label, group) -> images
POSITIVE = 5 / (5 + 4)  # share of label 1 in the balanced set
MEAN_WEIGHT = 2 * POSITIVE * (1 - POSITIVE)


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    """Cells of four sizes, in a random order."""
    cells = np.repeat(CELLS, [SIZES[cell] for cell in CELLS], axis=0)
    cells = np.random.default_rng(0).permutation(cells)
    return make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=3)


@pytest.fixture
def classifier(make_classifier: Any) -> Classifier:
    """Without dropout; in train mode and without gradients: a method chooses both itself."""
    return make_classifier(5, dropout=0.0).train().requires_grad_(False)


@pytest.fixture
def make(make_context: Any) -> Any:
    """A context in which an epoch is one step."""

    def make(optimizer: str = "sgd", how: Any = "shuffled", **options: Any) -> Context:
        finetuning = Finetuning(lr_extractor=RATES["extractor"], lr_head=RATES["head"], batches=how)
        defaults: dict[str, Any] = {
            "epochs": EPOCHS,
            "batch_size": 64,
            "augmentation": Augmentation(flips=False, transpose=False),
            "finetuning": finetuning,
        }
        context = make_context(**(defaults | options))
        context.optimizer = OPTIMIZERS[optimizer]
        return context

    return make


def run(
    algorithm: str, classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    method = methods.load(algorithm)
    return method.debias(classifier, external, method.Settings(**options), context)


def plain_entropies(z: Tensor, y: Tensor) -> Tensor:
    """Of each sample, without weights."""
    p = z.sigmoid()
    return -(y * p.log() + (1 - y) * (1 - p).log())


def of_cells(values: Tensor, y: Tensor, a: Tensor) -> Tensor:
    """The mean of each cell."""
    return torch.stack([values[(y == label) & (a == group)].mean() for label, group in CELLS])


def losses(context: Context, stage: str) -> list[float]:
    return [row["loss"] for row in context.history if row["stage"] == stage]


# --- batches by cells -----------------------------------------------------------------------------


def cells_of(sizes: tuple[int, ...], seed: int = 0) -> Samples:
    """Samples without pixels, `sizes` of the cells (0, 0), (0, 1), (1, 0), ... in random order."""
    cells = np.random.default_rng(seed).permutation(np.repeat(range(len(sizes)), sizes))
    found = torch.from_numpy(cells)
    pixels = torch.zeros(len(found), 3, 1, 1)
    classes = len(sizes) // 2
    return Samples(
        pixels, torch.arange(len(found)), (found // 2).float(), found % 2, [0], None, classes
    )


@pytest.mark.parametrize("sizes", [(16, 4, 5, 7), (1, 1, 1, 1), (50, 1, 2, 3), (3, 9, 4, 1, 5, 2)])
def test_every_batch_has_each_cell_equally_often(sizes: tuple[int, ...]) -> None:
    samples, counted = cells_of(sizes), set()
    cell = (samples.labels * 2 + samples.attributes).tolist()
    for seed in range(5):
        order = batches.order(samples, "cells", torch.Generator().manual_seed(seed)).tolist()
        assert len(order) == sum(sizes)
        for first, size in itertools.product(range(len(order)), (3, 4, 8, 11)):
            batch = [cell[i] for i in order[first : first + size]]
            counts = [batch.count(c) for c in range(len(sizes))]
            assert max(counts) - min(counts) <= 1
        for c in range(len(sizes)):  # all of a cell, before one of them comes again
            drawn = [i for i in order if cell[i] == c]
            for start in range(0, len(drawn), sizes[c]):
                part = drawn[start : start + sizes[c]]
                assert len(set(part)) == len(part)
        counted.add(tuple(order))
    assert len(counted) > 1 or sum(sizes) <= 4


def test_shuffled_is_a_permutation_and_does_not_ask_for_groups() -> None:
    samples = cells_of((3, 0, 2, 0))
    order = batches.order(samples, "shuffled", torch.Generator().manual_seed(1))
    assert torch.equal(order, torch.randperm(5, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("sizes", "groups", "said"),
    [
        ((4, 4, 0, 4), None, "no sample of label 1, group 0"),
        ((2, 2, 2, 2), -1, "an image's group is neither 0 nor 1"),
    ],
)
def test_cells_that_cannot_be_balanced(sizes: Any, groups: int | None, said: str) -> None:
    samples = cells_of(sizes)
    if groups is not None:
        samples.attributes[3] = groups
    with pytest.raises(UserError, match=said):
        batches.order(samples, "cells", torch.Generator())


def test_mean_weight_against_equation_1(external: ExternalSet, make: Any) -> None:
    """Of the balanced set: what its images weigh on average in Eq. 1; the full set has the same."""
    y = external.balanced.labels.double()
    weights = torch.where(y == 1, 1 - y.mean(), y.mean())
    assert batches.weight(external.balanced) == pytest.approx(weights.mean().item())
    assert batches.weight(external.full) == pytest.approx(MEAN_WEIGHT)
    three = cells_of((5, 9, 2, 2, 7, 3))  # balanced: 5, 2 and 3 of each group
    assert batches.weight(three) == pytest.approx(1 - (25 + 4 + 9) / 100)
    context = make(how="cells")
    assert context.objective(three, 1, 0).class_weights == pytest.approx((0.62,) * 3)


def watch_batches(monkeypatch: pytest.MonkeyPatch, samples: Samples) -> list[Tensor]:
    """Positions in the full set of each batch that training draws."""
    drawn: list[Tensor] = []
    pixels = Samples.pixels

    def watched(self: Samples, index: Tensor) -> Tensor:
        drawn.append(self.rows[index])
        return pixels(self, index)

    monkeypatch.setattr(Samples, "pixels", watched)
    return drawn


@pytest.mark.key("finetuning.batches")
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("batch_size", [64, 12])
def test_fullft_by_cells(
    balanced: bool,
    batch_size: int,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every image of a batch weighs 2 p (1 - p); the gaps are those of the batch."""
    context, network = make(how="cells", batch_size=batch_size), double(classifier).train()
    x, y, a = rows_of(external.full)
    drawn = watch_batches(monkeypatch, external.full)
    run("fullft", classifier, external, context, balanced=balanced, prediction_weight=0.3)
    n = len(external.balanced if balanced else external.full)
    assert sum(map(len, drawn)) == EPOCHS * n
    steps = []
    for rows in drawn:
        counts = [int(((y[rows] == label) & (a[rows] == group)).sum()) for label, group in CELLS]
        assert max(counts) - min(counts) <= 1 and min(counts) >= len(rows) // 4

        def loss(r: Tensor = rows) -> Tensor:
            z = network(x[r])
            bias = eodds(z, y[r], a[r])
            return 0.3 * MEAN_WEIGHT * plain_entropies(z, y[r]).mean() + 0.7 * bias

        steps.append(loss)
    descend(network, steps, RATES, OPTIMIZERS["sgd"])
    assert_agrees(classifier, network)


@pytest.mark.key("finetuning.batches")
def test_batch_counts_and_views_by_cells(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """`class_weights: batch` counts as ever, and a head finds all views that it draws."""
    context = make(how="cells", augmentation=Augmentation())
    context.finetuning = context.finetuning.model_copy(update={"class_weights": "batch"})
    assert context.objective(external.full, 1, 0).class_weights is None
    drawn = loop.drawn_views(external.full, context, "step2")
    assert drawn.any(dim=1).all() and not drawn.any(dim=0).all()
    importance = {
        f"minibatch.balanced.{of}": {n: p.detach() ** 2 for n, p in classifier.named_parameters()}
        for of in ("bias", "prediction")
    }
    context = make(how="cells", augmentation=Augmentation(), importance=lambda: importance)
    run("swift", classifier, external, context)
    assert np.isfinite(losses(context, "step2")).all()  # a view that was not computed is nan


@pytest.mark.key("finetuning.batches")
def test_diffgda_by_cells(classifier: Classifier, external: ExternalSet, make: Any) -> None:
    """No batch of four lacks a cell; shuffled ones do."""
    found = {}
    for how in ("cells", "shuffled"):
        context = make(how=how, batch_size=4, epochs=1)
        run("diffgda", copy.deepcopy(classifier), external, context, stop_balanced_accuracy=0)
        lines = [line for line in context.log.getvalue().splitlines() if "skipped" in line]
        found[how] = any(" 0 batches" not in line for line in lines)
    assert found == {"cells": False, "shuffled": True}


# --- reweight -------------------------------------------------------------------------------------


@pytest.mark.key("reweight.epochs_of")
@pytest.mark.parametrize("epochs_of", ["step", "both"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_reweight(
    optimizer: str, epochs_of: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """The mean over cells of their mean cross-entropies, in the size of Eq. 1."""
    network, context = double(classifier).train(), make(optimizer)
    x, y, a = rows_of(external.full)

    def loss() -> Tensor:
        return MEAN_WEIGHT * of_cells(plain_entropies(network(x), y), y, a).mean()

    run("reweight", classifier, external, context, epochs_of=epochs_of)
    steps = EPOCHS * (2 if epochs_of == "both" else 1)
    seen = descend(network, [loss] * steps, RATES, OPTIMIZERS[optimizer])
    assert_agrees(classifier, network)
    assert losses(context, "reweight") == pytest.approx(seen, rel=1e-4)


def test_reweight_by_cells_is_full_fine_tuning_by_cells(
    classifier: Classifier, external: ExternalSet, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same draws; and cells have the sum of weights that `reweight` gives them."""
    monkeypatch.setattr(loop, "derive_seed", lambda _, name: int(name.rpartition("/")[2]))
    found = []
    for algorithm, options in (
        ("reweight", {}),
        ("fullft", {"balanced": False, "prediction_weight": 1}),
    ):
        context = make(how="cells", batch_size=8)
        made = run(algorithm, copy.deepcopy(classifier), external, context, **options)
        found.append(made.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    # what both minimize: each cell has a quarter of the weight
    weights, y, a = batches.cell_weights(external.full).double(), *rows_of(external.full)[1:]
    sums = torch.stack([weights[(y == label) & (a == group)].sum() for label, group in CELLS])
    torch.testing.assert_close(sums / 32, torch.full((4,), MEAN_WEIGHT / 4, dtype=torch.float64))


def test_samples_that_are_alike_do_not_know_their_cells_size(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """Twice as many copies of one cell's images change nothing: the invariant of reweighting."""
    full, found = external.full, []
    cell = (full.labels == 1) & (full.attributes == 0)
    for rows in (torch.arange(32), torch.cat([torch.arange(32), torch.nonzero(cell).squeeze(1)])):
        context = make()
        context.finetuning = context.finetuning.model_copy(update={"batchnorm": "eval"})
        part = full.subset(rows)
        assert batches.weight(part) == pytest.approx(
            MEAN_WEIGHT if len(rows) == 32 else 2 * (7 / 11) * (4 / 11)
        )
        scale = batches.weight(part)
        context.finetuning = context.finetuning.model_copy(
            update={"lr_extractor": RATES["extractor"] / scale, "lr_head": RATES["head"] / scale}
        )
        context.optimizer = Optimizer(name="sgd", lr=1, momentum=0.5, weight_decay=0)
        other = ExternalSet(part, part)
        found.append(run("reweight", copy.deepcopy(classifier), other, context).state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


# --- group DRO ------------------------------------------------------------------------------------


@pytest.mark.key("groupdro.eta", "groupdro.balanced", "groupdro.epochs_of")
@pytest.mark.parametrize(
    ("optimizer", "eta", "balanced", "epochs_of"),
    [("sgd", 0.5, False, "step"), ("adam", 2.0, True, "both")],
)
def test_groupdro(
    optimizer: str,
    eta: float,
    balanced: bool,
    epochs_of: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """Weights by exponentiated gradient ascent, before the step of the network (Algorithm 1)."""
    network, context = double(classifier).train(), make(optimizer)
    x, y, a = rows_of(external.balanced if balanced else external.full)
    q, weights = np.full(4, 0.25), []

    def loss() -> Tensor:
        nonlocal q
        means = of_cells(plain_entropies(network(x), y), y, a)
        q = q * np.exp(eta * means.detach().numpy())
        q = q / q.sum()
        weights.append(q)
        return MEAN_WEIGHT * sum(w * m for w, m in zip(q, means, strict=True))

    run("groupdro", classifier, external, context, eta=eta, balanced=balanced, epochs_of=epochs_of)
    steps = EPOCHS * (2 if epochs_of == "both" else 1)
    seen = descend(network, [loss] * steps, RATES, OPTIMIZERS[optimizer])
    assert_agrees(classifier, network)
    assert losses(context, "groupdro") == pytest.approx(seen, rel=1e-4)
    names = ["weight_y0_a0", "weight_y0_a1", "weight_y1_a0", "weight_y1_a1"]
    written = [[row[name] for name in names] for row in context.history]
    np.testing.assert_allclose(written, weights, rtol=1e-4)
    assert np.ptp(written[-1]) > 0.01


def test_groupdro_keeps_the_weight_of_a_cell_that_a_batch_lacks(
    external: ExternalSet, make: Any
) -> None:
    """As in the released code: its loss is 0, its factor 1; the others move against it."""
    online = OnlineWeights(external.full, 1.0, make())
    z = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    y, a = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0, 0, 1])
    total, _, _ = online(z, y, a)
    entropies = plain_entropies(z.detach().double(), y.double())
    means = np.array([entropies[:2].mean(), 0, 0, entropies[2]])
    expected = np.exp(means) / np.exp(means).sum()
    np.testing.assert_allclose(list(online.row().values()), expected, rtol=1e-6)
    assert total.item() == pytest.approx(MEAN_WEIGHT * (expected * means).sum(), rel=1e-6)
    total.backward()
    assert z.grad is not None and z.grad.isfinite().all()


def test_three_classes_have_six_cells(make: Any) -> None:
    """The objective of Group DRO, and cross-entropy with weights, in loops over the samples."""
    samples, rng = cells_of((5, 9, 2, 2, 7, 3)), np.random.default_rng(0)
    y, a = samples.labels.numpy().astype(int), samples.attributes.numpy()
    z = rng.normal(size=(len(y), 3))
    entropies = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    means = np.array(
        [entropies[(y == c) & (a == group)].mean() for c in range(3) for group in (0, 1)]
    )
    q = np.exp(2 * means) / np.exp(2 * means).sum()
    given = (torch.from_numpy(z).float(), samples.labels, samples.attributes)
    online = OnlineWeights(samples, 2.0, make())
    assert online(*given)[0].item() == pytest.approx(0.62 * (q * means).sum(), rel=1e-5)
    assert [*online.row().values()] == pytest.approx(q, rel=1e-5)
    assert online.names[-1] == "weight_y2_a1"
    each = batches.cell_weights(samples)
    found, _, _ = Combined(1, 0, (1.0,) * 3, "mean_abs")(*given, each)
    assert found.item() == pytest.approx(0.62 * means.mean(), rel=1e-5)


# --- just train twice -----------------------------------------------------------------------------


@pytest.mark.key("jtt.first", "jtt.upweight", "jtt.epochs_of")
@pytest.mark.parametrize(
    ("optimizer", "first", "upweight", "epochs_of"),
    [("sgd", "baseline", 6, "step"), ("adam", "baseline", 30, "both"), ("sgd", "erm", 6, "step")],
)
def test_jtt(
    optimizer: str,
    first: str,
    upweight: float,
    epochs_of: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """The errors of the first model weigh more; the second begins where the first began."""
    context = make(optimizer, epochs=EPOCHS if first == "baseline" else 10)
    network, start = double(classifier).train(), double(classifier)
    x, y, _ = rows_of(external.full)
    wrong = of_baseline = (start(x).detach() >= 0) != (y == 1)
    if first == "erm":
        start.train()
        plain = [lambda: cross_entropy(start(x), y)] * context.epochs
        descend(start, plain, RATES, OPTIMIZERS[optimizer])
        wrong = (start.eval()(x).detach() >= 0) != (y == 1)
        assert not torch.equal(wrong, of_baseline)
    assert 0 < wrong.sum() < len(y)

    def loss() -> Tensor:
        each = torch.where(wrong, float(upweight), 1.0).double()
        classes = torch.where(y == 1, 1 - y.mean(), y.mean())
        return (each * classes * plain_entropies(network(x), y)).sum() / each.sum()

    run("jtt", classifier, external, context, first=first, upweight=upweight, epochs_of=epochs_of)
    steps = context.epochs * (2 if epochs_of == "both" else 1)
    seen = descend(network, [loss] * steps, RATES, OPTIMIZERS[optimizer])
    assert_agrees(classifier, network)
    assert losses(context, "jtt") == pytest.approx(seen, rel=1e-4)
    assert f"wrong on {int(wrong.sum())} of 32" in context.log.getvalue()


@pytest.mark.parametrize("first", ["baseline", "erm"])
def test_jtt_needs_no_groups(
    first: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    found = []
    for seed in (0, 1):
        shuffled = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
        groups = external.full.attributes[shuffled]
        other = ExternalSet(external.full.with_attributes(groups), external.balanced)
        made = run("jtt", copy.deepcopy(classifier), other, make(batch_size=8), first=first)
        found.append(made.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_jtt_without_an_error_is_plain_fine_tuning(
    external: ExternalSet, classifier: Classifier, make: Any, make_samples: Any, train: Any
) -> None:
    train(classifier, external.full, steps=200)
    assert not methods.load("jtt").errors(classifier, external.full).any()
    found = [
        run(name, copy.deepcopy(classifier), external, make(), **options).state_dict()
        for name, options in (("jtt", {}), ("fullft", {"balanced": False, "prediction_weight": 1}))
    ]
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [("groupdro", {"eta": 3.0}), ("jtt", {"first": "erm"}), ("reweight", {})],
)
def test_a_killed_training_carries_on_to_the_same_bits(
    algorithm: str,
    options: dict[str, Any],
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    tmp_path: Path,
) -> None:
    """After the first of three epochs of its last stage."""

    class Killed(Checkpoints):
        def save(self, stage: str, epoch: int, *state: Any) -> None:
            super().save(stage, epoch, *state)
            if (stage, epoch) == (algorithm, 1):
                raise KeyboardInterrupt

    whole = make(batch_size=8)
    expected = run(algorithm, copy.deepcopy(classifier), external, whole, **options).state_dict()
    with pytest.raises(KeyboardInterrupt):
        context = make(batch_size=8, checkpoints=Killed(tmp_path, "key", 0))
        run(algorithm, copy.deepcopy(classifier), external, context, **options)
    context = make(batch_size=8, checkpoints=Checkpoints(tmp_path, "key", 0))
    found = run(algorithm, copy.deepcopy(classifier), external, context, **options)
    assert "resumed after epoch 1 of 3" in context.log.getvalue()
    assert context.history == whole.history
    assert all(torch.equal(found.state_dict()[name], v) for name, v in expected.items())


@pytest.mark.parametrize("algorithm", ["reweight", "groupdro"])
def test_an_empty_cell_is_refused(
    algorithm: str, classifier: Classifier, make_external: Any, make: Any
) -> None:
    external = make_external(labels=np.arange(20) % 2, attributes=np.arange(20) % 2)
    with pytest.raises(UserError, match="no sample of label 0, group 1"):
        run(algorithm, classifier, external, make())
