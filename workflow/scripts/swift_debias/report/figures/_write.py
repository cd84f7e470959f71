"""Writing a figure: PDF (fonts embedded), PNG at 300 dpi, and the data it shows as CSV.

The same data give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ...files import atomic_path, write_text
from .. import escaping
from ._parts import Drawing, Plot, Request, Sources
from ._style import DPI, STYLE


def mark_synthetic(figure: Figure) -> None:
    """Say 'synthetic data' in a strip of its own above everything else."""
    strip = 0.13 / figure.get_size_inches()[1]
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, 1 - strip))
    font: dict[str, Any] = {"fontsize": 6.5, "color": "#B00020", "ha": "right", "va": "top"}
    figure.text(0.995, 1 - 0.02 / figure.get_size_inches()[1], "synthetic data", **font)


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
        with atomic_path(paths[0]) as partial:
            drawing.figure.savefig(partial, format="pdf", metadata={"CreationDate": None})
        with atomic_path(paths[1]) as partial:
            drawing.figure.savefig(partial, format="png", dpi=DPI)
    write_text(paths[2], escaping.csv(drawing.data, float_format="%.6g"))
    return paths
