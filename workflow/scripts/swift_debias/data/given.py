"""What the front door is given where it takes several kinds of things: refused in a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError

UP_TO_255 = 128.0  # a set of pixels from 0 to 255 has a brighter one


def refuse_no_frame(df: object) -> None:
    """Refuse what is no table."""
    if not isinstance(df, pd.DataFrame):
        raise UserError(
            f"from_frame: the table must be a pandas DataFrame, not a {type(df).__name__}: "
            "pd.read_csv(path, dtype=str) or pd.DataFrame(...) makes one"
        )


def refuse_no_groups(groups: object) -> None:
    """Refuse groups that are no names with lists of values."""
    example = "groups={'women': ['f', 'female'], 'men': ['m', 'male']}"
    if groups is None:
        return
    if not isinstance(groups, Mapping):
        raise UserError(
            f"groups: are names with lists of values, not a {type(groups).__name__}: {example}"
        )
    for name, values in groups.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise UserError(f"groups: the values of {name!r} must be a list, as in {example}")


def numbers_of(cuts: Any) -> tuple[float, ...] | None:
    """Cuts as numbers; None where there are none.

    Raises:
        UserError: they are no list of numbers.
    """
    if cuts is None:
        return None
    listed = isinstance(cuts, Iterable) and not isinstance(cuts, str | bytes | Mapping)
    found = list(cuts) if listed else []
    if not listed or not all(is_number(value) for value in found):
        raise UserError(f"cuts: a list of numbers is needed, as in cuts=[30, 60], not {cuts!r}")
    return tuple(found)


def refuse_no_draw(fraction: Any, seed: Any) -> None:
    """Refuse a share that is no number between 0 and 1, and a seed that is no whole number."""
    if not is_number(fraction) or not 0 < fraction < 1:
        raise UserError(f"split: a fraction between 0 and 1 is needed, not {fraction!r}")
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"split: the seed must be a whole number from 0, not {seed!r}")


def refuse_not_normalized(pixels: np.ndarray) -> None:
    """Refuse floating pixels from 0 to 255, which no mean and std made.

    What is normalized has numbers below 0, or ends at 1; a network that normalizes by itself can be
    given uint8 with a mean of 0 and a std of 1/255.
    """
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if low >= 0 and UP_TO_255 < high <= 255:
        raise UserError(
            f"floating pixels up to {high:g} are not normalized: give uint8, which mean and std "
            "normalize, or numbers as the network takes them"
        )


def is_number(value: object) -> bool:
    """Whether something is one real number."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
