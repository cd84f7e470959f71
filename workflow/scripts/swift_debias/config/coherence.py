"""What of a configuration would have to be ignored, or is not known: all of it is refused.

`schema.py` checks each key by itself; here are the checks of several keys together, and those that
need to know what methods, drawings, metrics and networks there are.

Longer than other files, since every check of several keys together is here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import nearest
from . import classes
from .base import Integer, Line, Model, Share, explain, place, shown
from .crossing import crossing
from .names import DRAWN
from .plan import setups
from .schema import Dataset, Experiment, Method, Optimizer, Settings, Synthetic, Task, repeated

# beside an algorithm's own settings
SEARCHABLE = ("lr_factor", "epochs_percent", "batchnorm", "batches")
MOST_TRIALS = 1000
# tables that a run has beside those of its experiments
TABLES = {"cost": "costs", "ranks": "mean ranks", "search": "searches"}


class Drawing(Protocol):
    """What a drawing says of itself; see `report/figures/__init__.py`."""

    @property
    def options(self) -> Mapping[str, str]: ...

    @property
    def ignores(self) -> tuple[str, ...]: ...

    @property
    def first(self) -> tuple[str, ...]: ...

    @property
    def task_sets(self) -> tuple[str, ...]: ...

    @property
    def two_classes(self) -> str: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    @property
    def crossed(self) -> bool: ...


class Known(NamedTuple):
    """What there is to be named in a configuration; what is None is not checked.

    Attributes:
        algorithms: name of each method's file -> its settings model.
        adapters: name of each adapter's file -> its options model.
        networks: architecture -> model of its options.
        drawings: name of each drawing's file -> what it says of itself.
        metrics: name -> whether each group has a value of it too.
        of_disease: metrics that a task has only if it names its disease.
        undirected: metrics of which neither way is better.
    """

    algorithms: Mapping[str, type[Model]]
    adapters: Mapping[str, type[Dataset]]
    networks: Mapping[str, type[Model]] | None = None
    drawings: Mapping[str, Drawing] | None = None
    metrics: Mapping[str, bool] | None = None
    of_disease: Container[str] = ()
    undirected: Container[str] = ()


def problems(
    settings: Settings, known: Known, written: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Every problem, a line each.

    Args:
        settings: of which every key is valid by itself.
        known: what there is.
        written: variant -> the keys of its own entry, without those that `like` takes over.
    """
    yield from _names(settings)
    for name, task in settings.tasks.items():
        yield from _task(place("tasks", name), task)
    yield from _shared_datasets(settings)
    yield from _opposed_classes(settings)
    yield from _opposed_groups(settings)
    yield from classes.problems(settings, _of_two(known), known.algorithms)
    yield from _backbones(settings, known)
    yield from _untrained(settings)
    yield from _methods(settings, known, written)
    if settings.synthetic:
        yield from _drawn(settings.synthetic, settings.datasets, known.adapters)
        yield from _drawn_elsewhere(settings)
    if not settings.experiments:
        yield "experiments: there is none, so nothing would be computed; add a table or a figure"
    if (settings.selection.on_folds or 0) > settings.folds:
        yield f"selection.on_folds: there are {settings.folds} folds"
    for name in settings.only:
        if name not in settings.experiments:
            near = nearest(name, settings.experiments)
            yield f"only: there is no experiment {shown(name)}{near}"
    for name, experiment in settings.experiments.items():
        path = place("experiments", name)
        yield from _view(path, experiment)
        yield from _titles(path, experiment, settings.methods)
        yield from _metrics(path, experiment, settings, known)
        if experiment.kind == "figure" and known.drawings is not None:
            yield from _figure(path, experiment, known.drawings, known)
            yield from _figures_methods(path, experiment, settings, known)
            yield from _figures_tasks(path, experiment, known.drawings, settings.tasks)


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


def drawn_root(run: str, dataset: str) -> str:
    """The folder that a data set is drawn to: the run's own, whatever the run is called."""
    return f"results/{run}/{DRAWN.format(dataset=dataset)}"


