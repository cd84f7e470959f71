"""An audit of anybody's scores: every metric overall and by group, with intervals and counts.

One row a metric. A metric of a group is named `tpr[female]`; over the groups that count,
`tpr_difference` is largest minus smallest, `tpr_ratio` smallest by largest, and `tpr_worst` the
value of the group that fares worst. The criteria of the field have their usual names besides
(`CRITERIA`). Intervals are percentiles of a bootstrap over images within label and group, or over
whole patients where they are known.

Values and intervals come from one set of formulas on weighted images, in which a resample is a
weighting; the tests hold them against scikit-learn and fairlearn. A metric that somebody adds to
metrics.py is here too, without an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from .bootstrap import RankedPairs, resample_counts
from .metrics import ECE_BINS, OF_ROWS, Sample, groups_left_out, of_rows
from .plausibility import FEW

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


def audit(
    labels: np.ndarray,
    groups: np.ndarray,
    scores: np.ndarray,
    group_names: Sequence[str],
    patients: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    min_group: int = 20,
) -> pd.DataFrame:
    """Audit scores.

    Args:
        labels: (n,), 0 or 1.
        groups: int (n,), index into `group_names`; -1: unknown, counted and left out.
        scores: (n,), P(class 1).
        group_names: names of the groups.
        patients: (n,), whose image each is; null: unknown. Intervals then draw whole patients.
        threshold: a score at or above it is a decision for class 1.
        resamples: of the bootstrap; 0: no intervals.
        level: coverage of the intervals.
        seed: of the bootstrap.
        min_group: fewest images of a group that counts in differences, where there are more than
            two groups.

    Returns:
        metric, value (null where it cannot be computed), low, high, n (images that the value rests
        on), reason (why there is no value, or what to mind about it).
    """
    scores = np.asarray(scores, np.float64)
    if not len(scores) == len(labels) == len(groups):
        raise UserError(f"{len(scores)} scores, but {len(labels)} labels and {len(groups)} groups")
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
        tuple(group_names),
        threshold,
        min_group,
    )
    frame = audited.table()
    if resamples:
        of_patients = None if patients is None else np.asarray(patients, object)[known]
        audited.add_intervals(frame, of_patients, resamples, level, np.random.default_rng(seed))
    unknown = [("n_unknown", float((~known).sum()), None, None, len(known), None)]
    rows = pd.DataFrame(unknown, columns=COLUMNS).astype(frame.dtypes.to_dict())
    return pd.concat([frame.iloc[:1], rows, frame.iloc[1:]], ignore_index=True)


class _Members:
    """Some images: their metrics under weights."""

    def __init__(
        self, labels: np.ndarray, scores: np.ndarray, decided: np.ndarray, rows: np.ndarray
    ) -> None:
        self.rows, self.labels, self.decided = rows, labels[rows], decided[rows]
        self.scores = scores[rows]
        positive = labels[rows] == 1
        self.pairs = RankedPairs(scores, rows[~positive], rows[positive])
        # what is summed with the weights: true and false decisions, squared errors
        y, d = self.labels, self.decided
        self.parts = np.stack([y * d, (1 - y) * d, y * (1 - d), (1 - y) * (1 - d)]).astype(float)
        self.errors = (self.scores - y) ** 2
        bins = np.clip((self.scores * ECE_BINS).astype(np.int64), 0, ECE_BINS - 1)
        self.calibration = np.zeros((ECE_BINS, len(rows)))
        self.calibration[bins, np.arange(len(rows))] = y - self.scores

    @property
    def counts(self) -> dict[str, int]:
        """How many images a metric rests on, by the words of `RATES`."""
        positive, selected = int(self.labels.sum()), int(self.decided.sum())
        n = len(self.rows)
        return {"all": n, "positive": positive, "negative": n - positive, "selected": selected}

    def values(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metric -> (R,), for weights (N, R) of all images; NaN where it is not defined."""
        own = weights[self.rows]
        tp, fp, fn, tn = self.parts @ own
        n = tp + fp + fn + tn
        with np.errstate(invalid="ignore", divide="ignore"):
            tpr, fpr = tp / (tp + fn), fp / (fp + tn)
            return {
                "auc": self.pairs.auc(weights),
                "accuracy": (tp + tn) / n,
                "balanced_accuracy": (tpr + 1 - fpr) / 2,
                "prevalence": (tp + fn) / n,
                "selection_rate": (tp + fp) / n,
                "tpr": tpr,
                "tnr": tn / (fp + tn),
                "fpr": fpr,
                "fnr": fn / (tp + fn),
                "ppv": tp / (tp + fp),
                "f1": 2 * tp / (2 * tp + fp + fn),
                "ece": np.abs(self.calibration @ own).sum(axis=0) / n,
                "brier": self.errors @ own / n,
            }


