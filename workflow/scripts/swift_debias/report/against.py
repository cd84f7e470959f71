"""Every method against the Baseline: better, worse, or not distinguishable, by the one interval.

What is compared is decided here, for the verdict and for what is said in words (in_words.py): what
some table shows (`shown`), and where neither number is implausible (`aside`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
    blocks = [block for own in panels.values() for block in own]
    keys = [(*key[:3], names.get(key[3], key[3]), *key[4:]) for key in shown(blocks)]
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for key in dict.fromkeys(keys):
        if answer := compared(key, intervals.get(key), marks):
            row = counts.setdefault((key[3], key[5]), dict.fromkeys(ANSWERS, 0))
            row[answer] += 1
    rows = [
        (titles.get(method, method), words.title(metric), *row.values(), sum(row.values()))
        for (method, metric), row in counts.items()
    ]
    return pd.DataFrame(rows, columns=["method", "metric", *ANSWERS, "test sets"])


def shown(blocks: Iterable[Block]) -> list[tuple[str, ...]]:
    """The cells (KEYS) that tables show, each once."""
    return list(dict.fromkeys(key for block in blocks for key in block.cell_keys()))


def in_place(key: tuple[str, ...], baseline: str) -> tuple[str, ...]:
    """The Baseline's cell in the place of a method's."""
    return (*key[:3], baseline, *key[4:])


def aside(
    key: tuple[str, ...], marks: Marks, baseline: str = "baseline"
) -> tuple[list[str], list[str]]:
    """Why a cell is not compared with the Baseline's: marks of its own, and the Baseline's.

    None of either where it is.
    """
    cells = (key, in_place(key, baseline))
    own, other = ([one.mark for one in marks.about(c) if not one.ranked] for c in cells)
    return own, other


def compared(
    key: tuple[str, ...], found: Ends | None, marks: Marks, baseline: str = "baseline"
) -> str:
    """One of `ANSWERS`; '' where there is no difference or no better."""
    metric = key[5]
    if metric not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return ""
    if found is None or np.isnan(found.difference_low):
        return ""
    if any(aside(key, marks, baseline)):
        return "not ranked"
    if found.difference_low <= 0 <= found.difference_high:
        return "not distinguishable"
    if marks.shared(key) and marks.shared(in_place(key, baseline)):
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
