"""Tables as people save them, read as text: CSV and Parquet; other encodings and forms refused."""

from __future__ import annotations

import csv
import gzip
import operator
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, nearest
from .values import as_written, plain, twice

PARQUET = (".parquet", ".pq")
# What people call a table and is no text: how its file begins -> what it is.
_OTHER_FORMS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"(\xb5/\xfd": "packed with zstd",
}

# What may stand between columns -> what is said where it stands there instead of ours.
_SEPARATORS = {
    ",": "is separated by commas; name it .csv",
    ";": "is separated by semicolons; save it with commas",
    "\t": "is separated by tabs; save it with commas",
    "|": "is separated by bars; save it with commas",
}


class ColumnError(UserError):
    """A table lacks columns that its reader needs."""

    def __init__(self, path: Path, missing: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.path = path
        self.missing = tuple(missing)


Column = str | tuple[str, ...]


"""Name of a column; a tuple lists the names that releases gave it, and the first one is used."""


def read_table(
    path: Path, required: Sequence[Column], optional: Sequence[Column] = ()
) -> pd.DataFrame:
    """Columns of a CSV or Parquet file as text; an empty cell is null, nothing else is.

    CSV: UTF-8 with or without a byte order mark, commas ('.tab' and '.tsv': tabs), '.gz' allowed.
    Parquet: '.parquet', '.pq', or any name where the file begins as Parquet does.
    Other encodings are refused rather than guessed, since a wrong guess corrupts ids in silence.

    Args:
        path: the file.
        required: columns that must be there.
        optional: columns that are null where they are not.

    Returns:
        A frame of str columns in the order asked for.

    Raises:
        ColumnError: a column is missing; names the nearest one.
        UserError: the file is missing, empty, not UTF-8, damaged, or its rows differ in length.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the table's file, a .csv or .parquet")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() in PARQUET or _starts_with(path, b"PAR1"):
        frame = _read_parquet(path, required, optional)
    else:
        _refuse_other_forms(path)
        frame = _read_csv(path, required, optional)
    if frame.empty:
        raise UserError(f"{path}: has no rows")
    return frame


def header(path: Path) -> list[str]:
    """Names of a table's columns; [] where it cannot be read, of which `read_table` says why.

    Raises:
        UserError: it is a workbook, an archive or a database, or has another separator.
    """
    if path.suffix.lower() in PARQUET or _starts_with(path, b"PAR1"):
        try:
            return [plain(name) for name in pq.ParquetFile(path).schema_arrow.names]
        except (pa.ArrowException, OSError):
            return []
    _refuse_other_forms(path)
    try:
        with _open_text(path) as stream:
            reader = csv.reader(stream, delimiter=_separator(path), strict=True)
            return [plain(name) for name in _names(path, reader)]
    except (UnicodeDecodeError, csv.Error, EOFError, OSError, zlib.error):
        return []


def _separator(path: Path) -> str:
    return "\t" if {".tab", ".tsv"} & set(path.suffixes) else ","


def _refuse_other_forms(path: Path) -> None:
    """Name what is no text at all.

    Raises:
        UserError: it is a workbook, an archive or a database.
    """
    for start, what in _OTHER_FORMS.items():
        if _starts_with(path, start):
            raise UserError(f"{path}: is {what}, which is not read; save the table as 'CSV UTF-8'")


def _starts_with(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(start)) == start
    except OSError:
        return False  # whoever reads the whole file says so


def _read_csv(path: Path, required: Sequence[Column], optional: Sequence[Column]) -> pd.DataFrame:
    try:
        with _open_text(path) as stream:
            reader = csv.reader(stream, delimiter=_separator(path), strict=True)
            names = _names(path, reader)
            if not names:
                raise UserError(f"{path}: is empty")
            picked = _pick(path, names, required, optional)
            rows = list(_rows(path, reader, names, list(picked.values())))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {_bad_line(path)}: not UTF-8 text ({error.reason}); "
            "save the file as 'CSV UTF-8'"
        ) from error
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    columns = list(zip(*rows, strict=True)) or [()] * len(picked)
    frame = pd.DataFrame(
        {
            name: pd.Series([cell or None for cell in cells], dtype="str")
            for name, cells in zip(picked, columns, strict=True)
        }
    )
    return _with_optional(frame, required, optional)


def _names(path: Path, reader: Any) -> list[str]:
    """The header: the first row that is not empty; [] where there is none.

    Raises:
        UserError: it is one name that holds another separator.
    """
    names: list[str] = next((row for row in reader if row), [])
    if len(names) == 1 and (other := _other_separator(path, names)):
        raise UserError(f"{path}: {other}")
    return names


def _other_separator(path: Path, names: Sequence[str], row: Sequence[str] | None = None) -> str:
    """What is said where another character separates the columns, in the header and in a row; ''.

    There are more of it than of ours, and a row has as many as the header.
    """
    ours = _separator(path)
    first, other = ours.join(names), ours.join(names if row is None else row)
    for character, said in _SEPARATORS.items():
        count = first.count(character)
        if character != ours and count >= len(names) and other.count(character) == count:
            return "" if _is_web_page(names) else said
    return ""


def _is_web_page(names: Sequence[str]) -> bool:
    return names[0].lstrip().startswith("<")


def _rows(
    path: Path, reader: Any, names: Sequence[str], positions: Sequence[int]
) -> Iterator[tuple[str, ...]]:
    """The wanted cells of each row. Empty cells behind the last column are fine (NIH 2017)."""
    width = len(names)
    # A tuple even for one column, where itemgetter alone returns the bare cell.
    pick = operator.itemgetter(*positions, positions[0])
    for row in reader:
        if len(row) != width:
            if not row:
                continue
            if len(row) < width or any(row[width:]):
                if other := _other_separator(path, names, row):
                    raise UserError(f"{path}: {other}")
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, but the header has {width}"
                )
        yield pick(row)[:-1]


def _read_parquet(
    path: Path, required: Sequence[Column], optional: Sequence[Column]
) -> pd.DataFrame:
    try:
        source = pq.ParquetFile(path)
        picked = _pick(path, source.schema_arrow.names, required, optional)
        names = list(source.schema_arrow.names)
        table = source.read(columns=[names[position] for position in picked.values()])
        frame = pd.DataFrame(
            {name: _as_text(table.column(names[position])) for name, position in picked.items()}
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    return _with_optional(frame.replace("", None).astype("str"), required, optional)


def _as_text(column: pa.ChunkedArray) -> pd.Series:
    """A column's cells as text, the same as a CSV file of the column has.

    Whole numbers have no exponent, for they may be ids.
    """
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string()).to_pandas()
    numbers = pd.Series(as_written(column.to_numpy()))
    whole = {
        n: f"{n:.0f}" if n.is_integer() and abs(n) < 1e15 else repr(n) for n in numbers.dropna()
    }
    return numbers.map(whole).astype("str")


def _pick(
    path: Path, header: Sequence[str], required: Sequence[Column], optional: Sequence[Column]
) -> dict[str, int]:
    """Name -> position of the wanted columns that are there.

    Raises:
        ColumnError: a required one is not, or is there twice.
    """
    header = [plain(name) for name in header]
    picked: dict[str, int] = {}
    missing: list[str] = []
    for column in (*required, *optional):
        names = (column,) if isinstance(column, str) else column
        present = [name for name in map(plain, names) if name in header]
        if not present:
            missing += [names[0]] if column in required else []
        elif said := twice(present[0], header):
            raise ColumnError(path, [names[0]], f"{path}: {said}")
        else:
            picked[names[0]] = header.index(present[0])
    if missing:
        raise ColumnError(path, missing, f"{path}: {_explain_missing(missing, header)}")
    return picked


def _explain_missing(missing: Sequence[str], header: Sequence[str]) -> str:
    if _is_web_page(header):
        return "is a web page, not a table: the download failed"
    filled = [name for name in header if name]
    first = ", ".join(filled)
    if len(filled) == 1 and (len(header) > 1 or re.match(r"sep=|#|//|%", first)):
        return (
            f"line 1, {first!r}, is no header: take it out, so that the columns' names come first"
        )
    for separator, said in _SEPARATORS.items():
        if set(missing) & {part.strip(' "') for cell in header for part in cell.split(separator)}:
            return said
    lowered = {name.lower(): name for name in header}
    return "; ".join(
        f"no column {name!r}"
        + (
            f"; did you mean {lowered[name.lower()]!r}?"
            if name.lower() in lowered
            else nearest(name, header)
        )
        for name in missing
    )


def _with_optional(
    frame: pd.DataFrame, required: Sequence[Column], optional: Sequence[Column]
) -> pd.DataFrame:
    names = [column if isinstance(column, str) else column[0] for column in (*required, *optional)]
    for name in names:
        if name not in frame:
            frame[name] = pd.Series(pd.NA, index=frame.index, dtype="str")
    return frame[names]


def read_words(path: Path) -> list[str]:
    """The words of a text file, such as a list of file names; '.gz' allowed."""
    try:
        with _open_text(path) as stream:
            return stream.read().split()
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _open_text(path: Path) -> IO[str]:
    if _starts_with(path, b"\x1f\x8b") or path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _bad_line(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    packed = _starts_with(path, b"\x1f\x8b")
    with gzip.open(path) if packed else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0
