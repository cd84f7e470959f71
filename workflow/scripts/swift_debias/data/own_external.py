"""External sets of one's own: images that debiasing works on and nothing is trained on.

A hospital brings its classifier and a small labelled set. The cohort then holds both the training
pool (which may be empty) and the external images; two columns tell them apart. An image, or its
patient, that is in both is external: a classifier has not seen what it is debiased on. Of copies of
a picture the external one stays, since external sets come last where the last stays, else first
(`plan.pool`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .labelled import KEYS

EXTERNAL, TRAINS = "external", "trains"


class Marked(NamedTuple):
    """The cohort with its two columns; counts for its log."""

    frame: pd.DataFrame
    log: dict[str, int]


def mark(frame: pd.DataFrame, external: Container[str]) -> Marked:
    """Tell external images from those that are trained on.

    Args:
        frame: the cohort, columns dataset and cluster (a patient's images, copies of a picture).
        external: names of the external data sets.

    Returns:
        The rows that are one or the other, with bool columns `external` and `trains`: training
        images whose cluster has an external image are left out, and counted.
    """
    own = frame["dataset"].map(lambda name: name in external).to_numpy(bool)
    shared = ~own & frame["cluster"].isin(frame.loc[own, "cluster"]).to_numpy()
    kept = frame.assign(**{EXTERNAL: own, TRAINS: ~own})[~shared].reset_index(drop=True)
    log = {"images": int(own.sum()), "images that are trained on": int((~own & ~shared).sum())}
    return Marked(kept, log | {"training images of its patients, left out": int(shared.sum())})


def external_rows(cohort: pd.DataFrame) -> np.ndarray | None:
    """bool (N,): which rows are of external sets of one's own; None where there are none."""
    return cohort[EXTERNAL].to_numpy(bool) if EXTERNAL in cohort else None


def fitted_on(own: np.ndarray | None, fold: np.ndarray, number: int) -> np.ndarray:
    """Which rows a fold's methods are fitted on, bool (N,).

    Of a set of one's own all but the fold, which is kept to choose on; else the fold itself, on
    which its Baseline was not trained.

    Args:
        own: what `external_rows` gives. fold: int (N,), fold of each row. number: of the fold.
    """
    return fold == number if own is None else own & (fold != number)


def held_out(sets: Sequence[pd.DataFrame], number: int) -> pd.DataFrame:
    """The images of a fold, which none of its methods is fitted on: thresholds are found there.

    Args:
        sets: external sets of one's own, of every fold, with columns dataset and image_id.
        number: of the fold.
    """
    others = pd.concat([frame for fold, frame in enumerate(sets) if fold != number])
    fitted = pd.MultiIndex.from_frame(sets[number][KEYS])
    rest = others[~pd.MultiIndex.from_frame(others[KEYS]).isin(fitted)]
    return rest.drop_duplicates(KEYS).reset_index(drop=True)
