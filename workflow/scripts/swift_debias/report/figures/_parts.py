"""What a drawing is asked for, what it is drawn from, and the parts that drawings share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...errors import UserError
from ...evaluation.cells import KEYS, Block, summarize
from ...evaluation.words import arrow, title
from .. import escaping
from ._style import GREY, SHADE, method_style


@dataclass(frozen=True)
class Request:
    """A experiment of the config, with what is needed to name things.

    Attributes:
        name: e.g. figure4; names the files.
        blocks: what to show, in order.
        titles: display names of the methods.
        groups: attribute -> names of its groups.
        classes: task -> names of class 0 and class 1.
        epochs: task -> (epochs of pre-training, share of them in percent used by default).
        ties: task -> strength of the tie of attribute and label in its pool, where it has one.
        min_groups: task -> smallest group that counts in gaps.
        variants: method -> its settings, as in the config.
        options: of the experiment: details of the drawing.
        synthetic: the data are made up; every figure then says so.
        baseline, swift: the variants that stand for the Baseline and for SWiFT; '' for none.
    """

    name: str
    blocks: tuple[Block, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    epochs: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    ties: Mapping[str, float] = field(default_factory=dict)
    min_groups: Mapping[str, int] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
    baseline: str = "baseline"
    swift: str = "swift"

    def title(self, method: str) -> str:
        """Display name of a method."""
        return self.titles.get(method, method)

    def methods(self) -> list[str]:
        """Every method shown, in order."""
        return list(dict.fromkeys(method for block in self.blocks for method in block.methods))

    def panels(self) -> list[tuple[Block, str]]:
        """One a block and test set."""
        return [(block, dataset) for block in self.blocks for dataset in block.datasets]


@dataclass(frozen=True)
class Sources:
    """Results that a figure may be drawn from; those that it does not need are empty.

    Attributes:
        metrics: the tidy metrics.
        costs: as `costs.read_costs` gives them.
        predictions: `run.results.read("predictions", ...)`: of the first of all repeats.
        repeats: the same of every repeat, told apart by a column `repeat`.
        summaries: `run.results.read("mask_summary", ...)`.
        intervals: task, backbone, attribute and the columns of `setup_intervals`.
        plausibility: what is implausible (`plausibility.judge`).
        arrays: what script figure_arrays.py computed for this figure.
    """

    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    repeats: pd.DataFrame = field(default_factory=pd.DataFrame)
    summaries: pd.DataFrame = field(default_factory=pd.DataFrame)
    intervals: pd.DataFrame = field(default_factory=pd.DataFrame)
    plausibility: pd.DataFrame = field(default_factory=pd.DataFrame)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


class Drawing(NamedTuple):
    """A figure and the numbers it shows."""

    figure: Figure
    data: pd.DataFrame


Plot: TypeAlias = Callable[[Request, Sources], Drawing]


def of_block(frame: pd.DataFrame, block: Block, **values: str) -> pd.DataFrame:
    """Rows of a block's task, backbone and attribute, and of the values given by column."""
    wanted = {"task": block.task, "backbone": block.backbone, "attribute": block.attribute}
    chosen = np.ones(len(frame), dtype=bool)
    for column, value in (wanted | values).items():
        chosen &= (frame[column] == value).to_numpy()
    return frame[chosen]


