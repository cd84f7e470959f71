"""What a method that chooses something itself holds out of its external set, and fits on.

It is cut as a search cuts it (`_selection.split`): by patient, within cells of label and group, and
by the run's `selection`. Where a share would leave too few images of a cell, parts take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..seeds import derive_seed
from ._external import balance
from ._selection import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..learning.context import Context
    from ..learning.samples import ExternalSet, Samples


class Cut(NamedTuple):
    """One way to cut an external set in two.

    fit: what is fitted on, with a balanced part of its own. select: the other samples. patients:
    (n,) of `select`. rows: bool (N,), the samples of the whole set that are in `select`.
    """

    fit: ExternalSet
    select: Samples
    patients: np.ndarray
    rows: np.ndarray


def cuts(external: ExternalSet, context: Context) -> list[Cut]:
    """The cuts of an external set; each of its samples is in one `select` at most.

    All methods of a job's seed get the same ones.
    """
    from ..learning.samples import ExternalSet

    full = external.full
    labels = full.labels.cpu().numpy().astype(np.int64)
    groups = full.attributes.cpu().numpy()
    patients = external.patients
    if patients is None:
        patients = np.full(len(full), None, dtype=object)
    found = []
    seed = derive_seed(context.seed, "select")
    least = context.finetuning.min_cell
    for number, (fit, select) in enumerate(
        split(labels, groups, patients, context.selection, least, seed)
    ):
        rng = np.random.default_rng(derive_seed(context.seed, "select", number))
        inner = full.subset(fit)
        balanced = balance(labels[fit], groups[fit], rng, 1, classes=full.classes)
        part = ExternalSet(inner, inner.subset(balanced), patients[fit])
        found.append(Cut(part, full.subset(select), patients[select], select))
    return found


def truth_of(held: Sequence[Cut]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and patients, (n,) each, of all that the cuts hold out, in their order."""
    samples = [cut.select for cut in held]
    labels = np.concatenate([one.labels.cpu().numpy().astype(np.int64) for one in samples])
    groups = np.concatenate([one.attributes.cpu().numpy() for one in samples])
    return labels, groups, np.concatenate([cut.patients for cut in held])
