"""What the decision threshold does."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import MaxNLocator

from ...errors import UserError
from ...evaluation import thresholds
from ._parts import (
    Drawing,
    Request,
    Sources,
    floor_handle,
    grid_of_axes,
    heading,
    legend_below,
    legend_line,
    metric_label,
    new_figure,
    noise_floors,
    of_block,
    panel_title,
)
from ._style import GREY, PAGE, SHADE, method_style

NEEDS: tuple[str, ...] = ("predictions", "intervals")
IGNORES: tuple[str, ...] = ("metrics",)
TWO_CLASSES = "cuts the score of class 1"
CAPTION = (
    "What the decision threshold does; 0.5 is used in all tables. Nothing is chosen from "
    "these curves. Mean over folds; bands: one sample standard deviation over folds, cut "
    "at 0 and 1. Grey: the highest noise floor of a method at 0.5; a gap of up to that much is no "
    "larger than that of a fair classifier."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """What the decision threshold does to SPD, EOdds and balanced accuracy; 0.5 is used.

    Lines are means over folds, bands one standard deviation.
    """
    import seaborn  # takes a second, and most figures do without

    shown = ("spd", "eodds", "balanced_accuracy")
    curves = threshold_curves(request, sources.predictions)
    panels = request.panels()
    figure = new_figure(PAGE, 0.35 + 1.7 * len(panels))
    rows = grid_of_axes(figure, len(panels), len(shown))
    floor_shown = False
    for row, (block, dataset) in enumerate(panels):
        part = of_block(curves, block, dataset=dataset)
        panel_title(rows[row][0], row, heading(block, dataset, request.blocks), len(panels))
        for axes, metric in zip(rows[row], shown, strict=True):
            axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            floors = noise_floors(sources.intervals, block, dataset, metric)
            if len(floors):  # it is known at this threshold alone
                axes.fill_between([0.46, 0.54], floors.max(), color=GREY, alpha=SHADE, linewidth=0)
                floor_shown = True
            seaborn.lineplot(
                part,
                x="threshold",
                y=metric,
                hue="method",
                palette={method: method_style(method).color for method in block.methods},
                errorbar="sd",
                err_kws={"alpha": 0.12, "linewidth": 0},
                legend=False,
                ax=axes,
            )
            if metric != "balanced_accuracy":
                axes.set_ylim(bottom=0)  # a deviation reaches below where no difference can be
            axes.set_ylabel(metric_label(metric))
            axes.set_xlabel("Decision threshold")
            axes.margins(x=0.01)
            axes.yaxis.set_major_locator(MaxNLocator(4))
    lines = [legend_line(request.title(m), color=method_style(m).color) for m in request.methods()]
    legend_below(figure, [*lines, *[floor_handle("noise floor at 0.5")] * floor_shown], 6)
    return Drawing(figure, curves)


def threshold_curves(request: Request, predictions: pd.DataFrame) -> pd.DataFrame:
    """`thresholds.threshold_curve` of each block, method, fold and test set."""
    frames = []
    for block in request.blocks:
        keys = {"task": block.task, "backbone": block.backbone, "attribute": block.attribute}
        for method in block.methods:
            part = of_block(predictions, block, method=method)
            part = part[part["dataset"].isin(list(block.datasets))]
            if part.empty:
                raise UserError(f"{request.name}: no predictions of method {method!r}")
            for number, fold in part.groupby("fold"):
                curve = thresholds.threshold_curve(fold, len(request.groups[block.attribute]))
                found = {**keys, "method": method, "fold": number}
                frames.append(curve.assign(**found)[[*found, *curve.columns]])
    return pd.concat(frames, ignore_index=True)
