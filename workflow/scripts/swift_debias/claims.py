"""The claims of the paper's text, as data that numbers can support or contradict.

`resources/claims.yaml` states each claim with a typed check. A check looks its numbers up in an
`Evidence`, which is either the published tables or a run, so both are judged by the same rule. It
expands into instances, one comparison each; the claim's `need` says how many of them must hold.
What cannot be evaluated is None, with the reason, never False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, ValidationError

from . import tables
from .settings import Model, UserError
from .tables import HIGHER_IS_BETTER, Cell

TIE = 1e-9  # published values have three decimals; this only absorbs binary rounding
LINEAR = 0.95  # R^2 from which a line is called linear
BEST_OTHER = "best_other"
DEFAULT_VARIANT = "swift"

Need: TypeAlias = Literal["all", "any", "mixed"] | float


# --- evidence -------------------------------------------------------------------------------------


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
    cells: the numbers (`tables.lookup`).
    backbones: (task, the paper's network) -> the network that takes its place here.
    sweeps: (task, setting) -> (x, method), the variants of SWiFT that differ in this setting alone.
    titles: display names of the methods.
    absent: why a number may be missing.
    is_paper: these are the published tables themselves.
    """

    published: pd.DataFrame
    cells: Mapping[tuple[str, ...], Cell]
    backbones: Mapping[tuple[str, str], str]
    sweeps: Mapping[tuple[str, str], Sequence[tuple[float, str]]]
    titles: Mapping[str, str]
    absent: str
    is_paper: bool

    def name(self, scope: Scope) -> str:
        """For readers: 'DDI (skin tone, ResNet-50)', with the network that was used."""
        network = self.backbones.get((scope.task, scope.backbone), scope.backbone)
        attribute = tables.title(scope.attribute)
        attribute = attribute[:1].lower() + attribute[1:]
        return f"{tables.title(scope.dataset)} ({attribute}, {tables.title(network)})"

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

    def value(self, scope: Scope, method: str, metric: str) -> Value | None:
        """Mean and standard deviation over folds, or None."""
        backbone = self.backbones.get((scope.task, scope.backbone))
        dataset = "" if metric == "seconds" else scope.dataset
        key = (scope.task, backbone or "", scope.attribute, method, dataset, metric)
        cell = self.cells.get(key)
        if cell is None or np.isnan(cell.mean):
            return None
        return Value(cell.mean, cell.std)

    def average(self, scope: Scope, methods: Sequence[str], metric: str) -> Value | None:
        """The mean over methods of their values; None where one is missing."""
        values = [self.value(scope, method, metric) for method in methods]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        means, stds = zip(*known, strict=True)
        return Value(float(np.mean(means)), float(np.mean(stds)))

    def best_other(self, where: Where, scope: Scope, method: str, metric: str) -> str | None:
        """The best method beside `method` and the Baseline."""
        others = [m for m in self.methods(where, scope) if m not in (method, "baseline")]
        values = {m: self.value(scope, m, metric) for m in others}
        known = {m: _sign(metric) * value.mean for m, value in values.items() if value is not None}
        return max(known, key=known.__getitem__) if known else None


def _sign(metric: str) -> int:
    return 1 if metric in HIGHER_IS_BETTER else -1


class Instance(NamedTuple):
    """One comparison of a check."""

    label: str
    holds: bool | None  # None: not computed
    margin: float | None  # by how much; positive where it holds
    text: str


def _missing(evidence: Evidence, label: str) -> Instance:
    return Instance(label, None, None, evidence.absent)


def _apart(a: Value, b: Value) -> str:
    return "" if overlap(a, b) is not False else ", intervals apart"


def overlap(a: Value | Cell, b: Value | Cell) -> bool | None:
    """Do mean ± standard deviation of both overlap? None without a deviation."""
    if np.isnan(a.std) or np.isnan(b.std):
        return None
    return bool(abs(a.mean - b.mean) <= a.std + b.std + TIE)


# --- checks ---------------------------------------------------------------------------------------


