"""What reads decisions that a rule made: metrics, intervals, curves, audits and searches."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import fairlearn.metrics as fair
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import torch
from torch import nn

import swift_debias as sd
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
from swift_debias.evaluation import metrics
from swift_debias.evaluation.decision_rule import draws
from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.evaluation.thresholds import threshold_curve
from swift_debias.learning.inference import predict
from swift_debias.methods import _trials, base, threshold_optimizer
from swift_debias.methods._choice import Choice


def predictions(seed: int = 0, n: int = 300) -> pd.DataFrame:
    """One model's on one data set, with decisions that no threshold makes."""
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, n), rng.integers(-1, 2, n)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels + groups - 1)))
    return pd.DataFrame(
        {
            "dataset": "set",
            "image_id": [f"i{i}" for i in range(n)],
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "label": labels.astype("int8"),
            "group": groups.astype("int16"),
            "score": scores.astype("float32"),
            "threshold": np.nan,
            "decision": (rng.random(n) < 0.3 + 0.4 * labels).astype("int8"),
        }
    )


def expected(frame: pd.DataFrame) -> dict[str, float]:
    """scikit-learn's and fairlearn's, of rows of known group."""
    known = frame[frame["group"] >= 0]
    y, d, a = known["label"], known["decision"], known["group"]
    return {
        "balanced_accuracy": sk.balanced_accuracy_score(y, d),
        "accuracy": sk.accuracy_score(y, d),
        "spd": fair.demographic_parity_difference(y, d, sensitive_features=a),
        "eodds": fair.equalized_odds_difference(y, d, agg="mean", sensitive_features=a),
        "eodds_max": fair.equalized_odds_difference(y, d, sensitive_features=a),
        "eopp": fair.equal_opportunity_difference(y, d, sensitive_features=a),
    }


def test_metrics_of_decisions_are_of_the_rules_at_both_thresholds() -> None:
    """AUC and calibration stay those of the scores."""
    frame = predictions()
    found = metrics.score(frame, 2, disease=0).set_index("metric")
    for name, value in expected(frame).items():
        assert found.loc[name, "value"] == pytest.approx(value)
        assert found.loc[f"{name}@external", "value"] == pytest.approx(value)
    plain = metrics.score(frame.drop(columns=["decision", "threshold"]), 2, disease=0)
    plain = plain.set_index("metric")
    for name in ("auc", "ece", "brier", "auc[1]", "auc_gap", "sensitivity_at_90"):
        assert found.loc[name, "value"] == plain.loc[name, "value"]
    known = frame[frame["group"] >= 0]
    specificity = (known["decision"][known["label"] == 1] == 1).mean()  # class 0 is the disease
    assert found.loc["specificity", "value"] == pytest.approx(specificity)
    row = found.loc["threshold@external"]
    assert np.isnan(row["value"]) and row["reason"] == "a rule decides for each group"


def test_intervals_are_of_the_rules_decisions_too() -> None:
    """Beside a method that decides by its threshold, whose rows are as if alone."""
    frames = []
    for method, fold in [("baseline", 0), ("baseline", 1), ("rule", 0), ("rule", 1)]:
        frame = predictions(3).assign(method=method, fold=fold)
        rng = np.random.default_rng(fold)
        frame["score"] = (frame["score"] + rng.random(len(frame)) / 10).clip(0, 1)
        frame["decision"] = np.where(rng.random(len(frame)) < 0.1, 0, frame["decision"])
        if method == "baseline":
            frame = frame.drop(columns="decision").assign(threshold=0.45)
        frames.append(frame)
    together = pd.concat(frames, ignore_index=True)
    table = setup_intervals(together, 2, 0, 30).set_index(["metric", "method"])
    scored = [metrics.score(f, 2).set_index("metric")["value"] for f in frames]
    for name in ("eodds", "spd", "balanced_accuracy", "dtpr", "auc", "auc_gap"):
        for method, own in (("baseline", scored[:2]), ("rule", scored[2:])):
            row = table.loc[(name, method)]
            assert row["value"] == pytest.approx(np.mean([one[name] for one in own]))
            assert row["low"] <= row["value"] <= row["high"]
    for name in ("eodds", "spd", "balanced_accuracy"):
        at_own = table.loc[(f"{name}@external", "rule")]
        assert at_own["value"] == pytest.approx(table.loc[(name, "rule"), "value"])
        assert at_own["low"] == pytest.approx(table.loc[(name, "rule"), "low"])
    alone = setup_intervals(pd.concat(frames[:2], ignore_index=True), 2, 0, 30)
    alone = alone.set_index(["metric", "method"])
    pd.testing.assert_frame_equal(table.loc[alone.index], alone)


