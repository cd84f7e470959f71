"""Tables and figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ...errors import nearest
from .. import classes
from ..base import Integer, Line, Share, explain, shown
from ..crossing import crossing
from ..schema import Experiment, Method, Settings, Task, repeated
from .known import Drawing, Known


def problems(path: str, experiment: Experiment, settings: Settings, known: Known) -> Iterator[str]:
    """What a table or a figure asks for that there is not, or would not look at."""
    yield from _view(path, experiment)
    yield from _titles(path, experiment, settings.methods)
    yield from _metrics(path, experiment, settings, known)
    if experiment.kind == "figure" and known.drawings is not None:
        yield from _figure(path, experiment, known.drawings, known)
        yield from _figures_methods(path, experiment, settings, known)
        yield from _figures_tasks(path, experiment, known.drawings, settings.tasks)


def _view(path: str, experiment: Experiment) -> Iterator[str]:
    """What tables and figures have in common."""
    if experiment.kind == "table":
        if experiment.plot is not None:
            yield f"{path}.plot: a table would ignore it; leave it out, or take kind: figure"
        if experiment.options:
            yield f"{path}.options: a table has none; leave them out"
    if twice := repeated(experiment.methods):
        yield f"{path}.methods: {twice!r} stands there twice"
    if twice := repeated(experiment.metrics):
        yield f"{path}.metrics: {twice!r} stands there twice"
    if repeated(panel.model_dump_json() for panel in experiment.panels):
        yield f"{path}.panels: one of them stands there twice"
    for number, panel in enumerate(experiment.panels):
        where = f"{path}.panels[{number}]"
        if not (panel.methods or experiment.methods):
            yield f"{where}: no methods: name them here or under {path}.methods"
        for key in ("methods", "datasets"):
            if twice := repeated(getattr(panel, key) or ()):
                yield f"{where}.{key}: {twice!r} stands there twice"


def _titles(path: str, experiment: Experiment, methods: Mapping[str, Method]) -> Iterator[str]:
    """Methods of which a reader could not tell which is which."""
    titled: dict[str, str] = {}
    for panel in experiment.panels:
        for name in panel.methods or experiment.methods:
            title = methods[name].title or name
            if (other := titled.setdefault(title, name)) != name:
                yield (
                    f"{path}.methods: {other} and {name} are both called {shown(title)}; give one "
                    "another title:"
                )


def _metrics(path: str, experiment: Experiment, settings: Settings, known: Known) -> Iterator[str]:
    if known.metrics is None:
        return
    fewest = min(
        len(settings.attributes[panel.attribute].group_names) for panel in experiment.panels
    )
    for metric in experiment.metrics:
        of_all = metric.partition(classes.OF_CLASS)[0]
        problem = unknown_metric(of_all, known.metrics, fewest)
        if problem := problem or classes.class_problem(metric, experiment, settings):
            yield f"{path}.metrics: {problem}"
    options = [v if isinstance(v, list | tuple) else [v] for v in experiment.options.values()]
    for metric in dict.fromkeys((*experiment.metrics, *map(str, itertools.chain(*options)))):
        if metric.partition("[")[0] not in known.of_disease:
            continue
        for task in dict.fromkeys(panel.task for panel in experiment.panels):
            if settings.tasks[task].disease is None:
                yield f"{path}: {metric} needs tasks.{task}.disease, which names no class"


def unknown_metric(metric: str, known: Mapping[str, bool], groups: int) -> str:
    """Why there is no such metric, or ''; `auc[1]` is that of the second of the groups."""
    name, bracket, rest = metric.partition("[")
    if name not in known or not (bracket or name in known):
        return f"no metric {shown(metric)}{nearest(name, known)}"
    if bracket:
        index = rest.removesuffix("]")
        if not known[name] or not rest.endswith("]") or not index.isascii() or not index.isdigit():
            return (
                f"no metric {shown(metric)}: groups have none of their own; did you mean {name!r}?"
            )
        if index != str(int(index)):
            return f"no metric {shown(metric)}; did you mean '{name}[{int(index)}]'?"
        if int(index) >= groups:
            return f"no metric {shown(metric)}: there are {groups} groups, from [0] on"
    return ""


# What a drawing says of an option -> its type.
OPTIONS: dict[str, TypeAdapter[Any]] = {
    "shares": TypeAdapter(Annotated[tuple[Share, ...], Field(min_length=1, max_length=100)]),
    "pixels": TypeAdapter(Annotated[Integer, Field(ge=1, le=4096)]),
    "text": TypeAdapter(Line),
    "metric": TypeAdapter(Line),
    "two metrics": TypeAdapter(tuple[Line, Line]),
}


def _option(kind: str, value: Any, known: Known) -> str:
    """Why an option of a drawing may not have this value, or ''."""
    try:
        found = OPTIONS[kind].validate_python(value)
    except ValidationError as error:
        return explain(error).partition(" (given")[0].replace("\n", "; ")
    names = [found] if kind == "metric" else list(found) if kind == "two metrics" else []
    names = [name.partition(classes.OF_CLASS)[0] for name in names]
    told = (unknown_metric(name, known.metrics or {}, 0) for name in names)
    if known.metrics is not None and (problem := next(filter(None, told), "")):
        return problem
    if kind == "two metrics":
        if twice := repeated(found):
            return f"{shown(twice)} stands there twice"
        if neither := [name for name in names if name in known.undirected]:
            return f"neither way of {shown(neither[0])} is better; name another metric"
    return ""


def _figure(
    path: str,
    experiment: Experiment,
    drawings: Mapping[str, Drawing],
    known: Known,
) -> Iterator[str]:
    """A figure's drawing, and what it would not look at."""
    if experiment.plot is None:
        yield f"{path}.plot: missing: a figure is drawn by a file of report/figures/"
        return
    if experiment.plot not in drawings:
        near = nearest(experiment.plot, drawings)
        yield f"{path}.plot: no such drawing, {shown(experiment.plot)}{near}"
        return
    drawing = drawings[experiment.plot]
    for key, value in experiment.options.items():
        if key not in drawing.options:
            near = nearest(key, drawing.options)
            yield f"{path}.options: {experiment.plot} has no option {shown(key)}{near}"
        elif problem := _option(drawing.options[key], value, known):
            yield f"{path}.options.{key}: {problem} (given: {shown(value)})"
    for key in drawing.ignores:
        if key in experiment.model_fields_set:
            yield f"{path}.{key}: {experiment.plot} would ignore it; leave it out"
    for metric in experiment.metrics if drawing.metrics else ():
        if metric not in drawing.metrics:
            those = ", ".join(drawing.metrics)
            yield f"{path}.metrics: {experiment.plot} cannot show {shown(metric)}; only {those}"
    shows = f"{experiment.plot} shows the first alone; name one"
    if "panels" in drawing.first and len(experiment.panels) > 1:
        yield f"{path}.panels: {shows}"
    panel = experiment.panels[0]
    if "methods" in drawing.first and len(panel.methods or experiment.methods) > 1:
        yield f"{path}.methods: {shows}"
    if "datasets" in drawing.first and len(panel.datasets or ()) > 1:
        yield f"{path}.panels[0].datasets: {shows}"


