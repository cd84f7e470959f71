"""The debiasing methods, one file each, and their registry.

A method is a file in this folder with

    CLASS          name of its estimator class, for `swift_debias.<CLASS>`
    Settings       a `config.base.Model` with the method's own keys and their defaults
    IMPORTANCES    which of the shared parameter importances it may read (importance/shared.py)
    debias         (classifier, external set, Settings, Context) -> classifier
    reads          optional: Settings -> which of IMPORTANCES a variant reads; default: all
    foreign        optional: Settings -> why a network that is no `Classifier` cannot hold what the
                   variant makes (one line), or None; default: it can

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
    return sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py") if p.stem != "base")


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


def importances() -> tuple[str, ...]:
    """All importances that some method may read: what rule `importance` measures."""
    return tuple(sorted({name for method in available() for name in load(method).IMPORTANCES}))


def read_importances(algorithm: str, settings: Model) -> tuple[str, ...]:
    """The importances that a method reads with these settings."""
    method = load(algorithm)
    reads = getattr(method, "reads", None)
    return reads(settings) if reads else method.IMPORTANCES
