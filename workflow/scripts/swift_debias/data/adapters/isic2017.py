"""ISIC 2017 challenge, part 3 (training set).

Folder: `ISIC-2017_Training_Data/` (images, `*_superpixels.png`, the metadata CSV) and the ground
truth CSV inside or beside it. No patient or lesion ids were released.

Inclusion rule: every row of the ground truth that says 0 or 1 and has an image. Label 0: melanoma.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TRUTH = "ISIC-2017_Training_Part3_GroundTruth.csv"
METADATA = "ISIC-2017_Training_Data_metadata.csv"

TITLE = "ISIC 2017"


class Options(Dataset):
    """Options of ISIC 2017: none of its own."""

    lacks = ("fitzpatrick",)
    tables = (TRUTH, METADATA)
    tables_beside = True

    adapter: Literal["isic2017"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of ISIC 2017."""
    import numpy as np

    from .. import groups, raw_files
    from ..rows import Rows

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
    rows.drop(~groups.matches(frame["melanoma"], (0, 1)), "melanoma is neither 0 nor 1")
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
