"""The metrics of a disease against loops over thresholds and scikit-learn, and who names it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from tests.adversarial import settings_world as world
from tests.keys.conftest import changed

from swift_debias.config import schema
from swift_debias.evaluation import metrics

NAMES = ("sensitivity", "specificity", "sensitivity_at_80", "sensitivity_at_90")


def drawn(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Scores with ties, of three groups and the unknown."""
    label = rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-(label + rng.normal(size=n))))
    digits = int(rng.choice([1, 2, 7]))
    return pd.DataFrame(
        {
            "dataset": "x",
            "label": label.astype("int8"),
            "group": rng.integers(-1, 3, n),
            "score": score.round(digits).astype("float32"),
        }
    )


def by_loop(labels: np.ndarray, scores: np.ndarray, disease: int, least: float) -> float:
    """Every threshold between scores, one after the other; counts, no shares."""
    ill = labels == disease
    turned = scores if disease == 1 else -scores
    best = 0
    for threshold in [*np.unique(turned), np.inf]:
        called = turned >= threshold
        healthy = np.sum(~called & ~ill)
        if healthy * 100 >= round(least * 100) * np.sum(~ill):
            best = max(best, np.sum(called & ill))
    return best / ill.sum()


@pytest.mark.parametrize("disease", [0, 1])
def test_against_a_loop_and_scikit_learn(disease: int) -> None:
    """200 tables: all images, and those of every group."""
    rng, compared = np.random.default_rng(disease), 0
    for _ in range(40):
        frame = drawn(rng, int(rng.integers(8, 120)))
        scored = metrics.score(frame, 3, disease=disease).set_index("metric")
        for suffix, part in {
            "": frame[frame.group >= 0],
            **{f"[{group}]": frame[frame.group == group] for group in range(3)},
        }.items():
            labels, scores = part.label.to_numpy(), part.score.to_numpy(np.float64)
            values = scored["value"].filter(items=[name + suffix for name in NAMES]).tolist()
            both = set(labels) == {0, 1}
            if not both:
                reasons = scored["reason"].filter(items=[f"sensitivity_at_80{suffix}"])
                absent = set(reasons) - {"no sample"}
                assert absent <= {f"no sample of class {label}" for label in {0, 1} - set(labels)}
                continue
            decisions = (scores >= 0.5).astype(int)
            expected = [
                sk.recall_score(labels, decisions, pos_label=disease),
                sk.recall_score(labels, decisions, pos_label=1 - disease),
                by_loop(labels, scores, disease, 0.8),
                by_loop(labels, scores, disease, 0.9),
            ]
            assert values == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared > 100


def test_eight_of_ten_is_eighty_percent() -> None:
    """A threshold that keeps exactly 8 of 10 of the healthy counts, and one of 79 % does not."""
    scores = np.r_[np.linspace(0.1, 0.55, 8), 0.7, 0.8, 0.6, 0.6]  # 8 + 2 healthy, 2 ill
    frame = pd.DataFrame({"dataset": "x", "label": [0] * 10 + [1] * 2, "group": 0, "score": scores})
    found = metrics.score(frame, 2, disease=1).set_index("metric")["value"]
    assert found["sensitivity_at_80"] == 1.0
    assert found["sensitivity_at_90"] == 0.0
    turned = frame.assign(label=1 - frame.label, score=1 - frame.score)
    again = metrics.score(turned, 2, disease=0).set_index("metric")["value"]
    assert (again["sensitivity_at_80"], again["sensitivity_at_90"]) == (1.0, 0.0)


def test_without_a_disease_nothing_changes() -> None:
    frame = drawn(np.random.default_rng(0), 100)
    plain, more = metrics.score(frame, 3), metrics.score(frame, 3, disease=0)
    of_disease = more["metric"].str.partition("[")[0].isin(NAMES)
    assert of_disease.sum() == 4 * len(NAMES)
    pd.testing.assert_frame_equal(more[~of_disease].reset_index(drop=True), plain)
    assert set(metrics.OF_DISEASE) == set(NAMES)


@pytest.mark.key("task.disease")
@pytest.mark.parametrize(("named", "label"), [("malignant", 0), ("benign", 1), (None, None)])
def test_the_class_that_a_task_names(make: Any, named: str | None, label: int | None) -> None:
    changes = {"tasks.skin.disease": named} if named else {}
    made = make("metrics.parquet", changes | {"experiments.table1.methods": ["baseline"]})
    found = pd.read_parquet(made).query("dataset == 'east' and fold == 0").set_index("metric")
    if named is None:
        assert not set(NAMES) & set(found.index)
        return
    scores = pd.read_parquet(made.parent / "predictions/skin/net/sex/baseline/fold0.parquet")
    scores = scores.query("dataset == 'east' and group >= 0")
    expected = sk.recall_score(scores.label, scores.score >= 0.5, pos_label=label)
    assert found["value"]["sensitivity"] == pytest.approx(expected)
    for group in (0, 1):
        part = scores[scores.group == group]
        curve = by_loop(part.label.to_numpy(), part.score.to_numpy(np.float64), int(label), 0.9)
        assert found["value"][f"sensitivity_at_90[{group}]"] == pytest.approx(curve)


def test_what_names_no_class_is_refused() -> None:
    message = world.read(changed({"tasks.skin.disease": "melanoma"}))
    assert isinstance(message, str)
    world.assert_one_line_each(message, "tasks.skin: disease: the classes are 'benign' and")
    views = [
        {"experiments.table1.metrics": ["auc", "sensitivity[1]"]},
        {"experiments.table1": figure(["auc", "specificity"])},
    ]
    for change in views:
        message = world.read(changed(change))
        assert isinstance(message, str)
        world.assert_one_line_each(message, "needs tasks.skin.disease")
        fine = world.read(changed(change | {"tasks.skin.disease": "malignant"}))
        assert isinstance(fine, schema.Settings)


def figure(axes: list[str]) -> dict[str, Any]:
    """A figure of two metrics."""
    panel = {"task": "skin", "backbone": "net", "attribute": "sex"}
    return {
        "kind": "figure",
        "plot": "pareto",
        "title": "Both",
        "methods": ["baseline", "fullft"],
        "panels": [panel],
        "options": {"axes": axes},
    }
