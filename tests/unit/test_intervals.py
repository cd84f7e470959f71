"""The interval: its parts against their definitions, its coverage against a known truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from benchmarks.coverage import MODELS, cells, coverage
from scipy import stats
from sklearn.metrics import roc_auc_score
from tests.clustered import NIH_IMAGES, Drawn, Model, World, draw

from swift_debias.evaluation import influence, metrics
from swift_debias.evaluation import intervals as iv
from swift_debias.evaluation.power import power
from swift_debias.evaluation.setup_intervals import COLUMNS, setup_intervals

SMALL = World(120, 0.4, 3, MODELS)
NAMES = ("auc", "spd", "eodds", "eodds_max", "eopp", "auc_min", "auc_gap", "balanced_accuracy")


def drawn(seed: int = 0, world: World = SMALL, groups: int = 2) -> tuple[Drawn, iv.TestSet]:
    rng = np.random.default_rng(seed)
    data = draw(world, rng)
    if groups > 2:
        of_patient = rng.integers(0, groups, world.patients)
        data = replace(data, groups=of_patient[data.patients])
    return data, iv.TestSet.of(data.labels, data.groups, data.patients, groups)


def frame(data: Drawn, methods: tuple[str, ...] = ("baseline", "swift")) -> pd.DataFrame:
    n = len(data.labels)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "method": method,
                    "fold": fold,
                    "dataset": "ddi",
                    "image_id": [f"i{i}" for i in range(n)],
                    "patient_id": [f"p{p}" for p in data.patients],
                    "label": data.labels.astype("int8"),
                    "group": data.groups.astype("int16"),
                    "score": data.scores[m, fold],
                }
            )
            for m, method in enumerate(methods)
            for fold in range(data.scores.shape[1])
        ],
        ignore_index=True,
    )


# --- influences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_an_influence_is_the_derivative_by_a_patients_weight(ties: bool) -> None:
    """Scikit-learn's weighted AUC, and a weighted rate, with one patient counting a little more."""
    data, _ = drawn(1)
    scores = np.round(data.scores[0], 1) if ties else data.scores[0]
    rows = np.flatnonzero(data.labels == 1)
    area = influence.auc(
        scores, rows, np.flatnonzero(data.labels == 0), data.patients, SMALL.patients
    )
    hits = (scores[:, rows] >= 0.5).astype(float)
    rate = influence.ratio(hits, np.ones(len(rows)), data.patients[rows], SMALL.patients)
    plain = [roc_auc_score(data.labels, model) for model in scores]
    assert area.values == pytest.approx(plain, abs=1e-12)
    assert rate.values == pytest.approx(hits.mean(axis=1))
    step = 1e-5
    for patient in range(0, SMALL.patients, 7):
        weights = 1 + step * (data.patients == patient)
        moved = [roc_auc_score(data.labels, m, sample_weight=weights) for m in scores]
        count = np.array([np.sum((data.patients == patient) & (data.labels == y)) for y in (0, 1)])
        share = count / np.array([np.sum(data.labels == y) for y in (0, 1)])
        slope = (np.mean(moved) - np.mean(plain)) / step
        # images of one class only: the correction for the patient's own pull is one factor
        if (count == 0).any():
            expected = slope / np.sqrt(1 - share.max())
            assert area.influence[patient] == pytest.approx(expected, abs=1e-6)
        mean = np.average(hits, axis=1, weights=weights[rows]).mean()
        slope = (mean - hits.mean()) / step
        assert rate.influence[patient] == pytest.approx(slope / np.sqrt(1 - share[1]), abs=1e-6)


def test_with_an_image_a_patient_the_variance_is_the_binomial_one() -> None:
    hits = np.random.default_rng(0).integers(0, 2, (1, 50)).astype(float)
    part = influence.ratio(hits, np.ones(50), np.arange(50), 50)
    assert part.variance == pytest.approx(hits.var(ddof=1) / 50)
    assert part.patients == 50
    assert part.uniform == 0
    sure = influence.ratio(np.ones((2, 10)), np.ones(10), np.arange(10), 10)
    assert sure.value == 1 and sure.variance == pytest.approx(2 / 14 * 12 / 14 / 14)
    # two methods that err nowhere here might elsewhere, together or apart
    assert sure.paired(sure).variance == sure.variance < (sure - sure).variance
    assert part.paired(part).variance == 0


