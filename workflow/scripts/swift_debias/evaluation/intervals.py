"""One interval for every metric: other patients and other trainings, in one standard error.

**Target.** The expected metric of models trained on this pool and this external set, over patients
like those of the test set. Another training pool is not covered (`Estimate.another_pool` is for
that).

**Interval.** value +- t SE with SE^2 = V_test + s_f^2 / K. V_test is the patient-clustered sandwich
variance of the mean over the K folds' models (influence.py); s_f^2 is the variance between the
folds. The degrees of freedom are Satterthwaite's, from G - 1 and K - 1 (two folds: see
`Estimate`). With one model there is no s_f^2: the interval then speaks of that model. Both
variances are stored, since they say what would help: more test patients or more trainings.

- AUC, balanced accuracy and their differences: on the logit scale of their range; G = patients for
  AUC. What rests on cells (label, group) has the G of the cell with the fewest effective patients.
- Signed gaps between two groups (`dtpr`, `dfpr`, `dspd`, `dauc`): as they are, cut at -1 and 1.
- Absolute gaps are projections: the range of |gap| over the interval of the signed gap, so 0 is
  inside exactly if both signs are. EOdds is (|a| + |b|) / 2 over the 97.5 % intervals of a = dTPR
  and b = dFPR.
- Differences of absolute gaps: the range of |d0 + D| - |d0|, where the Baseline's signed gap d0,
  the change D and their sum are in their own intervals (90 % for the two parts of EOdds, whose
  ranges are averaged).
- With more than two groups a gap is the largest over all pairs. Each pair gets an interval at a
  level corrected for the number of pairs (Bonferroni), and the largest is projected like the rest.

`tests/unit/test_intervals.py` shows the coverage by simulation; docs/statistics.md has the numbers.

Longer than other files: an interval of any statistic is made here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from .influence import Part, auc, effective_patients, mean, patient_codes, ratio
from .metrics import groups_left_out
from .thresholds import reached

LEVEL = 0.95
# An absolute gap: the rates whose gaps it is made of, and how several make one.
GAPS: dict[str, tuple[tuple[str, ...], str]] = {
    "spd": (("selection_rate",), "mean"),
    "eopp": (("tpr",), "mean"),
    "eodds": (("tpr", "fpr"), "mean"),
    "eodds_max": (("tpr", "fpr"), "max"),
    "auc_gap": (("auc",), "mean"),
}
# The signed gap of a rate: that of the second group of a pair minus that of the first.
SIGNED = {"dtpr": "tpr", "dfpr": "fpr", "dspd": "selection_rate", "dauc": "auc"}
METRICS = ("auc", "balanced_accuracy", *GAPS, *SIGNED, "auc_min")
UNDEFINED = "a group lacks a class, or a score is not finite"

T = TypeVar("T")
Pair: TypeAlias = tuple[int, int]
Bounds: TypeAlias = tuple[float, float]


class Estimate(NamedTuple):
    """A value with the two parts of its variance."""

    value: float
    variance_test: float  # V_test: other test patients
    variance_folds: float  # s_f^2 / K: other trainings; NaN with one model
    models: int  # K
    patients: float  # G

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom; 0 with one patient only."""
        k, g = self.models, self.patients
        test, folds = self.variance_test, 0.0 if k == 1 else self.variance_folds
        if g <= 1:
            return 0.0
        if test + folds == 0:
            return np.inf
        spread = test**2 / (g - 1) + (folds**2 / (k - 1) if k > 1 else 0.0)
        return float((test + folds) ** 2 / spread)

    @property
    def variance(self) -> float:
        """Of both parts."""
        return self.variance_test + (0.0 if self.models == 1 else self.variance_folds)

    def bounds(self, level: float = LEVEL, limits: Bounds | None = None) -> Bounds:
        """The interval; on the logit scale between `limits` where they are given."""
        from scipy.special import expit, logit  # slow to import

        if self.df <= 0 or np.isnan(self.value):
            return (np.nan, np.nan)
        half = self._quantile((1 + level) / 2) * np.sqrt(self.variance) if self.variance else 0.0
        if limits is None or half == 0:
            return (self.value - half, self.value + half)
        low, high = limits
        share = (self.value - low) / (high - low)
        if not 0 < share < 1:  # the logit is infinite here: as far as the variance reaches
            return (max(low, self.value - half), min(high, self.value + half))
        half /= (high - low) * share * (1 - share)
        ends = expit(logit(share) + np.array([-half, half])) * (high - low) + low
        return (float(ends[0]), float(ends[1]))

    def p(self) -> float:
        """Of the value 0: one minus the level of the interval that ends there; NaN without one."""
        from scipy.optimize import brentq  # slow to import
        from scipy.special import stdtr

        if self.df <= 0 or np.isnan(self.value) or not self.variance > 0:
            return float("nan")
        t = abs(self.value) / np.sqrt(self.variance)
        if self.models != 2:
            return float(2 * stdtr(self.df, -t))
        least, most = 1e-12, 1 - 1e-12  # Cochran and Cox's quantile has no inverse of its own
        if t >= self._quantile(1 - least / 2):
            return least
        return (
            most
            if t <= self._quantile(1 - most / 2)
            else float(brentq(lambda p: self._quantile(1 - p / 2) - t, least, most, xtol=1e-12))
        )

    def another_pool(self) -> Estimate:
        """As if trained on another pool, too: V_test + (K-1)^2 / K s_f^2, the grouped jackknife's.

        Conservative: its 95 % covers 93 to 100 %.
        """
        return self._replace(variance_folds=self.variance_folds * (self.models - 1) ** 2)

    def _quantile(self, p: float) -> float:
        """Student's t; with two folds the mean of both variances' own, weighted by them.

        One degree of freedom is too few for Satterthwaite: where the folds dominate, 95 % would
        cover 87 % (Cochran and Cox's rule: 94 to 98 %). From three folds on it covers 92 % or more.
        """
        from scipy.special import stdtrit

        if self.models != 2:
            return float(stdtrit(self.df, p))
        own = stdtrit([self.patients - 1, 1], p)
        return float(np.average(own, weights=[self.variance_test, self.variance_folds]))


