"""Paired tests over folds, beside the one interval: is a difference the same in every training?

The sign-flip test says how often random signs of the folds' differences would give so large a mean.
Five folds are few, and its p-value cannot fall below 2 / 2**n; that floor is in every row. The
frames state n, and every p-value of a table comes with its Holm correction inside it.

The interval of a difference is that of intervals.py: a t interval over folds would leave out that
all folds are scored on the same patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .cells import KEYS, Block
from .plausibility import NO_MARKS, Marks
from .words import HIGHER_IS_BETTER, LOWER_IS_BETTER

MAX_EXACT_FOLDS = 20  # 2**20 sign patterns: a second and 170 MB


class Paired(NamedTuple):
    """A paired comparison over folds; None where it cannot be computed, and why."""

    n_folds: int
    difference: float | None
    p_permutation: float | None
    p_floor: float | None
    reason: str | None


def paired(differences: np.ndarray) -> Paired:
    """Is the mean difference over folds zero? An exact sign-flip test.

    Args:
        differences: method minus other, one a fold, shape (n,).
    """
    n = len(differences)
    if n == 0:
        return Paired(0, None, None, None, "no fold in common")
    mean = float(np.mean(differences))
    if n == 1:
        return Paired(1, mean, None, None, "one fold only")
    floor = 2.0 / 2**n
    if n > MAX_EXACT_FOLDS:
        return Paired(n, mean, None, floor, f"more than {MAX_EXACT_FOLDS} folds: no exact test")
    return Paired(n, mean, sign_flip(differences), floor, None)


def sign_flip(differences: np.ndarray) -> float:
    """Exact two-sided p-value of the sign-flip test: all 2**n signs of the differences.

    The smallest possible value is 2 / 2**n (0.0625 with five folds).
    """
    n = len(differences)
    patterns = np.arange(2 ** (n - 1), dtype=np.int64)[:, None] >> np.arange(n) & 1
    means = np.abs((1 - 2 * patterns) @ differences) / n  # the other half mirrors these
    observed = abs(float(np.mean(differences)))
    return float(np.mean(means >= observed - 1e-12 * max(1.0, observed)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p-values that exist (Holm, 1979)."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None and not np.isnan(p)]
    corrected: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(sorted(known)):
        running = max(running, min(1.0, (len(known) - rank) * p))
        corrected[index] = running
    return corrected


def compare(
    name: str,
    parts: Sequence[Block],
    metrics: pd.DataFrame,
    baseline: str | None = "baseline",
    intervals: pd.DataFrame | None = None,
    marks: Marks = NO_MARKS,
) -> pd.DataFrame:
    """Every method of a table against the Baseline and against the best other method.

    The best other is the method, neither this one nor the Baseline, with the best mean in the
    same block, data set and metric, among those that are ranked (`marks`). It is picked on the test
    results: its p-values are descriptive, and it has no interval, which would ignore the picking.

    Args:
        name: the table's name.
        parts: the table's blocks.
        metrics: the tidy metrics: KEYS, fold, value.
        baseline: the variant that is the Baseline; None: there is none.
        intervals: KEYS, difference_low, difference_high (`setup_intervals`, to the same Baseline).
        marks: what is implausible.

    Returns:
        table, KEYS, against ('baseline' or 'best other'), other (a method), the fields of
        `Paired`, low and high (the one interval of the difference to the Baseline), and
        p_permutation_holm: corrected over the rows of this table with the same `against`.
    """
    shown = metrics[metrics["metric"].isin({name for part in parts for name in part.metrics})]
    values = {
        key: group.set_index("fold")["value"].dropna()
        for key, group in shown.groupby(KEYS, observed=True)
    }
    none = pd.Series(dtype=float)
    rows = []
    for part in parts:
        for key in part.cell_keys():
            for against, other in _opponents(part, key, values, baseline, marks):
                opponent = values.get(_with_method(key, other), none)
                differences = (values.get(key, none) - opponent).dropna().to_numpy()
                rows.append((name, *key, against, other, *paired(differences)))
    frame = pd.DataFrame(rows, columns=["table", *KEYS, "against", "other", *Paired._fields])
    frame = frame.drop_duplicates(["table", *KEYS, "against"], ignore_index=True)
    types = dict.fromkeys(Paired._fields[1:-1], "float64") | {"reason": "string"}
    frame = _with_intervals(frame.astype(types), intervals)
    families = frame.groupby("against")["p_permutation"]
    frame["p_permutation_holm"] = families.transform(lambda p: np.array(holm(p.tolist()), float))
    return frame


def _with_intervals(frame: pd.DataFrame, intervals: pd.DataFrame | None) -> pd.DataFrame:
    """With `low` and `high`, the interval of the difference to the Baseline; NaN elsewhere."""
    if intervals is None or intervals.empty:
        return frame.assign(low=np.nan, high=np.nan)
    ends = intervals[[*KEYS, "difference_low", "difference_high"]].assign(against="baseline")
    ends = ends.rename(columns={"difference_low": "low", "difference_high": "high"})
    keys = [*KEYS, "against"]
    plain = dict.fromkeys(keys, "object")
    return frame.astype(plain).merge(
        ends.astype(plain), on=keys, how="left", validate="many_to_one"
    )


def _with_method(key: tuple[str, ...], method: str) -> tuple[str, ...]:
    return (*key[:3], method, *key[4:])


def _opponents(
    part: Block,
    key: tuple[str, ...],
    values: dict[tuple, pd.Series],
    baseline: str | None,
    marks: Marks,
) -> Iterator[tuple[str, str]]:
    """Who a cell's method is compared with: ('baseline' or 'best other', method)."""
    method, metric = key[3], key[5]
    if method == baseline:
        return
    if baseline is not None:
        yield "baseline", baseline
    others = {other: _with_method(key, other) for other in part.methods}
    means = {
        other: values[place].mean()
        for other, place in others.items()
        if other not in (method, baseline) and len(values.get(place, ())) and marks.ranked(place)
    }
    if means and metric in HIGHER_IS_BETTER:
        yield "best other", max(means, key=means.__getitem__)
    elif means and metric in LOWER_IS_BETTER:
        yield "best other", min(means, key=means.__getitem__)
