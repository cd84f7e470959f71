"""Style of all figures: sizes of a journal page, colours that colour-blind readers tell apart.

Nothing has to be scaled, and no text is below 6 pt. Colours: Paul Tol's "muted" palette; a method
has its own colour and marker in all figures.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_hex, to_rgb

COLUMN = 3.5  # inches: a journal's column (89 mm)


PAGE = 7.2  # inches: both columns (183 mm)


DPI = 300


INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"


SHADE = 0.25  # of grey: below the noise floor


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
    "text.parse_math": False,  # names are the user's: a drawing that writes formulas says so
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


class MethodStyle(NamedTuple):
    """How a method is drawn, in every figure."""

    color: str
    marker: str


_METHODS = {
    "baseline": MethodStyle("#555555", "s"),
    "fullft_rw": MethodStyle("#88CCEE", "o"),
    "fullft_reg": MethodStyle("#44AA99", "v"),
    "fullft_fdr": MethodStyle("#332288", "^"),
    "llft": MethodStyle("#999933", "D"),
    "diffgda": MethodStyle("#AA4499", "P"),
    "fairprune": MethodStyle("#DDCC77", "<"),
    "diffprune": MethodStyle("#117733", ">"),
    "bmft": MethodStyle("#CC6677", "X"),
    "swift": MethodStyle("#882255", "*"),
}


_OTHERS = ("#4477AA", "#EE7733", "#228833", "#BB5566", "#997700", "#004488")


_MARKERS = "ovD^<>PXdph8"


# Groups of an attribute, in the order of their indices (Okabe and Ito, 2008)
_GROUPS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")


def method_style(method: str) -> MethodStyle:
    """Colour and marker of a method; a variant (`swift_zscore`) gets a shade of its method's."""
    if method in _METHODS:
        return _METHODS[method]
    code = zlib.crc32(method.encode())
    family = next((m for m in sorted(_METHODS) if method.startswith(f"{m}_")), None)
    marker = _MARKERS[code % len(_MARKERS)]
    if family is None:
        return MethodStyle(_OTHERS[code % len(_OTHERS)], marker)
    shade = (0.35, 0.5, -0.3, -0.5)[code // 16 % 4]
    other = np.ones(3) if shade > 0 else np.zeros(3)
    mixed = np.array(to_rgb(_METHODS[family].color)) * (1 - abs(shade)) + other * abs(shade)
    return MethodStyle(to_hex(tuple(mixed)), marker)


def group_color(group: int) -> str:
    """Colour of an attribute's group."""
    return _GROUPS[group % len(_GROUPS)]
