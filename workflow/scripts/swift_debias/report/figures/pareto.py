"""One metric against another, AUC against equalized odds, with the front that no method beats."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...errors import UserError
from ...evaluation import cells
from ...evaluation.words import HIGHER_IS_BETTER, LOWER_IS_BETTER
from ._parts import (
    Drawing,
    Request,
    Sources,
    cell_means,
    dot,
    floor_handle,
    grid_of_axes,
    heading,
    legend_below,
    legend_line,
    method_handles,
    metric_label,
    new_figure,
    noise_floors,
    of_block,
    panel_title,
    reach,
    spread,
)
from ._style import GREY, INK, PAGE, SHADE, method_style

NEEDS: tuple[str, ...] = ("metrics", "intervals")
OPTIONS = {"axes": "two metrics"}
IGNORES: tuple[str, ...] = ("metrics",)
SIZE = np.array([1.3, 1.05])  # inches: about what a panel measures
APART = 0.085  # inches between the middles of two markers
CAPTION = (
    "AUC against equalized odds, or the two metrics that the axes name, of every method on every "
    "test set. Outlined: methods that no other one beats in both; what lies on the worse side of "
    "the dashed line in both is beaten. "
    "Mean over folds; bars: one sample standard deviation over folds, cut at 0 and 1. Markers that "
    "would hide each other are moved aside; their bars cross where they belong. Grey band: "
    "below the noise floor, where a gap is no larger than that of a fair classifier (lighter: "
    "where it differs between methods)."
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


class Axis(NamedTuple):
    """A metric, and which way of it is better: 1 is up, -1 is down."""

    metric: str
    better: int


def axis(metric: str) -> Axis:
    """The axis of a metric.

    Raises:
        UserError: neither way of it is better.
    """
    if metric in HIGHER_IS_BETTER:
        return Axis(metric, 1)
    if metric in LOWER_IS_BETTER:
        return Axis(metric, -1)
    raise UserError(f"options.axes: neither way of {metric!r} is better; name another metric")


def draw(request: Request, sources: Sources) -> Drawing:
    """Two metrics of all methods on each test set, with the non-dominated front."""
    across, up = (axis(metric) for metric in request.options.get("axes", ("auc", "eodds")))
    pair = (across, up)
    blocks = tuple(b._replace(metrics=(across.metric, up.metric)) for b in request.blocks)
    means = cell_means(sources.metrics, Request(request.name, blocks))
    keys = cells.KEYS[:-1]
    first, second = (
        means.loc[means["metric"] == metric, [*keys, "mean", "std"]].rename(
            columns={"mean": f"{metric}_mean", "std": f"{metric}_std"}
        )
        for metric, _ in pair
    )
    wide = first.merge(second, on=keys)
    panels = request.panels()
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PAGE * columns / 4 if columns > 2 else PAGE, 0.6 + 1.75 * rows)
    axes = [a for row in grid_of_axes(figure, rows, columns) for a in row]
    front = pd.Series(data=False, index=wide.index)
    for place, (block, dataset) in enumerate(panels):
        part = of_block(wide, block, dataset=dataset)
        x, y = (one.better * part[f"{one.metric}_mean"].to_numpy() for one in pair)
        best = non_dominated(high=x, low=-y)
        front[part.index] = best
        _pareto_axes(axes[place], part, best, across, up)
        for one in pair:
            if one.better < 0:  # a gap may have a floor
                floors = noise_floors(sources.intervals, block, dataset, one.metric)
                limits = part["method"].map(floors).to_numpy(float)
                wide.loc[part.index, f"{one.metric}_floor_95"] = limits
                _floor_band(axes[place], floors, upright=one is across)
        panel_title(axes[place], place, heading(block, dataset, request.blocks), len(panels))
    for unused in axes[len(panels) :]:
        unused.remove()
    front_line = legend_line("non-dominated front", color=GREY, linestyle="--", linewidth=0.9)
    handles: list[Any] = [*method_handles(request, request.methods()), front_line]
    if wide.filter(regex="_floor_95$").notna().any(axis=None):
        handles.append(floor_handle("below the noise floor"))
    legend_below(figure, handles, 6)
    return Drawing(figure, wide.assign(non_dominated=front))


def _floor_band(axes: Axes, floors: pd.Series, upright: bool) -> None:
    """Where a gap is below its noise floor: of all methods, and lighter of some."""
    if floors.empty:
        return
    if upright:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    span = axes.axvspan if upright else axes.axhspan
    style: dict[str, Any] = {"color": GREY, "linewidth": 0, "zorder": 0}
    span(0, floors.min(), alpha=SHADE, **style)
    span(floors.min(), floors.max(), alpha=SHADE / 2, **style)


def _pareto_axes(axes: Axes, part: pd.DataFrame, best: np.ndarray, across: Axis, up: Axis) -> None:
    names = [f"{one.metric}_{of}" for of in ("mean", "std") for one in (across, up)]
    x, y, dx, dy = (part[name].to_numpy(float) for name in names)
    known = np.isfinite(x) & np.isfinite(y)
    methods = part["method"].astype(str).to_numpy()
    for i in np.flatnonzero(known):
        color = method_style(methods[i]).color
        bars: dict[str, Any] = {"xerr": reach(x[i], dx[i]), "yerr": reach(y[i], dy[i])}
        axes.errorbar(x[i], y[i], **bars, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.5)
    axes.margins(0.08)
    corner = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    unit = np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())]) / SIZE
    true = np.stack([x, y], axis=1)
    moved = true.copy()
    moved[known] = spread((true[known] - corner) / unit, APART) * unit + corner
    for i in np.flatnonzero(known):
        edge: dict[str, Any] = {}
        if best[i]:
            edge = {"markeredgecolor": INK, "markeredgewidth": 0.7}
        if np.linalg.norm((moved[i] - true[i]) / unit) > APART / 20:
            line: dict[str, Any] = {"color": method_style(methods[i]).color}
            line |= {"linewidth": 0.6, "zorder": 3}
            axes.plot(*np.stack([true[i], moved[i]], axis=1), **line)
            axes.plot(*true[i], marker=".", markersize=2.5, markeredgewidth=0, **line)
        else:
            moved[i] = true[i]
        at, height = moved[i].tolist()
        dot(axes, at, height, methods[i], **edge, zorder=5 if best[i] else 4)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    order = np.flatnonzero(best)[np.argsort(across.better * x[best], kind="stable")]
    if len(order):
        # every point on the worse side of this staircase is beaten: of AUC left, of EOdds above
        worst_x = left if across.better > 0 else right
        worst_y = bottom if up.better > 0 else top
        stairs_x = np.array([worst_x, *x[order], x[order][-1]])
        stairs_y = np.array([y[order][0], *y[order], worst_y])
        axes.step(stairs_x, stairs_y, "--", where="pre", color=GREY, linewidth=0.9, zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(metric_label(across.metric))
    axes.set_ylabel(metric_label(up.metric))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
