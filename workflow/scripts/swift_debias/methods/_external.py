"""The external set of a fold: which images, which pair of groups, which part is balanced.

The one owner of the word *balanced*: of each label, as many images of every group (methods.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..config.schema import Finetuning
from ..data.image_cache import CachedImages
from ..errors import UserError
from ..learning.inference import auc, predict
from ..learning.networks import Classifier
from ..learning.samples import Samples, make_samples
from ..seeds import derive_seed


class External(NamedTuple):
    """What `make_external` returns.

    frame: image_id (str), dataset (str), label (int8), attribute (int16, group index), balanced
        (bool); all images of the fold whose group is known.
    log: counts of what was left out, and why.
    """

    frame: pd.DataFrame
    log: dict[str, Any]


def make_external(
    cohort: pd.DataFrame,
    attributes: np.ndarray,
    fold: int,
    n_groups: int,
    min_cell: int,
    rng: np.random.Generator,
) -> External:
    """The external set of a fold for one attribute.

    With more than two groups nothing is balanced here: which two are compared depends on the model
    (`external.external_set`).

    Args:
        cohort: columns image_id, dataset, label, fold.
        attributes: int (N,), group index or -1.
        fold: whose validation images to take.
        n_groups: groups that the attribute has.
        min_cell: fewest images of a label in a group.
        rng: draws the balanced part.

    Raises:
        UserError: see `balance`.
    """
    inside = (cohort["fold"] == fold).to_numpy()
    known = inside & (attributes >= 0)
    labels, groups = cohort["label"].to_numpy()[known], attributes[known]
    balanced = np.zeros(len(labels), bool)
    if n_groups == 2:
        balanced = balance(labels, groups, rng, min_cell)
    frame = pd.DataFrame(
        {
            "image_id": cohort["image_id"].to_numpy()[known],
            "dataset": cohort["dataset"].to_numpy()[known],
            "label": labels.astype(np.int8),
            "attribute": groups.astype(np.int16),
            "balanced": balanced,
        }
    )
    log = {
        "fold": fold,
        "images": int(inside.sum()),
        "group_unknown": int((inside & ~known).sum()),
        "kept": len(frame),
        "cells": [
            {
                "label": label,
                "group": group,
                "images": len(cell),
                "balanced": int(balanced[cell].sum()),
            }
            for (label, group), cell in _cells(labels, groups, range(n_groups)).items()
        ],
    }
    return External(frame, log)


def balance(
    labels: np.ndarray, attributes: np.ndarray, rng: np.random.Generator, min_cell: int
) -> np.ndarray:
    """Choose a group-balanced part: of each label as many images of one group as of the other.

    The smaller group stays whole, and the larger one is drawn without replacement to the same size
    and ratio of labels [paper, Section 3.1]. Where the larger group has fewer of a label, the
    smaller one is cut to it: n = min(n_0, n_1) for each label.

    Args:
        labels: int (N,), 0 or 1.
        attributes: int (N,), 0 or 1; negative: unknown, never chosen.
        rng: draws.
        min_cell: fewest images of a label in a group.

    Returns:
        bool (N,).

    Raises:
        UserError: a cell has fewer than `min_cell` images; gives the counts.
    """
    if attributes.max(initial=-1) > 1:
        raise ValueError("balance is defined for two groups")
    cells = _cells(labels, attributes, range(2))
    if min(map(len, cells.values())) < min_cell:
        counts = ", ".join(
            f"label {label} in group {group}: {len(cell)}" for (label, group), cell in cells.items()
        )
        raise UserError(
            f"an external set needs at least {min_cell} images of each label in each group "
            f"(finetuning.min_cell), but has {counts}. Use fewer folds, more data or other groups"
        )
    mask = np.zeros(len(labels), bool)
    for label in (0, 1):
        n = min(len(cells[label, 0]), len(cells[label, 1]))
        for group in (0, 1):
            mask[rng.permutation(cells[label, group])[:n]] = True
    return mask


def subsample(
    labels: np.ndarray, attributes: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose a share of a set, stratified by label and group (Figure 7).

    Of every cell that is not empty at least one image stays. With generators of the same seed the
    choice of a smaller fraction lies within that of a larger one.

    Args:
        labels, attributes: int (N,).
        fraction: above 0, up to 1.
        rng: draws.

    Returns:
        bool (N,).
    """
    mask = np.zeros(len(labels), bool)
    for cell in _cells(labels, attributes, np.unique(attributes).tolist()).values():
        mask[rng.permutation(cell)[: max(1, round(fraction * len(cell)))]] = True
    return mask


