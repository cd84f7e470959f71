"""The findings of a cell: one, several between marks, a list as Python writes it, or weighted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import UserError
from .values import INVISIBLE, canonical, is_missing, plain

if TYPE_CHECKING:
    from .adapters.table import LabelColumn

# What people put between the findings of a cell: A|B, A;B, A, B, A/B, A + B, ['A', 'B'].
_BETWEEN = r"[|;,/+&\n\t\\、·•\[\](){}'\"]"
# The ends of a word; an underscore is none of it, for it stands where others write a space.
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"


# Words before a finding that say it is not there, and those that leave it open; in lower case.
_DENY = r"no|not|non|without|excluded|den(?:y|ies|ied)|ruled out|negative|free|absent|absence"
_DOUBT = (
    r"excludes?|rules? out|r/o|unlikely|suspected|suspicious|suspicion|possibl[ey]|versus|vs\.?"
)
_BEFORE = (
    rf"{_START}(?:{{words}})(?:\s+(?:evidence|signs?|features?|history))?(?:\s+(?:of|for))?"
    r"[\s_:-]*(?:(?:an?|any|the)\s+)?"
)
# A cell of these words alone says that its label is not certain.
_UNSURE = re.compile(
    r"uncertain(?:ty)?|unsure|unclear|unsettled|unresolved|indeterminate|undetermined|undecided"
    r"|inconclusive|equivocal|ambiguous|questionable|doubtful|possibl[ey]|probabl[ey]|suspected"
    r"|suspicious|maybe|pending(?: .*)?|awaiting .*|deferred|tb[acdr]"
    r"|(?:to be|not(?: yet)?) (?:reviewed|confirmed|determined|decided|done|read|certain|sure"
    r"|evaluated|assessed|performed|interpretable|readable|diagnostic|classified)"
    r"|unklar|unsicher|fraglich|incertaine?|inciert[oa]|dudos[oa]|incert[oa]|non[ -]?diagnostic"
    r"|see (?:the )?(?:report|notes?|comments?)|(?:needs? )?review(?: needed)?"
)
UNCERTAIN = -1.0  # as CheXpert's labeler says it, where 0 and 1 are certain


def findings_of(text: pd.Series, label: LabelColumn) -> pd.Series:
    """The findings of each cell, several a row; null where a cell has none that is known.

    Args:
        text: the label's column, str.
        label: how its cells are to be read.

    Returns:
        str, with the index of `text`, repeated where a cell has several findings.

    Raises:
        UserError: a cell is not of the form that the config names.
    """
    if label.least_weight is None and label.separator is None:
        return text
    words = {canonical(value) for value in label.named}

    def parts(cell: str) -> list[str]:
        found = [plain(part) for part in _split(cell, label)]
        return [part for part in found if not is_missing(part) or canonical(part) in words]

    cells = {cell: parts(cell) for cell in text.dropna().unique()}
    return text.map(cells, "ignore").explode().astype("str")


def _split(cell: str, label: LabelColumn) -> Sequence[str]:
    """What stands in a cell, in order."""
    listed = literal(cell)
    if label.least_weight is not None:
        if not isinstance(listed, dict):
            raise UserError(
                f"label.least_weight: column {label.column!r} has {cell!r}, which is no list of "
                "weights such as {'Eczema': 0.67}"
            )
        return [name for name, weight in listed.items() if float(weight) >= label.least_weight]
    if isinstance(listed, dict):
        raise UserError(
            f"label: column {label.column!r} weighs its findings, as in {cell!r}: say "
            "label.least_weight"
        )
    if listed is not None:
        return [str(one) for one in listed]
    return [part.strip(" []'\"") for part in cell.split(label.separator)]


def literal(cell: str) -> dict[str, float] | list[object] | None:
    """A list or mapping as Python writes it; None where the cell is none."""
    if cell[:1] + cell[-1:] not in ("[]", "{}", "()"):
        return None
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(found, dict):
        numbers = all(isinstance(weight, int | float) for weight in found.values())
        return {str(name): weight for name, weight in found.items()} if numbers else None
    return list(found) if isinstance(found, list | tuple | set) else None


def with_words(cells: pd.Series, values: Iterable[str]) -> pd.Series:
    """Whether the words of one of the values stand in a finding, next to others; bool."""
    found = {cell for cell in cells.dropna().unique() for v in values if _stands_in(v, cell)}
    return cells.isin(found)


def _stands_in(value: str, cell: str) -> bool:
    """Whether a value's words stand whole in a cell, letter case overlooked."""
    return re.search(rf"{_START}{_words(value)}{_END}", plain(cell).casefold()) is not None


