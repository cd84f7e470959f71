"""What the rules demand of the data.

Each demand is decided here and nowhere else: by the rule that has it, and by `check` before
anything is computed. The check asks whether any cut into folds could do; the rule, with one fold
and without clusters, whether this one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..config.schema import Finetuning
from ..errors import fewer_folds, setting


def class_called(label: int, names: Sequence[str] = ()) -> str:
    """A class in messages: its name, or its number where nobody has named it."""
    return (names[label] if label < len(names) else "") or f"label {label}"


def fold_problems(
    labels: np.ndarray,
    clusters: np.ndarray,
    folds: int,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> list[str]:
    """Why a pool cannot be cut into folds of whole clusters that have all labels.

    Args:
        labels: int (N,), 0 to classes - 1.
        clusters: (N,), what must stay in one fold: a patient's images, copies of a picture.
        folds: how many.
        classes: labels that there are.
        class_names: what they are called, for messages.
    """
    present = len(np.unique(clusters))
    if present < folds:
        return [f"{folds} folds need as many groups of images, there are {present}"]
    found = []
    for label in range(classes):
        with_label = len(np.unique(clusters[labels == label]))
        if with_label < folds:
            found.append(
                f"{folds} folds need as many groups of images (patients, copies) with "
                f"{class_called(label, class_names)}, there are {with_label}"
            )
    return found


def short_cells(
    labels: np.ndarray,
    groups: np.ndarray,
    among: Mapping[int, str],
    least: int,
    folds: int = 1,
    clusters: np.ndarray | None = None,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> list[str]:
    """Cells (label, group) that cannot have so many images in each fold, with their counts.

    A cluster is in one fold, so what it has beyond `least` helps no other fold.

    Args:
        labels: int (N,), 0 to classes - 1.
        groups: int (N,), group index.
        among: the groups that matter: index -> name.
        least: fewest images of a cell in a fold.
        folds: how many folds.
        clusters: (N,), what stays in one fold; None: each image alone.
        classes: labels that there are.
        class_names: what they are called, for messages.
    """
    found = []
    for label in range(classes):
        for group, name in among.items():
            cell = (labels == label) & (groups == group)
            if clusters is None:
                usable = int(cell.sum())
            else:
                sizes = np.unique(clusters[cell], return_counts=True)[1]
                usable = int(np.minimum(sizes, least).sum())
            if usable < folds * least:
                called = class_called(label, class_names)
                found.append(f"{called} in group {name}: {int(cell.sum())}")
    return found


def external_problems(
    labels: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    finetuning: Finetuning,
    folds: int = 1,
    clusters: np.ndarray | None = None,
    classes: int = 2,
    class_names: Sequence[str] = (),
) -> list[str]:
    """Why methods cannot work on the external sets of an attribute; see `short_cells`.

    Two groups are balanced, so both are needed; of more, two are compared.
    """
    if len(names) == 2:
        least = finetuning.min_cell
        both = dict(enumerate(names))
        short = short_cells(labels, groups, both, least, folds, clusters, classes, class_names)
        return [few_images(short, least, folds)] if short else []
    usable = comparable_groups(labels, groups, len(names), finetuning, folds, clusters, classes)
    problem = too_few_groups(len(usable), len(names), finetuning)
    return [problem] if problem else []


def few_images(short: Sequence[str], min_cell: int, folds: int = 1) -> str:
    """What to say of cells that `short_cells` found."""
    if folds == 1:
        return (
            f"an external set needs at least {min_cell} images of each label in each group "
            f"({setting('finetuning.min_cell')}), but has {', '.join(short)}. "
            f"Use {fewer_folds()}more data or other groups"
        )
    return (
        f"each of {folds} folds needs at least {min_cell} images of each label in each group, "
        f"a patient's in one fold (finetuning.min_cell), but in all there are "
        f"{', '.join(short)}. Use fewer folds, more data or other groups"
    )


def large_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    min_cell: int,
    folds: int = 1,
    clusters: np.ndarray | None = None,
    classes: int = 2,
) -> list[int]:
    """Groups that have enough images of all labels; see `short_cells`."""
    return [
        group
        for group in range(n_groups)
        if not short_cells(labels, groups, {group: ""}, min_cell, folds, clusters, classes)
    ]


def comparable_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    finetuning: Finetuning,
    folds: int = 1,
    clusters: np.ndarray | None = None,
    classes: int = 2,
) -> list[int]:
    """Groups of many of which two may be compared: large ones of at least `min_group` images."""
    least = finetuning.min_cell
    large = large_groups(labels, groups, n_groups, least, folds, clusters, classes)
    enough = finetuning.min_group * folds
    return [group for group in large if int((groups == group).sum()) >= enough]


def too_few_groups(usable: int, groups: int, finetuning: Finetuning) -> str:
    """Why no two of an attribute's groups can be compared; empty where two can."""
    if usable >= 2:
        return ""
    return (
        f"fewer than two of the {groups} groups have both classes and at least "
        f"{finetuning.min_group} external samples, {finetuning.min_cell} of each label: lower "
        f"{setting('finetuning.min_group')} and {setting('finetuning.min_cell')}, use "
        f"{fewer_folds()}more data, or merge groups of the attribute"
    )
