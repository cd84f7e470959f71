"""Discrimination, fairness and calibration of one set of predictions.

A metric is one function here: under `@metric` it takes a `Sample` (all rows, or those of one group)
and needs no second group; under `@of_disease` it does too, and class 1 of its sample is the disease
of the task, if that names one (`tasks.<name>.disease`); under `@between_groups` it takes the values
that metrics have in each group. The decorator says its title and which way is better. Rows come in
the order of this file.

Everything is computed on the pooled test set, never averaged over batches. Rows whose group is
unknown (-1) are counted in `n_unknown` and left out of every other metric, AUC included, so that
all numbers of a table row describe one population.

AUC, accuracy, balanced accuracy and the Brier score are scikit-learn's; selection rate, true and
false positive rate are fairlearn's, and a difference between groups is fairlearn's
`between_groups`: largest minus smallest. Only the expected calibration error is our own.

Both libraries take a second to import, hence the imports inside the functions. Longer than other
files, since every metric is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from .thresholds import EXTERNAL, reached

ECE_BINS = 15

T = TypeVar("T", bound=Callable[..., float])


class Row(NamedTuple):
    """One metric of one data set; `value` is None where it cannot be computed, and `reason` why.

    A row with a value may have a reason too: then it says what the value leaves out.
    """

    metric: str
    value: float | None
    n: int
    reason: str | None = None


class Sample(NamedTuple):
    """Some rows of one data set: four arrays of shape (N,)."""

    labels: np.ndarray  # int8, 0 or 1
    attributes: np.ndarray  # int, group index
    scores: np.ndarray  # float64, P(class 1)
    decisions: np.ndarray  # int8, 1 where the score reaches the threshold

    def where(self, mask: np.ndarray) -> Sample:
        """The rows that a boolean mask of shape (N,) keeps."""
        return Sample(*(array[mask] for array in self))

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.labels)


Better: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A metric of some rows: what it needs ("rows", "both classes", "class 1", "class 0").

    decided: it depends on the decisions, and so on the threshold.
    """

    function: Callable[[Sample], float]
    needs: str
    title: str
    better: Better | None
    decided: bool


@dataclass(frozen=True)
class GroupMetric:
    """A metric of values by group: of which metrics, one array (a value a group) each."""

    function: Callable[..., float]
    parts: tuple[str, ...]
    title: str
    better: Better | None
    binary: bool

    @property
    def decided(self) -> bool:
        """Whether it depends on the threshold."""
        return any(OF_ROWS[part].decided for part in self.parts)


OF_ROWS: dict[str, Metric] = {}
OF_DISEASE: dict[str, Metric] = {}
BETWEEN_GROUPS: dict[str, GroupMetric] = {}


def metric(
    needs: str, title: str, better: Better | None = None, decided: bool = False
) -> Callable[[T], T]:
    """Register a metric of a `Sample` under its function's name."""

    def register(function: T) -> T:
        OF_ROWS[function.__name__] = Metric(function, needs, title, better, decided)
        return function

    return register


def of_disease(
    needs: str, title: str, better: Better | None = "higher", decided: bool = False
) -> Callable[[T], T]:
    """Register a metric of a `Sample` whose class 1 is the disease (see `seen_as_disease`)."""

    def register(function: T) -> T:
        OF_DISEASE[function.__name__] = Metric(function, needs, title, better, decided)
        return function

    return register


def between_groups(
    *parts: str, title: str, better: Better | None = "lower", binary: bool = False
) -> Callable[[T], T]:
    """Register a metric of the groups' values of `parts`; `binary`: for two groups only."""

    def register(function: T) -> T:
        BETWEEN_GROUPS[function.__name__] = GroupMetric(function, parts, title, better, binary)
        return function

    return register


@metric("both classes", "AUC", "higher")
def auc(sample: Sample) -> float:
    """Area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(sample.labels, sample.scores))


@metric("rows", "Accuracy", "higher", decided=True)
def accuracy(sample: Sample) -> float:
    """Share of right decisions."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(sample.labels, sample.decisions))


