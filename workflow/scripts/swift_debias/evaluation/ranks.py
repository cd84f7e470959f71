"""Mean ranks of methods over test sets, and which of them differ: Friedman and Nemenyi.

A case is one test set of one setup. In each case the methods are ranked, 1 is the best; ties share
the mean of their places. What must not be ranked is tied: implausible numbers (`plausibility`) at
the end, gaps below their noise floor at the start, since none of them is a gap that can be seen.
The tests are Demšar's (2006, JMLR 7): Friedman's of all methods, and Nemenyi's critical difference
of two mean ranks. Both take the cases for independent. Those of one run share pools and test
images, so that the true uncertainty is larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .cells import KEYS, Block, Cell
from .plausibility import Marks
from .words import DECIMALS, HIGHER_IS_BETTER

METRICS = ("eodds", "auc")
LEVEL = 0.05
CASE = [key for key in KEYS if key not in ("method", "metric")]


class Ranking(NamedTuple):
    """Ranks of methods by one metric.

    metric: see there. ranks: a row a case (CASE is the index), a column a method.
    statistic, p: Friedman's; nan with fewer than three methods or two cases, or with ties alone.
    critical_difference: of two mean ranks at 5 %; nan with fewer than two methods or cases.
    left_out: cases in which a method has no value. left_aside: methods that are not in every case.
    """

    metric: str
    ranks: pd.DataFrame
    statistic: float
    p: float
    critical_difference: float
    left_out: int
    left_aside: tuple[str, ...]

    @property
    def means(self) -> pd.Series:
        """Mean rank of each method, the best first."""
        return self.ranks.mean().sort_values(kind="stable")

    @property
    def enough(self) -> bool:
        """Are there two methods and two cases at least?"""
        return min(self.ranks.shape) > 1

    def alike(self, method: str) -> list[str]:
        """Methods whose mean rank does not differ from this one's, the best first."""
        distance = (self.means - self.means[method]).abs()
        return [str(m) for m in self.means.index if m != method and self._alike(distance[m])]

    def groups(self) -> list[tuple[str, ...]]:
        """Largest runs of neighbours in which no two methods differ; single methods are none."""
        names, means = [str(name) for name in self.means.index], self.means.to_numpy()
        ends = [max(j for j in range(i, len(means)) if self._alike(means[j] - means[i]))
                for i in range(len(means))]  # fmt: skip
        return [
            tuple(names[i : end + 1])
            for i, end in enumerate(ends)
            if end > i and (i == 0 or end > ends[i - 1])
        ]

    def _alike(self, distance: float) -> bool:
        return bool(distance <= self.critical_difference + 1e-12)


def rank(
    blocks: Iterable[Block],
    cells: Mapping[tuple[str, ...], Cell],
    metric: str,
    marks: Marks,
) -> Ranking:
    """Rank the methods that are in every case of some blocks.

    Args:
        blocks: which cases, and which methods.
        cells: the run's cells (`cells.lookup`).
        metric: by which.
        marks: what is implausible, and which gaps do not exceed their noise floor.
    """
    shown: dict[tuple[str, ...], dict[str, None]] = {}
    for block in blocks:
        for dataset in block.datasets:
            shown.setdefault((*block[:3], dataset), {}).update(dict.fromkeys(block.methods))
    every = list(dict.fromkeys(method for methods in shown.values() for method in methods))
    methods = [m for m in every if all(m in names for names in shown.values())]
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    rows, left_out = {}, 0
    for case in shown:
        keys = [(*case[:3], method, case[3], metric) for method in methods]
        means = [cells[key].mean if key in cells else np.nan for key in keys]
        if not methods or np.isnan(means).any():
            left_out += 1
            continue
        rows[case] = [
            np.inf
            if not marks.ranked(key)
            else -np.inf
            if marks.shared(key)
            else sign * round(mean, DECIMALS.get(metric, 3))
            for key, mean in zip(keys, means, strict=True)
        ]
    index = pd.MultiIndex.from_tuples(rows, names=CASE) if rows else None
    ranks = pd.DataFrame(
        [stats.rankdata(row) for row in rows.values()], index=index, columns=methods, dtype=float
    )
    left_aside = tuple(m for m in every if m not in methods)
    return Ranking(metric, ranks, *_friedman(ranks), _nemenyi(*ranks.shape), left_out, left_aside)


def _friedman(ranks: pd.DataFrame) -> tuple[float, float]:
    """Friedman's statistic, corrected for ties, and its p value."""
    n, k = ranks.shape
    if n < 2 or k < 3 or (np.ptp(ranks, axis=1) == 0).all():
        return float("nan"), float("nan")
    found = stats.friedmanchisquare(*ranks.to_numpy().T)
    return float(found.statistic), float(found.pvalue)


def _nemenyi(n: int, k: int, level: float = LEVEL) -> float:
    """The difference of two mean ranks of k methods over n cases that is needed."""
    if n < 2 or k < 2:
        return float("nan")
    studentized = float(stats.studentized_range.ppf(1 - level, k, np.inf))
    return studentized / sqrt(2) * sqrt(k * (k + 1) / (6 * n))


def table(found: Sequence[Ranking]) -> pd.DataFrame:
    """A row a metric and method, the best first.

    Columns: metric, method, mean_rank, cases, p_friedman, critical_difference, alike (methods that
    are not told apart from it, joined by '; ').
    """
    rows = [
        {
            "metric": one.metric,
            "method": method,
            "mean_rank": mean,
            "cases": len(one.ranks),
            "p_friedman": one.p,
            "critical_difference": one.critical_difference,
            "alike": "; ".join(one.alike(str(method))),
        }
        for one in found
        if one.enough
        for method, mean in one.means.items()
    ]
    columns = ["metric", "method", "mean_rank", "cases", "p_friedman", "critical_difference"]
    return pd.DataFrame(rows, columns=[*columns, "alike"])