def _drawn_elsewhere(settings: Settings) -> Iterator[str]:
    """Roots other than where the data set is drawn to: another run's pictures would be read."""
    for name, dataset in settings.datasets.items():
        own = drawn_root(settings.run, name)
        if dataset.root != own:
            yield (
                f"{place('datasets', name)}.root: run {settings.run} draws this data set to {own}, "
                f"not to {shown(dataset.root)}; leave root: out"
            )


def _of_two(known: Known) -> dict[str, str]:
    """Drawings that are of two classes only, each with the reason."""
    return {name: of.two_classes for name, of in (known.drawings or {}).items() if of.two_classes}


def _names(settings: Settings) -> Iterator[str]:
    """Names that are valid, but whose files are others' files."""
    if settings.run.casefold() == "README.md".casefold():
        yield f"run: results/{settings.run} is a file of the project; take another name"
    for name, experiment in settings.experiments.items():
        if experiment.kind == "table" and (what := TABLES.get(name.casefold())):
            yield f"experiments.{name}: tables/{name}.* is the table of {what}; take another name"
    for name in settings.tasks:
        if name.casefold().endswith(".duplicates"):
            yield f"tasks.{name}: cohorts/{name}.parquet lists duplicates; take another name"
    for name in settings.attributes:
        if name.casefold().endswith(".repeats"):
            yield f"attributes.{name}: {name}.parquet holds metrics of repeats; take another name"


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


def _backbones(settings: Settings, known: Known) -> Iterator[str]:
    shown = {panel.backbone for one in settings.experiments.values() for panel in one.panels}
    for name, backbone in settings.backbones.items():
        path = place("backbones", name)
        if backbone.baseline is not None and name not in shown:
            yield (
                f"{path}.baseline: no experiment shows it, so your classifier would not be "
                f"debiased; name it in a panel (backbone: {name})"
            )
        yield from _channels(path, name, settings)
        if known.networks is not None:
            yield from network_problems(
                f"{path}.", backbone.architecture, backbone.options, known.networks
            )


def network_problems(
    path: str, architecture: str, options: Mapping[str, Any], networks: Mapping[str, type[Model]]
) -> Iterator[str]:
    """Why there is no such network, or why it has no such options.

    Args:
        path: what stands before the key in a message.
        architecture: `timm:` and `xrv:` are left to these libraries, functions to `named_files`.
        options: its arguments.
        networks: architecture -> model of its options.
    """
    if ":" in architecture:
        return
    if architecture not in networks:
        names = list(networks)
        near = nearest(architecture, names)
        if "did you mean" not in near:  # the list would be a page
            near = f"; known: {', '.join(names[:3])} ... of torchvision, small_resnet"
        yield (
            f"{path}architecture: no network {shown(architecture)}{near}, timm:NAME, xrv:NAME, "
            "or module:function"
        )
        return
    try:
        networks[architecture].model_validate(dict(options))
    except ValidationError as error:
        yield explain(error, f"{path}options.")


def _untrained(settings: Settings) -> Iterator[str]:
    """Networks that nothing would be trained for, and which bring no classifier either."""
    for task, backbone in dict.fromkeys((task, backbone) for task, backbone, _ in setups(settings)):
        if not settings.tasks[task].train and settings.backbones[backbone].baseline is None:
            yield (
                f"tasks.{task}.train: names no data set, so backbones.{backbone} needs a trained "
                "classifier of yours (baseline:)"
            )


def _channels(path: str, name: str, settings: Settings) -> Iterator[str]:
    """A library's network that is made for other pictures than a task has."""
    backbone = settings.backbones[name]
    library, colon, _ = backbone.architecture.partition(":")
    if colon and library not in ("timm", "xrv"):
        return
    for task in dict.fromkeys(t for t, used, _ in setups(settings) if used == name):
        given = len(settings.tasks[task].images.mean)
        if given != backbone.channels:
            yield (
                f"{path}.channels: {backbone.channels}, but tasks.{task}.images.mean has {given} "
                "numbers, one for each channel that the network is given"
            )


