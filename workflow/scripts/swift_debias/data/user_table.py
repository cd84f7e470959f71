"""Rows of a user's own table, as its entry in the config describes them (adapters/table.py)."""

from __future__ import annotations

import posixpath
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from ..errors import UserError
from . import groups, manifest, raw_files
from .rows import Rows

if TYPE_CHECKING:
    from .adapters.table import AttributeColumn, LabelColumn, Options


def read(options: Options, project: Path) -> manifest.ManifestResult:
    """Manifest of a user's table."""
    folder = raw_files.scan_dataset(options, project)
    rows = _read_rows(options, folder.root / options.table)
    _find_images(rows, options, folder)
    for column, values in options.only.items():
        wanted = _matching(rows, column, values, f"only.{column}")
        rows.drop(~wanted, f"{column} is not {' or '.join(values)}")
    _add_label(rows, options.label)
    rows.drop(rows.frame["unsafe"], "path is absolute or leaves the image folder")
    frame = rows.frame
    frame["image_id"] = frame[_raw(options.image_id or options.path)]
    if options.patient:
        frame["patient_id"] = frame[_raw(options.patient)]
    extra = {}
    for name, attribute in options.attributes.items():
        column = manifest.stored_column(name)
        frame[column] = _attribute(rows, column, attribute)
        if column not in manifest.COLUMNS:
            extra[column] = pa.float64() if attribute.kind == "number" else pa.string()
    return rows.result(folder, extra)


def _raw(column: str) -> str:
    """Name of a column of the table: kept apart from the manifest's, which may be the same."""
    return f"table: {column}"


def _read_rows(options: Options, path: Path) -> Rows:
    """The columns that the config names, and only those."""
    key = options.image_id or options.path
    columns = dict.fromkeys(
        (
            key,
            options.path,
            options.label.column,
            *((options.patient,) if options.patient else ()),
            *options.only,
            *(attribute.column for attribute in options.attributes.values()),
        )
    )
    rows = Rows.read(path, key, tuple(columns))
    rows.frame = rows.frame.rename(columns=_raw)
    rows.key = _raw(key)
    return rows


def _find_images(rows: Rows, options: Options, folder: raw_files.Folder) -> None:
    """Look up the images; an unsafe path is marked and not looked up."""
    if _is_unsafe(options.image_folder):
        raise UserError(f"image_folder: {options.image_folder!r} must lie below the root")
    given = rows.frame[_raw(options.path)]
    unsafe = given.map(_is_unsafe, "ignore").eq(True)
    wanted = given.mask(unsafe).map(
        lambda path: posixpath.normpath(f"{options.image_folder}/{path}{options.image_suffix}"),
        "ignore",
    )
    found = folder.find(wanted, parts=None)
    rows.frame["path"] = found
    rows.frame["unsafe"] = unsafe
    other = found.notna() & (found != wanted)
    rows.note(other, "found under another image extension or letter case")


def _add_label(rows: Rows, label: LabelColumn) -> None:
    """Class 1 and 0; rows of no class are left out."""
    text = rows.frame[_raw(label.column)]
    positive = _matching(rows, label.column, label.positive, "label.positive")
    negative = text.notna() & ~positive
    if label.negative is not None:
        negative &= _matching(rows, label.column, label.negative, "label.negative")
    rows.frame["label"] = positive.astype("int8")
    rows.frame["diagnosis"] = text
    rows.drop(~positive & ~negative, "label is none of the classes' values")


def _matching(rows: Rows, column: str, values: tuple[str, ...], key: str) -> pd.Series:
    """Rows that have one of the values that a config's key names, bool.

    Raises:
        UserError: none has, which is a misspelling more often than not.
    """
    text = rows.frame[_raw(column)]
    mask = groups.matches(text, values)
    if not mask.any():
        present = ", ".join(map(repr, sorted(text.dropna().unique())[:20]))
        raise UserError(
            f"{key}: no row has {' or '.join(values)} in column {column!r}; "
            f"its values are {present or 'all empty'}"
        )
    return mask


def _is_unsafe(path: str) -> bool:
    """Whether a path could leave its folder on any operating system, or is no path at all."""
    windows = PureWindowsPath(path)
    return (
        path.startswith("/")
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "\0" in path
    )


def _attribute(rows: Rows, name: str, attribute: AttributeColumn) -> pd.Series:
    """Values of one attribute; null where unknown."""
    text = rows.frame[_raw(attribute.column)]
    rows.frame[name] = text.mask(groups.matches(text, attribute.unknown))
    if name == "sex":
        return rows.sexes(name)
    if name == "age":
        return rows.ages(name)
    if name == "fitzpatrick":
        return rows.skin_types(name)
    if attribute.kind == "category":
        return rows.frame[name]
    numbers = pd.to_numeric(rows.frame[name], errors="coerce").astype("float64")
    unreadable = rows.frame[name].notna() & numbers.isna()
    rows.note(unreadable, f"{name} is not a number; recorded as unknown")
    return numbers
