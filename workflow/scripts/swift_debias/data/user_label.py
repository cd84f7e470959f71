"""The class of each row of a user's table, and of each image where several rows are of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import UserError
from . import groups
from .findings import denied, findings_of, holds_several, no_rest, with_words
from .rows import Rows, written
from .values import canonical

if TYPE_CHECKING:
    from .adapters.table import LabelColumn

DENIALS = 5  # cells that a note names
NO_CLASS = "label is none of the classes' values"


def raw(column: str) -> str:
    """Name of a column of the table: kept apart from the manifest's, which may be the same."""
    return f"table: {column}"


def add_label(rows: Rows, label: LabelColumn) -> None:
    """Class 1 and 0; rows of no class are left out.

    With a `separator` a cell holds several findings: it is of class 1 if one of them is, and of
    class 0 if one of them is; of both classes it is left out.
    """
    name, text = label.column, rows.frame[raw(label.column)]
    if label.positive is None:
        return _any_class(rows, label, text)
    findings = findings_of(text, label)
    become = {key: label.uncertain if label.uncertain_is == key else () for key in
              ("drop", "positive", "negative")}  # fmt: skip

    def having(values: tuple[str, ...], key: str, required: bool = True) -> pd.Series:
        return matching(
            rows, name, findings, values, f"label.{key}", required=required, contains=label.contains
        )

    unknown = having(label.unknown, "unknown", False)
    uncertain = having(become["drop"], "uncertain", False)
    positive = having(label.positive, "positive") | having(become["positive"], "uncertain", False)
    negative = having(label.negative or (), "negative", not label.rest_is_negative)
    if label.rest_is_negative:  # what is left is class 0, but for what is not known
        decided = positive | unknown | uncertain
        _refuse_no_rest(label, findings[~decided[findings.index].to_numpy()])
        negative = findings.notna().groupby(level=0).any() & ~positive & ~unknown & ~uncertain
    negative |= having(become["negative"], "uncertain", False)
    if label.empty_is_negative:
        negative |= rows.frame[written(raw(name))].isna()
    several = _several_findings(text, label, positive & negative, unknown | uncertain)
    known = ~unknown & ~uncertain
    positive, negative = positive & known, negative & known
    left_out = ~(positive ^ negative)
    rows.frame["label"] = positive.astype("int8")
    if label.contains:
        _note_denials(rows, label, findings)
    rows.frame["diagnosis"] = text if not label.empty_is_negative else text.fillna("(empty)")
    rows.show_values("label", raw(name), positive.astype("int8").astype("str").mask(left_out))
    rows.frame["several"] = several & left_out
    rows.frame["uncertain"] = uncertain & ~unknown
    rows.frame["no class"] = left_out & ~several & ~rows.frame["uncertain"]
    rows.drop(rows.frame["no class"], NO_CLASS)
    if become["drop"]:
        rows.drop(rows.frame["uncertain"], "uncertain label")
    if label.separator is not None or rows.frame["several"].any():
        rows.drop(
            rows.frame["several"],
            "findings of both classes in a field"
            if label.separator is not None
            else "several findings in a field (label.separator is not given)",
        )


def _note_denials(rows: Rows, label: LabelColumn, findings: pd.Series) -> None:
    """Cells such as 'no melanoma', in which `contains` finds the word that they deny."""
    for key, values in (("positive", label.positive), ("negative", label.negative)):
        if not values:
            continue
        # A cell that is a value itself is meant, and one that is unknown is left out.
        hits = denied(findings, values) & ~groups.matches(findings, label.named)
        hits &= ~with_words(findings, label.unknown)
        if not hits.any():
            continue
        counts = findings[hits].value_counts()
        cells = ", ".join(f"{cell!r} ({n:,})" for cell, n in counts[:DENIALS].items())
        more = f" and {len(counts) - DENIALS:,} others" if len(counts) > DENIALS else ""
        rows.note(
            hits.groupby(level=0).any(),
            f"label.contains takes fields for {key} in which a word before it denies or doubts it: "
            f"{cells}{more}; name such fields under label.unknown or without contains:",
        )


def _any_class(rows: Rows, label: LabelColumn, text: pd.Series) -> None:
    """Every known cell is a diagnosis; the task says which class it is of (`classes.py`)."""
    unknown = text.isna()
    if label.unknown:
        unknown |= matching(
            rows, label.column, text, label.unknown, "label.unknown", required=False
        )
    rows.frame["label"] = np.zeros(len(text), np.int8)
    rows.frame["diagnosis"] = text
    rows.decides = "diagnosis"
    rows.frame["no class"] = unknown
    rows.drop(rows.frame["no class"], NO_CLASS)


def _several_findings(
    text: pd.Series, label: LabelColumn, both: pd.Series, unknown: pd.Series
) -> pd.Series:
    """Rows whose cell has several findings where the config expects one, or has both classes."""
    if label.separator is not None or label.least_weight is not None or label.contains:
        return both
    several = text.notna() & holds_several(text, label.named) & ~unknown
    several &= ~groups.matches(text, label.named)
    return several


