"""Which files of a run its settings make, of the kinds that may be handed on.

A run's folder keeps what other settings have made: tables and figures of an experiment that is no
longer in the configuration, or that `only` leaves out, and setups that nothing shows any more. So
what is handed on is chosen by name, of what `settings.yaml` says; never by what lies there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import drawn_biases
from ..config.coherence import TABLES
from ..config.plan import Setup
from ..files import read_json
from ..run import layout
from ..run.unfinished import LeftOut, of_note
from . import figures, render
from .which_method_figures import TITLES as PICTURES
from .which_method_page import ENDINGS

# kinds of files (run/layout.py) that hold counts and names alone: one a run, one a setup
OF_RUN = (
    *("settings", "metrics", "statistics", "plausibility", "in_words", "verdict_cells"),
    *("verdict_claims", "verdict_instances", "report", "origin", "summary"),
)
OF_SETUP = ("setup_metrics", "setup_repeats", "setup_plausibility", "intervals", "groups")
OTHERS = ("search", "sizes_csv", "sizes_md", "table", "table_recipe", "figure", "verdict")
SHARED = (*OF_RUN, *OF_SETUP, *OTHERS, "which_method_file")
FIGURE_FORMATS = ("pdf", "png", "csv")


def left_out(run: Path) -> LeftOut:
    """What the run's report goes without, where jobs failed: older files of it may lie there."""
    note = run / layout.path("unfinished")
    return of_note(read_json(note)) if note.is_file() else LeftOut()


def made(settings: Mapping[str, Any], without: LeftOut = LeftOut()) -> set[str]:  # noqa: B008
    """The files of `SHARED` that the rules make with these settings, relative to the run.

    Args:
        settings: those of `settings.yaml`.
        without: what failed.
    """
    return {layout.path(kind, **keys) for kind, keys in _made(settings, without)}


def pictured(settings: Mapping[str, Any]) -> set[str]:
    """Those of them that show images of patients, or name them."""
    found = {
        layout.path("figure", figure=name, format=format)
        for name, entry in settings["experiments"].items()
        if entry["kind"] == "figure" and "pixels" in figures.facts(entry["plot"]).arrays_need
        for format in FIGURE_FORMATS
    }
    return found | ({layout.path("report")} if settings["report"]["images"] else set())


def datasets(settings: Mapping[str, Any]) -> list[str]:
    """The data sets that the experiments need, in the order of the settings."""
    used: set[str] = set()
    for task, _, attribute in _planned(settings):
        of = settings["tasks"][task]
        used |= {*of["train"], *of["external"], *of["tests"][attribute]}
    return [name for name in settings["datasets"] if name in used]


def _planned(settings: Mapping[str, Any]) -> dict[Setup, tuple[str, ...]]:
    """`config.plan.setups` of plain values."""
    found: dict[Setup, set[str]] = {}
    for entry in settings["experiments"].values():
        for panel in entry["panels"]:
            setup = (panel["task"], panel["backbone"], panel["attribute"])
            found.setdefault(setup, set()).update(panel["methods"] or entry["methods"])
    return {setup: tuple(sorted(methods)) for setup, methods in sorted(found.items())}


def _made(
    settings: Mapping[str, Any], without: LeftOut
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(kind, keys) of each file."""
    planned = _planned(settings)
    shown = without.shown(planned)
    yield from ((kind, {}) for kind in OF_RUN)
    yield from (("verdict", {"format": format}) for format in ("md", "html"))
    searched = False
    for (task, backbone, attribute), methods in shown.items():
        keys = {"task": task, "backbone": backbone, "attribute": attribute}
        for kind in OF_SETUP:
            if kind != "setup_repeats" or settings["repeats"] > 1:
                yield kind, keys
        for owner in {_searched(settings["methods"], name) for name in methods} - {None}:
            searched = True
            yield "search", {**keys, "method": owner}
    for task in {task for task, *_ in planned}:
        yield from ((kind, {"task": task}) for kind in ("sizes_csv", "sizes_md"))
    tables = [name for name in TABLES if name != "search" or searched]
    for name, entry in settings["experiments"].items():
        parts = [{_setup(panel): panel["methods"] or entry["methods"]} for panel in entry["panels"]]
        if name in without.views or not any(map(without.shown, parts)):
            continue
        if entry["kind"] == "table":
            tables.append(name)
            yield "table_recipe", {"table": name}
        else:
            yield from (("figure", {"figure": name, "format": f}) for f in FIGURE_FORMATS)
    for name in tables:
        yield from (("table", {"table": name, "format": format}) for format in render.FORMATS)
    yield from (("which_method_file", keys) for keys in _which_method(settings, shown))


def _setup(panel: Mapping[str, Any]) -> Setup:
    return panel["task"], panel["backbone"], panel["attribute"]


def _searched(methods: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    """Whose search sets a method; None: nobody's."""
    while isinstance(grid := methods[name].get("search"), str):
        name = grid
    return None if grid is None else name


def _which_method(
    settings: Mapping[str, Any], shown: Mapping[Setup, Sequence[str]]
) -> Iterator[Mapping[str, object]]:
    """Keys of the files of `which_method/`, where the run has it (rules/which_method.smk)."""
    drawn = (settings["synthetic"] or {}).get("populations") or {}
    tasks = {task: settings["tasks"][task] for task, *_ in shown}
    if len({bias.kind for bias in drawn_biases.of_tasks(drawn, tasks).values()}) < 2:
        return
    yield from ({"part": "which_method", "format": ending} for ending in ENDINGS)
    places = {
        (backbone, attribute, name)
        for task, backbone, attribute in shown
        for name in tasks[task]["tests"][attribute]
    }
    numbers = ["", *(f"_{number}" for number in range(1, len(places) + 1))]
    for picture in (f"which_method_{name}{number}" for name in PICTURES for number in numbers):
        yield from ({"part": picture, "format": format} for format in FIGURE_FORMATS)
