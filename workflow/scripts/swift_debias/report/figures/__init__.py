"""The drawings, one file each: what they need, what they show in words, and how they are drawn.

A drawing is a file of this folder with

    NEEDS          which results it is drawn from (`_parts.Sources`): metrics, costs, predictions,
                   repeats, summaries, intervals, plausibility, arrays
    CAPTION        what it shows, in words
    draw           (Request, Sources) -> Drawing
    ARRAYS_NEED    for "arrays" only: predictions, pixels, index, models, summaries, importance
                   (of the first panel and fold), importances (of all panels and folds)
    arrays         for "arrays" only: (Given) -> arrays, in a job that may use a GPU
    SHOWS          optional: settings of its methods that it shows itself; "*": all of them
    OPTIONS        optional: name -> type of each of its `options:` ("shares", "pixels", "text",
                   "metric", "two metrics"); others are refused
    IGNORES        optional: keys of an experiment that it does not look at ("metrics")
    FIRST          optional: of which lists it shows the first entry alone ("panels", "methods",
                   "datasets"); a longer one is refused
    TASK_SETS      optional: keys that the task of every panel has to set ("tie")
    TWO_CLASSES    optional: why it cannot show a task of more than two classes
    METRICS        optional: those that it can show; others are refused
    CROSSED        optional: True where its methods have to be a complete crossing of settings of
                   two values each (`config.crossing`)

To add one, add a file and an experiment with `plot: <file>` in the config. What is
written in capitals is a literal: the Snakefile reads it without importing the drawing, which would
cost matplotlib.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ...errors import UserError, nearest

FOLDER = Path(__file__).parent


class Facts(NamedTuple):
    """What a drawing's file says of itself."""

    needs: tuple[str, ...]
    caption: str
    arrays_need: tuple[str, ...]
    shows: tuple[str, ...]
    options: Mapping[str, str]
    ignores: tuple[str, ...]
    first: tuple[str, ...]
    task_sets: tuple[str, ...]
    two_classes: str
    metrics: tuple[str, ...]
    crossed: bool


def available() -> list[str]:
    """Names of the drawings: the files of this folder."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def load(plot: str) -> ModuleType:
    """The module of a drawing.

    Raises:
        UserError: there is no such file; names the nearest.
    """
    if plot not in available():
        raise UserError(f"no drawing {plot!r}{nearest(plot, available())}")
    return importlib.import_module(f"{__name__}.{plot}")


@functools.cache
def facts(plot: str) -> Facts:
    """What a drawing's file says of itself in capitals, read without importing it.

    Raises:
        UserError: there is no such file; names the nearest.
    """
    if plot not in available():
        raise UserError(f"no drawing {plot!r}{nearest(plot, available())}")
    optional = (
        *("ARRAYS_NEED", "SHOWS", "OPTIONS", "IGNORES", "FIRST", "TASK_SETS"),
        *("TWO_CLASSES", "METRICS", "CROSSED"),
    )
    empty: dict[str, Any] = {"OPTIONS": {}, "TWO_CLASSES": "", "CROSSED": False}
    found: dict[str, Any] = {name: empty.get(name, ()) for name in optional}
    for node in ast.parse((FOLDER / f"{plot}.py").read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in (*found, "NEEDS", "CAPTION"):
                found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return Facts(found["NEEDS"], found["CAPTION"], *(found[name] for name in optional))


def all_facts() -> dict[str, Facts]:
    """What every drawing says of itself."""
    return {name: facts(name) for name in available()}
