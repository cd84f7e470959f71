"""Differences to the Baseline with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...errors import UserError
from ._parts import (
    Drawing,
    Request,
    Sources,
    dot,
    heading,
    metric_label,
    new_figure,
    of_block,
    panel_title,
)
from ._rows import figure_rows, method_axis
from ._style import PAGE, method_style

NEEDS: tuple[str, ...] = ("intervals",)
CAPTION = (
    "Difference to the Baseline on the same test images, with 95 % intervals over other "
    "test patients and other trainings on the same pool."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Differences to the Baseline with 95 % intervals over patients and folds."""
    if sources.intervals.empty:
        raise UserError(f"{request.name}: there are no intervals to draw")
    blocks = [
        block._replace(methods=[m for m in block.methods if m != request.baseline])
        for block in request.blocks
    ]
    width = max(len(block.datasets) * len(block.metrics) for block in blocks)
    figure, frames = new_figure(PAGE, 1), []
    place, total = 0, len(request.panels())
    rows = figure_rows(figure, [len(block.methods) for block in blocks], width)
    for block, axes_row in zip(blocks, rows, strict=True):
        cells = [(dataset, metric) for dataset in block.datasets for metric in block.metrics]
        for axes, (dataset, metric) in zip(axes_row, cells, strict=False):
            part = of_block(sources.intervals, block, dataset=dataset, metric=metric)
            frames.append(part[part["method"].isin(block.methods)])
            method_axis(axes, request, block.methods, named=axes is axes_row[0])
            _forest(axes, part, block.methods)
            axes.set_xlabel(f"Δ {metric_label(metric)}")
            if metric == block.metrics[0]:
                panel_title(axes, place, heading(block, dataset), total)
                place += 1
        for unused in axes_row[len(cells) :]:
            unused.set_visible(False)
    return Drawing(figure, pd.concat(frames, ignore_index=True))


def _forest(axes: Axes, part: pd.DataFrame, methods: Sequence[str]) -> None:
    axes.axvline(0, color=method_style("baseline").color, linewidth=0.8, zorder=1)
    names = ["difference", "difference_low", "difference_high"]
    values = dict(zip(part["method"], part[names].to_numpy(float), strict=True))
    for y, method in enumerate(methods):
        if method in values:
            middle, low, high = values[method]
            # of an absolute gap the interval may lie beside its estimate
            axes.plot([low, high], [y, y], color=method_style(method).color, alpha=0.6, zorder=2)
            dot(axes, middle, y, method)
    axes.xaxis.set_major_locator(MaxNLocator(3))
