"""Where a check of a claim looks its numbers up: the published tables, or a run.

Both are judged by the same rule. What cannot be evaluated is None, with the reason, never False.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config.base import Model
from ..evaluation import words
from ..evaluation.cells import KEYS, Cell
from ..evaluation.plausibility import NO_MARKS, Marks
from ..evaluation.words import HIGHER_IS_BETTER

TIE = 1e-9  # published values have three decimals; this only absorbs binary rounding


DEFAULT_VARIANT = "swift"
NO_DEVIATION = "fewer than two folds: no deviation"


class Scope(NamedTuple):
    """One test set of one network and attribute, by the paper's names."""

    task: str
    backbone: str
    attribute: str
    dataset: str


class Side(NamedTuple):
    """One number that a comparison rests on."""

    scope: Scope
    method: str
    metric: str


def sides(scope: Scope, methods: Iterable[str], metric: str) -> list[Side]:
    """The numbers of several methods in one place."""
    return [Side(scope, method, metric) for method in methods]


class Where(Model):
    """Which scopes: those of the named published tables, narrowed down."""

    tables: tuple[int, ...] = (1, 2, 3, 4)
    task: str | None = None
    backbone: str | None = None
    attribute: str | None = None
    dataset: str | None = None


class Value(NamedTuple):
    """Mean and standard deviation of a cell, or of several cells averaged."""

    mean: float
    std: float


class Ends(NamedTuple):
    """The one interval of a cell, and of its difference to the Baseline; NaN where it has none."""

    low: float
    high: float
    difference_low: float
    difference_high: float


def ends(intervals: pd.DataFrame) -> dict[tuple[str, ...], Ends]:
    """Every cell's interval by its key, from the columns of `setup_intervals`."""
    if intervals.empty:
        return {}
    keys = intervals[KEYS].itertuples(index=False, name=None)
    values = intervals[list(Ends._fields)].to_numpy(float)
    return {tuple(map(str, key)): Ends(*row) for key, row in zip(keys, values, strict=True)}


