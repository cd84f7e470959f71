"""NIH ChestX-ray14.

Folder: `Data_Entry_2017_v2020.csv` (or the first release, `Data_Entry_2017.csv`, which Kaggle has)
and `images_001/images/*.png` ... or one flat `images/`. The first release has an empty column at
the end and impossible ages; Kaggle's sample of it writes '058Y', '011M', '003D'. Ages above
120 years are recorded as unknown and counted. All views are frontal.

Inclusion rule [paper, 4.1: pneumothorax against no finding]: the findings contain exactly one of
Pneumothorax (alone or with others) and No Finding. Label 1: pneumothorax.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    import pandas as pd

    from .. import raw_files
    from ..manifest import ManifestResult


TRUTH = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
SPLITS = {"train_val_list.txt": "train_val", "test_list.txt": "test"}

TITLE = "NIH ChestX-ray14"


class Options(Dataset):
    """Options of NIH ChestX-ray14: none of its own."""

    lacks = ("fitzpatrick",)
    tables = (*TRUTH, *SPLITS)

    adapter: Literal["nih"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of NIH ChestX-ray14."""
    from .. import raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table(*TRUTH),
        key="Image Index",
        required=(
            "Image Index",
            "Finding Labels",
            "Patient ID",
            "Patient Age",
            "Patient Gender",
            "View Position",
        ),
    )
    frame = rows.frame
    frame["path"] = folder.find(frame["Image Index"])
    findings = "|" + frame["Finding Labels"].fillna("") + "|"
    rows.keep_one_finding(
        findings.str.contains("|Pneumothorax|", regex=False),
        findings.str.contains("|No Finding|", regex=False),
    )
    frame = rows.frame
    frame["diagnosis"] = frame["Finding Labels"]
    frame["image_id"] = frame["Image Index"]
    frame["patient_id"] = frame["Patient ID"]
    frame["sex"] = rows.sexes("Patient Gender")
    frame["age"] = rows.ages("Patient Age")
    frame["view"] = frame["View Position"]
    frame["split"] = _splits(folder, frame["image_id"])
    return rows.result(folder)


def _splits(folder: raw_files.Folder, images: pd.Series) -> pd.Series:
    """The official split, from its two lists of file names where they are there."""
    of_image: dict[str, str] = {}
    for name, split in SPLITS.items():
        path = folder.optional_table(name)
        if path is not None:
            of_image.update(dict.fromkeys(path.read_text().split(), split))
    return images.map(of_image)
