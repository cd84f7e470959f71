"""Differences to the Baseline with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...errors import UserError
from ...evaluation.cells import Block
from ._parts import (
    Drawing,
    Request,
    Sources,
    dot,
    floor_handle,
    heading,
    legend_below,
    metric_label,
    new_figure,
    of_block,
    panel_title,
)
from ._rows import figure_rows, inner_ticks, method_axis
from ._style import GREY, PAGE, SHADE, method_style

NEEDS: tuple[str, ...] = ("intervals",)
MOST = 6  # axes beside each other; more leave no room for the numbers below them
MOST_TITLES = 4  # test sets beside each other
CAPTION = (
    "Difference to the Baseline on the same test images, with 95 % intervals over other "
    "test patients and other trainings on the same pool. Grey: differences that bring a gap below "
    "its noise floor, where it is no larger than that of a fair classifier."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Differences to the Baseline with 95 % intervals over patients and folds."""
    if sources.intervals.empty:
        raise UserError(f"{request.name}: there are no intervals to draw")
    blocks = [
        block._replace(methods=[m for m in block.methods if m != request.baseline])
        for block in request.blocks
    ]
    lines = [line for block in blocks for line in _lines(block)]
    width = max(len(cells) for _, cells in lines)
    figure, frames = new_figure(PAGE, 1), []
    place, total = 0, len(request.panels())
    rows = figure_rows(figure, [len(block.methods) for block, _ in lines], width)
    for (block, cells), axes_row in zip(lines, rows, strict=True):
        for axes, (dataset, metric) in zip(axes_row, cells, strict=False):
            part = of_block(sources.intervals, block, dataset=dataset, metric=metric)
            frames.append(part[part["method"].isin(block.methods)])
            method_axis(axes, request, block.methods, named=axes is axes_row[0])
            _floors(axes, part, block.methods, request.baseline)
            _forest(axes, part, block.methods)
            inner_ticks(axes)
            axes.set_xlabel(f"Δ {metric_label(metric)}")
            if metric == block.metrics[0]:
                panel_title(axes, place, heading(block, dataset, request.blocks), total)
                place += 1
        for unused in axes_row[len(cells) :]:
            unused.set_visible(False)
    data = pd.concat(frames, ignore_index=True)
    if data["floor_95"].notna().any():
        figure.set_figheight(figure.get_figheight() + 0.25)
        legend_below(figure, [floor_handle("gap below its noise floor")], 1)
    return Drawing(figure, data)


def _lines(block: Block) -> Iterator[tuple[Block, list[tuple[str, str]]]]:
    """The rows of axes of a block: as many whole test sets as have room beside each other."""
    at_once = max(1, min(MOST // len(block.metrics), MOST_TITLES))
    for first in range(0, len(block.datasets), at_once):
        cells = list(product(block.datasets[first : first + at_once], block.metrics))
        for start in range(0, len(cells), MOST):
            yield block, cells[start : start + MOST]


def _floors(axes: Axes, part: pd.DataFrame, methods: Sequence[str], baseline: str) -> None:
    """What difference brings each method's gap below its noise floor."""
    values = part.set_index("method")
    if baseline not in values.index:
        return
    start = float(values["value"][baseline])
    axes.use_sticky_edges = False  # a bar would else end at the very edge
    for y, method in enumerate(methods):
        floor = float(values["floor_95"].get(method, np.nan))
        if np.isfinite(start) and np.isfinite(floor):
            axes.barh(y, floor, height=0.8, left=-start, color=GREY, alpha=SHADE, zorder=0)


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
