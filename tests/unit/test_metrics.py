"""metrics.py against scikit-learn, fairlearn and plain loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fairlearn.metrics as fair
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_debias.evaluation import metrics, thresholds

LIBRARY = Path(metrics.__file__).parents[2]


def predictions(n: int = 400, groups: int = 2, seed: int = 0, unknown: bool = True) -> pd.DataFrame:
    """Scores that favour group 0, of two data sets."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    attribute = rng.integers(-1 if unknown else 0, groups, n)
    score = 1 / (1 + np.exp(-(1.5 * label - 0.6 * attribute + rng.normal(0, 1.2, n))))
    return pd.DataFrame(
        {
            "dataset": rng.choice(["ddi", "atlas"], n),
            "image_id": [f"i{i}" for i in range(n)],
            "label": label.astype("int8"),
            "group": attribute.astype("int16"),
            "score": score.astype("float32"),
        }
    )


def values(frame: pd.DataFrame, dataset: str = "ddi", column: str = "value") -> pd.Series:
    return frame[frame.dataset == dataset].set_index("metric")[column]


def known_part(frame: pd.DataFrame, dataset: str = "ddi") -> pd.DataFrame:
    return frame[(frame.dataset == dataset) & (frame.group >= 0)]


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("threshold", [0.5, 0.37])
def test_agrees_with_fairlearn_and_sklearn(groups: int, threshold: float) -> None:
    frame = predictions(900, groups)
    ours = values(metrics.score(frame, groups, threshold))
    part = known_part(frame)
    y, a, p = part.label, part.group, part.score
    decided = (p >= threshold).astype(int)
    kwargs = {"sensitive_features": a}
    expected = {
        "auc": sk.roc_auc_score(y, p),
        "accuracy": sk.accuracy_score(y, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decided),
        "brier": sk.brier_score_loss(y, p),
        "spd": fair.demographic_parity_difference(y, decided, **kwargs),
        "eopp": fair.equal_opportunity_difference(y, decided, **kwargs),
        "eodds": fair.equalized_odds_difference(y, decided, agg="mean", **kwargs),
        "eodds_max": fair.equalized_odds_difference(y, decided, agg="worst_case", **kwargs),
        "n_unknown": ((frame.dataset == "ddi") & (frame.group < 0)).sum(),
    }
    by_group = fair.MetricFrame(
        metrics={
            "tpr": fair.true_positive_rate,
            "fpr": fair.false_positive_rate,
            "selection_rate": fair.selection_rate,
            "n": fair.count,
            "accuracy": sk.accuracy_score,
        },
        y_true=y,
        y_pred=decided,
        **kwargs,
    ).by_group
    for group in range(groups):
        mine = a == group
        for name in by_group:
            expected[f"{name}[{group}]"] = by_group.loc[group, name]
        expected[f"auc[{group}]"] = sk.roc_auc_score(y[mine], p[mine])
        expected[f"brier[{group}]"] = sk.brier_score_loss(y[mine], p[mine])
        expected[f"prevalence[{group}]"] = y[mine].mean()
    aucs = [expected[f"auc[{group}]"] for group in range(groups)]
    if groups == 2:
        for rate, gap in {"tpr": "dtpr", "fpr": "dfpr", "selection_rate": "dspd"}.items():
            expected[gap] = expected[f"{rate}[1]"] - expected[f"{rate}[0]"]
        expected["dauc"] = aucs[1] - aucs[0]
    expected |= {"auc_min": min(aucs), "auc_gap": max(aucs) - min(aucs)}
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_signed_equalized_odds_lets_opposite_gaps_cancel() -> None:
    # group 0: tpr 1, fpr 0; group 1: tpr 0, fpr 1
    frame = pd.DataFrame(
        {
            "dataset": "x",
            "label": [1, 0, 1, 0],
            "group": [0, 0, 1, 1],
            "score": [0.9, 0.1, 0.1, 0.9],
        }
    )
    ours = values(metrics.score(frame, 2), "x")
    assert ours["eodds"] == 1.0
    assert ours["eodds_max"] == 1.0
    assert ours["eodds_signed"] == 0.0
    assert (ours["dtpr"], ours["dfpr"], ours["dspd"], ours["dauc"]) == (-1, 1, 0, -1)
    frame["score"] = [0.9, 0.9, 0.1, 0.1]
    assert values(metrics.score(frame, 2), "x")["eodds_signed"] == 1.0


