"""One adapter a data set: official files, as unpacked, to manifest rows.

An adapter is a file of this folder with

    TITLE      the data set's name, for tables and figures
    Options    a `schema.Dataset` with the data set's own options and the columns that it `lacks`
    read       (options, folder of the project) -> manifest.ManifestResult

and a docstring that states its inclusion rule. Adding a data set means adding such a file (and its
page and licence to resources/expected_counts.yaml); nothing else has to know of it. The top of an
adapter's file imports nothing heavy: the config is validated wherever the Snakefile is parsed, so
`read` imports what it reads with.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from ...config.base import explain
from ...config.schema import Dataset
from ...errors import UserError, nearest

if TYPE_CHECKING:
    from ..manifest import ManifestResult


class Adapter(Protocol):
    """A module of this folder."""

    TITLE: str
    Options: type[Dataset]

    def read(self, options: Dataset, project: Path) -> ManifestResult:
        """Manifest of a data set whose root may be relative to the project's folder."""
        ...


@functools.cache  # asked once a job when the workflow is planned
def available() -> tuple[str, ...]:
    """Names of the adapters, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> Adapter:
    """The adapter of this name, imported now.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in available():
        raise UserError(f"no data set adapter {name!r}{nearest(name, available())}")
    return importlib.import_module(f"{__name__}.{name}")


def options_models() -> dict[str, type[Dataset]]:
    """The options of every adapter; imports nothing heavy."""
    return {name: load(name).Options for name in available()}


def make_options(data: Mapping[str, Any]) -> Dataset:
    """Checked options of a data set, of the type that its adapter wants.

    Raises:
        UserError: every problem found, each with its key.
    """
    try:
        return load(str(data.get("adapter"))).Options.model_validate(dict(data))
    except ValidationError as error:
        raise UserError(explain(error)) from None


def read(options: Dataset, project: Path) -> ManifestResult:
    """Manifest of the data set that these options describe, or of the part that they name."""
    from .. import dicom_tags

    result = load(options.adapter).read(options, project)
    dicom_tags.refuse_uninstalled(result.frame["path"])
    if options.part is None:
        return result
    from ..parts import take

    return take(result, options.part)
