"""Reading many result files of a run into one table, with keys from their paths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..files import read_parquet
from . import layout


def joined(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Parquet files of the same columns, one after the other; without files an empty frame."""
    frames = [read_parquet(path) for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read(name: str, paths: Iterable[str | Path]) -> pd.DataFrame:
    """Parquet files of one kind of `layout`, one after the other, each with its keys as columns.

    A frame of the keys alone, without rows, where there is no file.
    """
    frames = []
    for path in paths:
        keys: dict[str, str | int] = dict(layout.keys(name, path))
        if "fold" in keys:
            keys["fold"] = int(keys["fold"])
        frames.append(read_parquet(path).assign(**keys))
    if not frames:
        return pd.DataFrame(columns=layout.key_names(name))
    return pd.concat(frames, ignore_index=True)
