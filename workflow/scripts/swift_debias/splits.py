"""Folds of the training pool, and the external sets that debiasing works on.

A fold is the validation set of one round of cross-validation. The external set of a fold and an
attribute is that validation set without the images whose group is unknown [paper, Section 3.1]. Its
group-balanced part is marked, since methods differ in which of the two they use.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .settings import UserError

SIZE_COLUMNS = ["set", "fold", "attribute", "group", "label", "n", "paper", "difference"]


class External(NamedTuple):
    """What `make_external` returns.

    frame: image_id (str), dataset (str), label (int8), attribute (int16, group index), balanced
        (bool); all images of the fold whose group is known.
    log: counts of what was left out, and why.
    """

    frame: pd.DataFrame
    log: dict[str, Any]


def make_folds(
    cohort: pd.DataFrame, attributes: pd.DataFrame, folds: int, seed: int
) -> pd.DataFrame:
    """Cut a pool into folds of whole groups, stratified by label and attributes.

    Args:
        cohort: columns dataset, image_id, label, group.
        attributes: int (N, any number of attributes), group index or -1; unknown is a stratum too.
        folds: how many.
        seed: any integer.

    Returns:
        image_id, dataset, fold (int16, 0 to folds - 1), in the order of the cohort.

    Raises:
        UserError: fewer groups than folds, or a fold without one of the labels.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    groups = pd.factorize(cohort["group"])[0]
    n_groups = len(np.unique(groups))
    if n_groups < folds:
        raise UserError(f"{folds} folds need as many groups of images, there are {n_groups}")
    strata = attributes.set_axis(cohort.index, axis=0).assign(label=cohort["label"])
    stratum = strata.groupby(list(strata), sort=False).ngroup().to_numpy()
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    fold = np.empty(len(cohort), np.int16)
    with warnings.catch_warnings():
        # A stratum smaller than the number of folds cannot be in each, and need not be.
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        try:
            for number, (_, held_out) in enumerate(splitter.split(stratum, stratum, groups)):
                fold[held_out] = number
        except ValueError as error:
            raise UserError(
                f"{len(cohort)} images cannot be cut into {folds} folds: {error}"
            ) from error
    counts = pd.crosstab(fold, cohort["label"].to_numpy())
    if counts.shape != (folds, 2) or not counts.to_numpy().all():
        raise UserError(
            f"a fold lacks images of one label (take fewer folds):\n{counts.to_string()}"
        )
    return pd.DataFrame(
        {
            "image_id": cohort["image_id"].to_numpy(),
            "dataset": cohort["dataset"].to_numpy(),
            "fold": fold,
        }
    )


def make_external(
    cohort: pd.DataFrame,
    attributes: np.ndarray,
    fold: int,
    n_groups: int,
    min_cell: int,
    rng: np.random.Generator,
) -> External:
    """The external set of a fold for one attribute.

    With more than two groups nothing is balanced here: which two are compared depends on the model
    (`external.external_set`).

    Args:
        cohort: columns image_id, dataset, label, fold.
        attributes: int (N,), group index or -1.
        fold: whose validation images to take.
        n_groups: groups that the attribute has.
        min_cell: fewest images of a label in a group.
        rng: draws the balanced part.

    Raises:
        UserError: see `balance`.
    """
    inside = (cohort["fold"] == fold).to_numpy()
    known = inside & (attributes >= 0)
    labels, groups = cohort["label"].to_numpy()[known], attributes[known]
    balanced = np.zeros(len(labels), bool)
    if n_groups == 2:
        balanced = balance(labels, groups, rng, min_cell)
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
            for (label, group), cell in _cells(labels, groups, range(n_groups)).items()
        ],
    }
    return External(frame, log)


def balance(
    labels: np.ndarray, attributes: np.ndarray, rng: np.random.Generator, min_cell: int
) -> np.ndarray:
    """Choose a group-balanced part: of each label as many images of one group as of the other.

    The smaller group stays whole, and the larger one is drawn without replacement to the same size
    and ratio of labels [paper, Section 3.1]. Where the larger group has fewer of a label, the
    smaller one is cut to it: n = min(n_0, n_1) for each label.

    Args:
        labels: int (N,), 0 or 1.
        attributes: int (N,), 0 or 1; negative: unknown, never chosen.
        rng: draws.
        min_cell: fewest images of a label in a group.

    Returns:
        bool (N,).

    Raises:
        UserError: a cell has fewer than `min_cell` images; gives the counts.
    """
    if attributes.max(initial=-1) > 1:
        raise ValueError("balance is defined for two groups")
    cells = _cells(labels, attributes, range(2))
    if min(map(len, cells.values())) < min_cell:
        counts = ", ".join(
            f"label {label} in group {group}: {len(cell)}" for (label, group), cell in cells.items()
        )
        raise UserError(
            f"an external set needs at least {min_cell} images of each label in each group "
            f"(finetuning.min_cell), but has {counts}. Use fewer folds, more data or other groups"
        )
    mask = np.zeros(len(labels), bool)
    for label in (0, 1):
        n = min(len(cells[label, 0]), len(cells[label, 1]))
        for group in (0, 1):
            mask[rng.permutation(cells[label, group])[:n]] = True
    return mask


