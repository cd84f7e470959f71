"""Cells as people write them: a meaning, in one of its many spellings.

A test chooses meanings and writes spellings; what it expects follows from the meanings alone, so
nothing of the reader is repeated here.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

MISSING = (
    *("", "", "", " ", "NA", "N/A", "n.a.", "NaN", "nan", "None", "null", "NULL", "unknown"),
    *("Unknown", "missing", "UNK", "?", "-", "--", "not available", "#N/A", "<NA>", "unspecified"),
)
PADS = ("", "", "", " ", "  ", "\u00a0", "\t", "\u3000", "\u200b", "\ufeff")


def pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def padded(rng: np.random.Generator, text: str) -> str:
    return pick(rng, PADS) + text + pick(rng, PADS)


def spelled(rng: np.random.Generator, text: str) -> str:
    """Another spelling of the same text: padded, decomposed, a whole number as a float."""
    if text.isdecimal() and rng.random() < 0.4:
        text += pick(rng, (".0", ".00", "."))
    if rng.random() < 0.3:
        text = unicodedata.normalize("NFD", text)
    return padded(rng, text)


def cased(rng: np.random.Generator, text: str) -> str:
    """Another spelling of a word of a vocabulary, in which letter case does not count."""
    return spelled(rng, pick(rng, (str, str.lower, str.upper, str.title))(text))


def missing(rng: np.random.Generator) -> str:
    """A cell that says 'not known'."""
    return pick(rng, MISSING)


def write_csv(
    path: Path,
    rng: np.random.Generator,
    columns: list[str],
    rows: list[list[str]],
    encoding: str = "utf-8",
    separator: str = ",",
) -> None:
    """A CSV file with odd ends of line, quotes, spaces about the names, and a note of two lines."""
    end = pick(rng, ("\n", "\r\n"))
    always = rng.random() < 0.3

    def quoted(cell: str) -> str:
        if always or any(c in cell for c in (separator, '"', "\n", "\r")):
            return '"' + cell.replace('"', '""') + '"'
        return cell

    lines = [[padded(rng, name).strip("\ufeff\t\u3000") for name in columns] + ["a note"]]
    lines += [[*row, pick(rng, ("", "two\nlines", 'a "word"', "a, b", "é"))] for row in rows]
    body = [separator.join(map(quoted, line)) for line in lines]
    if rng.random() < 0.2:
        body.insert(int(rng.integers(1, len(body) + 1)), "")  # a blank line
    text = end.join(body) + pick(rng, (end, "", end + end))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding, "replace"))
