"""CheXpert, full size or `small`.

Folder: `CheXpert-v1.0[-small]/{train,valid}.csv` and the images below, or the four batches of the
full release as unpacked. The CSV's paths begin with the name of the release's folder, which people
rename, and the batches lack their `train/`: an image is found by its last three components,
patient/study/view, which are unique.

Inclusion rule [paper, 4.1: pneumothorax against no finding]: frontal view; 1 for exactly one of
Pneumothorax and No Finding, uncertain (-1) about neither. Label 1: pneumothorax. Both train.csv and
valid.csv (where present) are read. An age of 0 means unknown; 90 means 90 or more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TITLE = "CheXpert"


class Options(Dataset):
    """Options of CheXpert: none of its own."""

    lacks = ("fitzpatrick",)
    tables = ("train.csv", "valid.csv")

    adapter: Literal["chexpert"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of CheXpert."""
    import numpy as np

    from .. import groups, raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    tables = [folder.table("train.csv"), folder.optional_table("valid.csv")]
    rows = Rows.read(
        [path for path in tables if path is not None],
        key="Path",
        required=(
            "Path",
            "Sex",
            "Age",
            "Frontal/Lateral",
            "AP/PA",
            "No Finding",
            "Pneumothorax",
        ),
    )
    frame = rows.frame
    frame["path"] = folder.find(frame["Path"], parts=3)
    rows.drop(frame["Frontal/Lateral"] != "Frontal", "not a frontal view")
    rows.keep_one_finding(
        groups.matches(rows.frame["Pneumothorax"], (1,)),
        groups.matches(rows.frame["No Finding"], (1,)),
        uncertain=groups.matches(rows.frame["Pneumothorax"], (-1,))
        | groups.matches(rows.frame["No Finding"], (-1,)),
    )
    frame = rows.frame
    parts = frame["Path"].str.split("/")
    frame["image_id"] = parts.str[1:].str.join("/")
    frame["split"] = parts.str[1]
    frame["patient_id"] = parts.str[2]
    frame["sex"] = rows.sexes("Sex")
    frame["age"] = rows.ages("Age", zero_is_unknown=True)
    frame["diagnosis"] = np.where(frame["label"] == 1, "Pneumothorax", "No Finding")
    frame["view"] = frame["AP/PA"]
    return rows.result(folder)
