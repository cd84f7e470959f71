"""NIH ChestX-ray14.

Folder: `Data_Entry_2017_v2020.csv` (or the first release, `Data_Entry_2017.csv`, which Kaggle has)
and `images_001/images/*.png` ... or one flat `images/`. The first release has an empty column at
the end and impossible ages; Kaggle's sample of it writes '058Y', '011M', '003D'. Ages above
120 years are recorded as unknown and counted. All views are frontal.

Inclusion rule [paper, 4.1: pneumothorax against no finding]: the findings contain exactly one of
Pneumothorax (alone or with others) and No Finding. Label 1: pneumothorax. The paper counts 10,815
images, without a rule; `split: test` with `single_label: true` gives 10,814 of the official table
[derived]: 9,861 without a finding and 953 with pneumothorax alone. An age of 0 is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.base import Flag
from ...config.schema import Dataset
from ...errors import UserError

if TYPE_CHECKING:
    from .. import raw_files
    from ..manifest import ManifestResult


TRUTH = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
SPLITS = {"train_val_list.txt": "train_val", "test_list.txt": "test"}

TITLE = "NIH ChestX-ray14"


class Options(Dataset):
    """Options of NIH ChestX-ray14."""

    lacks = ("fitzpatrick",)
    tables = (*TRUTH, *SPLITS)

    adapter: Literal["nih"]
    split: Literal["all", "test"] = Field(
        "all",
        description="test: the images of the official test_list.txt only; with `single_label`, "
        "10,814 images, where the paper has 10,815 [derived].",
    )
    single_label: Flag = Field(
        False, description="Leave out pneumothorax with other findings [derived]."
    )

    @property
    def paper_rule(self) -> bool:
        """Whether the images are those of the derived rule of the paper."""
        return self.split == "test" and self.single_label


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
    splits = _splits(folder)
    if options.split == "test" and "test" not in splits.values():
        raise UserError(
            f"split: test needs the official list test_list.txt in {folder.root}; or say split: all"
        )
    frame = rows.frame
    frame["path"] = folder.find(frame["Image Index"])
    frame["split"] = frame["Image Index"].map(splits).astype("str")
    if options.split == "test":
        rows.drop(frame["split"] != "test", "not on test_list.txt (split: test)")
    if options.single_label:
        several = rows.frame["Finding Labels"].str.contains("|", regex=False).eq(True)
        rows.drop(several, "several findings (single_label)")
    findings = "|" + rows.frame["Finding Labels"].fillna("") + "|"
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
    return rows.result(folder)


def _splits(folder: raw_files.Folder) -> dict[str, str]:
    """Image -> the official split, from its two lists of file names where they are there."""
    from ..raw_tables import read_words

    of_image: dict[str, str] = {}
    for name, split in SPLITS.items():
        path = folder.optional_table(name)
        if path is not None:
            of_image.update(dict.fromkeys(read_words(path), split))
    return of_image