def _figures_methods(
    path: str, experiment: Experiment, settings: Settings, known: Known
) -> Iterator[str]:
    """Methods of a drawing of effects: every combination of the settings in which they differ."""
    drawing = (known.drawings or {}).get(experiment.plot or "")
    if drawing is None or not drawing.crossed:
        return
    for names in dict.fromkeys(panel.methods or experiment.methods for panel in experiment.panels):
        try:
            crossing({name: _every_setting(settings.methods[name], known) for name in names})
        except (KeyError, ValidationError):
            return  # a mistake of its own, named elsewhere
        except ValueError as error:
            yield f"{path}.methods: {experiment.plot} needs every combination of settings: {error}"


def _every_setting(variant: Method, known: Known) -> dict[str, Any]:
    """All settings of a variant, defaults of its algorithm filled in."""
    own = known.algorithms[variant.algorithm].model_validate(variant.settings)
    common = variant.model_dump(mode="json", include=set(Method.model_fields))
    return own.model_dump(mode="json") | common


def _figures_tasks(
    path: str,
    experiment: Experiment,
    drawings: Mapping[str, Drawing],
    tasks: Mapping[str, Task],
) -> Iterator[str]:
    """What a drawing reads from the tasks that it shows, and they do not say."""
    drawing = drawings.get(experiment.plot or "")
    for index, panel in enumerate(experiment.panels):
        task = tasks.get(panel.task)
        for key in drawing.task_sets if drawing and task else ():
            if getattr(task, key) is None:
                yield (
                    f"{path}.panels[{index}].task: {experiment.plot} needs a task with `{key}`; "
                    f"{shown(panel.task)} has none"
                )
