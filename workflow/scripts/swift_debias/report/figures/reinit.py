"""Figure 6: metrics against the share of the head that is re-initialized."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evaluation.cells import Block
from ._arrays import Arrays, Given
from ._parts import Drawing, Request, Sources
from ._sweeps import draw_sweep, sweep_points

NEEDS: tuple[str, ...] = ("metrics", "arrays")
ARRAYS_NEED: tuple[str, ...] = ("importances",)
CAPTION = (
    "SWiFT against the share of the head's weights that step 2 sets to zero, those with "
    "the highest mask. The star is the paper's choice, all weights above the mean of the "
    "mask. Mean over folds; bands: one sample standard deviation over folds, cut at 0 and "
    "1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Figure 6: metrics against the share of the head's weights that step 2 sets to zero.

    Where the choice "mean of the mask" falls differs from fold to fold; its mean is marked.
    """
    arrays = sources.arrays
    names = ("task", "backbone", "attribute", "method")
    shares = pd.DataFrame({name: arrays[name] for name in (*names, "share")})
    found = 100 * shares.groupby(list(names))["share"].mean()

    def position(block: Block, method: str) -> float:
        return float(found.get((block.task, block.backbone, block.attribute, method), np.nan))

    points = sweep_points(request, sources, position)
    return draw_sweep(request, points, "Head weights re-initialized (%)", rule="mean of the mask")


def arrays(given: Given) -> Arrays:
    """The share of the head that each variant sets to zero."""
    from ._importances import head_shares

    return head_shares(given.importances_by_key(), given.variants)
