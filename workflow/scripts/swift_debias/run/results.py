"""Reading many result files of a run into one table, with keys from their paths."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..errors import UserError
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


def predictions(
    folder: str | Path,
    methods: Iterable[str],
    folds: Iterable[int],
    repeats: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Predictions of these methods and folds of one setup, as `read` gives them.

    Args:
        folder: `setup_predictions` of `layout`, which rule `predict` makes as a whole.
        methods, folds: which are to be there; what else the folder holds is not looked at.
        repeats: how often each method was repeated; then a column `repeat` tells them apart. None:
            the first ones alone.

    Raises:
        UserError: one is missing or damaged. It says to delete the folder: Snakemake would not make
            a file inside of it again.
    """
    run = layout.run_folder("setup_predictions", folder)
    keys = layout.keys("setup_predictions", folder)
    cells = [keys | {"method": m, "fold": f} for m, f in itertools.product(methods, folds)]
    paths = [run / layout.path("predictions", **cell) for cell in cells]
    again = [
        run / layout.path("repeat_predictions", **cell, repeat=repeat)
        for cell in cells
        for repeat in range(1, (repeats or {}).get(str(cell["method"]), 1))
    ]
    try:
        first = read("predictions", sorted(paths))
        if repeats is None:
            return first
        rest = read("repeat_predictions", sorted(again))
        found = pd.concat([first.assign(repeat=0), rest] if len(rest) else [first.assign(repeat=0)])
        return found.astype({"repeat": "int64"}).reset_index(drop=True)
    except UserError as error:
        what = str(error).removesuffix(": delete it and run again")
        raise UserError(f"{what}: delete the folder {folder} and run again") from error
