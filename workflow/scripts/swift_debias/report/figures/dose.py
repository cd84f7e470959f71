"""Dose and response: metrics of every method against the strength of the pool's bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...evaluation import cells
from ...evaluation.cells import Block
from ._parts import (
    Drawing,
    Request,
    Sources,
    cell_means,
    floor_handle,
    grid_of_axes,
    heading,
    legend_below,
    method_handles,
    metric_label,
    new_figure,
    noise_floors,
    of_block,
    panel_title,
)
from ._style import GREY, PAGE, SHADE, method_style

NEEDS: tuple[str, ...] = ("metrics", "intervals")
TASK_SETS: tuple[str, ...] = ("tie",)
CAPTION = (
    "Metrics of every method against the strength of the tie between attribute and label in the "
    "training pool; test sets are the same at all strengths. Mean over folds. Grey band: below the "
    "noise floor, where a gap is no larger than that of a fair classifier (the largest of the "
    "methods)."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """A row a test set, a column a metric, a line a method; x is the strength of the tie."""
    points = cell_means(sources.metrics, request)
    points["strength"] = points["task"].map(request.ties).astype(float)
    rows = _rows(request)
    metrics = list(dict.fromkeys(points["metric"]))
    figure = new_figure(PAGE, 0.9 + 1.7 * len(rows))
    axes = grid_of_axes(figure, len(rows), len(metrics), sharex=True)
    floored, frames = False, []
    for place, ((blocks, dataset), axes_row) in enumerate(zip(rows, axes, strict=True)):
        panel_title(axes_row[0], place, heading(blocks[0], dataset), len(rows))
        for each, metric in zip(axes_row, metrics, strict=True):
            part = pd.concat([of_block(points, b, dataset=dataset, metric=metric) for b in blocks])
            floors = _floors(request, sources.intervals, blocks, dataset, metric)
            frames.append(part.assign(floor_95=part["strength"].map(floors)))
            _lines(each, request, part)
            floored |= _band(each, floors)
            each.set_ylabel(metric_label(metric))
        for each in axes_row if place == len(rows) - 1 else ():
            each.set_xlabel("Strength of the tie")
    handles: list[Any] = method_handles(request, request.methods())
    if floored:
        handles.append(floor_handle("below the noise floor"))
    legend_below(figure, handles, 5)
    keys = [*cells.KEYS, "strength", "mean", "std", "n_folds", "floor_95"]
    order = [*cells.KEYS[1:3], "dataset", "metric", "method", "strength"]
    return Drawing(figure, pd.concat(frames).sort_values(order, kind="stable")[keys])


def _rows(request: Request) -> list[tuple[list[Block], str]]:
    """The tasks that differ in strength, by network, attribute and test set, in order."""
    rows: dict[tuple[str, str, str], list[Block]] = {}
    for block, dataset in request.panels():
        rows.setdefault((block.backbone, block.attribute, dataset), []).append(block)
    return [(blocks, dataset) for (_, _, dataset), blocks in rows.items()]


def _lines(axes: Axes, request: Request, part: pd.DataFrame) -> None:
    """One line a method; the Baseline's is broken, and SWiFT's is on top."""
    for method in request.methods():
        own = part[part["method"] == method].dropna(subset=["mean"]).sort_values("strength")
        color, marker = method_style(method)
        main = method in (request.baseline, request.swift)
        axes.plot(
            own["strength"],
            own["mean"],
            linestyle="--" if method == request.baseline else "-",
            color=color,
            marker=marker,
            markersize=7 if marker == "*" else 3.5,
            markeredgecolor="white",
            markeredgewidth=0.3,
            linewidth=1.6 if main else 0.8,
            zorder=4 if main else 3,
        )
    strengths = sorted(set(request.ties.values()))
    axes.set_xticks(strengths, [f"{s:g}".removeprefix("0") or "0" for s in strengths])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.06, y=0.12)


def _floors(
    request: Request, intervals: pd.DataFrame, blocks: list[Block], dataset: str, metric: str
) -> dict[float, float]:
    """Strength -> the largest noise floor of a gap among the methods; empty for other metrics."""
    found = {b.task: noise_floors(intervals, b, dataset, metric) for b in blocks}
    return {request.ties[task]: float(of.max()) for task, of in found.items() if len(of)}


def _band(axes: Axes, floors: dict[float, float]) -> bool:
    """Grey from 0 to the noise floor at each strength; whether there is one."""
    if not floors:
        return False
    x, height = np.array(sorted(floors.items())).T
    axes.set_ylim(bottom=0)
    axes.fill_between(x, 0, height, color=GREY, alpha=SHADE, linewidth=0, zorder=0)
    return True
