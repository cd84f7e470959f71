"""The external threshold of a model: the one that it would be used at, found without test labels.

Scores of fine-tuned models are not calibrated: the best thresholds of the demo's models span .01 to
.86, and a method that looks fair at 0.5 may be so because it decides alike for everybody. So every
model carries the threshold at which its balanced accuracy on external samples is best, and metrics
of decisions are computed at both: `eodds` at 0.5 [paper], `eodds@external` at the model's own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

THRESHOLDS = np.linspace(0, 1, 101)
EXTERNAL = "@external"  # end of a metric's name: at the external threshold
OF_CLASS = "@"  # and before a class's name, of a task of more than two: auc@mel

# of more than two classes: an image is decided for its most probable class
NO_THRESHOLD = {"threshold": None, "found_on": "most probable class"}
# where a rule decides by score and group (decision_rule.py), which stands beside it
BY_RULE = {"threshold": None, "found_on": "a rule for each group"}


def reached(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Which scores are at or above a threshold, bool, compared in the type that the scores have.

    0.7 of 32 bits is below 0.7 of 64, so a score that a model gave as 0.7 would miss the 0.7 that
    somebody wrote down. Every decision by a threshold is made here.
    """
    return np.asarray(scores) >= in_type_of(scores, threshold)


def in_type_of(scores: np.ndarray, thresholds: float | np.ndarray) -> np.ndarray:
    """Thresholds rounded to the type of the scores, where that is one of floating numbers."""
    kind = np.asarray(scores).dtype
    return np.asarray(thresholds).astype(kind if kind.kind == "f" else np.float64)


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of 0, 0.01, ..., 1 with the highest balanced accuracy.

    A score at or above it is a decision for class 1. Of equally good ones the median is taken:
    the first would lie at the edge of what was seen. With one class only it says nothing: 0.5.

    Args:
        labels: (n,), 0 or 1. scores: (n,), P(class 1).

    Raises:
        ValueError: a score is not finite.
    """
    positive = labels == 1
    if positive.all() or not positive.any():
        return 0.5
    if not np.isfinite(scores).all():
        raise ValueError("no threshold can be chosen: a score is not finite")
    true, false = (share_reaching(scores[some], THRESHOLDS) for some in (positive, ~positive))
    accuracies = (true + 1 - false) / 2
    best = np.flatnonzero(accuracies >= accuracies.max() - 1e-12)
    return float(THRESHOLDS[best[len(best) // 2]])


def plain(metric: str) -> str:
    """A metric's name without its threshold or its class."""
    return metric.partition(OF_CLASS)[0]


def share_reaching(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of the scores at or above each threshold, shape (T,); NaN without finite scores."""
    if len(scores) == 0 or not np.isfinite(scores).all():
        return np.full(len(thresholds), np.nan)
    cuts = in_type_of(scores, thresholds)
    below = np.searchsorted(np.sort(scores), cuts, side="left")
    return 1.0 - below / len(scores)


def threshold_curve(
    predictions: pd.DataFrame, groups: int, thresholds: np.ndarray = THRESHOLDS
) -> pd.DataFrame:
    """SPD, EOdds and balanced accuracy at each threshold, to show what the choice of 0.5 does.

    A look at the test set, for a figure only: nothing may be chosen from it. What a rule decides
    (column `decision`) is the same at every threshold.

    Returns:
        Rows: dataset, threshold, spd, eodds, balanced_accuracy; null where a cell is empty.
    """
    known = predictions[predictions["group"] >= 0]
    curves = [
        _threshold_curve(part, groups, thresholds).assign(dataset=str(dataset))
        for dataset, part in known.groupby("dataset", observed=True)
    ]
    columns = ["dataset", "threshold", "spd", "eodds", "balanced_accuracy"]
    return (
        pd.concat(curves, ignore_index=True)[columns]
        if curves
        else pd.DataFrame([], columns=columns)
    )


def _threshold_curve(part: pd.DataFrame, groups: int, thresholds: np.ndarray) -> pd.DataFrame:
    labels, attributes = part["label"].to_numpy(), part["group"].to_numpy()
    scores = part["score"].to_numpy()
    if "decision" in part and part["decision"].notna().all():
        scores = 2.0 * part["decision"].to_numpy(dtype=np.float64) - 1  # beyond all thresholds

    def rates(among: np.ndarray) -> np.ndarray:
        masks = [among & (attributes == group) for group in range(groups)]
        return np.stack([share_reaching(scores[mask], thresholds) for mask in masks])

    everything = np.ones(len(part), dtype=bool)
    tpr = share_reaching(scores[labels == 1], thresholds)
    fpr = share_reaching(scores[labels == 0], thresholds)
    gaps = [np.ptp(rates(among), axis=0) for among in (everything, labels == 1, labels == 0)]
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "spd": gaps[0],
            "eodds": (gaps[1] + gaps[2]) / 2,
            "balanced_accuracy": (tpr + 1.0 - fpr) / 2,
        }
    )
