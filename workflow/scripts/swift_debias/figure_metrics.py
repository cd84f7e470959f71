"""Drawings of numbers: sweeps over a setting, trade-offs, costs, thresholds, groups, masks.

Every function takes a `Request` and `Sources` and returns a `Drawing`; see figures.py. Points are
means over folds, bars and bands one sample standard deviation (n - 1) over folds, unless the
caption says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import metrics, tables
from .figures import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    Drawing,
    Plot,
    Request,
    Sources,
    band,
    cell_means,
    dot,
    grid_of_axes,
    group_color,
    heading,
    legend_below,
    legend_line,
    look,
    method_handles,
    metric_label,
    new_figure,
    of_block,
    panel_title,
    reach,
)
from .settings import UserError
from .tables import Block, title

BASELINE = "baseline"
SWEPT = "swift"  # sweeps are drawn in its colour

# --- sweeps: Figures 4, 6 and 7 -------------------------------------------------------------------


def epochs(request: Request, sources: Sources) -> Drawing:
    """Figure 4: metrics and debiasing time against epochs; 0 is the Baseline."""

    def position(block: Block, method: str) -> float:
        total, percent = request.epochs[block.task]
        own = request.variants[method].get("epochs_percent") or percent
        return 0.0 if _untouched(request, method) else max(1, round(total * own / 100))

    points = _points(request, sources, position)
    times = _times(request, sources, position)
    return _sweep(request, pd.concat([points, times], ignore_index=True), "Epochs of each step")


def external(request: Request, sources: Sources) -> Drawing:
    """Figure 7: metrics against the share of the external set; 0 is the Baseline."""

    def position(block: Block, method: str) -> float:
        share = float(request.variants[method]["external_fraction"])
        return 0.0 if _untouched(request, method) else share

    return _sweep(request, _points(request, sources, position), "Share of the external set")


def reinit(request: Request, sources: Sources) -> Drawing:
    """Figure 6: metrics against the share of the head's weights that step 2 sets to zero.

    Where the choice "mean of the mask" falls differs from fold to fold; its mean is marked.
    """
    arrays = sources.arrays
    names = ("task", "backbone", "attribute", "method")
    shares = pd.DataFrame({name: arrays[name] for name in (*names, "share")})
    found = 100 * shares.groupby(list(names))["share"].mean()

    def position(block: Block, method: str) -> float:
        return float(found.get((block.task, block.backbone, block.attribute, method), np.nan))

    points = _points(request, sources, position)
    return _sweep(request, points, "Head weights re-initialized (%)", rule="mean of the mask")


def _untouched(request: Request, method: str) -> bool:
    return request.variants[method]["algorithm"] == BASELINE


def _points(
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


def _times(
    request: Request, sources: Sources, position: Callable[[Block, str], float]
) -> pd.DataFrame:
    """Seconds of debiasing as further cells, one row of axes each; the Baseline takes none."""
    seconds = sources.costs[sources.costs["metric"] == "seconds"]
    without = seconds.copy()
    without.loc[[_untouched(request, m) for m in without["method"]], "value"] = 0.0
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


def _sweep(request: Request, points: pd.DataFrame, label: str, rule: str = "") -> Drawing:
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
        panel_title(rows[row][0], row, heading(block, dataset), len(panels))
        for axes, metric in zip(rows[row], names, strict=True):
            top = np.inf if metric == "seconds" else 1.0
            _sweep_axes(axes, request, part[part["metric"] == metric], top, apart=bool(rule))
            axes.set_ylabel(metric_label(metric))
            axes.set_xlabel(label)
    chosen = f"{rule}: used elsewhere" if rule else "setting used elsewhere"
    legend_below(figure, _sweep_handles(request, points, chosen), 4)
    keys = [*tables.KEYS, "x", "mean", "std", "n_folds"]
    return Drawing(figure, points.sort_values([*tables.KEYS[:3], "dataset", "metric", "x"])[keys])


def _sweep_axes(axes: Axes, request: Request, part: pd.DataFrame, top: float, apart: bool) -> None:
    """One curve with its band, within [0, top]; Baseline and the setting in use are marked."""
    base = np.array([_untouched(request, str(method)) for method in part["method"]])
    used = (part["method"] == SWEPT).to_numpy()
    color, names = look(SWEPT).color, ["x", "mean", "std"]
    line = (part[~used] if apart else part).dropna(subset=["x", "mean"]).sort_values("x")
    x, mean, std = line[names].to_numpy(float).T
    low, high = band(mean, std, top)
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=color, marker="o", markersize=3)
    for at, height, _ in part.loc[base, names].to_numpy(float):
        if np.isnan(at):
            axes.axhline(height, color=look(BASELINE).color, linestyle="--", linewidth=1)
        else:
            dot(axes, at, height, BASELINE, zorder=3)
    for at, height, spread in part.loc[used, names].to_numpy(float):
        bars = {"yerr": reach(height, spread, top)} if apart else {}
        dot(axes, at, height, SWEPT, **bars, zorder=4)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.06, y=0.12)


def _sweep_handles(request: Request, points: pd.DataFrame, chosen: str) -> list[Line2D | Patch]:
    """Legend of a sweep."""
    base = [_untouched(request, str(method)) for method in points["method"]]
    (swift,) = method_handles(request, [SWEPT])
    swift.set_label(chosen)
    if points.loc[base, "x"].isna().any():
        name = request.title(BASELINE)
        baseline = legend_line(name, color=look(BASELINE).color, linestyle="--")
    else:
        (baseline,) = method_handles(request, [BASELINE])
    color = look(SWEPT).color
    curve = legend_line("SWiFT, mean over folds", color=color, marker="o", markersize=3)
    band = Patch(color=color, alpha=0.18, linewidth=0, label="± standard deviation")
    return [baseline, curve, band, swift]


# --- trade-offs -----------------------------------------------------------------------------------


def non_dominated(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Which points no other point beats: not one that is better in one and no worse in the other.

    Args:
        high: to be maximized, shape (n,).
        low: to be minimized, shape (n,). A NaN in either is never on the front.
    """
    known = np.isfinite(high) & np.isfinite(low)
    no_worse = (high[None] >= high[:, None]) & (low[None] <= low[:, None])
    better = (high[None] > high[:, None]) | (low[None] < low[:, None])
    beaten = (no_worse & better & known[None]).any(axis=1)
    return known & ~beaten


