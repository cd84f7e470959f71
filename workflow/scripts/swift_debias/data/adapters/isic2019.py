"""ISIC 2019 challenge (training set).

Folder: `ISIC_2019_Training_Input/` and the ground truth and metadata CSVs inside or beside it.
2,074 ids end in `_downsampled`: that is part of the file's name, but not of the image's id, which
is stripped of it so that the same picture of another year is recognized.

Inclusion rule: rows of the ground truth with exactly one diagnosis and an image. Label 0: MEL.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")

TITLE = "ISIC 2019"


class Options(Dataset):
    """Options of ISIC 2019: none of its own."""

    lacks = ("fitzpatrick",)
    tables = (TRUTH, METADATA)
    tables_beside = True

    adapter: Literal["isic2019"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of ISIC 2019."""
    from .. import raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(folder.table(TRUTH, beside=True), key="image", required=("image", *CLASSES))
    rows.frame["path"] = folder.find(rows.frame["image"])
    rows.join(
        folder.table(METADATA, beside=True),
        on="image",
        required=("image", "age_approx", "lesion_id", "sex"),
    )
    rows.keep_one_diagnosis(CLASSES)
    frame = rows.frame
    frame["label"] = (frame["diagnosis"] != "MEL").astype("int8")
    frame["image_id"] = frame["image"].str.removesuffix("_downsampled")
    frame["sex"] = rows.sexes("sex")
    frame["age"] = rows.ages("age_approx")
    frame["split"] = "train"
    return rows.result(folder)
