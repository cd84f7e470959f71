"""The noise floor against loops, and against fair classifiers drawn anew."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.clustered import Drawn, Model, World, draw

from swift_debias.evaluation import intervals, metrics
from swift_debias.evaluation import noise_floor as floors
from swift_debias.evaluation.noise_floor import GAPS, below_floor, noise_floor, summary

FAIR = World(300, 0.3, 3, (Model(),), shift_sd=0.0)


def as_test_set(data: Drawn, groups: int = 2) -> intervals.TestSet:
    return intervals.TestSet.of(data.labels, data.groups, data.patients, groups)


def brute_force(data: Drawn, groups: np.ndarray, n_groups: int) -> pd.Series:
    """The mean over folds of what metrics.py says, and the gap of the FPR."""
    found = []
    for scores in data.scores[0]:
        rows = {"dataset": "x", "label": data.labels, "group": groups, "score": scores}
        scored = metrics.score(pd.DataFrame(rows), n_groups, min_group=1)
        found.append(scored.set_index("metric")["value"])
    mean = sum(found) / len(found)
    rates = [[one[f"fpr[{g}]"] for g in range(n_groups)] for one in found]
    mean["fpr_gap"] = np.mean(np.ptp(rates, axis=1))
    return mean


@pytest.mark.parametrize("n_groups", [2, 3])
def test_one_permutation_against_the_metrics(n_groups: int) -> None:
    rng = np.random.default_rng(0)
    data = draw(World(150, 0.4, 2, (Model(gaps=(0.5, 0.5)), Model())), rng)
    if n_groups == 3:
        groups = rng.integers(0, 3, 150)[data.patients]
        data = Drawn(data.labels, groups, data.patients, data.scores)
    test = as_test_set(data, n_groups)
    drawn = noise_floor(test, data.scores, np.random.default_rng(1), 5)
    assert set(drawn) == set(GAPS)
    units, groups, strata = floors._units(test)
    permuted = floors._permuted(groups, strata, 5, np.random.default_rng(1))
    for r in range(5):
        expected = brute_force(data, permuted[r][units], n_groups)
        for name in ("spd", "eopp", "fpr_gap", "eodds", "eodds_max"):
            assert drawn[name][0, r] == pytest.approx(expected[name]), name
        # to first order
        assert drawn["auc_gap"][0, r] == pytest.approx(expected["auc_gap"], abs=0.02)


def test_groups_are_permuted_among_patients_alike() -> None:
    data = draw(World(400, 0.4, 1, (Model(),)), np.random.default_rng(3))
    test = as_test_set(data)
    units, groups, strata = floors._units(test)
    assert len(groups) == 400 and (groups[units] == data.groups).all()
    kinds = {}
    for unit in range(400):
        own = data.labels[units == unit]
        size = int(np.digitize(len(own), [2, 4, 9]))
        kinds.setdefault((tuple(sorted(set(own.tolist()))), size), set()).add(strata[unit])
    assert all(len(found) == 1 for found in kinds.values())
    assert len(kinds) == len(set(strata))
    permuted = floors._permuted(groups, strata, 50, np.random.default_rng(0))
    for stratum in np.unique(strata):
        own = permuted[:, strata == stratum].sum(axis=1)
        assert (own == groups[strata == stratum].sum()).all()
    assert (permuted != groups).any(axis=1).all()
    # somebody with images in two groups is handed two
    both = Drawn(data.labels, np.arange(len(data.labels)) % 2, data.patients, data.scores)
    assert len(floors._units(as_test_set(both))[1]) > 400


def test_the_floor_of_a_fair_classifier_is_what_fair_classifiers_have() -> None:
    """Patients, images and models drawn anew, 300 times: the same mean and 95 % point."""
    rng = np.random.default_rng(5)
    names = ("eopp", "eodds", "eodds_max", "auc_gap", "spd")
    fresh, floors = [], []
    for run in range(300):
        data = draw(FAIR, rng)
        model = intervals.rates(as_test_set(data), data.scores[0])
        fresh.append([intervals.of_method(model, name).value for name in names])
        if run % 5 == 0:
            drawn = noise_floor(as_test_set(data), data.scores, rng, 200)
            floors.append([summary(drawn[name][0]) for name in names])
    mean, high = np.mean(floors, axis=0).T
    assert mean == pytest.approx(np.mean(fresh, axis=0), rel=0.12)
    assert high == pytest.approx(np.quantile(fresh, 0.95, axis=0), rel=0.18)


def test_a_fair_classifier_is_below_its_floor_19_times_in_20() -> None:
    rng = np.random.default_rng(6)
    below = {"fair": [], "unfair": []}
    for _ in range(100):
        for name, gaps in (("fair", (0.0, 0.0)), ("unfair", (0.8, 0.8))):
            data = draw(World(300, 0.3, 2, (Model(gaps=gaps),), shift_sd=0.0), rng)
            test = as_test_set(data)
            floor = summary(noise_floor(test, data.scores, rng, 200)["eodds"][0])[1]
            value = intervals.of_method(intervals.rates(test, data.scores[0]), "eodds").value
            below[name].append(below_floor(value, floor))
    assert 0.89 <= np.mean(below["fair"]) <= 0.99
    assert np.mean(below["unfair"]) < 0.05


def test_the_same_permutations_for_every_method_and_chunk() -> None:
    data = draw(World(100, 0.4, 2, (Model(), Model())), np.random.default_rng(7))
    test = as_test_set(data)
    twice = np.stack([data.scores[0], data.scores[0]])
    drawn = noise_floor(test, twice, np.random.default_rng(0), 30)
    for values in drawn.values():
        assert values.shape == (2, 30)
        assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_a_single_group_has_no_floor() -> None:
    data = draw(World(50, 0.4, 2, (Model(),)), np.random.default_rng(8))
    test = intervals.TestSet.of(data.labels, 0 * data.groups, data.patients, 2)
    drawn = noise_floor(test, data.scores, np.random.default_rng(0), 5)
    assert all(np.isnan(values).all() for values in drawn.values())
