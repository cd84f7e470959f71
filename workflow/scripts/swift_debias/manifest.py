"""The manifest: one row an included image, and the log of everything left out.

Every adapter of `datasets/` goes the same way: list the folder once (`raw.scan`), read the official
table into `Rows`, leave rows out rule by rule (each rule is counted), return `rows.result(folder)`.

Columns of a manifest (any further columns are the attributes of a user's own table):

    image_id     str     unique in its data set
    path         str     relative to the data set's root, with forward slashes
    label        int8    1 or 0; skin: 1 = not melanoma, chest: 1 = pneumothorax [paper, 4.1]
    diagnosis    str     the source's own word(s)
    patient_id   str     or null
    lesion_id    str     or null
    sex          str     'female', 'male' or null
    age          float64 years, or null
    fitzpatrick  float64 skin type 1 to 6, or null; halves where the source reports pairs of types
    view         str     projection of an X-ray ('PA', 'AP') or null
    split        str     the source's own split, or null
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype

from .raw import Column, Folder, read_table
from .settings import Attribute, UserError

COLUMNS: dict[str, pa.DataType] = {
    "image_id": pa.string(),
    "path": pa.string(),
    "label": pa.int8(),
    "diagnosis": pa.string(),
    "patient_id": pa.string(),
    "lesion_id": pa.string(),
    "sex": pa.string(),
    "age": pa.float64(),
    "fitzpatrick": pa.float64(),
    "view": pa.string(),
    "split": pa.string(),
}
REQUIRED = ("image_id", "path", "label", "diagnosis")
MAX_AGE = 120.0  # years; above it is a typing error (NIH's first release has ages up to 414)
EXAMPLES = 10  # ids named in the log for each rule

NO_FILE = "no image file"
_UNCERTAIN = "uncertain label"
_SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}
_DAYS = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}


class ManifestResult(NamedTuple):
    """What an adapter returns: the included rows, and the count of everything left out."""

    frame: pd.DataFrame
    log: dict[str, Any]


# --- rows -----------------------------------------------------------------------------------------


class Rows:
    """A table on its way to a manifest; what leaves it is counted with a reason.

    An adapter adds the manifest's columns to `frame`, drops what its inclusion rule leaves out,
    and ends with `result`.
    """

    def __init__(self, frame: pd.DataFrame, key: str, source: str) -> None:
        """Take the rows; repeated rows are dropped and counted.

        Args:
            frame: the table.
            key: column that identifies a row in messages and logs.
            source: name of the file, for messages.

        Raises:
            UserError: rows of the same key contradict each other.
        """
        self.frame = frame.reset_index(drop=True)
        self.key = key
        self._read = len(frame)
        self._rules: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self.drop(self.frame[key].isna(), f"no {key}")
        self.drop(self.frame.duplicated(), "repeated row")
        _refuse_contradictions(self.frame, key, source)

    @classmethod
    def read(
        cls,
        paths: Path | Sequence[Path],
        key: str,
        required: Sequence[Column],
        optional: Sequence[Column] = (),
    ) -> Rows:
        """Rows of one table, or of several of the same columns."""
        paths = [paths] if isinstance(paths, Path) else paths
        frames = [read_table(path, required, optional) for path in paths]
        return cls(pd.concat(frames), key, " and ".join(str(path) for path in paths))

    def join(
        self,
        path: Path | None,
        on: str,
        required: Sequence[Column],
    ) -> None:
        """Add the columns of another table, looked up by `on`; null where it has no such row.

        Without a path every column is null. Rows that find no partner are noted.

        Raises:
            UserError: rows of the other table contradict each other.
        """
        if path is None:
            names = [column if isinstance(column, str) else column[0] for column in required]
            added = [name for name in names if name != on]
            self.frame[added] = pd.DataFrame(np.nan, self.frame.index, added, dtype="str")
            self.note(self.frame[on].notna(), f"no table gives {', '.join(added)}; unknown")
            return
        other = read_table(path, required).drop_duplicates()
        other = other[other[on].notna()]
        _refuse_contradictions(other, on, str(path))
        self.note(~self.frame[on].isin(other[on]), f"no row in {path.name}")
        self.frame = self.frame.merge(other, how="left", on=on, validate="many_to_one")

    def drop(self, mask: pd.Series, rule: str) -> None:
        """Leave out the rows where `mask` is true."""
        self._rules.append({"rule": rule, **self._count(mask, "removed")})
        self.frame = self.frame[~mask].reset_index(drop=True)

    def note(self, mask: pd.Series, text: str) -> None:
        """Count rows that stay but that the reader should know of."""
        if mask.any():
            self._notes.append({"note": text, **self._count(mask, "count")})

    def keep_one_diagnosis(self, classes: Sequence[str]) -> None:
        """Keep rows of which exactly one class column is 1; its name is the diagnosis."""
        hot = pd.DataFrame({name: matches(self.frame[name], (1,)) for name in classes})
        self.frame["diagnosis"] = hot.idxmax(axis="columns").astype("str")
        self.drop(hot.sum(axis="columns") != 1, "not exactly one diagnosis")

    def keep_one_finding(
        self, positive: pd.Series, negative: pd.Series, uncertain: pd.Series | None = None
    ) -> None:
        """Keep rows with exactly one of two findings; label 1 is the positive one.

        Args:
            positive: rows that have the positive finding, bool.
            negative: rows that have the negative one, bool.
            uncertain: rows whose labels are uncertain, bool; left out first.
        """
        both, neither = "both findings", "neither finding"
        conditions = [positive & negative, ~positive & ~negative]
        reasons = np.select(conditions, [both, neither], "")
        if uncertain is not None:
            reasons = np.where(uncertain, _UNCERTAIN, reasons)
        self.frame["reason"] = reasons
        self.frame["label"] = positive.astype("int8")
        for reason in (_UNCERTAIN, both, neither):
            self.drop(self.frame["reason"] == reason, reason)

    def ages(self, column: str, *, zero_is_unknown: bool = False) -> pd.Series:
        """Ages in years, float64; the unreadable and those outside 0 to 120 are null and noted."""
        text = self.frame[column]
        years = parse_ages(text)
        impossible = years.notna() & ~years.between(0, MAX_AGE)
        self.note(text.notna() & years.isna(), "age is not given as a number; recorded as unknown")
        self.note(impossible, f"age is not within 0 to {MAX_AGE:g} years; recorded as unknown")
        if zero_is_unknown:
            self.note(years == 0, "age 0 stands for unknown; recorded as unknown")
            impossible |= years == 0
        return years.mask(impossible)

    def sexes(self, column: str) -> pd.Series:
        """'female', 'male' or null, str; other words are null and noted."""
        text = self.frame[column]
        sexes = text.str.strip().str.lower().map(_SEXES).astype("str")
        self.note(text.notna() & sexes.isna(), "sex is neither female nor male; unknown")
        return sexes

    def skin_types(self, column: str) -> pd.Series:
        """Fitzpatrick types, float64; what is no number from 1 to 6 is null and noted."""
        types = pd.to_numeric(self.frame[column], errors="coerce").astype("float64")
        known = types.between(1, 6)
        self.note(self.frame[column].notna() & ~known, "skin type is not 1 to 6; unknown")
        return types.where(known)

    def result(
        self, folder: Folder, extra: Mapping[str, pa.DataType] | None = None
    ) -> ManifestResult:
        """Leave out rows without an image file, and finish.

        Args:
            folder: where `path` was found.
            extra: type of further columns to keep.
        """
        self.key = "image_id"
        self.drop(self.frame["path"].isna(), NO_FILE)
        for text, paths in folder.notes():
            if paths:
                self._notes.append(
                    {"note": text, "count": len(paths), "examples": paths[:EXAMPLES]}
                )
        log = {
            "rows_read": self._read,
            "rows_kept": len(self.frame),
            "rules": self._rules,
            "notes": self._notes,
        }
        return ManifestResult(_typed(self.frame, {**COLUMNS, **(extra or {})}), log)

    def _count(self, mask: pd.Series, name: str) -> dict[str, Any]:
        hit = self.frame.loc[mask, self.key].head(EXAMPLES)
        examples = [key if pd.notna(key) else f"row {row + 1}" for row, key in hit.items()]
        return {name: int(mask.sum()), "examples": examples}


def parse_ages(text: pd.Series) -> pd.Series:
    """Years from '58', '58.0', or NIH's '058Y', '011M', '003D'; null where none of these."""
    parts = text.str.strip().str.upper().str.extract(r"^(-?\d+(?:\.\d+)?)([YMWD]?)$")
    days = parts[1].replace("", "Y").map(_DAYS).astype("float64")
    return pd.to_numeric(parts[0], errors="coerce").astype("float64") * days / _DAYS["Y"]


