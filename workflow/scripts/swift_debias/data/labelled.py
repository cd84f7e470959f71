"""Rows with their label and their group of a sensitive attribute, measured skin tone included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..config.schema import SKIN_TYPES, Attribute
from ..files import read_parquet
from . import image_cache, manifest
from .groups import groups_in

KEYS = ["dataset", "image_id"]


def patients_of(rows: pd.DataFrame, cohort: pd.DataFrame) -> np.ndarray:
    """Whose image each row is, (n,); null: unknown. Both have `KEYS`, the cohort `patient_id`."""
    found = rows[KEYS].merge(cohort, on=KEYS, how="left", validate="one_to_one")
    return found["patient_id"].to_numpy(dtype=object)


def with_skin_tone(frame: pd.DataFrame, files: Sequence[str | Path]) -> pd.DataFrame:
    """Fill `fitzpatrick` from measured skin tones where the source has none.

    So are the columns of the single rules (`schema.ANGLE_RULES`) where the files have them: they
    differ where the skin tone is measured, and are the annotation elsewhere.

    Args:
        frame: columns dataset, image_id, fitzpatrick.
        files: skin_tone/{dataset}.parquet of those data sets whose tone is measured.
    """
    if not files:
        return frame
    found = pd.concat(read_parquet(path).assign(dataset=Path(path).stem) for path in files)
    types = [column for column in SKIN_TYPES if column in found]
    measured = found[[*KEYS, *types]].rename(columns="measured {}".format)
    measured.columns = [*KEYS, *measured.columns[len(KEYS) :]]
    joined = frame.merge(measured, on=KEYS, how="left", validate="one_to_one")
    annotation = joined["fitzpatrick"].copy()
    for column in types:
        joined[column] = annotation.fillna(joined.pop(f"measured {column}"))
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