def denied(cells: pd.Series, values: Iterable[str]) -> pd.Series:
    """Whether a word that denies or doubts it stands right before one of the values; bool."""
    before = _behind(f"{_DENY}|{_DOUBT}", values)
    found = {cell for cell in cells.dropna().unique() if before.search(plain(cell).casefold())}
    return cells.isin(found)


def _behind(words: str, values: Iterable[str]) -> re.Pattern[str]:
    """One of the values right behind one of some words, to be looked for without letter case."""
    return re.compile(rf"{_BEFORE.format(words=words)}(?:{'|'.join(map(_words, values))}){_END}")


def _words(value: str) -> str:
    """A value as a pattern, to be looked for in a cell's text without letter case.

    Its words may stand behind a space or an underscore.
    """
    words = re.split(r"[\s_]+", plain(value).casefold())
    return r"[\s_]+".join(map(re.escape, words))


def no_rest(cells: pd.Series, named: Sequence[Any]) -> Iterator[tuple[pd.Series, str]]:
    """Cells that are not of class 0 merely because no value names them: which (bool), and why.

    Asked wherever every other value is class 0, by a configuration (`rest_is_negative`) or by a
    call. A cell that is a named value itself is meant; so is one that denies it ('no melanoma').

    Args:
        cells: any values; of cells with several findings the findings.
        named: the values that are named, of any class.
    """
    words = {canonical(value) for value in named}
    texts = {cell: plain(cell) for cell in cells.dropna().unique() if canonical(cell) not in words}
    unsure = {cell for cell, text in texts.items() if _is_unsure(text)}
    yield cells.isin(unsure), "says that the label is not certain"
    if words & {0.0, 1.0}:
        yield (
            cells.isin([cell for cell in texts if canonical(cell) == UNCERTAIN]),
            "beside 0 and 1 is an uncertain label",
        )
    several = _several_in(texts.values(), named) | _hidden_in(texts.values(), named)
    yield (
        cells.isin([cell for cell, text in texts.items() if text in several]),
        "holds a named value among others",
    )


def _is_unsure(text: str) -> bool:
    """Whether a cell says that its label is not certain: in a word for it, or by a '?' behind."""
    words = " ".join(re.split(r"[\s_]+", text.casefold())).strip(" .!*()[]<>")
    return words.endswith("?") or _UNSURE.fullmatch(words) is not None


def _hidden_in(texts: Iterable[str], named: Iterable[Any]) -> set[str]:
    """Texts in which the words of a named value stand, and nothing before them denies it.

    Numbers are no words: 1 is not in '1.5' and '2020-01-01', nor yes in 'yesterday'.
    """
    values = sorted((v for v in map(plain, named) if re.search(r"[^\W\d_]", v)), key=len)[::-1]
    if not values:
        return set()
    denied_ones = _behind(_DENY, values)
    one = re.compile(rf"{_START}(?:{'|'.join(map(_words, values))}){_END}")
    return {text for text in texts if one.search(denied_ones.sub("|", text.casefold()))}


def holds_several(text: pd.Series, named: Sequence[Any]) -> pd.Series:
    """Rows whose cell is made of several values of which one is named, bool."""
    return text.isin(_several_in(text.dropna().unique(), named))


def _several_in(texts: Iterable[str], named: Sequence[Any]) -> set[str]:
    words = {canonical(value) for value in named}
    values = "|".join(re.escape(plain(value)) for value in named)  # they may hold a mark themselves
    space = rf"[\s{INVISIBLE}]*"
    end = rf"({_BETWEEN}|^|$)"
    among = re.compile(rf"{end}{space}({values}){space}{end}", re.IGNORECASE)

    def holds(cell: str) -> bool:
        parts = [part for part in re.split(_BETWEEN, cell) if part.strip()]
        one_is_named = any(canonical(part) in words for part in parts)
        return len(parts) > 1 and (one_is_named or among.search(cell) is not None)

    return {cell for cell in texts if re.search(_BETWEEN, cell) and holds(cell)}
