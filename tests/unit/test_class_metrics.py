"""Metrics and intervals of three classes against scikit-learn, fairlearn and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    false_positive_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from swift_debias.data.classes import label_classes
from swift_debias.data.manifest import ManifestResult
from swift_debias.errors import UserError
from swift_debias.evaluation import class_intervals, metrics, one_vs_rest, words
from swift_debias.evaluation.setup_intervals import setup_intervals

CLASSES = ("nevus", "mel", "bcc")
COLUMNS = [f"score_{c}" for c in range(3)]


def predictions(seed: int = 0, n: int = 240, folds: int = 2, methods: Any = ("baseline", "swift")):
    """Scores that know something of the label and of the group, as softmax."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 3, n), rng.integers(-1, 2, n)
    patient = [f"p{i}" for i in rng.integers(0, n // 2, n)]
    frames = []
    for method in methods:
        for fold in range(folds):
            z = rng.normal(0, 1, (n, 3))
            z[np.arange(n), label] += 1 + 0.6 * group
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            frame = pd.DataFrame(dict(zip(COLUMNS, p.T.astype("float32"), strict=True)))
            frames.append(
                frame.assign(
                    method=method, fold=fold, dataset="d", label=label, group=group,
                    patient_id=patient, image_id=[f"i{i}" for i in range(n)],
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def values(frame: pd.DataFrame, **options: Any) -> dict[str, float]:
    found = one_vs_rest.score(frame, 2, CLASSES, **options)
    return dict(zip(found["metric"], found["value"], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_scikit_learn_s_and_fairlearn_s(seed: int) -> None:
    frame = predictions(seed, folds=1, methods=["a"])
    found = values(frame, disease=1)
    known = frame[frame["group"] >= 0]
    y, g, p = known["label"].to_numpy(), known["group"].to_numpy(), known[COLUMNS].to_numpy()
    p = p.astype(float)
    decided = p.argmax(axis=1)
    together = {"multi_class": "ovr", "average": "macro"}
    renormalized = p / p.sum(axis=1, keepdims=True)
    assert found["auc"] == pytest.approx(roc_auc_score(y, renormalized, **together), abs=1e-6)
    for group in (0, 1):
        of = g == group
        expected = roc_auc_score(y[of], renormalized[of], **together)
        assert found[f"auc[{group}]"] == pytest.approx(expected, abs=1e-6)
    assert found["auc_min"] == min(found["auc[0]"], found["auc[1]"])
    assert found["auc_gap"] == pytest.approx(abs(found["auc[0]"] - found["auc[1]"]))
    assert found["dauc"] == pytest.approx(found["auc[1]"] - found["auc[0]"])
    assert found["accuracy"] == pytest.approx(accuracy_score(y, decided))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, decided))
    gaps: dict[str, list[float]] = {"spd": [], "eopp": [], "eodds": []}
    for c, name in enumerate(CLASSES):
        own, hit = (y == c).astype(int), (decided == c).astype(int)
        rates = MetricFrame(
            metrics={"tpr": true_positive_rate, "fpr": false_positive_rate},
            y_true=own, y_pred=hit, sensitive_features=g,
        ).difference(method="between_groups")  # fmt: skip
        expected = {
            "spd": demographic_parity_difference(own, hit, sensitive_features=g),
            "eopp": equal_opportunity_difference(own, hit, sensitive_features=g),
            "eodds": (rates["tpr"] + rates["fpr"]) / 2,
        }
        for metric, value in expected.items():
            assert found[f"{metric}@{name}"] == pytest.approx(value)
            gaps[metric].append(value)
        assert found[f"auc@{name}"] == pytest.approx(roc_auc_score(own, p[:, c]), abs=1e-9)
        assert found[f"tpr[1]@{name}"] == pytest.approx(
            true_positive_rate(own[g == 1], hit[g == 1])
        )
    for metric, of_classes in gaps.items():
        assert found[metric] == pytest.approx(np.mean(of_classes))
    assert found["sensitivity"] == pytest.approx(found["tpr@mel"])
    assert found["n_unknown"] == (frame["group"] < 0).sum() and found["n[1]"] == (g == 1).sum()


def test_a_missing_class_has_no_macro_value_and_says_why() -> None:
    frame = predictions()
    frame = frame[(frame["method"] == "swift") & (frame["fold"] == 0) & (frame["label"] != 2)]
    found = one_vs_rest.score(frame, 2, CLASSES).set_index("metric")
    assert np.isnan(found.loc["auc", "value"])
    assert found.loc["auc", "reason"] == "auc@bcc: no sample of class bcc"
    assert found.loc["auc@mel", "value"] > 0.5
    for metric in ("dtpr", "selection_rate"):
        assert np.isnan(found.loc[metric, "value"])
        assert f"{metric}@<class>" in found.loc[metric, "reason"]


def test_two_classes_as_two_of_three_are_today_s() -> None:
    """A third class that nobody has and nothing is decided for: metrics of a class are today's."""
    frame = predictions(folds=1, methods=["a"])
    frame = frame[frame["label"] < 2]
    one = frame["score_1"] / (frame["score_0"] + frame["score_1"])
    two = frame.assign(score_0=1 - one, score_1=one, score_2=0.0)
    many = one_vs_rest.score(two, 2, ("no", "yes", "never")).set_index("metric")["value"]
    binary = metrics.score(two.assign(score=one.astype("float64")), 2).set_index("metric")["value"]
    for metric in ("auc", "spd", "eodds", "eopp", "brier", "tpr[0]"):
        assert many[f"{metric}@yes"] == pytest.approx(binary[metric], abs=1e-6)
    assert many["eodds@no"] == pytest.approx(binary["eodds"])  # of both classes the same


def test_intervals_of_a_class_are_those_of_its_problem() -> None:
    """AUC by the probability, rates by the decisions, both by the road of two classes."""
    frame = predictions()
    found = class_intervals.class_intervals(frame, CLASSES, 2, 0, permutations=40)
    rows = found.set_index(["metric", "method"])
    scored = one_vs_rest.score(frame[frame["method"] == "swift"].query("fold == 0"), 2, CLASSES)
    scored = scored.set_index("metric")["value"]
    other = one_vs_rest.score(frame[frame["method"] == "swift"].query("fold == 1"), 2, CLASSES)
    mean = (scored + other.set_index("metric")["value"]) / 2
    for metric in ("auc", "balanced_accuracy", "eodds", "spd", "eodds@mel", "auc@bcc", "dtpr@mel"):
        assert rows.loc[(metric, "swift"), "value"] == pytest.approx(mean[metric], abs=1e-6)
    decided = frame[COLUMNS].to_numpy().argmax(axis=1) == 1
    problem = frame.assign(label=(frame["label"] == 1).astype("int8"), score=decided.astype(float))
    binary = setup_intervals(problem.drop(columns=COLUMNS), 2, 0, permutations=40)
    binary = binary.set_index(["metric", "method"])
    for column in ("low", "high", "floor_95", "difference", "difference_low"):
        expected = binary.loc[("eodds", "swift"), column]
        assert rows.loc[("eodds@mel", "swift"), column] == pytest.approx(expected)
    for metric in ("eodds", "spd"):
        assert np.isnan(
            rows.loc[(metric, "swift"), ["low", "high", "floor_95"]].astype(float)
        ).all()
        assert f"{metric}@<class>" in rows.loc[(metric, "swift"), "reason"]


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy"])
def test_macro_intervals_are_as_wide_as_the_bootstrap_s(metric: str) -> None:
    """Of one model: the standard error against 300 draws of patients."""
    frame = predictions(3, n=300, folds=1, methods=["a"])
    frame = frame[frame["group"] >= 0].reset_index(drop=True)
    found = class_intervals.class_intervals(frame, CLASSES, 2, 0, permutations=0, baseline=None)
    row = found[found["metric"] == metric].iloc[0]
    assert row["low"] < row["value"] < row["high"]
    by_patient = frame.groupby("patient_id").indices
    people, rng, drawn = list(by_patient), np.random.default_rng(0), []
    y, p = frame["label"].to_numpy(), frame[COLUMNS].to_numpy(float)
    for _ in range(300):
        at = np.concatenate([by_patient[k] for k in rng.choice(people, len(people))])
        if metric == "auc":
            drawn.append(np.mean([area(p[at, c], y[at] == c) for c in range(3)]))
        else:
            hits = y[at] == p[at].argmax(axis=1)
            drawn.append(np.mean([hits[y[at] == c].mean() for c in range(3)]))
    assert np.sqrt(row["variance_test"]) == pytest.approx(np.std(drawn), rel=0.15)


def area(scores: np.ndarray, positive: np.ndarray) -> float:
    """AUC by counting pairs."""
    pairs = scores[positive][:, None] - scores[~positive]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_names_of_metrics_of_a_class() -> None:
    assert "auc@mel" in words.HIGHER_IS_BETTER and "auc@mel" not in words.LOWER_IS_BETTER
    assert "eodds@mel" in words.HIGHER_IS_BETTER | words.LOWER_IS_BETTER
    assert "auc@external" not in words.HIGHER_IS_BETTER  # no decision, so there is none
    assert words.title("eodds@mel") == "EOdds, mel"
    assert words.title("eodds@external") == "EOdds, ext. threshold"


def manifest(words: list[str | None]) -> ManifestResult:
    frame = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(words))], "diagnosis": words})
    frame = frame.assign(label=np.int8(0)).astype({"diagnosis": "str"})
    return ManifestResult(frame, {"rows_kept": 0, "rules": [], "notes": [], "values": {}})


def test_classes_of_a_manifest() -> None:
    given = manifest(["NV", "mel", " MEL", "other", "BCC", "7"])
    classes = {"nevus": ["nv"], "mel": ["MEL", "lentigo maligna"], "bcc": ["BCC", "7.0"]}
    frame, log = label_classes(given, classes, "d")
    assert frame["label"].tolist() == [0, 1, 1, 2, 2] and str(frame["label"].dtype) == "int8"
    assert frame["image_id"].tolist() == ["i0", "i1", "i2", "i4", "i5"]
    (rule,) = log["rules"]
    assert (rule["removed"], rule["examples"]) == (1, ["i3"])
    assert [note["examples"] for note in log["notes"]] == [["lentigo maligna"]]
    became = {row["value"]: row["became"] for row in log["values"]["label"]}
    assert became["other"] is None and became["NV"] == "nevus"
    with pytest.raises(
        UserError, match=r"classes\.bcc: no row of d has the diagnosis XYZ; its .*'NV'"
    ):
        label_classes(given, {**classes, "bcc": ["XYZ"]}, "d")
