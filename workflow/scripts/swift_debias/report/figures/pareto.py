"""AUC against equalized odds of all methods, with the front that no method beats."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...evaluation import cells
from ._parts import (
    Drawing,
    Request,
    Sources,
    cell_means,
    dot,
    grid_of_axes,
    heading,
    legend_below,
    legend_line,
    method_handles,
    metric_label,
    new_figure,
    of_block,
    panel_title,
    reach,
)
from ._style import GREY, INK, PAGE

NEEDS: tuple[str, ...] = ("metrics",)
OPTIONS = {"axes": "two metrics"}
IGNORES: tuple[str, ...] = ("metrics",)
CAPTION = (
    "AUC against equalized odds of every method on every test set. Outlined: methods that "
    "no other one beats in both; what lies left of and above the dashed line is beaten. "
    "Mean over folds; bars: one sample standard deviation over folds, cut at 0 and 1."
)


def non_dominated(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Which points no other point beats: not one that is better in one and no worse in the other.

    Args:
        high: to be maximized, shape (n,).
        low: to be minimized, shape (n,). A NaN in either is never on the front.
    """
    known = np.isfinite(high) & np.isfinite(low)
    no_worse = (high[None] >= high[:, None]) & (low[None] <= low[:, None])
    better = (high[None] > high[:, None]) | (low[None] < low[:, None])
    beaten = (no_worse & better & known[None]).any(axis=1)
    return known & ~beaten


def draw(request: Request, sources: Sources) -> Drawing:
    """AUC against EOdds of all methods on each test set, with the non-dominated front."""
    high, low = request.options.get("axes", ("auc", "eodds"))
    blocks = tuple(block._replace(metrics=(high, low)) for block in request.blocks)
    means = cell_means(sources.metrics, Request(request.name, blocks))
    keys = cells.KEYS[:-1]
    pair = [
        means.loc[means["metric"] == metric, [*keys, "mean", "std"]].rename(
            columns={"mean": f"{metric}_mean", "std": f"{metric}_std"}
        )
        for metric in (high, low)
    ]
    wide = pair[0].merge(pair[1], on=keys)
    panels = request.panels()
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PAGE * columns / 4 if columns > 2 else PAGE, 0.6 + 1.75 * rows)
    axes = [a for row in grid_of_axes(figure, rows, columns) for a in row]
    front = pd.Series(data=False, index=wide.index)
    for place, (block, dataset) in enumerate(panels):
        part = of_block(wide, block, dataset=dataset)
        best = non_dominated(part[f"{high}_mean"].to_numpy(), part[f"{low}_mean"].to_numpy())
        front[part.index] = best
        _pareto_axes(axes[place], part, best, high, low)
        panel_title(axes[place], place, heading(block, dataset), len(panels))
    for unused in axes[len(panels) :]:
        unused.remove()
    front_line = legend_line("non-dominated front", color=GREY, linestyle="--", linewidth=0.9)
    legend_below(figure, [*method_handles(request, request.methods()), front_line], 6)
    return Drawing(figure, wide.assign(non_dominated=front))


def _pareto_axes(axes: Axes, part: pd.DataFrame, best: np.ndarray, high: str, low: str) -> None:
    names = (f"{high}_mean", f"{low}_mean", f"{high}_std", f"{low}_std")
    x, y, dx, dy = (part[name].to_numpy(float) for name in names)
    for place, method in enumerate(part["method"].astype(str)):
        edge = {"markeredgecolor": INK, "markeredgewidth": 0.7} if best[place] else {}
        bars = {"xerr": reach(x[place], dx[place]), "yerr": reach(y[place], dy[place])}
        dot(axes, x[place], y[place], method, **bars, **edge, zorder=4 if best[place] else 3)
    axes.margins(0.08)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    order = np.flatnonzero(best)[np.argsort(x[best], kind="stable")]
    if len(order):
        # every point to the left of and above this staircase is beaten
        stairs_x = np.array([left, *x[order], x[order][-1]])
        stairs_y = np.array([y[order][0], *y[order], top])
        axes.step(stairs_x, stairs_y, "--", where="pre", color=GREY, linewidth=0.9, zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(metric_label(high))
    axes.set_ylabel(metric_label(low))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
