"""Could this test set have shown that a method is fairer? The power of the EOdds interval."""

from __future__ import annotations

import numpy as np

from .intervals import change_of_absolute

DRAWS = 400


def power(
    counts: np.ndarray,
    before: float = 0.2,
    after: float = 0.05,
    tpr: float = 0.7,
    agreement: float = 0.5,
    level: float = 0.95,
    seed: int = 0,
) -> float:
    """Chance that the interval of the EOdds difference lies below 0 if EOdds falls so far.

    Both signed gaps are taken to fall from `before` to `after`; their estimates are drawn from
    normal distributions whose variances follow from the counts, and go through the interval of
    `intervals.gap_change`. Differences between folds are left out, so it is an upper bound.

    Args:
        counts: (2, 2), effective patients of label y in group g
            (`influence.effective_patients`); images where each has a patient of its own.
        before, after: EOdds of the Baseline and of the method.
        tpr: true positive rate, and 1 - false positive rate, of both groups together.
        agreement: correlation of the two methods' decisions.
        level: of the interval.
    """
    from scipy.special import stdtrit  # slow to import

    counts = np.asarray(counts, dtype=np.float64)
    if not (counts > 1).all():
        return 0.0
    rng = np.random.default_rng(seed)
    each = 1 - 2 * (1 - level)
    ends = np.zeros(DRAWS)
    for own in counts:
        errors = np.sqrt((tpr * (1 - tpr) / own).sum())
        half = errors * stdtrit(own.min() - 1, (1 + each) / 2)
        drawn = rng.multivariate_normal([0, 0], [[1, agreement], [agreement, 1]], DRAWS) * errors
        moved = half * np.sqrt(2 * (1 - agreement))
        for i, (d0, d1) in enumerate(drawn + np.array([before, after])):
            change = d1 - d0
            highest = change_of_absolute(
                (d0 - half, d0 + half), (change - moved, change + moved), (d1 - half, d1 + half)
            )[1]
            ends[i] += highest / 2
    return float((ends < 0).mean())