def test_effective_patients() -> None:
    assert influence.effective_patients(np.array([1.0, 1, 1, 0])) == 3
    assert influence.effective_patients(np.array([3.0, 1])) == 16 / 10
    assert influence.effective_patients(np.zeros(2)) == 0
    sizes = np.repeat([*NIH_IMAGES], [*NIH_IMAGES.values()])
    assert (len(sizes), sizes.sum()) == (1487, 5302)
    assert influence.effective_patients(sizes.astype(float)) == pytest.approx(505.4, abs=0.1)


def test_an_unknown_patient_is_a_person_for_each_image() -> None:
    codes = influence.patient_codes(np.array(["a", None, "b", "a", np.nan], object), 5)
    assert codes.tolist()[:4:3] == [0, 0]
    assert len(set(codes.tolist())) == 4
    assert influence.patient_codes(None, 3).tolist() == [0, 1, 2]
    assert sorted(influence.patient_codes(np.array([None, None], object), 2)) == [0, 1]


# --- one interval ---------------------------------------------------------------------------------


def test_the_interval_by_its_formula() -> None:
    values = np.array([0.10, 0.13, 0.08, 0.11])
    part = influence.Part(values, np.full(25, 0.002), 20.0)
    found = iv.estimate(part)
    test, folds = 25 * 0.002**2, values.var(ddof=1) / 4
    assert (found.variance_test, found.variance_folds) == pytest.approx((test, folds))
    df = (test + folds) ** 2 / (test**2 / 19 + folds**2 / 3)
    assert found.df == pytest.approx(df)
    half = stats.t.ppf(0.975, df) * np.sqrt(test + folds)
    assert found.bounds() == pytest.approx((values.mean() - half, values.mean() + half))
    assert found.another_pool().variance_folds == pytest.approx(values.var(ddof=1) * 9 / 4)
    logit, slope = np.log(0.105 / 0.895), 0.105 * 0.895
    ends = [1 / (1 + np.exp(-(logit + s * half / slope))) for s in (-1, 1)]
    assert found.bounds(limits=(0.0, 1.0)) == pytest.approx(ends)
    low, high = found.bounds(limits=(-1.0, 1.0))
    assert -1 < low < 0.105 < high < 1
    assert np.arctanh(0.105) - np.arctanh(low) == pytest.approx(half / (1 - 0.105**2))


def test_one_model_one_patient_or_no_variance() -> None:
    one = iv.estimate(influence.Part(np.array([0.2]), np.full(9, 0.01), 9.0))
    assert np.isnan(one.variance_folds) and one.df == 8
    half = stats.t.ppf(0.975, 8) * 0.03
    assert one.bounds() == pytest.approx((0.2 - half, 0.2 + half))
    alone = iv.estimate(influence.Part(np.array([0.2]), np.array([0.1]), 1.0))
    assert alone.df == 0 and np.isnan(alone.bounds()).all()
    same = iv.estimate(influence.Part(np.zeros(3), np.zeros(9), 9.0))
    assert same.bounds() == (0, 0)


def test_two_folds_weight_the_quantiles() -> None:
    part = influence.Part(np.array([0.1, 0.2]), np.full(30, 0.01), 30.0)
    found = iv.estimate(part)
    test, folds = 30 * 0.01**2, 0.005 / 2
    t = (test * stats.t.ppf(0.975, 29) + folds * stats.t.ppf(0.975, 1)) / (test + folds)
    assert found.bounds()[1] - found.value == pytest.approx(t * np.sqrt(test + folds))


@pytest.mark.parametrize("models", [1, 2, 3, 8])
@pytest.mark.parametrize("value", [0.003, 0.05, 0.0867, 0.2, 3.0])
def test_p_is_where_the_interval_ends_at_zero(models: int, value: float) -> None:
    for folds in (1e-6, 0.0004, 0.01):
        estimate = iv.Estimate(value, 0.0009, folds, models, 300.0)
        p = estimate.p()
        assert 0 < p < 1
        if p > 1e-11:  # the least that two folds' is told to
            assert estimate.bounds(1 - p)[0] == pytest.approx(0, abs=1e-6)
    unknown = iv.Estimate(value, 0.0, 0.0, models, 300.0)
    assert np.isnan(unknown.p())
    assert iv.Estimate(0.0, 0.0009, 0.0004, models, 300.0).p() == pytest.approx(1)


