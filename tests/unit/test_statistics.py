"""statistics.py against SciPy, brute-force loops and metrics.py."""

from __future__ import annotations

import zlib
from itertools import product

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from scipy import stats

from swift_debias.evaluation import bootstrap, fold_tests, metrics
from swift_debias.evaluation.cells import KEYS, Block

# --- over folds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 9])
def test_sign_flip_against_every_sign_and_scipy(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    observed = abs(differences.mean())
    means = [abs(np.mean(differences * signs)) for signs in product([1, -1], repeat=n)]
    p = fold_tests.sign_flip(differences)
    assert p == np.mean([mean >= observed - 1e-12 for mean in means])
    scipy = stats.permutation_test(
        (differences,),
        lambda x: abs(x.mean()),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=False,
    )
    assert p == pytest.approx(scipy.pvalue)


def test_five_folds_cannot_go_below_the_floor() -> None:
    result = fold_tests.paired(np.array([0.1, 0.2, 0.15, 0.12, 0.11]))
    assert result.p_permutation == result.p_floor == 0.0625


def test_paired_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.7, 0.1, 5), rng.normal(0.65, 0.1, 5)
    result = fold_tests.paired(a - b)
    scipy = stats.ttest_rel(a, b)
    assert result.n_folds == 5
    assert result.difference == pytest.approx(a.mean() - b.mean())
    assert result.p_t == pytest.approx(scipy.pvalue)
    assert (result.low, result.high) == pytest.approx(tuple(scipy.confidence_interval(0.95)))


def test_too_few_or_equal_folds_are_null_with_the_reason() -> None:
    assert fold_tests.paired(np.array([])).reason == "no fold in common"
    one = fold_tests.paired(np.array([0.1]))
    assert (one.difference, one.p_t, one.reason) == (0.1, None, "one fold only")
    same = fold_tests.paired(np.zeros(4))
    assert (same.difference, same.p_t, same.p_permutation) == (0.0, None, 1.0)
    assert "same difference" in str(same.reason)
    many = fold_tests.paired(np.random.default_rng(0).normal(size=21))
    assert many.p_permutation is None
    assert many.p_t is not None
    assert "no exact test" in str(many.reason)


def test_holm_by_its_definition() -> None:
    assert fold_tests.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    rng = np.random.default_rng(2)
    p = rng.random(12) ** 3
    corrected = fold_tests.holm([*p, None, float("nan")])
    assert corrected[12:] == [None, None]
    for alpha in (0.01, 0.05, 0.2):  # step down: stop at the first that is not small enough
        rejected = set()
        for rank, index in enumerate(np.argsort(p)):
            if p[index] > alpha / (len(p) - rank):
                break
            rejected.add(int(index))
        assert rejected == {i for i in range(12) if corrected[i] <= alpha}