class _Audited:
    """Scores, labels and groups, and everything that is computed of them."""

    def __init__(
        self,
        labels: np.ndarray,
        groups: np.ndarray,
        scores: np.ndarray,
        names: tuple[str, ...],
        threshold: float,
        min_group: int,
    ) -> None:
        decided = (scores >= threshold).astype(np.int64)
        self.sample = Sample(labels, groups, scores, decided)
        self.labels, self.groups, self.names, self.threshold = labels, groups, names, threshold
        rows = [np.flatnonzero(groups == group) for group in range(len(names))]
        self.everybody = _Members(labels, scores, decided, np.arange(len(labels)))
        self.members = [_Members(labels, scores, decided, some) for some in rows]
        sizes = [(m.counts["positive"], m.counts["negative"]) for m in self.members]
        left_out = groups_left_out(sizes, min_group)
        self.counted = [group for group in range(len(names)) if group not in left_out]
        named = [
            reason.replace(f"group {g}", f"group {names[g]}", 1) for g, reason in left_out.items()
        ]
        self.left_out = "; ".join(named) or None

    def evaluate(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric under weights (N, R), each (R,)."""
        overall = self.everybody.values(weights)
        by_group = [members.values(weights) for members in self.members]
        found = dict(overall)
        for name, values in zip(self.names, by_group, strict=True):
            found |= {f"{metric}[{name}]": value for metric, value in values.items()}
        counted = [by_group[group] for group in self.counted]
        for metric in RATES if len(counted) > 1 else ():
            stacked = np.stack([group[metric] for group in counted])
            low, high = stacked.min(axis=0), stacked.max(axis=0)
            found[f"{metric}_difference"] = high - low
            with np.errstate(invalid="ignore", divide="ignore"):
                found[f"{metric}_ratio"] = low / high
            if metric in WORST_IS_LOWEST | WORST_IS_HIGHEST:
                found[f"{metric}_worst"] = low if metric in WORST_IS_LOWEST else high
        if len(counted) > 1:
            tpr, fpr = found["tpr_difference"], found["fpr_difference"]
            found |= {
                "spd": found["selection_rate_difference"],
                "demographic_parity_ratio": found["selection_rate_ratio"],
                "eopp": tpr,
                "eodds": (tpr + fpr) / 2,
                "eodds_max": np.maximum(tpr, fpr),
                "equalized_odds_ratio": np.minimum(found["tpr_ratio"], found["fpr_ratio"]),
                "auc_min": found["auc_worst"],
                "auc_gap": found["auc_difference"],
            }
        return found

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
        values = {k: float(v[0]) for k, v in self.evaluate(np.ones((n, 1))).items()}
        if len(self.counted) < 2:
            values |= dict.fromkeys(CRITERIA, np.nan)
        for metric, value in values.items():
            rows.append((metric, value, *self._rests_on(metric, value)))
        rows += self._added()
        frame = pd.DataFrame(rows, columns=["metric", "value", "n", "reason"])
        frame = frame.assign(low=np.nan, high=np.nan)[COLUMNS]
        return frame.astype({"value": "float64", "n": "int64", "reason": "string"})

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
        if np.isnan(value):
            return n, "a group has no such value, or all have 0"
        return n, self.left_out

    def _remark(self, metric: str, value: float, members: _Members) -> str | None:
        counts = members.counts
        if np.isnan(value):
            if not counts["all"]:
                return "no image"
            missing = [f"class {y}" for y, k in ((1, "positive"), (0, "negative")) if not counts[k]]
            return f"no image of {missing[0]}" if missing else "no decision for class 1"
        if metric == "auc" and value < 0.5:
            return "below 0.5: is the label or the score turned round?"
        if metric == "selection_rate" and counts["selected"] in (0, counts["all"]):
            return f"every decision is the same at threshold {self.threshold:g}"
        return None

    def add_intervals(
        self,
        frame: pd.DataFrame,
        patients: np.ndarray | None,
        resamples: int,
        level: float,
        rng: np.random.Generator,
    ) -> None:
        """Fill `low` and `high`, in place."""
        units, strata = self._units(patients)
        size = max(1, 2**20 // len(self.labels))  # a chunk of weights fits in cache: 8 MB
        chunks = []
        for start in range(0, resamples, size):
            counts = resample_counts(strata, min(size, resamples - start), rng)
            chunks.append(self.evaluate(counts[units]))
        tails = [50.0 * (1 - level), 50.0 * (1 + level)]
        columns: dict[str, list[Any]] = {"low": [], "high": [], "reason": []}
        for metric, value, reason in frame[["metric", "value", "reason"]].itertuples(index=False):
            low = high = np.nan
            remarks = [] if pd.isna(reason) else [reason]
            if metric in chunks[0] and not np.isnan(value):
                drawn = np.concatenate([chunk[metric] for chunk in chunks])
                defined = drawn[~np.isnan(drawn)]
                if len(defined):
                    low, high = np.percentile(defined, tails)
                if len(defined) < len(drawn):
                    gone = len(drawn) - len(defined)
                    remarks.append(f"undefined in {gone} of {len(drawn)} resamples")
            columns["low"].append(low)
            columns["high"].append(high)
            columns["reason"].append("; ".join(remarks) or None)
        for name, column in columns.items():
            frame[name] = pd.Series(column, dtype=frame[name].dtype)

    def _units(self, patients: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """What is drawn: the unit of each image, and the stratum of each unit.

        Images are drawn within label and group; patients among those with the same labels and
        groups, whatever the number of their images.
        """
        cells = 2 * self.groups + self.labels
        if patients is None:
            return np.arange(len(cells)), cells
        units, _ = pd.factorize(patients)
        unknown = units < 0
        units[unknown] = units.max() + 1 + np.arange(int(unknown.sum()))
        of_unit = pd.Series(cells).groupby(units)
        kinds = of_unit.agg(lambda own: " ".join(map(str, sorted(set(own)))))
        return units, pd.factorize(kinds)[0]
