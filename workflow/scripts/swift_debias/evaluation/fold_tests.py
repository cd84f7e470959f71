"""Paired tests over folds: would another training pool give the same ranking?

Five folds are few, and a permutation p-value cannot fall below 2 / 2**n; that floor is in every
row. The frames state n, and every p-value of a table comes with its Holm correction inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .cells import KEYS, Block
from .words import HIGHER_IS_BETTER, LOWER_IS_BETTER

MAX_EXACT_FOLDS = 20  # 2**20 sign patterns: a second and 170 MB


class Paired(NamedTuple):
    """A paired comparison over folds; None where it cannot be computed, and why."""

    n_folds: int
    difference: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_permutation: float | None
    p_floor: float | None
    reason: str | None


def paired(differences: np.ndarray, level: float = 0.95) -> Paired:
    """Is the mean difference over folds zero? Student's t and an exact sign-flip test.

    Args:
        differences: method minus other, one a fold, shape (n,).
        level: coverage of the t interval.
    """
    from scipy import stats

    n = len(differences)
    if n == 0:
        return Paired(0, None, None, None, None, None, None, "no fold in common")
    mean = float(np.mean(differences))
    if n == 1:
        return Paired(1, mean, None, None, None, None, None, "one fold only")
    floor = 2.0 / 2**n
    permutation = sign_flip(differences) if n <= MAX_EXACT_FOLDS else None
    reason = None if n <= MAX_EXACT_FOLDS else f"more than {MAX_EXACT_FOLDS} folds: no exact test"
    if np.ptp(differences) <= 1e-12:
        same = "the same difference in every fold: no t interval"
        return Paired(n, mean, None, None, None, permutation, floor, same)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = map(float, test.confidence_interval(level))
    return Paired(n, mean, low, high, float(test.pvalue), permutation, floor, reason)


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
) -> pd.DataFrame:
    """Every method of a table against the Baseline and against the best other method.

    The best other is the method, neither this one nor the Baseline, with the best mean in the
    same block, data set and metric. It is picked on the test results: its p-values are descriptive.

    Args:
        name: the table's name.
        parts: the table's blocks.
        metrics: the tidy metrics: KEYS, fold, value.
        baseline: the variant that is the Baseline; None: there is none.

    Returns:
        table, KEYS, against ('baseline' or 'best other'), other (a method), the fields of
        `Paired`, and p_t_holm, p_permutation_holm: corrected over the rows of this table with the
        same `against`.
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
            for against, other in _opponents(part, key, values, baseline):
                opponent = values.get(_with_method(key, other), none)
                differences = (values.get(key, none) - opponent).dropna().to_numpy()
                rows.append((name, *key, against, other, *paired(differences)))
    frame = pd.DataFrame(rows, columns=["table", *KEYS, "against", "other", *Paired._fields])
    frame = frame.drop_duplicates(["table", *KEYS, "against"], ignore_index=True)
    types = dict.fromkeys(Paired._fields[1:-1], "float64") | {"reason": "string"}
    frame = frame.astype(types)
    for column in ("p_t", "p_permutation"):
        families = frame.groupby("against")[column]
        frame[f"{column}_holm"] = families.transform(lambda p: np.array(holm(p.tolist()), float))
    return frame


def _with_method(key: tuple[str, ...], method: str) -> tuple[str, ...]:
    return (*key[:3], method, *key[4:])


def _opponents(
    part: Block, key: tuple[str, ...], values: dict[tuple, pd.Series], baseline: str | None
) -> Iterator[tuple[str, str]]:
    """Who a cell's method is compared with: ('baseline' or 'best other', method)."""
    method, metric = key[3], key[5]
    if method == baseline:
        return
    if baseline is not None:
        yield "baseline", baseline
    means = {
        other: values[_with_method(key, other)].mean()
        for other in part.methods
        if other not in (method, baseline) and len(values.get(_with_method(key, other), ()))
    }
    if means and metric in HIGHER_IS_BETTER:
        yield "best other", max(means, key=means.__getitem__)
    elif means and metric in LOWER_IS_BETTER:
        yield "best other", min(means, key=means.__getitem__)
