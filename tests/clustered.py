"""Made-up test sets of patients with several images each, of which the truth is known.

The score of image i of patient p by fold f's model has the logit

    slope_f y + gap_y g + shift_f,g + sqrt(icc) u_p + sqrt(1 - icc) (sqrt(.6) e_i + sqrt(.4) e_if)

with y the label, g the group (of a patient), and standard normal u, e. slope_f and shift_f,g are
normal between folds, so that expected rates and AUCs over models and patients are normal integrals
of one variable. A method and its Baseline see the same u and e_i.

How many images a patient has is drawn from `NIH_IMAGES`: the 1,487 patients of ChestX-ray14 with a
pneumothorax have 5,302 images of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm

# images with a pneumothorax -> patients of ChestX-ray14 (Data_Entry_2017_v2020.csv)
NIH_IMAGES = {
    1: 615,
    2: 292,
    3: 150,
    4: 118,
    5: 66,
    6: 60,
    7: 33,
    8: 34,
    9: 19,
    10: 15,
    11: 8,
    12: 9,
    13: 8,
    14: 6,
    15: 7,
    16: 5,
    17: 5,
    18: 2,
    19: 4,
    20: 3,
    21: 4,
    22: 1,
    23: 4,
    24: 1,
    25: 1,
    28: 3,
    29: 2,
    30: 3,
    33: 1,
    34: 3,
    36: 1,
    37: 1,
    44: 1,
    49: 1,
    61: 1,
}


@dataclass(frozen=True)
class Model:
    """What the models of one method do on average."""

    slope: float = 1.6
    gaps: tuple[float, float] = (0.0, 0.0)  # shift of group 1 among labels 0 and 1
    centre: float = -0.8


@dataclass(frozen=True)
class World:
    """A population, a test set's size and the folds."""

    patients: int = 300
    icc: float = 0.3
    folds: int = 5
    models: tuple[Model, ...] = field(default=(Model(), Model()))
    slope_sd: float = 0.1  # between folds
    shift_sd: float = 0.15
    share: float = 0.4  # of group 1
    positives: float = 0.4


@dataclass(frozen=True)
class Drawn:
    """One test set with the scores of all models."""

    labels: np.ndarray  # (N,)
    groups: np.ndarray  # (N,)
    patients: np.ndarray  # (N,)
    scores: np.ndarray  # (methods, folds, N)


def draw(world: World, rng: np.random.Generator) -> Drawn:
    """Patients, images, folds and scores, all anew."""
    sizes = np.repeat([*NIH_IMAGES], [*NIH_IMAGES.values()])
    images = rng.choice(sizes, world.patients)
    patients = np.repeat(np.arange(world.patients), images)
    n, k = len(patients), world.folds
    groups = (rng.random(world.patients) < world.share).astype(int)[patients]
    # most patients have images of one label only
    tendency = rng.beta(0.5 * world.positives, 0.5 * (1 - world.positives), world.patients)
    labels = (rng.random(n) < tendency[patients]).astype(int)
    shared = np.sqrt(world.icc) * rng.normal(size=world.patients)[patients]
    shared += np.sqrt((1 - world.icc) * 0.6) * rng.normal(size=n)
    scores = []
    for model in world.models:
        slopes = model.slope + world.slope_sd * rng.normal(size=(k, 1))
        shifts = world.shift_sd * rng.normal(size=(k, 2))[:, groups]
        own = np.sqrt((1 - world.icc) * 0.4) * rng.normal(size=(k, n))
        logits = slopes * labels + np.array(model.gaps)[labels] * groups + shifts + own
        scores.append(1 / (1 + np.exp(-(logits + shared + model.centre))))
    return Drawn(labels, groups, patients, np.array(scores))


def truth(world: World, model: Model) -> dict[str, float]:
    """Expected metrics of a method over models and patients."""
    spread = {0: world.shift_sd**2 + 1, 1: world.shift_sd**2 + world.slope_sd**2 + 1}
    rate = {
        (y, g): norm.cdf((model.slope * y + model.gaps[y] * g + model.centre) / spread[y] ** 0.5)
        for y in (0, 1)
        for g in (0, 1)
    }
    share, q = (1 - world.share, world.share), world.positives
    area = {}
    for g in (0, 1):  # of the positive
        for h in (0, 1):  # of the negative
            apart = model.slope + model.gaps[1] * g - model.gaps[0] * h
            variance = 2 + world.slope_sd**2 + (2 * world.shift_sd**2 if g != h else 0)
            area[g, h] = norm.cdf(apart / variance**0.5)
    tpr, fpr = (sum(share[g] * rate[y, g] for g in (0, 1)) for y in (1, 0))
    dtpr, dfpr = rate[1, 1] - rate[1, 0], rate[0, 1] - rate[0, 0]
    dspd = q * dtpr + (1 - q) * dfpr
    return {
        "auc": sum(share[g] * share[h] * area[g, h] for g in (0, 1) for h in (0, 1)),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "dtpr": dtpr,
        "dfpr": dfpr,
        "dspd": dspd,
        "dauc": area[1, 1] - area[0, 0],
        "spd": abs(dspd),
        "eopp": abs(dtpr),
        "eodds": (abs(dtpr) + abs(dfpr)) / 2,
        "eodds_max": max(abs(dtpr), abs(dfpr)),
        "auc_gap": abs(area[1, 1] - area[0, 0]),
        "auc_min": min(area[1, 1], area[0, 0]),
    }
