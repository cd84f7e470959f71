"""One adapter a data set: official files, as unpacked, to manifest rows.

An adapter is a file of this folder with a function

    read(options: settings.Dataset, project: pathlib.Path) -> manifest.ManifestResult

and a docstring that states its inclusion rule. Adding a data set means adding such a file (and its
page and licence to resources/expected_counts.yaml); nothing else has to know of it. This module
imports no adapter until one is asked for, so listing them costs nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...config.schema import Dataset
from ...errors import UserError, nearest

if TYPE_CHECKING:
    from ..manifest import ManifestResult


class Adapter(Protocol):
    """A module of this folder."""

    def read(self, options: Dataset, project: Path) -> ManifestResult:
        """Manifest of a data set whose root may be relative to the project's folder."""
        ...


def available() -> tuple[str, ...]:
    """Names of the adapters, sorted."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return tuple(path.stem for path in files if _defines_read(path))


def adapter(name: str) -> Adapter:
    """The adapter of this name, imported now.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in available():
        raise UserError(f"no data set adapter {name!r}{nearest(name, available())}")
    return importlib.import_module(f"{__name__}.{name}")


def read(options: Dataset, project: Path) -> ManifestResult:
    """Manifest of the data set that these options describe."""
    return adapter(options.adapter).read(options, project)


def _defines_read(path: Path) -> bool:
    return "\ndef read(" in path.read_text(encoding="utf-8")
