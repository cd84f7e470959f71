"""What a network was trained with: how its pixels are normalized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..config.schema import IMAGENET_MEAN, IMAGENET_STD, normalization_problem
from ..errors import UserError


class Normalization(NamedTuple):
    """Mean and standard deviation of the channels, on [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """From any sequences, such as the settings' plain values.

        Raises:
            UserError: they are no sequences of numbers, of different lengths, or not on [0, 1].
        """
        made = cls(_numbers("mean", mean), _numbers("std", std))
        if problem := normalization_problem(*made):
            raise UserError(problem)
        return made


def _numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """A number a channel."""
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(
            f"{name}: a number for each channel is needed, as (0.5,) for grey images or "
            f"(0.5, 0.5, 0.5), not {values!r}"
        ) from None


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)
