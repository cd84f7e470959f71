"""Typed checks of the paper's claims: who is better, by how much, in which order.

A check looks its numbers up in an `Evidence` and expands into instances, one comparison each.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

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
    Where,
    direction,
    missing,
    sides,
)

BEST_OTHER = "best_other"


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
        label = f"{evidence.name(scope)}: {words.title(metric)}, {names[0]} against {names[1]}"
        a, b = (evidence.average(scope, methods, metric) for methods in pair)
        if a is None or b is None:
            return missing(evidence, label)
        own, others = (sides(scope, methods, metric) for methods in pair)
        if self.of == "std":
            margin = b.std - a.std
            if np.isnan(margin):
                return Instance(label, None, None, NO_DEVIATION)
            text = f"{a.std:.3f}, {b.std:.3f}"
        else:
            margin = direction(metric) * (a.mean - b.mean)
            text = f"{a.mean:.3f} against {b.mean:.3f}" + evidence.apart(scope, pair, metric)
        return evidence.compared(label, margin > TIE, margin, text, own, others)


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
        label = f"{evidence.name(scope)}: {words.title(metric)}"
        others = [
            method
            for method in evidence.methods(self.where, scope)
            if method not in (self.method, *self.excluding)
        ]
        own = evidence.value(scope, self.method, metric)
        found = {method: evidence.value(scope, method, metric) for method in others}
        rivals = {method: value for method, value in found.items() if value is not None}
        if own is None or len(rivals) < len(others):
            return missing(evidence, label)
        sign = direction(metric)
        out = [name for name in rivals if evidence.unranked([Side(scope, name, metric)])]
        ahead = [name for name in out if sign * (rivals.pop(name).mean - own.mean) > TIE]
        remark = evidence.unranked(sides(scope, ahead, metric))
        remark = f"; not counted, though better: {remark}" if remark else ""
        if not rivals:
            return Instance(label, None, None, f"no other method is ranked{remark}")
        best = max(rivals, key=lambda method: sign * rivals[method].mean)
        margin = sign * (own.mean - rivals[best].mean)
        tie = " (tie)" if abs(margin) <= TIE else ""
        text = f"{own.mean:.3f}, best other {evidence.method(best)} {rivals[best].mean:.3f}{tie}"
        if why := evidence.unranked([Side(scope, self.method, metric)]):
            return Instance(label, False, margin, f"{text}, but {why}{remark}")
        below = evidence.below_floor(sides(scope, [self.method, best], metric))  # then they tie
        return Instance(label, bool(below) or margin >= -TIE, margin, text + below + remark)


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
        label = f"{evidence.name(scope)}: {words.title(self.metric)}"
        found = reduction(evidence, self.where, scope, self)
        if found is None:
            return missing(evidence, label)
        margin = found.percent - self.percent
        before, after = sides(scope, (found.start, self.to_method), self.metric)
        holds = margin >= -0.05  # the quoted percentage is rounded to one decimal
        return evidence.compared(label, holds, margin, str(found), [after], [before])


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
                return [missing(evidence, label)]
            label = f"{evidence.name(scope)}: {words.title(self.metric)}"
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
                    names = f"{words.title(metric)} on {evidence.name(other)}"
                    places.append(f"{self.percent:.1f} % is the reduction in {names}, {found}")
        return f" ({'; '.join(places)})" if places else ""


class ReductionValue(NamedTuple):
    """A relative reduction from one method to another."""

    percent: float
    before: float
    after: float
    method: str  # display name of the method reduced from
    start: str  # that method

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
    return ReductionValue(100 * (1 - b.mean / a.mean), a.mean, b.mean, name, before)


def _trace_value(evidence: Evidence, where: Where, scope: Scope, quoted: float) -> str:
    """Which cells of the same network and attribute hold a quoted number."""
    anywhere = where.model_copy(update=scope._asdict() | {"dataset": None})
    rows = evidence.rows(anywhere)
    hits = rows[(rows["mean"] - quoted).abs() < 5e-4]
    names = hits[["method", "metric", "dataset"]].itertuples(index=False, name=None)
    places = [
        f"{words.title(metric)} of {evidence.method(method)} on {words.title(dataset)}"
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
        label = f"{words.title(self.metric)}: {evidence.name(a)} against {evidence.name(b)}"
        more = reduction(evidence, self.greater, a, self)
        less = reduction(evidence, self.smaller, b, self)
        if more is None or less is None:
            return [missing(evidence, label)]
        margin, text = more.percent - less.percent, f"{more}; {less}"
        before, after = sides(a, (more.start, self.to_method), self.metric)
        less_before, less_after = sides(b, (less.start, self.to_method), self.metric)
        for scope, pair in ((a, (before, after)), (b, (less_before, less_after))):
            if below := evidence.below_floor(pair):
                return [Instance(label, None, None, f"{text}; on {evidence.name(scope)}{below}")]
        # a low end makes its own reduction greater, a low start makes it smaller
        own, others = [after, less_before], [less_after, before]
        return [evidence.compared(label, margin > TIE, margin, text, own, others)]


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
        names, values, numbers = [], [], []
        for term in (self.low, self.high):
            (scope,) = evidence.scopes(term.where)
            name = f"{words.title(term.metric)} of {evidence.method(term.method)}"
            names.append(f"{name}, {evidence.name(scope)}")
            values.append(evidence.value(scope, term.method, term.metric))
            numbers.append(Side(scope, term.method, term.metric))
        label = f"{names[0]} below {names[1]}"
        low, high = values
        if low is None or high is None:
            return [missing(evidence, label)]
        margin, text = high.mean - low.mean, f"{low.mean:.3f}, {high.mean:.3f}"
        if why := evidence.not_compared(numbers):
            return [Instance(label, None, None, text + why)]
        holds = margin > TIE if self.strict else margin >= -TIE
        return [Instance(label, holds, margin, text)]


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
            label = f"{evidence.name(scope)}: {words.title(self.metric)}"
            a = evidence.value(scope, self.method, self.metric)
            b = evidence.value(scope, self.than, self.metric)
            if a is None or b is None:
                found.append(missing(evidence, label))
                continue
            margin = self.within + direction(self.metric) * (a.mean - b.mean)
            text = f"{a.mean:.3f} against {b.mean:.3f}"
            own, other = sides(scope, (self.method, self.than), self.metric)
            found.append(evidence.compared(label, margin >= -TIE, margin, text, [own], [other]))
        return found


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
