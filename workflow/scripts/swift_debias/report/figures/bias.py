"""Figure 1: what bias looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...errors import UserError
from ._arrays import Arrays, Given
from ._parts import Drawing, Request, Sources, band, heading, legend_below, new_figure, of_block
from ._pictures import THRESHOLD, bare, cell_of, class_name, picture, score_label
from ._style import PAGE, PALE, group_color

NEEDS: tuple[str, ...] = ("predictions", "arrays")
ARRAYS_NEED: tuple[str, ...] = ("predictions", "pixels", "index")
OPTIONS = {"quantiles": "shares"}
IGNORES: tuple[str, ...] = ("metrics",)
FIRST: tuple[str, ...] = ("panels", "methods", "datasets")
TWO_CLASSES = "shows the score of class 1"
CAPTION = (
    "What bias looks like. Left: test images of each class and group, taken at the 10, 50 "
    "and 90 % quantiles of the Baseline's scores in their cell; below each its score, "
    "P(class 1), of the first fold's model, and whether the decision at 0.5 is right. "
    "Right: the scores of all images by group. Mean over folds; bands: one sample "
    "standard deviation over folds, cut at 0 and 1."
)

BINS = 20  # of score histograms


def draw(request: Request, sources: Sources) -> Drawing:
    """Images of each class and group with a method's scores, and the scores by group."""
    block, arrays = request.blocks[0], sources.arrays
    names, method = request.groups[block.attribute], block.methods[0]
    scores = of_block(sources.predictions, block, method=method, dataset=block.datasets[0])
    shares = score_histograms(scores, len(names))
    most = max(int(np.sum(cell_of(arrays, y, g))) for y in (0, 1) for g in range(len(names)))
    figure = new_figure(PAGE, 3.1)
    # the images of each group, a gap after each, and the scores
    ratios = [*[*[1.0] * most, 0.2] * len(names), 0.5 * most * len(names)]
    grid = figure.add_gridspec(2, len(ratios), width_ratios=ratios)
    for row, label in enumerate((1, 0)):
        for group, name in enumerate(names):
            places = np.flatnonzero(cell_of(arrays, label, group))
            for column in range(most):
                axes = figure.add_subplot(grid[row, group * (most + 1) + column])
                bare(axes)
                if column < len(places):
                    _scored_image(axes, arrays, places[column])
                if row == 0 and column == 0:
                    axes.set_title(name, color=group_color(group), fontweight="bold")
                if column + group == 0:
                    axes.set_ylabel(class_name(request, block.task, label))
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


def _scored_image(axes: Axes, arrays: Mapping[str, np.ndarray], place: int) -> None:
    """An image with its score under it; a wrong decision is marked by a cross."""
    picture(axes, arrays["images"][place])
    score, label = float(arrays["score"][place]), int(arrays["label"][place])
    score_label(axes, score, (score >= THRESHOLD) == bool(label))


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


def arrays(given: Given) -> Arrays:
    """Test images of each class and group, at quantiles of the first method's scores."""
    from ._images import chosen_images, first_predictions, read_images

    quantiles = given.options.get("quantiles", [0.1, 0.5, 0.9])
    return chosen_images(first_predictions(given), read_images(given), given.groups, quantiles)
