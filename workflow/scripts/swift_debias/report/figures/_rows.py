"""Rows of axes with one line a method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._parts import Request
from ._style import PAGE


def method_axis(axes: Axes, request: Request, methods: Sequence[str], named: bool) -> None:
    """Methods from top to bottom; their names are written where `named`."""
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_yticks(range(len(methods)))
    axes.set_yticklabels([request.title(m) for m in methods] if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="x")
    axes.spines["left"].set_visible(False)


def figure_rows(figure: Figure, lines: Sequence[float], columns: int) -> list[list[Axes]]:
    """Rows of axes, each a subfigure of its own and high enough for so many lines of text."""
    heights = [0.75 + 0.15 * n for n in lines]
    figure.set_size_inches(PAGE, 0.15 + sum(heights))
    parts = figure.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)[:, 0]
    return [list(part.subplots(1, columns, squeeze=False)[0]) for part in parts]


def inner_ticks(axes: Axes) -> None:
    """Two or three ticks, none so near an end that its label would reach into the next axes."""
    low, high = axes.get_xlim()
    margin = 0.12 * (high - low)
    for number in (3, 4, 6, 9):
        ticks = [t for t in MaxNLocator(number).tick_values(low, high) if low < t < high]
        inner = [t for t in ticks if low + margin <= t <= high - margin]
        if len(inner) >= 2:
            break
    axes.set_xlim(low, high)
    axes.set_xticks(inner[:: 1 + len(inner) // 4])
