"""An audit of anybody's scores: every metric overall and by group, with intervals and counts.

One row a metric. A metric of a group is named `tpr[female]`; over the groups that count,
`tpr_difference` is largest minus smallest, `tpr_ratio` smallest by largest, and `tpr_worst` the
value of the group that fares worst. The criteria of the field have their usual names besides
(`CRITERIA`). Intervals are those of intervals.py for one model: how far another sample of patients
could be, the model as it is. Images without a patient count as a person each. The interval of a
worst group and of a gap is a projection of the groups' simultaneous intervals, that of a ratio one
of the signed differences of the logarithms.

The calibration error of bins has none: chance moves every bin away from 0, so its value is too high
in the mean, more so of few images, and an interval around it would leave the truth out. Beside it
stands what calibrated scores would have by chance (`ece_by_chance`).

Every rate is a ratio of two sums over images (influence.py); the tests hold the values against
scikit-learn and fairlearn. A metric that somebody adds to metrics.py is here too, without an
interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..errors import UserError
from . import influence, intervals
from .influence import Part
from .metrics import ECE_BINS, OF_ROWS, Sample, groups_left_out, of_rows
from .plausibility import FEW, balanced_accuracy_error, hardly_better
from .thresholds import reached

COLUMNS = ["metric", "value", "low", "high", "n", "reason"]
# Of everybody and of each group. n: which images a value rests on.
RATES = {
    "auc": "all",
    "accuracy": "all",
    "balanced_accuracy": "all",
    "prevalence": "all",
    "selection_rate": "all",
    "tpr": "positive",
    "tnr": "negative",
    "fpr": "negative",
    "fnr": "positive",
    "ppv": "selected",
    "f1": "all",
    "ece": "all",
    "brier": "all",
}
# These, and gaps and ratios of them, rest on no decision; all else does.
OF_SCORES = ("auc", "prevalence", "ece", "brier")
WORST_IS_LOWEST = {"auc", "accuracy", "balanced_accuracy", "tpr", "tnr", "ppv", "f1"}
WORST_IS_HIGHEST = {"fpr", "fnr", "ece", "brier"}
CRITERIA = {
    "spd": "difference of the selection rates",
    "demographic_parity_ratio": "ratio of the selection rates",
    "eopp": "difference of the TPR",
    "eodds": "mean of the differences of TPR and FPR",
    "eodds_max": "larger of the differences of TPR and FPR",
    "equalized_odds_ratio": "smaller of the ratios of TPR and FPR",
    "auc_min": "smallest AUC of a group",
    "auc_gap": "difference of the AUC",
}
# What is printed, and what it is called there.
SHOWN = {"auc": "AUC", "spd": "SPD", "eodds": "EOdds", "auc_min": CRITERIA["auc_min"]}
MOST_SHOWN = 8  # groups whose AUC is printed; of more the worst one's is
Ends: TypeAlias = tuple[float, float, float]  # value, low, high
SAME = "every decision is the same"
NOTHING: Ends = (np.nan, np.nan, np.nan)


class Audit(pd.DataFrame):
    """The rows of an audit; printed, it shows the main ones. What is made of it is a plain frame.

    Columns: metric, value, low, high, n, reason; see `audit`.
    """

    def __str__(self) -> str:
        """The main numbers with their intervals, as lines of text."""
        whole = {"n", *SHOWN} <= set(self.get("metric", ()))
        return in_short(self) if whole else super().__str__()


def in_short(frame: pd.DataFrame) -> str:
    """The main numbers of an audit as lines of text.

    Args:
        frame: all rows of an audit, as `audit` returns them or their CSV file holds them.
    """
    rows = {str(row.metric): row for row in frame.itertuples(index=False)}
    groups = [name[2:-1] for name in rows if name.startswith("n[")]
    shown = dict(SHOWN)
    if len(groups) <= MOST_SHOWN:
        del shown["auc_min"]
        for name in groups:
            of_group = f"AUC of {' '.join(name.split())}"
            shown[f"auc[{name}]"] = f"{of_group} ({_number(rows[f'n[{name}]']):,} images)"
    lines = {label: rows[metric] for metric, label in shown.items()}
    width = max(map(len, lines))
    unknown = _number(rows["n_unknown"]) if "n_unknown" in rows else 0
    positive = sum(_number(rows[f"n_positive[{name}]"]) for name in groups)
    left_out = f"; {unknown:,} more of no known group are left out" * bool(unknown)
    return "\n".join(
        [
            f"{_number(rows['n']):,} images, {positive:,} of class 1{left_out}",
            *(f"{label:<{width}}  {_with_interval(row)}" for label, row in lines.items()),
            f"{len(frame)} rows in all: {', '.join(COLUMNS)}",
        ]
    )


def _number(row: Any) -> int:
    return int(row.value)


def _with_interval(row: Any) -> str:
    """A value with its interval, and what there is to mind about it."""
    value = "none " if pd.isna(row.value) else f"{row.value:.3f}"
    interval = "" if pd.isna(row.low) else f"  [{row.low:.3f}, {row.high:.3f}]"
    return f"{value}{interval}{'' if pd.isna(row.reason) else f'  ({row.reason})'}"


def audit(
    labels: np.ndarray,
    groups: np.ndarray,
    scores: np.ndarray,
    group_names: Sequence[str],
    patients: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    decisions: np.ndarray | None = None,
    level: float = intervals.LEVEL,
    min_group: int = 20,
) -> Audit:
    """Audit scores.

    Args:
        labels: (n,), 0 or 1.
        groups: int (n,), index into `group_names`; -1: unknown, counted and left out.
        scores: (n,), P(class 1).
        group_names: names of the groups.
        patients: (n,), whose image each is; null: a person of its own.
        threshold: a score at or above it is a decision for class 1; from 0 to 1. It is rounded to
            the type of the scores: 0.7 of 32 bits reaches 0.7.
        decisions: (n,), 0 or 1, where a rule made them; the threshold then is not looked at.
        level: coverage of the intervals.
        min_group: fewest images of a group that counts in differences, where there are more than
            two groups.

    Returns:
        A frame, which prints its main rows: metric, value (null where it cannot be computed), low,
        high, n (images that the value rests on), reason (why there is no value, or what to mind
        about it).
    """
    given = np.asarray(scores)
    scores = numbers(given)
    if not len(scores) == len(labels) == len(groups):
        raise UserError(f"{len(scores)} scores, but {len(labels)} labels and {len(groups)} groups")
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:  # false of nan too
        raise UserError(f"threshold: is of probabilities, a number from 0 to 1, not {threshold!r}")
    decided = reached(given, threshold).astype(np.int64)
    if decisions is not None:
        decided = np.asarray(decisions)
        if decided.shape != scores.shape or not np.isin(decided, (0, 1)).all():
            raise UserError(f"decisions must be {len(scores)} numbers, 0 or 1")
    if not np.isfinite(scores).all():
        raise UserError(f"{int((~np.isfinite(scores)).sum())} scores are not finite numbers")
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise UserError(
            f"scores must be probabilities of class 1; these go from {scores.min():g} to "
            f"{scores.max():g}"
        )
    known = np.asarray(groups) >= 0
    if not known.any():
        raise UserError("no image has a known group")
    audited = _Audited(
        np.asarray(labels)[known].astype(np.int64),
        np.asarray(groups)[known].astype(np.int64),
        scores[known],
        None if patients is None else np.asarray(patients, object)[known],
        tuple(group_names),
        decided[known].astype(np.int64),
        f" at threshold {threshold:g}" if decisions is None else "",
        min_group,
        level,
    )
    frame = audited.table()
    unknown = [("n_unknown", float((~known).sum()), None, None, len(known), None)]
    rows = pd.DataFrame(unknown, columns=COLUMNS).astype(frame.dtypes.to_dict())
    return Audit(pd.concat([frame.iloc[:1], rows, frame.iloc[1:]], ignore_index=True))


def numbers(scores: np.ndarray) -> np.ndarray:
    """Scores as float64.

    Raises:
        UserError: they are words, or no real numbers.
    """
    real = scores.dtype.kind in "biuf" or (
        scores.dtype.kind == "O" and all(isinstance(value, Real) for value in scores.flat)
    )
    if not real:
        raise UserError(f"scores must be numbers, not {scores.dtype}: convert them first")
    return scores.astype(np.float64)


def _bins(scores: np.ndarray) -> np.ndarray:
    """The bin of each score."""
    return np.clip((scores * ECE_BINS).astype(np.int64), 0, ECE_BINS - 1)


def ece_by_chance(scores: np.ndarray) -> float:
    """Mean ECE of labels that are drawn with these scores as their probabilities, (n,).

    In a bin the sum of label minus score is nearly normal with variance sum of s (1 - s), and the
    mean of such a number without its sign is sqrt(2 / pi) of its standard deviation.
    """
    if not len(scores):
        return np.nan
    variance = np.bincount(_bins(scores), weights=scores * (1 - scores), minlength=ECE_BINS)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(scores))


def _is_ece(metric: str) -> bool:
    """Whether it is the calibration error of bins, or made of several of them."""
    return metric.partition("[")[0].partition("_")[0] == "ece"


class _Members:
    """Some images: their rates."""

    def __init__(
        self, test: intervals.TestSet, scores: np.ndarray, decided: np.ndarray, rows: np.ndarray
    ) -> None:
        y, d, s = test.labels[rows], decided[rows], scores[rows]
        self.labels, self.decided, self.rows = y, d, rows
        patients, ones = test.patients[rows], np.ones(len(rows))

        def ratio(above: np.ndarray, below: np.ndarray = ones) -> Part | None:
            return influence.ratio(above[None].astype(float), below, patients, test.n_patients)

        tpr, tnr = ratio(y * d, y), ratio((1 - y) * (1 - d), 1 - y)
        positive, negative = rows[y == 1], rows[y == 0]
        # ECE is |sum of y - score|, summed over bins
        bins = _bins(s)
        signs = np.sign(np.bincount(bins, weights=y - s, minlength=ECE_BINS))
        self.chance = ece_by_chance(s)
        self.parts: dict[str, Part | None] = {
            "auc": influence.auc(scores[None], positive, negative, test.patients, test.n_patients),
            "accuracy": ratio(y == d),
            "balanced_accuracy": influence.mean([tpr, tnr]) if tpr and tnr else None,
            "prevalence": ratio(y),
            "selection_rate": ratio(d),
            "tpr": tpr,
            "tnr": tnr,
            "fpr": ratio((1 - y) * d, 1 - y),
            "fnr": ratio(y * (1 - d), y),
            "ppv": ratio(y * d, d),
            "f1": ratio(2 * y * d, y + d),
            "ece": ratio(signs[bins] * (y - s)),
            "brier": ratio((s - y) ** 2),
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many images a metric rests on, by the words of `RATES`."""
        positive, selected = int(self.labels.sum()), int(self.decided.sum())
        n = len(self.rows)
        return {"all": n, "positive": positive, "negative": n - positive, "selected": selected}