@metric("both classes", "Balanced accuracy", "higher", decided=True)
def balanced_accuracy(sample: Sample) -> float:
    """Mean of the two classes' shares of right decisions."""
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(sample.labels, sample.decisions))


@metric("rows", "Prevalence")
def prevalence(sample: Sample) -> float:
    """Share of class 1."""
    return float(np.mean(sample.labels == 1))


@metric("rows", "Selection rate", decided=True)
def selection_rate(sample: Sample) -> float:
    """Share of decisions for class 1."""
    from fairlearn.metrics import selection_rate

    return float(selection_rate(sample.labels, sample.decisions, pos_label=1))


@metric("class 1", "TPR", decided=True)
def tpr(sample: Sample) -> float:
    """Share of class 1 that is decided for."""
    from fairlearn.metrics import true_positive_rate

    return float(true_positive_rate(sample.labels, sample.decisions, pos_label=1))


@metric("class 0", "FPR", decided=True)
def fpr(sample: Sample) -> float:
    """Share of class 0 that is decided against."""
    from fairlearn.metrics import false_positive_rate

    return float(false_positive_rate(sample.labels, sample.decisions, pos_label=1))


@metric("rows", "ECE", "lower")
def ece(sample: Sample) -> float:
    """Expected calibration error."""
    return expected_calibration_error(sample.labels, sample.scores)


@metric("rows", "Brier score", "lower")
def brier(sample: Sample) -> float:
    """Mean squared difference of score and label."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(sample.labels, sample.scores, pos_label=1))


@of_disease("class 1", "Sensitivity", decided=True)
def sensitivity(sample: Sample) -> float:
    """Share of the diseased that is decided for."""
    return tpr(sample)


@of_disease("class 0", "Specificity", decided=True)
def specificity(sample: Sample) -> float:
    """Share of the others that is decided against."""
    return 1.0 - fpr(sample)


@of_disease("both classes", "Sensitivity at 80 % specificity")
def sensitivity_at_80(sample: Sample) -> float:
    """The highest sensitivity of a threshold with a specificity of at least 0.8."""
    return sensitivity_at(sample, 0.8)


@of_disease("both classes", "Sensitivity at 90 % specificity")
def sensitivity_at_90(sample: Sample) -> float:
    """The highest sensitivity of a threshold with a specificity of at least 0.9."""
    return sensitivity_at(sample, 0.9)


@between_groups("selection_rate", title="SPD")
def spd(rates: np.ndarray) -> float:
    """Statistical parity difference."""
    return float(np.ptp(rates))


@between_groups("tpr", title="EOpp")
def eopp(tprs: np.ndarray) -> float:
    """Equal opportunity difference."""
    return float(np.ptp(tprs))


@between_groups("tpr", "fpr", title="EOdds")
def eodds(tprs: np.ndarray, fprs: np.ndarray) -> float:
    """Equalized odds: mean of the two rates' differences (the headline)."""
    return float((np.ptp(tprs) + np.ptp(fprs)) / 2)


@between_groups("tpr", "fpr", title="EOdds (max)")
def eodds_max(tprs: np.ndarray, fprs: np.ndarray) -> float:
    """Equalized odds: the larger of the two differences (fairlearn's default)."""
    return float(max(np.ptp(tprs), np.ptp(fprs)))


@between_groups("tpr", title="Min. TPR", better="higher")
def tpr_min(tprs: np.ndarray) -> float:
    """True positive rate of the worst group: a gap can be closed from above."""
    return float(np.min(tprs))


@between_groups("fpr", title="Min. TNR", better="higher")
def tnr_min(fprs: np.ndarray) -> float:
    """True negative rate of the worst group."""
    return float(1 - np.max(fprs))


@between_groups("auc", title="Min. AUC", better="higher")
def auc_min(aucs: np.ndarray) -> float:
    """AUC of the worst group."""
    return float(np.min(aucs))


@between_groups("auc", title="Gap AUC")
def auc_gap(aucs: np.ndarray) -> float:
    """AUC of the best group minus AUC of the worst."""
    return float(np.ptp(aucs))


