"""The adapters on the real official tables, against plain pandas.

Where the tables lie: tests/README.md (their terms forbid shipping them); without them these tests
are skipped. The images are not there: the listing of the folder is made from the tables' own
names, so every row has its file. Expectations are counted from the raw columns, not by the library.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.real import DATA, METADATA, SAMPLES

from swift_debias.config import schema
from swift_debias.data import adapters, groups, manifest, raw_files

EXPECTED = Path(__file__).resolve().parents[2] / "resources" / "expected_counts.yaml"
BANDS = (0, 20, 40, 60, 80, 200)
ISIC = ("isic2017", "isic2018", "isic2019", "isic2020")
TABLES = {
    "isic2017": (
        "isic/ISIC-2017_Training_Part3_GroundTruth.csv",
        "isic/ISIC-2017_Training_Data_metadata.csv",
    ),
    "isic2018": (
        "isic/ISIC2018_Task3_Training_GroundTruth.csv",
        "isic/ISIC2018_Task3_Training_LesionGroupings.csv",
    ),
    "isic2019": (
        "isic/ISIC_2019_Training_GroundTruth.csv",
        "isic/ISIC_2019_Training_Metadata.csv",
    ),
    "isic2020": ("isic/ISIC_2020_Training_GroundTruth_v2.csv",),
    "fitzpatrick17k": ("fitzpatrick17k/fitzpatrick17k.csv",),
    "atlas": (
        "derm7pt/meta.csv",
        "derm7pt/train_indexes.csv",
        "derm7pt/valid_indexes.csv",
        "derm7pt/test_indexes.csv",
    ),
    "pad_ufes_20": ("pad_ufes_20/metadata.csv",),
    "nih": ("nih/Data_Entry_2017_v2020.csv.gz",),
}

Counts = dict[str, dict[object, int]]


@functools.cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(METADATA / name, low_memory=False)


def count(values: Iterable[object]) -> dict[object, int]:
    return pd.Series(list(values)).value_counts().to_dict()


def bands(ages: pd.Series) -> dict[object, int]:
    return {
        low: int(((ages >= low) & (ages < high)).sum()) for low, high in itertools.pairwise(BANDS)
    }


def plain_isic2017() -> tuple[list[str], Counts]:
    truth, meta = (table(name) for name in TABLES["isic2017"])
    ages = pd.to_numeric(meta["age_approximate"].replace("unknown", None))
    names = [f"images/{name}.jpg" for name in truth["image_id"]]
    return names, {
        "label": count(1 - truth["melanoma"].astype(int)),
        "sex": count(meta.loc[meta["sex"] != "unknown", "sex"]),
        "age": bands(ages),
    }


def plain_isic2018() -> tuple[list[str], Counts]:
    truth, lesions = (table(name) for name in TABLES["isic2018"])
    names = [f"images/{name}.jpg" for name in truth["image"]]
    return names, {
        "label": count(1 - truth["MEL"].astype(int)),
        "diagnosis": {c: int(truth[c].sum()) for c in truth.columns[1:]},
        "lesion_id": count(lesions["lesion_id"]),
        "sex": {},
    }


def plain_isic2019() -> tuple[list[str], Counts]:
    truth, meta = (table(name) for name in TABLES["isic2019"])
    names = [f"images/{name}.jpg" for name in truth["image"]]
    return names, {
        "label": count(1 - truth["MEL"].astype(int)),
        "diagnosis": {c: int(truth[c].sum()) for c in truth.columns[1:-1]},
        "lesion_id": count(meta["lesion_id"].dropna()),
        "sex": count(meta["sex"].dropna()),
        "age": bands(meta["age_approx"]),
    }


def plain_isic2020() -> tuple[list[str], Counts]:
    truth = table(TABLES["isic2020"][0])
    names = [f"train/{name}.jpg" for name in truth["image_name"]]
    return names, {
        "label": count(1 - truth["target"]),
        "diagnosis": count(truth["diagnosis"]),
        "patient_id": count(truth["patient_id"]),
        "sex": count(truth["sex"].dropna()),
        "age": bands(truth["age_approx"]),
    }


def plain_fitzpatrick17k() -> tuple[list[str], Counts]:
    rows = table(TABLES["fitzpatrick17k"][0])
    melanoma = rows["label"].isin(
        ["melanoma", "malignant melanoma", "superficial spreading melanoma ssm"]
    )
    typed = rows.loc[rows["fitzpatrick_scale"] > 0, "fitzpatrick_scale"]
    return [f"{name}.jpg" for name in rows["md5hash"]], {
        "label": count(np.where(melanoma, 0, 1)),
        "diagnosis": count(rows["label"]),
        "fitzpatrick": count(typed.astype(float)),
    }


def plain_atlas() -> tuple[list[str], Counts]:
    rows = table(TABLES["atlas"][0])
    names = [f"images/{name}" for name in pd.concat([rows["derm"], rows["clinic"]]).unique()]
    split = {name: len(table(f"derm7pt/{name}_indexes.csv")) for name in ("train", "valid", "test")}
    melanoma = rows["diagnosis"].str.contains("melanoma")
    return names, {
        "label": count(np.where(melanoma, 0, 1)),
        "diagnosis": count(rows["diagnosis"]),
        "sex": count(rows["sex"]),
        "split": split,
    }


def plain_pad_ufes_20() -> tuple[list[str], Counts]:
    rows = table(TABLES["pad_ufes_20"][0])
    return [f"images/imgs_part_1/{name}" for name in rows["img_id"]], {
        "label": count((rows["diagnostic"] != "MEL").astype(int)),
        "patient_id": count(rows["patient_id"]),
        "sex": count(rows["gender"].dropna().str.lower()),
        "age": bands(rows["age"]),
        "fitzpatrick": count(rows["fitspatrick"].dropna()),
    }


def plain_nih() -> tuple[list[str], Counts]:
    rows = table(TABLES["nih"][0])
    findings = [set(text.split("|")) for text in rows["Finding Labels"]]
    kept = rows[[("Pneumothorax" in f) != ("No Finding" in f) for f in findings]]
    return [f"images_001/images/{name}" for name in rows["Image Index"]], {
        "label": count(int("Pneumothorax" in text) for text in kept["Finding Labels"]),
        "patient_id": count(kept["Patient ID"].astype(str)),
        "sex": count(kept["Patient Gender"].map({"F": "female", "M": "male"})),
        "age": bands(kept["Patient Age"]),
        "view": count(kept["View Position"]),
    }


PLAIN: dict[str, Callable[[], tuple[list[str], Counts]]] = {
    "isic2017": plain_isic2017,
    "isic2018": plain_isic2018,
    "isic2019": plain_isic2019,
    "isic2020": plain_isic2020,
    "fitzpatrick17k": plain_fitzpatrick17k,
    "atlas": plain_atlas,
    "pad_ufes_20": plain_pad_ufes_20,
    "nih": plain_nih,
}


def read(name: str, images: list[str], monkeypatch: pytest.MonkeyPatch) -> manifest.ManifestResult:
    """Read a data set whose images are listed but do not exist."""
    monkeypatch.setattr(
        raw_files,
        "scan",
        lambda root, ignore="": raw_files.Folder(root, sorted(images), list(TABLES[name]), {}),
    )
    options = adapters.make_options({"adapter": name, "root": "metadata"})
    return adapters.read(options, DATA)


def need(*names: str) -> None:
    missing = [t for name in names for t in TABLES[name] if not (METADATA / t).is_file()]
    if missing:
        pytest.skip(f"the real table {missing[0]} is not here (its terms forbid shipping it)")


@pytest.mark.parametrize("name", PLAIN)
def test_counts_equal_a_plain_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need(name)
    images, expected = PLAIN[name]()
    frame, log = read(name, images, monkeypatch)
    manifest.validate(frame, name)
    assert log["rules"][-1]["removed"] == 0
    assert not [note for note in log["notes"] if note["note"] == raw_files.FILES_WITHOUT_ROW]
    for column, counts in expected.items():
        values = frame[column].dropna()
        found = bands(values) if column == "age" else count(values)
        assert found == {k: n for k, n in counts.items() if n or column == "age"}, column
    assert len(frame) == sum(expected["label"].values())


@pytest.mark.parametrize("name", PLAIN)
def test_the_shipped_counts_are_those_of_the_real_table(name: str) -> None:
    need(name)
    shipped = yaml.safe_load(EXPECTED.read_text())["datasets"][name]["counts"]
    counted = PLAIN[name]()[1]
    assert shipped
    for column, counts in shipped.items():
        assert counts == counted[column], column


def test_fitzpatrick17k_by_skin_tone_and_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """16,012 images have a type: 11,063 light and 4,949 dark; 370 and 95 of them melanomas."""
    need("fitzpatrick17k")
    frame = read("fitzpatrick17k", PLAIN["fitzpatrick17k"]()[0], monkeypatch).frame
    attribute = schema.Attribute(
        column="fitzpatrick", groups={"light": (1, 2, 3), "dark": (4, 5, 6)}
    )
    group = groups.group_index(frame["fitzpatrick"], attribute)
    melanoma = frame["label"].to_numpy() == 0
    assert [(group == k).sum() for k in (0, 1)] == [11063, 4949]
    assert [(melanoma & (group == k)).sum() for k in (0, 1)] == [370, 95]


def test_melanoma_of_the_atlas_by_sex(monkeypatch: pytest.MonkeyPatch) -> None:
    need("atlas")
    frame = read("atlas", PLAIN["atlas"]()[0], monkeypatch).frame
    assert count(frame.loc[frame["label"] == 0, "sex"]) == {"female": 136, "male": 116}


def test_the_union_of_the_isic_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """70,472 rows, 58,457 distinct ids, 58,032 without ISIC's own 425 pairs; the paper: 56,863."""
    need(*ISIC)
    frames = {name: read(name, PLAIN[name]()[0], monkeypatch).frame for name in ISIC}
    ids = {name: set(frame["image_id"]) for name, frame in frames.items()}
    union = set().union(*ids.values())
    pool = yaml.safe_load(EXPECTED.read_text())["pools"][0]
    listed = table("isic/ISIC_2020_Training_Duplicates.csv")
    assert pool["adapters"] == list(ISIC)
    assert sum(map(len, ids.values())) == 70472
    assert len(union) == pool["distinct_ids"] == 58457
    without = union - set(listed["image_name_2"])
    assert len(without) == pool["distinct_ids_without_listed"] == 58032
    assert len(without) - pool["paper"] == 1169
    # 2019 holds all of 2017 and 2018, so stripping the suffix is what makes them one.
    assert ids["isic2017"] | ids["isic2018"] <= ids["isic2019"]
    assert not ids["isic2019"] & ids["isic2020"]