class Better(Model):
    """Methods are better than others, strictly: in `metrics`, or in their spread over folds."""

    type: Literal["better"]
    better: tuple[str, ...]
    than: tuple[str, ...]
    metrics: tuple[str, ...]
    where: Where = Where()
    pairing: Literal["each", "mean"] = Field(
        "each", description="Every pair of methods, or the mean of one set against the other's."
    )
    of: Literal["mean", "std"] = "mean"

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope, metric and pair."""
        if self.pairing == "mean":
            pairs = [(self.better, self.than)]
        else:
            pairs = [((a,), (b,)) for a, b in product(self.better, self.than)]
        scopes = evidence.scopes(self.where)
        return [
            self._compare(evidence, *combination)
            for combination in product(scopes, self.metrics, pairs)
        ]

    def _compare(
        self,
        evidence: Evidence,
        scope: Scope,
        metric: str,
        pair: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> Instance:
        names = [evidence.method(*methods) for methods in pair]
        label = f"{evidence.name(scope)}: {tables.title(metric)}, {names[0]} against {names[1]}"
        a, b = (evidence.average(scope, methods, metric) for methods in pair)
        if a is None or b is None:
            return _missing(evidence, label)
        if self.of == "std":
            return Instance(label, a.std < b.std - TIE, b.std - a.std, f"{a.std:.3f}, {b.std:.3f}")
        margin = _sign(metric) * (a.mean - b.mean)
        text = f"{a.mean:.3f} against {b.mean:.3f}"
        return Instance(label, margin > TIE, margin, text + _apart(a, b))


class Best(Model):
    """A method is the best of all in its published table; a tie counts, and is told."""

    type: Literal["best"]
    method: str
    metrics: tuple[str, ...]
    where: Where = Where()
    excluding: tuple[str, ...] = ()

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope and metric."""
        return [
            self._compare(evidence, scope, metric)
            for scope, metric in product(evidence.scopes(self.where), self.metrics)
        ]

    def _compare(self, evidence: Evidence, scope: Scope, metric: str) -> Instance:
        label = f"{evidence.name(scope)}: {tables.title(metric)}"
        others = [
            method
            for method in evidence.methods(self.where, scope)
            if method not in (self.method, *self.excluding)
        ]
        own = evidence.value(scope, self.method, metric)
        found = {method: evidence.value(scope, method, metric) for method in others}
        rivals = {method: value for method, value in found.items() if value is not None}
        if own is None or len(rivals) < len(others):
            return _missing(evidence, label)
        sign = _sign(metric)
        best = max(rivals, key=lambda method: sign * rivals[method].mean)
        margin = sign * (own.mean - rivals[best].mean)
        tie = " (tie)" if abs(margin) <= TIE else ""
        text = f"{own.mean:.3f}, best other {evidence.method(best)} {rivals[best].mean:.3f}{tie}"
        return Instance(label, margin >= -TIE, margin, text)