def test_no_threshold_changes_what_a_rule_decided() -> None:
    frame = predictions()
    curve = threshold_curve(frame, 2)
    for name in ("spd", "eodds", "balanced_accuracy"):
        assert (curve[name] == curve[name].iloc[0]).all()
        of_all = {"balanced_accuracy": sk.balanced_accuracy_score}
        if name in of_all:  # over all rows, of unknown group not
            known = frame[frame["group"] >= 0]
            value = of_all[name](known["label"], known["decision"])
        else:
            value = expected(frame)[name]
        assert curve[name].iloc[0] == pytest.approx(value)


# --- the front door -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> sd.ImageSet:
    """Label and group show in two channels; patients have two images, some groups are unknown."""
    rng = np.random.default_rng(0)
    labels, groups = np.arange(240) % 2, np.arange(240) // 2 % 2
    pixels = rng.integers(90, 130, (240, 8, 8, 3))
    pixels[..., 0] += (labels * 10 + rng.integers(0, 14, 240))[:, None, None]
    pixels[..., 2] += (groups * 12 + labels * 6)[:, None, None]
    return sd.ImageSet.from_arrays(
        pixels.clip(0, 255).astype(np.uint8), labels, groups, patients=np.arange(240) // 4
    )


def model() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        network[0].weight[0, :, 0, 0] = torch.tensor([2.0, 0.0, 2.0])
        network[3].weight[:] = torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    return network


def test_the_front_door_decides_by_the_rule(images: sd.ImageSet) -> None:
    """The model and its scores stay; decisions are the rule's, and an audit takes them."""
    external, test = images.split(0.5, seed=0)
    network = model()
    fitted = sd.ThresholdOptimizer(min_cell=2).fit(network, external)
    state = fitted.model_.state_dict()
    assert all(torch.equal(state[n], value) for n, value in network.state_dict().items())
    scores = fitted.predict_proba(test)
    np.testing.assert_allclose(scores, sd.predict_proba(network, test))
    own = sd.predict_proba(network, external)[:, 1]
    expected = threshold_optimizer.find_rule(
        own, external.labels.astype(int), external.groups.astype(int),
        threshold_optimizer.Settings(), fitted.rule_.seed,
    )  # fmt: skip
    probability = expected.probability(scores[:, 1], test.groups)
    np.testing.assert_allclose(fitted.rule_.probability(scores[:, 1], test.groups), probability)
    decided = fitted.predict(test)
    certain = (probability == 0) | (probability == 1)
    np.testing.assert_array_equal(decided[certain], probability[certain])
    assert (decided != (scores[:, 1] >= 0.5)).any()
    one = fitted.predict(test.subset(np.array([7])))
    assert one == decided[7]
    found = sd.audit(scores, test, decisions=decided).set_index("metric")["value"]
    assert found["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(test.labels, decided)
    )
    assert found["auc"] == pytest.approx(sk.roc_auc_score(test.labels, scores[:, 1]))
    eodds = fair.equalized_odds_difference(
        test.labels, decided, agg="mean", sensitive_features=test.groups
    )
    assert found["eodds"] == pytest.approx(eodds)


@pytest.mark.parametrize(
    "names", [("f", "m"), ("m", "f"), ("m", "x"), ("M", "x"), ("a", "f", "m"), ("x", "f")]
)
def test_a_rule_finds_groups_by_their_names(images: sd.ImageSet, names: tuple[str, ...]) -> None:
    """In whatever order a later set has them; who is of another group is decided at 0.5."""
    external, test = dataclasses.replace(images, group_names=("f", "m")).split(0.5, seed=0)
    fitted = sd.ThresholdOptimizer(min_cell=2).fit(model(), external)
    assert fitted.group_names_ == ("f", "m")
    rng = np.random.default_rng(1)
    groups = rng.integers(-1, len(names), len(test)).astype(np.int16)
    named = dataclasses.replace(test, groups=groups, group_names=names)
    scores = fitted.predict_proba(named)[:, 1]
    draw = draws(fitted.rule_.seed, named.rows.tolist())
    expected = []
    for score, group, drawn in zip(scores, groups, draw, strict=True):
        name = "unknown" if group < 0 else names[group].lower()
        if name in ("f", "m"):
            of_group = fitted.rule_.groups[("f", "m").index(name)]
            expected.append(drawn < of_group.probability(np.array([score]))[0])
        else:
            expected.append(score >= 0.5)
    np.testing.assert_array_equal(fitted.predict(named), expected)


