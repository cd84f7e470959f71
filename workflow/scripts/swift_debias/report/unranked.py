"""What would have won, had it been ranked: the best numbers that are implausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from ..evaluation import words
from ..evaluation.cells import KEYS, Block, Cell, cell
from ..evaluation.plausibility import Marks
from . import render

PLACE = [key for key in KEYS if key != "method"]


def would_have_won(
    panels: Mapping[str, Sequence[Block]],
    cells: Mapping[tuple[str, ...], Cell],
    marks: Marks,
    names: Mapping[str, str],
    titles: Mapping[str, str],
) -> pd.DataFrame:
    """Columns of the tables whose best number is not ranked, since it is implausible.

    Args:
        panels: the run's tables.
        cells: the run's cells.
        marks: of these cells.
        names: a block's method -> what it is called in `cells`.
        titles: display names of the methods.

    Returns:
        KEYS without the method, then method, value, because (of which marks), best (the method that
        is ranked first instead).
    """
    rows = {}
    for block in (block for blocks in panels.values() for block in blocks):
        for dataset, metric in product(block.datasets, block.metrics):
            place = (*block[:3], dataset, metric)
            keys = [
                (*block[:3], names.get(method, method), dataset, metric) for method in block.methods
            ]
            means = [cell(cells, *key).mean for key in keys]
            whole = render.ranks(means, metric)
            kept = [
                mean if marks.ranked(key) else np.nan for key, mean in zip(keys, means, strict=True)
            ]
            places = render.ranks(kept, metric, [marks.shared(key) for key in keys])
            first = [titles.get(k[3], k[3]) for k, r in zip(keys, places, strict=True) if r == 1]
            for key, mean, rank in zip(keys, means, whole, strict=True):
                if rank == 1 and not marks.ranked(key):
                    name = titles.get(key[3], key[3])
                    rows[place, name] = (*place, name, mean, marks.remark(key), " and ".join(first))
    columns = [*PLACE, "method", "value", "because", "best"]
    return pd.DataFrame(list(rows.values()), columns=columns)


def sentences(found: pd.DataFrame) -> list[str]:
    """How many, and of which methods; none where there is none."""
    if found.empty:
        return []
    who = ", ".join(f"{name} {count}" for name, count in found["method"].value_counts().items())
    return [
        f"{len(found)} numbers would have been the best of their column and are not ranked, since "
        f"they are implausible ({who})."
    ]


def for_readers(found: pd.DataFrame) -> pd.DataFrame:
    """The same as a table of the report."""
    return pd.DataFrame(
        {
            **{key: found[key].map(words.title) for key in PLACE},
            "would have won": found["method"],
            "with": found["value"],
            "but is": found["because"],
            "so the best is": found["best"].replace("", words.MISSING),
        }
    )