def metrics_rows(values: dict[str, list[float]], metric: str = "auc") -> pd.DataFrame:
    rows = [
        ("skin", "net", "sex", method, fold, "atlas", metric, value)
        for method, series in values.items()
        for fold, value in enumerate(series)
    ]
    columns = ["task", "backbone", "attribute", "method", "fold", "dataset", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def block(*methods: str, metric: str = "auc") -> Block:
    return Block("skin", "net", "sex", ("atlas",), methods, (metric,))


def test_compare_pairs_folds_picks_the_best_other_and_corrects() -> None:
    values = {
        "baseline": [0.60, 0.62, 0.61, 0.63],
        "llft": [0.70, 0.71, 0.69, 0.72],
        "bmft": [0.65, 0.66, 0.70, 0.61],
        "swift": [0.71, 0.75, 0.70, np.nan],
    }
    rows = metrics_rows(values)
    result = fold_tests.compare("table1", [block(*values)], rows)
    assert list(result.columns[:8]) == ["table", *KEYS, "against"]
    assert "baseline" not in set(result.method)
    others = result[result.against == "best other"].set_index("method").other
    assert dict(others) == {"llft": "swift", "bmft": "swift", "swift": "llft"}
    swift = result[(result.method == "swift") & (result.against == "baseline")].iloc[0]
    differences = np.array(values["swift"][:3]) - np.array(values["baseline"][:3])
    assert swift.n_folds == 3
    assert swift.difference == pytest.approx(differences.mean())
    assert swift.p_t == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    for against in ("baseline", "best other"):
        family = result[result.against == against]
        assert family.p_t_holm.tolist() == pytest.approx(fold_tests.holm(family.p_t.tolist()))
        p = family.p_permutation.tolist()
        assert family.p_permutation_holm.tolist() == pytest.approx(fold_tests.holm(p))
    # lower is better: the best other is the smallest
    lower = fold_tests.compare("t", [block(*values, metric="spd")], metrics_rows(values, "spd"))
    best = lower[(lower.against == "best other") & (lower.method == "swift")].other.item()
    assert best == "bmft"
    # a metric with no better direction has no best other
    rate = fold_tests.compare("t", [block(*values, metric="tpr")], metrics_rows(values, "tpr"))
    assert set(rate.against) == {"baseline"}


def test_compare_says_what_is_missing() -> None:
    rows = metrics_rows({"swift": [0.7, 0.8]})
    result = fold_tests.compare("table1", [block("baseline", "swift")], rows)
    assert result.reason.tolist() == ["no fold in common"]
    assert result.n_folds.tolist() == [0]
    assert fold_tests.compare("table1", [block("baseline")], rows).empty


# --- over test images -----------------------------------------------------------------------------


def predictions(
    n: int = 150, groups: int = 2, methods: tuple[str, ...] = ("baseline", "swift"), folds: int = 2
) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, n)
    attribute = rng.integers(-1, groups, n)
    frames = []
    for m, method in enumerate(methods):
        for fold in range(folds):
            logit = 1.5 * label + (0.8 - 0.7 * m) * attribute + rng.normal(0, 1, n) - 0.7
            score = np.round(1 / (1 + np.exp(-logit)), 2)  # ties
            frames.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "fold": fold,
                        "dataset": "ddi",
                        "image_id": [f"i{i}" for i in range(n)],
                        "label": label.astype("int8"),
                        "group": attribute.astype("int16"),
                        "score": score.astype("float32"),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


NAMES = ("auc", "spd", "eodds", "eodds_max", "eopp", "auc_min", "auc_gap", "balanced_accuracy")


@pytest.mark.parametrize("ties", [True, False])
def test_weighted_auc_against_sklearn(ties: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    p = rng.integers(0, 8, 60) / 8 if ties else rng.random(60)
    weights = rng.integers(0, 4, (60, 5)).astype(float)
    pairs = bootstrap.RankedPairs(p, np.flatnonzero(y == 0), np.flatnonzero(y == 1))
    expected = [sk.roc_auc_score(y, p, sample_weight=w) for w in weights.T]
    assert pairs.auc(weights) == pytest.approx(expected, abs=1e-12)


def test_resampling_keeps_every_cell_its_size() -> None:
    strata = np.random.default_rng(0).integers(0, 4, 200)
    counts = bootstrap.resample_counts(strata, 300, np.random.default_rng(1))
    for stratum in range(4):
        rows = strata == stratum
        assert (counts[rows].sum(axis=0) == rows.sum()).all()
    assert (counts == counts.round()).all()
    # each image is drawn once on average, with the variance of drawing n of n with replacement
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.03)


@pytest.mark.parametrize("groups", [2, 3])
def test_bootstrap_against_a_loop_over_repeated_rows(groups: int) -> None:
    """Each resample written out as rows and scored by metrics.score."""
    frame = predictions(groups=groups)
    resamples = 6
    result = bootstrap.bootstrap(frame, groups, seed=3, resamples=resamples, min_group=5)

    one = frame[(frame.method == "swift") & (frame.fold == 0) & (frame.group >= 0)]
    strata = one.group.to_numpy(int) * 2 + one.label.to_numpy()
    rng = np.random.default_rng([3, zlib.crc32(b"ddi")])
    counts = bootstrap.resample_counts(strata, resamples, rng).astype(int)

    def score(method: str, fold: int, weights: np.ndarray) -> pd.Series:
        model = frame[(frame.method == method) & (frame.fold == fold) & (frame.group >= 0)]
        repeated = model.loc[model.index.repeat(weights)]
        return metrics.score(repeated, groups, min_group=5).set_index("metric").value

    ones = np.ones(len(one), dtype=int)
    for method in ("baseline", "swift"):
        point = sum(score(method, fold, ones) for fold in (0, 1)) / 2
        drawn = pd.DataFrame(
            [sum(score(method, f, counts[:, r]) for f in (0, 1)) / 2 for r in range(resamples)]
        )
        for name in NAMES:
            row = result[(result.metric == name) & (result.method == method)].iloc[0]
            assert row.value == pytest.approx(point[name], abs=1e-12), name
            low, high = np.percentile(drawn[name], [2.5, 97.5])
            assert (row.low, row.high) == pytest.approx((low, high), abs=1e-12), name
            assert (row.n_images, row.n_folds, row.resamples) == (len(one), 2, resamples)
        if method == "baseline":
            base_point, base = point, drawn
    for name in NAMES:
        row = result[(result.metric == name) & (result.method == "swift")].iloc[0]
        low, high = np.percentile(drawn[name] - base[name], [2.5, 97.5])
        assert row.difference == pytest.approx(point[name] - base_point[name], abs=1e-12)
        assert (row.difference_low, row.difference_high) == pytest.approx((low, high), abs=1e-12)
    baseline = result[result.method == "baseline"]
    assert baseline.difference.isna().all()


