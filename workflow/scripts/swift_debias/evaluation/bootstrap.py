"""Paired bootstrap over test images: would another test set of this make-up give the same?

The folds' models are fixed. Images are drawn within label and group, the same for all methods.
"""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from .metrics import groups_left_out
from .stacked import Scores, stack


def bootstrap(
    predictions: pd.DataFrame,
    groups: int,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
    threshold: float = 0.5,
    min_group: int = 20,
    baseline: str | None = "baseline",
) -> pd.DataFrame:
    """Percentile intervals over resampled test images, paired between methods.

    Each resample draws images with replacement within each (label, group) cell, the same
    images for all methods and folds. A method's value is the mean over its folds' models.

    Args:
        predictions: columns method, fold, dataset, image_id, label, group, score, of one
            (task, backbone, attribute).
        groups: number of attribute groups.
        seed: the data set's name is mixed in, so data sets do not depend on each other's order.
        resamples: number of resamples.
        level: coverage.
        threshold, min_group: as in `metrics.score`.
        baseline: the method that differences are taken to; None: no differences.

    Returns:
        Rows: dataset, metric, method, value, low, high, difference, difference_low,
        difference_high (null for the Baseline itself), resamples, n_images, n_folds, reason.
    """
    frames = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        if not (part["group"] >= 0).any():
            continue
        data = stack(part)
        rng = np.random.default_rng([seed, zlib.crc32(str(dataset).encode())])
        observed, drawn = _bootstrap_values(data, groups, rng, resamples, threshold, min_group)
        frames.append(_intervals(data, observed, drawn, level, baseline).assign(dataset=dataset))
    columns = ["dataset", *_INTERVAL_COLUMNS]
    return (
        pd.concat(frames, ignore_index=True)[columns]
        if frames
        else pd.DataFrame([], columns=columns)
    )


_INTERVAL_COLUMNS = [
    *("metric", "method", "value", "low", "high"),
    *("difference", "difference_low", "difference_high"),
    *("resamples", "n_images", "n_folds", "reason"),
]


def _bootstrap_values(
    data: Scores,
    groups: int,
    rng: np.random.Generator,
    resamples: int,
    threshold: float,
    min_group: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of the data themselves, (methods, folds, 1), and of the resamples, (..., R)."""
    n = len(data.labels)
    evaluate = _Evaluator(data, groups, threshold, min_group)
    observed = evaluate(np.ones((n, 1)))
    size = max(1, 2**20 // n)  # a chunk of weights fits in cache: 8 MB
    strata = data.groups.astype(np.int64) * 2 + data.labels
    chunks = [
        evaluate(resample_counts(strata, min(size, resamples - start), rng))
        for start in range(0, resamples, size)
    ]
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks], axis=2) for name in observed}
    return observed, drawn


def resample_counts(strata: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of N images is drawn in each of `size` stratified resamples, (N, size)."""
    counts = np.empty((len(strata), size))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        n = len(rows)
        drawn = rng.integers(0, n, size=(size, n)) + np.arange(size)[:, None] * n
        counts[rows] = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).T
    return counts


