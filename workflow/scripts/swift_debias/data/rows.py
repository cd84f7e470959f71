"""A table on its way to a manifest: rows leave it by rules, and every rule is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import UserError
from . import persons
from .groups import matches
from .manifest import COLUMNS, MAX_AGE, ManifestResult, typed
from .raw_files import Folder
from .raw_tables import Column, read_table
from .values import canonical, codes_among, is_missing, number, plain

EXAMPLES = 10  # ids named in the log for each rule
VALUES = 60  # values of a column that the log lists; the rest is counted together
OTHERS = "other values"  # behind their number


NO_FILE = "no image file"


_UNCERTAIN = "uncertain label"


SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}


DAYS = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}


class Rows:
    """A table on its way to a manifest; what leaves it is counted with a reason.

    An adapter adds the manifest's columns to `frame`, drops what its inclusion rule leaves out,
    and ends with `result`. The cells that it finds are cleaned (`clean_cells`); what was written is
    kept beside them, for the log's table of values.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        key: str,
        source: str,
        *,
        several: bool = False,
        shown: str | None = None,
    ) -> None:
        """Take the rows; repeated rows are dropped and counted.

        Args:
            frame: the table.
            key: column that identifies a row in messages and logs.
            source: name of the file, for messages.
            several: several rows of a key are kept, equal ones too.
            shown: what messages call the key; default: its name.

        Raises:
            UserError: rows of the same key contradict each other.
        """
        self.frame = frame.reset_index(drop=True)
        self.key = key
        self.decides = "label"  # what rows of one file may not say differently
        self._source = source
        self._read = len(frame)
        self._rules: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self._values: dict[str, list[dict[str, Any]]] = {}
        self._sources: dict[str, str] = {}  # attribute -> column that it was read from
        cells = [name for name in self.frame if not _is_written(name)]
        shown = key if shown is None else shown
        self.drop(self.frame[key].isna(), f"no {shown}")
        if not several:
            self.drop(self.frame.duplicated(cells), "repeated row")
            refuse_contradictions(self.frame[cells], key, source, shown)

    @classmethod
    def read(
        cls,
        paths: Path | Sequence[Path],
        key: str,
        required: Sequence[Column],
        optional: Sequence[Column] = (),
        *,
        untouched: Collection[str] = (),
        claimed: Mapping[str, Iterable[Any]] | None = None,
    ) -> Rows:
        """Rows of one table, or of several of the same columns.

        Args:
            paths: the tables.
            key: column that identifies a row.
            required, optional: columns, see `read_table`.
            untouched: columns of paths, which are not cleaned.
            claimed: column -> words that are values there, although they usually say 'not known'.
        """
        paths = [paths] if isinstance(paths, Path) else paths
        table = pd.concat([read_table(path, required, optional) for path in paths])
        frame = clean_cells(table, untouched, claimed or {})
        beside = table.rename(columns=written)
        return cls(pd.concat([frame, beside], axis="columns"), key, " and ".join(map(str, paths)))

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
            both = [*added, *map(written, added)]
            self.frame[both] = pd.DataFrame(np.nan, self.frame.index, both, dtype="str")
            self.note(self.frame[on].notna(), f"no table gives {', '.join(added)}; unknown")
            return
        table = read_table(path, required)
        other = clean_cells(table)
        kept = other[on].notna() & ~other.duplicated()
        other = other[kept]
        refuse_contradictions(other, on, str(path))
        self.note(~self.frame[on].isin(other[on]), f"no row in {path.name}")
        beside = table[kept].drop(columns=on).rename(columns=written)
        other = pd.concat([other, beside], axis="columns")
        self.frame = self.frame.merge(other, how="left", on=on, validate="many_to_one")

    def drop(self, mask: pd.Series, rule: str, found: Sequence[str] = ()) -> None:
        """Leave out the rows where `mask` is true.

        Args:
            mask: bool.
            rule: why.
            found: hints on what to do.
        """
        hints = {"found": list(found)} if found else {}
        self._rules.append({"rule": rule, **self._count(mask, "removed"), **hints})
        self.frame = self.frame[~mask].reset_index(drop=True)

    def note(self, mask: pd.Series, text: str) -> None:
        """Count rows that stay but that the reader should know of."""
        if mask.any():
            self._notes.append({"note": text, **self._count(mask, "count")})

    def tell(self, text: str, examples: Sequence[str]) -> None:
        """Note something that concerns no single row."""
        self._notes.append({"note": text, "count": len(examples), "examples": list(examples)})

    def show_values(self, name: str, column: str, became: pd.Series) -> None:
        """Log what each value of a column became, and how often.

        Args:
            name: what it became: 'label', or an attribute.
            column: of the table.
            became: what each row's value became; null where it is unknown.
        """
        cells = self.frame.get(written(column), self.frame[column])
        self._values[name] = value_counts(cells, became)

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

    def ages(
        self,
        column: str,
        *,
        zero_is_unknown: bool = False,
        unit: str = "years",
        name: str = "age",
    ) -> pd.Series:
        """Ages in years, float64; the unreadable and those outside 0 to 120 are null and noted.

        Args:
            column: its cells.
            name: of the attribute.
            zero_is_unknown: 0 stands for what is not known.
            unit: of numbers without one: years, months, weeks or days.
        """
        text = self.frame[column]
        self._sources[name] = column
        years = parse_ages(text, unit)
        impossible = are_no_ages(years)
        self.note(
            self._given(column) & years.isna(),
            f"{name} is not given as a number; recorded as unknown",
        )
        self.note(impossible, f"{name} is not within 0 to {MAX_AGE:g} years; recorded as unknown")
        if not zero_is_unknown:
            self.note(years == 0, f"{name} 0 is kept")
        else:
            self.note(years == 0, f"{name} 0 stands for unknown; recorded as unknown")
            impossible |= years == 0
        return years.mask(impossible)

    def sexes(self, column: str) -> pd.Series:
        """'female', 'male' or null, str; other words are null and noted."""
        self._sources["sex"] = column
        words = self.frame[column].map(lambda cell: plain(cell).casefold(), "ignore")
        sexes = words.map(SEXES).astype("str")
        self.note(self._given(column) & sexes.isna(), "sex is neither female nor male; unknown")
        return sexes

    def skin_types(self, column: str) -> pd.Series:
        """Fitzpatrick types, float64; what is no number from 1 to 6 is null and noted."""
        self._sources["fitzpatrick"] = column
        words = self.frame[column].map(_skin_type, "ignore")
        types = words.map(number, "ignore").astype("float64")
        known = types.between(1, 6)
        self.note(self._given(column) & ~known, "skin type is not 1 to 6; unknown")
        return types.where(known)

    def numbers(self, column: str) -> pd.Series:
        """Finite numbers, float64; null where a cell holds none. What may be codes is noted."""
        found = self.frame[column].map(number, "ignore").astype("float64")
        if codes := codes_among(found.dropna().unique()):
            shown = " or ".join(f"{code:g}" for code in sorted(codes))
            self.note(
                found.isin(codes),
                f"{column} is {shown}, far outside the other numbers; if that says 'not known', "
                f"name it under attributes.{column}.unknown",
            )
        return found

    def _given(self, column: str) -> pd.Series:
        """Rows where something was written, a word for 'not known' included; bool."""
        return self.frame.get(written(column), self.frame[column]).notna()

    def attribute(self, name: str, column: str, values: pd.Series) -> None:
        """Take a user's attribute into the table of values, under the column it was read from."""
        self.frame[name] = values
        self._sources[name] = column

    def result(
        self, folder: Folder, extra: Mapping[str, pa.DataType] | None = None
    ) -> ManifestResult:
        """Leave out rows without an image file, and finish.

        Args:
            folder: where `path` was found.
            extra: type of further columns to keep.

        Raises:
            UserError: rows of one file are of different classes.
        """
        self.key = "image_id"
        without = self.frame["path"].isna()
        self.drop(without, NO_FILE)
        if without.any():
            self._rules[-1]["found"] = folder.hints()
        self._one_class_a_file()
        for name in ("patient_id", "lesion_id"):
            if name in self.frame:
                self._name_persons(name)
        if "label" not in self._values:  # of the table itself it is shown before rows are left out
            classes = self.frame["label"].astype("str")
            self._values["label"] = value_counts(self.frame["diagnosis"], classes)
        for name, column in self._sources.items():
            self.show_values(name, column, self.frame[name])
        for text, paths in folder.notes():
            if paths:
                self._notes.append(
                    {"note": text, "count": len(paths), "examples": paths[:EXAMPLES]}
                )
        log = {
            "tables": folder.tables,
            "rows_read": self._read,
            "rows_kept": len(self.frame),
            "rules": self._rules,
            "notes": self._notes,
            "values": self._values,
        }
        return ManifestResult(typed(self.frame, {**COLUMNS, **(extra or {})}), log)

    def _name_persons(self, name: str) -> None:
        """Bring ids of patients or lesions into one form, and note what is odd about them."""
        given = clean_column(self.frame[name])
        what = name.removesuffix("_id")
        self.frame[name] = found = persons.ids(given, f"{self._source}, {what}")
        for odd in persons.id_notes(given, found, what):
            self.note(odd.rows, odd.text)

    def _one_class_a_file(self) -> None:
        """Refuse rows that give one file different classes; note those that agree.

        Different ids, and different spellings of a path, may name one file.
        """
        twice = self.frame[self.frame["path"].duplicated(keep=False)]
        words = twice[self.decides].map(canonical)
        said = words.groupby(twice["path"], sort=False).nunique()
        if (said > 1).any():
            first = said.index[said > 1][0]
            ids = twice.loc[twice["path"] == first, self.key]
            raise UserError(
                f"{self._source}: {int((said > 1).sum())} image files have rows whose "
                f"{self.decides} differs, the first is {first!r} "
                f"(rows {', '.join(map(repr, ids[:EXAMPLES]))}); keep one row of each file"
            )
        self.note(
            self.frame["path"].isin(said.index), "file of several rows; each is an image of its own"
        )

    def _count(self, mask: pd.Series, name: str) -> dict[str, Any]:
        hit = self.frame.loc[mask, self.key].head(EXAMPLES)
        examples = [key if pd.notna(key) else f"row {row + 1}" for row, key in hit.items()]
        return {name: int(mask.sum()), "examples": examples}


