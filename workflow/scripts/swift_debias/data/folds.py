"""Folds of the training pool.

A fold is the validation set of one round of cross-validation, of whole groups of images (patients,
lesions, duplicates), stratified by label and attributes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from . import demands, own_external

SIZE_COLUMNS = ["set", "fold", "attribute", "group", "label", "n", "paper", "difference"]


def make_folds(
    cohort: pd.DataFrame,
    attributes: pd.DataFrame,
    folds: int,
    seed: int,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> pd.DataFrame:
    """Cut a pool into folds of whole groups, stratified by label and attributes.

    Args:
        cohort: columns dataset, image_id, label, cluster.
        attributes: int (N, any number of attributes), group index or -1; unknown is a stratum too.
        folds: how many.
        seed: any integer.
        classes: labels that there are; every fold needs all.
        class_names: what they are called, for messages.

    Returns:
        image_id, dataset, fold (int16, 0 to folds - 1), in the order of the cohort.

    Raises:
        UserError: fewer groups than folds (see `demands`), or a fold without one of the labels.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    groups = pd.factorize(cohort["cluster"])[0]
    labels = cohort["label"].to_numpy()
    problems = demands.fold_problems(labels, groups, folds, classes, class_names)
    if problems:
        raise UserError("; ".join(problems) + ": take fewer folds")
    strata = attributes.set_axis(cohort.index, axis=0).set_axis(range(attributes.shape[1]), axis=1)
    strata = strata.assign(label=cohort["label"])  # an attribute may be called so too
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
    if counts.shape != (folds, classes) or not counts.to_numpy().all():
        every = counts.reindex(index=range(folds), columns=range(classes), fill_value=0)
        lacking = every.index[(every == 0).any(axis=1)]
        first = " / ".join(f"{n:,}" for n in every.loc[lacking[0]])
        called = " / ".join(demands.class_called(y, class_names) for y in range(classes))
        raise UserError(
            f"{len(lacking)} of {folds} folds lack images of one label, the first is fold "
            f"{lacking[0]} with {first} images of {called}: take fewer folds"
        )
    return pd.DataFrame(
        {
            "image_id": cohort["image_id"].to_numpy(),
            "dataset": cohort["dataset"].to_numpy(),
            "fold": fold,
        }
    )


def sizes(
    cohort: pd.DataFrame,
    folds: pd.DataFrame,
    attributes: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    external: Mapping[str, Sequence[pd.DataFrame]],
    paper: Mapping[str, Any] | None = None,
    classes: int = 2,
) -> pd.DataFrame:
    """How many images every set has, beside the paper's numbers where it gives them.

    Args:
        cohort: the pool, column label; `trains` where some images are for external sets alone.
        folds: as `make_folds` made it, row by row beside the cohort.
        attributes: by name: group index of each row of the cohort or -1, and names of the groups.
        external: by attribute: the `External.frame` of every fold.
        paper: sizes by the keys paper, paper_train, paper_validation, and paper_external (by
            attribute), as in resources/expected_counts.yaml; null where it gives none.
        classes: labels that there are.

    Returns:
        One row a count. set: pool, train, validation, external, balanced. fold: int or null.
        attribute, group, label: str, 'all' where the count is over all of them. n: int64. paper,
        difference (n - paper): Int64 or null.
    """
    paper = paper or {}
    fold = folds["fold"].to_numpy()
    label = cohort["label"].to_numpy()
    trains = cohort["trains"].to_numpy() if "trains" in cohort else np.ones(len(fold), bool)
    watched = trains if own_external.EXTERNAL in cohort else np.ones(len(fold), bool)
    parts: list[tuple[str, int | None, np.ndarray, Any]] = [
        ("pool", None, trains, paper.get("paper"))
    ]
    for number in range(int(fold.max()) + 1):
        parts.append(("train", number, trains & (fold != number), paper.get("paper_train")))
        parts.append(
            ("validation", number, watched & (fold == number), paper.get("paper_validation"))
        )
    rows: list[tuple[Any, ...]] = []
    for name, of_fold, mask, published in parts:
        rows += _counts(name, of_fold, "all", label[mask], None, (), published, classes)
        for attribute, (groups, names) in attributes.items():
            inside = label[mask], groups[mask]
            rows += _counts(name, of_fold, attribute, *inside, names, None, classes)
    published_external = paper.get("paper_external") or {}
    for attribute, frames in external.items():
        names = attributes[attribute][1]
        for number, frame in enumerate(frames):
            for name, part, published in (
                ("external", frame, None),
                ("balanced", frame[frame["balanced"]], published_external.get(attribute)),
            ):
                values = part["label"].to_numpy(), part["attribute"].to_numpy()
                rows += _counts(name, number, attribute, *values, names, published, classes)
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
    classes: int,
) -> list[tuple[Any, ...]]:
    """Rows of `sizes` for one set: in all, by label, and by group and label."""
    masks = {"all": np.ones(len(labels), bool)}
    if groups is not None:
        masks |= {group: groups == index for index, group in enumerate(names)}
        masks["unknown"] = groups < 0
    rows = []
    for group, mask in masks.items():
        for label in ("all", *map(str, range(classes))):
            n = int(mask.sum()) if label == "all" else int((mask & (labels == int(label))).sum())
            beside = published if group == "all" and label == "all" else None
            rows.append((name, fold, attribute, group, label, n, beside))
    return rows