@between_groups("tpr", "fpr", title="EOdds (signed)", binary=True)
def eodds_signed(tprs: np.ndarray, fprs: np.ndarray) -> float:
    """Opposite gaps cancel [code of the predecessor]; only to compare with published numbers."""
    return float(abs((tprs[1] - tprs[0]) + (fprs[1] - fprs[0])) / 2)


@between_groups("tpr", title="dTPR", better=None, binary=True)
def dtpr(tprs: np.ndarray) -> float:
    """TPR of the second group minus that of the first: a part of EOdds, with its sign."""
    return float(tprs[1] - tprs[0])


@between_groups("fpr", title="dFPR", better=None, binary=True)
def dfpr(fprs: np.ndarray) -> float:
    """FPR of the second group minus that of the first: the other part of EOdds."""
    return float(fprs[1] - fprs[0])


@between_groups("selection_rate", title="dSPD", better=None, binary=True)
def dspd(rates: np.ndarray) -> float:
    """Selection rate of the second group minus that of the first."""
    return float(rates[1] - rates[0])


@between_groups("auc", title="dAUC", better=None, binary=True)
def dauc(aucs: np.ndarray) -> float:
    """AUC of the second group minus that of the first."""
    return float(aucs[1] - aucs[0])


def catalogue() -> dict[str, bool]:
    """Every metric -> whether each group has a value of it too, as in `tpr[0]`."""
    of_rows = dict.fromkeys([*OF_ROWS, *OF_DISEASE], True)
    return {"n": True} | of_rows | dict.fromkeys(BETWEEN_GROUPS, False)


def undirected() -> set[str]:
    """Every metric of which neither way is better."""
    known = OF_ROWS | OF_DISEASE | BETWEEN_GROUPS
    return {"n"} | {name for name, of in known.items() if of.better is None}


def is_decided(metric: str) -> bool:
    """Whether a metric, also of a group, depends on the threshold."""
    name = metric.partition("[")[0]
    known = OF_ROWS.get(name) or OF_DISEASE.get(name) or BETWEEN_GROUPS.get(name)
    return known is not None and known.decided


def at_threshold(metric: str, rule: str) -> str:
    """The name of a metric at a rule, "fixed" or "external"; of others than decisions, itself."""
    return metric + EXTERNAL if rule == "external" and is_decided(metric) else metric


def score(
    predictions: pd.DataFrame,
    groups: int,
    threshold: float = 0.5,
    min_group: int = 20,
    disease: int | None = None,
) -> pd.DataFrame:
    """Every metric of every data set in a predictions table.

    Args:
        predictions: columns dataset, label, group (index or -1), score (P(class 1)); threshold, the
            model's external one, where it is known; decision, where a rule of the method decides
            (decision_rule.py): metrics of decisions are of it, at both thresholds alike.
        groups: number of groups of the attribute; a metric of a group is named `tpr[0]`.
        threshold: a score at or above it is a decision for class 1. Never chosen on test labels.
        min_group: fewest samples of a group that counts in differences between groups, where the
            attribute has more than two groups (a binary attribute always uses both).
        disease: the class that is the disease, 0 or 1; None: the metrics of a disease are left out.

    Returns:
        Metrics of decisions at the external threshold are named `tpr@external`, `tpr[0]@external`.
        Tidy rows: dataset, metric, value (float, null where it cannot be computed), n (samples the
        value rests on), reason (null, why there is no value, or what the value leaves out).
    """
    rows: list[tuple[Any, ...]] = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        found = score_dataset(part, groups, threshold, min_group, disease)
        if "threshold" in part:
            own = float(part["threshold"].iloc[0])
            found += [
                row._replace(metric=row.metric + EXTERNAL)
                for row in score_dataset(part, groups, own, min_group, disease)
                if is_decided(row.metric)
            ]
            none = np.isnan(own)
            why = "a rule decides for each group" if none else None
            found.append(Row("threshold" + EXTERNAL, None if none else own, len(part), why))
        rows += [(str(dataset), *row) for row in found]
    frame = pd.DataFrame(rows, columns=["dataset", "metric", "value", "n", "reason"])
    return frame.astype({"value": "float64", "n": "int64", "reason": "string"})