def estimate(part: Part) -> Estimate:
    """Value, variances, models and patients of a statistic."""
    by_fold = part.values.reshape(-1, part.repeats).mean(axis=1)
    k = len(by_fold)
    folds = float(np.var(by_fold, ddof=1)) / k if k > 1 else np.nan
    return Estimate(part.value, part.variance, folds, k, part.patients)


# --- projections ----------------------------------------------------------------------------------


def absolute(bounds: Bounds) -> Bounds:
    """The range of |d| for d in an interval."""
    low, high = bounds
    if np.isnan(low):
        return bounds
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return (nearest, max(abs(low), abs(high)))


def change_of_absolute(before: Bounds, change: Bounds, after: Bounds) -> Bounds:
    """The range of |d1| - |d0| for d0 in `before`, d1 in `after` and d1 - d0 in `change`.

    The three intervals bound a polygon in (d0, d1), on which the function is linear between the
    axes; its extremes lie where two of the lines d0 = a, d1 = b, d1 - d0 = c, d0 = 0 and d1 = 0
    cross.
    """
    if np.isnan([*before, *change, *after]).any():
        return (np.nan, np.nan)
    x, y = np.array([*before, 0.0]), np.array([*after, 0.0])
    d = np.array(change)
    points = np.concatenate(
        [
            np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2),
            *(np.stack([x, x + c], axis=-1) for c in d),
            *(np.stack([y - c, y], axis=-1) for c in d),
        ]
    )
    eps = 1e-9
    inside = (
        (points[:, 0] >= before[0] - eps)
        & (points[:, 0] <= before[1] + eps)
        & (points[:, 1] >= after[0] - eps)
        & (points[:, 1] <= after[1] + eps)
        & (points[:, 1] - points[:, 0] >= d[0] - eps)
        & (points[:, 1] - points[:, 0] <= d[1] + eps)
    )
    found = np.abs(points[inside, 1]) - np.abs(points[inside, 0])
    return (float(found.min()), float(found.max())) if len(found) else (np.nan, np.nan)


def _largest(bounds: Sequence[Bounds]) -> Bounds:
    """The interval of a maximum, from simultaneous intervals of its members."""
    return (max(low for low, _ in bounds), max(high for _, high in bounds))


def _change_of_largest(
    before: Sequence[Bounds], change: Sequence[Bounds], after: Sequence[Bounds]
) -> Bounds:
    """The range of max(y) - max(x), from intervals of every x, y and y - x.

    It lies between the smallest and the largest y - x, and between the ends of the two maxima.
    """
    x, y = _largest(before), _largest(after)
    low = max(min(low for low, _ in change), y[0] - x[1])
    high = min(max(high for _, high in change), y[1] - x[0])
    return (low, high)


