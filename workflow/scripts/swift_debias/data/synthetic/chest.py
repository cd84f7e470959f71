"""Raw folders of the chest X-rays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .drawing import Bytes
from .folder import Folder, one_more_row, words
from .population import chest_population, draw

# The labeler's fourteen findings, in the order of each release.
_MIMIC_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
_CHEXPERT_FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)


def _people(folder: Folder, correlation: float) -> pd.DataFrame:
    """The usable images, then those outside the task."""
    return chest_population(folder.name, folder.size(), correlation, folder.settings, folder.seed)


def _with_laterals(folder: Folder, people: pd.DataFrame) -> tuple[pd.DataFrame, list[Bytes]]:
    """Rows of which there is a lateral view, and all pictures: every frontal, then the laterals."""
    side = people[folder.some("laterals", len(people), 1.5)]
    name, settings, seed = folder.name, folder.settings, folder.seed
    pictures = draw(people, name, name, settings, seed)
    return side, pictures + draw(side, name, name, settings, seed, "lateral")


def _labels(folder: Folder, people: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The labeler's output: 1.0, 0.0, -1.0 (uncertain) or empty."""
    rng = folder.rng("labels")
    total = len(people)
    labels = pd.DataFrame(np.nan, index=people.index, columns=list(columns))
    finding = people["finding"]
    labels.loc[finding == "none", "No Finding"] = 1.0
    labels.loc[(finding == "none") & (rng.random(total) < 0.3), "Pneumothorax"] = 0.0
    labels.loc[finding == "pneumothorax", "Pneumothorax"] = 1.0
    labels.loc[finding == "uncertain", "Pneumothorax"] = -1.0
    labels.loc[finding == "effusion", "Pleural Effusion"] = 1.0
    for name in ("Lung Opacity", "Pleural Effusion", "Atelectasis"):
        also = (finding == "pneumothorax") & (rng.random(total) < 0.15)
        labels.loc[also, name] = rng.choice([1.0, -1.0], int(also.sum()))
    labels.loc[rng.random(total) < 0.3, "Support Devices"] = 1.0
    return labels


def write_mimic_cxr(folder: Folder) -> None:
    """MIMIC-CXR-JPG, and MIMIC-IV's patients; one image has no view position."""
    people = _people(folder, folder.settings.correlation)
    rng = folder.rng("metadata")
    frontal = pd.DataFrame(
        {
            "subject_id": _subjects(people),
            "study_id": 50_000_014 + 31 * people.index,
            "ViewPosition": np.where(rng.random(len(people)) < 0.5, "PA", "AP"),
        }
    )
    side, pictures = _with_laterals(folder, people)
    beside = np.where(side.index % 2 == 0, "LATERAL", "LL")
    lateral = frontal.loc[side.index].assign(ViewPosition=beside)
    nameless = frontal.iloc[-1:].assign(ViewPosition="")
    rows = pd.concat([frontal, lateral, nameless], ignore_index=True)
    pictures += draw(
        people.iloc[-1:], folder.name, folder.name, folder.settings, folder.seed, "nameless"
    )
    total = len(rows)
    ids = [_dicom_id(folder.seed, number) for number in range(total + 3)]
    rows.insert(0, "dicom_id", ids[:total])
    folder.pictures((_mimic_path(row) for _, row in rows.iterrows()), pictures)
    rows = one_more_row(rows, dicom_id=ids[total], ViewPosition="PA")
    folder.truncated(_mimic_path(rows.iloc[-1]), pictures[0])
    stray = one_more_row(rows, dicom_id=ids[total + 1]).iloc[-1]
    folder.pictures([_mimic_path(stray)], pictures[:1])  # a file without its row
    rows = one_more_row(rows, dicom_id=ids[total + 2])  # a row without its file
    _mimic_tables(folder, people, rows)


def _subjects(people: pd.DataFrame) -> pd.Series:
    return 10_000_032 + 97 * people["patient"]


def _dicom_id(seed: int, number: int) -> str:
    digits = hashlib.sha1(f"{seed} {number}".encode()).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _mimic_path(row: pd.Series) -> str:
    patient = f"files/p{str(row['subject_id'])[:2]}/p{row['subject_id']}"
    return f"{patient}/s{row['study_id']}/{row['dicom_id']}.jpg"


