"""What each method costs, on logarithmic axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ...evaluation import cells
from ...evaluation.words import title
from .. import costs
from ._parts import (
    Drawing,
    Request,
    Sources,
    cell_means,
    dot,
    heading,
    legend_below,
    legend_line,
    new_figure,
    of_block,
    panel_title,
)
from ._rows import figure_rows, method_axis
from ._style import PAGE, method_style

NEEDS: tuple[str, ...] = ("costs",)
IGNORES: tuple[str, ...] = ("metrics",)
CAPTION = (
    "What debiasing costs beside the Baseline's own training. The importances, measured "
    "once for all methods, are not counted. Mean over folds; bars: one sample standard "
    "deviation."
)
# BatchNorm's statistics are few beside the weights, and 0 for most methods: in the table only.
DRAWN = tuple(name for name in costs.COSTS if name != "buffers_changed")


def draw(request: Request, sources: Sources) -> Drawing:
    """What each method costs, on logarithmic axes, beside the Baseline's training."""
    blocks = [b._replace(datasets=("",), metrics=DRAWN) for b in request.blocks]
    means = cell_means(sources.costs, Request(request.name, tuple(blocks)))
    figure = new_figure(PAGE, 1)
    rows = figure_rows(figure, [len(block.methods) for block in blocks], len(DRAWN))
    for row, (block, axes_row) in enumerate(zip(blocks, rows, strict=True)):
        methods = [m for m in block.methods if m != request.baseline]
        panel_title(axes_row[0], row, heading(block, among=request.blocks), len(blocks))
        for axes, metric in zip(axes_row, DRAWN, strict=True):
            part = of_block(means, block, metric=metric).set_index("method")
            method_axis(axes, request, methods, named=axes is axes_row[0])
            for y, method in enumerate(methods):
                mean, std = float(part["mean"][method]), float(part["std"][method])
                if mean > 0:
                    spread = float(np.nan_to_num(std))
                    dot(axes, mean, y, method, xerr=[[min(spread, 0.9 * mean)], [spread]])
                elif mean == 0:  # the axis has no zero
                    place = axes.get_yaxis_transform()
                    axes.text(
                        0.01, y, "0", transform=place, va="center", color=method_style(method).color
                    )
            if request.baseline in part.index:
                reference = float(part["mean"][request.baseline])
                axes.axvline(
                    reference, color=method_style("baseline").color, linestyle="--", linewidth=1
                )
            axes.set_xscale("log")
            axes.set_xlabel(title(metric))
            _log_ticks(axes)
    name = "the Baseline's training"
    legend_below(
        figure, [legend_line(name, color=method_style("baseline").color, linestyle="--")], 1
    )
    return Drawing(figure, means[[*cells.KEYS, "mean", "std", "n_folds"]])


def _log_ticks(axes: Axes, most: int = 4) -> None:
    """At most so many ticks on a logarithmic x axis, at round numbers: 0.1, 500, 2k, 10M."""
    left, right = axes.get_xlim()
    powers = 10.0 ** np.arange(np.floor(np.log10(left)), np.ceil(np.log10(right)) + 1)
    steps = [np.outer(powers, subs).ravel() for subs in _ROUND]
    inside = [np.sort(ticks[(ticks >= left) & (ticks <= right)]) for ticks in steps]
    inside = [ticks for ticks in inside if len(ticks)]
    middle = np.array([float(f"{np.sqrt(left * right):.2g}")])  # between two round numbers
    chosen = next((ticks for ticks in inside if len(ticks) <= most), [*inside, middle][-1])
    axes.set_xticks(chosen[:: -(-len(chosen) // most)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: _short(value)))
    axes.minorticks_off()


_ROUND = (range(1, 10), (1, 2, 5), (1, 3), (1,))


def _short(value: float) -> str:
    """2000 as 2k."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"
