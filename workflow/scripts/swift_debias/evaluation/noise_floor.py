"""How large a gap is where the scores do not depend on the group: the noise floor.

An absolute gap of a fair classifier is not 0: with 30 images in the smallest cell its EOdds is
about .1. The floor of a method on a test set is the distribution of its gaps when the groups are
handed out at random among patients of the same stratum: those who have images of the same labels,
and about as many (1, 2-3, 4-8, more). So every group keeps its patients, its labels and its
cluster sizes, and only the link of group and score is cut. A gap above the floor's 95 % point means
"these models on this test set", not "the method is unfair"; gaps at or below it are not ranked.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .influence import auc
from .intervals import TestSet
from .thresholds import reached

PERMUTATIONS = 1000
SIZES = (1, 3, 8)  # largest numbers of images of a stratum; the last has all above
GAPS = ("spd", "eopp", "fpr_gap", "eodds", "eodds_max", "auc_gap")


def noise_floor(
    test: TestSet,
    scores: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    threshold: float = 0.5,
) -> dict[str, np.ndarray]:
    """Gaps of several methods, were the groups handed out at random.

    As in metrics.py a gap is taken for every fold's model and averaged over the folds, and is the
    largest over pairs of groups. The AUC of a permuted group is that of its images' mean
    influences, a first-order approximation (Hájek's projection).

    Args:
        scores: (methods, K, N).
        rng: draws the permutations, the same for all methods.

    Returns:
        Gap (`GAPS`) -> (methods, permutations), in no order; NaN where a class is missing.
    """
    methods, folds, n = scores.shape
    units, groups, strata = _units(test)
    models = scores.reshape(methods * folds, n)
    sums = _sums_by_unit(test, units, len(groups), models, threshold)
    drawn: dict[str, list[np.ndarray]] = {gap: [] for gap in GAPS}
    size = max(1, 2**22 // len(groups))  # of a chunk: 32 MB
    for start in range(0, permutations, size):
        handed_out = _permuted(groups, strata, min(size, permutations - start), rng)
        gaps = _gaps(test, handed_out, sums, len(models))
        for name, found in gaps.items():
            drawn[name].append(found.reshape(-1, methods, folds).mean(axis=2).T)
    return {name: np.concatenate(chunks, axis=1) for name, chunks in drawn.items()}


def summary(drawn: np.ndarray) -> tuple[float, float]:
    """Mean and 95 % point of a floor."""
    return float(np.mean(drawn)), float(np.quantile(drawn, 0.95))


def below_floor(gap: float, floor_95: float) -> bool:
    """Whether a gap does not exceed the 95 % point of its floor."""
    return bool(gap <= floor_95)


def _units(test: TestSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who is handed a group: the unit of each image, the group and the stratum of each unit.

    A unit is a patient; one with images in two groups (an age that moves on) is one for each.
    """
    units, keys = pd.factorize(test.patients * test.n_groups + test.groups)
    groups = np.asarray(keys) % test.n_groups
    count = np.bincount(units)
    positives = np.bincount(units, weights=test.labels)
    kinds = (positives > 0) * 2 + (positives < count)
    return units, groups, kinds * (len(SIZES) + 1) + np.searchsorted(SIZES, count)


def _permuted(
    groups: np.ndarray, strata: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Groups of the units, permuted within strata, (size, U)."""
    found = np.empty((size, len(groups)), groups.dtype)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        found[:, rows] = rng.permuted(np.tile(groups[rows], (size, 1)), axis=1)
    return found


def _sums_by_unit(
    test: TestSet, units: np.ndarray, n_units: int, models: np.ndarray, threshold: float
) -> np.ndarray:
    """What a group's rates are made of, summed by unit: (U, 2 + 4 models).

    Images of label 0 and of label 1, then for every model: decisions for class 1 of label 0, of
    label 1, and the centred shares of right pairs of label 0, of label 1.
    """

    def by_unit(columns: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(units, column, n_units) for column in columns], axis=1)

    labels = np.stack([test.labels == 0, test.labels == 1]).astype(np.float64)
    decisions = reached(models, threshold).astype(np.float64)
    cells = test.rows(label=1), test.rows(label=0)
    images = np.arange(len(test.labels))
    pairs = np.zeros(models.shape)
    for k, model in enumerate(models):
        area = auc(model[None], *cells, images, len(images))
        if area is None:
            pairs[k] = np.nan
            continue
        pairs[k] = area.influence
    for rows in cells:  # undo the weights of a mean
        n = len(rows)
        if n > 1:
            pairs[:, rows] *= n * np.sqrt((n - 1) / n)
    return by_unit(
        np.concatenate(
            [labels, *(decisions * label for label in labels), *(pairs * y for y in labels)]
        )
    )


def _gaps(
    test: TestSet, groups: np.ndarray, sums: np.ndarray, models: int
) -> dict[str, np.ndarray]:
    """Gaps under groups (R, U), each (R, models)."""
    rates = []
    for group in test.counted:
        found = (groups == group).astype(np.float64) @ sums
        n0, n1 = found[:, :1], found[:, 1:2]
        hit0, hit1, low, high = np.split(found[:, 2:], 4, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates.append([(hit0 + hit1) / (n0 + n1), hit1 / n1, hit0 / n0, high / n1 + low / n0])
    if len(rates) < 2:
        return {name: np.full((len(groups), models), np.nan) for name in GAPS}
    spd, tpr, fpr, area = np.ptp(np.array(rates), axis=0)
    return {
        "spd": spd,
        "eopp": tpr,
        "fpr_gap": fpr,
        "eodds": (tpr + fpr) / 2,
        "eodds_max": np.maximum(tpr, fpr),
        "auc_gap": area,
    }
