"""The pictures of the page which_method: a heat map of kinds of bias, and curves of sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ..config.drawn_biases import NO_BIAS
from .figures._parts import (
    Drawing,
    Request,
    Sources,
    grid_of_axes,
    legend_below,
    legend_line,
    method_handles,
    metric_label,
    new_figure,
)
from .figures._style import GREY, INK, PAGE, method_style
from .figures._write import write as write_figure

PANELS = (("eodds_change", "Change of EOdds (below 0: fairer)"), ("auc_change", "Change of AUC"))
CAPTIONS = {
    "kinds": "Change of EOdds and of AUC, by kind of bias and method; grey: inside the noise; †: "
    "implausible, such as a classifier that has collapsed",
    "sizes": "EOdds and AUC against the number of external images",
}


TITLES = {"kinds": "Kinds of bias", "sizes": "Sizes of the external set"}


class Picture(NamedTuple):
    """A picture of the page: its name, its heading, what stands below it, and its files."""

    name: str
    title: str
    caption: str
    paths: tuple[Path, ...]

    def file(self, suffix: str) -> Path:
        """Its file of a format: pdf, png or csv."""
        return next(path for path in self.paths if path.suffix == f".{suffix}")


def write(
    places: Sequence[tuple[str, pd.DataFrame]], titles: Mapping[str, str], baseline: str, out: Path
) -> list[Picture]:
    """Draw what there is to draw, each place (network, attribute, test set) for itself.

    Args:
        places: what `which_method.places` gives.
        titles: method -> its display name.
        baseline: the method that is the Baseline.
        out: folder of the pictures.
    """
    methods = list(dict.fromkeys(name for _, rows in places for name in rows["method"]))
    found = []
    for name, chosen, draw in (("kinds", _kinds, _heat_map), ("sizes", _sizes, _curves)):
        parts = [(place, chosen(part, baseline)) for place, part in places]
        for number, (place, part) in enumerate(parts, start=1):
            if part.empty:
                continue
            ending = f"_{number}" if place else ""
            stem = out / f"which_method_{name}{ending}"
            request = Request(stem.name, (), titles=dict(titles), synthetic=True)

            def plot(
                request: Request,
                sources: Sources,
                place: str = place,
                part: pd.DataFrame = part,
                draw: Callable[[Request, pd.DataFrame, list[str]], Figure] = draw,
            ) -> Drawing:
                figure = draw(request, part, methods)
                if place:
                    figure.suptitle(place, x=0.005, ha="left", fontsize=7)
                return Drawing(figure, part)

            caption = f"{place}: {CAPTIONS[name]}" if place else CAPTIONS[name]
            paths = write_figure(plot, request, Sources(), stem)
            found.append(Picture(stem.name, TITLES[name], caption, tuple(paths)))
    return found


def _kinds(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Changes by kind and strength: at the size of external set that has the most cases, clean."""
    part = rows[~rows["external_biased"].astype(bool) & (rows["method"] != baseline)]
    biased = part[part["kind"] != NO_BIAS]
    if biased.empty:
        return biased
    cases = biased.drop_duplicates("task")["external"].value_counts()
    size = max(cases.index, key=lambda one: (cases[one], one))
    return part[part["external"] == size]


def _sizes(rows: pd.DataFrame, _: str) -> pd.DataFrame:
    """Biases of which there are several sizes of clean external sets."""
    part = rows[~rows["external_biased"].astype(bool) & (rows["kind"] != NO_BIAS)]
    several = part.groupby(["kind", "strength"])["external"].transform("nunique") > 1
    return part[several]


def _case(kind: str, strength: float) -> str:
    shown = kind.replace("_", " ")
    return shown if kind in (NO_BIAS, "absence") else f"{shown} {strength:g}"


