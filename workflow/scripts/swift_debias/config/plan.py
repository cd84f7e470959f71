"""What has to be computed: the union of what the tables and figures of a config show."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from .schema import Dataset, Experiment, Method, Settings

Setup: TypeAlias = tuple[str, str, str]  # (task, backbone, attribute)


def setups(settings: Settings) -> dict[Setup, tuple[str, ...]]:
    """What the experiments ask for: (task, backbone, attribute) -> its methods, sorted."""
    wanted: dict[Setup, set[str]] = {}
    for experiment in settings.experiments.values():
        for panel in experiment.panels:
            methods = wanted.setdefault((panel.task, panel.backbone, panel.attribute), set())
            methods |= {*(panel.methods or experiment.methods)}
    return {setup: tuple(sorted(methods)) for setup, methods in sorted(wanted.items())}


def blocks(settings: Settings, experiment: Experiment) -> list[dict[str, Any]]:
    """The panels of an experiment as plain values, with the defaults filled in."""
    return [
        {
            "task": panel.task,
            "backbone": panel.backbone,
            "attribute": panel.attribute,
            "datasets": panel.datasets or settings.tasks[panel.task].tests[panel.attribute],
            "methods": panel.methods or experiment.methods,
            "metrics": experiment.metrics,
        }
        for panel in experiment.panels
    ]


def used_datasets(settings: Settings, tasks: Collection[str] | None = None) -> tuple[str, ...]:
    """Data sets that the experiments need, in the order of the config.

    Args:
        settings: the settings.
        tasks: of these alone; None: of all. A task needs all sets that any experiment tests it on,
            since the pool has none of their images.
    """
    used: set[str] = set()
    for task in {task for task, _, _ in setups(settings)}:
        if tasks is None or task in tasks:
            used |= {*settings.tasks[task].pool, *tests_of(settings, task)}
    return tuple(name for name in settings.datasets if name in used)


def tests_of(settings: Settings, task: str) -> list[str]:
    """All test sets of a task that some experiment needs, sorted."""
    return sorted(
        {
            dataset
            for owner, _, attribute in setups(settings)
            if owner == task
            for dataset in settings.tasks[task].tests[attribute]
        }
    )


def attributes_of(settings: Settings, dataset: str) -> list[str]:
    """Attributes that some experiment looks at on this data set, in the config's order."""
    used = {
        attribute
        for task, _, attribute in setups(settings)
        if dataset in (*settings.tasks[task].pool, *settings.tasks[task].tests[attribute])
    }
    return [attribute for attribute in settings.attributes if attribute in used]


def pool(settings: Settings, task: str) -> tuple[str, ...]:
    """Data sets that a task learns from, in the order in which `duplicates.keep` takes copies.

    A copy that is in an external set of one's own stays there.
    """
    of = settings.tasks[task]
    return of.pool if settings.duplicates.keep == "last" else (*of.external, *of.train)


def archives(settings: Settings) -> dict[str, str]:
    """Data set -> its archive, within which ids of images, patients and lesions are compared.

    The one that its entry names; where it names none, that of an entry with the same adapter,
    folder and table; else the data set is an archive of its own.
    """

    def source(options: Dataset) -> tuple[str, str, str]:
        return (
            options.adapter,
            posixpath.normpath(options.root),
            posixpath.normpath(getattr(options, "table", None) or ""),
        )

    found: dict[tuple[str, str, str], str] = {}
    for options in settings.datasets.values():
        if options.archive is not None:
            found.setdefault(source(options), options.archive)
    for name, options in settings.datasets.items():
        found.setdefault(source(options), name)
    return {n: o.archive or found[source(o)] for n, o in settings.datasets.items()}


def strata(settings: Settings, task: str) -> tuple[str, ...]:
    """Attributes of a task by which its folds are stratified: those of two groups."""
    return tuple(
        name
        for name in sorted(settings.tasks[task].tests)
        if len(settings.attributes[name].group_names) == 2
    )


# The paper's methods -> the algorithm of each. Most are called like their algorithm.
PAPER_METHODS = {
    "baseline": "baseline",
    "swift": "swift",
    "bmft": "bmft",
    "llft": "llft",
    "diffgda": "diffgda",
    "diffprune": "diffprune",
    "fairprune": "fairprune",
    "fullft_rw": "fullft",
    "fullft_reg": "fullft",
    "fullft_fdr": "fullft",
}


def first_variant(methods: Mapping[str, Method], algorithm: str) -> str | None:
    """The first variant of an algorithm in the order of the config: the one that stands for it."""
    return next((name for name, m in methods.items() if m.algorithm == algorithm), None)


def repeats(settings: Settings, method: Method) -> int:
    """How often a method debiases each fold; the Baseline's classifier is one and the same."""
    return 1 if method.algorithm == "baseline" else settings.repeats


def paper_names(methods: Mapping[str, Method]) -> dict[str, str]:
    """Variant of a run -> the method of the paper that it is.

    A variant that is called as in the paper and has the paper's algorithm is that method; where
    there is none, the first variant of the algorithm is, if the paper calls both alike.
    """
    found = {}
    for paper, algorithm in PAPER_METHODS.items():
        own = methods.get(paper)
        if own is not None and own.algorithm == algorithm:
            found[paper] = paper
        elif paper == algorithm and (first := first_variant(methods, algorithm)) is not None:
            found[first] = paper
    return found
