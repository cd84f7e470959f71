"""Can a task's training pool be cut as the rules will cut it? Asked before any image is decoded.

The pool is what rule `find_duplicates` makes of the tables alone: equal ids, listed pairs, patients
and lesions; what only pixels show is not known yet. Each demand is the rules' own (`demands`,
`make_folds`). Small pools are cut as they will be, so that an unlucky fold is seen as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config import plan, schema
from ..errors import UserError
from . import demands, duplicates, own_external
from .folds import make_folds
from .groups import groups_in
from .tie import tie_pool

CUT = 20_000  # images; a larger pool is counted and not cut, which would take long


class PoolOutlook(NamedTuple):
    """What the rules will say of a task's training pool.

    images: that stay. leaks: counts of training images that a test set has too, or whose patient.
    largest: images of the largest cluster (a patient, say). problems: why nothing of the task can
    run; by_attribute: why nothing of an attribute can. notes: what a reader should know. cells:
    attribute -> group -> images of each class; without attributes that only pixels will show.
    """

    images: int = 0
    leaks: Mapping[str, int] = {}
    largest: int = 0
    problems: tuple[str, ...] = ()
    by_attribute: Mapping[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()
    cells: Mapping[str, Mapping[str, tuple[int, ...]]] = {}


def outlook(
    name: str,
    config: schema.Settings,
    manifests: Mapping[str, pd.DataFrame],
    tests: Sequence[str],
    project: Path,
) -> PoolOutlook:
    """What the rules will say of a task.

    Args:
        name: of the task.
        config: the settings.
        manifests: data set -> manifest; all of the task's.
        tests: test sets that some experiment needs.
        project: the folder that relative roots start from.
    """
    task = config.tasks[name]
    classes = len(task.class_names)
    archives = plan.archives(config)

    def source(dataset: str) -> duplicates.Source:
        rows = manifests[dataset]
        if task.invert_labels:
            rows = rows.assign(label=1 - rows["label"])
        listed = duplicates.read_listed(project / config.datasets[dataset].root)
        return duplicates.Source(dataset, rows, _no_pixels(rows), archives[dataset], listed)

    try:
        cohort = duplicates.find_duplicates(
            [source(dataset) for dataset in plan.pool(config, name)],
            [source(dataset) for dataset in tests],
            config.duplicates,
            task.group_by_patient,
        )
    except UserError as error:
        return PoolOutlook(problems=(str(error),))
    frame, notes = cohort.frame, list(_conflicts(cohort.log))
    if task.external:
        marked = own_external.mark(frame, task.external)
        frame = marked.frame
        notes.append(
            "external sets: " + ", ".join(f"{what} {count:,}" for what, count in marked.log.items())
        )
    if task.tie is not None:
        spec = config.attributes[task.tie.attribute]
        try:
            tied = tie_pool(frame, groups_in(frame, spec), spec.group_names, task.tie, config.seed)
        except UserError as error:
            return PoolOutlook(problems=(str(error),))
        frame = tied.frame
        kept = ", ".join(f"{what} {count:,}" for what, count in tied.log.items())
        notes.append(f"tie of {task.tie.attribute}, strength {task.tie.strength:g}: {kept}")
    labels, clusters = frame["label"].to_numpy(), pd.factorize(frame["cluster"])[0]
    own = own_external.external_rows(frame)
    sizes = np.bincount(clusters)
    found = PoolOutlook(
        images=len(frame),
        leaks=cohort.log[f"leaks_{config.duplicates.leaks}"],
        largest=int(sizes.max()),
        problems=tuple(_fold_problems(labels, clusters, own, config.folds, classes)),
    )
    if sizes.max() > max(1, len(frame) / config.folds):
        notes.append(
            f"{int(sizes.max()):,} images are bound together (one patient, say) and fill more than "
            f"one of {config.folds} folds"
        )
    measured = {
        attribute
        for attribute in task.tests
        if any(
            config.datasets[dataset].measures(column)
            for dataset in task.pool
            for column in config.attributes[attribute].columns
        )
    }
    groups = {
        attribute: groups_in(frame, spec)
        for attribute, spec in config.attributes.items()
        if attribute in task.tests and attribute not in measured
    }
    used = [a for owner, _, a in plan.setups(config) if owner == name]
    trains = frame["trains"].to_numpy() if "trains" in frame else np.ones(len(frame), bool)
    cells = {}
    by_attribute = {}
    for attribute in dict.fromkeys(used):
        if attribute in measured:
            notes.append(
                f"{attribute} is measured from the pixels: how many of each class its groups have "
                "will stand in the report"
            )
            continue
        spec = config.attributes[attribute]
        counted = trains if task.train else np.ones(len(frame), bool)
        cells[attribute] = _cells(
            labels[counted], groups[attribute][counted], spec.group_names, classes
        )
        problems = (
            demands.external_problems(
                labels,
                groups[attribute],
                spec.group_names,
                task.finetuning,
                config.folds,
                clusters,
                classes,
            )
            if own is None  # else all folds but one are one's own set
            else demands.external_problems(
                labels[own],
                groups[attribute][own],
                spec.group_names,
                task.finetuning,
                classes=classes,
            )
        )
        by_attribute[attribute] = tuple(problems)
    found = found._replace(by_attribute=by_attribute, notes=tuple(notes), cells=cells)
    certain = {*plan.strata(config, name)} <= groups.keys()
    if found.problems or not certain or len(frame) > CUT:
        return found
    return _cut(found, name, config, frame, groups)


def _conflicts(log: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """What sources of one archive say differently of one image."""
    if differ := log["images_of_one_id_that_differ_in"]:
        told = ", ".join(f"{column} {count:,}" for column, count in differ.items())
        yield f"sources disagree on images of one id: {told}; the copy that stays counts"


def _cut(
    found: PoolOutlook,
    name: str,
    config: schema.Settings,
    frame: pd.DataFrame,
    groups: Mapping[str, np.ndarray],
) -> PoolOutlook:
    """Cut the pool as rule `make_folds` will, and ask of each fold what `make_external` will."""
    strata = pd.DataFrame({a: groups[a] for a in plan.strata(config, name)}, index=frame.index)
    own = own_external.external_rows(frame)
    if own is not None:
        strata = strata.assign(**{own_external.EXTERNAL: own})
    classes = len(config.tasks[name].class_names)
    try:
        cut = make_folds(frame, strata, config.folds, config.seed, classes)
        folds = cut["fold"].to_numpy()
    except UserError as error:
        return found._replace(problems=(" ".join(str(error).split()),))
    by_attribute = dict(found.by_attribute)
    for attribute in found.by_attribute:
        for fold in range(config.folds):
            if by_attribute[attribute]:
                break
            inside = own_external.fitted_on(own, folds, fold)
            problems = demands.external_problems(
                frame["label"].to_numpy()[inside],
                groups[attribute][inside],
                config.attributes[attribute].group_names,
                config.tasks[name].finetuning,
                classes=classes,
            )
            by_attribute[attribute] = tuple(f"fold {fold}: {text}" for text in problems)
    return found._replace(by_attribute=by_attribute)


def _fold_problems(
    labels: np.ndarray, clusters: np.ndarray, own: np.ndarray | None, folds: int, classes: int
) -> Iterator[str]:
    """Why the pool, or an external set of one's own beside it, cannot be cut into folds."""
    parts = [("", np.ones(len(labels), bool))]
    if own is not None:
        parts = [("external sets: ", own)]
        parts += [("training sets: ", ~own)] if not own.all() else []
    for what, rows in parts:
        for text in demands.fold_problems(labels[rows], clusters[rows], folds, classes):
            yield what + text


def _cells(
    labels: np.ndarray, groups: np.ndarray, names: Sequence[str], classes: int
) -> dict[str, tuple[int, ...]]:
    """Group -> images of each class."""
    return {
        name: tuple(int(((groups == g) & (labels == y)).sum()) for y in range(classes))
        for g, name in enumerate(names)
    }


def _no_pixels(rows: pd.DataFrame) -> pd.DataFrame:
    """The index of an image cache that has not looked at any image."""
    nothing = pd.Series([None] * len(rows), dtype="object")
    return pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "sha256": nothing,
            "phash": nothing,
            "phash_quality": 0,
            "error": nothing,
        }
    )
