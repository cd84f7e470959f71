"""Tests over folds against SciPy and brute-force loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from swift_debias.evaluation import fold_tests, metrics, plausibility, setup_intervals
from swift_debias.evaluation.cells import KEYS, Block


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


def test_a_difference_is_the_mean_over_folds() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.7, 0.1, 5), rng.normal(0.65, 0.1, 5)
    result = fold_tests.paired(a - b)
    assert result.n_folds == 5
    assert result.difference == pytest.approx(a.mean() - b.mean())


def test_too_few_or_equal_folds_are_null_with_the_reason() -> None:
    assert fold_tests.paired(np.array([])).reason == "no fold in common"
    one = fold_tests.paired(np.array([0.1]))
    assert (one.difference, one.p_permutation, one.reason) == (0.1, None, "one fold only")
    same = fold_tests.paired(np.zeros(4))
    assert (same.difference, same.p_permutation, same.reason) == (0.0, 1.0, None)
    many = fold_tests.paired(np.random.default_rng(0).normal(size=21))
    assert many.p_permutation is None
    assert many.p_floor == pytest.approx(2**-20)
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
    assert swift.p_permutation == 0.25  # all three alike: 2 of 8 signs are as extreme
    for against in ("baseline", "best other"):
        family = result[result.against == against]
        p = family.p_permutation.tolist()
        assert family.p_permutation_holm.tolist() == pytest.approx(fold_tests.holm(p))
    # lower is better: the best other is the smallest
    lower = fold_tests.compare("t", [block(*values, metric="spd")], metrics_rows(values, "spd"))
    best = lower[(lower.against == "best other") & (lower.method == "swift")].other.item()
    assert best == "bmft"
    # a metric with no better direction has no best other
    rate = fold_tests.compare("t", [block(*values, metric="tpr")], metrics_rows(values, "tpr"))
    assert set(rate.against) == {"baseline"}


def test_an_implausible_method_is_not_the_best_other() -> None:
    """It is still compared itself, and without another ranked method there is no best other."""
    values = {"baseline": [0.6] * 3, "llft": [0.9] * 3, "bmft": [0.7] * 3, "swift": [0.8] * 3}

    def others(*collapsed: str) -> dict[str, str]:
        of = {("skin", "net", "sex", name, "atlas", ""): ("collapsed",) for name in collapsed}
        marks = plausibility.Marks(of)
        rows = metrics_rows(values)
        found = fold_tests.compare("t", [block(*values)], rows, marks=marks)
        assert set(found.method) == {"llft", "bmft", "swift"}
        best = found[found.against == "best other"]
        return dict(zip(best.method, best.other, strict=True))

    assert others() == {"llft": "swift", "bmft": "llft", "swift": "llft"}
    assert others("llft") == {"llft": "swift", "bmft": "swift", "swift": "bmft"}
    assert others("llft", "swift", "bmft") == {}


def test_differences_to_the_baseline_have_the_one_interval() -> None:
    """Those of `setup_intervals`, by key; the best other, picked on the tests, has none."""
    rng = np.random.default_rng(4)
    n, folds, methods = 120, 3, ("baseline", "llft", "swift")
    truth = pd.DataFrame({"dataset": "atlas", "image_id": [f"i{i:03d}" for i in range(n)]})
    truth = truth.assign(patient_id=[f"p{i // 2}" for i in range(n)])
    truth = truth.assign(label=rng.integers(0, 2, n), group=rng.integers(0, 2, n))
    frames, scored = [], []
    for method, fold in product(methods, range(folds)):
        score = 1 / (1 + np.exp(-(truth["label"] + rng.normal(0, 1, n))))
        one = truth.assign(method=method, fold=fold, score=score)
        frames.append(one)
        keys = {"task": "skin", "backbone": "net", "attribute": "sex", "method": method}
        scored.append(metrics.score(one, 2).assign(**keys, fold=fold))
    intervals = setup_intervals.setup_intervals(pd.concat(frames), 2, 0, 0)
    intervals = intervals.assign(task="skin", backbone="net", attribute="sex")
    part = Block("skin", "net", "sex", ("atlas",), methods, ("auc", "spd", "eodds", "ece"))
    found = fold_tests.compare("t", [part], pd.concat(scored), intervals=intervals)
    ends = intervals.set_index(["method", "metric"])
    assert len(found) == 2 * 2 * 4
    for row in found.itertuples():
        if row.against == "best other" or row.metric == "ece":
            assert np.isnan([row.low, row.high]).all()
            continue
        one = ends.loc[row.method, row.metric]
        assert row.difference == pytest.approx(one.difference)
        assert (row.low, row.high) == (one.difference_low, one.difference_high)
        assert row.low < row.high


def test_compare_says_what_is_missing() -> None:
    rows = metrics_rows({"swift": [0.7, 0.8]})
    result = fold_tests.compare("table1", [block("baseline", "swift")], rows)
    assert result.reason.tolist() == ["no fold in common"]
    assert result.n_folds.tolist() == [0]
    assert fold_tests.compare("table1", [block("baseline")], rows).empty
