"""A task of more than two classes: what it may say, and what is not offered for it.

What cannot be done for more than two classes is refused here, each thing in one line, before
anything is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, ValidationError

from .base import Line, Text, place, shown

if TYPE_CHECKING:
    from .base import Model
    from .schema import Experiment, Settings, Task

OF_CLASS = "@"  # between a metric and a class: auc@mel
MOST = 100  # classes; more would hardly have images in each group and fold


def _class_name(name: str) -> str:
    """A name that may stand behind a metric's."""
    if name == "external" or any(sign in name for sign in "@[]"):
        raise ValueError(f"{shown(name)} is no class's name: no @, [ or ], and not 'external'")
    return name


Classes: TypeAlias = Annotated[
    dict[
        Annotated[Line, AfterValidator(_class_name)],
        Annotated[tuple[Text, ...], Field(min_length=1)],
    ],
    Field(max_length=MOST),
]


def check_task(task: Task, compared: Callable[[str], str | float]) -> None:
    """Refuse a task that has both kinds of classes, or neither, or keys that mean nothing.

    Args:
        task: with its keys valid by themselves.
        compared: a value as tables are compared with it.

    Raises:
        ValueError: in one line.
    """
    names = {"positive": task.positive, "negative": task.negative}
    if task.classes is None:
        for key, number in (("positive", 1), ("negative", 0)):
            if names[key] is None:
                raise ValueError(
                    f"{key}: is missing: the name of class {number}; or classes:, for three and "
                    "more"
                )
        return
    if given := [key for key, name in names.items() if name is not None]:
        raise ValueError(f"classes: has the classes' names already; leave out {given[0]}:")
    if len(task.classes) < 3:
        raise ValueError(
            f"classes: needs three at least, here are {len(task.classes)}; two are called "
            "positive: and negative:"
        )
    if task.invert_labels:
        raise ValueError("invert_labels: swaps two classes; leave it out beside classes:")
    if task.tie is not None:
        raise ValueError("tie: ties two groups to two classes; leave it out beside classes:")
    owner: dict[str | float, str] = {}
    for name, values in task.classes.items():
        for value in values:
            if (other := owner.setdefault(compared(value), name)) != name:
                raise ValueError(
                    f"classes: the value {shown(value)} is of two classes, {other} and {name}"
                )


def problems(
    settings: Settings,
    binary_only: Mapping[str, str],
    algorithms: Mapping[str, type[Model]],
) -> Iterator[str]:
    """What tasks of more than two classes ask for and cannot have, a line each.

    Args:
        settings: of which every key is valid by itself.
        binary_only: drawing -> why it is of two classes only.
        algorithms: name -> its settings model.
    """
    for name, task in settings.tasks.items():
        sets = {*task.pool, *itertools.chain(*task.tests.values())}
        for dataset in sorted(sets & settings.datasets.keys()):
            yield from _label(name, task, dataset, settings.datasets[dataset])
    for name, experiment in settings.experiments.items():
        path = place("experiments", name)
        yield from _experiment(path, experiment, settings, binary_only)
        yield from _methods(path, experiment, settings, algorithms)


def _label(name: str, task: Task, dataset: str, options: Any) -> Iterator[str]:
    """The label of a user's table says the classes of a task of two; the task says more."""
    label = getattr(options, "label", None)
    if label is None:
        return
    path = f"{place('datasets', dataset)}.label"
    if task.classes is None and label.positive is None:
        yield (
            f"{path}: positive: is missing, the values of class 1; only a task with classes: says "
            f"itself what its classes' values are, and tasks.{name} has two"
        )
    if task.classes is not None and label.positive is not None:
        yield (
            f"{path}.positive: tasks.{name}.classes says which values its classes have; leave out "
            "positive: and negative: (or rest_is_negative:)"
        )


def _experiment(
    path: str, experiment: Experiment, settings: Settings, binary_only: Mapping[str, str]
) -> Iterator[str]:
    """What an experiment shows of tasks of more than two classes."""
    many = {
        panel.task: settings.tasks[panel.task]
        for panel in experiment.panels
        if settings.tasks[panel.task].classes is not None
    }
    for name in many:
        if experiment.threshold == "external":
            yield (
                f"{path}.threshold: external cuts one score; an image of tasks.{name} is decided "
                "for its most probable class, without a threshold"
            )
        if why := binary_only.get(experiment.plot or ""):
            yield f"{path}.plot: {experiment.plot} {why}; tasks.{name} has more"
    for panel in experiment.panels:
        if panel.task not in many:
            continue
        for method in panel.methods or experiment.methods:
            if settings.methods[method].search is not None:
                yield (
                    f"{path}: methods.{method}.search chooses settings by one score of class 1; "
                    f"tasks.{panel.task} has more classes: set them, and leave out search:"
                )


def _methods(
    path: str, experiment: Experiment, settings: Settings, algorithms: Mapping[str, type[Model]]
) -> Iterator[str]:
    """Methods that are of two classes only, on tasks of more; invalid ones are told elsewhere."""
    for panel in experiment.panels:
        if settings.tasks[panel.task].classes is None:
            continue
        for name in panel.methods or experiment.methods:
            method = settings.methods[name]
            try:
                own = algorithms[method.algorithm](**method.settings)
            except (KeyError, ValidationError):
                continue
            if why := own.two_classes():
                yield f"{path}: methods.{name}: {why}; tasks.{panel.task} has more classes"


def class_problem(metric: str, experiment: Experiment, settings: Settings) -> str:
    """Why an experiment cannot have the metric of a class, `auc@mel`, or ''; others: ''."""
    _, of_class, name = metric.partition(OF_CLASS)
    if not of_class:
        return ""
    for panel in experiment.panels:
        names = settings.tasks[panel.task].classes
        if names is None:
            return f"no metric {shown(metric)}: tasks.{panel.task} has no classes:"
        if name not in names:
            return f"no metric {shown(metric)}: the classes are {', '.join(names)}"
    return ""