def test_projections_against_a_grid() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        d0, d1 = rng.uniform(-0.4, 0.4, 2)
        half = rng.uniform(0.01, 0.4, 3)
        before, after = (d0 - half[0], d0 + half[0]), (d1 - half[1], d1 + half[1])
        change = (d1 - d0 - half[2], d1 - d0 + half[2])
        x, y = np.meshgrid(np.linspace(*before, 301), np.linspace(*after, 301))
        inside = (y - x >= change[0]) & (y - x <= change[1])
        grid = (np.abs(y) - np.abs(x))[inside]
        low, high = iv.change_of_absolute(before, change, after)
        assert low <= grid.min() + 1e-9 and high >= grid.max() - 1e-9
        assert (low, high) == pytest.approx((grid.min(), grid.max()), abs=0.006)
        ends = np.abs(np.linspace(*before, 100_001))
        assert iv.absolute(before) == pytest.approx((ends.min(), ends.max()), abs=1e-4)


def test_eodds_is_projected_from_the_rates_intervals() -> None:
    data, test = drawn(2)
    base, model = (iv.rates(test, scores) for scores in data.scores)
    found = iv.of_method(base, "eodds")
    rates = [iv.signed(base.gaps[rate][0, 1], 0.975) for rate in ("tpr", "fpr")]
    ends = np.mean([iv.absolute(bounds) for bounds in rates], axis=0)
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    ranges = []
    for rate in ("tpr", "fpr"):
        old, new = base.gaps[rate][0, 1], model.gaps[rate][0, 1]
        ranges.append(
            iv.change_of_absolute(*(iv.signed(p, 0.9) for p in (old, new.paired(old), new)))
        )
    change = iv.of_difference(model, base, "eodds")
    assert (change.low, change.high) == pytest.approx(tuple(np.mean(ranges, axis=0)))
    # its variance: that of the linear statistic that it is near its value
    tpr, fpr = (base.gaps[rate][0, 1] for rate in ("tpr", "fpr"))
    combined = (np.sign(tpr.value) * tpr.influence + np.sign(fpr.value) * fpr.influence) / 2
    assert found.estimate.variance_test == pytest.approx(combined @ combined)


def test_patients_of_a_gap_are_those_of_its_smallest_cell() -> None:
    data, test = drawn(3)
    model = iv.rates(test, data.scores[0])
    counts = {
        (y, g): np.bincount(data.patients[(data.labels == y) & (data.groups == g)]).astype(float)
        for y in (0, 1)
        for g in (0, 1)
    }
    effective = {cell: n.sum() ** 2 / (n**2).sum() for cell, n in counts.items()}
    assert model.gaps["tpr"][0, 1].patients == pytest.approx(min(effective[1, 0], effective[1, 1]))
    assert model.gaps["auc"][0, 1].patients == pytest.approx(min(effective.values()))
    assert model.overall["auc"].patients == len(np.unique(data.patients))