def _refuse_no_rest(label: LabelColumn, findings: pd.Series) -> None:
    """Refuse what is not of class 0 merely because no value names it (`findings.no_rest`).

    Raises:
        UserError: names the first such cell, and how it can be named.
    """
    if label.contains:  # what holds a value is of its class then, and denials are noted
        findings = findings[~with_words(findings, label.named)]
    for these, why in no_rest(findings, label.named):
        if not these.any():
            continue
        say = "say label.separator (such as '|'), or "
        mark = say if label.separator is None else "is label.separator right? Else "
        mark = mark if "among" in why and label.least_weight is None else ""
        cell, rows = findings[these].iloc[0], findings[these].index.nunique()
        raise UserError(
            f"label.rest_is_negative: column {label.column!r} has {cell!r} in {rows:,} rows, which "
            f"{why}: {mark}name it as a whole under label.positive, label.negative, "
            "label.uncertain or label.unknown"
        )


def one_row_an_image(rows: Rows, label: LabelColumn) -> None:
    """Make one row of those of an image; what its rows say differently is unknown, and noted.

    Rows of no class have left already and have no vote. With `reader` all rows of one reader are
    one vote: a box of the finding among others makes it positive.

    Raises:
        UserError: rows of one image name different files.
    """
    frame, key = rows.frame, rows.key
    if several_paths := _differing(frame, key, "path"):
        raise UserError(
            f"label.several_rows: {len(several_paths):,} images have rows with different paths, "
            f"such as {min(several_paths)!r}: image_id is to name one image"
        )
    votes = frame.set_index(key)["label"].astype("float64")
    if label.reader is not None:
        by = [key, raw(label.reader)]
        named = frame.assign(**{by[1]: frame[by[1]].fillna("(not named)")})
        votes = named.groupby(by)["label"].max().astype("float64").droplevel(1)
    shares = votes.groupby(level=0).agg(["min", "max", "mean"])
    classes = {
        "any": shares["max"],
        "all": shares["min"],
        "majority": (shares["mean"] > 0.5).astype("float64").mask(shares["mean"] == 0.5),
    }[label.several_rows]
    differ = _differing(frame, key, "label")
    words = frame.groupby(key)["diagnosis"].agg(lambda cells: "; ".join(dict.fromkeys(cells)))
    skipped = {"label", "diagnosis", key, raw(label.column)}
    skipped |= {raw(label.reader)} if label.reader is not None else set()
    several = {
        column: _differing(frame, key, column)
        for column in map(str, frame)
        if column not in skipped and column.startswith("table: ")
    }
    rows.drop(
        frame.duplicated(key), f"further rows of an image (several_rows: {label.several_rows})"
    )
    of_image = rows.frame[key]
    rows.note(of_image.isin(differ), "rows of the image are of both classes")
    for column, conflict in several.items():
        unclear = of_image.isin(conflict)
        rows.note(unclear, f"rows of the image differ in {column.removeprefix('table: ')}; unknown")
        rows.frame[column] = rows.frame[column].mask(unclear)
        rows.frame[written(column)] = rows.frame[written(column)].mask(unclear)
    rows.frame["diagnosis"] = of_image.map(words)
    decided = of_image.map(classes)
    rows.frame["label"] = decided.fillna(0).astype(np.int8)
    rows.frame["tie"] = decided.isna()
    if label.several_rows == "majority":
        rows.drop(rows.frame["tie"], "as many rows or readers for either class")


def _differing(frame: pd.DataFrame, key: str, column: str) -> set[str]:
    """Keys whose rows have different values of a column; null differs from nothing."""
    pairs = frame[[key, column]].dropna().drop_duplicates()
    return {*pairs.loc[pairs[key].duplicated(), key]}


def matching(
    rows: Rows,
    column: str,
    cells: pd.Series,
    values: tuple[str, ...],
    key: str,
    *,
    required: bool = True,
    contains: bool = False,
) -> pd.Series:
    """Rows that have one of the values that a config's key names, bool; values of none are noted.

    Args:
        rows: the table.
        column: its name, for messages.
        cells: its cells, several a row where a cell holds several values.
        values: what the config names.
        key: the config's key.
        required: refuse where no row has any of the values.
        contains: a value's words among others count too.

    Raises:
        UserError: none has, which is a misspelling more often than not.
    """
    hits = with_words(cells, values) if contains else groups.matches(cells, values)
    present = cells.dropna().unique()
    if required and not hits.any():
        shown = ", ".join(map(repr, sorted(present)[:20]))
        raise UserError(
            f"{key}: no row has {' or '.join(values)} in column {column!r}; "
            f"its values are {shown or 'all empty'}"
        )
    if contains:
        absent = [value for value in values if not with_words(cells, (value,)).any()]
    else:
        found = {canonical(cell) for cell in present}
        absent = [value for value in values if canonical(value) not in found]
    if absent:
        rows.tell(f"values of {key} that no row has", absent)
    return hits.groupby(level=0).any()
