"""Figures 8 and 9: distribution of the soft mask in each part of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ...errors import UserError
from ...evaluation.words import title
from ._parts import (
    Drawing,
    Request,
    Sources,
    grid_of_axes,
    heading,
    legend_below,
    legend_line,
    new_figure,
    of_block,
    panel_title,
    reach,
)
from ._style import GREY, PAGE, method_style

NEEDS: tuple[str, ...] = ("summaries",)
IGNORES: tuple[str, ...] = ("metrics",)
CAPTION = (
    "Distribution of the soft mask in each part of the network, the head included: a "
    "mirrored histogram of all its weights. tanh(1): equally important for bias and "
    "prediction. Mean over folds; dots with bars: one sample standard deviation over "
    "folds, cut at 0 and 1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Figures 8, 9: distribution of the soft mask in each part of the network, head included."""
    shares = mask_shares(sources.summaries)
    figure = new_figure(PAGE, 0.5 + 1.75 * len(request.blocks))
    rows = grid_of_axes(figure, len(request.blocks), 1)
    frames = []
    for row, block in enumerate(request.blocks):
        axes, part = rows[row][0], of_block(shares, block)
        if part.empty:
            raise UserError(f"{request.name}: no mask summaries of {'/'.join(block[:3])}")
        frames.append(part)
        _violins(axes, part)
        panel_title(axes, row, f"{title(block.task)}: {heading(block)}", len(request.blocks))
        axes.set_ylabel("Soft mask")
    handles = [
        Patch(
            color=method_style("swift").color,
            alpha=0.3,
            linewidth=0,
            label="distribution of elements",
        ),
        legend_line("mean ± standard deviation", color=method_style("swift").color, marker="o"),
        legend_line("tanh(1): equally important", color=GREY, linestyle=":"),
    ]
    legend_below(figure, handles, 3)
    return Drawing(figure, pd.concat(frames, ignore_index=True))


def mask_shares(summaries: pd.DataFrame) -> pd.DataFrame:
    """Per layer group and histogram bin: share of elements (mean over folds), and the group's mean.

    Returns:
        task, backbone, attribute, group, elements, mean, std (over folds), low, high (the bin's
        edges), share.
    """
    keys = ["task", "backbone", "attribute", "group"]
    rows = []
    for key, part in summaries.groupby(keys, sort=False):
        folds = [fold for _, fold in part.groupby("fold")]
        counts = np.array([np.sum(np.stack(list(fold["counts"])), axis=0) for fold in folds])
        shares = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
        means = np.array([np.average(fold["mean"], weights=fold["n"]) for fold in folds])
        edges = np.linspace(0, 1, len(shares) + 1)
        std = means.std(ddof=1) if len(means) > 1 else np.nan
        same = dict(zip(keys, key, strict=True))
        same |= {"elements": int(folds[0]["n"].sum()), "mean": means.mean(), "std": std}
        rows += [
            same | {"low": low, "high": high, "share": share}
            for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
        ]
    return pd.DataFrame(rows, columns=[*keys, "elements", "mean", "std", "low", "high", "share"])


def _violins(axes: Axes, part: pd.DataFrame) -> None:
    """A mirrored histogram a layer group; all have the same area."""
    color = method_style("swift").color
    names = list(dict.fromkeys(part["group"]))
    widest = part["share"].max()
    axes.axhline(np.tanh(1), color=GREY, linestyle=":", linewidth=0.9)
    for x, name in enumerate(names):
        bins = part[part["group"] == name]
        half = 0.42 * bins["share"].to_numpy(float) / widest
        thickness = (bins["high"] - bins["low"]).to_numpy(float)
        at = bins["low"].to_numpy(float)
        style: dict[str, Any] = {"color": color, "alpha": 0.3, "linewidth": 0}
        axes.barh(at, 2 * half, thickness, x - half, align="edge", **style)
        mean, std = bins[["mean", "std"]].iloc[0]
        axes.errorbar(x, mean, yerr=reach(mean, std), color=color, marker="o", elinewidth=1)
    axes.plot(
        range(len(names)),
        [part.loc[part["group"] == n, "mean"].iloc[0] for n in names],
        color=color,
        linewidth=0.8,
    )
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels(names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=False, axis="x")
