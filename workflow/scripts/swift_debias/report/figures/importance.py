"""Figure 3: importances and mask of one layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm

from ._arrays import Arrays, Given
from ._parts import Drawing, Request, Sources, heading, new_figure, panel_title
from ._pictures import HEAT
from ._style import PAGE

NEEDS: tuple[str, ...] = ("arrays",)
ARRAYS_NEED: tuple[str, ...] = ("importance", "summaries")
OPTIONS = {"layer": "text", "size": "pixels"}
IGNORES: tuple[str, ...] = ("metrics",)
FIRST: tuple[str, ...] = ("panels", "methods")
CAPTION = (
    "Importance of the weights of one layer for the bias and for the prediction, both "
    "normalized as in Eq. 9, and the soft mask made of them. First fold; the first output "
    "channels and the first weights of each; the importances' colour scale is a power "
    "law."
)


def draw(request: Request, sources: Sources) -> Drawing:
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


def arrays(given: Given) -> Arrays:
    """Importances and mask of one layer, of the first SWiFT variant and fold."""
    from ...files import read_parquet
    from ._importances import layer_importance

    layers = read_parquet(given.summaries[0])["layer"]
    swift = next(iter(given.variants.values()))
    size, layer = given.options.get("size", 64), given.options.get("layer")
    return layer_importance(given.importance[0], list(layers), swift, layer, size)
