"""The two importance estimators side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ._arrays import Arrays, Given
from ._parts import (
    Drawing,
    Request,
    Sources,
    band,
    cell_means,
    dot,
    grid_of_axes,
    heading,
    metric_label,
    new_figure,
    of_block,
    panel_title,
    reach,
)
from ._rows import method_axis
from ._style import PAGE, method_style

NEEDS: tuple[str, ...] = ("metrics", "arrays")
ARRAYS_NEED: tuple[str, ...] = ("importances",)
CAPTION = (
    "The two estimators of importance: what SWiFT makes of each, and the masks of all "
    "weights. Rank correlation: Spearman's, of the two masks. Mean over folds; bars, "
    "bands: one sample standard deviation over folds, cut at 0 and 1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """The two importance estimators side by side: what SWiFT makes of them, and their masks."""
    means = cell_means(sources.metrics, request)
    panels = request.panels()
    names = list(request.blocks[0].metrics)
    figure = new_figure(PAGE, 0.5 + 1.5 * len(panels))
    rows = grid_of_axes(
        figure, len(panels), len(names) + 1, width_ratios=[*[1.0] * len(names), 1.5]
    )
    hist = pd.DataFrame({key: sources.arrays[key] for key in _MASK_COLUMNS})
    for row, (block, dataset) in enumerate(panels):
        panel_title(rows[row][0], row, heading(block, dataset, request.blocks), len(panels))
        for axes, metric in zip(rows[row], names, strict=False):
            part = of_block(means, block, dataset=dataset, metric=metric).set_index("method")
            method_axis(axes, request, block.methods, named=axes is rows[row][0])
            for y, method in enumerate(block.methods):
                mean, std = float(part["mean"][method]), float(part["std"][method])
                dot(axes, mean, y, method, xerr=reach(mean, std))
            axes.set_xlabel(metric_label(metric))
            axes.xaxis.set_major_locator(MaxNLocator(3))
        _mask_histograms(rows[row][-1], of_block(hist, block))
    return Drawing(figure, pd.concat([means.drop(columns=["reason"]), hist], ignore_index=True))


_MASK_COLUMNS = ("task", "backbone", "attribute", "estimator", "fold", "low", "share", "spearman")


_ESTIMATORS = {
    "minibatch": (method_style("swift").color, "mini-batch"),
    "per_sample": ("#4477AA", "per sample"),
}


def _mask_histograms(axes: Axes, hist: pd.DataFrame) -> None:
    """Masks of both estimators over all parameters: a step line each, spread over folds."""
    for name, (color, shown) in _ESTIMATORS.items():
        part = hist[hist["estimator"] == name]
        bins = part.groupby("low")["share"]
        mean = bins.mean().to_numpy()
        edges = np.append(np.unique(part["low"]), 1.0)
        low, high = (np.append(v, v[-1]) for v in band(mean, bins.std().to_numpy()))
        axes.fill_between(edges, low, high, step="post", color=color, alpha=0.18, linewidth=0)
        axes.stairs(mean, edges, color=color, linewidth=1.2, label=shown)
    axes.legend(loc="upper left")
    correlation = hist["spearman"].mean()
    axes.set_title(f"rank correlation {correlation:.2f}")
    axes.set_xlabel("Soft mask")
    axes.set_ylabel("Share of weights")


def arrays(given: Given) -> Arrays:
    """The masks of both estimators."""
    from ._importances import estimator_masks

    swift = next(iter(given.variants.values()))
    return estimator_masks(given.importances_by_key(), swift)
