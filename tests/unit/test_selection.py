"""Equal tuning: splits, scores and the rule of a search (methods/_selection.py, _trials.py)."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from swift_debias.config.schema import (
    Augmentation,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
    Selection,
)
from swift_debias.errors import UserError
from swift_debias.evaluation.thresholds import best_threshold
from swift_debias.methods import _trials, base, searched, shared_first
from swift_debias.methods._choice import Choice
from swift_debias.methods._selection import (
    Judged,
    Scored,
    Trial,
    auc_change,
    choose,
    judge,
    points,
    split,
)


def scored(seed: int = 0, n: int = 80, shift: float = 0.0, each: int = 1) -> Scored:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, n), rng.integers(0, 2, n)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels + shift * groups)))
    return Scored(scores, labels, groups, np.array([f"{seed}-{i // each}" for i in range(n)]))


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.key("selection.share")
@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_cut_is_by_patient_and_has_its_share_of_every_cell(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 600
    labels, groups = rng.integers(0, 2, n), (rng.random(n) < 0.3).astype(int)
    patients = rng.integers(0, 250, n).astype(object)
    patients[:20] = None
    ((fit, select),) = split(labels, groups, patients, Selection(share=share), 5, seed)
    assert (fit ^ select).all()
    known = [p for p in patients if p is not None]
    assert not {*patients[fit]} & {*patients[select]} & {*known}
    for label in (0, 1):
        for group in (0, 1):
            cell = (labels == label) & (groups == group)
            assert select[cell].mean() == pytest.approx(share, abs=0.12)
    assert select.mean() == pytest.approx(share, abs=0.03)


@pytest.mark.key("selection.folds")
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_where_a_cell_is_small_parts_take_turns(folds: int) -> None:
    labels = np.repeat([0, 0, 1, 1], [60, 60, 60, 12])
    groups = np.repeat([0, 1, 0, 1], [60, 60, 60, 12])
    patients = np.arange(len(labels)).astype(object)
    cuts = split(labels, groups, patients, Selection(folds=folds), 10, seed=1)
    assert len(cuts) == folds
    assert (np.sum([select for _, select in cuts], axis=0) == 1).all()
    for fit, select in cuts:
        assert (fit ^ select).all()
        assert select.mean() == pytest.approx(1 / folds, abs=0.05)
        small = (labels == 1) & (groups == 1)
        assert abs(select[small].sum() - 12 / folds) <= 1
    assert len(split(labels, groups, patients, Selection(folds=folds), 1, seed=1)) == 1


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("small", [0, 1])
def test_a_cell_of_any_class_that_one_patient_has_makes_parts_take_turns(
    classes: int, small: int
) -> None:
    """The last class in one group: a share of the patients leaves it out, or takes it whole."""
    labels, groups = np.repeat(np.arange(classes), 200), np.tile([0, 1], 100 * classes)
    patients = np.arange(len(labels)).astype(object)
    patients[(labels == classes - 1) & (groups == small)] = "one"
    found = [split(labels, groups, patients, Selection(), 10, seed) for seed in range(6)]
    for cuts in found:
        if len(cuts) == 1:
            ((_, select),) = cuts
            assert all(
                (select & (labels == label) & (groups == group)).sum() >= 10
                for label in range(classes)
                for group in (0, 1)
            )
    assert {len(cuts) for cuts in found} == {Selection().folds}


def test_points_of_a_grid() -> None:
    grid = {"a": (1, 2), "b": ("x", "y", "z")}
    assert list(points(grid)) == [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]


# --- the scores -----------------------------------------------------------------------------------


def test_what_is_judged_equals_scikit_learn() -> None:
    folds = [scored(seed, shift=0.8) for seed in range(3)]
    found = judge(folds)

    def rate(fold: Scored, label: int, group: int) -> float:
        return float((fold.scores[(fold.labels == label) & (fold.groups == group)] >= 0.5).mean())

    dtpr, dfpr = (
        np.mean([rate(f, label, 0) - rate(f, label, 1) for f in folds]) for label in (1, 0)
    )
    assert (found.dtpr, found.dfpr) == pytest.approx((dtpr, dfpr))
    assert found.eodds == pytest.approx((abs(dtpr) + abs(dfpr)) / 2)
    assert found.auc == pytest.approx(np.mean([roc_auc_score(f.labels, f.scores) for f in folds]))
    accuracies = [balanced_accuracy_score(f.labels, f.scores >= 0.5) for f in folds]
    assert found.balanced_accuracy == pytest.approx(np.mean(accuracies))
    by_group = [
        np.mean([roc_auc_score(f.labels[f.groups == g], f.scores[f.groups == g]) for f in folds])
        for g in (0, 1)
    ]
    assert found.worst_group_auc == pytest.approx(min(by_group))
    for fold, threshold in zip(folds, found.thresholds, strict=True):
        best = max(
            balanced_accuracy_score(fold.labels, fold.scores >= t) for t in np.linspace(0, 1, 101)
        )
        at = balanced_accuracy_score(fold.labels, fold.scores >= threshold)
        assert at == pytest.approx(best)


def test_means_of_signed_gaps_come_before_their_size() -> None:
    """Gaps of opposite signs in two folds are noise, and cancel."""
    labels, groups = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    up = Scored(np.where((groups == 0) & (labels == 1), 0.9, 0.1), labels, groups, labels)
    down = up._replace(scores=np.where((groups == 1) & (labels == 1), 0.9, 0.1))
    assert judge([up]).eodds == judge([down]).eodds == 0.5
    assert judge([up, down]).eodds == 0


def test_the_threshold_is_the_middle_of_the_best() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert best_threshold(labels, scores) == pytest.approx(0.51)  # 0.21 to 0.80


def test_the_change_of_the_auc_and_its_error() -> None:
    """Against a bootstrap of patients; equal scores change nothing, with certainty."""
    before = [scored(seed, n=300, each=3) for seed in range(2)]
    rng = np.random.default_rng(0)
    after = [f._replace(scores=np.clip(f.scores + rng.normal(0, 0.15, 300), 0, 1)) for f in before]
    change, error = auc_change(after, before)
    expected = np.mean(
        [
            roc_auc_score(a.labels, a.scores) - roc_auc_score(b.labels, b.scores)
            for a, b in zip(after, before, strict=True)
        ]
    )
    assert change == pytest.approx(expected)
    drawn = []
    for _ in range(400):
        total = 0.0
        for a, b in zip(after, before, strict=True):
            rows = (rng.integers(0, 100, 100)[:, None] * 3 + np.arange(3)).ravel()
            total += roc_auc_score(a.labels[rows], a.scores[rows])
            total -= roc_auc_score(b.labels[rows], b.scores[rows])
        drawn.append(total / 2)
    assert error == pytest.approx(np.std(drawn), rel=0.15)
    assert auc_change(before, before) == (0, 0)


# --- the rule -------------------------------------------------------------------------------------

BASE = Judged(0.3, 0.3, 0.3, 0.8, 0.7, 0.75, (0.5,))


def trial(eodds: float, change: float, se: float = 0.004, worst: float = 0.7) -> Trial:
    judged = BASE._replace(eodds=eodds, auc=BASE.auc + change, worst_group_auc=worst)
    return Trial({"eodds": eodds}, judged, change, se)


@pytest.mark.key("selection.tolerance")
def test_constrained_takes_the_fairest_that_keeps_the_auc() -> None:
    trials = [trial(0.2, 0.0), trial(0.1, -0.009), trial(0.01, -0.011), trial(0.15, 0.1)]
    assert choose(trials, BASE, Selection()).best == 1
    assert choose(trials, BASE, Selection(tolerance=0.02)).best == 2
    assert choose(trials, BASE, Selection(tolerance=0)).best == 3  # one error: 0.004
    noisy = [trial(0.2, 0.0), trial(0.01, -0.011, se=0.012)]
    verdict = choose(noisy, BASE, Selection())
    assert (verdict.best, verdict.underpowered) == (1, False)
    assert choose([trial(0.2, 0.0, se=0.021)], BASE, Selection()).underpowered


def test_where_none_keeps_the_auc_the_highest_is_taken() -> None:
    verdict = choose([trial(0.01, -0.2), trial(0.3, -0.05)], BASE, Selection())
    assert verdict.best == 1 and "none keeps" in verdict.reason


@pytest.mark.key("selection.rule")
def test_the_other_rules() -> None:
    trials = [trial(0.3, 0.1, worst=0.6), trial(0.05, -0.1, worst=0.82), trial(0.2, 0, worst=0.8)]
    assert choose(trials, BASE, Selection(rule="worst_group_auc")).best == 1
    assert choose(trials, BASE, Selection(rule="constrained")).best == 2
    distance = [math.hypot(1 - t.judged.auc, t.judged.eodds) for t in trials]
    assert choose(trials, BASE, Selection(rule="dto")).best == int(np.argmin(distance))


def test_a_trial_that_cannot_be_judged_is_not_taken() -> None:
    for rule in ("constrained", "dto", "worst_group_auc"):
        bad = Trial({}, Judged(*[math.nan] * 6, (0.5,)), math.nan, math.nan)
        assert choose([bad, trial(0.2, 0.0)], BASE, Selection(rule=rule)).best == 1


# --- the trials -----------------------------------------------------------------------------------


def training() -> base.Training:
    return base.Training(
        Pretraining(epochs=20, batch_size=32, optimizer=Optimizer(name="sgd", lr=0.01)),
        Finetuning(lr_extractor=0.01, lr_head=0.05, min_cell=3),
        Augmentation(),
        Compute(),
    )


def run(
    variant: Method, folds: list[_trials.Fold], journal: Path | None = None, key: str = "k"
) -> tuple[dict[str, Any], str]:
    log = io.StringIO()
    found = _trials.search(
        [lambda fold=fold: fold for fold in folds],
        variant,
        Choice(None, 0, {}),
        training(),
        Selection(share=0.4),
        journal,
        key,
        log,
    )
    return found, log.getvalue()


@pytest.fixture
def folds(make_samples: Any, make_classifier: Any, train: Any) -> list[_trials.Fold]:
    """Two folds; a patient has two images."""
    made = []
    for number in range(2):
        classifier = train(make_classifier(number), make_samples(160, seed=9, correlation=0.9))
        samples = make_samples(120, seed=20 + number, correlation=0.3)
        made.append(_trials.Fold(classifier, samples, np.arange(120) // 2, 5 + number, number))
    return made


def test_a_planted_best_setting_is_found(folds: list[_trials.Fold]) -> None:
    """Rates that destroy the network, one that changes nothing, and one that debiases."""
    variant = Method(algorithm="fullft", search={"lr_factor": (1e-6, 1.0, 300.0)}, batchnorm="eval")
    found, log = run(variant, folds)
    eodds = [t["eodds"] for t in found["trials"]]
    assert found["trials"][0]["eodds"] == pytest.approx(found["baseline"]["eodds"], abs=1e-6)
    assert eodds[1] < eodds[0]
    assert found["chosen"] == {"lr_factor": 1.0}
    assert found["trials"][2]["auc"] < found["baseline"]["auc"] - 0.05
    assert "chosen: " in log and len(found["thresholds"]) == 2
    assert json.loads(json.dumps(found, allow_nan=False))["rule"] == "constrained"


def test_a_trial_never_sees_what_it_is_judged_on(
    folds: list[_trials.Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples that a method is handed, and those that its model scores, share no patient."""
    fitted: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []
    inner = _trials.debias

    def watched(classifier: Any, samples: Any, *rest: Any, **options: Any) -> Any:
        fitted.append(samples.rows)
        return inner(classifier, samples, *rest, **options)

    monkeypatch.setattr(_trials, "debias", watched)
    from swift_debias.learning import inference

    predict = inference.predict

    def scored_by(classifier: Any, samples: Any, *rest: Any) -> Any:
        judged.append(samples.rows)
        return predict(classifier, samples, *rest)

    monkeypatch.setattr(inference, "predict", scored_by)
    run(Method(algorithm="llft", search={"steps": (2, 3)}), folds)
    assert len(fitted) == 4 and len(judged) == 6  # with each fold's Baseline
    for number in range(2):
        for fit in fitted[2 * number : 2 * number + 2]:
            rest = judged[3 * number]
            assert not {*(fit // 2).tolist()} & {*(rest // 2).tolist()}
            assert len(fit) + len(rest) == 120
            assert 0.25 < len(rest) / 120 < 0.55
        assert all(torch.equal(judged[3 * number + i], judged[3 * number]) for i in (1, 2))
    assert not torch.equal(judged[0], judged[3])  # every fold draws its own


def test_what_is_learned_by_heart_is_not_rewarded(
    make_samples: Any, make_classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels without any signal: a network that knows them by heart scores as one that does not."""
    samples = make_samples(120, seed=3)
    rng = np.random.default_rng(0)
    samples.labels = torch.tensor(rng.integers(0, 2, 120)).float()
    fold = _trials.Fold(make_classifier(0, 0.0), samples, np.arange(120), 1, 2)
    from swift_debias.learning.inference import predict

    inner, known = _trials.debias, []

    def watched(classifier: Any, fit: Any, *rest: Any, **options: Any) -> Any:
        outcome = inner(classifier, fit, *rest, **options)
        scores = predict(outcome.classifier, fit).numpy()
        known.append(roc_auc_score(fit.labels, scores))
        return outcome

    monkeypatch.setattr(_trials, "debias", watched)
    variant = Method(
        algorithm="fullft", prediction_weight=1, balanced=False, batchnorm="train",
        search={"epochs_percent": (5, 600), "lr_factor": (6.0,)},
    )  # fmt: skip
    found, _ = run(variant, [fold])
    assert known[1] > known[0] + 0.2 and known[1] > 0.8
    for judged in found["trials"]:
        assert judged["auc"] < 0.7


def test_a_killed_search_carries_on(
    folds: list[_trials.Fold], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = Method(algorithm="llft", search={"steps": (2, 3)})
    unbroken, _ = run(variant, folds)
    calls = []
    inner = _trials.debias

    def killed(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setattr(_trials, "debias", killed)
    with pytest.raises(KeyboardInterrupt):
        run(variant, folds, tmp_path)
    resumed, _ = run(variant, folds, tmp_path)
    assert len(calls) == 5
    time = {"seconds": 0, "images_seen": 0}
    assert resumed | time == unbroken | time
    (tmp_path / "fold0_part0_0.npz").write_bytes(b"no archive")
    assert run(variant, folds, tmp_path)[0] | time == unbroken | time
    assert len(calls) == 6
    run(variant, folds, tmp_path, key="other settings")
    assert len(calls) == 10


def test_a_trial_that_diverges_is_not_taken(folds: list[_trials.Fold]) -> None:
    """It is a point of the grid: noted and passed over; if all do, one line says so."""
    variant = Method(algorithm="fullft", search={"lr_factor": (1e30, 1.0)}, batchnorm="eval")
    found, log = run(variant, folds)
    assert found["chosen"] == {"lr_factor": 1.0}
    assert found["trials"][0]["auc"] is None and found["trials"][1]["auc"] > 0.5
    assert "diverged" in log
    with pytest.raises(UserError, match="fullft: no trial of its search"):
        run(Method(algorithm="fullft", search={"lr_factor": (1e30, 1e31)}), folds)


def test_importances_are_measured_on_the_fit_part(
    folds: list[_trials.Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a fold for all trials, of those that some trial reads."""
    from swift_debias.importance import shared

    inner, seen = shared.shared_importance, []

    def watched(classifier: Any, external: Any, *rest: Any) -> Any:
        seen.append((len(external.full), rest[-1]))
        return inner(classifier, external, *rest)

    monkeypatch.setattr(shared, "shared_importance", watched)
    run(Method(algorithm="swift", search={"prediction_weight_1": (0.1, 0.9)}), folds)
    assert len(seen) == 2
    assert all(n < 90 for n, _ in seen)
    assert seen[0][1] == ["minibatch.balanced.bias", "minibatch.balanced.prediction"]


# --- whose search sets whose keys -----------------------------------------------------------------


def test_an_ablation_takes_over_what_was_found_except_its_own_setting() -> None:
    grid = {"prediction_weight_1": (0.1, 0.5), "lr_factor": (1.0, 3.0)}
    methods = {"swift": Method(algorithm="swift", search=grid)}
    methods["ablation"] = Method(algorithm="swift", reinit="none", search="swift")
    methods["lambda"] = Method(algorithm="swift", prediction_weight_1=0.9, search="swift")
    methods["alone"] = Method(algorithm="swift")
    keys = ("prediction_weight_1", "lr_factor")
    assert searched(methods, "swift") == ("swift", keys)
    assert searched(methods, "ablation") == ("swift", keys)
    assert searched(methods, "lambda") == ("swift", ("lr_factor",))
    assert searched(methods, "alone") == (None, ())
    first = shared_first(methods["ablation"])
    assert first is not None and first.settings["reinit"] == "partial" and first.search is None
