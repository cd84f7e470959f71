"""Drawings of pictures: example images, activation maps, importances, and the method's diagram.

Every function takes a `Request` and `Sources` and returns a `Drawing`; see figures.py. Pixels, maps
and importances come from figure_arrays.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Polygon, Rectangle

from .figures import (
    GREY,
    INK,
    PAGE,
    PALE,
    Drawing,
    Plot,
    Request,
    Sources,
    band,
    group_color,
    heading,
    legend_below,
    look,
    new_figure,
    of_block,
    panel_title,
)
from .settings import UserError

BINS = 20  # of score histograms
HEAT = "inferno"  # perceptually uniform, and read by colour-blind eyes
THRESHOLD = 0.5

# --- Figure 1: what bias looks like ---------------------------------------------------------------


def bias(request: Request, sources: Sources) -> Drawing:
    """Images of each class and group with a method's scores, and the scores by group."""
    block, arrays = request.blocks[0], sources.arrays
    names, method = request.groups[block.attribute], block.methods[0]
    scores = of_block(sources.predictions, block, method=method, dataset=block.datasets[0])
    shares = score_histograms(scores, len(names))
    most = max(int(np.sum(_cell(arrays, y, g))) for y in (0, 1) for g in range(len(names)))
    figure = new_figure(PAGE, 3.1)
    # the images of each group, a gap after each, and the scores
    ratios = [*[*[1.0] * most, 0.2] * len(names), 0.5 * most * len(names)]
    grid = figure.add_gridspec(2, len(ratios), width_ratios=ratios)
    for row, label in enumerate((1, 0)):
        for group, name in enumerate(names):
            places = np.flatnonzero(_cell(arrays, label, group))
            for column in range(most):
                axes = figure.add_subplot(grid[row, group * (most + 1) + column])
                _bare(axes)
                if column < len(places):
                    _scored_image(axes, arrays, places[column])
                if row == 0 and column == 0:
                    axes.set_title(name, color=group_color(group), fontweight="bold")
                if column + group == 0:
                    axes.set_ylabel(_class_name(request, block.task, label))
        axes = figure.add_subplot(grid[row, -1])
        _score_axes(axes, shares[shares["label"] == label], names, label)
        if row == 1:
            positive = request.classes[block.task][1]
            axes.set_xlabel(f"{request.title(method)}'s score, P({positive})")
    handles, _ = axes.get_legend_handles_labels()
    legend_below(figure, [*handles[1:], handles[0]], len(handles))
    figure.suptitle(heading(block, block.datasets[0]).replace("\n", ": "), x=0.01, ha="left")
    chosen = {key: arrays[key] for key in ("image_id", "label", "group", "score")}
    data = pd.concat([pd.DataFrame(chosen).assign(kind="image"), shares.assign(kind="histogram")])
    data["class_name"] = [request.classes[block.task][label] for label in data["label"]]
    data["group_name"] = [names[group] for group in data["group"]]
    return Drawing(figure, data)


def score_histograms(scores: pd.DataFrame, groups: int) -> pd.DataFrame:
    """Share of images in each score bin, by class and group: mean and std over folds.

    Args:
        scores: columns label, group, score, fold, of one method on one test set.
        groups: number of groups.

    Returns:
        label, group, low, high (the bin's edges), mean, std.
    """
    edges = np.linspace(0, 1, BINS + 1)
    frames = []
    for label in (1, 0):
        for group in range(groups):
            cell = scores[(scores["label"] == label) & (scores["group"] == group)]
            folds = [
                np.histogram(fold["score"], edges)[0] / len(fold)
                for _, fold in cell.groupby("fold")
            ]
            if not folds:
                continue
            std = np.std(folds, axis=0, ddof=1) if len(folds) > 1 else np.full(BINS, np.nan)
            keys = {"label": label, "group": group, "low": edges[:-1], "high": edges[1:]}
            frames.append(pd.DataFrame({**keys, "mean": np.mean(folds, axis=0), "std": std}))
    if not frames:
        raise UserError("no scores of a known group: nothing to draw")
    return pd.concat(frames, ignore_index=True)


