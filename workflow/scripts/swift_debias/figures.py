"""Figures: their style, what they are drawn from, and how they are written.

A figure is a *view* of the config: a drawing (`plot`) and blocks of (task, backbone, attribute)
with test sets, methods and metrics. The drawings themselves are in figure_metrics.py (curves, dots
and bars over folds) and figure_images.py (pictures, maps, diagrams); each is a function
`(Request, Sources) -> Drawing`. Nothing is recomputed here that another file of the run holds.

Every figure is written as vector PDF (fonts embedded as TrueType), as PNG at 300 dpi and beside the
data it shows (CSV); the same data give the same bytes. Sizes are those of a journal page: nothing
has to be scaled, and no text is below 6 pt. Colours: Paul Tol's "muted" palette, which is told
apart by colour-blind readers; a method has its own colour and marker in all figures.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from .job import whole
from .settings import UserError, nearest
from .tables import KEYS, Block, arrow, summarize, title

COLUMN = 3.5  # inches: a journal's column (89 mm)
PAGE = 7.2  # inches: both columns (183 mm)
DPI = 300
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "text.color": INK,
    "axes.labelcolor": INK,
    "image.interpolation": "nearest",
    "figure.dpi": DPI,
    "figure.titlesize": 8,
    "pdf.fonttype": 42,
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.hspace": 0.03,
    "figure.constrained_layout.wspace": 0.03,
}

# --- colours --------------------------------------------------------------------------------------


class Look(NamedTuple):
    """How a method is drawn, in every figure."""

    color: str
    marker: str


_METHODS = {
    "baseline": Look("#555555", "s"),
    "fullft_rw": Look("#88CCEE", "o"),
    "fullft_reg": Look("#44AA99", "v"),
    "fullft_fdr": Look("#332288", "^"),
    "llft": Look("#999933", "D"),
    "diffgda": Look("#AA4499", "P"),
    "fairprune": Look("#DDCC77", "<"),
    "diffprune": Look("#117733", ">"),
    "bmft": Look("#CC6677", "X"),
    "swift": Look("#882255", "*"),
}
_OTHERS = ("#4477AA", "#EE7733", "#228833", "#BB5566", "#997700", "#004488")
_MARKERS = "ovD^<>PXdph8"
# Groups of an attribute, in the order of their indices (Okabe and Ito, 2008)
_GROUPS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")


def look(method: str) -> Look:
    """Colour and marker of a method; a variant (`swift_zscore`) gets a shade of its method's."""
    if method in _METHODS:
        return _METHODS[method]
    code = zlib.crc32(method.encode())
    family = next((m for m in sorted(_METHODS) if method.startswith(f"{m}_")), None)
    marker = _MARKERS[code % len(_MARKERS)]
    if family is None:
        return Look(_OTHERS[code % len(_OTHERS)], marker)
    shade = (0.35, 0.5, -0.3, -0.5)[code // 16 % 4]
    other = np.ones(3) if shade > 0 else np.zeros(3)
    mixed = np.array(to_rgb(_METHODS[family].color)) * (1 - abs(shade)) + other * abs(shade)
    return Look(to_hex(tuple(mixed)), marker)


def group_color(group: int) -> str:
    """Colour of an attribute's group."""
    return _GROUPS[group % len(_GROUPS)]


# --- what is drawn --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A view of the config, with what is needed to name things.

    Attributes:
        name: e.g. figure4; names the files.
        blocks: what to show, in order.
        titles: display names of the methods.
        groups: attribute -> names of its groups.
        classes: task -> names of class 0 and class 1.
        epochs: task -> (epochs of pre-training, share of them in percent used by default).
        variants: method -> its settings, as in the config.
        options: of the view: details of the drawing.
        synthetic: the data are made up; every figure then says so.
    """

    name: str
    blocks: tuple[Block, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    epochs: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False

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
        costs: as `tables.read_costs` gives them.
        predictions: as `results.read_predictions` gives them.
        summaries: as `results.read_summaries` gives them.
        intervals: task, backbone, attribute and the columns of `statistics.bootstrap`.
        arrays: what script figure_arrays.py computed for this figure.
    """

    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    summaries: pd.DataFrame = field(default_factory=pd.DataFrame)
    intervals: pd.DataFrame = field(default_factory=pd.DataFrame)
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
    """Mean, std and n_folds of the request's cells: KEYS as columns, in the view's order.

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


# --- parts of figures -----------------------------------------------------------------------------


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


def heading(block: Block, dataset: str = "") -> str:
    """Two lines: the test set; attribute and network."""
    below = f"{title(block.attribute)}, {title(block.backbone)}"
    return f"{title(dataset)}\n{below}" if dataset else below


def panel_title(axes: Axes, place: int, text: str, n_panels: int) -> None:
    """A title with a bold letter before it: a, b, ...; none where there is but one panel."""
    letter = rf"$\bf{{{chr(ord('a') + place)}}}$  " if 1 < n_panels <= 26 else ""
    axes.set_title(letter + text, loc="left")


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
    color, marker = look(method)
    bars = {name: options.pop(name) for name in ("xerr", "yerr") if name in options}
    axes.errorbar(x, y, **bars, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.6, zorder=2)
    size = 8.5 if marker == "*" else 4.5
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.3}
    axes.plot(x, y, **{"marker": marker, "color": color, "markersize": size, **edge, **options})


def legend_line(label: str, **options: Any) -> Line2D:
    """A legend entry of a line or marker."""
    return Line2D([], [], label=label, **options)


def method_handles(request: Request, methods: Sequence[str]) -> list[Line2D]:
    """Legend entries of methods."""
    looks = {method: look(method) for method in methods}
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


# --- writing --------------------------------------------------------------------------------------


def mark_synthetic(figure: Figure) -> None:
    """Say 'synthetic data' in a strip of its own above everything else."""
    strip = 0.13 / figure.get_size_inches()[1]
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, 1 - strip))
    font: dict[str, Any] = {"fontsize": 6.5, "color": "#B00020", "ha": "right", "va": "top"}
    figure.text(0.995, 1 - 0.02 / figure.get_size_inches()[1], "synthetic data", **font)


def find(plots: Mapping[str, Plot], name: str, view: str) -> Plot:
    """A drawing by name; a wrong name is a `UserError`."""
    if name not in plots:
        raise UserError(f"experiments.{view}.plot: no drawing {name!r}{nearest(name, plots)}")
    return plots[name]


def draw(plot: Plot, request: Request, sources: Sources) -> Drawing:
    """A drawing in our style, with everything in its final place."""
    with style.context(["default", STYLE]):
        drawing = plot(request, sources)
        if request.synthetic:
            mark_synthetic(drawing.figure)
        # lay out once, not again for every format
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
    return drawing


def write(plot: Plot, request: Request, sources: Sources, stem: Path) -> list[Path]:
    """Draw, and write `{stem}.pdf`, `.png` and `.csv`; returns their paths."""
    drawing = draw(plot, request, sources)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("pdf", "png", "csv")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    with style.context(["default", STYLE]):
        # no dates: the same data give the same bytes
        with whole(paths[0]) as partial:
            drawing.figure.savefig(partial, format="pdf", metadata={"CreationDate": None})
        with whole(paths[1]) as partial:
            drawing.figure.savefig(partial, format="png", dpi=DPI)
    with whole(paths[2]) as partial:
        drawing.data.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")
    return paths
