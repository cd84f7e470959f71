"""The audit of scores against scikit-learn and fairlearn, its intervals against a plain loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from swift_debias.errors import UserError
from swift_debias.evaluation.audit import RATES, audit
from swift_debias.evaluation.metrics import score

Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(seed: int, n: int = 300, groups: int = 2) -> Data:
    """Labels, groups and scores that have something to do with each other; some scores tie."""
    rng = np.random.default_rng(seed)
    y, g = rng.integers(0, 2, n), rng.integers(0, groups, n)
    p = (0.3 * y + 0.1 * g + rng.random(n)) / (1.4 + 0.1 * groups)
    return y, g, np.round(p, 2) if seed % 2 else p


def values(frame: pd.DataFrame) -> dict[str, float]:
    return dict(zip(frame["metric"], frame["value"], strict=True))


SCIKIT = {
    "auc": lambda y, d, p: reference.roc_auc_score(y, p),
    "accuracy": lambda y, d, p: reference.accuracy_score(y, d),
    "balanced_accuracy": lambda y, d, p: reference.balanced_accuracy_score(y, d),
    "prevalence": lambda y, d, p: np.mean(y),
    "selection_rate": lambda y, d, p: np.mean(d),
    "tpr": lambda y, d, p: reference.recall_score(y, d),
    "tnr": lambda y, d, p: reference.recall_score(1 - y, 1 - d),
    "fpr": lambda y, d, p: 1 - reference.recall_score(1 - y, 1 - d),
    "fnr": lambda y, d, p: 1 - reference.recall_score(y, d),
    "ppv": lambda y, d, p: reference.precision_score(y, d),
    "f1": lambda y, d, p: reference.f1_score(y, d),
    "brier": lambda y, d, p: reference.brier_score_loss(y, p),
}


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_against_scikit_learn_and_fairlearn(seed: int, groups: int) -> None:
    import fairlearn.metrics as fair

    y, g, p = draw(seed, groups=groups)
    d = (p >= 0.4).astype(int)
    names = [f"g{k}" for k in range(groups)]
    found = values(audit(y, g, p, names, threshold=0.4, resamples=0))
    assert {*SCIKIT, "ece"} == set(RATES)
    for metric, of in SCIKIT.items():
        by_group = [of(y[g == k], d[g == k], p[g == k]) for k in range(groups)]
        assert found[metric] == pytest.approx(of(y, d, p))
        assert [found[f"{metric}[{name}]"] for name in names] == pytest.approx(by_group)
        assert found[f"{metric}_difference"] == pytest.approx(max(by_group) - min(by_group))
        assert found[f"{metric}_ratio"] == pytest.approx(min(by_group) / max(by_group))
        if metric in ("fpr", "fnr", "brier"):
            assert found[f"{metric}_worst"] == pytest.approx(max(by_group))
        elif metric not in ("prevalence", "selection_rate"):
            assert found[f"{metric}_worst"] == pytest.approx(min(by_group))
    by = {"sensitive_features": g}
    for name, function in {
        "spd": fair.demographic_parity_difference,
        "demographic_parity_ratio": fair.demographic_parity_ratio,
        "eopp": fair.equal_opportunity_difference,
        "eodds_max": fair.equalized_odds_difference,
        "equalized_odds_ratio": fair.equalized_odds_ratio,
    }.items():
        assert found[name] == pytest.approx(function(y, d, **by)), name
    mean = fair.equalized_odds_difference(y, d, agg="mean", **by)
    assert found["eodds"] == pytest.approx(mean)


@pytest.mark.parametrize("groups", [2, 3])
def test_the_same_numbers_as_the_workflows_metrics(groups: int) -> None:
    y, g, p = draw(2, groups=groups)
    frame = pd.DataFrame({"dataset": "d", "label": y, "group": g, "score": p})
    theirs = values(score(frame, groups))
    found = values(audit(y, g, p, [str(k) for k in range(groups)], resamples=0))
    shared = {name for name in theirs if name in found and not np.isnan(theirs[name])}
    assert {"auc", "ece", "ece[1]", "spd", "eodds", "auc_min", "n_unknown", "n[0]"} <= shared
    for name in shared:
        assert found[name] == pytest.approx(theirs[name]), name


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    """Resampling within label and group, one metric at a time, by scikit-learn."""
    y, g, p = draw(1, n=120)
    frame = audit(y, g, p, ["a", "b"], resamples=2000).set_index("metric")
    rng = np.random.default_rng(9)
    cells = [np.flatnonzero((y == label) & (g == group)) for label in (0, 1) for group in (0, 1)]
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(cell, len(cell)) for cell in cells])
        d = p[rows] >= 0.5
        rate = [d[(g[rows] == k) & (y[rows] == 1)].mean() for k in (0, 1)]
        drawn.append([np.mean(d == y[rows]), max(rate) - min(rate)])
    for metric, sample in zip(("accuracy", "eopp"), np.array(drawn).T, strict=True):
        expected = np.percentile(sample, [2.5, 97.5])
        np.testing.assert_allclose(frame.loc[metric, ["low", "high"]].astype(float), expected,
                                   atol=0.02)  # fmt: skip


def test_patients_are_drawn_whole() -> None:
    """Ten copies of every image, of one patient: as uncertain as the images alone."""
    y, g, p = draw(1, n=80)
    alone = audit(y, g, p, ["a", "b"], resamples=500).set_index("metric")
    many = [np.repeat(column, 10) for column in (y, g, p)]
    patients = np.repeat(np.arange(80), 10)
    apart = audit(*many, ["a", "b"], resamples=500).set_index("metric")
    whole = audit(*many, ["a", "b"], patients, resamples=500).set_index("metric")
    width = {
        name: frame.loc["auc", "high"] - frame.loc["auc", "low"]
        for name, frame in (("alone", alone), ("apart", apart), ("whole", whole))
    }
    assert width["whole"] == pytest.approx(width["alone"], rel=0.15)
    assert width["apart"] < width["alone"] / 2


def test_counts_unknown_groups_and_reasons() -> None:
    y = np.array([0, 1, 1, 1, 0, 1])
    g = np.array([0, 0, 1, 1, -1, 0])
    frame = audit(y, g, np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.05]), ["a", "b"], resamples=50)
    rows = frame.set_index("metric")
    assert rows.loc["n", "value"] == 5 and rows.loc["n_unknown", "value"] == 1
    assert rows.loc["n[a]", "value"] == 3 and rows.loc["n_positive[a]", "value"] == 2
    assert "only 2 images of label 1" in rows.loc["n[b]", "reason"]
    assert pd.isna(rows.loc["auc[b]", "value"])
    assert rows.loc["auc[b]", "reason"] == "no image of class 0"
    assert pd.isna(rows.loc["fpr_difference", "value"]) and rows.loc["fpr[a]", "n"] == 1
    assert rows.loc["ppv", "reason"] == "no decision for class 1"
    assert "every decision is the same" in rows.loc["selection_rate", "reason"]
    turned = audit(np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9]),
                   ["a", "b"], resamples=0)  # fmt: skip
    assert "turned round" in turned.set_index("metric").loc["auc", "reason"]


def test_a_group_without_images_is_left_out_and_said() -> None:
    y, g, p = draw(3)
    rows = audit(y, g, p, ["a", "b", "nobody"], resamples=0).set_index("metric")
    assert rows.loc["spd", "reason"] == "group nobody left out: no sample"
    assert not pd.isna(rows.loc["spd", "value"])
    one = audit(y, 0 * g, p, ["a", "b"], resamples=0).set_index("metric")
    assert pd.isna(one.loc["spd", "value"]) and "fewer than two" in one.loc["spd", "reason"]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, np.nan], "not finite"),
        ([0.5, 1.5], "must be probabilities"),
        ([0.5], "1 scores, but 2 labels"),
    ],
)
def test_what_are_no_scores_is_refused(scores: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        audit(np.array([0, 1]), np.array([0, 1]), np.array(scores), ["a", "b"])
