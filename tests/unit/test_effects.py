"""Effects of settings: against least squares, a bootstrap, and what was planted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from swift_debias.config.crossing import crossing
from swift_debias.evaluation.effects import METRICS, effects
from swift_debias.report import figures

FACTORS = {"mask": ("soft", "none"), "batchnorm": ("train", "eval"), "lambda": (0.1, 0.8)}
FOLDS, REPEATS, N = 4, 2, 400


def variants(factors: dict[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """All combinations of the factors' values, with names of their levels."""
    return {
        "v" + "".join(map(str, levels)): {
            **{key: of[level] for (key, of), level in zip(factors.items(), levels, strict=True)},
            **{"title": str(levels), "algorithm": "swift"},
        }
        for levels in itertools.product((0, 1), repeat=len(factors))
    }


def predictions(seed: int, lean: dict[str, float], patients: int = N) -> pd.DataFrame:
    """Scores that lean on the group by the sum of what each factor at its second value adds."""
    rng = np.random.default_rng(seed)
    label, group = np.repeat([0, 1], N // 2), np.arange(N) % 2
    core = 1.5 * (2 * label - 1) + rng.normal(0, 1, N)
    frames = []
    for method in variants(FACTORS):
        second = [name for name, level in zip(FACTORS, method[1:], strict=True) if level == "1"]
        amount = lean["start"] + sum(lean.get(name, 0.0) for name in second)
        amount += lean.get("mask x batchnorm", 0.0) * ({"mask", "batchnorm"} <= set(second))
        for fold, repeat in itertools.product(range(FOLDS), range(REPEATS)):
            own = np.random.default_rng([seed, fold, repeat]).normal(0, 0.3, N)
            logit = core + own + amount * (group - 0.5)
            frame = pd.DataFrame(
                {"label": label, "group": group, "score": 1 / (1 + np.exp(-logit))}
            )
            frame[["dataset", "method", "fold", "repeat"]] = "test", method, fold, repeat
            frame["image_id"] = [f"i{n}" for n in range(N)]
            frame["patient_id"] = [f"p{n % patients}" for n in range(N)]
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def by_hand(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of every model."""
    rows = []
    for keys, part in frame.groupby(["method", "fold", "repeat"]):
        rates = (part["score"] >= 0.5).groupby([part["label"], part["group"]]).mean()
        fpr, tpr = (abs(rates[y, 0] - rates[y, 1]) for y in (0, 1))
        whole = (part["score"] >= 0.5).groupby(part["label"]).mean()
        values = {
            "eodds": (tpr + fpr) / 2,
            "eopp": tpr,
            "eodds_max": max(tpr, fpr),
            "balanced_accuracy": (whole[1] + 1 - whole[0]) / 2,
            "auc": roc_auc_score(part["label"], part["score"]),
        }
        rows.append((*keys, values[metric]))
    return pd.DataFrame(rows, columns=["method", "fold", "repeat", "value"])


LEAN = {"start": 0.4, "mask": 0.1, "lambda": 0.9, "mask x batchnorm": 0.5}


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy", "eodds", "eopp", "eodds_max"])
def test_effects_are_twice_the_coefficients_of_least_squares(metric: str) -> None:
    frame = predictions(0, LEAN)
    found = effects(frame, crossing(variants(FACTORS)), [metric], 2).set_index("effect")
    values = by_hand(frame, metric)
    signs = np.array([[2 * int(level) - 1 for level in name[1:]] for name in values["method"]])
    names, columns = [], []
    for size in (1, 2):
        for some in itertools.combinations(range(3), size):
            names.append(" x ".join(list(FACTORS)[place] for place in some))
            columns.append(signs[:, list(some)].prod(axis=1))
    design = np.column_stack([np.ones(len(signs)), *columns])
    fitted = np.linalg.lstsq(design, values["value"], rcond=None)[0][1:]
    assert list(found.index) == names
    np.testing.assert_allclose(found["value"], 2 * fitted, atol=1e-9)
    assert list(found["interaction"]) == [False] * 3 + [True] * 3
    assert set(found["n_folds"]) == {FOLDS}
    for name, column in zip(names, columns, strict=True):  # s_f^2 / K, of the folds' own effects
        values["signed"] = 2 * values["value"] * column
        folds = values.groupby("fold")["signed"].mean()
        assert found["variance_folds"][name] == pytest.approx(folds.var(ddof=1) / FOLDS, abs=1e-12)


def test_p_is_of_students_t_and_corrected_by_holm() -> None:
    found = effects(predictions(4, LEAN), crossing(variants(FACTORS)), ["eodds", "auc"], 2)
    error = np.sqrt(found["variance_test"] + found["variance_folds"])
    expected = 2 * stats.t.sf(abs(found["value"]) / error, found["df"])
    np.testing.assert_allclose(found["p"], expected, rtol=1e-9)
    np.testing.assert_allclose((found["low"] <= 0) & (found["high"] >= 0), found["p"] >= 0.05)
    for _, family in found.groupby("metric"):
        p = family["p"].to_numpy()
        at_least = [min(1, (p >= one).sum() * one) for one in p]  # then never below a smaller p's
        holm = [max(a for a, o in zip(at_least, p, strict=True) if o <= one) for one in p]
        np.testing.assert_allclose(family["p_holm"], holm)


def test_the_variance_over_patients_is_that_of_a_bootstrap() -> None:
    frame = predictions(1, LEAN, patients=N // 4)
    found = effects(frame, crossing(variants(FACTORS)), ["eodds"], 2).set_index("effect")
    first = frame[(frame["fold"] == 0) & (frame["repeat"] == 0) & (frame["method"] == "v000")]
    cells = [
        ((first["label"] == y) & (first["group"] == g)).to_numpy() for y in (0, 1) for g in (0, 1)
    ]
    keys = list(frame.groupby(["method", "fold", "repeat"], sort=True).groups)
    decided = np.array(
        [part["score"].to_numpy() >= 0.5 for _, part in frame.groupby(["method", "fold", "repeat"])]
    )
    weights = np.array([[2 * int(level) - 1 for level in key[0][1:]] for key in keys]) / (
        len(keys) / 2
    )
    rng = np.random.default_rng(0)
    whose = first["patient_id"].str[1:].astype(int).to_numpy()
    drawn = []
    for _ in range(1500):
        times = np.bincount(rng.integers(0, N // 4, N // 4), minlength=N // 4)[whose]
        rates = [(decided[:, cell] * times[cell]).sum(1) / times[cell].sum() for cell in cells]
        gaps = (abs(rates[0] - rates[1]) + abs(rates[2] - rates[3])) / 2
        drawn.append(gaps @ weights)
    expected = np.var(drawn, axis=0)
    np.testing.assert_allclose(found["variance_test"].iloc[:3], expected, rtol=0.15)


def test_planted_effects_are_found_and_others_are_not() -> None:
    """What is planted is found; of what is not, the intervals and Holm's correction err as said."""
    factors = {"mask": ("soft", "none"), "lambda": (0.1, 0.8)}
    design, runs, n = crossing(variants(factors)), 50, 400
    covered, false = 0, 0
    label, group = np.repeat([0, 1], n // 2), np.arange(n) % 2
    ids = [f"i{i}" for i in range(n)]
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        core = 1.5 * (2 * label - 1) + rng.normal(0, 1, n)
        frames = []
        for method in variants(factors):
            amount = 2.4 - 1.6 * int(method[2])  # lambda is worth something, the mask nothing
            for fold in range(5):
                training = rng.normal(0, 0.3)  # of each model its own lean on the group
                logit = core + rng.normal(0, 0.3, n) + (amount + training) * (group - 0.5)
                frame = pd.DataFrame(
                    {"label": label, "group": group, "score": logit, "image_id": ids}
                )
                frames.append(frame.assign(dataset="test", method=method, fold=fold))
        found = effects(pd.concat(frames), design, ["eodds"], 2, threshold=0.0)
        found = found.set_index("effect")
        null = found.drop("lambda")
        covered += int(((null["low"] <= 0) & (null["high"] >= 0)).sum())
        false += int((null["p_holm"] < 0.05).any())
        assert found["value"]["lambda"] < 0 and found["p_holm"]["lambda"] < 0.05
    assert covered >= 0.9 * runs * 2
    assert false <= 0.1 * runs


def test_a_setting_that_changes_nothing_has_no_effect() -> None:
    frame = predictions(3, {"start": 1.0, "lambda": -0.5})
    found = effects(frame, crossing(variants(FACTORS)), ["eodds", "auc"], 2)
    null = found[found["effect"] != "lambda"]
    assert (null[["value", "low", "high", "variance_test"]] == 0).all(axis=None)
    assert null["p_holm"].isna().all()


def test_decisions_by_rule_and_external_thresholds_count() -> None:
    """As if the scores had been moved to where 0.5 decides so; AUC looks at the scores alone."""
    frame, design = predictions(5, LEAN), crossing(variants(FACTORS))
    metrics = ["eodds", "balanced_accuracy", "auc"]
    plain = effects(frame, design, metrics, 2)
    at = frame["method"].map({m: 0.3 + 0.02 * n for n, m in enumerate(variants(FACTORS))})
    external = [f"{metric}@external" for metric in metrics[:2]]
    found = effects(frame.assign(threshold=at), design, [*external, "auc"], 2)
    moved = effects(frame.assign(score=(frame["score"] >= at) * 1.0), design, metrics[:2], 2)
    numbers = ["value", "low", "high", "p_holm"]
    decided = found[found["metric"] != "auc"]
    assert list(dict.fromkeys(decided["metric"])) == external
    pd.testing.assert_frame_equal(decided[numbers], moved[numbers])
    auc = plain[plain["metric"] == "auc"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[found["metric"] == "auc"].reset_index(drop=True), auc)
    ruled = frame.assign(decision=(frame["score"] >= at).astype("float64"))
    by_rule = effects(ruled, design, metrics, 2)
    pd.testing.assert_frame_equal(by_rule[by_rule["metric"] != "auc"][numbers], moved[numbers])
    pd.testing.assert_frame_equal(
        by_rule[by_rule["metric"] == "auc"], plain[plain["metric"] == "auc"]
    )


def test_the_drawing_shows_the_metrics_that_there_are() -> None:
    assert figures.facts("effects").metrics == METRICS


def test_unequal_images_of_a_fold_are_left_out() -> None:
    frame = predictions(2, LEAN)
    missing = (frame["method"] == "v101") & (frame["fold"] == 3)
    found = effects(frame[~missing], crossing(variants(FACTORS)), ["auc"], 2)
    whole = effects(frame[frame["fold"] != 3], crossing(variants(FACTORS)), ["auc"], 2)
    pd.testing.assert_frame_equal(found, whole)
    assert set(found["n_folds"]) == {3}


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True), st.randoms())
def test_a_crossing_is_found_in_any_order(names: list[str], random: Any) -> None:
    factors = {name: (f"{name}0", f"{name}1") for name in names}
    made = list(variants(factors).items())
    random.shuffle(made)
    design = crossing(dict(made))
    start = made[0][1]
    assert set(design.factors) == set(names)
    for name, (first, second) in design.factors.items():
        assert (first, second) == (start[name], next(v for v in factors[name] if v != start[name]))
    for weights in design.effects().values():
        assert sum(weights.values()) == pytest.approx(0)
        assert sum(map(abs, weights.values())) == pytest.approx(2)
    if len(names) > 2:
        with pytest.raises(ValueError, match="no method has"):
            crossing(dict(made[1:]))


def test_settings_that_change_together_are_one_factor() -> None:
    swift = {"mask": "soft", "step1": True, "algorithm": "swift"}
    full = {"balanced": True, "algorithm": "fullft"}
    assert crossing({"a": swift, "b": full}).factors == {"algorithm": ("swift", "fullft")}
    four = {
        f"v{x}{y}": {"mask": "ab"[x], "lr": "ab"[y], "decay": "cd"[y]}
        for x, y in itertools.product((0, 1), repeat=2)
    }
    assert crossing(four).factors == {"mask": ("a", "b"), "lr": ("a", "b")}


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}, "x has more than two values: 1, 2, 3"),
        ({"a": {"x": 1}, "b": {"x": 1, "title": "B"}}, "a and b have the same settings"),
        ({"a": {"x": 1}}, "name two methods or more"),
        (
            {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}, "c": {"x": 1, "y": 2}},
            "2 settings differ, and no method has x: 2, y: 2",
        ),
    ],
)
def test_what_is_no_crossing(given_: dict[str, dict[str, Any]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        crossing(given_)
