"""The findings of a cell: one, several between marks, a list as Python writes it, or weighted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import UserError
from .values import INVISIBLE, canonical, is_missing, plain

if TYPE_CHECKING:
    from .adapters.table import LabelColumn

# What people put between the findings of a cell: A|B, A;B, A, B, A/B, A + B, ['A', 'B'].
_BETWEEN = r"[|;,/+&\n\[\](){}'\"]"


# Words before a finding that say it is not there, or not sure; in lower case.
_DENY = (
    r"(?:no|not|non|without|excludes?|excluded|exclude|den(?:y|ies|ied)|rules? out|ruled out|r/o"
    r"|negative|free|absent|absence|unlikely|suspected|suspicious|suspicion|possibl[ey]|versus|vs\.?)"
    r"(?:\s+(?:evidence|signs?|features?|history))?(?:\s+(?:of|for))?"
)


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
    return re.search(rf"(?<!\w){_words(value)}(?!\w)", plain(cell).casefold()) is not None


def denied(cells: pd.Series, values: Iterable[str]) -> pd.Series:
    """Whether a word that denies or doubts it stands right before one of the values; bool."""
    before = re.compile(
        rf"(?<!\w)(?:{_DENY})[\s:-]*(?:(?:an?|any|the)\s+)?"
        rf"(?:{'|'.join(map(_words, values))})(?!\w)"
    )
    found = {cell for cell in cells.dropna().unique() if before.search(plain(cell).casefold())}
    return cells.isin(found)


def _words(value: str) -> str:
    """A value as a pattern, to be looked for in a cell's text without letter case."""
    return re.escape(plain(value).casefold())


def holds_several(text: pd.Series, named: tuple[str, ...]) -> pd.Series:
    """Rows whose cell is made of several values of which one is named, bool."""
    words = {canonical(value) for value in named}
    values = "|".join(re.escape(plain(value)) for value in named)  # they may hold a mark themselves
    space = rf"[\s{INVISIBLE}]*"
    end = rf"({_BETWEEN}|^|$)"
    among = re.compile(rf"{end}{space}({values}){space}{end}", re.IGNORECASE)

    def holds(cell: str) -> bool:
        parts = [part for part in re.split(_BETWEEN, cell) if part.strip()]
        one_is_named = any(canonical(part) in words for part in parts)
        return len(parts) > 1 and (one_is_named or among.search(cell) is not None)

    cells = [cell for cell in text.dropna().unique() if re.search(_BETWEEN, cell)]
    return text.isin([cell for cell in cells if holds(cell)])
