"""Intervals of the metrics of more than two classes (one_vs_rest.py).

Those of a class, `eodds@mel`, are the intervals of its problem of two classes, with noise floor and
power: decisions are those for the class, whatever made them, and AUCs are of its probability.

Macro AUC and balanced accuracy are means of AUCs and of recalls over the classes. Their influences
are the means of the classes' influences (influence.py), so that what a patient does to several
classes counts at once, and the interval is made as that of one class is. A macro gap has a value
and a difference, but no interval and no noise floor: how absolute gaps of several classes, which
share their patients, vary together was not checked by simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from . import intervals, one_vs_rest
from .influence import Part, auc, mean, ratio
from .intervals import Rates, TestSet
from .metrics import is_decided
from .noise_floor import PERMUTATIONS
from .setup_intervals import COLUMNS, NUMBERS, TestSetRows, setup_intervals
from .stacked import Scores, stack
from .thresholds import OF_CLASS

NO_INTERVAL = "a mean over classes of absolute gaps has no interval: see {}@<class>"
LINEAR = ("auc", "balanced_accuracy")  # macro metrics with an interval
GAPS = tuple(name for name in intervals.GAPS if name not in one_vs_rest.OF_MACRO)


def class_intervals(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    groups: int,
    seed: int,
    min_group: int = 20,
    baseline: str | None = "baseline",
    level: float = intervals.LEVEL,
    permutations: int = PERMUTATIONS,
) -> pd.DataFrame:
    """The rows of `setup_intervals`, of every macro metric and of every class.

    Args:
        predictions: as of `setup_intervals`, with score_0 to score_{C-1}.
        classes: names of the classes.
        groups, seed, min_group, baseline, level, permutations: as of `setup_intervals`.
    """

    def of_two(problem: pd.DataFrame) -> pd.DataFrame:
        return setup_intervals(
            problem, groups, seed, permutations, level, min_group=min_group, baseline=baseline
        )

    found = [of_class(predictions, len(classes), c, of_two) for c in range(len(classes))]
    named = [
        rows.assign(metric=rows["metric"] + OF_CLASS + name)
        for rows, name in zip(found, classes, strict=True)
    ]
    linear = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        if (part["group"] >= 0).any():
            rows = _Macro(part, classes, groups, min_group, level, baseline).macro()
            linear.append(pd.DataFrame(rows).assign(dataset=str(dataset)))
    types = dict.fromkeys(NUMBERS, "float64") | {"below_floor": "boolean", "reason": "string"}
    macro = pd.concat([*linear, _gaps(found)], ignore_index=True)
    macro = macro.reindex(columns=COLUMNS).astype(types)
    return pd.concat([macro, *named], ignore_index=True)


def of_class(
    predictions: pd.DataFrame,
    classes: int,
    c: int,
    of_two: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """One class's rows: AUCs by its probability, the rest by the decisions for it."""
    ranked = of_two(problem_of(predictions, classes, c))
    decided = of_two(problem_of(predictions, classes, c, decided=True))
    by_decisions = ranked["metric"].map(is_decided).astype(bool)  # the rows are the same ones
    return pd.concat([ranked[~by_decisions], decided[by_decisions]]).sort_index()


def problem_of(
    predictions: pd.DataFrame, classes: int, c: int, *, decided: bool = False
) -> pd.DataFrame:
    """One class's problem of two classes: its probability is the score, or its decisions, 0 or 1.

    An image with a score that is not finite has none here.
    """
    scores = one_vs_rest.probabilities(predictions, classes)
    finite = np.isfinite(scores).all(axis=1)
    of_class = scores[:, c]
    if decided:
        of_class = (one_vs_rest.decide(np.nan_to_num(scores)) == c).astype(np.float64)
    columns = [*one_vs_rest.score_columns(classes), "threshold"]
    return predictions.drop(columns=columns, errors="ignore").assign(
        label=(predictions["label"] == c).astype("int8"), score=np.where(finite, of_class, np.nan)
    )


class _Macro(TestSetRows):
    """Macro AUC and balanced accuracy of the methods on one test set."""

    def __init__(
        self,
        part: pd.DataFrame,
        classes: Sequence[str],
        groups: int,
        min_group: int,
        level: float,
        baseline: str | None,
    ) -> None:
        numbers = range(len(classes))
        self.names = classes
        self.ranked = [stack(problem_of(part, len(classes), c)) for c in numbers]
        self.decided = [stack(problem_of(part, len(classes), c, decided=True)) for c in numbers]
        first = self.ranked[0]
        test = TestSet.of(first.labels, first.groups, first.patients, groups, min_group)
        super().__init__(first, test, 0.5, level, baseline)

    def macro(self) -> list[dict[str, Any]]:
        """A row a metric and method."""
        return [self._row(metric, m) for metric in LINEAR for m in range(len(self.data.methods))]

    def _signed_pairs(self) -> dict[str, intervals.Pair]:
        return {}

    def rates(self, method: int, folds: np.ndarray) -> Rates:
        """The means over classes of AUC and recall."""
        key = method, folds.tobytes()
        if key not in self.known:
            areas = [self._area(data, method, folds) for data in self.ranked]
            recalls = [self._recall(data, method, folds) for data in self.decided]
            overall = {"auc": _mean(areas), "balanced_accuracy": _mean(recalls)}
            self.known[key] = Rates(overall, {}, {})
        return self.known[key]

    def _area(self, data: Scores, method: int, folds: np.ndarray) -> Part | None:
        cells = np.flatnonzero(data.labels == 1), np.flatnonzero(data.labels == 0)
        scores = data.scores[method, folds].astype(np.float64)
        part = auc(scores, *cells, self.test.patients, self.test.n_patients)
        return part and replace(part, repeats=data.repeats)

    def _recall(self, data: Scores, method: int, folds: np.ndarray) -> Part | None:
        rows = np.flatnonzero(data.labels == 1)
        hits = data.scores[method, folds][:, rows].astype(np.float64)
        ones = np.ones(len(rows))
        part = ratio(hits, ones, self.test.patients[rows], self.test.n_patients)
        return part and replace(part, repeats=data.repeats)


def _mean(parts: Sequence[Part | None]) -> Part | None:
    """The mean over classes; None where one lacks images."""
    known = [part for part in parts if part is not None]
    return mean(known) if len(known) == len(parts) else None


def _gaps(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of the macro gaps: means over classes of values and differences, and no more."""
    rows = [one[one["metric"].isin(GAPS)].reset_index(drop=True) for one in found]
    kept = ["dataset", "metric", "method", "n_images", "n_patients", "n_folds"]
    means = {
        column: np.mean([one[column].to_numpy() for one in rows], axis=0)
        for column in ("value", "difference")
    }
    return rows[0][kept].assign(**means, reason=rows[0]["metric"].map(NO_INTERVAL.format))
