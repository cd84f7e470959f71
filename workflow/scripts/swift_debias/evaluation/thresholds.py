"""The external threshold of a model: the one that it would be used at, found without test labels.

Scores of fine-tuned models are not calibrated: the best thresholds of the demo's models span .01 to
.86, and a method that looks fair at 0.5 may be so because it decides alike for everybody. So every
model carries the threshold at which its balanced accuracy on external samples is best, and metrics
of decisions are computed at both: `eodds` at 0.5 [paper], `eodds@external` at the model's own.
"""

from __future__ import annotations

import numpy as np

THRESHOLDS = np.linspace(0, 1, 101)
EXTERNAL = "@external"  # end of a metric's name: at the external threshold
OF_CLASS = "@"  # and before a class's name, of a task of more than two: auc@mel

# of more than two classes: an image is decided for its most probable class
NO_THRESHOLD = {"threshold": None, "found_on": "most probable class"}


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of 0, 0.01, ..., 1 with the highest balanced accuracy.

    A score at or above it is a decision for class 1. Of equally good ones the median is taken:
    the first would lie at the edge of what was seen. With one class only it says nothing: 0.5.

    Args:
        labels: (n,), 0 or 1. scores: (n,), P(class 1).
    """
    positive = labels == 1
    if positive.all() or not positive.any():
        return 0.5
    ranked = [np.sort(scores[of_class]) for of_class in (positive, ~positive)]
    # the share of a class with a score at or above each threshold
    above = [1 - np.searchsorted(values, THRESHOLDS) / len(values) for values in ranked]
    accuracies = (above[0] + 1 - above[1]) / 2
    best = np.flatnonzero(accuracies >= accuracies.max() - 1e-12)
    return float(THRESHOLDS[best[len(best) // 2]])


def plain(metric: str) -> str:
    """A metric's name without its threshold or its class."""
    return metric.partition(OF_CLASS)[0]