def _heat_map(request: Request, rows: pd.DataFrame, methods: list[str]) -> Figure:
    """A row a method, a column a bias; a panel EOdds, one AUC.

    Grey: inside the noise; with a dagger: implausible, such as a classifier that has collapsed.
    """
    columns = list(rows[["kind", "strength"]].drop_duplicates().itertuples(index=False, name=None))
    shown = [name for name in methods if name in set(rows["method"])]
    figure = new_figure(PAGE, 1.0 + 2 * (0.3 + 0.16 * len(shown)))
    for axes, (column, title) in zip(
        (line[0] for line in grid_of_axes(figure, 2, 1, sharex=True)), PANELS, strict=True
    ):
        table = rows.pivot_table(column, "method", ["kind", "strength"], aggfunc="mean")
        values = table.reindex(index=shown, columns=pd.MultiIndex.from_tuples(columns)).to_numpy()
        noise = _noisy(rows, column)
        grey = _flags(rows, noise, shown, columns)
        odd = _flags(rows, ~rows["ranked"].astype(bool), shown, columns)
        _paint(axes, values, grey, odd, better=-1 if column == "eodds_change" else 1)
        axes.set_title(title, loc="left")
        axes.set_yticks(range(len(shown)), [request.title(name) for name in shown])
        axes.set_xticks(range(len(columns)), [_case(*one) for one in columns], rotation=30)
        axes.tick_params(axis="x", length=0)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    return figure


def _noisy(rows: pd.DataFrame, column: str) -> pd.Series:
    """Whether each row's change cannot be told from chance, bool."""
    if column == "eodds_change":
        return rows["inside_noise"].astype(bool)
    return (rows["auc_low"] <= 0) & (rows["auc_high"] >= 0)


def _flags(
    rows: pd.DataFrame, flags: pd.Series, methods: list[str], columns: list[tuple[str, float]]
) -> np.ndarray:
    """bool (methods, columns): whether any row of the cell is flagged."""
    table = rows.assign(flag=flags.astype(float)).pivot_table(
        "flag", "method", ["kind", "strength"], aggfunc="max"
    )
    found = table.reindex(index=methods, columns=pd.MultiIndex.from_tuples(columns)).to_numpy()
    return found == 1


def _paint(axes: Axes, values: np.ndarray, noise: np.ndarray, odd: np.ndarray, better: int) -> None:
    """Cells with their numbers: green is better, purple worse; `noise` and `odd` stay grey."""
    grey = noise | odd
    most = max(0.05, float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 1.0
    painted = np.ma.masked_where(grey | ~np.isfinite(values), better * values)
    axes.set_facecolor("#EEEEEE")
    axes.imshow(painted, cmap="PRGn", norm=TwoSlopeNorm(0, -most, most), aspect="auto")
    axes.grid(visible=False)
    for (row, place), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = not grey[row, place] and abs(value) > 0.7 * most
            color = GREY if grey[row, place] else "white" if dark else INK
            text = f"{value:+.2f}{'†' * bool(odd[row, place])}"
            axes.text(place, row, text, ha="center", va="center", fontsize=6, color=color)


def _curves(request: Request, rows: pd.DataFrame, methods: list[str]) -> Figure:
    """A column a bias; EOdds above, AUC below; x is the number of external images.

    A method that was not run at every size is left out, so that all lines are of the same cases.
    """
    counts = rows.groupby("method")["external"].nunique()
    methods = [name for name in methods if counts.get(name) == counts.max()]
    cases = list(rows[["kind", "strength"]].drop_duplicates().itertuples(index=False, name=None))
    shown = [name for name in methods if name in set(rows["method"])]
    figure = new_figure(PAGE, 4.2)
    grid = grid_of_axes(figure, 2, len(cases), sharex=True, sharey="row")
    for column, (kind, strength) in enumerate(cases):
        part = rows[(rows["kind"] == kind) & (rows["strength"] == strength)]
        for axes, metric in ((grid[0][column], "eodds"), (grid[1][column], "auc")):
            for method in shown:
                own = part[part["method"] == method].sort_values("external")
                color, marker = method_style(method)
                axes.plot(own["external"], own[metric], color=color, marker=marker, linewidth=0.9)
            axes.plot(
                part["external"].drop_duplicates().sort_values(),
                np.full(part["external"].nunique(), part[f"oracle_{metric}"].iloc[0]),
                color=GREY,
                linestyle=":",
            )
            axes.set_xscale("log")
            sizes = sorted(part["external"].unique())
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.minorticks_off()
        grid[0][column].set_title(_case(kind, strength), loc="left")
        grid[1][column].set_xlabel("External images")
    for line, metric in zip(grid, ("eodds", "auc"), strict=True):
        line[0].set_ylabel(metric_label(metric))
    oracle = legend_line("Oracle", color=GREY, linestyle=":")
    legend_below(figure, [*method_handles(request, shown), oracle], 5)
    return figure