class Reduction(Model):
    """A lower-is-better metric falls by at least `percent` from one method to another."""

    type: Literal["reduction"]
    from_method: str = Field(description="A method, or best_other.")
    to_method: str
    metric: str
    percent: float
    where: Where

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope."""
        return [self._compare(evidence, scope) for scope in evidence.scopes(self.where)]

    def _compare(self, evidence: Evidence, scope: Scope) -> Instance:
        label = f"{evidence.name(scope)}: {tables.title(self.metric)}"
        found = reduction(evidence, self.where, scope, self)
        if found is None:
            return _missing(evidence, label)
        margin = found.percent - self.percent
        # the quoted percentage is rounded to one decimal
        return Instance(label, margin >= -0.05, margin, str(found))


class Quotation(Model):
    """The text quotes numbers; do the published tables have them? Says nothing about this run."""

    type: Literal["quotation"]
    from_method: str = Field(description="A method, or best_other.")
    to_method: str
    metric: str
    where: Where
    values: tuple[float, float] | None = Field(None, description="The two quoted values.")
    percent: float | None = Field(None, description="The quoted reduction.")

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a quoted number and scope."""
        label = "the paper's text against its tables"
        if not evidence.is_paper:
            return [Instance(label, None, None, "about the paper's own text and tables")]
        found = []
        for scope in evidence.scopes(self.where):
            exact = reduction(evidence, self.where, scope, self)
            if exact is None:
                return [_missing(evidence, label)]
            label = f"{evidence.name(scope)}: {tables.title(self.metric)}"
            quoted = self.values or ()
            table = ((exact.method, exact.before), (evidence.method(self.to_method), exact.after))
            for text_value, (method, value) in zip(quoted, table, strict=False):
                holds = abs(text_value - value) < 5e-4
                text = f"text {text_value:.3f}, table {value:.3f}"
                text += "" if holds else _trace_value(evidence, self.where, scope, text_value)
                name = f"{label} of {method}"
                found.append(Instance(name, holds, value - text_value, text))
            if self.percent is not None:
                holds = abs(self.percent - exact.percent) <= 0.05 + TIE
                text = f"text {self.percent:.1f} %, table {exact.percent:.1f} %"
                text += "" if holds else self._trace_percent(evidence, scope)
                margin = exact.percent - self.percent
                found.append(Instance(f"{label}, reduction", holds, margin, text))
        return found

    def _trace_percent(self, evidence: Evidence, scope: Scope) -> str:
        """Where in the same table the quoted percentage comes from."""
        places = []
        if self.values:
            before, after = self.values
            places.append(f"the quoted values give {100 * (1 - after / before):.1f} %")
        anywhere = self.where.model_copy(update={"dataset": None, "attribute": None})
        for other in evidence.scopes(anywhere):
            for metric in ("spd", "eodds"):
                pair = self.model_copy(update={"metric": metric})
                found = reduction(evidence, anywhere, other, pair)
                if found and abs(found.percent - (self.percent or 0)) <= 0.05 + TIE:
                    names = f"{tables.title(metric)} on {evidence.name(other)}"
                    places.append(f"{self.percent:.1f} % is the reduction in {names}, {found}")
        return f" ({'; '.join(places)})" if places else ""


class ReductionValue(NamedTuple):
    """A relative reduction from one method to another."""

    percent: float
    before: float
    after: float
    method: str  # display name of the method reduced from

    def __str__(self) -> str:
        """For readers."""
        return f"{self.method} {self.before:.3f} to {self.after:.3f}: {self.percent:.1f} %"


def reduction(
    evidence: Evidence, where: Where, scope: Scope, check: Reduction | Quotation | Reductions
) -> ReductionValue | None:
    """By how many percent a metric falls between two methods; None where a value is missing."""
    before: str | None = check.from_method
    if before == BEST_OTHER:
        before = evidence.best_other(where, scope, check.to_method, check.metric)
    if before is None:
        return None
    a = evidence.value(scope, before, check.metric)
    b = evidence.value(scope, check.to_method, check.metric)
    if a is None or b is None or a.mean == 0:
        return None
    name = evidence.method(before)
    return ReductionValue(100 * (1 - b.mean / a.mean), a.mean, b.mean, name)


def _trace_value(evidence: Evidence, where: Where, scope: Scope, quoted: float) -> str:
    """Which cells of the same network and attribute hold a quoted number."""
    anywhere = where.model_copy(update=scope._asdict() | {"dataset": None})
    rows = evidence.rows(anywhere)
    hits = rows[(rows["mean"] - quoted).abs() < 5e-4]
    names = hits[["method", "metric", "dataset"]].itertuples(index=False, name=None)
    places = [
        f"{tables.title(metric)} of {evidence.method(method)} on {tables.title(dataset)}"
        for method, metric, dataset in names
    ]
    return f" ({quoted:.3f} is {', '.join(places)})" if places else ""


class Reductions(Model):
    """The relative reduction is greater in one place than in another."""

    type: Literal["reductions"]
    from_method: str
    to_method: str
    metric: str
    greater: Where
    smaller: Where

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One."""
        (a,), (b,) = evidence.scopes(self.greater), evidence.scopes(self.smaller)
        label = f"{tables.title(self.metric)}: {evidence.name(a)} against {evidence.name(b)}"
        more = reduction(evidence, self.greater, a, self)
        less = reduction(evidence, self.smaller, b, self)
        if more is None or less is None:
            return [_missing(evidence, label)]
        margin = more.percent - less.percent
        return [Instance(label, margin > TIE, margin, f"{more}; {less}")]


class Term(Model):
    """One cell."""

    where: Where
    method: str
    metric: str


class Order(Model):
    """One cell is below another, or at most equal to it."""

    type: Literal["order"]
    low: Term
    high: Term
    strict: bool = True

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One."""
        found = []
        for term in (self.low, self.high):
            (scope,) = evidence.scopes(term.where)
            value = evidence.value(scope, term.method, term.metric)
            name = f"{tables.title(term.metric)} of {evidence.method(term.method)}"
            found.append((f"{name}, {evidence.name(scope)}", value))
        (low_name, low), (high_name, high) = found
        label = f"{low_name} below {high_name}"
        if low is None or high is None:
            return [_missing(evidence, label)]
        margin = high.mean - low.mean
        holds = margin > TIE if self.strict else margin >= -TIE
        return [Instance(label, holds, margin, f"{low.mean:.3f}, {high.mean:.3f}")]