def _cell(arrays: Mapping[str, np.ndarray], label: int, group: int) -> np.ndarray:
    return (arrays["label"] == label) & (arrays["group"] == group)


def _class_name(request: Request, task: str, label: int) -> str:
    return request.classes[task][label].replace(" ", "\n")


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _scored_image(axes: Axes, arrays: Mapping[str, np.ndarray], place: int) -> None:
    """An image with its score under it; a wrong decision is marked by a cross."""
    _picture(axes, arrays["images"][place])
    score, label = float(arrays["score"][place]), int(arrays["label"][place])
    _score_label(axes, score, (score >= THRESHOLD) == bool(label))


def _picture(axes: Axes, pixels: np.ndarray) -> None:
    """A uint8 image (H, W, C), grey or RGB."""
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    else:
        axes.imshow(pixels, interpolation="antialiased")


def _score_label(axes: Axes, score: float, right: bool) -> None:
    text = f"{score:.2f} {'✓' if right else '✗'}"
    axes.set_xlabel(text, labelpad=2, color=INK if right else "#B00020")
    axes.xaxis.label.set_fontweight("normal" if right else "bold")


def _score_axes(axes: Axes, shares: pd.DataFrame, names: Sequence[str], label: int) -> None:
    """Score distribution of one class, a step line a group; wrong decisions lie on grey."""
    wrong = (0.0, THRESHOLD) if label == 1 else (THRESHOLD, 1.0)
    axes.axvspan(*wrong, color=PALE, linewidth=0, alpha=0.6, label="wrong decision", zorder=0)
    for group, name in enumerate(names):
        part = shares[shares["group"] == group]
        edges = np.append(part["low"], 1.0)
        mean, color = part["mean"].to_numpy(float), group_color(group)
        low, high = (np.append(v, v[-1:]) for v in band(mean, part["std"].to_numpy(float)))
        axes.fill_between(edges, low, high, step="post", color=color, alpha=0.2, linewidth=0)
        axes.stairs(mean, edges, color=color, linewidth=1.2, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Share of images")


# --- Figure 5: class activation maps --------------------------------------------------------------


def activation(request: Request, sources: Sources) -> Drawing:
    """Where each method sees the true class: the same images of both classes and all groups."""
    block, arrays = request.blocks[0], sources.arrays
    methods = [str(method) for method in arrays["methods"]]
    n, names = len(arrays["images"]), request.groups[block.attribute]
    side = min(1.15, (PAGE - 0.9) / (len(methods) + 1))
    figure = new_figure(0.9 + side * (len(methods) + 1), 0.75 + (side + 0.2) * n)
    axes = figure.subplots(n, len(methods) + 1, squeeze=False)
    rows = []
    for place in range(n):
        label, group = int(arrays["label"][place]), int(arrays["group"][place])
        for axis in axes[place]:
            _bare(axis)
        _picture(axes[place][0], arrays["images"][place])
        axes[place][0].set_ylabel(f"{_class_name(request, block.task, label)},\n{names[group]}")
        for column, method in enumerate(methods):
            axis, values = axes[place][column + 1], arrays["maps"][column][place]
            heat = _overlay(axis, arrays["images"][place], values)
            score = float(arrays["scores"][column][place])
            _score_label(axis, score, (score >= THRESHOLD) == bool(label))
            keys = {"image_id": arrays["image_id"][place], "label": label, "group": group}
            about = {"method": method, "kind": arrays["kinds"][column], "score": score}
            rows.append({**keys, **about, "lowest": values.min(), "highest": values.max()})
    axes[0][0].set_title("Image", loc="center")
    for column, method in enumerate(methods):
        axes[0][column + 1].set_title(request.title(method), loc="center")
    bar = figure.colorbar(heat, ax=axes[:, 1:], orientation="horizontal", shrink=0.5, aspect=40)
    bar.set_ticks([0, 1], labels=["least", "most"])
    bar.set_label("Evidence for the true class, within each map", labelpad=-6)
    bar.outline.set_visible(False)
    assert bar.solids is not None
    bar.solids.set_alpha(1)
    return Drawing(figure, pd.DataFrame(rows))


def _overlay(axes: Axes, pixels: np.ndarray, values: np.ndarray) -> Any:
    """A map over its image in grey; every map from its own minimum to its maximum."""
    height, width = pixels.shape[:2]
    span = float(np.ptp(values)) or 1.0
    axes.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    style: dict[str, Any] = {"cmap": HEAT, "vmin": 0, "vmax": 1, "alpha": 0.55}
    scaled = (values - values.min()) / span
    return axes.imshow(scaled, extent=extent, interpolation="bicubic", **style)


# --- Figure 3: importances and mask of a layer ----------------------------------------------------


def importance(request: Request, sources: Sources) -> Drawing:
    """Bias importance, prediction importance and soft mask of the same weights of one layer."""
    arrays = sources.arrays
    shown = {
        "bias": "Bias importance",
        "prediction": "Prediction importance",
        "mask": "Soft mask",
    }
    height, width = arrays["mask"].shape
    figure = new_figure(PAGE, 0.95 + 2.1 * min(1.2, max(0.5, height / width)))
    axes = figure.subplots(1, 3)
    for place, (kind, name) in enumerate(shown.items()):
        # importances are skewed: most are far below the largest
        norm = None if kind == "mask" else PowerNorm(0.4, 0, 1)
        limits = {"vmin": 0, "vmax": 1} if kind == "mask" else {}
        cmap = "viridis" if kind != "mask" else HEAT
        image = axes[place].imshow(arrays[kind], cmap=cmap, norm=norm, **limits)
        axes[place].grid(visible=False)
        axes[place].set_xlabel("Weight of the channel")
        panel_title(axes[place], place, name, 3)
        ticks = [0, 0.5, 1] if kind == "mask" else [0, 0.1, 0.5, 1]
        bar = figure.colorbar(image, ax=axes[place], orientation="horizontal", ticks=ticks)
        bar.outline.set_visible(False)
    axes[0].set_ylabel("Output channel")
    block = request.blocks[0]
    shape = " × ".join(str(n) for n in arrays["shape"])
    figure.suptitle(f"{heading(block)}: {arrays['layer']} ({shape})", x=0.01, ha="left")
    rows, columns = np.indices(arrays["mask"].shape)
    data = {"channel": rows.ravel(), "weight": columns.ravel()}
    data |= {kind: arrays[kind].ravel() for kind in shown}
    return Drawing(figure, pd.DataFrame(data).assign(layer=str(arrays["layer"])))


# --- Figure 2: the method -------------------------------------------------------------------------


class Stage(NamedTuple):
    """One stage of SWiFT: what happens, and in which state extractor and head are."""

    title: str
    lines: tuple[str, ...]
    extractor: str  # plain, measured, masked, trained, frozen, reset
    head: str
    icon: str = "network"  # or 'mask'
    uses_external: bool = False
    uses_mask: bool = False


def stages(settings: Mapping[str, Any], percent: float) -> list[Stage]:
    """The stages that a SWiFT variant really goes through (methods/swift.py), in order.

    Args:
        settings: of the variant, complete.
        percent: epochs of each step, in percent of the pre-training epochs.
    """
    found = [Stage("Biased classifier", ("pre-trained on the", "source data"), "plain", "plain")]
    masked = settings["mask"] in ("soft", "hard")
    if masked:
        how = "mini-batches" if settings["estimator"] == "minibatch" else "single samples"
        formulas = (
            r"$F_{bias} = E\,(\partial L_{bias}/\partial\theta)^2$",
            r"$F_{pred} = E\,(\partial L_{pred}/\partial\theta)^2$",
            f"over {how}",
        )
        found.append(Stage("Importance", formulas, "measured", "measured", uses_external=True))
    found.append(Stage("Mask", _mask_lines(settings), "plain", "plain", icon="mask"))
    epochs = f"{percent:g} % of the epochs"
    if settings["step1"]:
        lines = (r"$\Delta\theta \leftarrow M \odot \Delta\theta$", *_loss(settings, 1), epochs)
        found.append(Stage("Step 1: extractor", lines, "masked", "frozen", "network", True, True))
    if settings["step2"] and settings["reinit"] != "none":
        found.append(_reset(settings))
    if settings["step2"]:
        lines = (*_loss(settings, 2), epochs, r"$\rightarrow$ debiased")
        found.append(Stage("Step 2: head", lines, "frozen", "trained", "network", True))
    return found


def _mask_lines(settings: Mapping[str, Any]) -> tuple[str, ...]:
    if settings["mask"] == "none":
        return ("$M = 1$",)
    if settings["mask"] == "random":
        return (r"$M \sim U(0, 1)$",)
    ratio = r"$r = \frac{norm(F_{bias})}{norm(F_{pred}) + \epsilon}$"
    norm = f"norm: {settings['normalization']}"
    if settings["mask"] == "hard":
        return (ratio, r"$M = [\,r > quantile\,]$", "rate searched")
    return (ratio, r"$M = |\tanh r|$", norm)


def _reset(settings: Mapping[str, Any]) -> Stage:
    if settings["reinit"] == "full":
        return Stage("Re-initialize", (r"$\theta_{head} \leftarrow 0$",), "frozen", "reset")
    mean = settings["threshold"] == "mean"
    tau = r"$\tau$ = mean of $M_{head}$" if mean else rf"$\tau$: quantile {settings['threshold']:g}"
    lines = (r"$\theta_{head} \leftarrow 0$", r"where $M > \tau$", tau)
    return Stage("Re-initialize", lines, "frozen", "reset", uses_mask=True)


def _loss(settings: Mapping[str, Any], step: int) -> tuple[str, ...]:
    weight = settings[f"prediction_weight_{step}"]
    return (rf"${weight:g}\,L_{{pred}} + {1 - weight:g}\,L_{{bias}}$",)


def method(request: Request, _sources: Sources) -> Drawing:
    """The stages of SWiFT from left to right, with the settings in use."""
    block = request.blocks[0]
    settings = request.variants[block.methods[0]]
    percent = settings.get("epochs_percent") or request.epochs[block.task][1]
    found = stages(settings, percent)
    n = len(found)
    figure = Figure(figsize=(PAGE, 2.8))
    axes = figure.add_axes((0.005, 0.09, 0.99, 0.84))
    axes.set_axis_off()
    axes.set_xlim(0, n)
    axes.set_ylim(-1.55, 1.3)
    for place, stage in enumerate(found):
        _draw_stage(axes, place, stage)
        if place:
            _arrow(axes, (place - 0.1, 0.3), (place + 0.1, 0.3))
    _external_bar(axes, found)
    _mask_arrows(axes, found)
    handles = [
        Patch(**_fill(state), label=name) for state, name in _STATES.items() if state != "plain"
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), handlelength=1.4)
    data = [(stage.title, " | ".join(stage.lines), stage.extractor, stage.head) for stage in found]
    return Drawing(figure, pd.DataFrame(data, columns=["stage", "text", "extractor", "head"]))