def pareto(request: Request, sources: Sources) -> Drawing:
    """AUC against EOdds of all methods on each test set, with the non-dominated front."""
    high, low = request.options.get("axes", ("auc", "eodds"))
    blocks = tuple(block._replace(metrics=(high, low)) for block in request.blocks)
    means = cell_means(sources.metrics, Request(request.name, blocks))
    keys = tables.KEYS[:-1]
    pair = [
        means.loc[means["metric"] == metric, [*keys, "mean", "std"]].rename(
            columns={"mean": f"{metric}_mean", "std": f"{metric}_std"}
        )
        for metric in (high, low)
    ]
    wide = pair[0].merge(pair[1], on=keys)
    panels = request.panels()
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PAGE * columns / 4 if columns > 2 else PAGE, 0.6 + 1.75 * rows)
    axes = [a for row in grid_of_axes(figure, rows, columns) for a in row]
    front = pd.Series(data=False, index=wide.index)
    for place, (block, dataset) in enumerate(panels):
        part = of_block(wide, block, dataset=dataset)
        best = non_dominated(part[f"{high}_mean"].to_numpy(), part[f"{low}_mean"].to_numpy())
        front[part.index] = best
        _pareto_axes(axes[place], part, best, high, low)
        panel_title(axes[place], place, heading(block, dataset), len(panels))
    for unused in axes[len(panels) :]:
        unused.remove()
    front_line = legend_line("non-dominated front", color=GREY, linestyle="--", linewidth=0.9)
    legend_below(figure, [*method_handles(request, request.methods()), front_line], 6)
    return Drawing(figure, wide.assign(non_dominated=front))


