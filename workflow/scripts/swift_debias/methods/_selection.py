"""Equal tuning: how the settings of a method are chosen, by one rule for all methods.

Every method of a comparison gets the same number of trials. A trial is fitted on one part of each
fold's external set and judged on the rest, by patients it has not seen; every fold draws its own
rest, so that one lucky draw decides nothing. The chosen setting is then fitted on the whole
external set. No test set takes part, and what a trial scored is never reported as a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config.schema import Selection
from ..data.columns import drawn_share
from ..evaluation.influence import Part, auc, mean, patient_codes
from ..evaluation.thresholds import best_threshold
from ..seeds import derive_seed

UNDERPOWERED = 0.02  # a standard error of the AUC's change above which a search says little


class Scored(NamedTuple):
    """Samples of one fold with scores of models that were not fitted on them.

    scores: float64 (n,), P(class 1). labels: (n,), 0 or 1. groups: (n,), 0 or 1. patients: (n,).
    decisions: (n,), 0 or 1, where a rule makes them; None: a score of 0.5 is one for class 1.
    """

    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    patients: np.ndarray
    decisions: np.ndarray | None = None

    @property
    def decided(self) -> np.ndarray:
        """Decisions for class 1, bool (n,)."""
        return self.scores >= 0.5 if self.decisions is None else self.decisions == 1


class Judged(NamedTuple):
    """What a trial, or the Baseline, scored on the select parts of all folds.

    eodds: (|mean dTPR| + |mean dFPR|) / 2 at threshold 0.5, means over folds of the signed gaps:
        less noise than the mean of absolute values. auc: mean over folds. balanced_accuracy:
        likewise, at 0.5. worst_group_auc: the lower of the groups' mean AUCs. thresholds: of each
        fold, where its balanced accuracy is best.
    """

    eodds: float
    dtpr: float
    dfpr: float
    auc: float
    balanced_accuracy: float
    worst_group_auc: float
    thresholds: tuple[float, ...]


class Trial(NamedTuple):
    """A point of the grid and what it scored.

    auc_change: AUC minus the Baseline's, on the same samples; auc_se: its standard error.
    """

    settings: dict[str, Any]
    judged: Judged
    auc_change: float
    auc_se: float


class Verdict(NamedTuple):
    """Which trial is taken: its index, why, and whether the samples could tell."""

    best: int
    reason: str
    underpowered: bool


def split(
    labels: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    selection: Selection,
    min_cell: int,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ways to cut an external set into a fit part and a select part, by patient within cells.

    One cut, with `selection.share` to select on. Where that would leave a cell of the select part
    with fewer than `min_cell` images, `selection.folds` cuts, each part to select on once.

    Args:
        labels: int (n,), 0 to C - 1. groups: int (n,), 0 or 1.
        patients: (n,); null: somebody of their own.
        selection: share and folds.
        min_cell: fewest images of a label in a group.
        seed: of the draw.

    Returns:
        (fit, select), bool (n,) each; the select parts do not overlap.
    """
    people = patient_codes(patients, len(labels))
    cells, classes = 2 * labels + groups, max(2, int(labels.max()) + 1)
    select = drawn_share(people, labels, groups, selection.share, seed)
    if np.bincount(cells[select], minlength=2 * classes).min() >= min_cell:
        return [(~select, select)]
    parts, left = [], np.ones(len(labels), bool)
    for number in range(selection.folds, 1, -1):  # a share of what is left
        rows = np.flatnonzero(left)
        chosen = drawn_share(
            people[rows], labels[rows], groups[rows], 1 / number, derive_seed(seed, number)
        )
        part = np.zeros(len(labels), bool)
        part[rows[chosen]] = True
        parts.append(part)
        left &= ~part
    return [(~part, part) for part in (*parts, left)]


def judge(folds: Sequence[Scored]) -> Judged:
    """What models score on samples that they were not fitted on; nan where a cell is empty.

    A trial that diverged in some fold has no scores there (nan), and is nan in all.
    """
    if not all(np.isfinite(fold.scores).all() for fold in folds):
        nan, middle = math.nan, (0.5,) * len(folds)
        return Judged(nan, nan, nan, nan, nan, nan, middle)
    gaps = np.array([_signed_gaps(fold) for fold in folds])
    dtpr, dfpr = (float(value) for value in gaps.mean(axis=0))
    by_group = [[_auc(fold, fold.groups == group) for fold in folds] for group in (0, 1)]
    accuracies = [_balanced_accuracy(fold.labels, fold.decided) for fold in folds]
    return Judged(
        eodds=(abs(dtpr) + abs(dfpr)) / 2,
        dtpr=dtpr,
        dfpr=dfpr,
        auc=float(np.mean([_auc(fold, np.ones(len(fold.labels), bool)) for fold in folds])),
        balanced_accuracy=float(np.mean(accuracies)),
        worst_group_auc=float(min(np.mean(values) for values in by_group)),
        thresholds=tuple(best_threshold(fold.labels, fold.scores) for fold in folds),
    )