def _mean_bounds(bounds: Sequence[Bounds]) -> Bounds:
    low, high = np.mean(bounds, axis=0)
    return (float(low), float(high))


# --- the models of one method on one test set -----------------------------------------------------


@dataclass(frozen=True)
class TestSet:
    """The images of a test set whose group is known: everything but scores."""

    labels: np.ndarray  # (N,) 0 or 1
    groups: np.ndarray  # (N,) 0 to n_groups - 1
    patients: np.ndarray  # (N,) 0 to P - 1
    n_groups: int
    counted: tuple[int, ...]  # the groups that count in gaps

    __test__ = False  # pytest takes the name for a class of tests

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        groups: np.ndarray,
        patients: np.ndarray | pd.Series | None,
        n_groups: int,
        min_group: int = 20,
    ) -> TestSet:
        """Args as of `metrics.score`; an unknown patient is a person for each image."""
        labels, groups = np.asarray(labels, np.int64), np.asarray(groups, np.int64)
        sizes = [
            (int(np.sum((groups == g) & (labels == 1))), int(np.sum((groups == g) & (labels == 0))))
            for g in range(n_groups)
        ]
        left_out = groups_left_out(sizes, min_group)
        counted = tuple(g for g in range(n_groups) if g not in left_out)
        return cls(labels, groups, patient_codes(patients, len(labels)), n_groups, counted)

    @property
    def n_patients(self) -> int:
        """P: patients with an image."""
        return int(self.patients.max(initial=-1)) + 1

    @property
    def pairs(self) -> list[Pair]:
        """Every two groups that count; of a binary attribute (0, 1)."""
        return list(combinations(self.counted, 2))

    def rows(self, group: int | None = None, label: int | None = None) -> np.ndarray:
        """Indices of the images of a group (None: of the data set) and a label (None: of both)."""
        chosen = np.ones(len(self.labels), bool) if group is None else self.groups == group
        return np.flatnonzero(chosen if label is None else chosen & (self.labels == label))

    def effective(self, *rows: np.ndarray) -> float:
        """Effective patients of the cell that has the fewest."""
        return min(effective_patients(np.bincount(self.patients[r]).astype(float)) for r in rows)


@dataclass(frozen=True)
class Rates:
    """What the metrics of one method are made of; a Part is None where it is not defined."""

    overall: dict[str, Part | None]
    by_group: dict[str, list[Part | None]]  # rate -> a Part for each of the groups that count
    gaps: dict[str, dict[Pair, Part]]  # rate -> pair -> signed gap; {} where one is not defined

    @classmethod
    def of(
        cls,
        test: TestSet,
        overall: dict[str, Part | None],
        by_group: dict[str, list[Part | None]],
    ) -> Rates:
        """With the signed gaps of all pairs of groups that count."""
        gaps: dict[str, dict[Pair, Part]] = {}
        for rate, parts in by_group.items():
            gaps[rate] = {}
            known = dict(zip(test.counted, parts, strict=True))
            for a, b in test.pairs if None not in parts else ():
                gap = _defined(known[b]) - _defined(known[a])
                if rate == "auc":  # a gap has the patients of its smallest cell
                    cells = [test.rows(g, label) for g in (a, b) for label in (0, 1)]
                    gap = replace(gap, patients=test.effective(*cells))
                gaps[rate][a, b] = gap
        return cls(overall, by_group, gaps)


def rates(test: TestSet, scores: np.ndarray, threshold: float = 0.5, repeats: int = 1) -> Rates:
    """Rates and AUCs of K models, overall and by group, with the signed gaps of all pairs.

    Args:
        scores: (K, N), finite, in the type that the models gave them in.
        threshold: a score at or above it is a decision for class 1 (`reached`).
        repeats: so many models after each other are one fold's.
    """
    decisions = reached(scores, threshold).astype(np.float64)
    scores = scores.astype(np.float64)

    def share(rows: np.ndarray) -> Part | None:
        ones = np.ones(len(rows))
        part = ratio(decisions[:, rows], ones, test.patients[rows], test.n_patients)
        return part and replace(part, repeats=repeats)

    def area(group: int | None) -> Part | None:
        cells = test.rows(group, 1), test.rows(group, 0)
        part = auc(scores, *cells, test.patients, test.n_patients)
        return part and replace(part, repeats=repeats)

    tpr, fpr = share(test.rows(label=1)), share(test.rows(label=0))
    balanced = None
    if tpr and fpr:
        one = Part(np.ones(len(scores)), np.zeros(test.n_patients), np.inf, repeats=repeats)
        balanced = mean([tpr, one - fpr])
    by_group = {
        "selection_rate": [share(test.rows(g)) for g in test.counted],
        "tpr": [share(test.rows(g, 1)) for g in test.counted],
        "fpr": [share(test.rows(g, 0)) for g in test.counted],
        "auc": [area(g) for g in test.counted],
    }
    return Rates.of(test, {"auc": area(None), "balanced_accuracy": balanced}, by_group)


