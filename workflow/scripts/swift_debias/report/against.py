"""Every method against the Baseline: better, worse, or not distinguishable, by the one interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..evaluation import words
from ..evaluation.cells import Block
from ..evaluation.plausibility import Marks
from ..evaluation.words import HIGHER_IS_BETTER, LOWER_IS_BETTER
from .evidence import Ends

ANSWERS = ("better", "not distinguishable", "worse", "not ranked")


def against_baseline(
    panels: Mapping[str, Sequence[Block]],
    intervals: Mapping[tuple[str, ...], Ends],
    marks: Marks,
    names: Mapping[str, str],
    titles: Mapping[str, str],
) -> pd.DataFrame:
    """On how many test sets of the tables a method is better or worse than the Baseline.

    Better or worse: the 95 % interval of the difference leaves 0 out, and not both gaps are below
    their noise floor. Not ranked: the method's number or the Baseline's is implausible.

    Args:
        panels: the run's tables; a test set that several show counts once.
        intervals: the run's (`evidence.ends`).
        marks: of these cells.
        names: a block's method -> what it is called in `intervals`.
        titles: display names of the methods.

    Returns:
        method, metric (display names), a column for each of `ANSWERS`, test sets.
    """
    keys = {
        (*key[:3], names.get(key[3], key[3]), *key[4:]): None
        for blocks in panels.values()
        for block in blocks
        for key in block.cell_keys()
    }
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for key in keys:
        if answer := _answer(key, intervals.get(key), marks):
            row = counts.setdefault((key[3], key[5]), dict.fromkeys(ANSWERS, 0))
            row[answer] += 1
    rows = [
        (titles.get(method, method), words.title(metric), *row.values(), sum(row.values()))
        for (method, metric), row in counts.items()
    ]
    return pd.DataFrame(rows, columns=["method", "metric", *ANSWERS, "test sets"])


def _answer(key: tuple[str, ...], found: Ends | None, marks: Marks) -> str:
    """One of `ANSWERS`; '' where there is no difference or no better."""
    metric = key[5]
    if metric not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return ""
    if found is None or np.isnan(found.difference_low):
        return ""
    baseline = (*key[:3], "baseline", *key[4:])
    if not (marks.ranked(key) and marks.ranked(baseline)):
        return "not ranked"
    if found.difference_low <= 0 <= found.difference_high:
        return "not distinguishable"
    if marks.shared(key) and marks.shared(baseline):
        return "not distinguishable"
    return "better" if (found.difference_low > 0) == (metric in HIGHER_IS_BETTER) else "worse"


def sentences(found: pd.DataFrame) -> list[str]:
    """All methods together, a part a metric; none where there is none."""
    if found.empty:
        return []
    parts = [
        f"{metric} better {rows['better'].sum()}, worse {rows['worse'].sum()}, not distinguishable "
        f"{rows['not distinguishable'].sum()}, not ranked {rows['not ranked'].sum()}"
        for metric, rows in found.groupby("metric", sort=False)
    ]
    return [
        f"Differences to the Baseline, by their 95 % intervals over patients and trainings: "
        f"{'; '.join(parts)} (methods and test sets of all tables)."
    ]
