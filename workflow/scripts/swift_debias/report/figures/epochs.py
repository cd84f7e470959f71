"""Figure 4: metrics and time against the number of fine-tuning epochs."""

from __future__ import annotations

import pandas as pd

from ...evaluation.cells import Block
from ._parts import Drawing, Request, Sources
from ._sweeps import draw_sweep, is_baseline, sweep_points, sweep_times

NEEDS: tuple[str, ...] = ("metrics", "costs")
SHOWS: tuple[str, ...] = ("epochs_percent",)
CAPTION = (
    "SWiFT against the number of fine-tuning epochs of each step; 0 is the Baseline. Mean "
    "over folds; bands: one sample standard deviation over folds, cut at 0 and 1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Figure 4: metrics and debiasing time against epochs; 0 is the Baseline."""

    def position(block: Block, method: str) -> float:
        total, percent = request.epochs[block.task]
        own = request.variants[method].get("epochs_percent") or percent
        return 0.0 if is_baseline(request, method) else max(1, round(total * own / 100))

    points = sweep_points(request, sources, position)
    times = sweep_times(request, sources, position)
    return draw_sweep(request, pd.concat([points, times], ignore_index=True), "Epochs of each step")
