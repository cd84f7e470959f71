"""What a network was trained with: how its pixels are normalized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..config.schema import IMAGENET_MEAN, IMAGENET_STD


class Normalization(NamedTuple):
    """Mean and standard deviation of the channels, on [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """From any sequences, such as the settings' plain values."""
        return cls(tuple(mean), tuple(std))


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)
