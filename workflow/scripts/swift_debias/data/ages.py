"""Ages in years from what tables hold instead: dates of birth, and bands such as AGE_30_TO_39."""

from __future__ import annotations

import datetime
import math
import re

import numpy as np
import pandas as pd

from .rows import DAYS
from .values import plain

_DATE = re.compile(r"(\d{4})(?:-?(\d{2})-?(\d{2}))?(?:[ T].*)?")
_OPEN = re.compile(r"\+|>|≥|above|over|older|more", re.IGNORECASE)
_BELOW = re.compile(r"<|≤|under|below|younger|less", re.IGNORECASE)
# A unit as a word, or as the letter behind a number: '6-12 months', '0-28 d', '6-12m'.
_UNIT = re.compile(r"(?<![a-z])(?:years?|yrs?|months?|mos?|weeks?|wks?|days?)(?![a-z])"
                   r"|(?<=\d)[ ]?[ymwd](?![a-z])", re.IGNORECASE)  # fmt: skip
_INTERVAL = re.compile(r"([\[(])(\d+\.?\d*), *(\d+\.?\d*)([\])])")
_EARLIEST, _LATEST = 1800, 2200  # years: MIMIC shifts its dates to about 2200


def from_birth(born: pd.Series, seen: pd.Series) -> pd.Series:
    """Age at a date in years, float64: completed years of two dates, else the difference of years.

    Args:
        born: date or year of birth, str: YYYY, YYYYMMDD, YYYY-MM-DD; other forms are not guessed.
        seen: date or year at which the age is wanted, in the same forms.

    Returns:
        Null where one of them is missing or unreadable; negative where a date is before the birth.
    """
    pairs = zip(born.map(_date, "ignore"), seen.map(_date, "ignore"), strict=True)
    return pd.Series([_years(one, other) for one, other in pairs], born.index, "float64")


def from_band(cells: pd.Series, unit: str = "years") -> pd.Series:
    """The middle of a band of ages in whole years, float64: 30 to 39 is 35; 80+ is 80, <18 is 9.

    Both ends are inside, so the middle is that of 30 years and the end of the 39th. An end of
    `[30, 40)` at a round bracket is outside. Months, weeks and days are made years; null where a
    band has two units, or is none. A band without a unit is of `unit`.
    """
    return cells.map(lambda cell: _middle(cell, unit), "ignore").astype("float64")


def _years(born: object, seen: object) -> float:
    if not (isinstance(born, tuple) and isinstance(seen, tuple)):
        return float("nan")
    years = seen[0] - born[0]
    if len(born) == len(seen) == 3:
        years -= seen[1:] < born[1:]
    return float(years)


def _date(cell: str) -> tuple[int, ...] | None:
    """(year,) or (year, month, day)."""
    found = _DATE.fullmatch(plain(cell))
    if found is None or not _EARLIEST <= int(found[1]) <= _LATEST:
        return None
    if found[2] is None:
        return (int(found[1]),)
    try:
        day = datetime.date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
    return (day.year, day.month, day.day)


def _middle(cell: str, unit: str) -> float:
    units = {found.strip()[0].upper() for found in _UNIT.findall(cell) or [unit]}
    if len(units) > 1:
        return np.nan
    interval = _INTERVAL.search(cell)
    middle = _middle_of_words(cell) if interval is None else _middle_between(*interval.groups())
    return middle * DAYS[units.pop()] / DAYS["Y"]


def _middle_between(opens: str, low: str, high: str, closes: str) -> float:
    """Of `[30, 40)`: that of 30 and the end of 39."""
    first = math.floor(float(low)) + 1 if opens == "(" else math.ceil(float(low))
    last = math.ceil(float(high)) - 1 if closes == ")" else math.floor(float(high))
    return (first + last + 1) / 2 if first <= last else np.nan


def _middle_of_words(cell: str) -> float:
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)]
    if len(numbers) == 2 and numbers[0] < numbers[1]:
        return (numbers[0] + numbers[1] + 1) / 2
    if len(numbers) == 1 and _OPEN.search(cell):
        return numbers[0]
    if len(numbers) == 1 and _BELOW.search(cell):
        return numbers[0] / 2
    return numbers[0] if len(numbers) == 1 and re.fullmatch(r"[\d.]+", cell) else np.nan
