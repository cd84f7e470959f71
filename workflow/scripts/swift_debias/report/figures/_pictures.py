"""Parts of drawings that show images: bare axes, pictures, score labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from ._parts import Request
from ._style import INK

HEAT = "inferno"  # perceptually uniform, and read by colour-blind eyes


THRESHOLD = 0.5


def cell_of(arrays: Mapping[str, np.ndarray], label: int, group: int) -> np.ndarray:
    return (arrays["label"] == label) & (arrays["group"] == group)


def class_name(request: Request, task: str, label: int) -> str:
    return request.classes[task][label].replace(" ", "\n")


def bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def picture(axes: Axes, pixels: np.ndarray) -> None:
    """A uint8 image (H, W, C), grey or RGB."""
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    else:
        axes.imshow(pixels, interpolation="antialiased")


def score_label(axes: Axes, score: float, right: bool) -> None:
    text = f"{score:.2f} {'✓' if right else '✗'}"
    axes.set_xlabel(text, labelpad=2, color=INK if right else "#B00020")
    axes.xaxis.label.set_fontweight("normal" if right else "bold")
