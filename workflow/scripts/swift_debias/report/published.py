"""The paper's own numbers (resources/published_results.csv)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..evaluation.cells import KEYS, Cell


def read_published(path: Path) -> pd.DataFrame:
    """The paper's numbers: table, KEYS, mean, std; the same cell may stand in several tables."""
    published = pd.read_csv(path, dtype=dict.fromkeys(KEYS, "object"))
    missing = sorted({"table", *KEYS, "mean", "std"} - set(published.columns))
    if missing:
        raise UserError(f"{path}: columns missing: {', '.join(missing)}")
    return published


def published_lookup(published: pd.DataFrame) -> dict[tuple[str, ...], Cell]:
    """The published cells by the key of `lookup`; five folds each [paper, Section 4.1]."""
    keys = published[KEYS].itertuples(index=False, name=None)
    values = published[["mean", "std"]].itertuples(index=False, name=None)
    return {key: Cell(mean, std, 5, 0, None) for key, (mean, std) in zip(keys, values, strict=True)}