def _refuse_contradictions(frame: pd.DataFrame, key: str, source: str) -> None:
    """Raise a UserError where rows of one key differ (equal rows have been dropped)."""
    twice = frame[frame[key].duplicated(keep=False)]
    if twice.empty:
        return
    first = twice[key].iloc[0]
    group = twice[twice[key] == first]
    differ = [repr(column) for column in group if len(group[column].drop_duplicates()) > 1]
    raise UserError(
        f"{source}: {twice[key].nunique()} values of {key!r} have rows that contradict each other, "
        f"the first is {first!r} (different {', '.join(differ)}); keep one row of each"
    )


def _typed(frame: pd.DataFrame, columns: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """The columns of a manifest in order, with their types; absent ones are null."""
    absent = pd.Series(np.nan, index=frame.index, dtype="object")
    return pd.DataFrame(
        {name: frame.get(name, absent).astype(_PANDAS[dtype]) for name, dtype in columns.items()}
    )


_PANDAS: dict[pa.DataType, Any] = {pa.string(): "str", pa.int8(): "int8", pa.float64(): "float64"}


# --- the finished manifest ------------------------------------------------------------------------


def validate(frame: pd.DataFrame, dataset: str) -> None:
    """Check a manifest against the schema.

    Raises:
        UserError: names the data set, the column and the first offending image.
    """
    absent = [name for name in COLUMNS if name not in frame]
    if absent:
        raise UserError(f"manifest of {dataset}: no column {', '.join(map(repr, absent))}")
    for name, dtype in COLUMNS.items():
        if str(frame[name].dtype) != _PANDAS[dtype]:
            raise UserError(
                f"manifest of {dataset}: column {name!r} is {frame[name].dtype}, "
                f"not {_PANDAS[dtype]}"
            )
    path = frame["path"]
    parts = path.str.split("/")
    problems = {
        "image_id is used twice": frame["image_id"].duplicated(),
        **{f"no {name}": frame[name].isna() for name in REQUIRED},
        "path is not a plain path below the root": path.str.startswith("/")
        | parts.map(lambda names: ".." in names or "" in names, na_action="ignore").eq(True),
        "label is neither 0 nor 1": ~frame["label"].isin((0, 1)),
        "sex is neither 'female' nor 'male'": frame["sex"].notna()
        & ~frame["sex"].isin(("female", "male")),
        f"age is not within 0 to {MAX_AGE:g}": frame["age"].notna()
        & ~frame["age"].between(0, MAX_AGE),
        "fitzpatrick is not within 1 to 6": frame["fitzpatrick"].notna()
        & ~frame["fitzpatrick"].between(1, 6),
    }
    for problem, mask in problems.items():
        if mask.any():
            raise UserError(
                f"manifest of {dataset}: {problem} in {int(mask.sum())} rows, "
                f"the first is {frame.loc[mask, 'image_id'].iloc[0]!r}"
            )


def write(result: ManifestResult, dataset: str, frame_path: Path, log_path: Path) -> None:
    """Validate and write a manifest (Parquet) and its log (JSON); same input, same bytes.

    Raises:
        UserError: the manifest is not valid, or no image is left (the rules that emptied it are
            named).
    """
    frame, log = result
    if frame.empty:
        rules = "; ".join(
            f"{rule['rule']}: {rule['removed']} (such as {', '.join(rule['examples'][:3])})"
            for rule in log["rules"]
            if rule["removed"]
        )
        raise UserError(f"{dataset}: none of {log['rows_read']} rows is left. Left out: {rules}")
    validate(frame, dataset)
    types = dict(COLUMNS)
    for name in frame.columns.difference(list(COLUMNS), sort=False):
        types[name] = pa.float64() if is_numeric_dtype(frame[name]) else pa.string()
    schema = pa.schema(list(types.items()))
    table = pa.Table.from_pandas(frame, schema, preserve_index=False)
    # pandas' own metadata names its version: without it the bytes depend on the data alone.
    pq.write_table(table.replace_schema_metadata(None), frame_path, compression="zstd")
    log_path.write_text(json.dumps(log, indent=1) + "\n")


def read(path: Path) -> pd.DataFrame:
    """A manifest as `write` wrote it."""
    return pq.read_table(path).to_pandas()


def canonical(value: Any) -> str | float | None:
    """A value in the form in which it is compared: numbers as numbers, words without case.

    So 1, '1' and '1.0' are equal, 'True' and true are, and ' Female ' and 'female' are.
    """
    if pd.isna(value):
        return None
    text = str(value).strip().casefold()
    if text in ("", "nan"):
        return None
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text.replace("_", "x"))  # Python alone reads '1_000' as a number
    except ValueError:
        return text


