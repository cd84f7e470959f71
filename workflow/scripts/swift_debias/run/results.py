"""Reading many result files of a run into one table, with keys from their paths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from . import layout


def read(name: str, paths: Iterable[str | Path]) -> pd.DataFrame:
    """Parquet files of one kind of `layout`, one after the other, each with its keys as columns.

    An empty frame where there is no file.
    """
    frames = []
    for path in paths:
        keys: dict[str, str | int] = dict(layout.keys(name, path))
        if "fold" in keys:
            keys["fold"] = int(keys["fold"])
        frames.append(pd.read_parquet(path).assign(**keys))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
