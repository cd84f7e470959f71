"""Which two groups of an attribute are compared, and which of them is unprivileged.

Decided once for a setup, from the scores that every fold's Baseline gives its own held-out images.
A fold alone decides by differences like .7869 against .7862, so that its choice flips from fold to
fold; all folds together decide once, and the intervals say how sure the choice is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..config.schema import Finetuning
from ..data import demands
from ..evaluation.influence import Part, auc, mean, patient_codes
from ..evaluation.intervals import estimate
from ..evaluation.one_vs_rest import score_columns
from ._choice import Choice, GroupAuc
from ._external import best_and_worst_group


def choose_groups(
    scores: pd.DataFrame, n_groups: int, finetuning: Finetuning, classes: int = 2
) -> Choice:
    """Choose from held-out scores.

    Args:
        scores: fold, label (0 to classes - 1), group (0..n_groups-1), score (higher: more like
            class 1), patient (any; null: somebody of their own). Of more than two classes the
            columns of `one_vs_rest.score_columns`, and AUCs are means over classes, each against
            the rest.
        n_groups: how many groups the attribute has.
        finetuning: `min_group` and `min_cell`: where there are more than two groups, one that is
            too small in some fold is not chosen, so that two that are can be balanced.
        classes: labels that there are.

    Raises:
        UserError: fewer than two of many groups can be chosen.
    """
    groups = {g: _auc(scores[scores["group"] == g], classes) for g in range(n_groups)}
    pair = None
    if n_groups > 2:
        pair = best_and_worst_group(
            {g: found.auc for g, found in groups.items()},
            _large(scores, n_groups, finetuning, classes),
            finetuning,
        )
    first, second = (groups[g].auc for g in pair or (0, 1))
    known = first == first and second == second
    return Choice(pair, int(second < first) if known else None, groups)


def _large(scores: pd.DataFrame, n_groups: int, finetuning: Finetuning, classes: int) -> list[int]:
    """The groups that are large enough in every fold."""
    kept = set(range(n_groups))
    for _, fold in scores.groupby("fold"):
        labels, groups = fold["label"].to_numpy(), fold["group"].to_numpy()
        kept &= set(
            demands.comparable_groups(labels, groups, n_groups, finetuning, classes=classes)
        )
    return sorted(kept)


def _auc(rows: pd.DataFrame, classes: int) -> GroupAuc:
    """AUC within folds, each weighted by its pairs of images, with its interval."""
    people = patient_codes(rows["patient"], len(rows))
    count = int(people.max(initial=-1)) + 1
    columns, labels = score_columns(classes), rows["label"].to_numpy()
    found = [
        _within_folds(rows, rows[column].to_numpy(float), labels == c, people, count)
        for c, column in enumerate(columns, start=1 if classes == 2 else 0)
    ]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        return GroupAuc(np.nan, np.nan, np.nan, len(rows), count)
    interval = estimate(parts[0] if classes == 2 else mean(parts))
    return GroupAuc(interval.value, *interval.bounds(limits=(0, 1)), len(rows), count)


def _within_folds(
    rows: pd.DataFrame, scores: np.ndarray, positive: np.ndarray, people: np.ndarray, count: int
) -> Part | None:
    """The AUC of one class against the rest; None where no fold has both."""
    parts, weights = [], []
    for fold in rows["fold"].unique():
        inside = (rows["fold"] == fold).to_numpy()
        positives, negatives = np.flatnonzero(inside & positive), np.flatnonzero(inside & ~positive)
        part = auc(scores[None], positives, negatives, people, count)
        if part is not None:
            parts.append(part)
            weights.append(len(positives) * len(negatives))
    if not parts:
        return None
    shares = np.array(weights) / sum(weights)
    return Part(
        np.array([sum(w * part.value for w, part in zip(shares, parts, strict=True))]),
        sum(w * part.influence for w, part in zip(shares, parts, strict=True)),
        sum(part.patients for part in parts),
        sum(w**2 * part.uniform for w, part in zip(shares, parts, strict=True)),
    )