def test_the_largest_gap_of_many_groups() -> None:
    """Simultaneous: the ends are those of the pairs' corrected intervals."""
    data, test = drawn(4, replace(SMALL, patients=300), groups=4)
    base, model = (iv.rates(test, scores) for scores in data.scores)
    pairs = list(combinations(range(4), 2))
    assert list(base.gaps["tpr"]) == pairs
    level = 1 - 0.05 / 6
    ends = [iv.absolute(iv.signed(base.gaps["tpr"][pair], level)) for pair in pairs]
    found = iv.of_method(base, "eopp")
    assert (found.low, found.high) == (max(e[0] for e in ends), max(e[1] for e in ends))
    for metric in (*iv.GAPS, "auc_min"):
        change = iv.of_difference(model, base, metric)
        assert change.low <= change.value <= change.high
        back = iv.of_difference(base, model, metric)
        assert (back.low, back.high) == pytest.approx((-change.high, -change.low))
        same = iv.of_difference(model, model, metric)
        assert same.value == 0 and same.low <= 0 <= same.high


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [2, 3])
def test_values_are_the_means_over_folds_of_the_metrics(groups: int) -> None:
    data, _ = drawn(5, groups=groups)
    predictions = frame(data)
    table = setup_intervals(predictions, groups, seed=0, permutations=50, min_group=5)
    assert list(table.columns) == COLUMNS
    rows = table.set_index(["metric", "method"])
    scored = {
        key: metrics.score(part, groups, min_group=5).set_index("metric")["value"]
        for key, part in predictions.groupby(["method", "fold"])
    }
    for metric in NAMES:
        means = {
            m: np.mean([scored[m, f][metric] for f in range(3)]) for m in ("baseline", "swift")
        }
        for method, mean in means.items():
            assert rows.loc[(metric, method), "value"] == pytest.approx(mean), metric
        difference = means["swift"] - means["baseline"]
        row = rows.loc[(metric, "swift")]
        assert row["difference"] == pytest.approx(difference)
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["low"] <= row["high"]
    assert table[table["method"] == "baseline"]["difference"].isna().all()
    first = [scored["baseline", f] for f in range(3)]
    if groups == 2:
        expected = np.mean([one["tpr[1]"] - one["tpr[0]"] for one in first])
        assert rows.loc[("dtpr", "baseline"), "value"] == pytest.approx(expected)
        assert table["reason"].isna().all()
    else:
        assert rows.loc[("dtpr", "baseline"), "reason"].startswith("group ")
    floors = table[table["floor_95"].notna()]
    assert set(floors["metric"]) == set(iv.GAPS)
    assert (floors["below_floor"] == (floors["value"] <= floors["floor_95"])).all()
    assert set(table["n_patients"]) == {len(np.unique(data.patients))}


@pytest.mark.parametrize("groups", [2, 3])
def test_decisions_at_the_external_thresholds_have_rows_of_their_own(groups: int) -> None:
    """Each model at its own threshold, some equal to a score; AUC does not depend on it."""
    data, _ = drawn(8, groups=groups)
    rng = np.random.default_rng(0)
    predictions = frame(data)
    predictions["score"] = predictions["score"].round(2).astype("float32")
    parts = predictions.groupby(["method", "fold"])["score"]
    own = parts.transform(lambda s: float(rng.choice(s[(s > 0.3) & (s < 0.7)]))).astype(float)
    fixed = setup_intervals(predictions, groups, 0, 40, min_group=5)
    both = setup_intervals(predictions.assign(threshold=own), groups, 0, 40, min_group=5)
    pd.testing.assert_frame_equal(both[: len(fixed)], fixed)
    external = both[len(fixed) :].set_index(["metric", "method"])
    decided = {m for m in iv.METRICS if "auc" not in m}
    assert {name for name, _ in external.index} == {f"{m}@external" for m in decided}
    scored = pd.concat(
        [
            metrics.score(part, groups, min_group=5).assign(method=key[0], fold=key[1])
            for key, part in predictions.assign(threshold=own).groupby(["method", "fold"])
        ]
    )
    means = scored.groupby(["metric", "method"])["value"].mean()
    for metric in ("spd", "eodds", "eodds_max", "eopp", "balanced_accuracy"):
        for method in ("baseline", "swift"):
            row = external.loc[(f"{metric}@external", method)]
            assert row["value"] == pytest.approx(means[f"{metric}@external", method])
            assert row["low"] <= row["high"]
            assert np.isfinite(row["floor_95"]) == (metric in iv.GAPS)


def test_the_table_does_not_depend_on_the_order_of_rows_or_data_sets() -> None:
    data, _ = drawn(6)
    predictions = frame(data)
    two = pd.concat([predictions.assign(dataset="atlas"), predictions])
    alone = setup_intervals(predictions, 2, seed=1, permutations=40)
    both = setup_intervals(two, 2, seed=1, permutations=40)
    part = both[both["dataset"] == "ddi"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, part)
    other = setup_intervals(predictions, 2, seed=2, permutations=40)
    assert (other["low"].eq(alone["low"]) | alone["low"].isna()).all()
    assert not np.allclose(alone["floor_95"].dropna(), other["floor_95"].dropna())


