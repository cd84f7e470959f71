"""CheXpert, full size or `small`.

Folder: `CheXpert-v1.0[-small]/{train,valid}.csv` and the images below, or the four batches of the
full release as unpacked. The CSV's paths begin with the name of the release's folder, which people
rename or strip, and the batches lack their `train/`: an image, its patient and its id come from the
last three components, patient/study/view, which are unique. The split is the table's.

Inclusion rule [paper, 4.1: pneumothorax against no finding]: frontal view; 1 for exactly one of
Pneumothorax and No Finding, uncertain (-1) about neither. Label 1: pneumothorax. Both train.csv and
valid.csv (where present) are read. An age of 0 means unknown; 90 means 90 or more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset
from ...errors import UserError

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TITLE = "CheXpert"
TAIL = r"(?P<image>(?P<patient>patient\d+)/study\d+/[^/]+)$"


class Options(Dataset):
    """Options of CheXpert: none of its own."""

    lacks = ("fitzpatrick",)
    tables = ("train.csv", "valid.csv")

    adapter: Literal["chexpert"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of CheXpert."""
    import numpy as np

    from .. import groups, raw_files
    from ..raw_tables import read_table
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    train, valid = folder.table("train.csv"), folder.optional_table("valid.csv")
    validation = set() if valid is None else {*read_table(valid, ("Path",))["Path"]}
    rows = Rows.read(
        [path for path in (train, valid) if path is not None],
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
    tails = frame["Path"].str.extract(TAIL)
    if (strange := tails["image"].isna()).any():
        first = frame.loc[strange, "Path"].iloc[0]
        raise UserError(
            f"{train}: {int(strange.sum())} paths do not end in patient/study/view, the first is "
            f"{first!r}; that is how CheXpert names images and patients"
        )
    frame["split"] = np.where(frame["Path"].isin(validation), "valid", "train")
    frame["image_id"] = frame["split"] + "/" + tails["image"]
    frame["patient_id"] = tails["patient"]
    frame["path"] = folder.find(tails["image"], parts=3)
    rows.drop(frame["Frontal/Lateral"] != "Frontal", "not a frontal view")
    rows.keep_one_finding(
        groups.matches(rows.frame["Pneumothorax"], (1,)),
        groups.matches(rows.frame["No Finding"], (1,)),
        uncertain=groups.matches(rows.frame["Pneumothorax"], (-1,))
        | groups.matches(rows.frame["No Finding"], (-1,)),
    )
    frame = rows.frame
    frame["sex"] = rows.sexes("Sex")
    frame["age"] = rows.ages("Age", zero_is_unknown=True)
    frame["diagnosis"] = np.where(frame["label"] == 1, "Pneumothorax", "No Finding")
    frame["view"] = frame["AP/PA"]
    return rows.result(folder)
