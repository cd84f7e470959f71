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
    TIE,
    Evidence,
    Instance,
    Scope,
    Value,
    Where,
    direction,
    overlap,
)

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
            points = sweep(evidence, scope, metric, self.setting)
            if isinstance(points, str):
                found.append(Instance(label, None, None, points))
            elif self.at and not any(abs(p.x - self.at) < TIE for p in points):
                text = f"no variant with {self.setting} {self.at:g}"
                found.append(Instance(label, None, None, text))
            else:
                told = self._told(evidence, scope, metric, points)
                found += self._judge(label, points, direction(metric), told)
        return found

    def _told(self, evidence: Evidence, scope: Scope, metric: str, points: Sequence[Point]) -> str:
        """What the intervals say of the setting `at` and the first one, the Baseline."""
        here = next(p for p in points if p.x >= self.at - TIE)
        return evidence.apart(scope, ([here.method], [points[0].method]), metric)

    def _judge(self, label: str, points: Sequence[Point], sign: int, told: str) -> list[Instance]:
        from_at = [p for p in points if p.x >= self.at - TIE]
        if self.test in ("beats_baseline", "close_to_baseline"):
            start, here = points[0].value, from_at[0].value
            gain = sign * (here.mean - start.mean)
            beats = self.test == "beats_baseline"
            margin = gain if beats else self.within - abs(gain)
            text = f"{here.mean:.3f} at {self.at:g}, Baseline {start.mean:.3f}"
            return [Instance(label, margin > TIE, margin, text + told)]
        if self.test == "steady":
            first, *later = from_at
            return [_steady(label, first, point) for point in later] or [
                Instance(label, None, None, f"no point beyond {self.at:g}")
            ]
        if self.test == "near_best":
            default = next(p.value for p in points if p.method == DEFAULT_VARIANT)
            best = max((p for p in points if p.x != 0), key=lambda p: sign * p.value.mean)
            text = f"default {default.mean:.3f}, best {best.value.mean:.3f} at {best.place}"
            margin = sign * (default.mean - best.value.mean)
            return [Instance(label, overlap(default, best.value), margin, text)]
        return [self._fit(label, from_at, sign)]

    def _fit(self, label: str, points: Sequence[Point], sign: int) -> Instance:
        if len(points) < 3:
            return Instance(label, None, None, f"{len(points)} points: no line can be judged")
        x, y = np.array([(p.x, p.value.mean) for p in points]).T
        slope, start = np.polyfit(x, y, 1)
        if self.test == "linear":
            r2 = 1 - np.sum((y - start - slope * x) ** 2) / max(np.sum((y - y.mean()) ** 2), TIE)
            text = f"R² {r2:.3f} over {len(points)} points"
            return Instance(label, bool(r2 >= LINEAR), float(r2 - LINEAR), text)
        change = float(slope * np.ptp(x))
        margin = sign * change if self.test == "improves" else -sign * change
        return Instance(label, margin > TIE, margin, f"fitted change {change:+.3f}")


def _steady(label: str, first: Point, point: Point) -> Instance:
    label = f"{label}, {point.x:g} against {first.x:g}"
    change = abs(point.value.mean - first.value.mean)
    text = f"{point.value.mean:.3f} against {first.value.mean:.3f}"
    return Instance(label, overlap(point.value, first.value), -change, text)


def sweep(evidence: Evidence, scope: Scope, metric: str, setting: str) -> list[Point] | str:
    """The points of a sweep in order of x, or why there is none."""
    if evidence.is_paper:
        return "only drawn in a figure; the paper gives no numbers"
    points = []
    for x, method in evidence.sweeps.get((scope.task, setting), ()):
        value = evidence.value(scope, method, metric)
        if value is not None:
            points.append(Point(x, method, value))
    if not any(point.method not in ("baseline", DEFAULT_VARIANT) for point in points):
        return f"no variant of SWiFT with another {setting} in this run"
    return sorted(points, key=lambda point: (np.isnan(point.x), point.x))


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
        pair = [sweep(evidence, scope, metric, self.setting) for scope in (a, b)]
        for points in pair:
            if isinstance(points, str):
                return Instance(label, None, None, points)
        series = [[p for p in points if isinstance(p, Point) and p.x != 0] for points in pair]
        if self.test == "best_differs":
            best = [max(s, key=lambda p: direction(metric) * p.value.mean) for s in series]
            text = f"best at {best[0].place} and {best[1].place}"
            return Instance(label, best[0].method != best[1].method, None, text)
        ranges = [float(np.ptp([p.value.mean for p in s])) for s in series]
        text = f"range {ranges[0]:.3f} and {ranges[1]:.3f}"
        return Instance(label, ranges[0] < ranges[1], ranges[1] - ranges[0], text)