def _pareto_axes(axes: Axes, part: pd.DataFrame, best: np.ndarray, high: str, low: str) -> None:
    names = (f"{high}_mean", f"{low}_mean", f"{high}_std", f"{low}_std")
    x, y, dx, dy = (part[name].to_numpy(float) for name in names)
    for place, method in enumerate(part["method"].astype(str)):
        edge = {"markeredgecolor": INK, "markeredgewidth": 0.7} if best[place] else {}
        bars = {"xerr": reach(x[place], dx[place]), "yerr": reach(y[place], dy[place])}
        dot(axes, x[place], y[place], method, **bars, **edge, zorder=4 if best[place] else 3)
    axes.margins(0.08)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    order = np.flatnonzero(best)[np.argsort(x[best], kind="stable")]
    if len(order):
        # every point to the left of and above this staircase is beaten
        stairs_x = np.array([left, *x[order], x[order][-1]])
        stairs_y = np.array([y[order][0], *y[order], top])
        axes.step(stairs_x, stairs_y, "--", where="pre", color=GREY, linewidth=0.9, zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(metric_label(high))
    axes.set_ylabel(metric_label(low))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


# --- one line a method ----------------------------------------------------------------------------


def _method_axis(axes: Axes, request: Request, methods: Sequence[str], named: bool) -> None:
    """Methods from top to bottom; their names are written where `named`."""
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_yticks(range(len(methods)))
    axes.set_yticklabels([request.title(m) for m in methods] if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="x")
    axes.spines["left"].set_visible(False)


def _rows(figure: Figure, lines: Sequence[float], columns: int) -> list[list[Axes]]:
    """Rows of axes, each a subfigure of its own and high enough for so many lines of text."""
    heights = [0.75 + 0.15 * n for n in lines]
    figure.set_size_inches(PAGE, 0.15 + sum(heights))
    parts = figure.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)[:, 0]
    return [list(part.subplots(1, columns, squeeze=False)[0]) for part in parts]


def cost(request: Request, sources: Sources) -> Drawing:
    """What each method costs, on logarithmic axes, beside the Baseline's training."""
    blocks = [b._replace(datasets=("",), metrics=tables.COSTS) for b in request.blocks]
    means = cell_means(sources.costs, Request(request.name, tuple(blocks)))
    figure = new_figure(PAGE, 1)
    rows = _rows(figure, [len(block.methods) for block in blocks], len(tables.COSTS))
    for row, (block, axes_row) in enumerate(zip(blocks, rows, strict=True)):
        methods = [m for m in block.methods if m != BASELINE]
        panel_title(axes_row[0], row, heading(block), len(blocks))
        for axes, metric in zip(axes_row, tables.COSTS, strict=True):
            part = of_block(means, block, metric=metric).set_index("method")
            _method_axis(axes, request, methods, named=axes is axes_row[0])
            for y, method in enumerate(methods):
                mean, std = float(part["mean"][method]), float(part["std"][method])
                if mean > 0:
                    spread = float(np.nan_to_num(std))
                    dot(axes, mean, y, method, xerr=[[min(spread, 0.9 * mean)], [spread]])
                elif mean == 0:  # the axis has no zero
                    place = axes.get_yaxis_transform()
                    axes.text(0.01, y, "0", transform=place, va="center", color=look(method).color)
            if BASELINE in part.index:
                reference = float(part["mean"][BASELINE])
                axes.axvline(reference, color=look(BASELINE).color, linestyle="--", linewidth=1)
            axes.set_xscale("log")
            axes.set_xlabel(title(metric))
            _log_ticks(axes)
    name = "the Baseline's training"
    legend_below(figure, [legend_line(name, color=look(BASELINE).color, linestyle="--")], 1)
    return Drawing(figure, means[[*tables.KEYS, "mean", "std", "n_folds"]])