def test_repeats_of_a_fold_are_one_training() -> None:
    data, test = drawn()
    scores = data.scores[1].astype(np.float64)  # (3, N)
    rng = np.random.default_rng(5)
    noisy = np.clip(scores[:, None] + rng.normal(0, 0.05, (3, 4, scores.shape[1])), 0, 1)
    part = iv.rates(test, noisy.reshape(12, -1), repeats=4).overall["auc"]
    assert part is not None
    labels = data.labels
    of_folds = [np.mean([roc_auc_score(labels, one) for one in fold]) for fold in noisy]
    found = iv.estimate(part)
    assert found.models == 3
    assert found.value == pytest.approx(np.mean(of_folds))
    assert found.variance_folds == pytest.approx(np.var(of_folds, ddof=1) / 3)
    # other patients: by the definition, the variance of the mean of all twelve models
    alone = iv.rates(test, noisy.reshape(12, -1)).overall["auc"]
    assert alone is not None and found.variance_test == pytest.approx(alone.variance)


def test_the_same_repeats_change_nothing() -> None:
    data, _ = drawn()
    once = frame(data)
    thrice = pd.concat(
        [once.assign(repeat=0)]
        + [once[once["method"] == "swift"].assign(repeat=repeat) for repeat in (1, 2)],
        ignore_index=True,
    )
    found, wanted = (setup_intervals(rows, 2, 0, 50) for rows in (thrice, once))
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-9)


def test_images_are_paired_by_their_name() -> None:
    data, _ = drawn(7)
    predictions = frame(data)
    swift = predictions["method"] == "swift"
    shuffled = pd.concat([predictions[~swift], predictions[swift].sample(frac=1, random_state=0)])
    pd.testing.assert_frame_equal(
        setup_intervals(shuffled, 2, seed=1, permutations=9),
        setup_intervals(predictions, 2, seed=1, permutations=9),
    )
    with pytest.raises(ValueError, match="swift, fold 2: scored other images"):
        setup_intervals(predictions[:-1], 2, seed=1)


def test_a_missing_model_or_a_missing_baseline() -> None:
    data, _ = drawn(8)
    predictions = frame(data)
    partial = predictions[(predictions["method"] == "swift") | (predictions["fold"] == 0)]
    table = setup_intervals(partial, 2, seed=1, permutations=0)
    row = table[(table["method"] == "swift") & (table["metric"] == "auc")].iloc[0]
    assert row["n_folds"] == 3
    first = [roc_auc_score(data.labels, data.scores[m, 0]) for m in (0, 1)]
    assert row["difference"] == pytest.approx(first[1] - first[0])
    assert np.isnan(row["difference_variance_folds"]) and row["variance_folds"] > 0
    alone = predictions[predictions["method"] == "swift"]
    table = setup_intervals(alone, 2, seed=1, permutations=0)
    assert table["difference"].isna().all() and table["low"].notna().all()
    broken = predictions.assign(score=predictions["score"].where(predictions["method"] != "swift"))
    table = setup_intervals(broken, 2, seed=1, permutations=9).set_index("method")
    assert set(table.loc["swift", "reason"]) == {iv.UNDEFINED}
    assert table.loc["baseline", "low"].notna().all()


def test_a_group_without_a_class_is_null_with_the_reason() -> None:
    data, _ = drawn(9)
    predictions = frame(data)
    cut = predictions[(predictions["group"] != 1) | (predictions["label"] == 1)]
    table = setup_intervals(cut, 2, seed=1, permutations=20).set_index("metric")
    for metric in ("eodds", "auc_min", "auc_gap", "dfpr"):
        assert table.loc[metric, "value"].isna().all(), metric
        assert set(table.loc[metric, "reason"]) == {iv.UNDEFINED}
    assert table.loc[["auc", "spd", "eopp", "dtpr"], "low"].notna().all()
    assert setup_intervals(predictions.assign(group=-1), 2, seed=1).empty


