"""Reading many result files of a run into one table, with keys from their paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def _read(paths: Iterable[Path], names: Sequence[str]) -> pd.DataFrame:
    """Tables whose folders say what they are of: .../{names}/fold{fold}..."""
    frames = []
    for path in map(Path, paths):
        keys: dict[str, Any] = dict(zip(names, path.parent.parts[-len(names) :], strict=True))
        keys["fold"] = int(path.name.partition(".")[0].removeprefix("fold"))
        # predictions call the index of a sample's group `attribute`
        frames.append(pd.read_parquet(path).rename(columns={"attribute": "group"}).assign(**keys))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_predictions(paths: Iterable[Path]) -> pd.DataFrame:
    """`predictions/{task}/{backbone}/{attribute}/{method}/fold{fold}.parquet`, with their keys.

    Columns: task, backbone, attribute, method, fold, dataset, image_id, label, group (index, -1 =
    unknown), score.
    """
    return _read(paths, ("task", "backbone", "attribute", "method"))


def read_summaries(paths: Iterable[Path]) -> pd.DataFrame:
    """`importance/{task}/{backbone}/{attribute}/fold{fold}.mask_summary.parquet`, with keys."""
    return _read(paths, ("task", "backbone", "attribute"))