def test_a_score_at_the_threshold_is_a_decision_for_class_1() -> None:
    frame = pd.DataFrame({"dataset": "x", "label": [1, 0], "group": 0, "score": [0.5, 0.25]})
    assert values(metrics.score(frame, 2), "x")["selection_rate"] == 0.5
    assert values(metrics.score(frame, 2, threshold=0.25), "x")["selection_rate"] == 1.0


def test_calibration_error_against_a_loop() -> None:
    frame = known_part(predictions(500))
    y, p = frame.label.to_numpy(), frame.score.to_numpy(float)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p >= low) & (p < low + 1 / 15)
        if inside.any():
            error += inside.sum() * abs(y[inside].mean() - p[inside].mean())
    assert metrics.expected_calibration_error(y, p) == pytest.approx(error / len(y))
    edge = metrics.expected_calibration_error(np.array([1, 0]), np.array([1.0, 0.0]))
    assert edge == 0.0
    # a score of 1 is in the last bin: frequency 0.5, mean score 0.975
    shared = metrics.expected_calibration_error(np.array([0, 1]), np.array([1.0, 0.95]))
    assert shared == pytest.approx(0.475)


def test_rows_of_unknown_attribute_count_nowhere_else() -> None:
    frame = predictions()
    whole = metrics.score(frame, 2)
    known = metrics.score(frame[frame.group >= 0], 2)
    assert (whole.value[whole.metric == "n_unknown"] > 0).all()
    others = whole.metric != "n_unknown"
    pd.testing.assert_frame_equal(whole[others], known[known.metric != "n_unknown"])


def test_n_is_what_a_value_rests_on() -> None:
    frame = predictions()
    part = known_part(frame)
    n = values(metrics.score(frame, 2), column="n")
    assert n["auc"] == n["spd"] == n["eodds"] == len(part)
    assert n["tpr[1]"] == ((part.label == 1) & (part.group == 1)).sum()
    assert n["fpr[0]"] == ((part.label == 0) & (part.group == 0)).sum()
    assert n["eopp"] == (part.label == 1).sum()


def test_a_group_of_one_class_gives_null_with_the_reason() -> None:
    frame = predictions()
    frame = frame[(frame.group != 1) | (frame.label == 1)]
    scored = metrics.score(frame, 2)
    ours, reasons = values(scored), values(scored, column="reason")
    for name in ("auc[1]", "balanced_accuracy[1]", "fpr[1]", "eodds", "auc_min", "auc_gap"):
        assert np.isnan(ours[name]), name
        assert "no sample of class 0" in reasons[name], name
    for name in ("auc", "spd", "eopp", "tpr[1]", "accuracy[1]", "ece[1]"):
        assert np.isfinite(ours[name]), name
        assert pd.isna(reasons[name]), name


def test_empty_group_one_class_and_nothing_known() -> None:
    frame = predictions()
    scored = metrics.score(frame[frame.group != 0], 2)
    assert values(scored)["n[0]"] == 0
    assert np.isnan(values(scored)["spd"])
    assert "group 0 left out: no sample" in values(scored, column="reason")["spd"]
    assert np.isfinite(values(scored)["auc"])

    scored = metrics.score(frame[frame.label == 1], 2)
    assert values(scored, column="reason")["auc"] == "no sample of class 0"
    assert np.isfinite(values(scored)["spd"])

    scored = metrics.score(frame.assign(group=-1), 2)
    assert values(scored)["n_unknown"] == (frame.dataset == "ddi").sum()
    others = scored[~scored.metric.str.startswith("n")]
    assert others.value.isna().all()
    assert others.reason.notna().all()
    assert metrics.score(frame[:0], 2).empty


def test_scores_that_are_not_finite_give_null() -> None:
    frame = predictions()
    frame.loc[frame.index[frame.group == 1][0], "score"] = np.nan
    dataset = frame.dataset[frame.score.isna()].iloc[0]
    scored = metrics.score(frame, 2)
    assert np.isnan(values(scored, dataset)["auc"])
    assert values(scored, dataset, "reason")["brier"] == "1 scores are not finite"
    assert np.isfinite(values(scored, dataset)["auc[0]"])
    curve = thresholds.threshold_curve(frame, 2)
    assert curve[curve.dataset == dataset].spd.isna().all()


