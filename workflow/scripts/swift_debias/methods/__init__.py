"""The debiasing methods, one file each, and their registry.

A method is a file in this folder with

    Settings    a `settings.Model` with the method's own keys and their defaults
    NEEDS_IMPORTANCE    whether it reads the shared parameter importances
    debias      (classifier, external set, Settings, Context) -> classifier

To add one, add a file and an entry under `methods:` in the config; nothing else changes. The top of
a method's file imports nothing heavy: the config is validated where torch is not installed, so
`debias` imports what it computes with. The history of a method is what it appends to
`context.history`, one dictionary an epoch or step.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

from ..config.base import Model
from ..errors import UserError, nearest


def available() -> list[str]:
    """Names of the algorithms: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


@functools.cache  # asked once a job when the workflow is planned
def load(algorithm: str) -> ModuleType:
    """The module of an algorithm.

    Raises:
        UserError: there is no such file; names the nearest.
    """
    if algorithm not in available():
        raise UserError(f"no algorithm {algorithm!r}{nearest(algorithm, available())}")
    return importlib.import_module(f"{__name__}.{algorithm}")


def settings_models() -> dict[str, type[Model]]:
    """The settings model of every algorithm; imports nothing heavy."""
    return {name: load(name).Settings for name in available()}