def _mimic_tables(folder: Folder, people: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Tables about images (`rows`), their studies, and the patients."""
    rng = folder.rng("tables")
    total = len(rows)
    view = rows["ViewPosition"]
    names = {"AP": "antero-posterior", "PA": "postero-anterior", "": ""}
    metadata = pd.DataFrame(
        {
            "dicom_id": rows["dicom_id"],
            "subject_id": rows["subject_id"],
            "study_id": rows["study_id"],
            "PerformedProcedureStepDescription": words(
                view == "AP", "CHEST (PORTABLE AP)", "CHEST (PA AND LAT)"
            ),
            "ViewPosition": view,
            "Rows": 3056,
            "Columns": 2544,
            "StudyDate": 21_800_000 + 100 * rng.integers(1, 13, total) + rng.integers(1, 29, total),
            "StudyTime": (80_000 + rng.integers(0, 5000, total) + 0.125).round(3),
            "ProcedureCodeSequence_CodeMeaning": "CHEST (PA AND LAT)",
            "ViewCodeSequence_CodeMeaning": view.map(names).fillna("lateral"),
            "PatientOrientationCodeSequence_CodeMeaning": "Erect",
        }
    )
    folder.table("mimic-cxr-2.0.0-metadata.csv.gz", metadata)
    split = rng.choice(["train", "validate", "test"], total, p=[0.94, 0.03, 0.03])
    splits = rows[["dicom_id", "study_id", "subject_id"]].assign(split=split)
    folder.table("mimic-cxr-2.0.0-split.csv.gz", splits)

    studies = rows[["subject_id", "study_id"]].drop_duplicates(ignore_index=True)
    labels = pd.concat([studies, _labels(folder, people, _MIMIC_FINDINGS)], axis=1)
    folder.table("mimic-cxr-2.0.0-chexpert.csv.gz", labels)
    # The other labeler doubts one pneumothorax.
    labels.loc[labels["Pneumothorax"].eq(1.0).idxmax(), "Pneumothorax"] = -1.0
    folder.table("mimic-cxr-2.0.0-negbio.csv.gz", labels)

    patients = people.drop_duplicates("patient", ignore_index=True)
    table: dict[str, Any] = {
        "subject_id": _subjects(patients),
        "gender": words(patients["male"], "M", "F"),
        "anchor_age": patients["age"].mask(patients["age"] > 89, 91),
        "anchor_year": 2180,
        "anchor_year_group": "2011 - 2013",
        "dod": "",
    }
    # MIMIC-IV does not list every patient of MIMIC-CXR.
    listed = pd.DataFrame(table)[~folder.some("patients", len(patients))]
    folder.table("hosp/patients.csv.gz", listed)


def write_chexpert(folder: Folder) -> None:
    """CheXpert, small: unknown ages are 0, one sex is Unknown."""
    people = _people(folder, folder.settings.test_correlation)
    rng = folder.rng("metadata")
    total = len(people)
    study = people.groupby("patient").cumcount() + 1
    held_out = people["patient"] % 40 == 0
    part = words(held_out, "valid", "train")
    patient = people["patient"] + np.where(held_out, 64541, 1)
    view = "/study" + study.astype(str) + "/view1_frontal.jpg"
    start = "CheXpert-v1.0-small/" + part + patient.map("/patient{:05d}".format)
    frame = pd.DataFrame(
        {
            "Path": start + view,
            "Sex": words(people["male"], "Male", "Female", people.index == 1, "Unknown"),
            "Age": people["age"].mask(folder.some("age", total), 0),
            "Frontal/Lateral": "Frontal",
            "AP/PA": np.where(rng.random(total) < 0.79, "AP", "PA"),
        }
    )
    frame = pd.concat([frame, _labels(folder, people, _CHEXPERT_FINDINGS)], axis=1)
    side, pictures = _with_laterals(folder, people)
    lateral = frame.loc[side.index].assign(**{"Frontal/Lateral": "Lateral", "AP/PA": ""})
    lateral["Path"] = lateral["Path"].str.replace("view1_frontal", "view2_lateral")
    rows = pd.concat([frame, lateral], ignore_index=True)
    folder.pictures(rows["Path"], pictures)
    stray = "CheXpert-v1.0-small/train/patient64540/study1/view1_frontal.jpg"
    folder.pictures([stray], pictures[:1])  # a file without its row
    rows = one_more_row(rows, Path=stray.replace("64540", "64539"))  # a row without its file
    in_valid = rows["Path"].str.contains("/valid/")
    folder.table("CheXpert-v1.0-small/train.csv", rows[~in_valid])
    # Radiologists read the held-out part: every label is given.
    valid = rows[in_valid].fillna(dict.fromkeys(_CHEXPERT_FINDINGS, 0.0))
    folder.table("CheXpert-v1.0-small/valid.csv", valid)


def write_nih(folder: Folder) -> None:
    """NIH ChestX-ray14, as unpacked into one folder; two of the PNGs are RGBA."""
    people = _people(folder, folder.settings.test_correlation)
    total = len(people)
    rng = folder.rng("metadata")
    both = np.where(rng.random(total) < 0.3, "Effusion|Pneumothorax", "Pneumothorax")
    labels = people["finding"].map(
        {"none": "No Finding", "effusion": "Effusion", "uncertain": "Infiltration"}
    )
    follow_up = people.groupby("patient").cumcount()
    patient = people["patient"] + 1
    image = patient.map("{:08d}".format) + follow_up.map("_{:03d}.png".format)
    frame = pd.DataFrame(
        {
            "Image Index": image,
            "Finding Labels": np.where(labels.isna(), both, labels),
            "Follow-up #": follow_up,
            "Patient ID": patient,
            "Patient Age": people["age"],
            "Patient Gender": words(people["male"], "M", "F"),
            "View Position": np.where(rng.random(total) < 0.6, "PA", "AP"),
            # The official header has commas inside its brackets, unquoted.
            "OriginalImage[Width": 2500,
            "Height]": 2048,
            "OriginalImagePixelSpacing[x": 0.168,
            "y]": 0.168,
        }
    )
    pictures = draw(people, folder.name, folder.name, folder.settings, folder.seed)
    for place in (1, 2):
        opaque = np.full_like(pictures[place], 255)
        pictures[place] = np.concatenate([*[pictures[place]] * 3, opaque], axis=-1)
    folder.pictures("images/" + image, pictures)
    folder.pictures(["images/00030805_000.png"], pictures[:1])  # a file without its row
    lost = {"Image Index": "00030804_000.png", "Patient ID": 30804}
    folder.table("Data_Entry_2017_v2020.csv", one_more_row(frame, **lost))
