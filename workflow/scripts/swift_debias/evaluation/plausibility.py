"""Is a result plausible? What a reader has to know before a number is compared with another.

A check is one function here, under `@check`: it looks at a `Case`, one method on one test set over
all folds, and returns a sentence where something is wrong, or a sentence for each metric that it
finds something about. The decorator gives the mark, its letter in tables, what it means, which
metrics it concerns, and whether these may still be ranked. All other code asks this file, so that a
new check is one function.

Everything is read from the tidy metrics and from the intervals; nothing is recomputed. What looks
at decisions is asked at 0.5 and at the models' external thresholds, each by itself: one says
nothing of the other. AUC, which needs no threshold, bears the marks of 0.5. Where a
check has to tell a number from chance it takes the standard error over patients of the mean over
folds (`variance_test` of setup_intervals.py): several images of one patient are no independent
images. A group's own AUC has no such error. There, and where no intervals are given, it is that of
one fold's images, drawn one by one: Hanley and McNeil's (1982) of an AUC at 0.5, and the binomial
one of balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from .cells import KEYS
from .metrics import BETWEEN_GROUPS, groups_left_out
from .thresholds import EXTERNAL, OF_CLASS, plain

CASE = KEYS[:-1]  # a case is a cell without its metric
# metric is '' where the mark is of all that its check concerns, and EXTERNAL where it is of all of
# these at the external thresholds
COLUMNS = [*KEYS, "mark", "text"]

CHANCE = 0.025  # how often a classifier without skill may be marked by chance, one-sided
FEW = 10  # images of a label in a group: rates of fewer are pointed out
COLLAPSED = 0.55  # balanced accuracy below which decisions are hardly better than a coin's
LOST = 0.03  # balanced accuracy that a fairer method may lose against the Baseline

T = TypeVar("T")
Concern: TypeAlias = Literal["everything", "groups", "gaps", "named"]
Answer: TypeAlias = "str | Mapping[str, str] | None"


def limit_of(classes: int) -> float:
    """The balanced accuracy below which a classifier of so many classes has collapsed.

    A coin's is 1 / C of C classes, and the limit lies as far above it as `COLLAPSED` above 0.5.
    """
    coin = 1 / classes
    return coin + (COLLAPSED - 0.5) * 2 * (1 - coin)


class Interval(NamedTuple):
    """What setup_intervals.py found of a metric, for the checks; NaN where it has none."""

    value: float
    variance_test: float
    floor_95: float
    below_floor: bool


@dataclass(frozen=True)
class Case:
    """One method on one test set, over all folds.

    Attributes:
        values: metric -> a value a fold that has one.
        n: metric -> the rows that it rests on.
        groups: names of the attribute's groups, in the order of their indices.
        counted: the groups that count in differences.
        models: metric -> a value of each repeat of each fold; {}: nothing is repeated.
        intervals: metric -> its error over patients and its noise floor, where they are known.
        baseline: the Baseline in its place; None for the Baseline and where there is none.
    """

    values: Mapping[str, np.ndarray]
    n: Mapping[str, int]
    groups: Sequence[str] = ()
    counted: Sequence[int] = ()
    models: Mapping[str, np.ndarray] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    baseline: Case | None = None

    def error(self, metric: str) -> float:
        """Standard error over patients of a metric's mean over folds; NaN where it is unknown."""
        found = self.intervals.get(metric)
        return sqrt(found.variance_test) if found else float("nan")

    def mean(self, metric: str) -> float:
        """Over the folds that have a value; NaN where none has."""
        values = self.values.get(metric, np.empty(0))
        return float(np.mean(values)) if len(values) else float("nan")

    def images(self, suffix: str = "") -> tuple[int, int]:
        """How many of class 1 and of class 0, of everybody or of a group ('[0]').

        Of a class of several, `[0]@mel`: of it and of the others.
        """
        return self.n.get(f"tpr{suffix}", 0), self.n.get(f"fpr{suffix}", 0)

    def at_external(self) -> Case | None:
        """The same case decided at the external thresholds; None where they are not known."""
        if not any(metric.endswith(EXTERNAL) for metric in self.values):
            return None
        return replace(
            self,
            values=_at_external(self.values),
            n=_at_external(self.n),
            models=_at_external(self.models),
            intervals=_at_external(self.intervals),
            baseline=self.baseline and self.baseline.at_external(),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of a task of more than two; () of others."""
        ends = (metric.partition(OF_CLASS)[2] for metric in self.n if metric.startswith("auc@"))
        return tuple(end for end in ends if end)

    @property
    def problems(self) -> dict[str, str]:
        """End of a metric's name -> what is class 1: of several classes each against the rest."""
        return {OF_CLASS + name: name for name in self.classes} or {"": "class 1"}


def _at_external(values: Mapping[str, T]) -> dict[str, T]:
    """Those of the external thresholds under the names without them."""
    found = {name.removesuffix(EXTERNAL): value for name, value in values.items()}
    return found | {
        name.removesuffix(EXTERNAL): value
        for name, value in values.items()
        if name.endswith(EXTERNAL)
    }


@dataclass(frozen=True)
class Check:
    """A check: see the decorator."""

    mark: str
    letter: str
    meaning: str
    concerns: Concern
    ranked: bool
    shared: bool
    decided: bool
    function: Callable[[Case], Answer] = field(repr=False)

    def about(self, metric: str, external: bool = False) -> bool:
        """Does the mark, given at 0.5 or at the external thresholds, concern this metric?"""
        if self.concerns == "named":
            return False  # only those that it was found of
        if self.decided and metric.endswith(EXTERNAL) != external:
            return False
        if self.concerns == "everything":
            return True
        if self.concerns == "gaps":
            known = BETWEEN_GROUPS.get(metric.removesuffix(EXTERNAL))
            return known is not None and known.better == "lower"
        return plain(metric) in BETWEEN_GROUPS or "[" in metric


CHECKS: dict[str, Check] = {}


def check(
    letter: str,
    meaning: str,
    concerns: Concern = "everything",
    ranked: bool = False,
    shared: bool = False,
    decided: bool = False,
) -> Callable[[Callable[[Case], Answer]], Callable[[Case], Answer]]:
    """Register a check; its mark is the function's name.

    Args:
        letter: stands raised behind a number in tables.
        meaning: what the letter means, for the legend.
        concerns: metrics that bear the mark: all, those of or between groups, gaps alone, or those
            that the function names.
        ranked: whether a number with this mark may still be best or second.
        shared: numbers with this mark are not ranked against each other: they share first place.
        decided: whether it looks at decisions: it is asked at 0.5 and at the external thresholds,
            and each answer is of the metrics there.
    """

    def register(function: Callable[[Case], Answer]) -> Callable[[Case], Answer]:
        mark = function.__name__.replace("_", " ")
        CHECKS[mark] = Check(mark, letter, meaning, concerns, ranked, shared, decided, function)
        return function

    return register


@check("i", "AUC below 0.5 by more than chance: are the classes swapped in this test set?")
def implausible(case: Case) -> str | None:
    """Everybody is looked at with the whole error rate, the groups share another one.

    Of several classes each is looked at against the rest, and they share the error rate.
    """
    if case.classes:
        for end, name in case.problems.items():
            value, images = case.mean(f"auc{end}"), case.images(end)
            chance = CHANCE / len(case.classes)
            if below_chance(value, *images, chance, case.error(f"auc{end}")):
                return (
                    f"AUC of {name} against the rest is {value:.3f} with {images[0]} images of it: "
                    "are classes mistaken for each other?"
                )
        return None
    looks = [("", "", CHANCE)]
    looks += [
        (f"[{group}]", f" of group {name}", CHANCE / len(case.groups))
        for group, name in enumerate(case.groups)
    ]
    for suffix, whose, chance in looks:
        value, images = case.mean(f"auc{suffix}"), case.images(suffix)
        if below_chance(value, *images, chance, case.error(f"auc{suffix}")):
            return (
                f"AUC{whose} is {value:.3f} with {images[0]} images of class 1 and {images[1]} of "
                "class 0: is the label or the score turned round?"
            )
    return None


@check("s", f"fewer than {FEW} images of a class in a group", concerns="groups", ranked=True)
def small_group(case: Case) -> str | None:
    """Of the groups that count: a rate of two images is 0, 0.5 or 1."""
    if case.classes:
        few = {
            (group, name): case.images(f"[{group}]{end}")[0]
            for group in case.counted
            for end, name in case.problems.items()
        }
        small = [
            f"group {case.groups[group]} has {n} images of {name}"
            for (group, name), n in few.items()
            if n < FEW
        ]
        return "; ".join(small) or None
    small = [
        f"group {case.groups[group]} has {positives} images of class 1 and {negatives} of class 0"
        for group in case.counted
        for positives, negatives in [case.images(f"[{group}]")]
        if min(positives, negatives) < FEW
    ]
    return "; ".join(small) or None


@check("k", "the same decision for every image: a gap of 0 is no fairness", decided=True)
def constant_decisions(case: Case) -> str | None:
    """Of any model, since its gaps of 0 are part of the mean over folds and repeats."""
    of, models = (case.models, "models") if case.models else (case.values, "folds")
    for end, name in case.problems.items() if case.classes else ():
        rates = of.get(f"selection_rate{end}", np.empty(0))
        if folds := int(np.sum(rates == 1)):
            return f"every image is decided for {name} in {folds} of {len(rates)} {models}"
    rates = of.get("selection_rate", np.empty(0))
    constant = rates[(rates == 0) | (rates == 1)]
    if not len(constant):
        return None
    classes = " or ".join(f"class {label:.0f}" for label in np.unique(constant))
    return f"every image is decided for {classes} in {len(constant)} of {len(rates)} {models}"


@check(
    "c",
    f"collapsed: balanced accuracy below {limit_of(2):.3g} of two classes, {limit_of(3):.3g} of "
    "three (a tenth of the way from a coin's to 1), or not distinguishable from a coin's",
    decided=True,
)
def collapsed(case: Case) -> str | None:
    """Nothing is fair or unfair about decisions that do not depend on the disease."""
    error = case.error("balanced_accuracy")
    if isnan(error) and not case.classes:
        error = balanced_accuracy_error(case.mean("tpr"), case.mean("fpr"), *case.images())
    return hardly_better(case.mean("balanced_accuracy"), error, max(2, len(case.classes)))


@check(
    "l",
    f"levelled down: fairer, at more than {LOST:g} of balanced accuracy",
    concerns="gaps",
    decided=True,
)
def levelled_down(case: Case) -> str | None:
    """Fairer than the Baseline since it is worse for everybody."""
    if case.baseline is None:
        return None
    gaps, accuracies = (
        [one.mean(metric) for one in (case.baseline, case)]
        for metric in ("eodds", "balanced_accuracy")
    )
    if gaps[1] < gaps[0] and accuracies[0] - accuracies[1] > LOST:
        return (
            f"EOdds fell from {gaps[0]:.3f} to {gaps[1]:.3f}, and balanced accuracy from "
            f"{accuracies[0]:.3f} to {accuracies[1]:.3f}"
        )
    return None


@check(
    "f",
    "at or below the noise floor: 95 % of classifiers whose scores do not depend on the group have "
    "a gap of up to that much on these images",
    concerns="named",
    ranked=True,
    shared=True,
)
def below_floor(case: Case) -> dict[str, str]:
    """Of two such gaps neither is known to be the smaller."""
    return {
        metric: f"{metric} is {found.value:.3f}, and its noise floor is {found.floor_95:.3f}"
        for metric, found in case.intervals.items()
        if found.below_floor
    }


def hardly_better(value: float, error: float, classes: int = 2) -> str | None:
    """Why decisions are hardly better than a coin's; None where they are.

    Args:
        value: their balanced accuracy.
        error: its standard error; NaN: it is unknown, and only the limit counts.
        classes: how many there are.
    """
    limit = limit_of(classes)
    if value < limit:
        return f"balanced accuracy is {value:.3f}, below {limit:.3g}"
    low = value - NormalDist().inv_cdf(1 - CHANCE) * error
    if low <= 1 / classes:
        return f"balanced accuracy is {value:.3f} and its 95 % interval starts at {low:.3f}"
    return None


def below_chance(
    auc: float,
    positives: int,
    negatives: int,
    chance: float = CHANCE,
    error: float = float("nan"),
) -> bool:
    """Is an AUC lower than a classifier without skill has by chance?

    Where its error is unknown it is Hanley and McNeil's at 0.5, which is that of the Mann-Whitney
    statistic.
    """
    if not positives or not negatives or np.isnan(auc):
        return False
    if isnan(error):
        error = sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return auc < 0.5 - NormalDist().inv_cdf(1 - chance) * error


def balanced_accuracy_error(tpr: float, fpr: float, positives: int, negatives: int) -> float:
    """Standard error of balanced accuracy, of two independent shares.

    Two successes and two failures are added to each (Agresti and Coull, 1998), so that a share of
    0 or 1 of few images is not certain. NaN where a class is missing.
    """
    if not positives or not negatives:
        return float("nan")
    shares = [(tpr * positives + 2) / (positives + 4), (fpr * negatives + 2) / (negatives + 4)]
    variances = [
        share * (1 - share) / (n + 4)
        for share, n in zip(shares, (positives, negatives), strict=True)
    ]
    return sqrt(sum(variances)) / 2


def judge(
    metrics: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    min_group: Mapping[str, int],
    baseline: str | None = "baseline",
    intervals: pd.DataFrame | None = None,
    repeats: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """All checks of every method on every test set.

    Args:
        metrics: the tidy metrics: KEYS, fold, value, n.
        groups: attribute -> names of its groups.
        min_group: task -> fewest images of a group that counts, as `metrics.score` had it.
        baseline: the variant that is the Baseline; None: there is none.
        intervals: KEYS and the columns of `setup_intervals`; None: errors are of images.
        repeats: as `metrics`, a row a repeat, whose means those are; None: nothing is repeated.

    Returns:
        KEYS, mark, text: a row a mark; `metric` as in `COLUMNS`.
    """
    models = {} if repeats is None else _values(repeats)
    cases = dict(_cases(metrics, groups, min_group, _intervals(intervals), models))
    place = CASE.index("method")
    rows = []
    for key, case in cases.items():
        other = None
        if baseline is not None and key[place] != baseline:
            other = cases.get((*key[:place], baseline, *key[place + 1 :]))
        seen = replace(case, baseline=other)
        external = seen.at_external()
        for one in CHECKS.values():
            answer = one.function(seen) or {}
            texts = {"": answer} if isinstance(answer, str) else dict(answer)
            if one.decided and external is not None and (there := one.function(external)):
                texts[EXTERNAL] = f"at the external thresholds {there}"
            rows += [(*key, metric, one.mark, text) for metric, text in texts.items()]
    return pd.DataFrame(rows, columns=COLUMNS, dtype="object")


def _intervals(frame: pd.DataFrame | None) -> dict[tuple[str, ...], dict[str, Interval]]:
    """Case -> metric -> what is known of it."""
    found: dict[tuple[str, ...], dict[str, Interval]] = {}
    if frame is None or frame.empty:
        return found
    rows = frame[[*KEYS, *Interval._fields]].itertuples(index=False, name=None)
    for *place, metric, value, variance, floor, below in rows:
        one = Interval(value, variance, floor, pd.notna(below) and bool(below))
        found.setdefault(tuple(map(str, place)), {})[str(metric)] = one
    return found


def _cases(
    metrics: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    min_group: Mapping[str, int],
    intervals: Mapping[tuple[str, ...], Mapping[str, Interval]],
    models: Mapping[tuple[str, ...], Mapping[str, np.ndarray]],
) -> Iterator[tuple[tuple[str, ...], Case]]:
    n: dict[tuple[str, ...], dict[str, int]] = {}
    for *place, metric, rests_on in metrics[[*KEYS, "n"]].itertuples(index=False, name=None):
        n.setdefault(tuple(map(str, place)), {}).setdefault(str(metric), int(rests_on))
    for key, values in sorted(_values(metrics).items()):
        task, _, attribute, *_ = key
        case = Case(values, n[key], tuple(groups.get(attribute, ())), models=models.get(key, {}))
        # of several classes: the one that a group has fewest images of
        sizes = [
            min(case.images(f"[{group}]{end}") for end in case.problems)
            for group in range(len(case.groups))
        ]
        left_out = groups_left_out(sizes, min_group.get(task, 0))
        counted = [group for group in range(len(sizes)) if group not in left_out]
        yield key, replace(case, counted=counted, intervals=intervals.get(key, {}))


def _values(metrics: pd.DataFrame) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """Case -> metric -> the values that there are, in the order of the rows."""
    values: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for *place, metric, value in metrics[[*KEYS, "value"]].itertuples(index=False, name=None):
        of_metric = values.setdefault(tuple(map(str, place)), {}).setdefault(str(metric), [])
        of_metric += [] if pd.isna(value) else [float(value)]
    return {
        key: {metric: np.array(of_metric) for metric, of_metric in found.items()}
        for key, found in values.items()
    }


class Marks(NamedTuple):
    """The marks of a run, by cell (KEYS); those of a whole case under '' or EXTERNAL."""

    of: Mapping[tuple[str, ...], tuple[str, ...]]

    def about(self, key: tuple[str, ...]) -> tuple[Check, ...]:
        """The checks that failed and concern a cell (KEYS)."""
        *case, metric = key
        of_all = (
            (CHECKS[mark], where == EXTERNAL)
            for where in ("", EXTERNAL)
            for mark in self.of.get((*case, where), ())
        )
        named = (CHECKS[mark] for mark in self.of.get(key, ()))
        return (*(one for one, external in of_all if one.about(metric, external)), *named)

    def ranked(self, key: tuple[str, ...]) -> bool:
        """May a cell (KEYS) be the best or second of its column?"""
        return all(one.ranked for one in self.about(key))

    def shared(self, key: tuple[str, ...]) -> bool:
        """Does a cell (KEYS) share the first place of its column with others of its kind?"""
        return self.ranked(key) and any(one.shared for one in self.about(key))

    def remark(self, key: tuple[str, ...]) -> str:
        """Why a cell (KEYS) is not ranked: 'collapsed, constant decisions'; '' where it is."""
        return ", ".join(one.mark for one in self.about(key) if not one.ranked)


def marks(frame: pd.DataFrame) -> Marks:
    """The marks of what `judge` found, in the order of the checks."""
    of: dict[tuple[str, ...], list[str]] = {}
    rows = frame.reindex(columns=[*KEYS, "mark"], fill_value="")
    for *key, mark in rows.itertuples(index=False, name=None):
        of.setdefault(tuple(key), []).append(mark)
    return Marks({key: tuple(found) for key, found in of.items()})


NO_MARKS = Marks({})
