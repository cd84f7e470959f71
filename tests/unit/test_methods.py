"""Every debiasing method's defining invariants, against brute force and independent libraries."""

from __future__ import annotations

import contextlib
import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from swift_debias import methods
from swift_debias.api import choice_of
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
)
from swift_debias.errors import UserError
from swift_debias.learning import inference, losses, networks
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Context
from swift_debias.learning.networks import UNIT_MASK, Classifier
from swift_debias.learning.samples import ExternalSet, Samples
from swift_debias.methods import base, diffgda, diffprune, llft, swift
from swift_debias.methods._choice import Choice
from swift_debias.methods._iterate import Evaluation, Selection, SelectionSettings, evaluate
from swift_debias.methods.base import Training
from swift_debias.report import tensorboard

SMALL_RESNET = Backbone(architecture="small_resnet", options={"width": 8})
LIBRARY = Path(methods.__file__).parents[2]

# Every variant that a test below runs over all methods, with the settings that make it short.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("baseline", {}),
    "fullft_rw": ("fullft", {"prediction_weight": 1.0}),
    "fullft_reg": ("fullft", {"balanced": False}),
    "fullft_fdr": ("fullft", {}),
    "llft": ("llft", {"steps": 20}),
    "diffgda": ("diffgda", {"lr": 1e-3, "min_balanced_accuracy": 0.5}),
    "diffprune": ("diffprune", {"step_size": 0.05, "min_balanced_accuracy": 0.5}),
    "fairprune": ("fairprune", {}),
    "bn_recalibrate": ("bn_recalibrate", {}),
    "reweight": ("reweight", {}),
    "groupdro": ("groupdro", {"eta": 1.0}),
    "jtt": ("jtt", {"first": "erm"}),
    "peft": ("peft", {"adapt": "norm"}),
    "bmft": ("bmft", {}),
    "swift": ("swift", {}),
    "swift_hard": ("swift", {"mask": "hard", "hard_rates": (0.3, 0.7)}),
    "swift_random": ("swift", {"mask": "random"}),
    "swift_none": ("swift", {"mask": "none"}),
    "swift_learned": ("swift", {"threshold": "learned", "thresholds": ("mean", 0.5)}),
    "dfr": ("dfr", {"strengths": (1.0, 0.1), "draws": 2}),
    "ssd": ("ssd", {}),
    "threshold_optimizer": ("threshold_optimizer", {}),
}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def changed(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    """Names of parameters and buffers whose bits differ or that are new."""
    now = after.state_dict()
    return {name for name in now if name not in before or not torch.equal(before[name], now[name])}


def run(
    algorithm: str, classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    """A method with its defaults, but for the options."""
    method = methods.load(algorithm)
    return method.debias(classifier, external, method.Settings(**options), context)


@pytest.fixture(scope="module")
def trained(make_classifier: Any, make_samples: Any, train: Any) -> Classifier:
    """Learnt from a population in which label and attribute are all but the same."""
    return train(make_classifier(), make_samples(160, seed=0, correlation=0.9))


@pytest.fixture
def biased(trained: Classifier, make_external: Any) -> tuple[Classifier, ExternalSet]:
    """A classifier that is accurate and biased, and an external set."""
    return copy.deepcopy(trained), make_external(160, seed=1, correlation=0.5)


# --- all methods ----------------------------------------------------------------------------------


def test_registry() -> None:
    assert methods.available() == [
        "baseline", "bmft", "bn_recalibrate", "dfr", "diffgda", "diffprune", "fairprune", "fullft",
        "groupdro", "jtt", "llft", "peft", "reweight", "ssd", "swift", "threshold_optimizer",
    ]  # fmt: skip
    with pytest.raises(UserError, match="'swiftt'; did you mean 'swift'"):
        methods.load("swiftt")


@pytest.mark.parametrize("algorithm", methods.available())
def test_protocol(algorithm: str) -> None:
    """Defaults are valid, unknown keys are refused, every key is described."""
    method = methods.load(algorithm)
    assert method.CLASS.isidentifier()
    assert all(isinstance(name, str) for name in method.IMPORTANCES)
    assert callable(method.debias)
    method.Settings()
    with pytest.raises(ValidationError):
        method.Settings(no_such_key=1)
    assert all(field.description for field in method.Settings.model_fields.values())


def test_settings_can_be_checked_without_torch() -> None:
    code = (
        "import sys; from swift_debias import methods;"
        "[methods.load(name).Settings() for name in methods.available()];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_same_bits(
    variant: str,
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
) -> None:
    classifier, external = biased
    importance = make_importance(classifier)
    found, histories = [], []
    for noise in (1, 2):
        torch.manual_seed(noise)
        context = make_context(importance=lambda: importance, unprivileged=lambda: 1)
        algorithm, options = VARIANTS[variant]
        twin = copy.deepcopy(classifier)
        found.append(run(algorithm, twin, external, context, **options).state_dict())
        histories.append(context.history)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert histories[0] == histories[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_with_empty_cells_give_no_nan(
    variant: str,
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
) -> None:
    """Batches of three: many have one class, one group, or an empty cell."""
    classifier, external = biased
    importance = make_importance(classifier)
    context = make_context(
        epochs=1, batch_size=3, importance=lambda: importance, unprivileged=lambda: 1
    )
    algorithm, options = VARIANTS[variant]
    debiased = run(algorithm, classifier, external, context, **options)
    assert all(value.isfinite().all() for value in debiased.state_dict().values())
    assert inference.predict(debiased, external.full).isfinite().all()
    numbers = [v for row in context.history for v in row.values() if isinstance(v, float)]
    assert np.isfinite(numbers).all()
    assert_rows(context.history)


def assert_rows(history: list[dict[str, Any]]) -> None:
    """Each row is one as methods/__init__.py says, and all numbers of each are in some curve."""
    expected: dict[str, list[float]] = {}
    for row in history:
        assert isinstance(row["stage"], str) and row["stage"]
        [place] = {"epoch", "step"} & row.keys()
        assert type(row[place]) is int and row[place] >= 1
        for name in row.keys() - {"stage", place}:
            with contextlib.suppress(ValueError):  # a text such as 'mean'
                expected.setdefault(f"{row['stage']}/{name}", []).append(float(row[name]))
    found = tensorboard.curves(pd.DataFrame(history))
    assert {name: [value for _, value in points] for name, points in found.items()} == expected
    for points in found.values():
        places = [place for place, _ in points]
        assert places == sorted(set(places))


def test_baseline_is_bit_identical(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    before = state_of(classifier)
    debiased = run("baseline", classifier, external, make_context())
    assert not changed(before, debiased)


# --- full fine-tuning -----------------------------------------------------------------------------


@pytest.mark.parametrize(("balanced", "part"), [(True, "balanced"), (False, "full")])
def test_fullft_trains_everything_on_its_set(
    balanced: bool, part: str, biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    before, context = state_of(classifier), make_context()
    external.full.seen[0] = 0
    run("fullft", classifier, external, context, balanced=balanced)
    assert changed(before, classifier) == set(before)
    assert external.full.seen[0] == 2 * len(getattr(external, part))
    assert len(external.balanced) < len(external.full)


def test_fullft_rw_does_not_read_the_attribute(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    found = []
    for attributes in (external.balanced.attributes, 1 - external.balanced.attributes):
        other = ExternalSet(external.full, external.balanced.with_attributes(attributes))
        twin = copy.deepcopy(classifier)
        debiased = run("fullft", twin, other, make_context(), prediction_weight=1)
        found.append(state_of(debiased))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# --- llft -----------------------------------------------------------------------------------------


def test_llft_moves_nothing_but_the_head(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    before, context = state_of(classifier), make_context()
    debiased = run("llft", classifier, external, context)
    assert changed(before, debiased) == {"head.1.weight", "head.1.bias"}
    assert [row["step"] for row in context.history] == list(range(100, 1001, 100))
    scores = inference.predict(debiased, external.full)
    assert roc_auc_score(external.full.labels, scores) > 0.65


def test_llft_head_is_new(biased: tuple[Classifier, ExternalSet], make_context: Any) -> None:
    """Whatever the old head was, the same head comes out."""
    classifier, external = biased
    other = copy.deepcopy(classifier)
    nn.init.constant_(other.head.linear.weight, 9)
    weights = [
        run("llft", start, external, make_context(), steps=3).head.linear.weight
        for start in (classifier, other)
    ]
    assert torch.equal(*weights)


def test_llft_constraint_closes_the_gap(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    gaps = {}
    for alpha in (0.0, 2.0):
        context = make_context()
        run("llft", copy.deepcopy(classifier), external, context, alpha=alpha)
        gaps[alpha] = context.history[-1]["bias"]
    assert gaps[2.0] < gaps[0.0] / 2


@given(
    labels=st.lists(st.integers(0, 1), min_size=4, max_size=60),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_llft_draws_equal_cells_without_replacement(labels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = torch.tensor([*labels, 0, 0, 1, 1]).float()
    a = torch.tensor([*rng.integers(-1, 2, len(labels)), 0, 1, 0, 1])
    samples = Samples(torch.zeros(len(y), 3, 1, 1), torch.arange(len(y)), y, a)
    drawn = llft.draw_cells(samples, seed)
    assert len(set(drawn.tolist())) == len(drawn)
    cells = [(y == label) & (a == group) for label in (0, 1) for group in (0, 1)]
    sizes = {int(cell[drawn].sum()) for cell in cells}
    assert sizes == {min(int(cell.sum()) for cell in cells)}
    assert len(drawn) == 4 * sizes.pop()


def test_llft_refuses_an_empty_cell(
    make_classifier: Any, make_external: Any, make_context: Any
) -> None:
    external = make_external(labels=np.arange(20) % 2, attributes=np.arange(20) % 2)
    with pytest.raises(UserError, match="no sample of label 0, group 1"):
        run("llft", make_classifier(), external, make_context())


def test_llft_constraint_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    z, y, a = rng.normal(size=30), rng.integers(0, 2, 30), rng.integers(0, 2, 30)
    p = 1 / (1 + np.exp(-z))
    gaps = []
    for error in (p * (1 - y), (1 - p) * y):
        sums = [sum(e for e, group in zip(error, a, strict=True) if group == g) for g in (0, 1)]
        gaps.append(abs(sums[0] / (a == 0).sum() - sums[1] / (a == 1).sum()))
    found = llft.error_gaps(torch.tensor(z), torch.tensor(y), torch.tensor(a))
    np.testing.assert_allclose(found.item(), sum(gaps), rtol=1e-12)


# --- the selection rule of diffgda and diffprune --------------------------------------------------


@pytest.mark.parametrize("proxy", ["spd", "eopp", "eodds"])
def test_evaluation_against_a_loop(proxy: str) -> None:
    rng = np.random.default_rng(3)
    y, a = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    z = rng.normal(size=200) + y + a
    found = evaluate(torch.tensor(z), torch.tensor(y).float(), torch.tensor(a), proxy)

    p = 1 / (1 + np.exp(-z))
    thresholds = np.linspace(0, 1, 101)
    accuracies = [balanced_accuracy_score(y, p > threshold) for threshold in thresholds]
    best = thresholds[int(np.argmax(accuracies))]
    hard = p > best

    def rate(group: int, labels: tuple[int, ...]) -> float:
        return float(hard[(a == group) & np.isin(y, labels)].mean())

    used = {"spd": [(0, 1)], "eopp": [(1,)], "eodds": [(0,), (1,)]}[proxy]
    bias = np.mean([rate(0, labels) - rate(1, labels) for labels in used])
    np.testing.assert_allclose(found[:3], (max(accuracies), bias, best), rtol=1e-6)
    assert bias < -0.05


def test_evaluation_takes_the_first_threshold_and_decides_above_it() -> None:
    """A score of exactly 0.5 is not above the threshold 0.5, which is the first perfect one."""
    labels, attributes = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    found = evaluate(torch.tensor([-1.0, 0, 1, 2]), labels, attributes, "eodds")
    assert found == Evaluation(1.0, 0.0, 0.5)


def test_evaluation_of_one_class_is_finite() -> None:
    found = evaluate(torch.randn(8), torch.ones(8), torch.arange(8) % 2, "eodds")
    assert np.isfinite(found[:3]).all()


def test_selection_keeps_the_least_biased_accurate_iterate() -> None:
    start = Evaluation(0.8, -0.3, 0.5)
    selection = Selection(start, SelectionSettings(min_balanced_accuracy=0.9), stop=0.6)
    assert selection.ascend
    assert not selection.offer(Evaluation(0.8, 0.3, 0.5))  # as biased, the other way
    assert selection.offer(Evaluation(0.73, -0.2, 0.5))
    assert not selection.offer(Evaluation(0.71, 0.0, 0.5))  # below 0.9 * 0.8
    assert selection.offer(Evaluation(0.725, 0.1, 0.5))
    assert not selection.offer(Evaluation(0.9, -0.15, 0.5))
    assert selection.best == Evaluation(0.725, 0.1, 0.5)
    assert not selection.over(Evaluation(0.61, 0, 0.5))
    assert selection.over(Evaluation(0.6, 0, 0.5))


# --- diffgda --------------------------------------------------------------------------------------


def hard_bias(classifier: Classifier, samples: Samples) -> Evaluation:
    logits = inference.predict(classifier, samples)
    return evaluate(logits, samples.labels, samples.attributes, "eodds")


def test_diffgda_lowers_the_bias_and_keeps_the_accuracy(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    start = hard_bias(classifier, external.full)
    context = make_context(epochs=8)
    debiased = run("diffgda", classifier, external, context, lr=2e-3, min_balanced_accuracy=0.9)
    end = hard_bias(debiased, external.full)
    assert abs(end.bias) < abs(start.bias) / 2
    assert end.balanced_accuracy >= 0.9 * start.balanced_accuracy
    # the best of all iterates that are accurate enough, by its own record
    qualified = [
        abs(row["hard_bias"])
        for row in context.history
        if row["balanced_accuracy"] >= 0.9 * start.balanced_accuracy
    ]
    assert abs(end.bias) == min(qualified)
    assert "kept the iterate" in context.log.getvalue()


@pytest.mark.parametrize("batchnorm", ["train", "eval", "masked"])
def test_diffgda_moves_batchnorm_statistics_as_it_is_told(
    batchnorm: Any, biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    before = state_of(classifier)
    context = make_context(finetuning=Finetuning(batchnorm=batchnorm))
    debiased = run("diffgda", classifier, external, context, lr=1e-3)
    moved = changed(before, debiased)
    names = {name for name, _ in classifier.named_parameters()}
    assert moved == (names if batchnorm == "eval" else {*before})


def test_diffgda_returns_the_start_model_if_nothing_qualifies(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    before, context = state_of(classifier), make_context()
    debiased = run("diffgda", classifier, external, context, lr=1.0)
    assert not changed(before, debiased)
    assert "the start model is returned" in context.log.getvalue()


def test_diffgda_stops_when_accuracy_is_gone(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    classifier, external = biased
    context = make_context(epochs=50)
    run("diffgda", classifier, external, context, lr=0.05, stop_balanced_accuracy=0.6)
    last = [row["balanced_accuracy"] for row in context.history]
    assert last[-1] <= 0.6
    assert all(value > 0.6 for value in last[:-1])
    assert context.history[-1]["epoch"] < 50


def test_diffgda_and_diffprune_do_not_care_which_group_is_first(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """Swapping the groups swaps the sign of the bias and the direction: the same model."""
    classifier, external = biased
    swapped = ExternalSet(
        external.full.with_attributes(1 - external.full.attributes),
        external.balanced.with_attributes(1 - external.balanced.attributes),
    )
    for algorithm in ("diffgda", "diffprune"):
        contexts = [make_context(), make_context()]
        _, options = VARIANTS[algorithm]
        one, other = (
            run(algorithm, copy.deepcopy(classifier), given, context, **options).state_dict()
            for given, context in zip((external, swapped), contexts, strict=True)
        )
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name])
        first, second = (context.history[0]["hard_bias"] for context in contexts)
        assert first == pytest.approx(-second)
        assert first != 0


@pytest.mark.key("diffgda.proxy")
def test_diffgda_skips_batches_without_a_needed_cell(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """Two samples never fill four cells; equal opportunity needs only two of them."""
    classifier, external = biased
    before, context = state_of(classifier), make_context(epochs=1, batch_size=2)
    run("diffgda", classifier, external, context)
    assert not changed(before, classifier)
    assert f"{len(external.full) // 2} batches skipped" in context.log.getvalue()
    run("diffgda", classifier, external, context, proxy="eopp")
    assert changed(before, classifier)


@pytest.mark.parametrize(
    ("proxy", "labels", "attributes", "expected"),
    [
        ("eodds", [0, 0, 1, 1], [0, 1, 0, 1], True),
        ("eodds", [0, 1, 1, 1], [0, 1, 0, 1], False),
        ("eopp", [0, 1, 1, 1], [0, 1, 0, 1], True),
        ("eopp", [0, 0, 0, 1], [0, 1, 0, 1], False),
        ("spd", [0, 0], [0, 1], True),
        ("spd", [0, 1], [1, 1], False),
        ("spd", [0, 1], [-1, 1], False),
    ],
)
def test_needed_cells(proxy: str, labels: list[int], attributes: list[int], expected: bool) -> None:
    found = diffgda.has_cells(torch.tensor(labels).float(), torch.tensor(attributes), proxy)
    assert found is expected


@pytest.mark.key("diffgda.evaluations")
@pytest.mark.parametrize(
    ("batch_size", "evaluations", "expected"),
    [(160, 5, [1]), (60, 2, [1, 3]), (16, 5, [2, 4, 6, 8, 10]), (16, 3, [3, 6, 10])],
)
def test_diffgda_evaluates_also_where_batches_are_few(
    batch_size: int,
    evaluations: int,
    expected: list[int],
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
) -> None:
    classifier, external = biased
    context = make_context(epochs=1, batch_size=batch_size)
    run("diffgda", classifier, external, context, evaluations=evaluations)
    assert [row["batch"] for row in context.history] == expected


# --- diffprune ------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["spd", "eopp", "eodds"])
def test_diffprune_influence_against_one_backward_of_the_whole_set(
    proxy: Any, biased: tuple[Classifier, ExternalSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of all samples at once, through autograd; ours comes in batches of 7."""
    classifier, external = biased
    samples = external.full
    monkeypatch.setattr(diffprune, "BATCH_SIZE", 7)
    frozen = copy.deepcopy(classifier).requires_grad_(False)
    logits = inference.predict(frozen, samples)
    found = diffprune.bias_influence(frozen, "extractor.1", samples, logits, proxy)

    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        output.retain_grad()
        kept.append(output)
        return output.clone()

    classifier.requires_grad_(True).extractor[1].register_forward_hook(keep)
    z = classifier(samples.draw(torch.arange(len(samples))))
    p, y, a = z.sigmoid(), samples.labels, samples.attributes
    gaps = {
        "spd": p[a == 0].mean() - p[a == 1].mean(),
        "eopp": p[(a == 0) & (y == 1)].mean() - p[(a == 1) & (y == 1)].mean(),
    }
    false = p[(a == 0) & (y == 0)].mean() - p[(a == 1) & (y == 0)].mean()
    gaps["eodds"] = (gaps["eopp"] + false) / 2
    gaps[proxy].backward()
    assert kept[0].grad is not None
    torch.testing.assert_close(found, kept[0].grad.mean(dim=0), rtol=1e-4, atol=1e-8)
    assert found.shape == (4, 6, 6)


@pytest.mark.parametrize("ascend", [True, False])
@pytest.mark.parametrize("unit", ["position", "channel"])
def test_diffprune_ranking_against_a_loop(ascend: bool, unit: str) -> None:
    rng = np.random.default_rng(0)
    influence = torch.from_numpy(rng.normal(size=(6, 3, 2)))
    shape = (6, 3, 2) if unit == "position" else (6, 1, 1)
    mask = torch.ones(shape)
    mask[2] = 0
    found = diffprune.silence(mask, influence, 2, ascend=ascend)

    values: dict[tuple[int, ...], float] = {}
    for index in np.ndindex(shape):
        value = influence[index] if unit == "position" else influence[index[0]].sum()
        if index[0] != 2:
            values[index] = float(value)
    chosen = sorted(values, key=values.__getitem__, reverse=not ascend)[:2]
    expected = mask.clone()
    for index in chosen:
        expected[index] = 0
    assert torch.equal(found, expected)
    assert mask.sum() > found.sum()  # the old mask is not changed
    assert not diffprune.silence(mask, influence, 999, ascend=ascend).any()


@pytest.mark.key("diffprune.unit")
@pytest.mark.parametrize("unit", ["position", "channel"])
def test_diffprune_units_are_silent_in_the_reloaded_model(
    unit: str,
    tmp_path: Path,
    make_samples: Any,
    make_external: Any,
    make_context: Any,
    train: Any,
) -> None:
    samples, external = make_samples(80, seed=0, correlation=0.9), make_external(120, seed=1)
    classifier = train(networks.build(SMALL_RESNET, seed=0), samples, steps=20)
    before = state_of(classifier)
    context = make_context()
    pruned = run(
        "diffprune", classifier, external, context,
        unit=unit, step_size=0.05, max_steps=4, min_balanced_accuracy=0.3,
    )  # fmt: skip
    mask = pruned.state_dict()[f"extractor.bn1.{UNIT_MASK}"]
    assert mask.shape == ((8, 6, 6) if unit == "position" else (8, 1, 1))
    assert changed(before, pruned) == {f"extractor.bn1.{UNIT_MASK}"}  # no weight is changed
    best = min(context.history, key=lambda row: abs(row["hard_bias"]))
    assert 0 < int((mask == 0).sum()) == best["silenced"]

    networks.save(pruned, tmp_path / "pruned.safetensors")
    loaded = networks.load(tmp_path / "pruned.safetensors", SMALL_RESNET)
    seen: list[Tensor] = []
    layer = loaded.get_submodule("extractor.bn1")
    layer.register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
    scores = inference.predict(loaded, external.full)
    output = torch.cat(seen)
    assert torch.equal(output == 0, (mask == 0).expand_as(output))
    assert torch.equal(scores, inference.predict(pruned, external.full))
    assert hard_bias(loaded, external.full).bias == best["hard_bias"]


def test_diffprune_returns_the_start_model_if_nothing_qualifies(
    biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """Half of the units a step: accuracy is gone at once, and the model has no mask."""
    classifier, external = biased
    before, context = state_of(classifier), make_context()
    pruned = run("diffprune", classifier, external, context, step_size=0.5)
    assert not changed(before, pruned)
    assert list(pruned.state_dict()) == list(before)
    assert "the start model is returned" in context.log.getvalue()
    assert len(context.history) <= 2  # all units are silent: nothing is left to prune


def test_diffprune_layer() -> None:
    stems = {
        "resnet50": "extractor.bn1",
        "densenet121": "extractor.features.norm0",
        "efficientnet_b3": "extractor.features.0.1",
    }
    for architecture, stem in stems.items():
        with torch.device("meta"):
            classifier = networks.build(Backbone(architecture=architecture), seed=0)
        assert diffprune.find_layer(classifier, None) == stem
    assert diffprune.find_layer(classifier, "extractor.features.1") == "extractor.features.1"
    with pytest.raises(UserError, match=r"'extractor.features.11'; did you mean"):
        diffprune.find_layer(classifier, "extractor.features.11")
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), 2, 0.5)
    with pytest.raises(UserError, match="no BatchNorm2d"):
        diffprune.find_layer(plain, None)


# --- fairprune ------------------------------------------------------------------------------------


def unprivileged_group(classifier: Classifier, samples: Samples) -> int:
    """By scikit-learn's AUC."""
    scores, y, a = inference.predict(classifier, samples), samples.labels, samples.attributes
    areas = [roc_auc_score(y[a == group], scores[a == group]) for group in (0, 1)]
    return int(np.argmin(areas))


def brute_force_zeros(
    weights: dict[str, Tensor],
    groups: list[dict[str, Tensor]],
    unprivileged: int,
    *,
    beta: float,
    count: int,
) -> set[tuple[str, int]]:
    """The `count` non-zero weights of the lowest score, by a loop over scalars."""
    scores = {}
    for name, weight in weights.items():
        flat = weight.flatten().tolist()
        h_0, h_1 = (groups[g][name].flatten().tolist() for g in (0, 1))
        for position, theta in enumerate(flat):
            h = (h_0[position], h_1[position])
            if theta != 0:
                scores[name, position] = (
                    0.5 * theta**2 * (h[unprivileged] - beta * h[1 - unprivileged])
                )
    return set(sorted(scores, key=scores.__getitem__)[:count])


def zeros(state: dict[str, Tensor]) -> set[tuple[str, int]]:
    return {
        (name, position)
        for name, value in state.items()
        for position in torch.nonzero(value.flatten() == 0).flatten().tolist()
    }


@pytest.mark.key("fairprune.prune_all")
@pytest.mark.parametrize("unprivileged", [0, 1])
@pytest.mark.parametrize("prune_all", [False, True])
def test_fairprune_zeros_are_where_brute_force_puts_them(
    unprivileged: int,
    prune_all: bool,
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
) -> None:
    """The group that was chosen is favoured, whatever its AUC is here."""
    classifier, external = biased
    with torch.no_grad():  # weights that are zero already
        classifier.extractor[3].weight[0, :, 0] = 0
    names = {n for n, p in classifier.named_parameters() if prune_all or p.dim() > 1}
    before = {n: v.clone() for n, v in classifier.state_dict().items()}
    weights = {n: before[n] for n in names}
    already = zeros(weights)
    assert already
    importance = make_importance(classifier)
    # no exact zeros: the order of equal scores is a matter of taste
    importance = {k: {n: v + 1e-3 for n, v in h.items()} for k, h in importance.items()}
    groups = [importance[f"per_sample.full.group{g}"] for g in (0, 1)]
    alive = sum(v.numel() for v in weights.values()) - len(already)
    expected = brute_force_zeros(
        {n: v for n, v in before.items() if n in names}, groups, unprivileged,
        beta=0.33, count=round(0.35 * alive),
    )  # fmt: skip

    context = make_context(importance=lambda: importance, unprivileged=lambda: unprivileged)
    pruned = run("fairprune", classifier, external, context, prune_all=prune_all)
    after = pruned.state_dict()
    assert zeros({n: after[n] for n in names}) == expected | already
    for name, value in after.items():  # everything else is bit-identical
        kept = torch.ones(value.numel(), dtype=torch.bool)
        kept[[position for n, position in expected if n == name]] = False
        assert torch.equal(value.flatten()[kept], before[name].flatten()[kept])
    assert f"group {unprivileged} is the unprivileged one" in context.log.getvalue()


def per_sample_fisher(classifier: Classifier, samples: Samples, group: int) -> dict[str, Tensor]:
    """Mean squared gradient of L_pred over one group, one sample at a time."""
    sums = {n: torch.zeros_like(p) for n, p in classifier.named_parameters()}
    w_p, w_n = losses.class_weights(samples.labels)
    rows = torch.nonzero(samples.attributes == group).flatten()
    classifier.requires_grad_(True)
    for row in rows.split(1):
        p = classifier(samples.draw(row)).sigmoid()[0]
        loss = -w_p * p.log() if samples.labels[row] == 1 else -w_n * (1 - p).log()
        gradients = torch.autograd.grad(loss, list(classifier.parameters()))
        for total, gradient in zip(sums.values(), gradients, strict=True):
            total += gradient**2 / len(rows)
    return sums


@pytest.mark.key("fairprune.iterations")
def test_fairprune_iterations_compute_the_importance_anew(
    make_classifier: Any, make_external: Any, train: Any, make_context: Any
) -> None:
    external = make_external(40, seed=1, correlation=0.3)
    classifier = train(make_classifier(), external.full, steps=20)
    weights = {n: p for n, p in classifier.named_parameters() if p.dim() > 1}
    unprivileged = unprivileged_group(classifier, external.full)
    total = sum(p.numel() for p in weights.values())
    oracle = copy.deepcopy(classifier)
    shared = [per_sample_fisher(oracle, external.full, group) for group in (0, 1)]
    halves = (round(0.35 * total / 2), round(0.35 * total) - round(0.35 * total / 2))
    groups = shared
    for count in halves:
        state = {n: p.detach() for n, p in oracle.named_parameters() if n in weights}
        chosen = brute_force_zeros(state, groups, unprivileged, beta=0.33, count=count)
        for name, position in chosen:
            state[name].view(-1)[position] = 0
        groups = [per_sample_fisher(oracle, external.full, group) for group in (0, 1)]

    importance = {f"per_sample.full.group{group}": shared[group] for group in (0, 1)}
    context = make_context(importance=lambda: importance, unprivileged=lambda: unprivileged)
    pruned = run("fairprune", classifier, external, context, iterations=2)
    found = zeros({n: p.detach() for n, p in pruned.named_parameters() if n in weights})
    expected = zeros({n: p.detach() for n, p in oracle.named_parameters() if n in weights})
    assert len(found) == len(expected) == round(0.35 * total)
    assert len(found - expected) <= 1  # rounding may swap the last two in the ranking
    assert [row["pruned"] for row in context.history] == [halves[0], sum(halves)]


def test_fairprune_needs_both_labels_in_both_groups(
    make_classifier: Any, make_external: Any, make_context: Any
) -> None:
    """By the scores of this classifier, where nobody chose before."""
    external = make_external(labels=np.array([0, 1, 1, 1]), attributes=np.array([0, 0, 1, 1]))
    with pytest.raises(UserError, match=r"fairprune: a group .* has only one label"):
        run("fairprune", make_classifier(), external, make_context())
    with pytest.raises(UserError, match=r"fairprune: a group .* has only one label"):
        by_the_one_road(make_classifier(), external.full, None)
    with pytest.raises(UserError, match=r"fairprune: a group .* has only one label"):
        by_the_one_road(make_classifier(), external.full, Choice(None, None, {}))


def by_the_one_road(
    classifier: Classifier, samples: Samples, choice: Any, importance: Any = None
) -> Classifier:
    """FairPrune by `base.debias`, with a choice of groups or without."""
    training = Training(
        Pretraining(epochs=10, batch_size=64, optimizer=Optimizer(name="sgd", lr=0.1)),
        Finetuning(min_cell=1), Augmentation(), Compute(device="cpu"),
    )  # fmt: skip
    return base.debias(
        classifier, samples, np.ones(len(samples), bool), 2, Method(algorithm="fairprune"),
        training, lambda: choice or choice_of(classifier, samples, 2, training.finetuning),
        seed=1, set_seed=2, log=io.StringIO(),
        stored=None if importance is None else lambda: importance,
    ).classifier  # fmt: skip


def test_fairprune_favours_the_group_of_the_choice(
    biased: tuple[Classifier, ExternalSet], make_importance: Any
) -> None:
    """A choice decides, and the other choice decides otherwise; without any, the AUCs here do."""
    classifier, external = biased
    importance = make_importance(classifier)
    importance = {k: {n: v + 1e-3 for n, v in h.items()} for k, h in importance.items()}
    groups = [importance[f"per_sample.full.group{g}"] for g in (0, 1)]
    weights = {n: p.detach() for n, p in classifier.named_parameters() if p.dim() > 1}
    count = round(0.35 * sum(w.numel() for w in weights.values()))
    expected = [
        brute_force_zeros(weights, groups, unprivileged, beta=0.33, count=count)
        for unprivileged in (0, 1)
    ]
    assert expected[0] != expected[1]
    own = unprivileged_group(classifier, external.full)
    for choice in (Choice(None, 0, {}), Choice(None, 1, {}), None):
        start = copy.deepcopy(classifier)
        pruned = by_the_one_road(start, external.full, choice, importance)
        found = zeros({n: p.detach() for n, p in pruned.named_parameters() if n in weights})
        assert found == expected[own if choice is None else choice.unprivileged]


# --- bmft -----------------------------------------------------------------------------------------


def minmax(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return values if span == 0 else (values - values.min()) / span


def test_bmft_step_1_moves_the_half_with_the_highest_ratio(
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier, external = biased
    importance = make_importance(classifier)
    before = {n: p.detach().clone() for n, p in classifier.extractor.named_parameters()}
    ratios = {
        name: minmax(importance["minibatch.full.bias"][f"extractor.{name}"].double().numpy())
        / (minmax(importance["minibatch.full.prediction"][f"extractor.{name}"].double().numpy())
           + 1e-10)
        for name in before
    }  # fmt: skip
    everything = np.concatenate([r.ravel() for r in ratios.values()])
    median = np.sort(everything)[int(np.ceil(0.5 * everything.size)) - 1]
    # a third of the bias importances is 0, so no tie at the median
    context = make_context(epochs=4, importance=lambda: importance)
    run("bmft", classifier, external, context)
    assert median > 0
    for name, parameter in classifier.extractor.named_parameters():
        moved = (parameter != before[name]).numpy()
        assert not moved[ratios[name] <= median].any(), name
        # a free weight may stand still by chance: a bias before BatchNorm has no gradient
        if name != "3.bias":
            assert moved[ratios[name] > median].mean() > 0.9, name


def test_bmft_head_is_set_to_zero_before_step_2(
    biased: tuple[Classifier, ExternalSet], make_context: Any, make_importance: Any
) -> None:
    """Without epochs the zeros can be seen, the bias element included."""
    classifier, external = biased
    importance = make_importance(classifier)
    before = state_of(classifier)
    context = make_context(epochs=0, importance=lambda: importance)
    debiased = run("bmft", classifier, external, context)
    assert changed(before, debiased) == {"head.1.weight", "head.1.bias"}
    assert not debiased.head.linear.weight.any()
    assert not debiased.head.linear.bias.any()


# --- swift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.ci)])
def test_swift_weights_of_mask_zero_do_not_move_in_a_thousand_steps(
    optimizer: str,
    make_classifier: Any,
    make_external: Any,
    make_context: Any,
    make_importance: Any,
) -> None:
    """Nor by weight decay, momentum or Adam's scaling; the others do."""
    classifier, external = make_classifier(), make_external(60)
    importance = make_importance(classifier)
    frozen = {n: v == 0 for n, v in importance["minibatch.balanced.bias"].items()}
    before = {n: p.detach().clone() for n, p in classifier.named_parameters()}
    steps_an_epoch = len(external.balanced) // 4
    context = make_context(
        optimizer, epochs=-(-1000 // steps_an_epoch), batch_size=4, importance=lambda: importance
    )
    run("swift", classifier, external, context, step2=False)
    assert len(context.history) * steps_an_epoch >= 1000
    moved = []
    for name, parameter in classifier.extractor.named_parameters():
        still = parameter == before[f"extractor.{name}"]
        assert still[frozen[f"extractor.{name}"]].all(), name
        moved.append(~still[~frozen[f"extractor.{name}"]])
    assert torch.cat(moved).float().mean() > 0.9


@pytest.mark.parametrize("masked", ["update", "gradient"])
def test_swift_masking_the_gradient_only_lets_weight_decay_leak(
    masked: str,
    make_classifier: Any,
    make_external: Any,
    make_context: Any,
    make_importance: Any,
) -> None:
    """Why `update` is the default: Eq. 11 to the letter moves weights of mask 0."""
    classifier, external = make_classifier(), make_external(40)
    importance = make_importance(classifier)
    name = "extractor.0.weight"
    frozen = importance["minibatch.balanced.bias"][name] == 0
    before = classifier.get_parameter(name).detach().clone()
    context = make_context(importance=lambda: importance)
    run("swift", classifier, external, context, step2=False, masked=masked)
    still = (classifier.get_parameter(name) == before)[frozen]
    assert still.all() if masked == "update" else not still.any()


def test_swift_each_step_alone_moves_its_part(
    biased: tuple[Classifier, ExternalSet], make_context: Any, make_importance: Any
) -> None:
    classifier, external = biased
    importance = make_importance(classifier)
    for step, part in (("step1", "extractor"), ("step2", "head")):
        twin = copy.deepcopy(classifier)
        before, context = state_of(twin), make_context(importance=lambda: importance)
        other = {"step1": "step2", "step2": "step1"}[step]
        moved = changed(before, run("swift", twin, external, context, **{other: False}))
        assert moved  # the frozen part keeps its BatchNorm statistics, too
        assert all(name.startswith(part) for name in moved)
        assert {row["stage"] for row in context.history} == {step}


@pytest.mark.parametrize(
    ("reinit", "threshold"),
    [("partial", "mean"), ("partial", 0.3), ("partial", 0.9), ("none", "mean"), ("full", "mean")],
)
def test_swift_head_zeros_are_where_brute_force_puts_them(
    reinit: str,
    threshold: Any,
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
) -> None:
    """Eq. 9 and 12 in numpy; the head's bias is not judged, and goes only with the whole head."""
    classifier, external = biased
    importance = make_importance(classifier, seed=4)
    bias, prediction = (
        minmax(importance[f"minibatch.balanced.{kind}"]["head.1.weight"].double().numpy().ravel())
        for kind in ("bias", "prediction")
    )
    mask = np.abs(np.tanh(bias / (prediction + 1e-10)))
    if reinit == "partial" and threshold == "mean":
        expected = mask > mask.mean()
    elif reinit == "partial":
        expected = np.zeros(len(mask), dtype=bool)
        expected[np.argsort(-mask, kind="stable")[: round((1 - threshold) * len(mask))]] = True
    else:
        expected = np.full(len(mask), reinit == "full")
    expected = np.append(expected, reinit == "full")
    before = torch.cat([p.detach().flatten() for p in classifier.head.parameters()])
    context = make_context(epochs=0, importance=lambda: importance)
    run("swift", classifier, external, context, reinit=reinit, threshold=threshold)
    after = torch.cat([p.detach().flatten() for p in classifier.head.parameters()])
    assert torch.equal(after == 0, torch.from_numpy(expected))
    assert torch.equal(after[~expected], before[~expected])
    assert f"{expected.sum()} of {len(mask) + 1} head weights" in context.log.getvalue()


def test_swift_hard_mask_keeps_the_rate_that_is_best_on_the_external_set(
    biased: tuple[Classifier, ExternalSet], make_context: Any, make_importance: Any
) -> None:
    classifier, external = biased
    importance = make_importance(classifier)

    def one(rates: tuple[float, ...]) -> tuple[Classifier, Context]:
        context = make_context(importance=lambda: importance)
        twin = copy.deepcopy(classifier)
        options = {"mask": "hard", "hard_rates": rates}
        return run("swift", twin, external, context, **options), context

    rates = (0.2, 0.5, 0.8)
    alone = [one((rate,))[0] for rate in rates]
    best = int(np.argmax([inference.external_score(c, external.balanced) for c in alone]))
    found, context = one(rates)
    assert context.history[-1] == {"stage": "search", "step": 1, "hard_rate": rates[best]}
    states = [found.state_dict(), alone[best].state_dict()]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_swift_hard_rate_is_the_share_that_is_fine_tuned(
    make_classifier: Any, make_context: Any, make_importance: Any
) -> None:
    classifier = make_classifier()
    importance = make_importance(classifier)
    context = make_context(importance=lambda: importance)
    settings = swift.Settings(mask="hard")
    for rate in (0.1, 0.4):
        mask = swift.make_masks(classifier, settings, context, rate)
        values = torch.cat([m.flatten() for m in mask.values()])
        assert values.mean().item() == pytest.approx(rate, abs=0.01)


def test_swift_masks_of_the_ablations(
    make_classifier: Any, make_context: Any, make_importance: Any
) -> None:
    classifier = make_classifier()
    shapes = {n: p.shape for n, p in classifier.named_parameters()}
    importance = make_importance(classifier)

    def masks(seed: int = 7, **options: Any) -> dict[str, Tensor]:
        context = make_context(seed=seed, importance=lambda: importance)
        return swift.make_masks(classifier, swift.Settings(**options), context, None)

    for options in ({}, {"normalization": "zscore"}, {"normalization": "percentile"},
                    {"estimator": "per_sample"}, {"mask": "random"}, {"mask": "none"}):  # fmt: skip
        found = masks(**options)
        assert {n: m.shape for n, m in found.items()} == shapes
        assert all(((m >= 0) & (m <= 1)).all() for m in found.values())
    assert all((m == 1).all() for m in masks(mask="none").values())
    name = "extractor.3.weight"
    drawn = [masks(seed, mask="random")[name] for seed in (7, 7, 8)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(masks()[name], masks(estimator="per_sample")[name])


# --- killed and resumed ---------------------------------------------------------------------------


class Guillotine(io.StringIO):
    """A log that ends the job when a line contains `word`."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def write(self, text: str) -> int:
        if self.word in text:
            raise KilledError
        return super().write(text)


class KilledError(Exception):
    """Stands for the machine that dies."""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("variant", "word"),
    [
        ("swift", "step1  epoch 3/4"),
        ("swift", "step2  epoch 2/4"),
        ("swift_hard", "step1_rate0.7  epoch 2/4"),
        ("bmft", "step2  epoch 4/4"),
        ("fullft_reg", "epoch 3/4"),
        ("diffgda", "epoch 3/4"),
    ],
)
def test_killed_and_resumed_equals_unbroken(
    optimizer: str,
    variant: str,
    word: str,
    tmp_path: Path,
    biased: tuple[Classifier, ExternalSet],
    make_context: Any,
    make_importance: Any,
) -> None:
    classifier, external = biased
    importance = make_importance(classifier)

    def attempt(folder: Path | None, log: io.StringIO) -> tuple[dict[str, Tensor], list[Any], str]:
        context = make_context(
            optimizer,
            epochs=4,
            importance=lambda: importance,
            checkpoints=Checkpoints(folder, "key", 0),
            log=log,
        )
        algorithm, options = VARIANTS[variant]
        debiased = run(algorithm, copy.deepcopy(classifier), external, context, **options)
        return debiased.state_dict(), context.history, log.getvalue()

    expected, history, _ = attempt(None, io.StringIO())
    with pytest.raises(KilledError):
        attempt(tmp_path, Guillotine(word))
    found, resumed_history, log = attempt(tmp_path, io.StringIO())
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert resumed_history == history
    assert log.count("epoch 1/4") < (2 if variant != "swift_hard" else 4)  # not from scratch


def test_diffgda_remembers_the_best_iterate_of_before_it_was_killed(
    tmp_path: Path, biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """A learning rate that overshoots: the best iterate is an early one."""
    classifier, external = biased

    def attempt(folder: Path | None, log: io.StringIO) -> tuple[Classifier, Context]:
        context = make_context(epochs=4, checkpoints=Checkpoints(folder, "key", 0), log=log)
        options = {"lr": 5e-3, "min_balanced_accuracy": 0.9, "stop_balanced_accuracy": 0}
        return run("diffgda", copy.deepcopy(classifier), external, context, **options), context

    expected, context = attempt(None, io.StringIO())
    kept = hard_bias(expected, external.full).bias
    assert [row["epoch"] for row in context.history if row["hard_bias"] == kept][-1] < 3
    with pytest.raises(KilledError):
        attempt(tmp_path, Guillotine("epoch 4/4"))
    found, resumed = attempt(tmp_path, io.StringIO())
    assert "epoch 3/4" not in resumed.log.getvalue()
    assert not changed(expected.state_dict(), found)
    assert resumed.history == context.history


# --- with the real importances --------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["swift", "bmft", "fairprune"])
def test_methods_read_the_shared_importances(
    variant: str, biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """The artefact of rule `importance` has every key that the methods read."""
    from swift_debias import methods
    from swift_debias.importance.shared import shared_importance

    classifier, external = biased
    context = make_context()
    importance = shared_importance(
        classifier, external, context.finetuning, 16, seed=0, wanted=methods.importances()
    )
    assert set(importance) == set(methods.importances())
    context.importance, context.unprivileged = lambda: importance, lambda: 1
    before = state_of(classifier)
    debiased = run(variant, classifier, external, context)
    assert changed(before, debiased)
    assert all(value.isfinite().all() for value in debiased.state_dict().values())


@pytest.mark.parametrize("part", ["full", "balanced"])
def test_shared_importances_equal_those_of_each_part_alone(
    part: str, biased: tuple[Classifier, ExternalSet], make_context: Any
) -> None:
    """One pass over the full set also measures the balanced samples one by one."""
    from swift_debias import methods
    from swift_debias.importance import estimators
    from swift_debias.importance.shared import shared_importance

    classifier, external = biased
    finetuning = make_context().finetuning
    together = shared_importance(
        classifier, external, finetuning, 16, seed=0, wanted=methods.importances()
    )
    samples = external.full if part == "full" else external.balanced
    alone = estimators.per_sample(classifier, lambda: samples.batches(16))
    some = [name for name in methods.importances() if f".{part}." in name]
    only = shared_importance(classifier, external, finetuning, 16, seed=0, wanted=some)
    assert list(only) == some
    for name in some:
        estimator, _, objective = name.split(".")
        for parameter, value in together[name].items():
            torch.testing.assert_close(only[name][parameter], value, rtol=1e-3, atol=1e-12)
            if estimator == "per_sample":
                expected = alone[objective][parameter]
                torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-12)
