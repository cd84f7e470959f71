"""Mean ranks, Friedman's test and Nemenyi's difference: a published example, and plain loops."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

from swift_debias.evaluation import ranks
from swift_debias.evaluation.cells import Block, Cell
from swift_debias.evaluation.plausibility import NO_MARKS, Marks

# Demšar (2006), Table 6: AUC of C4.5 and three tuned versions of it on 14 data sets. The two 0.975
# of `voting` are no tie there: the third decimal is rounded.
DEMSAR = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.976 0.975
0.957 0.978 0.946 0.970
"""
METHODS = ("c45", "m", "cf", "m_cf")
PLACE = ("skin", "net", "sex")


def cells_of(
    table: np.ndarray, methods: tuple[str, ...], metric: str
) -> dict[tuple[str, ...], Cell]:
    """A row a data set, a column a method."""
    return {
        (*PLACE, method, f"d{row}", metric): Cell(float(value), nan, 1, 0, None)
        for row, values in enumerate(table)
        for method, value in zip(methods, values, strict=True)
    }


def block(n: int, methods: tuple[str, ...]) -> Block:
    return Block(*PLACE, tuple(f"d{i}" for i in range(n)), methods, ("auc",))


@pytest.fixture(scope="module")
def published() -> ranks.Ranking:
    table = np.array([line.split() for line in DEMSAR.split("\n") if line], float)
    return ranks.rank([block(14, METHODS)], cells_of(table, METHODS, "auc"), "auc", NO_MARKS)


def test_a_published_example(published: ranks.Ranking) -> None:
    assert published.means.round(3).to_dict() == {
        "m_cf": 1.964, "m": 2.0, "cf": 2.893, "c45": 3.143
    }  # fmt: skip
    # the paper's statistic has no correction for ties; that of scipy divides by this one
    tied = published.ranks.apply(lambda row: sum(n**3 - n for n in row.value_counts()), axis=1)
    correction = 1 - tied.sum() / (14 * (4**3 - 4))
    assert published.statistic * correction == pytest.approx(9.28, abs=0.005)
    assert 0.01 < published.p < 0.05
    assert published.critical_difference == pytest.approx(1.25, abs=0.005)
    # "the post-hoc test is not powerful enough": nobody is told apart from anybody
    assert published.groups() == [("m_cf", "m", "cf", "c45")]


@pytest.mark.parametrize(
    ("k", "q"),  # Demšar, Table 5 (a)
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031),
     (9, 3.102), (10, 3.164)],
)  # fmt: skip
def test_the_critical_difference_is_the_published_one(k: int, q: float) -> None:
    rng = np.random.default_rng(k)
    methods = tuple(f"m{i}" for i in range(k))
    found = ranks.rank(
        [block(20, methods)], cells_of(rng.random((20, k)), methods, "auc"), "auc", NO_MARKS
    )
    assert found.critical_difference == pytest.approx(q * (k * (k + 1) / 120) ** 0.5, abs=5e-4)


@pytest.mark.parametrize("seed", range(20))
def test_ranks_equal_a_count_of_who_is_better(seed: int) -> None:
    """Lower is better for EOdds; implausible is last, below the floor first; equal is a tie."""
    rng = np.random.default_rng(seed)
    methods = tuple(f"m{i}" for i in range(5))
    table = rng.integers(0, 6, (7, 5)) / 10 + 0.0001 * rng.random((7, 5))  # ties when printed
    cells = cells_of(table, methods, "eodds")
    below = {key for key in cells if rng.random() < 0.3}
    collapsed = {key for key in cells if rng.random() < 0.2}
    of: dict[tuple[str, ...], tuple[str, ...]] = dict.fromkeys(below, ("below floor",))
    marks = Marks(of | {(*key[:-1], ""): ("collapsed",) for key in collapsed})
    found = ranks.rank([block(7, methods)], cells, "eodds", marks)

    def score(key: tuple[str, ...]) -> tuple[int, float]:
        if key in collapsed:
            return 2, 0.0
        return (0, 0.0) if key in below else (1, round(cells[key].mean, 3))

    for case, row in found.ranks.iterrows():
        keys = [(*PLACE, m, case[3], "eodds") for m in methods]  # type: ignore[index]
        scores = [score(key) for key in keys]
        for own, rank in zip(scores, row, strict=True):
            before = sum(other < own for other in scores)
            assert rank == before + (sum(other == own for other in scores) + 1) / 2
    for method in methods:
        distances = (found.means - found.means[method]).abs()
        expected = set(distances[distances <= found.critical_difference].index) - {method}
        assert set(found.alike(method)) == expected
    for one in found.groups():
        spread = found.means[list(one)]
        assert spread.max() - spread.min() <= found.critical_difference
    joined = {frozenset((a, b)) for one in found.groups() for a in one for b in one if a != b}
    assert joined == {frozenset((m, other)) for m in methods for other in found.alike(m)}


def test_only_methods_of_every_case_are_ranked_and_only_whole_cases() -> None:
    methods = ("a", "b", "c")
    cells = cells_of(np.random.default_rng(0).random((4, 3)), methods, "auc")
    del cells[*PLACE, "b", "d3", "auc"]
    parts = [block(4, methods), block(2, ("a", "b"))._replace(attribute="age")]
    cells |= {(*key[:2], "age", *key[3:]): cell for key, cell in cells.items()}
    found = ranks.rank(parts, cells, "auc", NO_MARKS)
    assert list(found.ranks) == ["a", "b"] and found.left_aside == ("c",)
    assert len(found.ranks) == 5 and found.left_out == 1
    assert np.isnan(found.statistic)  # Friedman's test takes three methods
    assert found.enough


@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 3), (3, 1), (3, 0)])
def test_too_little_to_rank(n: int, k: int) -> None:
    methods = tuple("abc"[:k])
    found = ranks.rank(
        [block(n, methods)], cells_of(np.ones((n, k)), methods, "auc"), "auc", NO_MARKS
    )
    assert not found.enough and ranks.table([found]).empty


def test_ties_alone_are_no_difference() -> None:
    found = ranks.rank(
        [block(3, METHODS)], cells_of(np.ones((3, 4)), METHODS, "auc"), "auc", NO_MARKS
    )
    assert np.isnan(found.p) and (found.means == 2.5).all()


def test_the_table(published: ranks.Ranking) -> None:
    table = ranks.table([published])
    assert table["method"].tolist() == ["m_cf", "m", "cf", "c45"]
    assert set(table["cases"]) == {14} and table["alike"][0] == "m; cf; c45"
