"""CheXpert, full size or `small`.

Folder: `CheXpert-v1.0[-small]/{train,valid}.csv` and the images below, or the four batches of the
full release as unpacked. The CSV's paths begin with the name of the release's folder, which people
rename or strip, and the batches lack their `train/`: an image, its patient and its id come from the
last three components, patient/study/view, which are unique. The split is the table's.

Inclusion rule [paper, 4.1: pneumothorax against no finding]: frontal view; 1 for exactly one of
Pneumothorax and No Finding, uncertain (-1) about neither. Label 1: pneumothorax. Both train.csv and
valid.csv (where present) are read. An age of 0 means unknown; 90 means 90 or more.

The paper counts 21,040 images, without a rule; `uncertain: positive` with `one_per_patient: true`
gives just that of train.csv [derived]: of 4,320 rules tried it alone did, while 70 different counts
lay within 1,000, so chance would hit with about 3.5 %: a strong candidate and no proof.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.base import Flag
from ...config.schema import Dataset
from ...errors import UserError

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TITLE = "CheXpert"
TAIL = r"(?P<image>(?P<patient>(?i:patient)\d+)/(?i:study)\d+/[^/]+)$"


class Options(Dataset):
    """Options of CheXpert."""

    lacks = ("fitzpatrick",)
    tables = ("train.csv", "valid.csv")

    adapter: Literal["chexpert"]
    uncertain: Literal["drop", "positive", "negative"] = Field(
        "drop",
        description="What an uncertain (-1) pneumothorax is: left out, class 1, or no "
        "pneumothorax; positive with `one_per_patient` gives the paper's 21,040 images [derived].",
    )
    one_per_patient: Flag = Field(
        False,
        description="Each patient's first image only, in the table's order, of those that are "
        "included and whose sex is known [derived].",
    )

    @property
    def paper_rule(self) -> bool:
        """Whether the images are those of the derived rule of the paper."""
        return self.uncertain == "positive" and self.one_per_patient


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
    tails = frame["Path"].str.replace("\\", "/", regex=False).str.extract(TAIL)
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
    unsure = groups.matches(rows.frame["Pneumothorax"], (-1,))
    left_out = groups.matches(rows.frame["No Finding"], (-1,))
    rows.keep_one_finding(
        groups.matches(rows.frame["Pneumothorax"], (1,))
        | (unsure & (options.uncertain == "positive")),
        groups.matches(rows.frame["No Finding"], (1,)),
        uncertain=left_out | (unsure & (options.uncertain == "drop")),
    )
    rows.frame["sex"] = rows.sexes("Sex")
    if options.one_per_patient:
        rows.drop(rows.frame["sex"].isna(), "sex is not known (one_per_patient)")
        further = rows.frame.duplicated("patient_id")
        rows.drop(further, "further image of a patient (one_per_patient)")
    frame = rows.frame
    frame["age"] = rows.ages("Age", zero_is_unknown=True)
    frame["diagnosis"] = np.where(frame["label"] == 1, "Pneumothorax", "No Finding")
    frame["view"] = frame["AP/PA"]
    return rows.result(folder)