def _log_ticks(axes: Axes, most: int = 4) -> None:
    """At most so many ticks on a logarithmic x axis, at round numbers: 0.1, 500, 2k, 10M."""
    left, right = axes.get_xlim()
    powers = 10.0 ** np.arange(np.floor(np.log10(left)), np.ceil(np.log10(right)) + 1)
    steps = [np.outer(powers, subs).ravel() for subs in _ROUND]
    inside = [np.sort(ticks[(ticks >= left) & (ticks <= right)]) for ticks in steps]
    inside = [ticks for ticks in inside if len(ticks)]
    middle = np.array([float(f"{np.sqrt(left * right):.2g}")])  # between two round numbers
    chosen = next((ticks for ticks in inside if len(ticks) <= most), [*inside, middle][-1])
    axes.set_xticks(chosen[:: -(-len(chosen) // most)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: _short(value)))
    axes.minorticks_off()


_ROUND = (range(1, 10), (1, 2, 5), (1, 3), (1,))


def _short(value: float) -> str:
    """2000 as 2k."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def groups(request: Request, sources: Sources) -> Drawing:
    """AUC and calibration error of every group: the worst group is the leftmost AUC."""
    shown = ("auc", "ece")
    blocks = [
        block._replace(
            metrics=[
                f"{m}[{g}]" for m in shown for g in range(len(request.groups[block.attribute]))
            ]
        )
        for block in request.blocks
    ]
    means = cell_means(sources.metrics, Request(request.name, tuple(blocks)))
    width = max(len(block.datasets) for block in blocks)
    # the groups of a method stand under each other
    lines = [len(b.methods) * max(1, len(request.groups[b.attribute]) / 2.5) for b in blocks]
    figure = new_figure(PAGE, 1)
    place, total = 0, len(request.panels())
    rows = _rows(figure, lines, width * len(shown))
    for block, axes_row in zip(blocks, rows, strict=True):
        names = request.groups[block.attribute]
        cells = [(dataset, metric) for dataset in block.datasets for metric in shown]
        for axes, (dataset, metric) in zip(axes_row, cells, strict=False):
            part = of_block(means, block, dataset=dataset)
            _method_axis(axes, request, block.methods, named=axes is axes_row[0])
            _group_dots(axes, part, block.methods, metric, len(names))
            axes.set_xlabel(metric_label(metric))
            if metric == shown[0]:
                panel_title(axes, place, heading(block, dataset), total)
                place += 1
        for unused in axes_row[len(cells) :]:
            unused.set_visible(False)
        handles = [
            legend_line(name, color=group_color(g), marker="o", linestyle="none")
            for g, name in enumerate(names)
        ]
        part_figure = axes_row[0].get_figure(root=False)
        assert part_figure is not None
        part_figure.legend(handles=handles, loc="outside right upper", handletextpad=0.1)
    return Drawing(figure, means[[*tables.KEYS, "mean", "std", "n_folds"]])


def _group_dots(
    axes: Axes, part: pd.DataFrame, methods: Sequence[str], metric: str, k: int
) -> None:
    """A dot a group, one under the other so that the bars do not hide each other."""
    names = part[["method", "metric"]].itertuples(index=False, name=None)
    values = dict(zip(names, part[["mean", "std"]].to_numpy(float), strict=True))
    offsets = np.linspace(-0.14, 0.14, k) if k < 4 else np.linspace(-0.3, 0.3, k)
    for y, method in enumerate(methods):
        for group in range(k):
            mean, std = values[method, f"{metric}[{group}]"]
            at, color = y + offsets[group], group_color(group)
            bar: dict[str, Any] = {"xerr": reach(mean, std), "elinewidth": 0.7}
            axes.errorbar(mean, at, **bar, color=color, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def intervals(request: Request, sources: Sources) -> Drawing:
    """Differences to the Baseline with 95 % bootstrap intervals over test images."""
    if sources.intervals.empty:
        raise UserError(f"{request.name}: there are no bootstrap intervals to draw")
    blocks = [
        block._replace(methods=[m for m in block.methods if m != BASELINE])
        for block in request.blocks
    ]
    width = max(len(block.datasets) * len(block.metrics) for block in blocks)
    figure, frames = new_figure(PAGE, 1), []
    place, total = 0, len(request.panels())
    rows = _rows(figure, [len(block.methods) for block in blocks], width)
    for block, axes_row in zip(blocks, rows, strict=True):
        cells = [(dataset, metric) for dataset in block.datasets for metric in block.metrics]
        for axes, (dataset, metric) in zip(axes_row, cells, strict=False):
            part = of_block(sources.intervals, block, dataset=dataset, metric=metric)
            frames.append(part[part["method"].isin(block.methods)])
            _method_axis(axes, request, block.methods, named=axes is axes_row[0])
            _forest(axes, part, block.methods)
            axes.set_xlabel(f"Δ {metric_label(metric)}")
            if metric == block.metrics[0]:
                panel_title(axes, place, heading(block, dataset), total)
                place += 1
        for unused in axes_row[len(cells) :]:
            unused.set_visible(False)
    return Drawing(figure, pd.concat(frames, ignore_index=True))


def _forest(axes: Axes, part: pd.DataFrame, methods: Sequence[str]) -> None:
    axes.axvline(0, color=look(BASELINE).color, linewidth=0.8, zorder=1)
    names = ["difference", "difference_low", "difference_high"]
    values = dict(zip(part["method"], part[names].to_numpy(float), strict=True))
    for y, method in enumerate(methods):
        if method in values:
            middle, low, high = values[method]
            # of a skewed metric the interval may lie beside its estimate
            axes.plot([low, high], [y, y], color=look(method).color, alpha=0.6, zorder=2)
            dot(axes, middle, y, method)
    axes.xaxis.set_major_locator(MaxNLocator(3))


# --- thresholds -----------------------------------------------------------------------------------


def thresholds(request: Request, sources: Sources) -> Drawing:
    """What the decision threshold does to SPD, EOdds and balanced accuracy; 0.5 is used.

    Lines are means over folds, bands one standard deviation.
    """
    import seaborn  # takes a second, and most figures do without

    shown = ("spd", "eodds", "balanced_accuracy")
    curves = threshold_curves(request, sources.predictions)
    panels = request.panels()
    figure = new_figure(PAGE, 0.35 + 1.7 * len(panels))
    rows = grid_of_axes(figure, len(panels), len(shown))
    for row, (block, dataset) in enumerate(panels):
        part = of_block(curves, block, dataset=dataset)
        panel_title(rows[row][0], row, heading(block, dataset), len(panels))
        for axes, metric in zip(rows[row], shown, strict=True):
            axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            seaborn.lineplot(
                part,
                x="threshold",
                y=metric,
                hue="method",
                palette={method: look(method).color for method in block.methods},
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
    lines = [legend_line(request.title(m), color=look(m).color) for m in request.methods()]
    legend_below(figure, lines, 6)
    return Drawing(figure, curves)


def threshold_curves(request: Request, predictions: pd.DataFrame) -> pd.DataFrame:
    """`metrics.threshold_curve` of each block, method, fold and test set."""
    frames = []
    for block in request.blocks:
        keys = {"task": block.task, "backbone": block.backbone, "attribute": block.attribute}
        for method in block.methods:
            part = of_block(predictions, block, method=method)
            part = part[part["dataset"].isin(list(block.datasets))]
            if part.empty:
                raise UserError(f"{request.name}: no predictions of method {method!r}")
            for number, fold in part.groupby("fold"):
                scores = fold.drop(columns="attribute").rename(columns={"group": "attribute"})
                curve = metrics.threshold_curve(scores, len(request.groups[block.attribute]))
                found = {**keys, "method": method, "fold": number}
                frames.append(curve.assign(**found)[[*found, *curve.columns]])
    return pd.concat(frames, ignore_index=True)


# --- masks: Figures 8 and 9, and the two estimators -----------------------------------------------


def masks(request: Request, sources: Sources) -> Drawing:
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
        Patch(color=look(SWEPT).color, alpha=0.3, linewidth=0, label="distribution of elements"),
        legend_line("mean ± standard deviation", color=look(SWEPT).color, marker="o"),
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
    color = look(SWEPT).color
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


def estimators(request: Request, sources: Sources) -> Drawing:
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
        panel_title(rows[row][0], row, heading(block, dataset), len(panels))
        for axes, metric in zip(rows[row], names, strict=False):
            part = of_block(means, block, dataset=dataset, metric=metric).set_index("method")
            _method_axis(axes, request, block.methods, named=axes is rows[row][0])
            for y, method in enumerate(block.methods):
                mean, std = float(part["mean"][method]), float(part["std"][method])
                dot(axes, mean, y, method, xerr=reach(mean, std))
            axes.set_xlabel(metric_label(metric))
            axes.xaxis.set_major_locator(MaxNLocator(3))
        _mask_histograms(rows[row][-1], of_block(hist, block))
    return Drawing(figure, pd.concat([means.drop(columns=["reason"]), hist], ignore_index=True))


_MASK_COLUMNS = ("task", "backbone", "attribute", "estimator", "fold", "low", "share", "spearman")
_ESTIMATORS = {
    "minibatch": (look(SWEPT).color, "mini-batch"),
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


PLOTS: Mapping[str, Plot] = {
    "epochs": epochs,
    "reinit": reinit,
    "external": external,
    "pareto": pareto,
    "cost": cost,
    "groups": groups,
    "intervals": intervals,
    "thresholds": thresholds,
    "masks": masks,
    "estimators": estimators,
}