def clean_cells(
    frame: pd.DataFrame,
    untouched: Collection[str] = (),
    claimed: Mapping[str, Iterable[Any]] | None = None,
) -> pd.DataFrame:
    """The cells of a table in their plain form, null where a word says 'not known'.

    Args:
        frame: columns of text.
        untouched: columns that stay as they are written, such as paths of files.
        claimed: column -> words that are values there, although they usually say 'not known'.
    """
    claimed = claimed or {}
    return pd.DataFrame(
        {
            name: column if name in untouched else clean_column(column, claimed.get(str(name), ()))
            for name, column in frame.items()
        },
        index=frame.index,
    )


def clean_column(column: pd.Series, claimed: Iterable[Any] = ()) -> pd.Series:
    """A column's cells in their plain form; see `clean_cells`."""
    words = {canonical(word) for word in claimed}
    plain_of = {
        cell: None if is_missing(cell) and canonical(cell) not in words else plain(cell)
        for cell in column.dropna().unique()
    }
    return column.map(plain_of).astype("str")


def value_counts(cells: pd.Series, became: pd.Series) -> list[dict[str, Any]]:
    """What each value became, and how often: value, became (null: unknown), count.

    The most frequent come first. Numbers that stayed numbers, and what is behind the first
    `VALUES`, are counted together.
    """
    listed: list[tuple[str | None, str | None, int]] = []
    if became.dtype == "float64" and became.nunique() > EXAMPLES:
        read = became.notna().to_numpy()
        listed.append(("numbers", f"{became.min():g} to {became.max():g}", int(read.sum())))
        cells, became = cells[~read], became[~read]
    pairs = zip(map(_shown, cells.tolist()), map(_shown, became.tolist()), strict=True)
    counts = Counter(pairs).most_common()
    listed += [(*pair, count) for pair, count in counts[:VALUES]]
    rest: dict[str | None, list[int]] = {}
    for (_, result), count in counts[VALUES:]:
        rest.setdefault(result, []).append(count)
    listed += [(f"{len(some)} {OTHERS}", result, sum(some)) for result, some in rest.items()]
    return [{"value": v, "became": result, "count": count} for v, result, count in listed]


