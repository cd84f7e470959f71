"""Rows with their label and their group of a sensitive attribute, measured skin tone included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..config.schema import Attribute
from ..files import read_parquet
from . import image_cache, manifest
from .groups import groups_in

KEYS = ["dataset", "image_id"]


def with_skin_tone(frame: pd.DataFrame, files: Sequence[str | Path]) -> pd.DataFrame:
    """Fill `fitzpatrick` from measured skin tones where the source has none.

    Args:
        frame: columns dataset, image_id, fitzpatrick.
        files: skin_tone/{dataset}.parquet of those data sets whose tone is measured.
    """
    if not files:
        return frame
    measured = pd.concat(
        read_parquet(path, columns=["image_id", "fitzpatrick"]).assign(dataset=Path(path).stem)
        for path in files
    ).rename(columns={"fitzpatrick": "measured"})
    joined = frame.merge(measured, on=KEYS, how="left", validate="one_to_one")
    joined["fitzpatrick"] = joined["fitzpatrick"].fillna(joined.pop("measured"))
    return joined


def read_labelled(
    datasets: Sequence[str],
    manifests: Sequence[str],
    indexes: Sequence[str],
    skin_tones: Sequence[str],
    attribute: Attribute,
) -> pd.DataFrame:
    """The usable images of several data sets.

    Returns:
        dataset, image_id, patient_id, label int8, group int16 (index, -1 = unknown or in none).
        Images that the cache could not read are left out; the cache's index lists them.
    """
    frames = []
    for dataset, rows, index in zip(datasets, manifests, indexes, strict=True):
        readable = image_cache.read_index(Path(index))["error"].isna().to_numpy()
        frames.append(manifest.read(Path(rows))[readable].assign(dataset=dataset))
    frame = with_skin_tone(pd.concat(frames, ignore_index=True), skin_tones)
    groups = groups_in(frame, attribute)
    return frame[[*KEYS, "patient_id", "label"]].assign(group=groups)
