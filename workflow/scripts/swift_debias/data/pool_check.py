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
    try:
        frame, notes, leaks = _pool(name, config, manifests, tests, project)
    except UserError as error:
        return PoolOutlook(problems=(str(error),))
    labels, clusters = frame["label"].to_numpy(), pd.factorize(frame["cluster"])[0]
    own, sizes = own_external.external_rows(frame), np.bincount(clusters)
    found = PoolOutlook(
        images=len(frame),
        leaks=leaks,
        largest=int(sizes.max()),
        problems=tuple(_fold_problems(labels, clusters, own, config.folds, task.class_names)),
    )
    if sizes.max() > max(1, len(frame) / config.folds):
        notes.append(
            f"{int(sizes.max()):,} images are bound together (one patient, say) and fill more than "
            f"one of {config.folds} folds"
        )
    measured = _measured(task, config)
    groups = {
        attribute: groups_in(frame, spec)
        for attribute, spec in config.attributes.items()
        if attribute in task.tests and attribute not in measured
    }
    used = dict.fromkeys(a for owner, _, a in plan.setups(config) if owner == name)
    notes += [
        f"{attribute} is measured from the pixels: how many of each class its groups have "
        "will stand in the report"
        for attribute in used
        if attribute in measured
    ]
    known = [attribute for attribute in used if attribute not in measured]
    found = found._replace(
        by_attribute={
            a: _external_problems(frame, clusters, groups[a], config.attributes[a], task, config)
            for a in known
        },
        notes=tuple(notes),
        cells={a: _cells(frame, groups[a], config.attributes[a], task) for a in known},
    )
    certain = {*plan.strata(config, name)} <= groups.keys()
    if found.problems or not certain or len(frame) > CUT:
        return found
    return _cut(found, name, config, frame, groups)


def _pool(
    name: str,
    config: schema.Settings,
    manifests: Mapping[str, pd.DataFrame],
    tests: Sequence[str],
    project: Path,
) -> tuple[pd.DataFrame, list[str], Mapping[str, int]]:
    """The pool as rule `find_duplicates` will make it, notes on it, and its leaks.

    Raises:
        UserError: what that rule will say.
    """
    task, archives = config.tasks[name], plan.archives(config)

    def source(dataset: str) -> duplicates.Source:
        rows = manifests[dataset]
        if task.invert_labels:
            rows = rows.assign(label=1 - rows["label"])
        options = config.datasets[dataset]
        listed = duplicates.read_listed(project / options.root, options.tables_beside)
        return duplicates.Source(dataset, rows, _no_pixels(rows), archives[dataset], listed)

    cohort = duplicates.find_duplicates(
        [source(dataset) for dataset in plan.pool(config, name)],
        [source(dataset) for dataset in tests],
        config.duplicates,
        task.group_by_patient,
    )
    frame, notes = cohort.frame, list(_conflicts(cohort.log))
    if task.external:
        frame, log = own_external.mark(frame, task.external)
        notes.append("external sets: " + _told(log))
    if task.tie is not None:
        spec = config.attributes[task.tie.attribute]
        frame, log = tie_pool(
            frame,
            groups_in(frame, spec),
            spec.group_names,
            task.tie,
            config.seed,
            task.class_names,
        )
        notes.append(f"tie of {task.tie.attribute}, strength {task.tie.strength:g}: {_told(log)}")
    return frame, notes, cohort.log[f"leaks_{config.duplicates.leaks}"]


def _told(log: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in log.items())


def _measured(task: schema.Task, config: schema.Settings) -> set[str]:
    """Attributes that come from the pixels of some data set of the pool."""
    return {
        attribute
        for attribute in task.tests
        if any(
            config.datasets[dataset].measures(column)
            for dataset in task.pool
            for column in config.attributes[attribute].columns
        )
    }


def _external_problems(
    frame: pd.DataFrame,
    clusters: np.ndarray,
    groups: np.ndarray,
    spec: schema.Attribute,
    task: schema.Task,
    config: schema.Settings,
) -> tuple[str, ...]:
    """Why external sets cannot be made of the pool's folds, or of a set of one's own."""
    labels, own = frame["label"].to_numpy(), own_external.external_rows(frame)
    names, called = spec.group_names, task.class_names
    if own is None:
        folds = (config.folds, clusters)
        found = demands.external_problems(
            labels, groups, names, task.finetuning, *folds, len(called), called
        )
    else:  # all folds but one are one's own set
        found = demands.external_problems(
            labels[own],
            groups[own],
            names,
            task.finetuning,
            classes=len(called),
            class_names=called,
        )
    return tuple(found)


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
    called = config.tasks[name].class_names
    try:
        cut = make_folds(frame, strata, config.folds, config.seed, len(called), called)
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
                classes=len(called),
                class_names=called,
            )
            by_attribute[attribute] = tuple(f"fold {fold}: {text}" for text in problems)
    return found._replace(by_attribute=by_attribute)


def _fold_problems(
    labels: np.ndarray,
    clusters: np.ndarray,
    own: np.ndarray | None,
    folds: int,
    called: Sequence[str],
) -> Iterator[str]:
    """Why the pool, or an external set of one's own beside it, cannot be cut into folds."""
    parts = [("", np.ones(len(labels), bool))]
    if own is not None:
        parts = [("external sets: ", own)]
        parts += [("training sets: ", ~own)] if not own.all() else []
    for what, rows in parts:
        some = labels[rows], clusters[rows]
        for text in demands.fold_problems(*some, folds, len(called), called):
            yield what + text


def _cells(
    frame: pd.DataFrame, groups: np.ndarray, spec: schema.Attribute, task: schema.Task
) -> dict[str, tuple[int, ...]]:
    """Group -> images of each class that are trained on."""
    counted = np.ones(len(frame), bool)
    if task.train and "trains" in frame:
        counted = frame["trains"].to_numpy()
    labels, groups, classes = frame["label"].to_numpy()[counted], groups[counted], task.class_names
    return {
        name: tuple(int(((groups == g) & (labels == y)).sum()) for y in range(len(classes)))
        for g, name in enumerate(spec.group_names)
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