class Point(NamedTuple):
    """One point of a sweep."""

    x: float  # NaN: the default of a setting that is no number (threshold: mean)
    method: str
    value: Value

    @property
    def place(self) -> str:
        """x as text."""
        return "the default" if np.isnan(self.x) else f"{self.x:g}"


class NotMuchWorse(Model):
    """A method is worse than another by at most `within`, or better."""

    type: Literal["not_much_worse"]
    method: str
    than: str
    metric: str
    within: float
    where: Where

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope."""
        found = []
        for scope in evidence.scopes(self.where):
            label = f"{evidence.name(scope)}: {tables.title(self.metric)}"
            a = evidence.value(scope, self.method, self.metric)
            b = evidence.value(scope, self.than, self.metric)
            if a is None or b is None:
                found.append(_missing(evidence, label))
                continue
            margin = self.within + _sign(self.metric) * (a.mean - b.mean)
            text = f"{a.mean:.3f} against {b.mean:.3f}"
            found.append(Instance(label, margin >= -TIE, margin, text))
        return found


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
            label = f"{evidence.name(scope)}: {tables.title(metric)}"
            points = sweep(evidence, scope, metric, self.setting)
            if isinstance(points, str):
                found.append(Instance(label, None, None, points))
            elif self.at and not any(abs(p.x - self.at) < TIE for p in points):
                text = f"no variant with {self.setting} {self.at:g}"
                found.append(Instance(label, None, None, text))
            else:
                found += self._judge(label, points, _sign(metric))
        return found

    def _judge(self, label: str, points: Sequence[Point], sign: int) -> list[Instance]:
        from_at = [p for p in points if p.x >= self.at - TIE]
        if self.test in ("beats_baseline", "close_to_baseline"):
            start, here = points[0].value, from_at[0].value
            gain = sign * (here.mean - start.mean)
            beats = self.test == "beats_baseline"
            margin = gain if beats else self.within - abs(gain)
            text = f"{here.mean:.3f} at {self.at:g}, Baseline {start.mean:.3f}"
            return [Instance(label, margin > TIE, margin, text + _apart(here, start))]
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
        label = f"{tables.title(metric)}: {evidence.name(a)} against {evidence.name(b)}"
        pair = [sweep(evidence, scope, metric, self.setting) for scope in (a, b)]
        for points in pair:
            if isinstance(points, str):
                return Instance(label, None, None, points)
        series = [[p for p in points if isinstance(p, Point) and p.x != 0] for points in pair]
        if self.test == "best_differs":
            best = [max(s, key=lambda p: _sign(metric) * p.value.mean) for s in series]
            text = f"best at {best[0].place} and {best[1].place}"
            return Instance(label, best[0].method != best[1].method, None, text)
        ranges = [float(np.ptp([p.value.mean for p in s])) for s in series]
        text = f"range {ranges[0]:.3f} and {ranges[1]:.3f}"
        return Instance(label, ranges[0] < ranges[1], ranges[1] - ranges[0], text)


class Peak(Model):
    """The layer group with the highest mean mask is one of those named."""

    type: Literal["peak"]
    layers: tuple[str, ...]
    among: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    where: Where

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One a scope."""
        return [self._compare(evidence, scope) for scope in evidence.scopes(self.where)]

    def _compare(self, evidence: Evidence, scope: Scope) -> Instance:
        label = f"mean mask by layer group, {evidence.name(scope)}"
        start = (scope.task, evidence.backbones.get(scope[:2], ""), scope.attribute)
        means = {
            layer: evidence.cells[*start, DEFAULT_VARIANT, "", f"mask[{layer}]"].mean
            for layer in self.among
            if (*start, DEFAULT_VARIANT, "", f"mask[{layer}]") in evidence.cells
        }
        if len(means) < len(self.among):
            why = "only drawn in a figure" if evidence.is_paper else "no mask of these layer groups"
            return Instance(label, None, None, why)
        inside = max(means[layer] for layer in self.layers)
        outside = max(mean for layer, mean in means.items() if layer not in self.layers)
        text = ", ".join(f"{layer} {mean:.3f}" for layer, mean in means.items())
        return Instance(label, inside > outside, inside - outside, text)


