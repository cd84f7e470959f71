"""What each setting of a method is worth: main effects and interactions of a factorial design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...config.crossing import Crossing, crossing
from ...errors import UserError
from ...evaluation import effects
from ._parts import (
    Drawing,
    Request,
    Sources,
    heading,
    legend_below,
    legend_line,
    metric_label,
    new_figure,
    of_block,
    panel_title,
)
from ._rows import figure_rows, inner_ticks
from ._style import GREY, INK, PAGE

NEEDS: tuple[str, ...] = ("repeats",)
SHOWS: tuple[str, ...] = ("*",)
METRICS: tuple[str, ...] = (
    "auc",
    "balanced_accuracy",
    "spd",
    "eopp",
    "eodds",
    "eodds_max",
    "auc_gap",
)
CROSSED = True
TWO_CLASSES = "shows what changes decisions for class 1"
CAPTION = (
    "What each setting is worth: the mean over all combinations of the other settings with its "
    "second value, minus that with its first (main effects); and half of what the second value of "
    "one adds to the effect of another (interactions, set off below). 95 % intervals over other "
    "test patients and other trainings on the same pool. Filled: not zero after Holm's correction "
    "over the effects of its axes."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """A row a panel and test set, a column a metric, a line an effect."""
    panels = request.panels()
    frames = [_of_panel(request, sources, *panel) for panel in panels]
    figure = new_figure(PAGE, 1)
    widths = [len(block.metrics) for block, _ in panels]
    lines = [frame["effect"].nunique() + 1.5 for frame in frames]
    rows = figure_rows(figure, lines, max(widths))
    for place, ((block, dataset), frame, axes_row) in enumerate(
        zip(panels, frames, rows, strict=True)
    ):
        panel_title(axes_row[0], place, heading(block, dataset, request.blocks), len(panels))
        labels = _labels(crossing(_variants(request, block.methods)))
        for axes, metric in zip(axes_row, block.metrics, strict=False):
            _forest(axes, frame[frame["metric"] == metric], labels, axes is axes_row[0])
            axes.set_xlabel(f"Effect on {metric_label(metric)}")
        for unused in axes_row[len(block.metrics) :]:
            unused.set_visible(False)
    figure.set_figheight(figure.get_figheight() + 0.25)
    looks = {"color": INK, "marker": "o", "linestyle": "none"}
    handles = [
        legend_line("not zero (Holm, .05)", **looks),
        legend_line("may be zero", **looks, markerfacecolor="white"),
    ]
    legend_below(figure, handles, 2)
    return Drawing(figure, pd.concat(frames, ignore_index=True))


def _variants(request: Request, methods: Any) -> dict[str, Mapping[str, Any]]:
    """The settings of a panel's methods, in its order."""
    return {name: request.variants[name] for name in methods}


def _of_panel(request: Request, sources: Sources, block: Any, dataset: str) -> pd.DataFrame:
    """The effects of a panel on one test set, its keys first."""
    found = of_block(sources.repeats, block, dataset=dataset) if len(sources.repeats) else None
    if found is None or found.empty:
        raise UserError(f"{request.name}: there are no predictions of {heading(block, dataset)}")
    design = crossing(_variants(request, block.methods))
    rows = effects.effects(
        found[found["method"].isin(list(block.methods))],
        design,
        block.metrics,
        len(request.groups[block.attribute]),
        min_group=request.min_groups.get(block.task, 20),
    )
    rows.insert(0, "setting", rows["effect"].map(_labels(design)))
    for key in ("attribute", "backbone", "task"):
        rows.insert(0, key, getattr(block, key))
    return rows


def _labels(design: Crossing) -> dict[str, str]:
    """Effect -> what stands beside its line, main effects with both values."""
    names = {
        name: f"{name.replace('_', ' ')}: {_value(first)} to {_value(second)}"
        for name, (first, second) in design.factors.items()
    }
    return {
        " x ".join(some): names[some[0]]
        if len(some) == 1
        else " × ".join(name.replace("_", " ") for name in some)
        for some in design.effects()
    }


def _value(value: Any) -> str:
    """A setting's value as a reader writes it."""
    shown = {True: "yes", False: "no", None: "default"}
    return shown[value] if value is None or isinstance(value, bool) else str(value)


def _forest(axes: Axes, part: pd.DataFrame, labels: Mapping[str, str], named: bool) -> None:
    """Each effect with its interval, interactions set off below the main effects."""
    rows = part.set_index("effect")
    places = {
        effect: n + 0.6 * bool(rows["interaction"][effect]) for n, effect in enumerate(rows.index)
    }
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    for effect, y in places.items():
        value, low, high, p = rows.loc[effect, ["value", "low", "high", "p_holm"]].astype(float)
        sure = np.isfinite(p) and p < 0.05
        axes.plot([low, high], [y, y], color=INK, linewidth=0.9, zorder=2)
        axes.plot(value, y, "o", color=INK, markersize=4, markerfacecolor=INK if sure else "white")
    axes.set_ylim(max(places.values()) + 0.6, -0.6)
    axes.set_yticks(list(places.values()))
    axes.set_yticklabels([labels[effect] for effect in places] if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    inner_ticks(axes)
    axes.spines["left"].set_visible(False)
