"""A sensitive attribute: a column cut into groups, or an intersection of others."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from ..base import Label, Line, Model, Number, Value, shown
from ..names import Name


def repeated(values: Iterable[Any]) -> Any:
    """A value that stands there twice, or None."""
    return next((value for value, n in Counter(values).items() if n > 1), None)


def _no_key_twice(entries: Any) -> Any:
    """Refuse keys that are one text: 1 and "1"."""
    if isinstance(entries, Mapping) and (twice := repeated(map(str, entries))):
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return entries


def compared(value: str | float) -> str | float:
    """A group's value as tables are compared with it (`data/groups.py` has the whole rule)."""
    text = str(value).strip().casefold()
    try:
        return float(text)
    except ValueError:
        return text


MOST_CROSSED = 100  # groups of an intersection; more could never hold enough people each


class Attribute(Model):
    """A sensitive attribute: a manifest column cut into groups 0, 1, ... in the order given.

    Either `groups` (lists of values) or `cuts` with `names` (k cuts make k + 1 groups; a value on
    a cut belongs to the upper group). Rows that fall in no group are left out of everything that
    concerns this attribute, and counted.

    Or an intersection, `cross: [sex, age]`: its groups are all combinations of the other
    attributes' groups, called "female, younger" and so on, the last one changing fastest. Who is
    in no group of one of them is in no group of the intersection. It is treated like any attribute
    of more than two groups.
    """

    column: Line | None = None
    groups: Annotated[dict[Label, tuple[Value, ...]], BeforeValidator(_no_key_twice)] | None = None
    cuts: tuple[Number, ...] | None = None
    names: tuple[Label, ...] | None = None
    # People write names; `load.py` puts what they name in their place, so that a job is given all
    # it needs to know.
    cross: (
        Annotated[
            dict[Name, Attribute],
            WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2}),
        ]
        | None
    ) = Field(
        None, description="Names of two or more other attributes, of different columns [ours]."
    )

    @model_validator(mode="after")
    def _is_an_intersection(self) -> Attribute:
        if self.cross is None:
            if self.column is None:
                raise ValueError("column: is missing: groups and cuts are of one")
            return self
        for key in ("column", "groups", "cuts", "names"):
            if getattr(self, key) is not None:
                raise ValueError(f"cross: has its groups from others; leave out {key}:")
        if len(self.cross) < 2:
            raise ValueError("cross: needs at least two attributes")
        for name, part in self.cross.items():
            if part.cross is not None:
                raise ValueError(f"cross: {name!r} is one itself; name its parts here")
        if twice := repeated(self.columns):
            raise ValueError(f"cross: two of them are of column {shown(twice)}")
        count = math.prod(len(part.group_names) for part in self.cross.values())
        if count > MOST_CROSSED:
            raise ValueError(f"cross: makes {count} groups; {MOST_CROSSED} are the most")
        if twice := repeated(self.group_names):
            raise ValueError(f"cross: two groups are called {shown(twice)}")
        return self

    @model_validator(mode="after")
    def _groups_or_cuts(self) -> Attribute:
        if self.cross is not None:
            return self
        if (self.groups is None) == (self.cuts is None):
            raise ValueError("give either groups: or cuts: with names:")
        if self.groups is not None and self.names is not None:
            raise ValueError("names: go with cuts:, the groups have names already")
        if self.cuts is not None:
            if self.names is None or len(self.names) != len(self.cuts) + 1:
                raise ValueError(f"{len(self.cuts)} cuts need {len(self.cuts) + 1} names")
            if list(self.cuts) != sorted(set(self.cuts)):
                raise ValueError("cuts must increase")
        if len(self.group_names) < 2:
            raise ValueError("an attribute needs at least two groups")
        if twice := repeated(self.group_names):
            raise ValueError(f"two groups are called {shown(twice)}")
        seen: dict[str | float, str] = {}
        for group, values in (self.groups or {}).items():
            if not values:
                raise ValueError(f"group {shown(group)} has no values")
            for value in values:
                if (other := seen.setdefault(compared(value), group)) != group:
                    both = f"{shown(other)} and {shown(group)}"
                    raise ValueError(f"the value {shown(value)} is in two groups, {both}")
        return self

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of their indices 0, 1, ..."""
        if self.cross is not None:
            of_parts = (part.group_names for part in self.cross.values())
            return tuple(map(", ".join, itertools.product(*of_parts)))
        return tuple(self.groups) if self.groups is not None else (self.names or ())

    @property
    def columns(self) -> tuple[str, ...]:
        """The manifest columns that it is made of."""
        if self.cross is not None:
            return tuple(column for part in self.cross.values() for column in part.columns)
        return () if self.column is None else (self.column,)
