"""Bias as a variable: a training pool in which an attribute is tied to the label, strongly or not.

With r the share of class 1, a pool of tie s holds as many images of each class as any other, and

    P(group 1 | class 1) = P(group 0 | class 0) = (1 + s) / 2,

where group 1 is the one that class 1 is tied to: the second, or the one that `to` names.
So s = 0 leaves label and group independent, with both groups equally large; pools of other s differ
from it in nothing but who has which label. The size is the largest that every s up to `STRONGEST`
allows. Images of unknown group leave the pool.

Patients (clusters: what stays in one fold) are drawn in one random order for all s. Each cell of
label and group takes whole patients in that order; the last one is cut where the cell is full, so
that counts are exact. A larger s therefore keeps whom a smaller one kept, in the cells that grow.

What does not stay is not trained on. It leaves the cohort under `external: tied`; under `natural`
it stays for the external sets, and a column `trains` says which images are of the pool. Test sets
are never touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..config.schema import STRONGEST, Tie
from ..errors import UserError
from ..seeds import derive_seed
from .demands import class_called


class Tied(NamedTuple):
    """The cohort, with a column `trains` where it has more than the pool; counts for its log."""

    frame: pd.DataFrame
    log: dict[str, Any]


def targets(counts: np.ndarray, strength: float) -> np.ndarray:
    """How many images of each cell stay.

    Args:
        counts: int (2, 2), images by label and group.
        strength: s, 0 to `STRONGEST`.

    Returns:
        int (2, 2). Its sums over groups are the same for every s.
    """
    rates = counts.sum(axis=1) / counts.sum()
    # the cells of the tie are fullest at the strongest, the others without one
    fullest = np.where(np.eye(2, dtype=bool), (1 + STRONGEST) / 2, 0.5)
    size = (counts / (fullest * rates[:, None])).min()
    classes = np.floor(rates * size + 1e-9).astype(int)
    tied = np.rint(classes * (1 + strength) / 2).astype(int)
    return np.array([[tied[0], classes[0] - tied[0]], [classes[1] - tied[1], tied[1]]])


def tie_pool(
    frame: pd.DataFrame,
    groups: np.ndarray,
    names: Sequence[str],
    tie: Tie,
    seed: int,
    class_names: Sequence[str] = (),
) -> Tied:
    """Choose the images that Baselines are trained on.

    Args:
        frame: the cohort, columns label and cluster.
        groups: int (N,), group of each row, 0 or 1; -1: unknown.
        names: of the two groups.
        tie: which attribute, and how strongly.
        seed: of the run; the order of patients does not depend on the strength or the task.

    Raises:
        UserError: a cell of label and group is empty.
    """
    labels = frame["label"].to_numpy()
    cells = list(itertools.product((0, 1), (0, 1)))
    members = {(y, g): np.flatnonzero((labels == y) & (groups == g)) for y, g in cells}
    counts = np.array([len(members[cell]) for cell in cells]).reshape(2, 2)
    if not counts.all():
        empty = next(cell for cell in cells if not counts[cell])
        raise UserError(
            f"tie: no image of {class_called(empty[0], class_names)} in group {names[empty[1]]} of "
            f"{tie.attribute}, so the two cannot be tied; leave tie: out, or take another attribute"
        )
    turn = -1 if tie.to == names[0] else 1  # the group that class 1 is tied to comes second
    wanted = targets(counts[:, ::turn], tie.strength)[:, ::turn]
    people, codes = np.unique(frame["cluster"].to_numpy(str), return_inverse=True)
    rng = np.random.default_rng(derive_seed(seed, "tie", tie.attribute))
    place = rng.permutation(len(people))[codes]
    kept = [
        rows[np.argsort(place[rows], kind="stable")[: wanted[cell]]]
        for cell, rows in members.items()
    ]
    stay = np.zeros(len(frame), bool)
    stay[np.concatenate(kept)] = True
    log = {
        "kept": int(stay.sum()),
        "left out": int(((groups >= 0) & ~stay).sum()),
        "left out, of unknown group": int((groups < 0).sum()),
        **{f"label {y}, {names[g]}": int(wanted[y, g]) for y, g in cells},
    }
    if tie.external == "natural":
        return Tied(frame.assign(trains=stay), log)
    return Tied(frame[stay].reset_index(drop=True), log)