def test_a_rule_of_other_groups_is_not_applied(images: sd.ImageSet) -> None:
    fitted = sd.ThresholdOptimizer(min_cell=2).fit(model(), images)
    other = dataclasses.replace(images, group_names=("young", "old"))
    with pytest.raises(UserError, match=r"'young', 'old'.*none of.*'0', '1'"):
        fitted.predict(other)


def test_a_method_without_a_rule_says_so(images: sd.ImageSet) -> None:
    fitted = sd.Baseline(min_cell=2).fit(model(), images)
    with pytest.raises(AttributeError, match="Baseline with these settings has no rule_"):
        fitted.rule_  # noqa: B018


@pytest.mark.parametrize("decisions", [np.zeros(3), np.full(240, 0.5), np.full(240, np.nan)])
def test_an_audit_refuses_what_is_no_decision(images: sd.ImageSet, decisions: Any) -> None:
    with pytest.raises(UserError, match="decisions must be 240 numbers, 0 or 1"):
        sd.audit(np.full(240, 0.5), images, decisions=decisions)


def test_more_than_two_classes_have_no_rule(images: sd.ImageSet) -> None:
    rng = np.random.default_rng(0)
    three = sd.ImageSet.from_arrays(
        rng.integers(0, 255, (90, 8, 8, 3)).astype(np.uint8), np.arange(90) % 3,
        np.arange(90) // 3 % 2, classes=[0, 1, 2],
    )  # fmt: skip
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(
        UserError, match="threshold_optimizer cuts the score of class 1; here are 3"
    ):
        sd.ThresholdOptimizer(min_cell=2).fit(network, three)
    with pytest.raises(UserError, match="threshold: learned chooses by one score of class 1"):
        sd.SWiFT(min_cell=2, threshold="learned").fit(network, three)


# --- a search -------------------------------------------------------------------------------------


def test_a_search_judges_the_rules_decisions(
    tmp_path: Path, make_samples: Any, make_classifier: Any, train: Any
) -> None:
    """Recomputed from each trial's rule, and the same from a journal."""
    classifier = train(make_classifier(0), make_samples(160, seed=9, correlation=0.9))
    samples = make_samples(160, seed=20, correlation=0.3)
    select = np.arange(160) >= 100
    fold = _trials.Fold(classifier, samples, np.arange(160), 5, 6, select)
    grid = {"constraint": ("equalized_odds", "demographic_parity")}
    training = base.Training(
        Pretraining(epochs=2, batch_size=32, optimizer=Optimizer(name="sgd", lr=0.1)),
        Finetuning(min_cell=2),
        Augmentation(),
        Compute(device="cpu"),
    )

    def search() -> dict[str, Any]:
        return _trials.search(
            [lambda: fold], Method(algorithm="threshold_optimizer", search=grid),
            Choice(None, 0, {}), training, Selection(), tmp_path, "key", io.StringIO(),
        )  # fmt: skip

    found = search()
    rest, fit = samples.subset(select), samples.subset(~select)
    scores, own = (predict(classifier, s).double().sigmoid().numpy() for s in (rest, fit))
    labels, groups = rest.labels.numpy(), rest.attributes.numpy()
    for trial, constraint in zip(found["trials"], grid["constraint"], strict=True):
        outcome = base.debias(
            classifier, fit, np.ones(100, bool), 2,
            Method(algorithm="threshold_optimizer", constraint=constraint), training,
            lambda: Choice(None, 0, {}), seed=5, set_seed=6, log=io.StringIO(),
        )  # fmt: skip
        assert outcome.rule is not None
        rule = threshold_optimizer.find_rule(
            own, fit.labels.numpy().astype(int), fit.attributes.numpy(),
            threshold_optimizer.Settings(constraint=constraint), outcome.rule.seed,
        )  # fmt: skip
        decided = rule.decide(scores, groups, rest.rows.tolist())
        eodds = fair.equalized_odds_difference(
            labels, decided, agg="mean", sensitive_features=groups
        )
        assert trial["eodds"] == pytest.approx(eodds)
        assert trial["balanced_accuracy"] == pytest.approx(
            sk.balanced_accuracy_score(labels, decided)
        )
        assert trial["auc"] == pytest.approx(sk.roc_auc_score(labels, scores))
    assert found["trials"][0]["eodds"] != found["trials"][1]["eodds"]
    again = search()
    assert again | {"seconds": 0, "images_seen": 0} == found | {"seconds": 0, "images_seen": 0}
