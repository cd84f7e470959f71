"""Rates and AUCs of several models, and by how much each patient moves them.

A `Part` is a statistic of the K models (folds) of one method on one test set. It carries a value
for each model and, for the mean over the models, the influence of every patient: what the mean
would move by, to first order, if the patient counted a little more. The sum of the squared
influences is the patient-clustered sandwich variance. Parts add and subtract, so a gap between two
groups, or the difference of two methods on the same images, is a Part too, pairing included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Part:
    """A statistic of K models on the images of P patients."""

    values: np.ndarray  # (K,)
    influence: np.ndarray  # (P,), of the mean over the models
    patients: float  # G: as many equally weighted patients determine the variance
    # Variance added where every image of a cell is decided alike: the influences are all 0 there,
    # and a variance of 0 would claim that no other image could be decided otherwise.
    uniform: float = 0.0
    # Models of one fold that differ by their draws alone, one after the other: they are one
    # training, whose luck is averaged, and not several.
    repeats: int = 1

    @property
    def value(self) -> float:
        """Mean over the models."""
        return float(self.values.mean())

    @property
    def variance(self) -> float:
        """Variance of the mean over the models, over test sets of other patients."""
        return float(self.influence @ self.influence) + self.uniform

    def __sub__(self, other: Part) -> Part:
        """The difference between two groups: each needs patients of its own."""
        return Part(
            self.values - other.values,
            self.influence - other.influence,
            min(self.patients, other.patients),
            self.uniform + other.uniform,
            self.repeats,
        )

    def paired(self, other: Part) -> Part:
        """The difference to another method on the same images: equal decisions cancel.

        Not where both decide every image of a cell alike: of other images they need not.
        """
        return Part(
            self.values - other.values,
            self.influence - other.influence,
            min(self.patients, other.patients),
            min(self.uniform, other.uniform),
            self.repeats,
        )

    def scaled(self, factor: float) -> Part:
        """The statistic times a number."""
        return Part(
            self.values * factor,
            self.influence * factor,
            self.patients,
            self.uniform * factor**2,
            self.repeats,
        )


def mean(parts: Sequence[Part]) -> Part:
    """The mean of several statistics of the same models."""
    return Part(
        np.mean([part.values for part in parts], axis=0),
        np.mean([part.influence for part in parts], axis=0),
        min(part.patients for part in parts),
        sum(part.uniform for part in parts) / len(parts) ** 2,
        parts[0].repeats,
    )


def patient_codes(patients: np.ndarray | pd.Series | None, n: int) -> np.ndarray:
    """Whose image each of n is, as 0 to P - 1; an unknown patient is a person for each image."""
    if patients is None:
        return np.arange(n)
    codes = pd.factorize(np.asarray(patients, dtype=object))[0].astype(np.int64)
    unknown = codes < 0
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(int(unknown.sum()))
    return codes


def effective_patients(counts: np.ndarray) -> float:
    """(sum n_p)^2 / sum n_p^2: how many patients with equally many images are worth these.

    Args:
        counts: images of each patient; zeros do not matter.
    """
    squares = float(counts @ counts)
    return float(counts.sum()) ** 2 / squares if squares else 0.0


def ratio(
    numerator: np.ndarray, denominator: np.ndarray, patients: np.ndarray, n_patients: int
) -> Part | None:
    """sum(numerator) / sum(denominator) over images: every rate, mean, PPV and F1.

    Args:
        numerator: (K, n), what an image adds above.
        denominator: (K, n) or (n,), what it adds below; a rate has ones.
        patients: (n,), codes of `patient_codes`.
        n_patients: P, the patients of the whole test set.

    Returns:
        None where a model has nothing below.
    """
    below = np.broadcast_to(denominator, numerator.shape)
    totals = below.sum(axis=1)
    if not (totals > 0).all():
        return None
    values = numerator.sum(axis=1) / totals
    residuals = ((numerator - values[:, None] * below) / totals[:, None]).mean(axis=0)
    influence = np.bincount(patients, weights=residuals, minlength=n_patients)
    counts = np.bincount(patients, weights=below.mean(axis=0), minlength=n_patients)
    effective = effective_patients(counts)
    uniform = 0.0
    if np.ptp(values) == 0 and np.allclose(residuals, 0, atol=1e-15):
        uniform = _of_uniform(effective)
    return Part(values, influence * _leverage(counts), effective, uniform)


def auc(
    scores: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    patients: np.ndarray,
    n_patients: int,
) -> Part | None:
    """AUC of K models, with the influences of DeLong et al. (1988) and Obuchowski (1997).

    Args:
        scores: (K, N).
        positives, negatives: indices of the images of either class.
        patients: (N,), codes of `patient_codes`.
        n_patients: P.

    Returns:
        None where a class is missing. `patients` of the Part is the number of patients with an
        image among these.
    """
    if not len(positives) or not len(negatives):
        return None
    values = np.empty(len(scores))
    won = np.zeros(len(positives))  # share of the negatives below a positive, summed over models
    lost = np.zeros(len(negatives))  # share of the positives above a negative
    for k, model in enumerate(scores):
        high, low = model[positives], model[negatives]
        above, below = _share_below(high, low), 1.0 - _share_below(low, high)
        values[k] = above.mean()
        won += above - values[k]
        lost += below - values[k]
    influence = np.zeros(n_patients)
    smaller = np.inf
    for rows, residuals in ((positives, won), (negatives, lost)):
        weights = residuals / (len(scores) * len(rows))
        whose = patients[rows]
        counts = np.bincount(whose, minlength=n_patients).astype(np.float64)
        influence += _leverage(counts) * np.bincount(whose, weights, n_patients)
        smaller = min(smaller, effective_patients(counts))
    everybody = np.unique(patients[np.concatenate([positives, negatives])])
    separated = np.isin(values, (0.0, 1.0)).all()
    uniform = _of_uniform(smaller) if separated else 0.0
    return Part(values, influence, float(len(everybody)), uniform)


def _of_uniform(effective: float) -> float:
    """Variance of a rate of 0 or 1 among so many patients (Agresti and Coull: two more of each)."""
    share = 2 / (effective + 4)
    return share * (1 - share) / (effective + 4)


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each value, the share of the others that are smaller, ties counting half."""
    ordered = np.sort(others)
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return (left + right) / (2 * len(others))


def _leverage(counts: np.ndarray) -> np.ndarray:
    """1 / sqrt(1 - h), h a patient's share of a cell's images (Bell and McCaffrey, 2002).

    The mean follows a patient with many images, so its residuals are too small. With an image a
    patient this is the usual sqrt(n / (n - 1)).
    """
    share = counts / max(counts.sum(), 1e-300)
    return 1 / np.sqrt(np.where(share < 1, 1 - share, 1.0))