_STATES = {
    "plain": "as it was",
    "measured": "importance measured",
    "masked": "trained, updates masked",
    "reset": "partly set to zero",
    "trained": "trained",
    "frozen": "frozen",
}
_MIDDLE = 0.3  # height of the networks' centres
_HALF = 0.3  # half the width of a network


def _fill(state: str) -> dict[str, Any]:
    """How a part of the network in this state is filled."""
    color = look("swift").color
    fills: dict[str, dict[str, Any]] = {
        "plain": {"facecolor": "white", "edgecolor": INK},
        "measured": {"facecolor": "white", "edgecolor": "#4477AA", "hatch": "......"},
        "masked": {"facecolor": "#E3C3D2", "edgecolor": color, "hatch": "||||"},
        "reset": {"facecolor": "white", "edgecolor": color, "hatch": "xxxx"},
        "trained": {"facecolor": color, "edgecolor": color},
        "frozen": {"facecolor": "#D0D0D0", "edgecolor": GREY},
    }
    return {"linewidth": 0.8, **fills[state]}


def _draw_stage(axes: Axes, place: int, stage: Stage) -> None:
    """Title, icon and text of one stage, in the column from `place` to `place` + 1."""
    x = place + 0.5
    axes.text(x, 0.86, stage.title, ha="center", fontweight="bold", fontsize=7)
    if stage.icon == "mask":
        _mosaic(axes, x)
    else:
        left, right = x - _HALF, x + _HALF
        corners = [(left, 0.36), (x + 0.1, 0.2), (x + 0.1, -0.2), (left, -0.36)]
        body = [(a, b + _MIDDLE) for a, b in corners]
        axes.add_patch(Polygon(body, closed=True, **_fill(stage.extractor)))
        low = (x + 0.16, _MIDDLE - 0.2)
        axes.add_patch(Rectangle(low, right - x - 0.16, 0.4, **_fill(stage.head)))
        if place == 0:
            axes.text(x - 0.1, _MIDDLE, "extractor", ha="center", va="center", fontsize=6)
            axes.text(x + 0.23, _MIDDLE, "head", ha="center", va="center", rotation=90, fontsize=6)
    for row, line in enumerate(stage.lines):
        axes.text(x, -0.36 - 0.25 * row, line, ha="center", va="center", fontsize=6.5)


