"""Typed checks of how metrics depend on one setting of SWiFT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from ..config.base import Model
from ..evaluation import words
from .evidence import (
    DEFAULT_VARIANT,
    NO_DEVIATION,
    TIE,
    Evidence,
    Instance,
    Scope,
    Side,
    Value,
    Where,
    direction,
    overlap,
    sides,
)

BASELINE = "baseline"
LINEAR = 0.95  # R^2 from which a line is called linear


class Point(NamedTuple):
    """One point of a sweep."""

    x: float  # NaN: the default of a setting that is no number (threshold: mean)
    method: str
    value: Value

    @property
    def place(self) -> str:
        """x as text."""
        return "the default" if np.isnan(self.x) else f"{self.x:g}"


class Line(NamedTuple):
    """The points of a sweep that have a value, in order of x; the Baseline may be one of them."""

    evidence: Evidence
    scope: Scope
    metric: str
    points: Sequence[Point]

    @property
    def variants(self) -> list[Point]:
        """Those of SWiFT."""
        return [point for point in self.points if point.method != BASELINE]

    @property
    def ranked(self) -> list[Point]:
        """Those of SWiFT that are to be ranked."""
        return [p for p in self.variants if not self.evidence.unranked(self.sides(p))]

    def of(self, method: str) -> Point | None:
        """A method's point; None where it has no value."""
        return next((point for point in self.points if point.method == method), None)

    def sides(self, *points: Point) -> list[Side]:
        """The numbers of these points, for `Evidence`."""
        return sides(self.scope, (point.method for point in points), self.metric)

    def first(self) -> tuple[list[Point], str]:
        """The best of the ranked variants with those that share its place; which do not count."""
        sign = direction(self.metric)
        ranked = self.ranked
        if not ranked:
            return [], ""
        best = max(ranked, key=lambda point: sign * point.value.mean)
        others = [point for point in ranked if point is not best]
        alike = [p for p in others if self.evidence.below_floor(self.sides(best, p))]
        ahead = [p for p in self.variants if sign * (p.value.mean - best.value.mean) > TIE]
        why = self.evidence.unranked(self.sides(*ahead))
        return [best, *alike], f"; not counted, though better: {why}" if why else ""


