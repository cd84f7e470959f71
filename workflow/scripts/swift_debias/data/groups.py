"""Groups of a sensitive attribute: from a manifest's column to indices 0, 1, ..."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..config.schema import Attribute, annotated
from ..errors import UserError
from .manifest import stored_column
from .values import canonical, is_missing, number


def matches(series: pd.Series, values: Iterable[Any]) -> pd.Series:
    """Whether each entry equals one of the values in the sense of `canonical`; bool, no nulls."""
    wanted = {canonical(value) for value in values} - {None}
    hits = [value for value in series.dropna().unique() if canonical(value) in wanted]
    return series.isin(hits)


def groups_in(frame: pd.DataFrame, attribute: Attribute) -> np.ndarray:
    """Group of each row of a manifest, or of a table with its columns; see `group_index`.

    Of an intersection: the number of the combination in the order of `Attribute.group_names`; -1
    where one of its attributes is -1.
    """
    if attribute.cross is None:
        (column,) = attribute.columns
        return group_index(column_of(frame, column), attribute)
    parts = np.stack([groups_in(frame, part) for part in attribute.cross.values()])
    sizes = [len(part.group_names) for part in attribute.cross.values()]
    combined = np.ravel_multi_index(tuple(parts.clip(0)), sizes)
    return np.where((parts < 0).any(axis=0), -1, combined).astype(np.int16)


def column_of(frame: pd.DataFrame, column: str) -> pd.Series:
    """A column of a manifest; of a skin type by another rule the annotation, if not measured."""
    stored = stored_column(column)
    return frame[stored if stored in frame else annotated(column)]


def are_in(frame: pd.DataFrame, attribute: Attribute) -> bool:
    """Whether a manifest has the columns that an attribute is made of."""
    return all(
        stored_column(column) in frame or annotated(column) in frame for column in attribute.columns
    )


def group_index(series: pd.Series, attribute: Attribute) -> np.ndarray:
    """Group of each row.

    Args:
        series: values of the attribute's column, any type.
        attribute: its groups (compared as in `canonical`) or cuts (a value on a cut belongs to
            the upper group).

    Returns:
        int16 (N,): 0, 1, ... in the order of the groups; -1 where the value is null or in none.

    Raises:
        UserError: a value stands in two groups, or text is to be cut.
    """
    if attribute.cuts is not None:
        known = series.mask(series.map(is_missing))
        numbers = known.map(number, "ignore").astype("float64").to_numpy()
        unreadable = known[known.notna() & np.isnan(numbers)]
        if len(unreadable):
            raise UserError(
                f"attribute on column {attribute.column!r}: cuts need numbers, "
                f"but there is {unreadable.iloc[0]!r}"
            )
        index = np.searchsorted(attribute.cuts, numbers, side="right")
        return np.where(np.isnan(numbers), -1, index).astype(np.int16)
    groups: dict[str | float | None, int] = {}
    for place, (name, values) in enumerate((attribute.groups or {}).items()):
        for value in values:
            if groups.setdefault(canonical(value), place) != place:
                raise UserError(
                    f"attribute on column {attribute.column!r}: {value!r} is in two groups, "
                    f"one is {name!r}"
                )
    of_value = {value: groups.get(canonical(value), -1) for value in series.dropna().unique()}
    return series.map(of_value).fillna(-1).to_numpy(np.int16)
