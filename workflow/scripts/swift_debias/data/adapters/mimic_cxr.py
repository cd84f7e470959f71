"""MIMIC-CXR-JPG 2.x, with sex and age from MIMIC-IV.

Folder: `mimic-cxr-2.0.0-{metadata,chexpert,split}.csv.gz` and
`files/p19/p19316207/s55102753/<dicom_id>.jpg`; images are found by their dicom id, so a resized
copy in another folder structure works too. `patients` (or a MIMIC-IV folder under the root) names
MIMIC-IV's patients table. Its anchor_age serves as age, as in the chest X-ray fairness work that
the paper follows (Zhang et al. 2022); an anchor_age of 0 means unknown. It is the age in
anchor_year and not at the X-ray: `age: at_study` adds the years in between (the study's date is
shifted like anchor_year), and takes those above 89 as 91, as MIMIC does. Subjects that MIMIC-IV
does not list keep null attributes.

Inclusion rule [paper, 4.1: frontal, pneumothorax against no finding]: ViewPosition PA or AP; the
study's labels say 1 for exactly one of Pneumothorax and No Finding, and are uncertain (-1) about
neither. Label 1: pneumothorax.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...config.base import File, Place
from ...config.schema import Dataset
from ...errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from .. import raw_files
    from ..manifest import ManifestResult
    from ..rows import Rows


PATIENTS = ("patients.csv",)

TITLE = "MIMIC-CXR"
OLDEST, OLDER = 89, 91  # years: MIMIC-IV writes 91 for everybody older than 89


class Options(Dataset):
    """Options of MIMIC-CXR-JPG."""

    lacks = ("fitzpatrick",)
    places = ("root", "patients")
    tables = ("mimic-cxr-2.*.csv", *PATIENTS)

    adapter: Literal["mimic_cxr"]
    patients: Annotated[Place, File()] | None = Field(
        None,
        description="MIMIC-IV patients.csv.gz (sex and age); default: looked for under root.",
    )
    labeler: Literal["chexpert", "negbio"] = Field(
        "chexpert", description="Which label file; the paper does not say [ours]."
    )

    age: Literal["anchor", "at_study"] = Field(
        "anchor",
        description="anchor: MIMIC-IV's anchor_age, whenever the X-ray was taken [Zhang et al. "
        "2022]; at_study: the age when it was. data_check says how many images change group.",
    )

    def named_tables(self) -> dict[str, str]:
        """MIMIC-IV's patients, where the config says where they are."""
        return {"patients": self.patients} if self.patients else {}


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of MIMIC-CXR-JPG."""
    import numpy as np
    import pyarrow as pa

    from .. import groups, raw_files
    from ..manifest import ANCHOR_AGE
    from ..rows import Rows

    dates = ("StudyDate", "anchor_year") if options.age == "at_study" else ()
    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table("mimic-cxr-2.*-metadata.csv"),
        key="dicom_id",
        required=("dicom_id", "subject_id", "study_id", "ViewPosition", *dates[:1]),
    )
    frame = rows.frame
    frame["path"] = folder.find(frame["dicom_id"])
    rows.drop(~frame["ViewPosition"].isin(("PA", "AP")), "not a frontal view (PA or AP)")
    rows.join(
        folder.table(f"mimic-cxr-2.*-{options.labeler}.csv"),
        on="study_id",
        required=("study_id", "No Finding", "Pneumothorax"),
    )
    rows.keep_one_finding(
        groups.matches(rows.frame["Pneumothorax"], (1,)),
        groups.matches(rows.frame["No Finding"], (1,)),
        uncertain=groups.matches(rows.frame["Pneumothorax"], (-1,))
        | groups.matches(rows.frame["No Finding"], (-1,)),
    )
    rows.join(
        folder.optional_table("mimic-cxr-2.*-split.csv"),
        on="dicom_id",
        required=("dicom_id", "split"),
    )
    rows.join(
        _patients(options, project, folder),
        on="subject_id",
        required=("subject_id", "gender", "anchor_age", *dates[1:]),
    )
    frame = rows.frame
    frame["image_id"] = frame["dicom_id"]
    frame["patient_id"] = frame["subject_id"]
    frame["sex"] = rows.sexes("gender")
    frame["age"] = rows.ages("anchor_age", zero_is_unknown=True)
    frame["diagnosis"] = np.where(frame["label"] == 1, "Pneumothorax", "No Finding")
    frame["view"] = frame["ViewPosition"]
    if not dates:
        return rows.result(folder)
    frame[ANCHOR_AGE] = frame["age"]
    frame["age"] = _at_study(rows)
    return rows.result(folder, {ANCHOR_AGE: pa.float64()})


def _at_study(rows: Rows) -> pd.Series:
    """Age when the X-ray was taken, float64; null where a date is not known."""
    from ..manifest import ANCHOR_AGE

    frame = rows.frame
    years = rows.numbers("StudyDate") // 10_000 - rows.numbers("anchor_year")
    ages = frame[ANCHOR_AGE] + years
    rows.note(frame[ANCHOR_AGE].notna() & ages.isna(), "no date of the study; age unknown")
    rows.note(years.notna() & (ages != frame[ANCHOR_AGE]), "age at the study is not anchor_age")
    return ages.mask(ages > OLDEST, OLDER).clip(lower=0)


def _patients(options: Options, project: Path, folder: raw_files.Folder) -> Path:
    """MIMIC-IV's patients table: where the options say, or anywhere under the root."""
    if options.patients is not None:
        folder.was_read(project / options.patients)
        return project / options.patients
    path = folder.optional_table(*PATIENTS)
    if path is None:
        raise UserError(
            f"no MIMIC-IV patients.csv.gz under {folder.root}: sex and age come from it; "
            "put it there (hosp/ or core/) or name it with the data set's option `patients`"
        )
    return path
