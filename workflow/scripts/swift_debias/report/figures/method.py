"""Figure 2: the stages of SWiFT, drawn from the settings in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Polygon, Rectangle

from ._parts import Drawing, Request, Sources
from ._style import GREY, INK, PAGE, method_style

NEEDS: tuple[str, ...] = ()
SHOWS: tuple[str, ...] = ("*",)
IGNORES: tuple[str, ...] = ("metrics",)
FIRST: tuple[str, ...] = ("panels", "methods")
CAPTION = (
    "The stages of SWiFT, drawn from the settings that this run uses. F: diagonal Fisher "
    "information; norm: per parameter tensor; the optimizer's whole update is masked."
)


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
    threshold = settings["threshold"]
    if isinstance(threshold, float):
        tau = rf"$\tau$: quantile {threshold:g}"
    else:
        tau = r"$\tau$ = mean of $M_{head}$" if threshold == "mean" else r"$\tau$ learned"
    lines = (r"$\theta_{head} \leftarrow 0$", r"where $M > \tau$", tau)
    return Stage("Re-initialize", lines, "frozen", "reset", uses_mask=True)


def _loss(settings: Mapping[str, Any], step: int) -> tuple[str, ...]:
    weight = settings[f"prediction_weight_{step}"]
    return (rf"${weight:g}\,L_{{pred}} + {1 - weight:g}\,L_{{bias}}$",)


def draw(request: Request, _sources: Sources) -> Drawing:
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
    color = method_style("swift").color
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
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5}
        axes.text(x, -0.36 - 0.25 * row, line, parse_math=True, **style)


def _mosaic(axes: Axes, x: float) -> None:
    """A schematic mask: a value between white (protected) and full colour (free) a weight."""
    shades = LinearSegmentedColormap.from_list("mask", ["white", method_style("swift").color])
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
            color = method_style("swift").color
            start, end = sources[0] + 0.5, place + 0.5
            corners = ([start, start, end], [-1.02, -1.36, -1.36])
            axes.plot(*corners, color=color, linewidth=0.8)
            _arrow(axes, (end, -1.36), (end, -1.02), color=color)
            style: dict[str, Any] = {"ha": "center", "fontsize": 6.5, "parse_math": True}
            axes.text((start + end) / 2, -1.28, "$M$ of the head", **style)
