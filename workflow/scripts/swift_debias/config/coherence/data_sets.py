"""Data sets, what is drawn of them, and tasks that share them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import nearest
from ..base import place, shown
from ..names import DRAWN
from ..schema import Dataset, Optimizer, Settings, Synthetic, Task, repeated
from .known import Known


def problems(settings: Settings) -> Iterator[str]:
    """What two data sets, or two tasks, say of the same and differently."""
    for name, task in settings.tasks.items():
        yield from _task(place("tasks", name), task)
    yield from _shared_datasets(settings)
    yield from _opposed_classes(settings)
    yield from _opposed_groups(settings)


def drawn_problems(settings: Settings, known: Known) -> Iterator[str]:
    """What is wrong with what is drawn; nothing where nothing is."""
    if settings.synthetic:
        yield from _drawn(settings.synthetic, settings.datasets, known.adapters)
        yield from _drawn_elsewhere(settings)


def drawn_root(run: str, dataset: str) -> str:
    """The folder that a data set is drawn to: the run's own, whatever the run is called."""
    return f"results/{run}/{DRAWN.format(dataset=dataset)}"


def _drawn(
    drawn: Synthetic, datasets: Mapping[str, Dataset], adapters: Mapping[str, Any]
) -> Iterator[str]:
    """What is to be drawn and cannot be, or is no data set."""
    for name in drawn.images:
        if name not in adapters:
            path = place("synthetic", "images", name)
            yield f"{path}: no such data set is drawn{nearest(name, adapters)}"
    for name in drawn.populations:
        path = place("synthetic", "populations", name)
        if name not in datasets:
            yield f"{path}: there is no data set of that name{nearest(name, datasets)}"
        elif datasets[name].adapter != "table":
            yield f"{path}: datasets.{name}.adapter must be 'table', to read what is drawn"


def _drawn_elsewhere(settings: Settings) -> Iterator[str]:
    """Roots other than where the data set is drawn to: another run's pictures would be read."""
    for name, dataset in settings.datasets.items():
        own = drawn_root(settings.run, name)
        if dataset.root != own:
            yield (
                f"{place('datasets', name)}.root: run {settings.run} draws this data set to {own}, "
                f"not to {shown(dataset.root)}; leave root: out"
            )


def _task(path: str, task: Task) -> Iterator[str]:
    if twice := repeated(task.train):
        yield f"{path}.train: {twice!r} stands there twice"
    if twice := repeated(task.external):
        yield f"{path}.external: {twice!r} stands there twice"
    if task.external and task.tie is not None:
        yield (
            f"{path}.tie: ties a training pool whose own folds are the external sets; leave out "
            "tie: or external:"
        )
    for attribute, tests in task.tests.items():
        if twice := repeated(tests):
            yield f"{path}.tests.{attribute}: {twice!r} stands there twice"
    if task.classes is None and task.positive == task.negative:
        yield f"{path}: positive and negative are both called {shown(task.positive)}"
    optimizer = task.pretraining.optimizer
    usual = Optimizer.model_fields["momentum"].get_default()
    if optimizer.name != "sgd" and optimizer.momentum != usual:
        yield (
            f"{path}.pretraining.optimizer.momentum: {optimizer.name} would ignore it; "
            "leave it out, or take sgd"
        )


def _shared_datasets(settings: Settings) -> Iterator[str]:
    """Two tasks on one data set: its labels are read and its images are cached once."""

    def kept(task: Task) -> dict[str, Any]:
        images = task.images.model_dump(exclude={"mean", "std"})
        named = {f"images.{key}": value for key, value in images.items()}
        # their order says which label is whose, and two mappings are equal in any order
        classes = task.classes and list(task.classes.items())
        return {"invert_labels": task.invert_labels, "classes": classes, **named}

    def sets(task: Task) -> set[str]:
        return {*task.pool, *itertools.chain(*task.tests.values())}

    for (one, first), (other, second) in itertools.combinations(settings.tasks.items(), 2):
        shared = sorted(sets(first) & sets(second))
        ours, theirs = kept(first), kept(second)
        differ = [key for key in ours if ours[key] != theirs[key]] if shared else []
        for key in differ:
            yield (
                f"tasks.{other}.{key}: {theirs[key]!r} would be ignored, since task {one!r} has "
                f"{ours[key]!r} and reads data set {shared[0]!r} too; give both the same value, or "
                f"enter the data set a second time under datasets: with another name"
            )


def opposed(
    meanings: Mapping[str, Mapping[Any, tuple[str, Any]]],
) -> Iterator[tuple[str, str, list[tuple[str, Any, Any]]]]:
    """Data sets that give a value another meaning than an earlier one does, each set once.

    Args:
        meanings: data set -> value in the form it is compared in -> as written, and its meaning.

    Yields:
        The earlier set, this one, and: value as this one writes it, its meaning there and here.
    """
    names = list(meanings)
    for number, name in enumerate(names):
        for earlier in names[:number]:
            ours, theirs = meanings[name], meanings[earlier]
            both = [key for key in ours if key in theirs and ours[key][1] != theirs[key][1]]
            if both:
                yield earlier, name, [(ours[k][0], theirs[k][1], ours[k][1]) for k in both]
                break


def _opposed_classes(settings: Settings) -> Iterator[str]:
    """Words that are class 1 in a data set of a task and class 0 in another one of it.

    Of codes such as 0 and 1 that may be meant: `data/check_notes.py` tells of those that are there.
    """
    told: set[tuple[str, str]] = set()
    for task_name, task in settings.tasks.items():
        sets = dict.fromkeys((*task.pool, *itertools.chain(*task.tests.values())))
        meanings = {
            name: settings.datasets[name].classes_of_words()
            for name in sets
            if name in settings.datasets
        }
        for earlier, name, found in opposed(meanings):
            if (earlier, name) in told:
                continue
            told.add((earlier, name))
            value, there, here = found[0]
            path = place("datasets", name, "label", ("negative", "positive")[here])
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield (
                f"{path}: {shown(value)}{more} is class {here} here and class {there} of "
                f"{place('datasets', earlier)}, and {place('tasks', task_name)} has both: labels "
                "of one of them would be inverted; make positive: and negative: mean the same in "
                "both"
            )


def _opposed_groups(settings: Settings) -> Iterator[str]:
    """Words that `values` of two data sets of a task make different groups of an attribute."""
    told: set[tuple[str, str, str]] = set()
    for task_name, task in settings.tasks.items():
        for attribute_name, tests in task.tests.items():
            if attribute_name not in settings.attributes:
                continue
            whole = settings.attributes[attribute_name]
            for attribute in (whole,) if whole.cross is None else whole.cross.values():
                meanings = {
                    name: settings.datasets[name].groups_of_words(attribute)
                    for name in dict.fromkeys((*task.pool, *tests))
                    if name in settings.datasets
                }
                for earlier, name, found in opposed(meanings):
                    column = str(attribute.column)
                    if (column, earlier, name) in told:
                        continue
                    told.add((column, earlier, name))
                    value, there, here = found[0]
                    yield (
                        f"{place('datasets', name, 'attributes', column)}: {shown(value)} is in "
                        f"group {shown(here)} here and in group {shown(there)} of "
                        f"{place('datasets', earlier)}, and {place('tasks', task_name)} has both; "
                        "make values: mean the same in both"
                    )
