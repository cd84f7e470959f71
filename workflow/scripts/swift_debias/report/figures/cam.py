"""Figure 5: class activation maps of the methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ._arrays import Arrays, Given
from ._parts import Drawing, Request, Sources, new_figure
from ._pictures import HEAT, THRESHOLD, bare, class_name, picture, score_label
from ._style import PAGE

NEEDS: tuple[str, ...] = ("arrays",)
ARRAYS_NEED: tuple[str, ...] = ("predictions", "pixels", "index", "models")
OPTIONS = {"quantiles": "shares"}
IGNORES: tuple[str, ...] = ("metrics",)
FIRST: tuple[str, ...] = ("panels", "datasets")
TWO_CLASSES = "shows the evidence for one of two classes"
CAPTION = (
    "Where the methods see the true class: class activation maps (Zhou et al., 2016) of "
    "the same test images, those with the Baseline's median score in their class and "
    "group. Every map is scaled from its own minimum to its maximum; maps of class 0 are "
    "the negated maps of class 1. Below each: the score P(class 1), and whether the "
    "decision at 0.5 is right. First fold."
)


def draw(request: Request, sources: Sources) -> Drawing:
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
            bare(axis)
        picture(axes[place][0], arrays["images"][place])
        axes[place][0].set_ylabel(f"{class_name(request, block.task, label)},\n{names[group]}")
        for column, method in enumerate(methods):
            axis, values = axes[place][column + 1], arrays["maps"][column][place]
            heat = _overlay(axis, arrays["images"][place], values)
            score = float(arrays["scores"][column][place])
            score_label(axis, score, (score >= THRESHOLD) == bool(label))
            keys = {"image_id": arrays["image_id"][place], "label": label, "group": group}
            about = {"method": method, "kind": arrays["kinds"][column], "score": score}
            rows.append({**keys, **about, "lowest": values.min(), "highest": values.max()})
    axes[0][0].set_title("Image", loc="center")
    for column, method in enumerate(methods):
        axes[0][column + 1].set_title(request.title(method), loc="center")
    # over the whole width, with its title on a line of its own: two methods leave little room
    bar = figure.colorbar(heat, ax=axes, orientation="horizontal", shrink=0.5, aspect=40)
    bar.set_ticks([0, 1], labels=["least", "most"])
    bar.set_label("Evidence for the true class, within each map")
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


def arrays(given: Given) -> Arrays:
    """Activation maps of all methods on the images with the first method's median scores."""
    from ._images import activation_maps, chosen_images, first_predictions, read_images

    images, quantiles = read_images(given), given.options.get("quantiles", [0.5])
    chosen = chosen_images(first_predictions(given), images, given.groups, quantiles)
    return activation_maps(given, chosen, images)