def _mosaic(axes: Axes, x: float) -> None:
    """A schematic mask: a value between white (protected) and full colour (free) a weight."""
    shades = LinearSegmentedColormap.from_list("mask", ["white", look("swift").color])
    values = np.random.default_rng(4).beta(0.8, 0.8, (6, 6))
    for (row, column), value in np.ndenumerate(values):
        corner = (x - _HALF + 0.1 * column, _MIDDLE - 0.36 + 0.12 * row)
        color = shades(value)
        axes.add_patch(Rectangle(corner, 0.1, 0.12, fc=color, ec="white", linewidth=0.4))
    outline = (x - _HALF, _MIDDLE - 0.36)
    axes.add_patch(Rectangle(outline, 0.6, 0.72, facecolor="none", edgecolor=INK, linewidth=0.6))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    look_of_it: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 7,
        "linewidth": 0.8,
        "color": INK,
    }
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **(look_of_it | style)))


def _external_bar(axes: Axes, found: Sequence[Stage]) -> None:
    """The external set over the stages that use it, with an arrow to each."""
    users = [place for place, stage in enumerate(found) if stage.uses_external]
    if not users:
        return
    left, right = users[0] + 0.1, users[-1] + 0.9
    style: dict[str, Any] = {
        "boxstyle": "round,pad=0.02",
        "facecolor": "#E8F1F8",
        "edgecolor": "#4477AA",
    }
    axes.add_patch(FancyBboxPatch((left, 1.1), right - left, 0.16, linewidth=0.8, **style))
    text = "external set: the held-out fold, equally many images of each group, label by label"
    axes.text((left + right) / 2, 1.175, text, ha="center", va="center", fontsize=6.5)
    for place in users:
        _arrow(axes, (place + 0.5, 1.08), (place + 0.5, 0.96), color="#4477AA")


def _mask_arrows(axes: Axes, found: Sequence[Stage]) -> None:
    """Where the mask is used."""
    sources = [place for place, stage in enumerate(found) if stage.icon == "mask"]
    for place, stage in enumerate(found):
        if stage.uses_mask and place > sources[0] + 1:
            color = look("swift").color
            start, end = sources[0] + 0.5, place + 0.5
            corners = ([start, start, end], [-1.02, -1.36, -1.36])
            axes.plot(*corners, color=color, linewidth=0.8)
            _arrow(axes, (end, -1.36), (end, -1.02), color=color)
            axes.text((start + end) / 2, -1.28, "$M$ of the head", ha="center", fontsize=6.5)


PLOTS: Mapping[str, Plot] = {
    "bias": bias,
    "method": method,
    "importance": importance,
    "cam": activation,
}
