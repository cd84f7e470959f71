"""A table on its way to a manifest: rows leave it by rules, and every rule is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import UserError
from .groups import matches
from .manifest import COLUMNS, MAX_AGE, ManifestResult, typed
from .raw_files import Folder
from .raw_tables import Column, read_table

EXAMPLES = 10  # ids named in the log for each rule


NO_FILE = "no image file"


_UNCERTAIN = "uncertain label"


_SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}


_DAYS = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}


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
        refuse_contradictions(self.frame, key, source)

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
        refuse_contradictions(other, on, str(path))
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
        without = self.frame["path"].isna()
        self.drop(without, NO_FILE)
        if without.any():
            self._rules[-1]["found"] = folder.hints()
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
        }
        return ManifestResult(typed(self.frame, {**COLUMNS, **(extra or {})}), log)

    def _count(self, mask: pd.Series, name: str) -> dict[str, Any]:
        hit = self.frame.loc[mask, self.key].head(EXAMPLES)
        examples = [key if pd.notna(key) else f"row {row + 1}" for row, key in hit.items()]
        return {name: int(mask.sum()), "examples": examples}


def parse_ages(text: pd.Series) -> pd.Series:
    """Years from '58', '58.0', or NIH's '058Y', '011M', '003D'; null where none of these."""
    parts = text.str.strip().str.upper().str.extract(r"^(-?\d+(?:\.\d+)?)([YMWD]?)$")
    days = parts[1].replace("", "Y").map(_DAYS).astype("float64")
    return pd.to_numeric(parts[0], errors="coerce").astype("float64") * days / _DAYS["Y"]


def refuse_contradictions(frame: pd.DataFrame, key: str, source: str) -> None:
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