def test_small_groups_of_a_many_valued_attribute_are_left_out_and_told() -> None:
    frame = predictions(800, 4, unknown=False)
    frame["dataset"] = "x"
    rare = frame[frame.group == 3].head(9)
    one_class = frame[(frame.group == 2) & (frame.label == 1)]
    frame = pd.concat([frame[frame.group < 2], rare, one_class])
    scored = metrics.score(frame, 4, min_group=10)
    reduced = metrics.score(frame[frame.group < 2], 2)
    for name in ("spd", "eodds", "eopp", "auc_min", "auc_gap"):
        assert values(scored, "x")[name] == values(reduced, "x")[name]
        reason = values(scored, "x", "reason")[name]
        assert "group 2 left out: no sample of class 0" in reason
        assert "group 3 left out: 9 samples, 10 needed" in reason
    assert values(scored, "x", "reason")["eodds_signed"] == "defined for two groups only"
    assert values(scored, "x", "n")["spd"] == (frame.group < 2).sum()
    enough = values(metrics.score(frame, 4, min_group=9), "x", "reason")["spd"]
    assert "group 3" not in enough


def test_which_groups_are_left_out() -> None:
    full, small, one_class, empty = (20, 20), (5, 4), (40, 0), (0, 0)
    assert metrics.groups_left_out([small, one_class], 10) == {}
    assert metrics.groups_left_out([full, empty], 10) == {1: "group 1 left out: no sample"}
    assert metrics.groups_left_out([full, small, one_class], 10) == {
        1: "group 1 left out: 9 samples, 10 needed",
        2: "group 2 left out: no sample of class 0",
    }


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(-1, 2), st.floats(0, 1, allow_nan=False, width=32)
        ),
        max_size=25,
    ),
    groups=st.integers(3, 4),
)
def test_never_crashes_and_null_always_has_a_reason(rows: list, groups: int) -> None:
    frame = pd.DataFrame(rows, columns=["label", "group", "score"]).assign(dataset="x")
    scored = metrics.score(frame, groups, min_group=2)
    null = scored.value.isna()
    assert scored.reason[null].notna().all()
    shares = ~scored.metric.str.match(r"n(\[|_)") & ~null
    assert scored.value[shares].between(0, 1).all()


def test_refuses_an_attribute_index_beyond_the_groups() -> None:
    with pytest.raises(ValueError, match="attribute index 3 with 2 groups"):
        metrics.score(predictions(groups=4), 2)


def test_threshold_curve_agrees_with_score() -> None:
    frame = predictions()
    curve = thresholds.threshold_curve(frame, 2)
    assert len(curve) == 2 * 101
    for threshold in thresholds.THRESHOLDS[[0, 20, 50, 77, 100]]:
        scored = values(metrics.score(frame, 2, threshold))
        row = curve[(curve.dataset == "ddi") & (curve.threshold == threshold)].iloc[0]
        for name in ("spd", "eodds", "balanced_accuracy"):
            assert row[name] == pytest.approx(scored[name], abs=1e-12), (name, threshold)
    assert thresholds.threshold_curve(frame.assign(group=-1), 2).empty


def test_a_score_at_a_threshold_reaches_it() -> None:
    scores, levels = np.array([0.75, 0.5, 0.25, 0.5]), np.array([0.25, 0.5, 0.75, 1.0])
    assert thresholds.share_reaching(scores, levels).tolist() == [1, 0.75, 0.25, 0]


def test_best_threshold_against_a_loop() -> None:
    frame = predictions(seed=3)
    best = thresholds.best_threshold(frame.label, frame.score)
    loop = {
        t: sk.balanced_accuracy_score(frame.label, frame.score >= t) for t in thresholds.THRESHOLDS
    }
    assert loop[best] == max(loop.values())
    assert thresholds.best_threshold(np.ones(3), np.ones(3)) == 0.5  # of one class: it says nothing


def test_imports_nothing_heavy() -> None:
    names = "metrics, fold_tests, setup_intervals"
    code = (
        f"import sys; from swift_debias.evaluation import {names}; "
        "from swift_debias.report import verdict; "
        "print([m for m in ('torch', 'sklearn', 'fairlearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=LIBRARY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
