"""SWiFT with a mask that is measured again on the way, and with a threshold that is learned.

The steps are compared with autograd in plain torch (plain.py), importances included: full batches
without augmentation make training deterministic.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
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
    eodds,
    forward,
    ratios,
    rows_of,
)
from sklearn.metrics import roc_auc_score
from torch import Tensor

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Finetuning, Optimizer, Selection
from swift_debias.errors import NotFiniteError, UserError
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import inference
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Context
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import ExternalSet
from swift_debias.methods._held_out import cuts

RATES = {"extractor": 0.1, "head": 0.2}
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=1, momentum=0.8, weight_decay=0.04),
    "adam": Optimizer(name="adam", lr=1, weight_decay=0.04),
}
NAMES = ("minibatch.balanced.prediction", "minibatch.balanced.bias")


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    cells = np.random.default_rng(0).permutation(np.repeat(CELLS, (16, 9, 10, 12), axis=0))
    return make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=3)


@pytest.fixture
def classifier(make_classifier: Any) -> Classifier:
    """Without dropout."""
    return make_classifier(5, dropout=0.0).train().requires_grad_(False)


@pytest.fixture
def make(make_context: Any) -> Any:
    """A context that measures importances of a network on its set; an epoch is one step."""

    def make(
        classifier: Classifier,
        external: ExternalSet,
        optimizer: str = "sgd",
        batchnorm: Any = "train",
        **options: Any,
    ) -> Context:
        finetuning = Finetuning(
            lr_extractor=RATES["extractor"], lr_head=RATES["head"], batchnorm=batchnorm, min_cell=2
        )
        defaults = {"augmentation": Augmentation(flips=False, transpose=False), "batch_size": 64}
        context = make_context(**(defaults | {"finetuning": finetuning} | options))
        context.optimizer = OPTIMIZERS[optimizer]

        def measure() -> Any:
            return shared_importance(classifier, external, finetuning, context.batch_size, 1, NAMES)

        context.importance = context.measure = measure
        return context

    return make


def swift(
    classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    method = methods.load("swift")
    return method.debias(classifier, external, method.Settings(**options), context)


# --- refresh_mask ---------------------------------------------------------------------------------


def masks_now(network: Classifier, x: Tensor, y: Tensor, a: Tensor) -> dict[str, Tensor]:
    """Eq. 9 of the squared gradients of both losses, of one batch, in eval mode."""
    twin = copy.deepcopy(network).eval().requires_grad_(True)
    parameters, z = dict(twin.named_parameters()), twin(x)
    bias, prediction = (
        dict(zip(parameters, (g.square() for g in gradients), strict=True))
        for loss in (eodds(z, y, a), cross_entropy(z, y))
        for gradients in [torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)]
    )
    return {name: ratio.tanh().abs() for name, ratio in ratios(bias, prediction).items()}


@pytest.mark.key("swift.refresh_mask")
@pytest.mark.parametrize(
    ("every", "batchnorm", "optimizer"),
    [(1, "train", "sgd"), (1, "masked", "sgd"), (2, "masked", "sgd"), (2, "train", "adam")],
)
def test_the_mask_is_that_of_the_network_as_it_is(
    every: int,
    batchnorm: str,
    optimizer: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """Four epochs; the head's before step 2. Measuring does not move BatchNorm's statistics."""
    network, (x, y, a) = double(classifier), rows_of(external.balanced)
    masks, epochs = masks_now(network, x, y, a), 4
    network.extractor.train()

    def step(epoch: int) -> Tensor:
        if epoch and epoch % every == 0:
            masks.update(masks_now(network, x, y, a))
        z = forward(network, x, batchnorm, masks)
        return 0.1 * cross_entropy(z, y) + 0.9 * eodds(z, y, a)

    steps = [lambda epoch=epoch: step(epoch) for epoch in range(epochs)]
    chosen = {"extractor": RATES["extractor"]}
    descend(network, steps, chosen, OPTIMIZERS[optimizer], masks)
    network.extractor.eval()
    start = {name: value.clone() for name, value in masks.items()}
    masks = masks_now(network, x, y, a)
    assert any((masks[name] - start[name]).abs().max() > 0.05 for name in masks)
    head = network.head.linear
    head.weight.data[masks["head.1.weight"] > masks["head.1.weight"].mean()] = 0
    second = [lambda: 0.9 * cross_entropy(network(x), y) + 0.1 * eodds(network(x), y, a)] * epochs
    descend(network, second, {"head": RATES["head"]}, OPTIMIZERS[optimizer])

    context = make(classifier, external, optimizer, batchnorm, epochs=epochs)
    found = swift(classifier, external, context, refresh_mask=every)
    for name, mask in context.masks.items():
        torch.testing.assert_close(mask.double(), masks[name], rtol=2e-2, atol=2e-3, msg=name)
    assert_agrees(found, network)
    refreshed = context.log.getvalue().count("masks are those of the network as it is now")
    assert refreshed == (epochs - 1) // every + 1


def test_without_a_refresh_every_byte_stays(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """One that never comes due changes nothing in step 1."""
    states = []
    for every in (None, 3, 2):
        twin = copy.deepcopy(classifier)
        context = make(twin, external, epochs=3)
        swift(twin, external, context, refresh_mask=every, step2=False)
        states.append(twin.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


class Guillotine(io.StringIO):
    """A log that ends the job when a line contains `word`."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def write(self, text: str) -> int:
        if self.word in text:
            raise KeyboardInterrupt
        return super().write(text)


REFRESHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "masked": ("sgd", "masked", {"refresh_mask": 2}),
    "adam": ("adam", "train", {"refresh_mask": 3}),
    "hard": ("adam", "train", {"refresh_mask": 1, "mask": "hard", "hard_rates": (0.4,)}),
    "learned": (
        "sgd", "train", {"refresh_mask": 3, "threshold": "learned", "thresholds": ("mean", 0.4)}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "word"),
    [
        *(("masked", f"step1  epoch {epoch}/4") for epoch in (2, 3, 4)),
        ("masked", "step2  epoch 3/4"),
        *(("adam", f"step1  epoch {epoch}/4") for epoch in (3, 4)),
        ("hard", "step1_rate0.4  epoch 3/4"),
        ("learned", "step2_held_out0_tau0.4  epoch 2/4"),
        ("learned", "step1  epoch 3/4"),
    ],
)
def test_killed_at_any_epoch_and_resumed_equals_unbroken(
    variant: str,
    word: str,
    tmp_path: Path,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """Also between two refreshes, where the masks cannot be measured again."""
    optimizer, batchnorm, options = REFRESHED[variant]

    def attempt(folder: Path | None, log: io.StringIO) -> tuple[dict[str, Tensor], list[Any], str]:
        twin = copy.deepcopy(classifier)
        checkpoints = Checkpoints(folder, "key", 0)
        more = {"augmentation": Augmentation(), "batch_size": 16, "checkpoints": checkpoints}
        context = make(twin, external, optimizer, batchnorm, epochs=4, log=log, **more)
        debiased = swift(twin, external, context, **options)
        return debiased.state_dict() | context.masks, context.history, log.getvalue()

    expected, history, _ = attempt(None, io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path, Guillotine(word))
    found, resumed, log = attempt(tmp_path, io.StringIO())
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert resumed == history
    assert "resumed after epoch" in log


def test_a_mask_that_cannot_be_measured_again_is_told_as_a_divergence(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """So that a search drops the trial, and does not end."""
    context = make(classifier, external, epochs=2)

    def measure() -> Any:
        raise UserError("importance: bias is zero everywhere")

    context.measure = measure
    with pytest.raises(NotFiniteError, match="cannot be measured again: importance: bias is zero"):
        swift(classifier, external, context, refresh_mask=1)


# --- threshold: learned ---------------------------------------------------------------------------


def eodds_of(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Of decisions at 0.5."""
    rates = {(y, a): np.mean(scores[(labels == y) & (groups == a)] >= 0.5) for y, a in CELLS}
    return (abs(rates[1, 0] - rates[1, 1]) + abs(rates[0, 0] - rates[0, 1])) / 2


@pytest.mark.key("swift.threshold", "swift.thresholds")
@pytest.mark.parametrize("share", [0.4, 0.02])  # a share that leaves cells too small: parts in turn
def test_the_threshold_is_the_best_on_samples_held_out(
    share: float, make_classifier: Any, make_external: Any, train: Any, make: Any
) -> None:
    """Both steps are made on the rest with its own importances; once more on all."""
    external = make_external(240, 1, correlation=0.3)
    classifier = train(make_classifier(5, dropout=0.0), external.full, steps=15)
    patients = np.array([f"p{i // 3}" for i in range(len(external.full))], dtype=object)
    external = ExternalSet(external.full, external.balanced, patients)
    selection = Selection(share=share, folds=2, rule="dto")
    thresholds = [0.15, 0.85, 0.5, "mean"]
    plan = make(classifier, external, batch_size=512, selection=selection, epochs=3)
    held = cuts(external, plan)
    assert len(held) == (1 if share == 0.4 else 2)
    worth = []
    for threshold in thresholds:
        found: list[tuple[Tensor, ...]] = []
        for cut in held:
            twin = copy.deepcopy(classifier)
            own = make(twin, cut.fit, batch_size=512, epochs=3)
            swift(twin, cut.fit, own, threshold=threshold)
            scores = inference.predict(twin, cut.select).double().sigmoid()
            found.append((scores, cut.select.labels, cut.select.attributes))
        scores, labels, groups = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        auc = roc_auc_score(labels, scores)
        worth.append((auc, eodds_of(scores, labels, groups)))
    assert len({round(value, 6) for _, value in worth}) > 2
    best = int(np.argmin([np.hypot(1 - auc, gap) for auc, gap in worth]))
    if best == 0:  # rounding decides; the first would be taken by chance, so it stands elsewhere
        best = len(thresholds) - 1
        for values in (thresholds, worth):
            values.append(values.pop(0))

    twin = copy.deepcopy(classifier)
    context = make(twin, external, batch_size=512, selection=selection, epochs=3)
    learned = swift(twin, external, context, threshold="learned", thresholds=thresholds)
    rows = [row for row in context.history if row["stage"] == "held out"]
    assert [row["tau"] for row in rows] == [str(threshold) for threshold in thresholds]
    np.testing.assert_allclose([(r["auc"], r["eodds"]) for r in rows], worth, atol=2e-3)
    assert [row["chosen"] for row in rows] == [i == best for i in range(len(thresholds))]
    other = copy.deepcopy(classifier)
    context = make(other, external, batch_size=512, epochs=3)
    expected = swift(other, external, context, threshold=thresholds[best]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in learned.state_dict().items())


@pytest.mark.parametrize("keys", [{"reinit": "full"}, {"reinit": "none"}, {"step2": False}])
def test_a_threshold_that_is_not_used_is_not_learned(
    keys: dict[str, Any], classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """An ablation may take `learned` over from the variant that it is like."""
    states = []
    for threshold in ("mean", "learned"):
        twin = copy.deepcopy(classifier)
        context = make(twin, external)
        states.append(swift(twin, external, context, threshold=threshold, **keys).state_dict())
        assert "held out" not in {row["stage"] for row in context.history}
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("keys", "asked"), [({}, False), ({"threshold": "learned"}, True)])
def test_patients_are_asked_for_by_those_that_hold_out(keys: dict[str, Any], asked: bool) -> None:
    from swift_debias.config.schema import Method

    variants = {
        "a": Method(algorithm="swift", **keys),
        "searched": Method(algorithm="swift", search={"threshold": ["mean", "learned"]}),
        "taken": Method(algorithm="swift", search="searched"),
        "dfr": Method(algorithm="dfr"),
        "one": Method(algorithm="dfr", strengths=[0.1]),
        "bmft": Method(algorithm="bmft"),
    }
    found = {name: methods.holds_out(variants, name) for name in variants}
    assert found == {
        "a": asked, "searched": True, "taken": True, "dfr": True, "one": False, "bmft": False
    }  # fmt: skip