class Sweep(Model):
    """How metrics depend on one setting of SWiFT; x = 0 is the Baseline.

    beats_baseline: the point `at` does. close_to_baseline: it is at most `within` away. steady:
    mean ± std of every later point overlaps that of `at`. improves, worsens: the slope of the line
    fitted from `at` on. linear: a line fits with R^2 of at least 0.95. near_best: mean ± std of the
    default setting overlaps that of the best point.
    """

    type: Literal["sweep"]
    setting: Literal["epochs_percent", "external_fraction", "threshold"]
    test: Literal[
        "beats_baseline",
        "close_to_baseline",
        "steady",
        "improves",
        "worsens",
        "linear",
        "near_best",
    ]
    metrics: tuple[str, ...]
    where: Where
    at: float = 0.0
    within: float = 0.0

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope and metric; `steady`: one a later point."""
        found = []
        for scope, metric in product(evidence.scopes(self.where), self.metrics):
            label = f"{evidence.name(scope)}: {words.title(metric)}"
            line = sweep(evidence, scope, metric, self.setting)
            if isinstance(line, str):
                found.append(Instance(label, None, None, line))
            elif self.at and not any(abs(p.x - self.at) < TIE for p in line.points):
                text = f"no variant with {self.setting} {self.at:g}"
                found.append(Instance(label, None, None, text))
            else:
                found += self._judge(label, line)
        return found

    def _judge(self, label: str, line: Line) -> list[Instance]:
        from_at = [p for p in line.points if p.x >= self.at - TIE]
        if self.test in ("beats_baseline", "close_to_baseline"):
            return [self._beside_baseline(label, line, from_at[0])]
        if self.test == "steady":
            first, *later = from_at
            return [_steady(label, line, first, point) for point in later] or [
                Instance(label, None, None, f"no point beyond {self.at:g}")
            ]
        if self.test == "near_best":
            return [_near_best(label, line)]
        return [self._fit(label, line, from_at)]

    def _beside_baseline(self, label: str, line: Line, here: Point) -> Instance:
        start = line.of(BASELINE)
        if start is None:
            return Instance(label, None, None, "no value of the Baseline")
        gain = direction(line.metric) * (here.value.mean - start.value.mean)
        margin = gain if self.test == "beats_baseline" else self.within - abs(gain)
        text = f"{here.value.mean:.3f} at {self.at:g}, Baseline {start.value.mean:.3f}"
        text += line.evidence.apart(line.scope, ([here.method], [start.method]), line.metric)
        own, others = line.sides(here), line.sides(start)
        return line.evidence.compared(label, margin > TIE, margin, text, own, others)

    def _fit(self, label: str, line: Line, points: Sequence[Point]) -> Instance:
        if len(points) < 3:
            return Instance(label, None, None, f"{len(points)} points: no line can be judged")
        x, y = np.array([(p.x, p.value.mean) for p in points]).T
        slope, start = np.polyfit(x, y, 1)
        if self.test == "linear":
            r2 = 1 - np.sum((y - start - slope * x) ** 2) / max(np.sum((y - y.mean()) ** 2), TIE)
            margin, holds = float(r2 - LINEAR), bool(r2 >= LINEAR)
            text = f"R² {r2:.3f} over {len(points)} points"
        else:
            change = float(slope * np.ptp(x))
            margin = change * direction(line.metric) * (1 if self.test == "improves" else -1)
            holds, text = margin > TIE, f"fitted change {change:+.3f}"
        if why := line.evidence.not_compared(line.sides(*points)):
            return Instance(label, None, None, text + why)
        return Instance(label, holds, margin, text)


def _steady(label: str, line: Line, first: Point, point: Point) -> Instance:
    label = f"{label}, {point.x:g} against {first.x:g}"
    change = abs(point.value.mean - first.value.mean)
    text = f"{point.value.mean:.3f} against {first.value.mean:.3f}"
    pair = line.sides(first, point)
    if why := line.evidence.unranked(pair):
        return Instance(label, None, None, f"{text}, but {why}")
    if below := line.evidence.below_floor(pair):  # then neither is known to be another
        return Instance(label, True, -change, text + below)
    holds = overlap(point.value, first.value)
    return Instance(label, holds, -change, text if holds is not None else NO_DEVIATION)


def _near_best(label: str, line: Line) -> Instance:
    """Is the default setting as good as the best one? Like `claim_checks.Best`."""
    default = line.of(DEFAULT_VARIANT)
    if default is None:
        return Instance(label, None, None, "no value of the default setting")
    firsts, remark = line.first()
    if not [point for point in line.ranked if point is not default]:
        return Instance(label, None, None, f"no other point is ranked{remark}")
    best = firsts[0]
    text = f"default {default.value.mean:.3f}, best {best.value.mean:.3f} at {best.place}"
    margin = direction(line.metric) * (default.value.mean - best.value.mean)
    if why := line.evidence.unranked(line.sides(default)):
        return Instance(label, False, margin, f"{text}, but {why}{remark}")
    if default in firsts:
        return Instance(label, True, margin, text + remark)
    holds = overlap(default.value, best.value)
    return Instance(label, holds, margin, text + remark if holds is not None else NO_DEVIATION)


def sweep(evidence: Evidence, scope: Scope, metric: str, setting: str) -> Line | str:
    """The points of a sweep in order of x, or why there is none."""
    if evidence.is_paper:
        return "only drawn in a figure; the paper gives no numbers"
    points = []
    for x, method in evidence.sweeps.get((scope.task, setting), ()):
        value = evidence.value(scope, method, metric)
        if value is not None:
            points.append(Point(x, method, value))
    if not any(point.method not in (BASELINE, DEFAULT_VARIANT) for point in points):
        return f"no variant of SWiFT with another {setting} in this run"
    points.sort(key=lambda point: (np.isnan(point.x), point.x))
    return Line(evidence, scope, metric, points)


class SweepPair(Model):
    """Two sweeps: the best x differs, or the first metric's range is smaller."""

    type: Literal["sweep_pair"]
    setting: Literal["epochs_percent", "external_fraction", "threshold"]
    test: Literal["best_differs", "smaller_range"]
    metrics: tuple[str, ...]
    first: Where
    second: Where

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a metric."""
        (a,), (b,) = evidence.scopes(self.first), evidence.scopes(self.second)
        return [self._compare(evidence, a, b, metric) for metric in self.metrics]

    def _compare(self, evidence: Evidence, a: Scope, b: Scope, metric: str) -> Instance:
        label = f"{words.title(metric)}: {evidence.name(a)} against {evidence.name(b)}"
        lines = [sweep(evidence, scope, metric, self.setting) for scope in (a, b)]
        first, second = lines
        if isinstance(first, str) or isinstance(second, str):
            why = next(line for line in lines if isinstance(line, str))
            return Instance(label, None, None, why)
        if self.test == "best_differs":
            return _best_differs(label, first, second)
        ranges = [float(np.ptp([p.value.mean for p in line.variants])) for line in (first, second)]
        text = f"range {ranges[0]:.3f} and {ranges[1]:.3f}"
        numbers = [*first.sides(*first.variants), *second.sides(*second.variants)]
        if why := evidence.not_compared(numbers):
            return Instance(label, None, None, text + why)
        return Instance(label, ranges[0] < ranges[1], ranges[1] - ranges[0], text)


def _best_differs(label: str, first: Line, second: Line) -> Instance:
    (one, remark), (two, other) = first.first(), second.first()
    if not one or not two:
        return Instance(label, None, None, "no point of a sweep is ranked")
    text = f"best at {one[0].place} and {two[0].place}{remark}{other}"
    shared = {point.method for point in one} & {point.method for point in two}
    if shared and len(one) + len(two) > 2:
        return Instance(label, None, None, f"{text}, and others below the noise floor as well")
    return Instance(label, not shared, None, text)