def test_both_versions_of_isic2020_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    need("isic2020")
    images = PLAIN["isic2020"]()[0]
    newer = read("isic2020", images, monkeypatch).frame
    for other in ("ISIC_2020_Training_GroundTruth.csv", "cdeotte_jpeg-melanoma_train.csv"):
        if not (METADATA / "isic" / other).is_file():
            pytest.skip(f"the real table {other} is not here")
        with monkeypatch.context() as patch:
            patch.setitem(TABLES, "isic2020", (f"isic/{other}",))
            patch.setattr(
                "swift_debias.data.adapters.isic2020.KAGGLE", "cdeotte_jpeg-melanoma_train.csv"
            )
            older = read("isic2020", images, patch).frame
        shared = [c for c in manifest.COLUMNS if c not in ("lesion_id", "path")]
        left = newer[shared].sort_values("image_id", ignore_index=True)
        right = older[shared].sort_values("image_id", ignore_index=True)
        pd.testing.assert_frame_equal(left, right)


def test_real_images_of_pad_ufes_20_by_both_adapters(tmp_path: Path) -> None:
    """847 real files, converted to JPEG while the table still says '.png'."""
    root = tmp_path / "pad_ufes_20"
    shutil.copytree(SAMPLES / "pad_ufes_20", root)
    (root / "table.csv").rename(root / "metadata.csv")  # its official name
    official = adapters.read(
        adapters.make_options({"adapter": "pad_ufes_20", "root": str(root)}), Path()
    )
    own = adapters.read(
        adapters.make_options(
            {
                "adapter": "table",
                "root": str(root),
                "table": "metadata.csv",
                "path": "img_id",
                "image_folder": "images",
                "patient": "patient_id",
                "label": {
                    "column": "diagnostic",
                    "positive": ["BCC", "ACK", "NEV", "SEK", "SCC"],
                    "negative": ["MEL"],
                },
                "attributes": {
                    "sex": {"column": "gender"},
                    "age": {"column": "age", "kind": "number"},
                    "fitzpatrick": {"column": "fitspatrick", "kind": "number"},
                },
            }
        ),
        Path(),
    )
    assert len(official.frame) == 847
    assert count(official.frame["label"])[0] == 43
    assert official.frame["sex"].isna().sum() == 343
    shared = ["image_id", "path", "label", "patient_id", "sex", "age", "fitzpatrick"]
    pd.testing.assert_frame_equal(own.frame[shared], official.frame[shared])
    assert all((root / path).is_file() for path in own.frame["path"])


def test_real_images_of_nih() -> None:
    root = SAMPLES / "nih"
    options = {
        "adapter": "table",
        "root": str(root),
        "table": "table.csv",
        "path": "file",
        "image_folder": "images",
        "patient": "Patient ID",
        "label": {
            "column": "Finding Labels",
            "positive": ["No Finding"],
            "rest_is_negative": True,
        },
        "attributes": {
            "sex": {"column": "Patient Gender"},
            "age": {"column": "Patient Age", "kind": "number"},
        },
    }
    frame = adapters.read(adapters.make_options(options), Path()).frame
    assert count(frame["label"]) == {0: 500, 1: 500}
    assert frame["patient_id"].nunique() == 682
    assert frame["age"].between(4, 85).all()
    assert frame["sex"].notna().all()
