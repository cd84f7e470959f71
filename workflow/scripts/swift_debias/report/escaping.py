"""Names and titles are the user's: how they are written so that no format takes them for its own.

Each function is undone by a reader of its format. HTML is `html.escape`'s.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pandas as pd

# What a spreadsheet takes for a formula, or skips before it looks for one (OWASP, CSV injection).
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def one_line(text: str) -> str:
    """On one line, with single blanks and without control characters."""
    joined = " ".join(text.split())
    return "".join(c for c in joined if unicodedata.category(c) not in ("Cc", "Cs"))


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet computes: text that looks like a formula gets a quote before it.

    Numbers stay, also where they are text: -0.3 is no formula. Text that has the quote already gets
    another one, so that taking one away always gives the text. Line breaks are those of the file,
    since another one would end the row unquoted.
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv(frame: pd.DataFrame, float_format: str | None = "%.10g") -> str:
    """A frame as CSV for people."""
    safe = frame.rename(columns=csv_cell)
    for name, kind in frame.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind):
            safe[csv_cell(name)] = frame[name].astype("object").map(csv_cell)
    return safe.to_csv(index=False, lineterminator="\n", float_format=float_format)


_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def markdown(text: str) -> str:
    """Text of a Markdown table's cell; an underscore inside a word means nothing there."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\g<0>", plain)


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        # braces: after \\ and \midrule these would open an option
        **{character: f"{{{character}}}" for character in "[]*"},
        "\0": "{}",  # one_line leaves none
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "`": r"\textasciigrave{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "–": "--",
        "·": r"$\cdot$",
    }
)


def latex(text: str) -> str:
    """Text in a LaTeX document. Two hyphens stay two: together they would be a dash."""
    return re.sub("-(?=-)", "-\0", one_line(text)).translate(_LATEX)


def mathtext(text: str) -> str:
    """Text in a figure: a dollar is a dollar."""
    return text.replace("$", r"\$")


def anchor(text: str) -> str:
    """An id in HTML or a label in LaTeX: other signs than letters, digits and _.- by their code."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"-{ord(found[0]):x}-", text)
