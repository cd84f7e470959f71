"""ISIC 2018 challenge, task 3 (training set), which is HAM10000.

Folder: `ISIC2018_Task3_Training_Input/` and the ground truth CSV inside or beside it. The
challenge files have neither sex nor age: they are taken from `HAM10000_metadata` (of the HAM10000
release) where that file is there, and are unknown otherwise. Lesion ids come from
`ISIC2018_Task3_Training_LesionGroupings.csv` or from HAM10000.

Inclusion rule: rows of the ground truth with exactly one diagnosis and an image. Label 0: MEL.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TRUTH = "ISIC2018_Task3_Training_GroundTruth.csv"
LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
HAM10000 = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")

TITLE = "ISIC 2018"


class Options(Dataset):
    """Options of ISIC 2018: none of its own."""

    lacks = ("fitzpatrick",)
    tables = (TRUTH, LESIONS, *HAM10000)
    tables_beside = True

    adapter: Literal["isic2018"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of ISIC 2018."""
    from .. import raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(folder.table(TRUTH, beside=True), key="image", required=("image", *CLASSES))
    rows.frame["path"] = folder.find(rows.frame["image"])
    rows.join(
        folder.optional_table(LESIONS, beside=True), on="image", required=("image", "lesion_id")
    )
    rows.join(
        folder.optional_table(*HAM10000, beside=True),
        on="image",
        required=(("image", "image_id"), ("ham_lesion", "lesion_id"), "age", "sex"),
    )
    rows.keep_one_diagnosis(CLASSES)
    frame = rows.frame
    frame["label"] = (frame["diagnosis"] != "MEL").astype("int8")
    frame["image_id"] = frame["image"]
    frame["lesion_id"] = frame["lesion_id"].fillna(frame["ham_lesion"])
    frame["sex"] = rows.sexes("sex")
    frame["age"] = rows.ages("age")
    frame["split"] = "train"
    return rows.result(folder)
