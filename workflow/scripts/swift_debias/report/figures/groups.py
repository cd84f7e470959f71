"""AUC and calibration error of every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...evaluation.cells import KEYS
from ._parts import (
    Drawing,
    Request,
    Sources,
    cell_means,
    heading,
    legend_line,
    metric_label,
    new_figure,
    of_block,
    panel_title,
    reach,
)
from ._rows import figure_rows, method_axis
from ._style import PAGE, group_color

NEEDS: tuple[str, ...] = ("metrics",)
IGNORES: tuple[str, ...] = ("metrics",)
CAPTION = (
    "AUC and expected calibration error of every group; the worst group's AUC is the "
    "leftmost dot. Mean over folds; bars: one sample standard deviation over folds, cut "
    "at 0 and 1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """AUC and calibration error of every group: the worst group is the leftmost AUC."""
    shown = ("auc", "ece")
    blocks = [
        block._replace(
            metrics=[
                f"{m}[{g}]" for m in shown for g in range(len(request.groups[block.attribute]))
            ]
        )
        for block in request.blocks
    ]
    means = cell_means(sources.metrics, Request(request.name, tuple(blocks)))
    width = max(len(block.datasets) for block in blocks)
    # the groups of a method stand under each other
    lines = [len(b.methods) * max(1, len(request.groups[b.attribute]) / 2.5) for b in blocks]
    figure = new_figure(PAGE, 1)
    place, total = 0, len(request.panels())
    rows = figure_rows(figure, lines, width * len(shown))
    for block, axes_row in zip(blocks, rows, strict=True):
        names = request.groups[block.attribute]
        cells = [(dataset, metric) for dataset in block.datasets for metric in shown]
        for axes, (dataset, metric) in zip(axes_row, cells, strict=False):
            part = of_block(means, block, dataset=dataset)
            method_axis(axes, request, block.methods, named=axes is axes_row[0])
            _group_dots(axes, part, block.methods, metric, len(names))
            axes.set_xlabel(metric_label(metric))
            if metric == shown[0]:
                panel_title(axes, place, heading(block, dataset, request.blocks), total)
                place += 1
        for unused in axes_row[len(cells) :]:
            unused.set_visible(False)
        handles = [
            legend_line(name, color=group_color(g), marker="o", linestyle="none")
            for g, name in enumerate(names)
        ]
        part_figure = axes_row[0].get_figure(root=False)
        assert part_figure is not None
        part_figure.legend(handles=handles, loc="outside right upper", handletextpad=0.1)
    return Drawing(figure, means[[*KEYS, "mean", "std", "n_folds"]])


def _group_dots(
    axes: Axes, part: pd.DataFrame, methods: Sequence[str], metric: str, k: int
) -> None:
    """A dot a group, one under the other so that the bars do not hide each other."""
    names = part[["method", "metric"]].itertuples(index=False, name=None)
    values = dict(zip(names, part[["mean", "std"]].to_numpy(float), strict=True))
    offsets = np.linspace(-0.14, 0.14, k) if k < 4 else np.linspace(-0.3, 0.3, k)
    for y, method in enumerate(methods):
        for group in range(k):
            mean, std = values[method, f"{metric}[{group}]"]
            at, color = y + offsets[group], group_color(group)
            bar: dict[str, Any] = {"xerr": reach(mean, std), "elinewidth": 0.7}
            axes.errorbar(mean, at, **bar, color=color, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(3))