def mean_of_repeats(scored: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean over repeats of what `score` gave for each.

    Where one of them has no value the mean has none, for that one's reason.
    """
    first = scored[0]
    if len(scored) == 1:
        return first
    values = np.stack([one["value"].to_numpy() for one in scored])
    reason = first["reason"]
    for one in scored[1:]:
        if not one[["dataset", "metric"]].equals(first[["dataset", "metric"]]):
            raise ValueError("the repeats have other metrics")
        reason = reason.fillna(one["reason"])
    return first.assign(value=values.mean(axis=0), reason=reason)


def score_dataset(
    part: pd.DataFrame,
    groups: int,
    threshold: float = 0.5,
    min_group: int = 20,
    disease: int | None = None,
) -> list[Row]:
    """Every metric of one data set; arguments as in `score`."""
    attributes = part["group"].to_numpy()
    given = part["score"].to_numpy()
    scores = given.astype(np.float64)
    known = attributes >= 0
    decisions = reached(given, threshold).astype(np.int8)
    if "decision" in part:
        decisions = part["decision"].fillna(pd.Series(decisions, part.index)).to_numpy(np.int8)
    everything = Sample(part["label"].to_numpy(), attributes, scores, decisions)
    if known.any() and attributes.max() >= groups:
        raise ValueError(f"attribute index {attributes.max()} with {groups} groups")
    rows = [Row("n_unknown", float(np.sum(~known)), len(part))]
    return rows + of_sample(everything.where(known), groups, min_group, disease)


def of_sample(
    sample: Sample,
    groups: int,
    min_group: int,
    disease: int | None = None,
    called: tuple[Any, Any] = (0, 1),
) -> list[Row]:
    """Every metric of rows of known group; `called` are what people call classes 0 and 1."""
    cells = [sample.where(sample.attributes == group) for group in range(groups)]
    rows = of_rows(sample, "", disease, called)
    by_group = {
        group: of_rows(cell, f"[{group}]", disease, called) for group, cell in enumerate(cells)
    }
    for group, cell in enumerate(cells):
        rows += [Row(f"n[{group}]", float(cell.n), cell.n), *by_group[group]]
    return rows + _between_groups(cells, by_group, min_group)


def of_rows(
    sample: Sample,
    suffix: str,
    disease: int | None = None,
    called: tuple[Any, Any] = (0, 1),
) -> list[Row]:
    """The metrics that need no second group, of a whole data set or of one group."""
    rows = _computed(sample, suffix, OF_ROWS, called)
    if disease is not None:
        turned = seen_as_disease(sample, disease)
        rows += _computed(turned, suffix, OF_DISEASE, (called[1 - disease], called[disease]))
    return rows


def seen_as_disease(sample: Sample, disease: int) -> Sample:
    """The rows with class 1 for the disease; scores are turned round so that it has the high ones.

    They are negated: 1 - score would round small differences away.
    """
    if disease == 1:
        return sample
    return Sample(1 - sample.labels, sample.attributes, -sample.scores, 1 - sample.decisions)


def sensitivity_at(sample: Sample, specificity: float) -> float:
    """The highest share of class 1 above a threshold below which so much of class 0 stays.

    Of scikit-learn's ROC curve with all its points. It is not interpolated between thresholds: a
    value in between belongs to no classifier, and few images would promise too much.
    """
    from sklearn.metrics import roc_curve

    negatives = sample.n - _positives(sample)
    fpr, tpr, _ = roc_curve(sample.labels, sample.scores, pos_label=1, drop_intermediate=False)
    # in whole images: 1 - 0.2 is not 0.8 in floating point, 8 / 10 is
    kept = (negatives - np.rint(fpr * negatives)) / negatives >= specificity
    return float(tpr[kept].max())


def _computed(
    sample: Sample, suffix: str, wanted: Mapping[str, Metric], classes: tuple[Any, Any]
) -> list[Row]:
    """A row a metric; `classes` are what people call the sample's classes 0 and 1."""
    positives = _positives(sample)
    negatives = sample.n - positives
    if sample.n == 0:
        problem = "no sample" + (" with a known attribute" if not suffix else "")
    elif not np.isfinite(sample.scores).all():
        problem = f"{np.sum(~np.isfinite(sample.scores))} scores are not finite"
    else:
        problem = None
    # what a metric needs -> (how many rows it rests on, why it cannot be computed)
    needs = {
        "rows": (sample.n, problem),
        "both classes": (sample.n, problem or _missing_label(positives, negatives, classes)),
        "class 1": (positives, problem or _none_of(positives, classes[1])),
        "class 0": (negatives, problem or _none_of(negatives, classes[0])),
    }
    from sklearn import config_context  # slow to import

    rows = []
    # what scikit-learn would look at again for every metric was looked at above
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for name, known in wanted.items():
            n, reason = needs[known.needs]
            value = None if reason else float(known.function(sample))
            rows.append(Row(name + suffix, value, n, reason))
    return rows


def _missing_label(positives: int, negatives: int, classes: tuple[Any, Any] = (0, 1)) -> str | None:
    return _none_of(positives, classes[1]) or _none_of(negatives, classes[0])


def _none_of(count: int, label: Any) -> str | None:
    return None if count else f"no sample of class {label}"


def _between_groups(
    cells: Sequence[Sample], by_group: dict[int, list[Row]], min_group: int
) -> list[Row]:
    """Differences between groups: largest minus smallest, over the groups that count."""
    left_out = groups_left_out([(_positives(c), c.n - _positives(c)) for c in cells], min_group)
    remark = "; ".join(left_out.values()) or None
    counted = {
        group: {row.metric.partition("[")[0]: row for row in rows}
        for group, rows in by_group.items()
        if group not in left_out
    }

    def combine(name: str, rule: Callable[..., float], *parts: str) -> Row:
        """`rule` of one array (a value a group) for each of the group metrics `parts`."""
        used = [counted[group][part] for part in parts for group in counted]
        n = sum(row.n for row in used)
        if len(counted) < 2:
            return Row(name, None, n, f"fewer than two groups count: {remark}")
        missing = next((row for row in used if row.reason), None)
        if missing:
            return Row(name, None, n, f"{missing.metric}: {missing.reason}")
        arrays = np.array([row.value for row in used], dtype=np.float64).reshape(len(parts), -1)
        return Row(name, float(rule(*arrays)), n, remark)

    rows = []
    for name, known in BETWEEN_GROUPS.items():
        if known.binary and len(cells) > 2:
            n = sum(cells[group].n for group in counted)
            rows.append(Row(name, None, n, "defined for two groups only"))
        else:
            rows.append(combine(name, known.function, *known.parts))
    return rows


def _positives(sample: Sample) -> int:
    return int(np.sum(sample.labels == 1))


def groups_left_out(counts: Sequence[tuple[int, int]], min_group: int) -> dict[int, str]:
    """Groups that do not count in differences between groups, each with the reason.

    Of a binary attribute only an empty group; of one with more groups also those that lack a class
    or have fewer than `min_group` samples. `counts` is (positives, negatives) of each group.
    """
    reasons = {}
    for group, (positives, negatives) in enumerate(counts):
        n = positives + negatives
        if n == 0:
            reasons[group] = f"group {group} left out: no sample"
        elif len(counts) > 2 and n < min_group:
            reasons[group] = f"group {group} left out: {n} samples, {min_group} needed"
        elif len(counts) > 2 and (missing := _missing_label(positives, negatives)):
            reasons[group] = f"group {group} left out: {missing}"
    return reasons


def expected_calibration_error(
    labels: np.ndarray, scores: np.ndarray, bins: int = ECE_BINS
) -> float:
    """Expected calibration error of P(class 1), over bins of equal width (Naeini et al., 2015).

    The mean over samples of |observed frequency - mean score| of the sample's bin.
    """
    index = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    gaps = np.bincount(index, weights=labels - scores, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
