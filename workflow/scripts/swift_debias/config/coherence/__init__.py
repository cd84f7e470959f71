"""What of a configuration would have to be ignored, or is not known: all of it is refused.

`../schema.py` checks each key by itself; here are the checks of several keys together, and those
that need to know what methods, drawings, metrics and networks there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import nearest
from .. import classes
from ..base import place, shown
from ..schema import Settings
from . import data_sets, networks, variants, views
from .data_sets import drawn_root, opposed
from .known import Drawing, Known
from .networks import network_problems
from .variants import searched_value
from .views import OPTIONS

__all__ = [
    "OPTIONS",
    "TABLES",
    "Drawing",
    "Known",
    "drawn_root",
    "network_problems",
    "opposed",
    "problems",
    "searched_value",
]

# tables that a run has beside those of its experiments
TABLES = {"cost": "costs", "ranks": "mean ranks", "search": "searches"}


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
    yield from data_sets.problems(settings)
    yield from classes.problems(settings, known.of_two_classes, known.algorithms)
    yield from networks.problems(settings, known)
    yield from variants.problems(settings, known, written)
    yield from data_sets.drawn_problems(settings, known)
    if not settings.experiments:
        yield "experiments: there is none, so nothing would be computed; add a table or a figure"
    if (settings.selection.on_folds or 0) > settings.folds:
        yield f"selection.on_folds: there are {settings.folds} folds"
    for name in settings.only:
        if name not in settings.experiments:
            near = nearest(name, settings.experiments)
            yield f"only: there is no experiment {shown(name)}{near}"
    for name, experiment in settings.experiments.items():
        yield from views.problems(place("experiments", name), experiment, settings, known)


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