def matches(series: pd.Series, values: Iterable[Any]) -> pd.Series:
    """Whether each entry equals one of the values in the sense of `canonical`; bool, no nulls."""
    wanted = {canonical(value) for value in values} - {None}
    hits = [value for value in series.dropna().unique() if canonical(value) in wanted]
    return series.isin(hits)


def group_index(series: pd.Series, attribute: Attribute) -> np.ndarray:
    """Group of each row.

    Args:
        series: values of the attribute's column, any type.
        attribute: its groups (compared as in `canonical`) or cuts (a value on a cut belongs to
            the upper group).

    Returns:
        int16 (N,): 0, 1, ... in the order of the groups; -1 where the value is null or in none.

    Raises:
        UserError: a value stands in two groups, or text is to be cut.
    """
    if attribute.cuts is not None:
        numbers = pd.to_numeric(series, errors="coerce").to_numpy("float64", na_value=np.nan)
        unreadable = series[series.notna() & np.isnan(numbers)]
        if len(unreadable):
            raise UserError(
                f"attribute on column {attribute.column!r}: cuts need numbers, "
                f"but there is {unreadable.iloc[0]!r}"
            )
        index = np.searchsorted(attribute.cuts, numbers, side="right")
        return np.where(np.isnan(numbers), -1, index).astype(np.int16)
    groups: dict[str | float | None, int] = {}
    for number, (name, values) in enumerate((attribute.groups or {}).items()):
        for value in values:
            if groups.setdefault(canonical(value), number) != number:
                raise UserError(
                    f"attribute on column {attribute.column!r}: {value!r} is in two groups, "
                    f"one is {name!r}"
                )
    of_value = {value: groups.get(canonical(value), -1) for value in series.dropna().unique()}
    return series.map(of_value).fillna(-1).to_numpy(np.int16)
