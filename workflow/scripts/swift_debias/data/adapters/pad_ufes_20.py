"""PAD-UFES-20.

Folder: `metadata.csv` and `images/imgs_part_{1,2,3}/*.png`, or the images in one flat folder.
Clinical photographs taken with phones.

Inclusion rule: every row with one of the six diagnoses and an image. Label 0: MEL. Sex and
skin type are known for 1,494 of the 2,298 images; the others stay, with null attributes. Lesion
numbers are used again for other patients, so a lesion's id here carries the patient's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


DIAGNOSES = ("BCC", "ACK", "NEV", "SEK", "SCC", "MEL")

TITLE = "PAD-UFES-20"


class Options(Dataset):
    """Options of PAD-UFES-20: none of its own."""

    tables = ("metadata.csv",)

    adapter: Literal["pad_ufes_20"]


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of PAD-UFES-20."""
    from .. import groups, raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table("metadata.csv"),
        key="img_id",
        required=(
            "img_id",
            "patient_id",
            "lesion_id",
            "age",
            "gender",
            "fitspatrick",
            "diagnostic",
        ),
    )
    rows.frame["path"] = folder.find(rows.frame["img_id"])
    rows.drop(rows.frame["diagnostic"].isna(), "no diagnosis")
    strange = ~groups.matches(rows.frame["diagnostic"], DIAGNOSES)
    rows.drop(strange, f"diagnosis is none of {', '.join(DIAGNOSES)}")
    frame = rows.frame
    frame["label"] = (~groups.matches(frame["diagnostic"], ("MEL",))).astype("int8")
    frame["diagnosis"] = frame["diagnostic"]
    frame["image_id"] = frame["img_id"]
    frame["lesion_id"] = frame["patient_id"] + "_" + frame["lesion_id"]
    frame["sex"] = rows.sexes("gender")
    frame["age"] = rows.ages("age")
    frame["fitzpatrick"] = rows.skin_types("fitspatrick")
    return rows.result(folder)
