"""How much of its grey levels a 16-bit picture keeps, as the level that became white has it.

All 16-bit pictures of a set are scaled alike. One bright pixel, an offset, or files of another
depth leave the others a few dark levels: that is decided here, for the library and the workflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import setting

DARKER = 2  # bits below the brightest: a quarter of the grey levels, or fewer
FEW = 256 >> DARKER  # levels between the darkest and the brightest pixel


def keep_few(bits: pd.Series, contrast: pd.Series) -> np.ndarray:
    """Which pictures keep few grey levels, bool (n,).

    Args:
        bits: that the levels of a 16-bit grey picture need; null of other pictures.
        contrast: brightest minus darkest pixel, as it is read.
    """
    needed = bits.astype(float)
    deep = needed.notna().to_numpy()
    dark = (needed <= needed.max() - DARKER).to_numpy()
    return deep & (dark | (contrast < FEW).to_numpy())


def remarks(bits: pd.Series, contrast: pd.Series, paths: Sequence[object]) -> list[str]:
    """What is to be said of them; [] for nothing.

    Args:
        bits, contrast: see `keep_few`.
        paths: of the pictures, in the same order.
    """
    few = np.flatnonzero(keep_few(bits, contrast))
    if not len(few):
        return []
    needed = bits.astype(float)
    white = f"white is the level of {int(needed.max())} bits"
    if needed.min() < needed.max():
        white += f" that {paths[int(needed.fillna(0).to_numpy().argmax())]} needs"
    return [
        f"{len(few)} of {int(needed.notna().sum())} 16-bit images keep few grey levels (the first "
        f"is {paths[few[0]]}): {white}; where a fault or a mark makes it so bright, take it out or "
        f"give {setting('images.bits')}; levels far above 0 need a window, saved with 8 bits"
    ]


class Scales(NamedTuple):
    """How the 16-bit pictures of several data sets are scaled.

    log: counts, for a task's log; {} where there are none. lines: for people.
    """

    log: dict[str, dict[str, int]]
    lines: list[str]


def scales(indexes: Mapping[str, pd.DataFrame]) -> Scales:
    """Whether data sets of one task are scaled alike.

    Args:
        indexes: data set -> the index of its image cache.
    """
    deep = {name: index for name, index in indexes.items() if index["bits"].notna().any()}
    if not deep:
        return Scales({}, [])
    depths = {name: int(index["bits"].max()) for name, index in deep.items()}
    few = {
        name: int(keep_few(index["bits"], index["contrast"]).sum()) for name, index in deep.items()
    }
    told = ", ".join(f"{name} {bits}" for name, bits in depths.items())
    lines = [
        f"the level that became white has other bits in each data set ({told}): where their files "
        f"are of one depth, give {setting('images.bits')}"
    ] * (len(set(depths.values())) > 1)
    return Scales(
        {"bits_of_16_bit_images": depths, "16_bit_images_that_keep_few_grey_levels": few}, lines
    )
