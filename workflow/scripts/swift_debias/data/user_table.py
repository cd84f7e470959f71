"""Rows of a user's own table, as its entry in the config describes them (adapters/table.py)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from ..errors import UserError
from . import groups, manifest, raw_files
from .rows import Rows, written
from .values import INVISIBLE, canonical, is_missing, plain

if TYPE_CHECKING:
    from .adapters.table import AttributeColumn, LabelColumn, Options

# What people put between the findings of a cell: A|B, A;B, A, B, A/B, A + B, ['A', 'B'].
_BETWEEN = r"[|;,/+&\n\[\](){}'\"]"


def read(options: Options, project: Path) -> manifest.ManifestResult:
    """Manifest of a user's table."""
    folder = raw_files.scan_dataset(options, project)
    path = folder.root / options.table
    if not path.is_file():
        raise folder.no_table(f"{options.table!r} (key `table`)", options.table)
    folder.was_read(path)
    rows = _read_rows(options, path)
    _find_images(rows, options, folder)
    for column, values in options.only.items():
        wanted = _matching(rows, column, rows.frame[_raw(column)], values, f"only.{column}")
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
        _add_attribute(rows, name, attribute)
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
    claimed: dict[str, list[str]] = {}
    named: list[tuple[str, tuple[str, ...]]] = [
        (options.label.column, options.label.named),
        *options.only.items(),
        *((one.column, (*one.known, *one.unknown)) for one in options.attributes.values()),
    ]
    for column, values in named:
        claimed.setdefault(column, []).extend(values)
    rows = Rows.read(path, key, tuple(columns), untouched=(options.path,), claimed=claimed)
    names = {name: _raw(name) for name in columns}
    names |= {written(name): written(_raw(name)) for name in columns}
    rows.frame = rows.frame.rename(columns=names)
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
    odd = given.str.contains(r"\\|^\s|\s$").eq(True)
    rows.note(other & odd, "found with backslashes or outer spaces of the path overlooked")
    rows.note(other & ~odd, "found under another image extension or letter case")


def _add_label(rows: Rows, label: LabelColumn) -> None:
    """Class 1 and 0; rows of no class are left out.

    With a `separator` a cell holds several findings: it is of class 1 if one of them is, and of
    class 0 if one of them is; of both classes it is left out.
    """
    raw = _raw(label.column)
    text = rows.frame[raw]
    name = label.column
    findings = _findings(text, label)
    unknown = _matching(rows, name, findings, label.unknown, "label.unknown", required=False)
    positive = _matching(rows, name, findings, label.positive, "label.positive")
    if label.negative is not None:
        negative = _matching(rows, name, findings, label.negative, "label.negative")
    else:  # what is left is class 0, but for what is not known
        negative = findings.notna().groupby(level=0).any() & ~positive & ~unknown
    if label.separator is None:
        several = text.notna() & _holds_several(text, label.named) & ~unknown
        several &= ~groups.matches(text, label.named)
        if label.rest_is_negative and several.any():
            example = text[several].iloc[0]
            raise UserError(
                f"label: column {name!r} has several findings in a cell, as {example!r} in "
                f"{int(several.sum())} rows: say label.separator (such as '|'), or name the whole "
                "cell under label.positive, label.negative or label.unknown"
            )
    else:
        several = positive & negative
    positive, negative = positive & ~unknown, negative & ~unknown
    rows.frame["label"] = positive.astype("int8")
    rows.frame["diagnosis"] = text
    left_out = ~(positive ^ negative)
    rows.show_values("label", raw, positive.astype("int8").astype("str").mask(left_out))
    rows.frame["several"] = several & left_out
    rows.frame["no class"] = left_out & ~several
    rows.drop(rows.frame["no class"], "label is none of the classes' values")
    if label.separator is not None or rows.frame["several"].any():
        rows.drop(
            rows.frame["several"],
            "findings of both classes in a cell"
            if label.separator is not None
            else "several findings in a cell (label.separator is not given)",
        )


def _findings(text: pd.Series, label: LabelColumn) -> pd.Series:
    """The findings of each cell, several a row; null where a cell has none that is known."""
    separator = label.separator
    if separator is None:
        return text
    words = {canonical(value) for value in label.named}

    def parts(cell: str) -> list[str]:
        found = [plain(part.strip(" []'\"")) for part in cell.split(separator)]
        return [part for part in found if not is_missing(part) or canonical(part) in words]

    return text.map(parts, "ignore").explode().astype("str")


def _holds_several(text: pd.Series, named: tuple[str, ...]) -> pd.Series:
    """Rows whose cell is made of several values of which one is named, bool."""
    words = {canonical(value) for value in named}
    values = "|".join(re.escape(plain(value)) for value in named)  # they may hold a mark themselves
    space = rf"[\s{INVISIBLE}]*"
    end = rf"({_BETWEEN}|^|$)"
    among = re.compile(rf"{end}{space}({values}){space}{end}", re.IGNORECASE)

    def holds(cell: str) -> bool:
        parts = [part for part in re.split(_BETWEEN, cell) if part.strip()]
        one_is_named = any(canonical(part) in words for part in parts)
        return len(parts) > 1 and (one_is_named or among.search(cell) is not None)

    cells = [cell for cell in text.dropna().unique() if re.search(_BETWEEN, cell)]
    return text.isin([cell for cell in cells if holds(cell)])


def _matching(
    rows: Rows,
    column: str,
    cells: pd.Series,
    values: tuple[str, ...],
    key: str,
    *,
    required: bool = True,
) -> pd.Series:
    """Rows that have one of the values that a config's key names, bool; values of none are noted.

    Args:
        rows: the table.
        column: its name, for messages.
        cells: its cells, several a row where a cell holds several values.
        values: what the config names.
        key: the config's key.
        required: refuse where no row has any of the values.

    Raises:
        UserError: none has, which is a misspelling more often than not.
    """
    hits = groups.matches(cells, values)
    present = cells.dropna().unique()
    if required and not hits.any():
        shown = ", ".join(map(repr, sorted(present)[:20]))
        raise UserError(
            f"{key}: no row has {' or '.join(values)} in column {column!r}; "
            f"its values are {shown or 'all empty'}"
        )
    found = {canonical(cell) for cell in present}
    absent = [value for value in values if canonical(value) not in found]
    if absent:
        rows.tell(f"values of {key} that no row has", absent)
    return hits.groupby(level=0).any()


def _is_unsafe(path: str) -> bool:
    """Whether a path could leave its folder on any operating system, or is no path at all."""
    windows = PureWindowsPath(path)
    return (
        path.startswith("/")
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "\0" in path
    )


def _add_attribute(rows: Rows, name: str, attribute: AttributeColumn) -> None:
    """Values of one attribute under its name; null where unknown."""
    column = _raw(attribute.column)
    cells = rows.frame[column]
    unknown = _matching(
        rows, attribute.column, cells, attribute.unknown, f"attributes.{name}.unknown",
        required=False,
    )  # fmt: skip
    name = manifest.stored_column(name)
    rows.frame[name] = known = cells.mask(unknown)
    rows.frame[written(name)] = given = rows.frame[written(column)].mask(unknown)
    values: Any = known
    if name == "sex":
        values = rows.sexes(name)
    elif name == "age":
        values = rows.ages(name)
    elif name == "fitzpatrick":
        values = rows.skin_types(name)
    elif attribute.kind == "number":
        values = rows.numbers(name)
        rows.note(given.notna() & values.isna(), f"{name} is not a number; recorded as unknown")
    rows.attribute(name, column, values)
