"""Which chest X-rays are included, and how old their patients are, against plain pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.data.test_spreadsheets import notes, put, removed
from tests.keys.conftest import PROJECT, changed
from tests.real import METADATA

from swift_debias import methods
from swift_debias.config import load, schema
from swift_debias.data import adapters, check, raw_files
from swift_debias.data.manifest import ManifestResult
from swift_debias.errors import UserError

EXPECTED = yaml.safe_load((PROJECT / "resources" / "expected_counts.yaml").read_text())


def read(adapter: str, root: Path, **options: Any) -> ManifestResult:
    made = adapters.make_options({"adapter": adapter, "root": str(root), **options})
    return adapters.read(made, Path())


# --- NIH ------------------------------------------------------------------------------------------


def nih() -> pd.DataFrame:
    findings = ["No Finding", "Pneumothorax", "Effusion|Pneumothorax", "No Finding", "Pneumothorax"]
    return pd.DataFrame(
        {
            "Image Index": [f"0000000{i}_000.png" for i in range(5)],
            "Finding Labels": findings,
            "Patient ID": [1, 2, 3, 4, 5],
            "Patient Age": [0, 50, 60, 70, 80],
            "Patient Gender": list("FMFMF"),
            "View Position": ["PA"] * 5,
        }
    )


@pytest.mark.key("nih.split", "nih.single_label")
@pytest.mark.parametrize("split", ["all", "test"])
@pytest.mark.parametrize("single", [False, True])
def test_nih_rules(tmp_path: Path, split: str, single: bool) -> None:
    table = nih()
    root = put(tmp_path / "d", {"Data_Entry_2017_v2020.csv": table}, table["Image Index"])
    listed = table["Image Index"].iloc[[0, 1, 2]]
    (root / "test_list.txt").write_text("\n".join(listed))
    result = read("nih", root, split=split, single_label=single)
    keep = pd.Series(True, table.index)
    if split == "test":
        keep &= table["Image Index"].isin(listed)
    if single:
        keep &= ~table["Finding Labels"].str.contains("|", regex=False)
    assert result.frame["image_id"].tolist() == table.loc[keep, "Image Index"].tolist()
    positive = table.loc[keep, "Finding Labels"].str.contains("Pneumothorax").astype(int)
    assert result.frame["label"].tolist() == positive.tolist()
    assert notes(result)["age 0 is kept"] == 1
    (root / "test_list.txt").unlink()
    if split == "test":
        with pytest.raises(UserError, match=r"split: test needs .* test_list\.txt"):
            read("nih", root, split=split)


def test_the_papers_rule_on_the_real_table_of_nih(monkeypatch: pytest.MonkeyPatch) -> None:
    """9,861 without a finding and 953 with pneumothorax alone: 10,814; the paper has 10,815."""
    folder = METADATA / "nih"
    tables = ["Data_Entry_2017_v2020.csv.gz", "test_list.txt.gz"]
    if not all((folder / name).is_file() for name in tables):
        pytest.skip("the real tables of NIH are not here")
    rows = pd.read_csv(folder / tables[0])
    names = sorted(rows["Image Index"])
    monkeypatch.setattr(
        raw_files, "scan", lambda root, ignore="": raw_files.Folder(root, names, tables, {})
    )
    result = read("nih", folder, split="test", single_label=True)
    listed = set(pd.read_csv(folder / tables[1], header=None)[0])
    plain = rows[rows["Image Index"].isin(listed)]["Finding Labels"].value_counts()
    expected = {0: int(plain["No Finding"]), 1: int(plain["Pneumothorax"])}
    assert result.frame["label"].value_counts().to_dict() == expected == {0: 9861, 1: 953}
    shipped = EXPECTED["datasets"]["nih"]["derived"]
    assert shipped["counts"]["label"] == expected and "10,814" in shipped["rule"]


# --- CheXpert -------------------------------------------------------------------------------------


def chexpert() -> pd.DataFrame:
    rows = [  # patient, view, sex, no finding, pneumothorax
        (1, "Frontal", "Female", 1, None),
        (1, "Frontal", "Female", None, 1),
        (2, "Lateral", "Male", None, 1),
        (2, "Frontal", "Male", None, -1),
        (3, "Frontal", "Unknown", None, 1),
        (4, "Frontal", "Male", None, 0),
        (4, "Frontal", "Male", 1, None),
        (5, "Frontal", "Male", 1, -1),
        (6, "Frontal", "Female", None, -1),
        (6, "Frontal", "Female", 1, None),
    ]
    frame = pd.DataFrame(
        rows, columns=["p", "Frontal/Lateral", "Sex", "No Finding", "Pneumothorax"]
    )
    views = frame.groupby("p").cumcount() + 1
    frame["Path"] = [
        f"CheXpert-v1.0-small/train/patient0000{p}/study1/view{v}_x.jpg"
        for p, v in zip(frame["p"], views, strict=True)
    ]
    return frame.assign(Age=40, **{"AP/PA": "AP"})


@pytest.mark.key("chexpert.uncertain", "chexpert.one_per_patient")
@pytest.mark.parametrize("policy", ["drop", "positive", "negative"])
@pytest.mark.parametrize("one", [False, True])
def test_chexpert_rules(tmp_path: Path, policy: str, one: bool) -> None:
    table = chexpert()
    root = put(tmp_path / "d", {"train.csv": table.drop(columns="p")}, table["Path"])
    result = read("chexpert", root, uncertain=policy, one_per_patient=one)
    rows = table[table["Frontal/Lateral"] == "Frontal"]
    if policy == "drop":
        rows = rows[rows["Pneumothorax"] != -1]
    sign = rows["Pneumothorax"].replace(-1, 1 if policy == "positive" else 0)
    positive, negative = sign == 1, rows["No Finding"] == 1
    rows = rows[positive != negative]
    if one:
        rows = rows[rows["Sex"] != "Unknown"].drop_duplicates("p")
    assert ("CheXpert-v1.0-small/" + result.frame["image_id"]).tolist() == rows["Path"].tolist()
    assert result.frame["label"].tolist() == positive[rows.index].astype(int).tolist()


def test_the_papers_rule_on_the_real_table_of_chexpert(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = METADATA / "chexpert"
    if not (folder / "train.csv").is_file():
        pytest.skip("the real table of CheXpert is not here (its terms forbid shipping it)")
    names = pd.read_csv(folder / "train.csv", usecols=["Path"])["Path"].tolist()
    monkeypatch.setattr(
        raw_files, "scan", lambda root, ignore="": raw_files.Folder(root, names, ["train.csv"], {})
    )
    result = read("chexpert", folder, uncertain="positive", one_per_patient=True)
    assert len(result.frame) == EXPECTED["datasets"]["chexpert"]["paper"] == 21040


# --- MIMIC-CXR ------------------------------------------------------------------------------------


def mimic(root: Path) -> pd.DataFrame:
    """Five patients with an X-ray each."""
    frame = pd.DataFrame(
        {
            "dicom_id": list("abcde"),
            "subject_id": [1, 2, 3, 4, 5],
            "study_id": [11, 12, 13, 14, 15],
            "StudyDate": [21800612, 21850101, 21790101, 21900101, None],
            "gender": list("FMFMF"),
            "anchor_age": [64, 62, 65, 88, 40],
            "anchor_year": [2180, 2180, 2180, 2186, 2180],
        }
    ).astype({"StudyDate": "Int64"})
    findings = pd.DataFrame({"No Finding": [1, 1, None, 1, None], "Pneumothorax": [0, 0, 1, 0, 1]})
    tables = {
        "mimic-cxr-2.0.0-metadata.csv": frame[["dicom_id", "subject_id", "study_id", "StudyDate"]]
        .assign(ViewPosition="PA"),
        "mimic-cxr-2.0.0-chexpert.csv": pd.concat([frame[["subject_id", "study_id"]], findings],
                                                  axis="columns"),
        "patients.csv": frame[["subject_id", "gender", "anchor_age", "anchor_year"]],
    }  # fmt: skip
    put(root, tables, [f"files/p/s/{name}.jpg" for name in frame["dicom_id"]])
    return frame


@pytest.mark.key("mimic_cxr.age")
def test_the_age_at_the_study(tmp_path: Path) -> None:
    plain = mimic(tmp_path / "d").set_index("dicom_id")
    anchor = read("mimic_cxr", tmp_path / "d").frame.set_index("image_id")
    assert anchor["age"].to_dict() == plain["anchor_age"].to_dict()
    assert "anchor_age" not in anchor
    result = read("mimic_cxr", tmp_path / "d", age="at_study")
    ages = plain["anchor_age"] + (plain["StudyDate"] // 10000 - plain["anchor_year"])
    expected = [None if pd.isna(a) else float(91 if a > 89 else a) for a in ages]
    found = [None if pd.isna(age) else age for age in result.frame["age"]]
    assert found == expected == [64, 67, 64, 91, None]
    assert notes(result)["no date of the study; age unknown"] == 1
    assert not removed(result)


def test_data_check_counts_who_changes_group(tmp_path: Path) -> None:
    """At 65 years: b goes up, c goes down, and e becomes unknown."""
    plain = mimic(tmp_path / "d")
    entry = {"adapter": "mimic_cxr", "root": str(tmp_path / "d"), "age": "at_study"}
    config = changed(
        {
            "datasets.mimic": entry,
            "attributes.age": {"column": "age", "cuts": [65], "names": ["younger", "older"]},
            "tasks.skin.tests": {"age": ["mimic"]},
            "experiments.table1.panels": [{"task": "skin", "backbone": "net", "attribute": "age"}],
        }
    )
    settings: schema.Settings = load.load(
        config, PROJECT, algorithms=methods.settings_models(), adapters=adapters.options_models()
    )
    report = check.check(settings, tmp_path, EXPECTED)
    assert len(plain) == 5
    assert any("mimic: 3 images are in another group of age" in note for note in report.notes)


@pytest.mark.parametrize("adapter", ["nih", "chexpert"])
def test_data_check_shows_the_rule_its_count_and_the_papers(tmp_path: Path, adapter: str) -> None:
    if adapter == "nih":
        table = nih()
        root = put(tmp_path / "d", {"Data_Entry_2017_v2020.csv": table}, table["Image Index"])
        (root / "test_list.txt").write_text("\n".join(table["Image Index"]))
        rule = {"split": "test", "single_label": True}
    else:
        table = chexpert().drop(columns="p")
        root = put(tmp_path / "d", {"train.csv": table}, table["Path"])
        rule = {"uncertain": "positive", "one_per_patient": True}
    for options in ({}, rule):
        config = changed(
            {
                "datasets.chest": {"adapter": adapter, "root": str(root), **options},
                "tasks.skin.tests": {"sex": ["chest"]},
            }
        )
        settings = load.load(config, PROJECT, algorithms=methods.settings_models(),
                             adapters=adapters.options_models())  # fmt: skip
        report = check.check(settings, tmp_path, EXPECTED)
        (data,) = [one for one in report.datasets if one.name == "chest"]
        text = report.as_text()
        assert f"(paper: {EXPECTED['datasets'][adapter]['paper']:,})" in text
        assert ("[derived]" in text) == (data.rule != "") == bool(options)
        derived = EXPECTED["datasets"][adapter]["derived"]["counts"].get("label")
        whole = EXPECTED["datasets"][adapter]["counts"]["label"]
        shown = (derived if options else whole) or {}
        assert data.expected.get("label", {}) == {str(k): n for k, n in shown.items()}


@pytest.mark.parametrize("zero", ["chexpert", "nih"])
def test_each_adapter_says_what_age_0_is(tmp_path: Path, zero: str) -> None:
    """CheXpert's is unknown, NIH's is an age; both are counted."""
    table = chexpert().drop(columns="p").assign(Age=0) if zero == "chexpert" else nih()
    name = "train.csv" if zero == "chexpert" else "Data_Entry_2017_v2020.csv"
    images = table["Path" if zero == "chexpert" else "Image Index"]
    result = read(zero, put(tmp_path / "d", {name: table}, images))
    unknown = "age 0 stands for unknown; recorded as unknown"
    assert (unknown in notes(result)) == (zero == "chexpert")
    assert ("age 0 is kept" in notes(result)) == (zero == "nih")
    assert result.frame["age"].isna().all() == (zero == "chexpert")
