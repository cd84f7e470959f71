"""Sweeps over one setting: curves with bands, Baseline and the setting in use marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ...evaluation import cells
from ...evaluation.cells import Block
from ._parts import (
    Drawing,
    Request,
    Sources,
    band,
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
from ._style import COLUMN, PAGE, method_style


def is_baseline(request: Request, method: str) -> bool:
    return request.variants[method]["algorithm"] == "baseline"


def sweep_points(
    request: Request, sources: Sources, position: Callable[[Block, str], float]
) -> pd.DataFrame:
    """The request's cells with their x."""
    means = cell_means(sources.metrics, request)
    places = {
        (block.task, block.backbone, block.attribute, method): position(block, method)
        for block in request.blocks
        for method in block.methods
    }
    keys = means[["task", "backbone", "attribute", "method"]].itertuples(index=False, name=None)
    return means.assign(x=[places[key] for key in keys])


def sweep_times(
    request: Request, sources: Sources, position: Callable[[Block, str], float]
) -> pd.DataFrame:
    """Seconds of debiasing as further cells, one row of axes each; the Baseline takes none."""
    seconds = sources.costs[sources.costs["metric"] == "seconds"]
    without = seconds.copy()
    without.loc[[is_baseline(request, m) for m in without["method"]], "value"] = 0.0
    frames = []
    for block, dataset in request.panels():
        part = of_block(without, block).assign(dataset=dataset)
        cells = cell_means(part, _one(request, block, dataset, ("seconds",)))
        cells["x"] = [position(block, str(method)) for method in cells["method"]]
        frames.append(cells)
    return pd.concat(frames, ignore_index=True)


def _one(request: Request, block: Block, dataset: str, names: Sequence[str]) -> Request:
    """A request for one block, test set and these metrics."""
    part = block._replace(datasets=(dataset,), metrics=tuple(names))
    return Request(request.name, (part,))


def draw_sweep(request: Request, points: pd.DataFrame, label: str, rule: str = "") -> Drawing:
    """A row a test set, a column a metric; bands are the standard deviation over folds.

    Args:
        request: what to show.
        points: cells with their x.
        label: of the x axis.
        rule: how SWiFT chooses x, where it is not one of the fixed values: it is then drawn apart.
    """
    names = list(dict.fromkeys(points["metric"]))
    panels = request.panels()
    figure = new_figure(PAGE if len(names) > 2 else COLUMN, 0.35 + 1.6 * len(panels))
    rows = grid_of_axes(figure, len(panels), len(names), sharex="row")
    for row, (block, dataset) in enumerate(panels):
        part = of_block(points, block, dataset=dataset)
        panel_title(rows[row][0], row, heading(block, dataset, request.blocks), len(panels))
        for axes, metric in zip(rows[row], names, strict=True):
            top = np.inf if metric == "seconds" else 1.0
            _sweep_axes(axes, request, part[part["metric"] == metric], top, apart=bool(rule))
            axes.set_ylabel(metric_label(metric))
            axes.set_xlabel(label)
    chosen = f"{rule}: used elsewhere" if rule else "setting used elsewhere"
    legend_below(figure, _sweep_handles(request, points, chosen), 4)
    keys = [*cells.KEYS, "x", "mean", "std", "n_folds"]
    return Drawing(figure, points.sort_values([*cells.KEYS[:3], "dataset", "metric", "x"])[keys])


def _sweep_axes(axes: Axes, request: Request, part: pd.DataFrame, top: float, apart: bool) -> None:
    """One curve with its band, within [0, top]; Baseline and the setting in use are marked."""
    base = np.array([is_baseline(request, str(method)) for method in part["method"]])
    used = (part["method"] == request.swift).to_numpy()
    color, names = method_style("swift").color, ["x", "mean", "std"]
    line = (part[~used] if apart else part).dropna(subset=["x", "mean"]).sort_values("x")
    x, mean, std = line[names].to_numpy(float).T
    low, high = band(mean, std, top)
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=color, marker="o", markersize=3)
    for at, height, _ in part.loc[base, names].to_numpy(float):
        if np.isnan(at):
            axes.axhline(height, color=method_style("baseline").color, linestyle="--", linewidth=1)
        else:
            dot(axes, at, height, "baseline", zorder=3)
    for at, height, spread in part.loc[used, names].to_numpy(float):
        bars = {"yerr": reach(height, spread, top)} if apart else {}
        dot(axes, at, height, "swift", **bars, zorder=4)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.06, y=0.12)


def _sweep_handles(request: Request, points: pd.DataFrame, chosen: str) -> list[Line2D | Patch]:
    """Legend of a sweep."""
    base = [is_baseline(request, str(method)) for method in points["method"]]
    (swift,) = method_handles(request, [request.swift])
    swift.set_label(chosen)
    if points.loc[base, "x"].isna().any():
        name = request.title(request.baseline)
        baseline = legend_line(name, color=method_style("baseline").color, linestyle="--")
    else:
        (baseline,) = method_handles(request, [request.baseline])
    color = method_style("swift").color
    curve = legend_line("SWiFT, mean over folds", color=color, marker="o", markersize=3)
    band = Patch(color=color, alpha=0.18, linewidth=0, label="± standard deviation")
    return [baseline, curve, band, swift]
