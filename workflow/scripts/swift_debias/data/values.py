"""What a cell of a table says: one way to read it, and one list of words for 'not known'.

Labels, groups, ids and codes all go through here. Nothing heavy is imported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# In lower case. A config may claim a word for a value: `positive: [none]` makes 'none' a value.
MISSING = frozenset(
    (
        *(
            "",
            "-",
            "--",
            "---",
            "\N{EN DASH}",
            "\N{EM DASH}",
            "\N{MINUS SIGN}",
            ".",
            "?",
            "??",
            "???",
        ),
        *("na", "n/a", "n.a.", "n.a", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "nat"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#value!", "#ref!", "#div/0!"),
        *("#num!", "#name?", "#null!"),
        *("\\n", "(null)", "<null>"),  # \N: a null as databases export it
        *("none", "null", "nil", "void", "empty", "missing", "undefined", "unspecified"),
        *("unknown", "unkown", "unk", "not available", "not applicable", "not known"),
        *("not recorded", "not reported", "not specified", "not stated", "no data", "no value"),
        *("not provided", "not given", "not collected", "not entered", "not answered", "no answer"),
        *("(blank)", "[blank]", "<blank>", "n/d", "tbd", "to be determined", "withheld"),
        *("redacted", "k.a.", "k.a", "keine angabe", "unbekannt", "inconnu", "inconnue"),
        *("non renseign\N{LATIN SMALL LETTER E WITH ACUTE}", "desconocido", "desconocida"),
        *("sconosciuto", "sconosciuta", "onbekend"),
    )
)

# What stands in the place of everybody's id, and is no person: in lower case.
_NOBODY = frozenset(
    (
        *("anonymous", "anonymized", "anonymised", "anon", "anonym", "removed", "deidentified"),
        *("de-identified", "no id", "no patient", "nobody", "dummy", "xx", "xxx", "xxxx", "xxxxx"),
        *("-1", "-9", "-99", "-999", "-9999"),
    )
)

# Beside numbers: what they mean is said by their column alone.
_CODES = frozenset(
    (
        *("yes", "no", "y", "n", "true", "false", "t", "f", "+", "+ve", "-ve"),
        *("positive", "negative", "pos", "neg", "present", "absent"),
    )
)

_WHOLE = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
INVISIBLE = "\ufeff\u200b\u200e\u200f"  # byte order mark, zero-width space, marks of direction


def plain(value: Any) -> str:
    """A cell's text: composed Unicode (NFC), trimmed, a whole number without '.0'.

    Spreadsheets and pandas turn the id 56 into 56.0, and leave spaces behind. What is null is ''.
    """
    text = "" if _is_null(value) else unicodedata.normalize("NFC", str(value))
    previous = None
    while text != previous:  # spaces may stand on either side of an invisible mark
        previous, text = text, text.strip().strip(INVISIBLE)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def is_missing(value: Any) -> bool:
    """Whether a cell says that its value is not known.

    Words for it are also read in brackets, with underscores, a point behind them or loose slashes:
    '[unknown]', 'not_available', 'N / A'. '####' is what a spreadsheet shows of a narrow column.
    """
    text = plain(value).casefold()
    return text in MISSING or _loosened(text) in MISSING or re.fullmatch("##+", text) is not None


def is_nobody(value: Any) -> bool:
    """Whether an id is of no person: it is not known, or stands for everybody ('anonymous', -1)."""
    text = plain(value).casefold()
    return is_missing(text) or text in _NOBODY or _loosened(text) in _NOBODY


def _loosened(text: str) -> str | None:
    """The words of a cell without what people put around and between them; None without a letter.

    '(-)' is an answer, and no dash.
    """
    if not any(map(str.isalpha, text)):
        return None
    words = re.sub(r"[\s_]+", " ", text)
    return re.sub(r" ?/ ?", "/", words).strip("()[]<>. ")


# Numbers that tables write for 'not known': 9 and 99 where the others end before, -9, -99 ...
_CODED = re.compile(r"-1|-?(9+|8{2,}|7{2,})", re.ASCII)


def codes_among(numbers: Iterable[float]) -> set[float]:
    """Numbers that may stand for 'not known': -1, -9, 99, 888 ... far outside the others.

    A negative one does where no other is negative, a positive one where it is more than twice as
    large as every other of at least two.
    """
    present = {float(one) for one in numbers}
    coded = {one for one in present if _CODED.fullmatch(f"{one:g}")}
    others = present - coded
    if not others:
        return set()
    low, high = min(others), max(max(others), 0)
    far = len(others) > 1
    return {one for one in coded if (one < 0 <= low) or (far and one > 2 * high)}


def is_code(value: Any) -> bool:
    """Whether a value is a mere code, such as 0, 1 and yes: two tables may well mean opposites."""
    return number(value) is not None or plain(value).casefold() in _CODES


def number(value: Any) -> float | None:
    """The finite number that a cell holds, in digits; None where it holds none.

    Python and pandas alone read 'inf', 'nan', '1_000' and digits of other scripts as numbers.
    """
    text = plain(value)
    if not _NUMBER.fullmatch(text):
        return None
    found = float(text)
    return None if found in (float("inf"), float("-inf")) else found


def as_written(numbers: np.ndarray) -> np.ndarray:
    """Numbers of 16 or 32 bits as the shortest decimals that they are written with, float64.

    Widened alone, the 0.7 of 32 bits is 0.699999988: no 0.7 that a cut, a threshold or a label
    names, and another number than a CSV file of the same column holds. Others are left as they are.
    """
    if numbers.dtype.kind != "f" or numbers.dtype.itemsize >= 8:
        return numbers
    return numbers.astype(str).astype("float64")


def twice(name: Any, header: Iterable[Any]) -> str:
    """What is said of a column's name that two columns have; '' where at most one has it."""
    if list(header).count(name) < 2:
        return ""
    return f"two columns are named {name!r}; rename one, or take it out"


def canonical(value: Any) -> str | float | None:
    """A value in the form in which it is compared: numbers as numbers, words without case.

    So 1, '1' and '1.0' are equal, 'True' and true are, and ' Female ' and 'female' are. Words for
    'not known' are words here, for a config may name one; None is what has no text at all.
    """
    text = plain(value).casefold()
    if text in ("", "nan", "<na>", "nat"):
        return None
    if text in ("true", "false"):
        return float(text == "true")
    found = number(text)
    if found is None:
        return text
    # Long ids: above 2^53 several whole numbers are one float.
    return int(text) if abs(found) > 2**53 and _INTEGER.fullmatch(text) else found


def _is_null(value: Any) -> bool:
    """None, and the nulls of numpy and pandas."""
    return value is None or (not isinstance(value, str) and str(value) in ("nan", "<NA>", "NaT"))
