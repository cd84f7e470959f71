"""Where a check of a claim looks its numbers up: the published tables, or a run.

Both are judged by the same rule. What cannot be evaluated is None, with the reason, never False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config.base import Model
from ..evaluation import words
from ..evaluation.cells import Cell
from ..evaluation.plausibility import NO_MARKS, Marks
from ..evaluation.words import HIGHER_IS_BETTER

TIE = 1e-9  # published values have three decimals; this only absorbs binary rounding


DEFAULT_VARIANT = "swift"


class Scope(NamedTuple):
    """One test set of one network and attribute, by the paper's names."""

    task: str
    backbone: str
    attribute: str
    dataset: str


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
    """

    published: pd.DataFrame
    cells: Mapping[tuple[str, ...], Cell]
    backbones: Mapping[tuple[str, str], str]
    sweeps: Mapping[tuple[str, str], Sequence[tuple[float, str]]]
    titles: Mapping[str, str]
    absent: str
    is_paper: bool
    marks: Marks = NO_MARKS

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

    def unranked(self, scope: Scope, methods: Sequence[str], metric: str) -> str:
        """Which of the methods are not to be ranked, and why: 'LLFT is collapsed'; '': none."""
        why = {method: self.marks.remark(self.key(scope, method, metric)) for method in methods}
        return ", ".join(f"{self.method(name)} is {text}" for name, text in why.items() if text)

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
            if value is not None and not self.unranked(scope, [m], metric)
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


def apart(a: Value, b: Value) -> str:
    return "" if overlap(a, b) is not False else ", intervals apart"


def overlap(a: Value | Cell, b: Value | Cell) -> bool | None:
    """Do mean ± standard deviation of both overlap? None without a deviation."""
    if np.isnan(a.std) or np.isnan(b.std):
        return None
    return bool(abs(a.mean - b.mean) <= a.std + b.std + TIE)