class Manual(Model):
    """A claim that no number decides."""

    type: Literal["manual"]
    reason: str

    def instances(self, evidence: Evidence) -> list[Instance]:
        """One, not computed."""
        return [Instance("for the reader's eye", None, None, self.reason)]


# --- claims ---------------------------------------------------------------------------------------

Check: TypeAlias = Annotated[
    Better
    | Best
    | Reduction
    | Quotation
    | Reductions
    | Order
    | NotMuchWorse
    | Sweep
    | SweepPair
    | Peak
    | Manual,
    Field(discriminator="type"),
]


class Claim(Model):
    """One sentence of the paper that numbers can support or contradict."""

    id: str
    section: str
    claim: str = Field(description="What is claimed, in our words.")
    quote: str = Field(description="The paper's words.")
    need: Need = Field(
        "all",
        description="How many instances must hold: all, any, mixed (some do and some do not), or "
        "more than this share.",
    )
    check: Check
    note: str | None = None


class Outcome(NamedTuple):
    """How a claim fares."""

    holds: bool | None
    detail: str
    instances: list[Instance]


def read_claims(path: Path) -> list[Claim]:
    """The claims; a mistake in the file is a `UserError` that names the claim."""
    claims = []
    for number, raw in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        try:
            claims.append(Claim.model_validate(raw))
        except ValidationError as error:
            name = raw.get("id", f"number {number}") if isinstance(raw, dict) else f"{number}"
            raise UserError(f"{path}: claim {name}: {error}") from error
    repeated = {c.id for c in claims if sum(c.id == other.id for other in claims) > 1}
    if repeated:
        raise UserError(f"{path}: ids used twice: {', '.join(sorted(repeated))}")
    return claims


def judge(claim: Claim, evidence: Evidence) -> Outcome:
    """Evaluate one claim."""
    instances = claim.check.instances(evidence)
    holds = decide([instance.holds for instance in instances], claim.need)
    return Outcome(holds, _detail(instances, claim.need), instances)


def decide(holds: Sequence[bool | None], need: Need) -> bool | None:
    """Do enough instances hold? None where those not computed could turn the answer."""
    true, unknown = sum(h is True for h in holds), sum(h is None for h in holds)

    def enough(count: int) -> bool:
        if need == "all":
            return count == len(holds)
        if need == "mixed":
            return 0 < count < len(holds)
        return count > 0 if need == "any" else count / len(holds) > float(need)

    possible = {enough(true + count) for count in range(unknown + 1)} if holds else set()
    return possible.pop() if len(possible) == 1 else None


def _detail(instances: Sequence[Instance], need: Need) -> str:
    """By how much: a few comparisons in full; of many, how many hold and the one furthest off."""
    computed = [instance for instance in instances if instance.holds is not None]
    if not computed:
        reasons = dict.fromkeys(instance.text for instance in instances)
        return "not computed: " + "; ".join(reasons)
    if len(instances) == 1:
        return instances[0].text
    if len(instances) <= 3:
        return "; ".join(f"{instance.label}: {instance.text}" for instance in instances)
    parts = [f"{sum(bool(i.holds) for i in computed)} of {len(computed)} hold"]
    failing = [instance for instance in computed if not instance.holds]
    if failing and need not in ("any", "mixed"):
        worst = min(failing, key=lambda instance: instance.margin or 0.0)
        parts.append(f"furthest off: {worst.label} ({worst.text})")
    if len(computed) < len(instances):
        first = next(instance for instance in instances if instance.holds is None)
        missing = len(instances) - len(computed)
        parts.append(f"{missing} not computed ({first.label}: {first.text})")
    return "; ".join(parts)