def subsample(
    labels: np.ndarray, attributes: np.ndarray, fraction: float, rng: np.random.Generator
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
    for cell in _cells(labels, attributes, np.unique(attributes).tolist()).values():
        mask[rng.permutation(cell)[: max(1, round(fraction * len(cell)))]] = True
    return mask


def _cells(
    labels: np.ndarray, attributes: np.ndarray, groups: Sequence[int]
) -> dict[tuple[int, int], np.ndarray]:
    """Positions of the images of each (label, group)."""
    return {
        (label, group): np.flatnonzero((labels == label) & (attributes == group))
        for label in (0, 1)
        for group in groups
    }


# --- sizes ----------------------------------------------------------------------------------------


def sizes(
    cohort: pd.DataFrame,
    folds: pd.DataFrame,
    attributes: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    external: Mapping[str, Sequence[pd.DataFrame]],
    paper: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How many images every set has, beside the paper's numbers where it gives them.

    Args:
        cohort: the pool, column label.
        folds: as `make_folds` made it, row by row beside the cohort.
        attributes: by name: group index of each row of the cohort or -1, and names of the groups.
        external: by attribute: the `External.frame` of every fold.
        paper: sizes by the keys paper, paper_train, paper_validation, and paper_external (by
            attribute), as in resources/expected_counts.yaml; null where it gives none.

    Returns:
        One row a count. set: pool, train, validation, external, balanced. fold: int or null.
        attribute, group, label: str, 'all' where the count is over all of them. n: int64. paper,
        difference (n - paper): Int64 or null.
    """
    paper = paper or {}
    fold = folds["fold"].to_numpy()
    label = cohort["label"].to_numpy()
    parts: list[tuple[str, int | None, np.ndarray, Any]] = [
        ("pool", None, np.ones(len(fold), bool), paper.get("paper"))
    ]
    for number in range(int(fold.max()) + 1):
        parts.append(("train", number, fold != number, paper.get("paper_train")))
        parts.append(("validation", number, fold == number, paper.get("paper_validation")))
    rows: list[tuple[Any, ...]] = []
    for name, of_fold, mask, published in parts:
        rows += _counts(name, of_fold, "all", label[mask], None, (), published)
        for attribute, (groups, names) in attributes.items():
            rows += _counts(name, of_fold, attribute, label[mask], groups[mask], names, None)
    published_external = paper.get("paper_external") or {}
    for attribute, frames in external.items():
        names = attributes[attribute][1]
        for number, frame in enumerate(frames):
            for name, part, published in (
                ("external", frame, None),
                ("balanced", frame[frame["balanced"]], published_external.get(attribute)),
            ):
                values = part["label"].to_numpy(), part["attribute"].to_numpy()
                rows += _counts(name, number, attribute, *values, names, published)
    table = pd.DataFrame(rows, columns=SIZE_COLUMNS[:-1])
    table = table.astype({"fold": "Int16", "n": "int64", "paper": "Int64"})
    table["difference"] = table["n"] - table["paper"]
    return table[SIZE_COLUMNS]


def _counts(
    name: str,
    fold: int | None,
    attribute: str,
    labels: np.ndarray,
    groups: np.ndarray | None,
    names: Sequence[str],
    published: Any,
) -> list[tuple[Any, ...]]:
    """Rows of `sizes` for one set: in all, by label, and by group and label."""
    masks = {"all": np.ones(len(labels), bool)}
    if groups is not None:
        masks |= {group: groups == index for index, group in enumerate(names)}
        masks["unknown"] = groups < 0
    rows = []
    for group, mask in masks.items():
        for label in ("all", "0", "1"):
            n = int(mask.sum()) if label == "all" else int((mask & (labels == int(label))).sum())
            beside = published if group == "all" and label == "all" else None
            rows.append((name, fold, attribute, group, label, n, beside))
    return rows