def cell_means(metrics: pd.DataFrame, request: Request) -> pd.DataFrame:
    """Mean, std and n_folds of the request's cells: KEYS as columns, in the experiment's order.

    Raises:
        UserError: none of them was computed.
    """
    keys = [key for block in request.blocks for key in block.cell_keys()]
    wanted = pd.DataFrame(list(dict.fromkeys(keys)), columns=KEYS)
    if metrics.empty:
        raise UserError(f"{request.name}: there are no metrics to draw")
    found = wanted.merge(summarize(metrics), on=KEYS, how="left")
    if found["mean"].isna().all():
        raise UserError(
            f"{request.name}: no value to draw; the first missing cell is {'/'.join(keys[0])}"
        )
    return found


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches; nothing in it may overlap (constrained layout)."""
    return Figure(figsize=(width, height), layout="constrained")


def grid_of_axes(figure: Figure, rows: int, columns: int, **options: Any) -> list[list[Axes]]:
    """Axes, row by row."""
    return [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


_SHORT = {"balanced_accuracy": "Bal. accuracy", "seconds": "Time (s)"}


def metric_label(metric: str) -> str:
    """'AUC ↑': name and which way is better."""
    return f"{_SHORT.get(metric) or title(metric)} {arrow(metric)}".strip()


def heading(block: Block, dataset: str = "", among: Sequence[Block] = ()) -> str:
    """Two lines: the test set; attribute and network.

    And the task, where one of the blocks `among` which it stands differs in that alone; instead of
    the network, where all have the same.
    """
    words = [block.attribute, block.backbone]
    alike = {b.task for b in among if b[1:3] == block[1:3] and dataset in ("", *b.datasets)}
    if len(alike) > 1:
        several = len({b.backbone for b in among}) > 1
        words = [block.attribute, block.task, *([block.backbone] if several else [])]
    below = ", ".join(map(title, words))
    return f"{title(dataset)}\n{below}" if dataset else below


def panel_title(axes: Axes, place: int, text: str, n_panels: int) -> None:
    """A title with a bold letter before it: a, b, ...; none where there is but one panel."""
    letter = rf"$\bf{{{chr(ord('a') + place)}}}$  " if 1 < n_panels <= 26 else ""
    # the letter is mathtext, the text is not
    axes.set_title(letter + escaping.mathtext(text), loc="left", parse_math=True)


def reach(mean: float, std: float, top: float = 1.0) -> list[list[float]]:
    """Error bars of one standard deviation, cut where the value cannot be: below 0, above `top`."""
    std = float(np.nan_to_num(std))
    return [[min(std, max(mean, 0.0))], [min(std, max(top - mean, 0.0))]]


def band(mean: np.ndarray, std: np.ndarray, top: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of a band of one standard deviation, cut as in `reach`."""
    spread = np.nan_to_num(std)
    return (mean - spread).clip(0, None), (mean + spread).clip(None, top)


def dot(axes: Axes, x: float, y: float, method: str, **options: Any) -> None:
    """A method's point, with bars `xerr` or `yerr` where given (`reach`)."""
    color, marker = method_style(method)
    bars = {name: options.pop(name) for name in ("xerr", "yerr") if name in options}
    axes.errorbar(x, y, **bars, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.6, zorder=2)
    size = 8.5 if marker == "*" else 4.5
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.3}
    axes.plot(x, y, **{"marker": marker, "color": color, "markersize": size, **edge, **options})


def noise_floors(intervals: pd.DataFrame, block: Block, dataset: str, metric: str) -> pd.Series:
    """Method -> 95 % point of the noise floor of a gap; empty where there is none."""
    if intervals.empty:
        return pd.Series(dtype=float)
    part = of_block(intervals, block, dataset=dataset, metric=metric)
    part = part[part["method"].isin(list(block.methods))]
    return part.set_index("method")["floor_95"].astype(float).dropna()


def floor_handle(label: str) -> Patch:
    """Legend entry of the band below a noise floor."""
    return Patch(color=GREY, alpha=SHADE, linewidth=0, label=label)


def spread(points: np.ndarray, distance: float, steps: int = 200) -> np.ndarray:
    """Points moved apart, as little as it takes, so that no two are closer than `distance`.

    Args:
        points: (n, 2), in the unit of `distance`; those that are nowhere near others stay.
    """
    moved = points.astype(float).copy()
    # equal points have no direction in which to part: a turn of their own, too small to be seen
    angles = np.arange(len(points)) * 2.4
    moved += 1e-3 * distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for _ in range(steps):
        between = moved[:, None] - moved[None]
        lengths = np.linalg.norm(between, axis=2)
        np.fill_diagonal(lengths, np.inf)
        short = np.clip(distance * 1.02 - lengths, 0, None)
        if not (lengths < distance).any():
            break
        moved += (between * (short / lengths / 2)[..., None]).sum(axis=1)
    return moved


def legend_line(label: str, **options: Any) -> Line2D:
    """A legend entry of a line or marker."""
    return Line2D([], [], label=label, **options)


def method_handles(request: Request, methods: Sequence[str]) -> list[Line2D]:
    """Legend entries of methods."""
    looks = {method: method_style(method) for method in methods}
    return [
        legend_line(
            request.title(method),
            color=color,
            marker=marker,
            linestyle="none",
            markersize=8 if marker == "*" else 4.5,
        )
        for method, (color, marker) in looks.items()
    ]


def legend_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend for the whole figure, under everything."""
    figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns, columnspacing=1.2
    )