def test_patients_are_what_counts() -> None:
    """Every image four times, of the same patient: nothing is known that was not known before."""
    data, _ = drawn(10)
    predictions = frame(data)
    copies = [predictions.assign(image_id=predictions["image_id"] + f"/{k}") for k in range(4)]
    one = setup_intervals(predictions, 2, seed=0, permutations=0)
    four = setup_intervals(pd.concat(copies), 2, seed=0, permutations=0)
    ends = ["low", "high", "difference_low", "difference_high"]
    pd.testing.assert_frame_equal(one[ends], four[ends])
    unnamed = pd.concat(copies).drop(columns="patient_id")
    apart = setup_intervals(unnamed, 2, seed=0, permutations=0)
    assert (apart["variance_test"] < 0.6 * one["variance_test"]).all()


def test_power_grows_with_the_smallest_cell() -> None:
    seen = [power(np.full((2, 2), n)) for n in (30, 100, 400)]
    assert seen[0] < 0.1 < 0.3 < seen[1] < 0.75 < 0.95 < seen[2]
    assert seen[0] < power(np.array([[400, 400], [400, 30]])) < 0.7
    assert power(np.full((2, 2), 400), before=0.1, after=0.1) < 0.05
    assert power(np.array([[400, 400], [400, 1]])) == 0


# --- coverage -------------------------------------------------------------------------------------

SIGNED = [f"{delta}{m}" for m in ("auc", "dtpr", "dfpr", "dspd") for delta in ("", "Δ")]
PROJECTED = [f"{delta}{m}" for m in ("spd", "eopp", "eodds", "auc_gap") for delta in ("", "Δ")]


def check(found: list[dict[str, float]], lowest: float) -> None:
    signed = np.array([[cell[name] for name in SIGNED] for cell in found])
    assert 0.94 <= signed.mean() <= 0.97
    assert lowest <= signed.min() and signed.max() <= 0.995
    # the range of an absolute value is wide where the sign is open, never narrow
    projected = np.array([[cell[name] for name in PROJECTED] for cell in found])
    assert projected.mean() >= 0.95 and projected.min() >= lowest


def test_coverage() -> None:
    """Nominal 95 % on patients with NIH's numbers of images: 94 to 97 %."""
    worlds = [World(300, 0.3, 2, MODELS), World(300, 0.5, 5, MODELS), World(500, 0.5, 10, MODELS)]
    check([coverage(world, 120) for world in worlds], 0.88)


def test_images_as_persons_are_too_sure() -> None:
    """The interval that this one replaced, on the same data."""
    world = World(300, 0.5, 5, (Model(slope=1.6), Model(slope=1.6)))
    found = coverage(world, 60, others=True)
    assert found["auc (images)"] < 0.85 < found["auc"]
    assert found["dtpr (images)"] < 0.85 < found["dtpr"]
    assert found["auc (folds)"] < 0.85


@pytest.mark.long
def test_coverage_in_every_cell() -> None:
    """300 runs in each of 12 worlds: the mean 94 to 97 %, each cell 90 to 99.5 %.

    300 runs put a cell of 95 % between 92 and 98 %. The lowest are AUC differences with two folds
    where the folds dominate (91 %).
    """
    check([coverage(world, 300) for world in cells()], 0.90)


@pytest.mark.parametrize("n", [20, 50])
def test_differences_of_methods_that_hardly_err_are_covered(n: int) -> None:
    """Signed gaps of two methods on the same images, also where neither errs."""
    rng = np.random.default_rng(n)
    truth, held, runs = 0.95 - 0.97, 0, 400
    for _ in range(runs):
        difficulty = rng.random((2, n))  # of the images of two groups, for every model alike
        rates = []
        for shares in ((0.97, 0.97), (0.97, 0.95)):  # of each method, by group
            noisy = np.clip(difficulty + rng.normal(0, 0.01, (3, 2, n)), 0, 1)
            right = (noisy < np.array(shares)[:, None]).astype(float)
            patients = np.arange(2 * n).reshape(2, n)
            one, other = (
                influence.ratio(right[:, g], np.ones(n), patients[g], 2 * n) for g in (0, 1)
            )
            assert one is not None and other is not None
            rates.append((one, other))
        (plain_0, plain_1), (own_0, own_1) = rates
        gap = own_1.paired(plain_1) - own_0.paired(plain_0)
        low, high = iv.estimate(gap).bounds(0.95)
        held += low <= truth <= high
    assert held / runs >= 0.92