def auc_change(trial: Sequence[Scored], baseline: Sequence[Scored]) -> tuple[float, float]:
    """Mean over folds of the change of the AUC on the same samples, and its standard error.

    The error is that of other patients (clustered); a patient's images may lie in several folds.
    """
    if not all(np.isfinite(fold.scores).all() for fold in trial):
        return math.nan, math.nan
    people = patient_codes(np.concatenate([fold.patients for fold in trial]), -1)
    parts, start = [], 0
    for ours, theirs in zip(trial, baseline, strict=True):
        whose = people[start : start + len(ours.labels)]
        start += len(ours.labels)
        now, before = (_auc_part(fold, whose, int(people.max()) + 1) for fold in (ours, theirs))
        if now is None or before is None:
            return math.nan, math.nan
        parts.append(now.paired(before))
    found = mean([Part(p.values, p.influence, p.patients, p.uniform) for p in parts])
    return found.value, math.sqrt(found.variance)


def choose(trials: Sequence[Trial], baseline: Judged, selection: Selection) -> Verdict:
    """The trial that `selection.rule` takes.

    constrained: the lowest EOdds among trials whose AUC lies at most `tolerance`, or one standard
    error of that difference if it is larger, below the Baseline's; if there is none, the highest
    AUC. dto: the smallest distance to AUC 1 and EOdds 0. worst_group_auc: the highest. Of equal
    trials the first. A trial that cannot be judged is never taken if another can.
    """
    values = {
        "constrained": [trial.judged.eodds for trial in trials],
        "dto": [math.hypot(1 - t.judged.auc, t.judged.eodds) for t in trials],
        "worst_group_auc": [-trial.judged.worst_group_auc for trial in trials],
    }[selection.rule]
    candidates, reason = list(range(len(trials))), str(selection.rule)
    if selection.rule == "constrained":
        floors = [max(selection.tolerance, t.auc_se if t.auc_se == t.auc_se else 0) for t in trials]
        candidates = [
            i
            for i, (t, f) in enumerate(zip(trials, floors, strict=True))
            if t.auc_change >= -f and values[i] == values[i]
        ]
        reason = "lowest EOdds of those that keep the Baseline's AUC"
        if not candidates:
            candidates, reason = list(range(len(trials))), "none keeps the AUC: the highest AUC"
            values = [-trial.judged.auc for trial in trials]
    best = min(candidates, key=lambda i: math.inf if values[i] != values[i] else values[i])
    return Verdict(best, reason, bool(trials[best].auc_se > UNDERPOWERED))


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The points of a grid; the last key changes fastest."""
    import itertools

    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _signed_gaps(fold: Scored) -> tuple[float, float]:
    """TPR and FPR of group 0 minus those of group 1, at threshold 0.5; nan: an empty cell."""
    decisions = fold.decided
    rates = [
        [decisions[(fold.labels == label) & (fold.groups == group)] for group in (0, 1)]
        for label in (1, 0)
    ]
    first, second = (
        float(a.mean() - b.mean()) if len(a) and len(b) else math.nan for a, b in rates
    )
    return first, second


def _balanced_accuracy(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    recalls = [(decisions[labels == c] == bool(c)).mean() for c in (0, 1) if (labels == c).any()]
    return float(np.mean(recalls))


def _auc(fold: Scored, rows: np.ndarray) -> float:
    part = _auc_part(fold, np.arange(len(fold.labels)), len(fold.labels), rows)
    return math.nan if part is None else part.value


def _auc_part(
    fold: Scored, people: np.ndarray, n_people: int, rows: np.ndarray | None = None
) -> Part | None:
    inside = np.ones(len(fold.labels), bool) if rows is None else rows
    return auc(
        fold.scores[None],
        np.flatnonzero(inside & (fold.labels == 1)),
        np.flatnonzero(inside & (fold.labels == 0)),
        people,
        n_people,
    )