def _shown(value: Any) -> str | None:
    """A value in the log: text, null where it is null."""
    if pd.isna(value):
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


def written(column: Any) -> str:
    """Name of the column that keeps what was written; no header of a table can hold a null byte."""
    return f"\0written: {column}"


def _is_written(column: Any) -> bool:
    return str(column).startswith(written(""))


def parse_ages(text: pd.Series, unit: str = "years") -> pd.Series:
    """Years from '58', '58.0' of a unit, or NIH's '058Y', '011M', '003D'; null where none is."""
    parts = text.str.strip().str.upper().str.extract(r"^(-?[0-9]+(?:\.[0-9]+)?)([YMWD]?)$")
    days = parts[1].replace("", unit[0].upper()).map(DAYS).astype("float64")
    return pd.to_numeric(parts[0], errors="coerce").astype("float64") * days / DAYS["Y"]


def are_no_ages(years: pd.Series) -> pd.Series:
    """Numbers that nobody's age is, such as -1 and 999 for an unknown one; bool, null is none."""
    return years.notna() & ~years.between(0, MAX_AGE)


def _skin_type(cell: str) -> str:
    """'FST2', 'type II' and 'II' as '2'; anything else as it is."""
    words = r"(?:(?:fst|fitzpatrick|skin type|type)[ _-]*)?"
    found = re.fullmatch(words + r"([1-6]|i{1,3}|iv|vi?)", plain(cell).casefold())
    return cell if found is None else _ROMAN.get(found[1], found[1])


_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}


def refuse_contradictions(
    frame: pd.DataFrame, key: str, source: str, shown: str | None = None
) -> None:
    """Raise a UserError where rows of one key differ (equal rows have been dropped)."""
    twice = frame[frame[key].duplicated(keep=False)]
    if twice.empty:
        return
    first = twice[key].iloc[0]
    group = twice[twice[key] == first]
    differ = [
        repr(str(column).removeprefix("table: "))
        for column in group
        if len(group[column].drop_duplicates()) > 1 and "\0" not in str(column)
    ]
    raise UserError(
        f"{source}: {twice[key].nunique()} values of {(shown or key)!r} have rows that "
        f"contradict each other, the first is {first!r} (different {', '.join(differ)}); "
        "keep one row of each"
    )
