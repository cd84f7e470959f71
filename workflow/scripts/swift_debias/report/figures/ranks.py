"""Mean ranks of the methods, and which of them cannot be told apart (Demšar's diagram)."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...errors import UserError
from ...evaluation import ranks
from ...evaluation.ranks import Ranking
from ...evaluation.words import title
from .. import in_words, rank_table
from ._parts import Drawing, Request, Sources, grid_of_axes, new_figure, panel_title
from ._style import GREY, INK, PAGE, method_style

NEEDS: tuple[str, ...] = ("metrics", "plausibility")
IGNORES: tuple[str, ...] = ("metrics",)
CAPTION = (
    "Mean rank of each method over all test sets, networks and attributes; 1 is the best. A bar "
    "joins methods whose mean ranks do not differ by the critical difference (CD; Nemenyi, 5 %). "
    "Implausible numbers share the last places, gaps below their noise floor the first."
)
LINE = 0.15  # inches a line of text
LONGEST = 40  # characters of a method's name


def draw(request: Request, sources: Sources) -> Drawing:
    """A diagram a metric; where there is nothing to rank, a sentence."""
    if sources.metrics.empty:
        raise UserError(f"{request.name}: there are no metrics to draw")
    found = rank_table.rankings(request.blocks, sources.metrics, sources.plausibility)
    heights = [_lines(one) * LINE for one in found.values()]
    figure = new_figure(PAGE, sum(heights) + 0.3 * len(heights))
    rows = grid_of_axes(figure, len(found), 1, height_ratios=heights)
    for place, ((axes,), one) in enumerate(zip(rows, found.values(), strict=True)):
        axes.set_axis_off()
        panel_title(axes, place, title(one.metric), len(found))
        if one.enough:
            _diagram(axes, one, request)
        else:
            text = in_words.rank_sentence(one, request.titles)
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", wrap=True)
    return Drawing(figure, ranks.table(list(found.values())))


def _lines(found: Ranking) -> float:
    """How many lines of text a diagram takes."""
    if not found.enough:
        return 3
    return 4.5 + (found.ranks.shape[1] + 1) // 2 + 0.4 * len(found.groups())


def _diagram(axes: Axes, found: Ranking, request: Request) -> None:
    """The axis of ranks on top, below it the bars, then a line from each rank to its name."""
    means, k = found.means, found.ranks.shape[1]
    labels = {m: _short(request.title(str(m))) for m in means.index}
    # as wide on both sides as the longest name needs
    beside = min(0.4, (0.06 * max(map(len, labels.values())) + 0.45) / PAGE)
    margin = beside / (1 - 2 * beside) * (k - 1)
    axes.set_xlim(1 - margin, k + margin)
    axes.set_ylim(2 - _lines(found), 2.8)
    line = {"color": INK, "linewidth": 0.8, "solid_capstyle": "butt"}
    axes.plot([1, k], [0, 0], **line)  # type: ignore[arg-type]
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.2], **line)  # type: ignore[arg-type]
        axes.text(tick, 0.3, f"{tick}", ha="center", va="bottom", fontsize=6.5)
    end = 1 + min(found.critical_difference, k - 1)
    axes.plot([1, end], [1.6, 1.6], **line)  # type: ignore[arg-type]
    for edge in (1, end):
        axes.plot([edge, edge], [1.45, 1.75], **line)  # type: ignore[arg-type]
    axes.text(
        1, 1.85, f"CD = {found.critical_difference:.2f}", ha="left", va="bottom", fontsize=6.5
    )
    groups = found.groups()
    for place, names in enumerate(groups):
        ends = [means[names[0]] - 0.04, means[names[-1]] + 0.04]
        y = -0.4 - 0.4 * place
        axes.plot(ends, [y, y], color=GREY, linewidth=2.5, solid_capstyle="butt", zorder=3)
    first = -1.0 - 0.4 * len(groups)
    half = (k + 1) // 2
    for place, (method, mean) in enumerate(means.items()):
        left = place < half
        y = first - (place if left else k - 1 - place)
        edge = 1 - 0.02 * k if left else k + 0.02 * k
        color, _ = method_style(str(method))
        axes.plot([mean, mean, edge], [0, y, y], color=color, linewidth=0.9)
        text = f"{labels[method]}  {mean:.2f}" if left else f"{mean:.2f}  {labels[method]}"
        where = edge - 0.01 * k if left else edge + 0.01 * k
        axes.text(where, y, text, ha="right" if left else "left", va="center", fontsize=6.5)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