# --- metrics --------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A metric, or the difference of one, with its interval."""

    value: float  # the mean over folds of what metrics.py computes
    low: float
    high: float
    # Of an absolute gap: at the pair of groups, and with the sign, that it has.
    estimate: Estimate


def of_method(model: Rates, metric: str, pair: Pair | None = None, level: float = LEVEL) -> Found:
    """A metric of one method.

    Args:
        metric: one of `METRICS`.
        pair: the two groups of a signed gap.

    Raises:
        UndefinedError: it rests on images that are not there.
    """
    if metric in GAPS:
        return gap(model, *GAPS[metric], level)
    if metric == "auc_min":
        return worst(model, "auc", level)
    if metric in SIGNED:
        gaps = _defined(model.gaps[SIGNED[metric]])
        part = gaps[pair or widest_pair(model, SIGNED[metric])]
        return _found(part, signed(part, 1 - (1 - level) / len(gaps)))
    part = _defined(model.overall[metric])
    return _found(part, estimate(part).bounds(level, (0.0, 1.0)))


def of_difference(
    model: Rates, base: Rates, metric: str, pair: Pair | None = None, level: float = LEVEL
) -> Found:
    """A metric of one method minus that of another, on the same folds and images."""
    if metric in GAPS:
        return gap_change(model, base, *GAPS[metric], level)
    if metric == "auc_min":
        return worst_change(model, base, "auc", level)
    if metric in SIGNED:
        after, before = (_defined(m.gaps[SIGNED[metric]]) for m in (model, base))
        pair = pair or widest_pair(base, SIGNED[metric])
        change = after[pair].paired(before[pair])
        return _found(change, signed(change, 1 - (1 - level) / len(after), 2.0))
    change = _defined(model.overall[metric]).paired(_defined(base.overall[metric]))
    return _found(change, estimate(change).bounds(level, (-1.0, 1.0)))


class UndefinedError(ValueError):
    """A metric rests on a cell without images."""


def _defined(part: T | None) -> T:
    if not part:
        raise UndefinedError(UNDEFINED)
    return part


def widest_pair(model: Rates, rate: str) -> Pair:
    """The pair of groups that makes the gap of a rate."""
    gaps = _defined(model.gaps[rate])
    return max(gaps, key=lambda pair: abs(gaps[pair].value))


def signed(part: Part, level: float = LEVEL, reach: float = 1.0) -> Bounds:
    """The interval of a signed gap, cut at -1 and 1 (of the change of one: reach 2)."""
    low, high = estimate(part).bounds(level)
    return (max(low, -reach), min(high, reach)) if low == low else (low, high)


def _found(part: Part, bounds: Bounds) -> Found:
    return Found(part.value, *bounds, estimate(part))


def gap(model: Rates, names: Sequence[str], how: str, level: float = LEVEL) -> Found:
    """An absolute gap: the projection of the intervals of the signed ones.

    Args:
        names: rates, each with its largest gap over the pairs of groups.
        how: what is made of several: their "mean" or their "max".
    """
    gaps = [_defined(model.gaps[name]) for name in names]
    each = 1 - (1 - level) / (len(gaps[0]) * len(names))
    bounds = [_largest([absolute(signed(part, each)) for part in by.values()]) for by in gaps]
    ends = _mean_bounds(bounds) if how == "mean" else _largest(bounds)
    return Found(_raw(model, names, how), *ends, estimate(_linear(model, names, how)))