def _cells(
    labels: np.ndarray, attributes: np.ndarray, groups: Sequence[int]
) -> dict[tuple[int, int], np.ndarray]:
    """Positions of the images of each (label, group)."""
    return {
        (label, group): np.flatnonzero((labels == label) & (attributes == group))
        for label in (0, 1)
        for group in groups
    }


@dataclass
class ExternalSet:
    """The external set of one fold and one binary attribute (methods.md, SWiFT 1).

    full: every sample of the validation fold whose attribute is known.
    balanced: the part of it in which both groups have the same size and label ratio.
    """

    full: Samples
    balanced: Samples


def read_external(
    path: Path, images: CachedImages, device: torch.device, resident: str
) -> tuple[Samples, np.ndarray]:
    """The samples of an external set file, and which of them are balanced."""
    rows = pd.read_parquet(path)
    samples = make_samples(
        images,
        images.rows(rows.dataset.tolist(), rows.image_id.tolist()),
        rows.label.to_numpy(),
        rows.attribute.to_numpy(),
        device,
        resident,
    )
    return samples, rows.balanced.to_numpy()


def best_and_worst_group(
    logits: torch.Tensor, samples: Samples, groups: int, min_group: int
) -> tuple[int, int]:
    """The groups with the highest and the lowest AUC, in the order of their indices.

    Groups with fewer than `min_group` samples or with one class only do not take part.
    """
    aucs: dict[int, float] = {}
    for group in range(groups):
        rows = samples.attributes == group
        value = auc(logits[rows], samples.labels[rows])
        if int(rows.sum()) >= min_group and value == value:
            aucs[group] = value
    if len(aucs) < 2:
        raise UserError(
            f"fewer than two of the {groups} groups have both classes and at least {min_group} "
            "external samples: lower finetuning.min_group or merge groups of the attribute"
        )
    best, worst = max(aucs, key=aucs.__getitem__), min(aucs, key=aucs.__getitem__)
    return min(best, worst), max(best, worst)


def external_set(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    *,
    groups: int,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    say: Callable[[str], None],
) -> ExternalSet:
    """Choose the pair of groups, thin the set, and split off its balanced part.

    Args:
        classifier: the Baseline, whose AUC by group decides where there are more than two.
        samples: all external samples, attributes 0..groups-1.
        balanced: bool (n,), as written by `make_external`; only meaningful for two groups.
        groups: how many groups the attribute has.
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell` and `min_group`.
        seed: for the draws.
        say: where to report what was chosen.
    """
    if groups > 2:
        pair = best_and_worst_group(
            predict(classifier, samples), samples, groups, finetuning.min_group
        )
        say(f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1")
        chosen = (samples.attributes == pair[0]) | (samples.attributes == pair[1])
        recoded = (samples.attributes == pair[1]).long()
        samples = samples.with_attributes(recoded).subset(chosen)
        balanced = _balance(samples, finetuning.min_cell, seed)
    if fraction < 1:
        kept = subsample(
            _numpy(samples.labels),
            _numpy(samples.attributes),
            fraction,
            np.random.default_rng(derive_seed(seed, "fraction")),
        )
        samples = samples.subset(kept)
        # The fraction is drawn first and balanced after: what a user with less data would have. A
        # small set may leave few samples in a cell, which is what Figure 7 is about: no minimum.
        balanced = _balance(samples, 1, seed)
    external = ExternalSet(full=samples, balanced=samples.subset(balanced))
    say(f"external set: {len(external.full)} images, {len(external.balanced)} balanced")
    return external


def _balance(samples: Samples, min_cell: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(derive_seed(seed, "balance"))
    return balance(_numpy(samples.labels), _numpy(samples.attributes), rng, min_cell)


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.int64)
