"""ISIC 2017 challenge, part 3 (training set).

Folder: `ISIC-2017_Training_Data/` (images, `*_superpixels.png`, the metadata CSV) and the ground
truth CSV inside or beside it. No patient or lesion ids were released.

Inclusion rule: every row of the ground truth that has an image. Label 0: melanoma.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...config.schema import Dataset
from .. import groups, manifest, raw_files
from ..rows import Rows

TRUTH = "ISIC-2017_Training_Part3_GroundTruth.csv"
METADATA = "ISIC-2017_Training_Data_metadata.csv"


def read(options: Dataset, project: Path) -> manifest.ManifestResult:
    """Manifest of ISIC 2017."""
    folder = raw_files.scan_dataset(options, project, ignore="_superpixels.png")
    rows = Rows.read(
        folder.table(TRUTH, beside=True),
        key="image_id",
        required=("image_id", "melanoma", "seborrheic_keratosis"),
    )
    rows.join(
        folder.table(METADATA, beside=True),
        on="image_id",
        required=("image_id", "age_approximate", "sex"),
    )
    frame = rows.frame
    melanoma = groups.matches(frame["melanoma"], (1,))
    keratosis = groups.matches(frame["seborrheic_keratosis"], (1,))
    frame["label"] = (~melanoma).astype("int8")
    # The challenge has three classes; the third, nevus, has no column of its own.
    frame["diagnosis"] = np.select(
        [melanoma, keratosis], ["melanoma", "seborrheic_keratosis"], "nevus"
    )
    frame["path"] = folder.find(frame["image_id"])
    frame["sex"] = rows.sexes("sex")
    frame["age"] = rows.ages("age_approximate")
    frame["split"] = "train"
    return rows.result(folder)
