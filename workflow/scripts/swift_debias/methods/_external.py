"""The external set of a fold: which images, which pair of groups, which part is balanced.

The one owner of the word *balanced*: of each label, as many images of every group (see
docs/paper.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..config.schema import Finetuning
from ..data import demands, own_external
from ..errors import UserError
from ..seeds import derive_seed


class External(NamedTuple):
    """What `make_external` returns.

    frame: image_id (str), dataset (str), label (int8), attribute (int16, group index), balanced
        (bool); all images of the fold whose group is known.
    log: counts of what was left out, and why.
    """

    frame: pd.DataFrame
    log: dict[str, Any]


def make_external(
    cohort: pd.DataFrame,
    attributes: np.ndarray,
    fold: int,
    n_groups: int,
    min_cell: int,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> External:
    """The external set of a fold for one attribute: its images, or those of a set of one's own.

    With more than two groups, those that have fewer than `min_cell` images of a label are no part
    of the balanced set; which two of the others are compared depends on the model (`choose_rows`).

    Args:
        cohort: columns image_id, dataset, label, fold; `external` where a task has an external set
            of one's own, of which all but the fold is taken.
        attributes: int (N,), group index or -1.
        fold: whose validation images to take.
        n_groups: groups that the attribute has.
        min_cell: fewest images of a label in a group.
        rng: draws the balanced part.
        names: of the groups, for messages.
        classes: labels that there are.
        class_names: what they are called, for messages.

    Raises:
        UserError: see `balance`.
    """
    own = own_external.external_rows(cohort)
    inside = own_external.fitted_on(own, cohort["fold"].to_numpy(), fold)
    known = inside & (attributes >= 0)
    labels, groups = cohort["label"].to_numpy()[known], attributes[known]
    cells = _cells(labels, groups, range(n_groups), classes)
    own_names = (names, classes, class_names)
    balanced = balance_large(labels, groups, n_groups, min_cell, rng, *own_names)
    frame = pd.DataFrame(
        {
            "image_id": cohort["image_id"].to_numpy()[known],
            "dataset": cohort["dataset"].to_numpy()[known],
            "label": labels.astype(np.int8),
            "attribute": groups.astype(np.int16),
            "balanced": balanced,
        }
    )
    log = {
        "fold": fold,
        "images": int(inside.sum()),
        "group_unknown": int((inside & ~known).sum()),
        "kept": len(frame),
        "cells": [
            {
                "label": label,
                "group": group,
                "images": len(cell),
                "balanced": int(balanced[cell].sum()),
            }
            for (label, group), cell in cells.items()
        ],
    }
    return External(frame, log)


def balance_large(
    labels: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    min_cell: int,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """`balance` over the groups that are large enough; two groups that are too small are refused.

    Arguments as in `make_external`. Without two large groups among many nothing is chosen.
    """
    large = demands.large_groups(labels, groups, n_groups, min_cell, classes=classes)
    if n_groups > 2 and len(large) < 2:
        return np.zeros(len(labels), bool)
    among = range(2) if n_groups == 2 else large
    return balance(labels, groups, rng, min_cell, among, names, classes, class_names)


def balance(
    labels: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    min_cell: int,
    among: Sequence[int] = (0, 1),
    names: Sequence[str] | None = None,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """Choose a group-balanced part: of each label as many images of every group.

    The smallest group stays whole, and the others are drawn without replacement to the same size
    and ratio of labels [paper, Section 3.1]. Where another group has fewer of a label, all are cut
    to it: n = the fewest that a group has, for each label.

    Args:
        labels: int (N,), 0 to classes - 1.
        groups: int (N,), index of the group; negative: unknown, never chosen.
        rng: draws.
        min_cell: fewest images of a label in a group.
        among: the groups that are balanced; images of others are not chosen.
        names: of all groups, for messages; default: their indices.
        classes: labels that there are.
        class_names: what they are called, for messages.

    Returns:
        bool (N,).

    Raises:
        UserError: a cell has fewer than `min_cell` images; gives the counts.
    """
    cells = _cells(labels, groups, among, classes)
    called = {group: str(group) if names is None else names[group] for group in among}
    short = demands.short_cells(
        labels, groups, called, min_cell, classes=classes, class_names=class_names
    )
    if short:
        raise UserError(demands.few_images(short, min_cell))
    mask = np.zeros(len(labels), bool)
    for label in range(classes):
        n = min(len(cells[label, group]) for group in among)
        for group in among:
            mask[rng.permutation(cells[label, group])[:n]] = True
    return mask


def subsample(
    labels: np.ndarray,
    attributes: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    classes: int = 2,
) -> np.ndarray:
    """Choose a share of a set, stratified by label and group (Figure 7).

    Of every cell that is not empty at least one image stays. With generators of the same seed the
    choice of a smaller fraction lies within that of a larger one.

    Args:
        labels, attributes: int (N,).
        fraction: above 0, up to 1.
        rng: draws.

    Returns:
        bool (N,).
    """
    mask = np.zeros(len(labels), bool)
    groups = np.unique(attributes).tolist()
    for cell in _cells(labels, attributes, groups, classes).values():
        mask[rng.permutation(cell)[: max(1, round(fraction * len(cell)))]] = True
    return mask


class Chosen(NamedTuple):
    """Which rows of an external set a method works on.

    rows: int (n,). groups: int (n,), 0 or 1. balanced: bool (n,). note: for the log.
    """

    rows: np.ndarray
    groups: np.ndarray
    balanced: np.ndarray
    note: str


def choose_rows(
    labels: np.ndarray,
    groups: np.ndarray,
    balanced: np.ndarray,
    pair: tuple[int, int] | None,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    classes: int = 2,
) -> Chosen:
    """Narrow an external set down to a pair of groups and to a share of it.

    Args:
        labels, groups, balanced: (N,), as `make_external` wrote them.
        pair: the two groups to compare, recoded as 0 and 1; None: there are but two.
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell`.
        seed: for the draws (`seeds.external_seed`).
        classes: labels that there are.
    """
    rows, notes = np.arange(len(labels)), []
    if pair is not None:
        notes.append(f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1")
        rows = np.flatnonzero(np.isin(groups, pair))
        groups = (groups == pair[1]).astype(np.int64)
        balanced = _balanced(labels, groups, rows, finetuning.min_cell, seed, classes)
    if fraction < 1:
        rng = np.random.default_rng(derive_seed(seed, "fraction"))
        rows = rows[subsample(labels[rows], groups[rows], fraction, rng, classes)]
        # The fraction is drawn first and balanced after: what a user with less data would have. A
        # small set may leave few samples in a cell, which is what Figure 7 is about: no minimum.
        balanced = _balanced(labels, groups, rows, 1, seed, classes)
    notes.append(f"external set: {len(rows)} images, {int(balanced[rows].sum())} balanced")
    return Chosen(rows, groups[rows], balanced[rows], "\n".join(notes))


def _balanced(
    labels: np.ndarray,
    groups: np.ndarray,
    rows: np.ndarray,
    min_cell: int,
    seed: int,
    classes: int,
) -> np.ndarray:
    """The balanced part of some rows, bool (N,)."""
    rng = np.random.default_rng(derive_seed(seed, "balance"))
    mask = np.zeros(len(labels), bool)
    mask[rows] = balance(labels[rows], groups[rows], rng, min_cell, classes=classes)
    return mask


def best_and_worst_group(
    aucs: Mapping[int, float], large: Sequence[int], finetuning: Finetuning
) -> tuple[int, int]:
    """The groups with the highest and the lowest AUC, lower index first [paper, Section 5.1.3].

    Args:
        aucs: of every group; nan: it has one class only.
        large: the groups that are large enough (`demands.comparable_groups`).
        finetuning: for the message.
    """
    usable = {g: aucs[g] for g in large if not np.isnan(aucs[g])}
    if problem := demands.too_few_groups(len(usable), len(aucs), finetuning):
        raise UserError(problem)
    best, worst = max(usable, key=usable.__getitem__), min(usable, key=usable.__getitem__)
    return min(best, worst), max(best, worst)


def _cells(
    labels: np.ndarray, attributes: np.ndarray, groups: Sequence[int], classes: int
) -> dict[tuple[int, int], np.ndarray]:
    """Positions of the images of each (label, group)."""
    return {
        (label, group): np.flatnonzero((labels == label) & (attributes == group))
        for label in range(classes)
        for group in groups
    }
