"""Figure 7: metrics against the share of the external set."""

from __future__ import annotations

from ...evaluation.cells import Block
from ._parts import Drawing, Request, Sources
from ._sweeps import draw_sweep, is_baseline, sweep_points

NEEDS: tuple[str, ...] = ("metrics",)
SHOWS: tuple[str, ...] = ("external_fraction",)
CAPTION = (
    "SWiFT against the share of the external set that is used; 0 is the Baseline. Mean "
    "over folds; bands: one sample standard deviation over folds, cut at 0 and 1."
)


def draw(request: Request, sources: Sources) -> Drawing:
    """Figure 7: metrics against the share of the external set; 0 is the Baseline."""

    def position(block: Block, method: str) -> float:
        share = float(request.variants[method]["external_fraction"])
        return 0.0 if is_baseline(request, method) else share

    return draw_sweep(
        request, sweep_points(request, sources, position), "Share of the external set"
    )
