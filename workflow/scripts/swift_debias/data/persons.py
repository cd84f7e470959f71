"""Ids of patients and lesions: when two are one, which are nobody's, and what is odd about them.

Both doors ask here: the tables of the workflow (`rows.Rows.result`) and those of a call
(`columns.patient_column`).

Letter case does not count: P1 and p1 are one. Leading zeros do, for 007 and 7 may be two people; a
note says where ids differ in nothing else. A digest whose letters differ in case alone is not to be
expected among people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from ..errors import UserError
from .values import is_nobody, plain

# What a spreadsheet leaves of a long number: 1.23457E+11. Of a digest '+' is no part.
_LOST_DIGITS = re.compile(r"[+-]?\d(?:[.,]\d+)?e\+\d+", re.IGNORECASE)
MANY = 10  # images: of fewer nobody is suspected to be several
FAR = 5  # times as many images as the next has
ODD = 5  # ids that may have so many
SHOWN = 3  # that a note names


def ids(column: pd.Series, what: str) -> pd.Series:
    """Ids in the form in which they are compared, str; null where they are nobody's.

    7, '7' and ' 7.0 ' are one id, and so are 'P1' and 'p1', in the spelling that sorts first.

    Args:
        column: of a table.
        what: its name, for a message.

    Raises:
        UserError: a spreadsheet has rounded the ids.
    """
    texts = {cell: plain(cell) for cell in column.dropna().unique() if not is_nobody(cell)}
    lost = [text for text in texts.values() if _LOST_DIGITS.fullmatch(text)]
    if lost:
        raise UserError(
            f"{what}: {lost[0]!r} has lost its digits in a spreadsheet, and with it {len(lost):,} "
            "ids: export the table anew, with the column as text"
        )
    first: dict[str, str] = {}
    for text in sorted(texts.values()):
        first.setdefault(same(text), text)
    return column.map({cell: first[same(text)] for cell, text in texts.items()}).astype("str")


def same(text: str) -> str:
    """What two ids have in common that are one: all but letter case."""
    return text.casefold()


def without_zeros(text: str) -> str:
    """An id without the zeros before its numbers: of P007 P7."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", same(text))


class IdNote(NamedTuple):
    """What may be wrong with some ids: which rows, bool; a sentence without ids; and the ids."""

    rows: pd.Series
    text: str
    examples: list[str]

    @property
    def in_full(self) -> str:
        """For the eyes of whoever has the table; a report holds no id of a patient."""
        shown = ", ".join(map(repr, self.examples[:SHOWN]))
        return f"{self.text} ({int(self.rows.sum()):,} rows, such as {shown})"


def id_notes(written: pd.Series, found: pd.Series, what: str) -> Iterator[IdNote]:
    """What may be wrong with some ids; nothing where nothing is.

    Args:
        written: what stands in the table, null where that is not known.
        found: what `ids` made of it.
        what: whose ids they are: patient or lesion.
    """
    spelled = written.map(plain, "ignore")
    several = found.groupby(found.map(without_zeros, "ignore")).transform("nunique").gt(1)
    odd = (
        (written.notna() & found.isna(), f"{what} id is a word for nobody; unknown"),
        (
            found.notna() & (spelled != found),
            f"{what} id differs from another in letter case alone; they are one",
        ),
        (
            several,
            f"{what} id differs from another in leading zeros alone; taken as different: if they "
            "are the same, write them alike",
        ),
        (
            found.isin(crowded(found)),
            f"{what} id has far more images than any other; if it stands for nobody, make it "
            "unknown",
        ),
    )
    for rows, text in odd:
        if rows.any():
            yield IdNote(rows, text, sorted(spelled[rows].dropna().unique()))


def crowded(found: pd.Series) -> list[str]:
    """Ids of far more images than all others: placeholders more often than people.

    One to `ODD` ids of at least `MANY` images, each `FAR` times as many as the next id below has.
    """
    counts = found.value_counts()
    for number in range(min(ODD, len(counts) - 1), 0, -1):
        if counts.iloc[number - 1] >= max(MANY, FAR * counts.iloc[number]):
            return sorted(counts.index[:number])
    return []
