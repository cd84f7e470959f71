"""ISIC 2020 challenge (training set), from ISIC or from Kaggle.

Folder: `train/*.jpg` and `ISIC_2020_Training_GroundTruth_v2.csv` (or the first version, without
lesion ids); Kaggle's has `jpeg/train/*.jpg` and `train.csv`, with the columns of the first version.
The 425 official duplicates stay here; the duplicate search removes them.

Inclusion rule: every row with a target and an image. Label 0: target 1, malignant, which in this
year is always melanoma.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset
from ..listing import PAIRS

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TRUTH = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv")
KAGGLE = "train.csv"

TITLE = "ISIC 2020"


class Options(Dataset):
    """Options of ISIC 2020: none of its own."""

    lacks = ("fitzpatrick",)
    tables = (*TRUTH, KAGGLE, *PAIRS)
    tables_beside = True

    adapter: Literal["isic2020"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of ISIC 2020."""
    from .. import groups, raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    table = folder.optional_table(*TRUTH, beside=True) or folder.table(*TRUTH, KAGGLE)
    rows = Rows.read(
        table,
        key="image_name",
        required=("image_name", "patient_id", "sex", "age_approx", "diagnosis", "target"),
        optional=("lesion_id",),
    )
    rows.frame["path"] = folder.find(rows.frame["image_name"])
    rows.drop(~groups.matches(rows.frame["target"], (0, 1)), "target is neither 0 nor 1")
    frame = rows.frame
    frame["label"] = groups.matches(frame["target"], (0,)).astype("int8")
    frame["diagnosis"] = frame["diagnosis"].fillna("unknown")
    frame["image_id"] = frame["image_name"]
    frame["sex"] = rows.sexes("sex")
    frame["age"] = rows.ages("age_approx")
    frame["split"] = "train"
    return rows.result(folder)