@dataclass(frozen=True)
class Evidence:
    """Where a check looks its numbers up: the published tables, or this run.

    published: the published table; scopes and methods are always the paper's.
    cells: the numbers (`cells.lookup`).
    backbones: (task, the paper's network) -> the network that takes its place here.
    sweeps: (task, setting) -> (x, method), the variants of SWiFT that differ in this setting alone.
    titles: display names of the methods.
    absent: why a number may be missing.
    is_paper: these are the published tables themselves.
    marks: which of the numbers are not to be ranked.
    intervals: the run's intervals (`ends`); the published tables have none.
    """

    published: pd.DataFrame
    cells: Mapping[tuple[str, ...], Cell]
    backbones: Mapping[tuple[str, str], str]
    sweeps: Mapping[tuple[str, str], Sequence[tuple[float, str]]]
    titles: Mapping[str, str]
    absent: str
    is_paper: bool
    marks: Marks = NO_MARKS
    intervals: Mapping[tuple[str, ...], Ends] = field(default_factory=dict)

    def name(self, scope: Scope) -> str:
        """For readers: 'DDI (skin tone, ResNet-50)', with the network that was used."""
        network = self.backbones.get((scope.task, scope.backbone), scope.backbone)
        attribute = words.title(scope.attribute)
        attribute = attribute[:1].lower() + attribute[1:]
        return f"{words.title(scope.dataset)} ({attribute}, {words.title(network)})"

    def method(self, *names: str) -> str:
        """Display name of a method, or of several."""
        return " and ".join(self.titles.get(name, name) for name in names)

    def scopes(self, where: Where) -> list[Scope]:
        """The scopes that a claim speaks of."""
        rows = self.rows(where)
        unique = rows[list(Scope._fields)].drop_duplicates()
        return [Scope(*row) for row in unique.itertuples(index=False, name=None)]

    def methods(self, where: Where, scope: Scope) -> list[str]:
        """Methods of the published tables in a scope."""
        narrow = where.model_copy(update=scope._asdict())
        return list(self.rows(narrow)["method"].unique())

    def rows(self, where: Where) -> pd.DataFrame:
        """The published rows that a claim speaks of."""
        rows = self.published[self.published["table"].isin(where.tables)]
        for name in Scope._fields:
            if (value := getattr(where, name)) is not None:
                rows = rows[rows[name] == value]
        return rows

    def key(self, scope: Scope, method: str, metric: str) -> tuple[str, ...]:
        """The cell of a method's metric."""
        backbone = self.backbones.get((scope.task, scope.backbone))
        dataset = "" if metric == "seconds" else scope.dataset
        return (scope.task, backbone or "", scope.attribute, method, dataset, metric)

    def value(self, scope: Scope, method: str, metric: str) -> Value | None:
        """Mean and standard deviation over folds, or None."""
        cell = self.cells.get(self.key(scope, method, metric))
        if cell is None or np.isnan(cell.mean):
            return None
        return Value(cell.mean, cell.std)

    def unranked(self, numbers: Sequence[Side]) -> str:
        """Which of the numbers are not to be ranked, and why: 'LLFT is collapsed'; '': none."""
        several = len({side.scope for side in numbers}) > 1
        told: dict[str, None] = {}
        for side in numbers:
            if why := self.marks.remark(self.key(*side)):
                place = f" on {self.name(side.scope)}" if several else ""
                told[f"{self.method(side.method)} is {why}{place}"] = None
        return ", ".join(told)

    def below_floor(self, numbers: Sequence[Side]) -> str:
        """', both below the noise floor' where all of the gaps are; '' otherwise.

        Such gaps are not ranked against each other.
        """
        count = "both" if len(numbers) == 2 else "all"
        shared = all(self.marks.shared(self.key(*side)) for side in numbers)
        return f", {count} below the noise floor" if shared else ""

    def not_compared(self, numbers: Sequence[Side]) -> str:
        """Why nothing is known of numbers of which none is to win: ', but SWiFT is collapsed'."""
        why = self.unranked(numbers)
        return f", but {why}" if why else self.below_floor(numbers)

    def compared(
        self,
        label: str,
        holds: bool,
        margin: float,
        text: str,
        own: Sequence[Side],
        others: Sequence[Side],
    ) -> Instance:
        """A comparison that `own` wins where it holds, and `others` where it does not.

        A win by what is not ranked does not count, and neither does a defeat by it.
        """
        if below := self.below_floor([*own, *others]):
            return Instance(label, None, None, text + below)
        if why := self.unranked(own if holds else others):
            return Instance(label, False if holds else None, margin, f"{text}, but {why}")
        return Instance(label, holds, margin, text)

    def apart(self, scope: Scope, pair: Sequence[Sequence[str]], metric: str) -> str:
        """What the intervals say of two methods (or means of methods), for readers.

        In a run the one interval decides (evaluation/intervals.py): that of the difference where
        one of them is the Baseline, else whether those of both overlap. It says nothing of means
        over methods. The published tables have mean ± standard deviation alone.
        """
        if self.is_paper or not self.intervals:
            a, b = (self.average(scope, methods, metric) for methods in pair)
            return ", intervals apart" if a and b and overlap(a, b) is False else ""
        if any(len(methods) != 1 for methods in pair):
            return ""
        names = [methods[0] for methods in pair]
        found = [self.intervals.get(self.key(scope, name, metric)) for name in names]
        one, other = found
        if one is None or other is None:
            return ""
        if "baseline" in names:
            change = one if names[1] == "baseline" else other
            low, high = change.difference_low, change.difference_high
            if np.isnan(low):
                return ""
            word = "not distinguishable" if low <= 0 <= high else "distinguishable"
            return f", {word}: 95 % interval of the difference {low:+.3f} to {high:+.3f}"
        return ", intervals apart" if one.high < other.low or other.high < one.low else ""

    def average(self, scope: Scope, methods: Sequence[str], metric: str) -> Value | None:
        """The mean over methods of their values; None where one is missing."""
        values = [self.value(scope, method, metric) for method in methods]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        means, stds = zip(*known, strict=True)
        return Value(float(np.mean(means)), float(np.mean(stds)))

    def best_other(self, where: Where, scope: Scope, method: str, metric: str) -> str | None:
        """The best method beside `method` and the Baseline, of those that are ranked."""
        others = [m for m in self.methods(where, scope) if m not in (method, "baseline")]
        values = {m: self.value(scope, m, metric) for m in others}
        known = {
            m: direction(metric) * value.mean
            for m, value in values.items()
            if value is not None and not self.unranked([Side(scope, m, metric)])
        }
        return max(known, key=known.__getitem__) if known else None


def direction(metric: str) -> int:
    return 1 if metric in HIGHER_IS_BETTER else -1


class Instance(NamedTuple):
    """One comparison of a check."""

    label: str
    holds: bool | None  # None: not computed
    margin: float | None  # by how much; positive where it holds
    text: str


def missing(evidence: Evidence, label: str) -> Instance:
    return Instance(label, None, None, evidence.absent)


def overlap(a: Value | Cell, b: Value | Cell) -> bool | None:
    """Do mean ± standard deviation of both overlap? None without a deviation."""
    if np.isnan(a.std) or np.isnan(b.std):
        return None
    return bool(abs(a.mean - b.mean) <= a.std + b.std + TIE)