def _methods(
    settings: Settings, known: Known, written: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Keys of an algorithm, and those that this variant would not read.

    Only keys of a variant's own entry count: what it takes over with `like` may be idle.
    """
    for name, method in settings.methods.items():
        path = place("methods", name)
        if method.algorithm not in known.algorithms:
            near = nearest(method.algorithm, known.algorithms)
            yield f"{path}.algorithm: no algorithm {shown(method.algorithm)}{near}"
            continue
        model = known.algorithms[method.algorithm]
        if unknown := [key for key in method.settings if key not in model.model_fields]:
            near = nearest(unknown[0], [*model.model_fields, *type(method).model_fields])
            yield f"{path}: unknown key {shown(unknown[0])}{near}"
            continue
        try:
            own = model.model_validate(method.settings)
        except ValidationError as error:
            yield explain(error, f"{path}.")
            continue
        yield from _search(name, settings, model)
        entry = written.get(name, {})
        for key in model.ignores:
            if entry.get(key) is not None:
                yield f"{path}.{key}: {method.algorithm} would ignore it; leave it out"
        for key in model.only_with:
            if key not in entry or getattr(own, key) == model.model_fields[key].get_default():
                continue
            if idle := _idle(model, own, key, {}):
                yield f"{path}.{key}: {idle}"


def _search(name: str, settings: Settings, model: type[Model]) -> Iterator[str]:
    """What is wrong with a variant's search."""
    methods, search, path = settings.methods, settings.methods[name].search, place("methods", name)
    if isinstance(search, str):
        seen = [name]
        while isinstance(search, str):
            if search not in methods:
                yield f"{path}.search: no method {shown(search)}{nearest(search, methods)}"
                return
            if search in seen:
                yield f"{path}.search: {shown(search)} is in the end what it searches itself"
                return
            seen.append(search)
            search = methods[search].search
        if search is None:
            yield f"{path}.search: {shown(seen[-1])} has no search of its own"
        return
    if search is None:
        return
    if not search:
        yield f"{path}.search: is empty, so nothing would be searched; name values, or leave it out"
    own = model.model_validate(methods[name].settings)
    for key, values in search.items():
        if key not in (*model.model_fields, *SEARCHABLE) or key in model.ignores:
            near = nearest(key, [*model.model_fields, *SEARCHABLE])
            algorithm = methods[name].algorithm
            yield f"{path}.search: {algorithm} has no setting {shown(key)}{near}"
            return
        tried: list[Any] = []
        for value in values:
            try:
                read = searched_value(methods[name], model, key, value)
            except ValidationError as error:
                yield explain(error, f"{path}.search.")
                continue
            if read in tried:
                yield f"{path}.search.{key}: {shown(value)} stands there twice"
            tried.append(read)
        if idle := _idle(model, own, key, search):
            yield f"{path}.search.{key}: {idle}"
    count = math.prod(len(values) for values in search.values())
    wanted = settings.selection.trials
    if count > MOST_TRIALS:
        yield f"{path}.search has {count} points; {MOST_TRIALS} are the most"
    elif wanted is not None and count != wanted:
        yield (
            f"{path}.search has {count} points, but selection.trials says {wanted}: all methods "
            "get the same number"
        )


def searched_value(method: Method, model: type[Model], key: str, value: Any) -> Any:
    """A value of a grid as it is read.

    Raises:
        ValidationError: the setting may not have it.
    """
    if key in SEARCHABLE:
        entry = {"algorithm": method.algorithm, key: value}
        return getattr(type(method).model_validate(entry), key)
    return getattr(model.model_validate({**method.settings, key: value}), key)


def _idle(model: type[Model], own: Model, key: str, searched: Mapping[str, Any]) -> str:
    """Why a setting would not be read beside the others of a variant, or ''.

    Args:
        model: of the algorithm's settings.
        own: the variant's.
        key: the setting.
        searched: settings that are tried with several values.
    """
    for other, values in model.only_with.get(key, {}).items():
        has = searched.get(other, (getattr(own, other),))
        if not any(value in values for value in has):
            wanted = " or ".join(str(v).lower() for v in values)
            tried = ", ".join(str(v).lower() for v in has)
            return f"would be ignored with {other}: {tried}; it goes with {other}: {wanted}"
    return ""


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