class _Audited:
    """Scores, labels and groups, and everything that is computed of them."""

    def __init__(
        self,
        labels: np.ndarray,
        groups: np.ndarray,
        scores: np.ndarray,
        patients: np.ndarray | None,
        names: tuple[str, ...],
        decided: np.ndarray,
        where: str,
        min_group: int,
        level: float,
    ) -> None:
        self.sample = Sample(labels, groups, scores, decided)
        self.labels, self.groups, self.names, self.where = labels, groups, names, where
        self.level = level
        test = intervals.TestSet.of(labels, groups, patients, len(names), min_group)
        self.everybody = _Members(test, scores, decided, test.rows())
        self.members = [_Members(test, scores, decided, test.rows(g)) for g in range(len(names))]
        self.counted = test.counted
        self.alone = test.n_patients == 1
        by_group = {rate: [self.members[g].parts[rate] for g in test.counted] for rate in RATES}
        self.rates = intervals.Rates.of(test, self.everybody.parts, by_group)
        sizes = [(m.counts["positive"], m.counts["negative"]) for m in self.members]
        named = [
            reason.replace(f"group {g}", f"group {names[g]}", 1)
            for g, reason in groups_left_out(sizes, min_group).items()
        ]
        self.left_out = "; ".join(named) or None
        self.no_fairness = self._no_fairness()

    def _no_fairness(self) -> str | None:
        """Why a small gap of the decisions is no fairness, by the rules of plausibility.py."""
        decided = {int(d) for group in self.counted for d in self.members[group].decided}
        if len(decided) == 1:
            return f"{SAME}{self.where}: a gap of 0 is no fairness"
        part = self.everybody.parts["balanced_accuracy"]
        if part is None:
            return None
        error = float(np.sqrt(intervals.estimate(part).variance_test))
        if self.alone:
            parts, counts = self.everybody.parts, self.everybody.counts
            tpr, fpr = (rate.value if rate else np.nan for rate in (parts["tpr"], parts["fpr"]))
            error = balanced_accuracy_error(tpr, fpr, counts["positive"], counts["negative"])
        told = hardly_better(part.value, error)
        return told and f"collapsed{self.where}: {told}"

    def evaluate(self) -> dict[str, Ends]:
        """Every metric with its interval; NaN where it is not defined."""
        every = self._with_intervals().items()
        return {name: (ends[0], np.nan, np.nan) if _is_ece(name) else ends for name, ends in every}

    def _with_intervals(self) -> dict[str, Ends]:
        found = {metric: self._of_part(part) for metric, part in self.everybody.parts.items()}
        for name, members in zip(self.names, self.members, strict=True):
            found |= {f"{rate}[{name}]": self._of_part(p) for rate, p in members.parts.items()}
        if len(self.counted) < 2:
            return found | dict.fromkeys(CRITERIA, NOTHING)
        for rate in RATES:
            found[f"{rate}_difference"] = self._gap((rate,), "mean")
            found[f"{rate}_ratio"] = self._ratio((rate,))
            if rate in WORST_IS_LOWEST | WORST_IS_HIGHEST:
                found[f"{rate}_worst"] = self._worst(rate)
        return found | {
            "spd": found["selection_rate_difference"],
            "demographic_parity_ratio": found["selection_rate_ratio"],
            "eopp": found["tpr_difference"],
            "eodds": self._gap(("tpr", "fpr"), "mean"),
            "eodds_max": self._gap(("tpr", "fpr"), "max"),
            "equalized_odds_ratio": self._ratio(("tpr", "fpr")),
            "auc_min": found["auc_worst"],
            "auc_gap": found["auc_difference"],
        }

    def _of_part(self, part: Part | None) -> Ends:
        if part is None:
            return NOTHING
        return (part.value, *intervals.estimate(part).bounds(self.level, (0.0, 1.0)))

    def _gap(self, rates: tuple[str, ...], how: str) -> Ends:
        if not all(self.rates.gaps[rate] for rate in rates):
            return NOTHING
        return intervals.gap(self.rates, rates, how, self.level)[:3]

    def _worst(self, rate: str) -> Ends:
        if None in self.rates.by_group[rate]:
            return NOTHING
        return intervals.worst(self.rates, rate, self.level, rate in WORST_IS_HIGHEST)[:3]

    def _ratio(self, rates: tuple[str, ...]) -> Ends:
        """Smallest by largest rate; of several rates the smallest ratio.

        |log ratio| is the largest over pairs of groups of a difference of logarithms.
        """
        values, bounds = [], []
        for rate in rates:
            parts = self.rates.by_group[rate]
            if None in parts or not (most := max(part.value for part in parts if part)):
                return NOTHING
            values.append(min(part.value for part in parts if part) / most)
            if not values[-1]:
                continue
            logarithms = [
                influence.Part(np.log(p.values), p.influence / p.value, p.patients,
                               p.uniform / p.value**2)
                for p in parts if p
            ]  # fmt: skip
            pairs = list(combinations(logarithms, 2))
            each = 1 - (1 - self.level) / (len(pairs) * len(rates))
            bounds += [intervals.absolute(intervals.estimate(b - a).bounds(each)) for a, b in pairs]
        if not all(values):  # the logarithm is infinite
            return (min(values), np.nan, np.nan)
        low, high = (max(ends) for ends in zip(*bounds, strict=True))
        return (min(values), float(np.exp(-high)), float(np.exp(-low)))

    def table(self) -> pd.DataFrame:
        """The values, with what they rest on."""
        rows: list[tuple[str, float, int, str | None]] = []
        n = len(self.labels)
        rows.append(("n", n, n, None))
        for name, members in zip(self.names, self.members, strict=True):
            counts = members.counts
            few = [
                f"only {counts[kind]} images of label {label}"
                for label, kind in ((1, "positive"), (0, "negative"))
                if counts[kind] < FEW
            ]
            rows.append((f"n[{name}]", counts["all"], counts["all"], "; ".join(few) or None))
            rows.append((f"n_positive[{name}]", counts["positive"], counts["all"], None))
        found = self.evaluate()
        for metric, (value, _, _) in found.items():
            rows.append((metric, value, *self._rests_on(metric, value)))
        rows += self._added()
        frame = pd.DataFrame(rows, columns=["metric", "value", "n", "reason"])
        for column, place in (("low", 1), ("high", 2)):
            frame[column] = [found.get(metric, NOTHING)[place] for metric in frame["metric"]]
        if self.alone:
            bare = frame["metric"].isin(found) & frame["value"].notna() & frame["low"].isna()
            remarks = frame.loc[bare, "reason"].map("{}; ".format, "ignore").fillna("")
            frame.loc[bare, "reason"] = remarks + "all images are of one patient: no interval"
        numbers = dict.fromkeys(("value", "low", "high"), "float64")
        return frame[COLUMNS].astype(numbers | {"n": "int64", "reason": "string"})

    def _added(self) -> list[tuple[str, float, int, str | None]]:
        """The metrics of metrics.py that have no formula here, overall and by group."""
        if set(OF_ROWS) <= set(RATES):
            return []
        parts = {"": self.sample} | {
            f"[{name}]": self.sample.where(self.groups == group)
            for group, name in enumerate(self.names)
        }
        return [
            (row.metric, np.nan if row.value is None else row.value, row.n, row.reason)
            for suffix, sample in parts.items()
            for row in of_rows(sample, suffix)
            if row.metric.partition("[")[0] not in RATES
        ]

    def _rests_on(self, metric: str, value: float) -> tuple[int, str | None]:
        """How many images a value rests on; why there is none, or what to mind about it."""
        base, _, name = metric.removesuffix("]").partition("[")
        if base in RATES:
            members = self.members[self.names.index(name)] if name else self.everybody
            return members.counts[RATES[base]], self._remark(base, value, members)
        n = sum(self.members[group].counts["all"] for group in self.counted)
        if len(self.counted) < 2:
            return n, f"fewer than two groups count: {self.left_out}"
        minded = None if metric.startswith(OF_SCORES) else self.no_fairness
        if np.isnan(value):
            why = "a group has no such value, or all have 0"
            return n, "; ".join(filter(None, (why, minded)))
        if _is_ece(metric):
            why = "no interval: chance alone gives a smaller group a larger ECE"
            return n, "; ".join(filter(None, (why, self.left_out)))
        return n, "; ".join(filter(None, (minded, self.left_out))) or None

    def _remark(self, metric: str, value: float, members: _Members) -> str | None:
        counts = members.counts
        if np.isnan(value):
            if not counts["all"]:
                return "no image"
            missing = [f"class {y}" for y, k in ((1, "positive"), (0, "negative")) if not counts[k]]
            return f"no image of {missing[0]}" if missing else "no decision for class 1"
        if metric == "auc" and value < 0.5:
            return "below 0.5: is the label or the score turned round?"
        if _is_ece(metric):
            return f"no interval; by chance calibrated scores would have {members.chance:.3f}"
        if metric not in OF_SCORES and counts["selected"] in (0, counts["all"]):
            return f"{SAME}{self.where}"
        if metric == "balanced_accuracy" and members is self.everybody:
            return self.no_fairness
        return None