def test_bootstrap_does_not_depend_on_the_order_of_rows_or_data_sets() -> None:
    frame = predictions()
    two = pd.concat([frame.assign(dataset="atlas"), frame])
    alone = bootstrap.bootstrap(frame, 2, seed=1, resamples=40)
    both = bootstrap.bootstrap(two, 2, seed=1, resamples=40)
    part = both[both.dataset == "ddi"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, part)
    other = bootstrap.bootstrap(frame, 2, seed=2, resamples=40)
    assert not np.allclose(alone.low, other.low)


def test_bootstrap_pairs_images_by_id() -> None:
    frame = predictions()
    shuffled = pd.concat(
        [
            frame[frame.method == "baseline"],
            frame[frame.method == "swift"].sample(frac=1, random_state=0),
        ]
    )
    expected = bootstrap.bootstrap(frame, 2, seed=1, resamples=20)
    result = bootstrap.bootstrap(shuffled, 2, seed=1, resamples=20)
    pd.testing.assert_frame_equal(result, expected)
    with pytest.raises(ValueError, match="swift, fold 1: scored other images"):
        bootstrap.bootstrap(frame[:-1], 2, seed=1, resamples=5)


def test_bootstrap_without_baseline_or_with_a_missing_model() -> None:
    frame = predictions()
    alone = bootstrap.bootstrap(frame[frame.method == "swift"], 2, seed=1, resamples=5)
    assert alone.difference.isna().all()
    assert alone.low.notna().all()
    partial = frame[(frame.method == "baseline") | (frame.fold == 0)]
    result = bootstrap.bootstrap(partial, 2, seed=1, resamples=5)
    swift = result[(result.method == "swift") & (result.metric == "auc")].iloc[0]
    one = frame[(frame.fold == 0) & (frame.group >= 0)]
    auc = {m: sk.roc_auc_score(g.label, g.score) for m, g in one.groupby("method")}
    assert swift.n_folds == 1
    assert swift.difference == pytest.approx(auc["swift"] - auc["baseline"])
    partial = frame[(frame.method == "swift") | (frame.fold == 0)]
    result = bootstrap.bootstrap(partial, 2, seed=1, resamples=5)
    swift = result[(result.method == "swift") & (result.metric == "auc")].iloc[0]
    assert swift.n_folds == 2
    assert swift.difference == pytest.approx(auc["swift"] - auc["baseline"])


def test_bootstrap_of_a_degenerate_group_is_null_with_the_reason() -> None:
    frame = predictions()
    frame = frame[(frame.group != 1) | (frame.label == 1)]
    result = bootstrap.bootstrap(frame, 2, seed=1, resamples=5)
    null = result[result.metric.isin(["eodds", "auc_min", "auc_gap"])]
    assert null.value.isna().all()
    assert null.reason.notna().all()
    assert result[result.metric.isin(["auc", "spd"])].low.notna().all()
    assert bootstrap.bootstrap(frame.assign(group=-1), 2, seed=1).empty


def test_interval_has_the_right_width() -> None:
    """The bootstrap's standard error of a rate is the binomial one."""
    rng = np.random.default_rng(0)
    n = 2000
    frame = pd.DataFrame(
        {
            "method": "baseline",
            "fold": 0,
            "dataset": "x",
            "image_id": range(n),
            "label": np.arange(n) % 2,
            "group": (np.arange(n) // 2) % 2,
            "score": rng.random(n) + 0.2,
        }
    )
    result = bootstrap.bootstrap(frame, 2, seed=0, resamples=1500)
    row = result[result.metric == "balanced_accuracy"].iloc[0]
    expected = 2 * 1.96 * np.sqrt(2 * 0.7 * 0.3 / 1000) / 2
    assert row.high - row.low == pytest.approx(expected, rel=0.1)