class _Evaluator:
    """All metrics of all models for given image weights; the sorting is done once."""

    def __init__(self, data: Scores, groups: int, threshold: float, min_group: int) -> None:
        self.shape = data.scores.shape[:2]
        scores = data.scores.reshape(-1, len(data.labels)).astype(np.float64)
        self.decisions = np.where(np.isnan(scores), np.nan, scores >= threshold)
        # cells[y][g]: indices of the images of label y in group g
        self.cells = [
            [np.flatnonzero((data.labels == y) & (data.groups == g)) for g in range(groups)]
            for y in (0, 1)
        ]
        self.sizes = np.array([[len(cell) for cell in row] for row in self.cells])
        left_out = groups_left_out([(n1, n0) for n0, n1 in self.sizes.T], min_group)
        self.counted = [group for group in range(groups) if group not in left_out]
        self.pairs = [RankedPairs(model, *map(np.concatenate, self.cells)) for model in scores]
        self.group_pairs = [
            [RankedPairs(model, self.cells[0][g], self.cells[1][g]) for model in scores]
            for g in self.counted
        ]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of shape (methods, folds, R) for weights of shape (N, R)."""
        # decisions for class 1 in each cell: (2 labels, groups, models, R)
        hits = np.array([[self.decisions[:, i] @ weights[i] for i in row] for row in self.cells])
        sizes = self.sizes[:, :, None, None]
        with np.errstate(invalid="ignore"):  # an empty cell has no rate: 0 / 0 is NaN
            fpr, tpr = hits / sizes
            selected = hits.sum(axis=0) / sizes.sum(axis=0)
            all_fpr, all_tpr = hits.sum(axis=1) / sizes.sum(axis=1)
        values = {
            "auc": np.stack([pairs.auc(weights) for pairs in self.pairs]),
            "balanced_accuracy": (all_tpr + 1.0 - all_fpr) / 2,
        }
        if len(self.counted) > 1:
            group_auc = np.array([[p.auc(weights) for p in row] for row in self.group_pairs])
            gap_tpr = np.ptp(tpr[self.counted], axis=0)
            gap_fpr = np.ptp(fpr[self.counted], axis=0)
            values |= {
                "spd": np.ptp(selected[self.counted], axis=0),
                "eopp": gap_tpr,
                "eodds": (gap_tpr + gap_fpr) / 2,
                "eodds_max": np.maximum(gap_tpr, gap_fpr),
                "auc_min": group_auc.min(axis=0),
                "auc_gap": np.ptp(group_auc, axis=0),
            }
        return {name: value.reshape(*self.shape, -1) for name, value in values.items()}


class RankedPairs:
    """AUC of one model under many image weights: ranks once, cumulative weights each time.

    The weighted share of (negative, positive) pairs in the right order, ties counting half.
    """

    def __init__(self, scores: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> None:
        """`scores` has shape (N,); the others are the indices of the two classes."""
        order = np.argsort(scores[negatives], kind="stable")
        self.negatives, self.positives = negatives[order], positives
        below = scores[self.negatives]
        self.lower = np.searchsorted(below, scores[positives], side="left")
        self.upper = np.searchsorted(below, scores[positives], side="right")
        self.defined = bool(len(negatives) and len(positives) and np.isfinite(scores).all())

    def auc(self, weights: np.ndarray) -> np.ndarray:
        """AUC for each column of `weights` (N, R); shape (R,), NaN where it is not defined."""
        if not self.defined:
            return np.full(weights.shape[1], np.nan)
        cumulative = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=cumulative[1:])
        chosen = weights[self.positives]
        won = np.einsum("nr,nr->r", chosen, cumulative[self.lower])
        if not np.array_equal(self.lower, self.upper):
            won = (won + np.einsum("nr,nr->r", chosen, cumulative[self.upper])) / 2
        return won / (chosen.sum(axis=0) * cumulative[-1])


def _intervals(
    data: Scores,
    observed: dict[str, np.ndarray],
    drawn: dict[str, np.ndarray],
    level: float,
    baseline: str | None,
) -> pd.DataFrame:
    """Percentile intervals of each method's mean over folds, and of its difference to Baseline."""
    tails = [50.0 * (1 - level), 50.0 * (1 + level)]
    n_folds = np.isfinite(data.scores).all(axis=2).sum(axis=1)
    base = data.methods.index(baseline) if baseline in data.methods else None
    rows = []
    for metric, values in observed.items():
        for m, method in enumerate(data.methods):
            folds = np.isfinite(values[m, :, 0])
            row = dict.fromkeys(_INTERVAL_COLUMNS) | {"metric": metric, "method": method}
            row |= {"resamples": drawn[metric].shape[2], "n_images": len(data.labels)}
            row |= {"n_folds": int(n_folds[m])}
            if not folds.any():
                rows.append(row | {"reason": "a group lacks a class, or a score is not finite"})
                continue
            row["value"] = values[m, folds].mean()
            row["low"], row["high"] = np.percentile(drawn[metric][m, folds].mean(axis=0), tails)
            both = folds if base is None else folds & np.isfinite(values[base, :, 0])
            if base is not None and m != base and both.any():
                row["difference"] = (values[m, both] - values[base, both]).mean()
                differences = (drawn[metric][m, both] - drawn[metric][base, both]).mean(axis=0)
                row["difference_low"], row["difference_high"] = np.percentile(differences, tails)
            rows.append(row)
    numbers = ["value", "low", "high", "difference", "difference_low", "difference_high"]
    types = dict.fromkeys(numbers, "float64") | {"reason": "string"}
    return pd.DataFrame(rows, columns=_INTERVAL_COLUMNS).astype(types)