def gap_change(
    model: Rates, base: Rates, names: Sequence[str], how: str, level: float = LEVEL
) -> Found:
    """The difference of an absolute gap between two methods."""
    pairs = len(_defined(model.gaps[names[0]]))
    # the mean of two ranges is wider than the range of a mean: 90 % a part are enough for 95 %
    each = 1 - (1 - level) * (len(names) if how == "mean" else 1 / len(names)) / pairs
    befores, changes, afters = [], [], []
    for name in names:
        new, old = _defined(model.gaps[name]), _defined(base.gaps[name])
        before = {pair: signed(part, each) for pair, part in old.items()}
        after = {pair: signed(part, each) for pair, part in new.items()}
        moved = {pair: signed(new[pair].paired(old[pair]), each, 2.0) for pair in new}
        befores.append([absolute(bounds) for bounds in before.values()])
        changes.append([change_of_absolute(before[p], moved[p], after[p]) for p in new])
        afters.append([absolute(bounds) for bounds in after.values()])
    if how == "mean":
        parts = zip(befores, changes, afters, strict=True)
        ends = _mean_bounds([_change_of_largest(*part) for part in parts])
    else:
        joined = ([b for part in side for b in part] for side in (befores, changes, afters))
        ends = _change_of_largest(*joined)
    linear = _linear(model, names, how).paired(_linear(base, names, how))
    value = _raw(model, names, how) - _raw(base, names, how)
    return Found(value, *ends, estimate(linear))


def part_of(model: Rates, metric: str) -> Part:
    """A metric as a Part, to be added to others: the values of metrics.py, one a model.

    Args:
        metric: "auc", "balanced_accuracy" or one of `GAPS`, whose influences are those of the
            linear statistic that a gap is near its value.

    Raises:
        UndefinedError: it rests on images that are not there.
    """
    if metric not in GAPS:
        return _defined(model.overall[metric])
    return replace(_linear(model, *GAPS[metric]), values=_raw_of_models(model, *GAPS[metric]))


def _linear(model: Rates, names: Sequence[str], how: str) -> Part:
    """An absolute gap as the linear statistic that it is near its value: for its variance."""
    parts = []
    for name in names:
        part = model.gaps[name][widest_pair(model, name)]
        parts.append(part.scaled(-1.0 if part.value < 0 else 1.0))
    return mean(parts) if how == "mean" else max(parts, key=lambda part: part.value)


def _raw(model: Rates, names: Sequence[str], how: str) -> float:
    """The mean over models of the gap of each."""
    return float(_raw_of_models(model, names, how).mean())


def _raw_of_models(model: Rates, names: Sequence[str], how: str) -> np.ndarray:
    """The gap of each model, (K,), as metrics.py has it."""
    by_rate = [np.ptp([_defined(p).values for p in model.by_group[n]], axis=0) for n in names]
    return np.mean(by_rate, axis=0) if how == "mean" else np.max(by_rate, axis=0)


def worst(model: Rates, rate: str, level: float = LEVEL, largest: bool = False) -> Found:
    """The smallest (or largest) rate of a group, from the groups' simultaneous intervals."""
    parts = _of_groups(model, rate)
    each = 1 - (1 - level) / len(parts)
    bounds = [estimate(part).bounds(each, (0.0, 1.0)) for part in parts]
    values = np.array([part.values for part in parts])
    if largest:
        most = max(parts, key=lambda part: part.value)
        return Found(float(values.max(axis=0).mean()), *_largest(bounds), estimate(most))
    least = min(parts, key=lambda part: part.value)
    ends = _negative(_largest([_negative(b) for b in bounds]))
    return Found(float(values.min(axis=0).mean()), *ends, estimate(least))


def worst_change(model: Rates, base: Rates, rate: str, level: float = LEVEL) -> Found:
    """The difference of the smallest rate of a group between two methods."""
    after, before = _of_groups(model, rate), _of_groups(base, rate)
    each = 1 - (1 - level) / len(after)
    changes = [new.paired(old) for new, old in zip(after, before, strict=True)]
    ends = _change_of_largest(  # min(y) - min(x) = max(-x) - max(-y)
        [_negative(estimate(part).bounds(each, (0.0, 1.0))) for part in after],
        [estimate(part).bounds(each, (-1.0, 1.0)) for part in changes],
        [_negative(estimate(part).bounds(each, (0.0, 1.0))) for part in before],
    )
    least = [min(parts, key=lambda part: part.value) for parts in (after, before)]
    values = [np.min([part.values for part in parts], axis=0) for parts in (after, before)]
    change = float((values[0] - values[1]).mean())
    return Found(change, *ends, estimate(least[0].paired(least[1])))


def _of_groups(model: Rates, rate: str) -> list[Part]:
    """A rate of each of the groups that count, which are two at least."""
    parts = [_defined(part) for part in model.by_group[rate]]
    if len(parts) < 2:
        raise UndefinedError(UNDEFINED)
    return parts


def _negative(bounds: Bounds) -> Bounds:
    return (-bounds[1], -bounds[0])
