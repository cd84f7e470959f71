"""Tables of exactly the form in which public data sets ship, made up, against plain pandas."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swift_debias.data import adapters, ages, fingerprint
from swift_debias.data.manifest import ManifestResult
from swift_debias.errors import UserError

CHEXPERT = "Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Pneumothorax"


def put(root: Path, tables: dict[str, pd.DataFrame], images: Iterable[str]) -> Path:
    """A folder with tables and empty files of these names."""
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    root.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_csv(root / name, index=False)
    return root


def read(root: Path, **options: Any) -> ManifestResult:
    return adapters.read(
        adapters.make_options({"adapter": "table", "root": str(root), **options}), Path()
    )


def plain(series: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in series]


def removed(result: ManifestResult) -> dict[str, int]:
    return {rule["rule"]: rule["removed"] for rule in result.log["rules"] if rule["removed"]}


def notes(result: ManifestResult) -> dict[str, int]:
    return {note["note"]: note["count"] for note in result.log["notes"]}


# --- the five forms -------------------------------------------------------------------------------


def padchest() -> pd.DataFrame:
    labels = [
        "['normal']",
        "['pneumothorax', 'pleural effusion']",
        "['normal', 'unchanged']",
        "['suboptimal study']",
        "['pneumothorax']",
        "['cardiomegaly', 'loc, right']",
        "nan",
        "['pneumothorax', 'normal']",
    ]
    n = len(labels)
    return pd.DataFrame(
        {
            "ImageID": [f"1.2.826_{i}.png" for i in range(n)],
            "ImageDir": np.arange(n) % 3,
            "StudyDate_DICOM": [20140915] * 4 + [20101213] * 4,
            "PatientID": [f"93{i // 2}" for i in range(n)],
            "PatientBirth": [1930.0, 1960.0, np.nan, 1985.0, 1940.0, 2001.0, 1950.0, 1950.0],
            "PatientSex_DICOM": list("MFFMMFMO"),
            "Projection": ["PA", "PA", "PA", "PA", "L", "PA", "PA", "PA"],
            "Labels": labels,
        }
    )


@pytest.mark.key("table.path", "table.only", "label_column.separator", "attribute_column.at")
@pytest.mark.key("attribute_column.kind", "label_column.unknown")
def test_padchest(tmp_path: Path) -> None:
    table = padchest()
    paths = table["ImageDir"].astype(str) + "/" + table["ImageID"]
    root = put(tmp_path / "d", {"PADCHEST.csv": table}, "img/" + paths)
    result = read(
        root,
        table="PADCHEST.csv",
        path="{ImageDir}/{ImageID}",
        image_folder="img",
        image_id="ImageID",
        patient="PatientID",
        label={
            "column": "Labels",
            "positive": ["pneumothorax"],
            "negative": ["normal"],
            "unknown": ["suboptimal study"],
            "separator": ",",
        },
        attributes={
            "sex": {"column": "PatientSex_DICOM"},
            "age": {"column": "PatientBirth", "kind": "birth", "at": "StudyDate_DICOM"},
        },
        only={"Projection": "PA"},
    )
    found = table["Labels"].map(lambda cell: [] if cell == "nan" else ast.literal_eval(cell))
    has = pd.DataFrame({w: found.map(lambda f, w=w: w in f) for w in ("pneumothorax", "normal")})
    keep = (table["Projection"] == "PA") & (has.sum(axis=1) == 1)
    expected = table[keep]
    frame = result.frame
    assert plain(frame["image_id"]) == list(expected["ImageID"])
    assert plain(frame["path"]) == list("img/" + paths[keep])
    assert plain(frame["label"]) == list(has["pneumothorax"][keep].astype(int))
    assert plain(frame["patient_id"]) == list(expected["PatientID"])
    years = expected["StudyDate_DICOM"] // 10000 - expected["PatientBirth"]
    assert plain(frame["age"]) == plain(years)
    assert plain(frame["sex"]) == plain(
        expected["PatientSex_DICOM"].map({"M": "male", "F": "female"})
    )
    assert removed(result)["findings of both classes in a field"] == 1


def vindr() -> pd.DataFrame:
    boxes = [
        ("a", "No finding", "R1"),
        ("a", "No finding", "R2"),
        ("a", "Pneumothorax", "R3"),
        ("a", "Pneumothorax", "R3"),
        ("b", "Pneumothorax", "R1"),
        ("b", "Cardiomegaly", "R1"),
        ("b", "Pneumothorax", "R2"),
        ("b", "No finding", "R3"),
        ("c", "No finding", "R1"),
        ("c", "No finding", "R2"),
        ("c", "No finding", "R3"),
        ("d", "Cardiomegaly", "R1"),
        ("d", "Cardiomegaly", "R2"),
        ("e", "Pneumothorax", "R1"),
        ("e", "No finding", "R2"),
    ]
    frame = pd.DataFrame(boxes, columns=["image_id", "class_name", "rad_id"])
    return frame.assign(x_min=np.arange(len(frame)), y_min=0.0)


@pytest.mark.key("label_column.several_rows", "label_column.reader")
@pytest.mark.key("join.to", "attribute_column.column")
@pytest.mark.parametrize("rule", ["any", "all", "majority"])
def test_vindr(tmp_path: Path, rule: str) -> None:
    boxes = vindr()
    people = pd.DataFrame({"file": list("abcde"), "Sex": ["F", "M", "F", "M", "F"]})
    images = [f"train/{name}.png" for name in people["file"]]
    root = put(tmp_path / "d", {"boxes.csv": boxes, "people.csv": people}, images)
    result = read(
        root,
        table="boxes.csv",
        joins=[{"table": "people.csv", "by": "image_id", "to": "file"}],
        path="image_id",
        image_folder="train",
        image_suffix=".png",
        label={
            "column": "class_name",
            "positive": ["Pneumothorax"],
            "negative": ["No finding"],
            "several_rows": rule,
            "reader": "rad_id",
        },
        attributes={"sex": {"column": "Sex"}},
    )
    known = boxes[boxes["class_name"].isin(["Pneumothorax", "No finding"])]
    positive = (known["class_name"] == "Pneumothorax").groupby([known["image_id"], known["rad_id"]])
    readers = positive.any().groupby(level=0)
    share = readers.mean()
    expected = {
        "any": readers.any(),
        "all": readers.all(),
        "majority": (share > 0.5)[share != 0.5],
    }[rule]
    frame = result.frame.set_index("image_id")
    assert frame["label"].to_dict() == expected.astype(int).to_dict()
    sexes = people.set_index("file")["Sex"].map({"F": "female", "M": "male"})
    assert frame["sex"].to_dict() == sexes[expected.index].to_dict()
    assert notes(result)["rows of the image are of both classes"] == 3


def scin() -> tuple[pd.DataFrame, pd.DataFrame]:
    cases = pd.DataFrame(
        {
            "case_id": ["-10", "-11", "12", "13", "14"],
            "image_1_path": [f"dataset/images/{n}1.png" for n in range(5)],
            "image_2_path": ["dataset/images/02.png", None, "dataset/images/22.png", None, None],
            "image_3_path": [None, None, "dataset/images/23.png", None, None],
            "age_group": ["AGE_18_TO_29", "AGE_80_OR_ABOVE", "AGE_UNKNOWN", "AGE_30_TO_39", None],
            "sex_at_birth": ["FEMALE", "MALE", "OTHER_OR_UNSPECIFIED", "FEMALE", "MALE"],
            "fitzpatrick_skin_type": ["FST2", "FST5", None, "FST1", "FST4"],
        }
    )
    labels = pd.DataFrame(
        {
            "case_id": ["12", "-10", "-11", "13"],
            "weighted_skin_condition_label": [
                "{'Impetigo': 0.5, 'Eczema': 0.5}",
                "{'Eczema': 0.67, 'Psoriasis': 0.33}",
                "{'Psoriasis': 1.0}",
                "{'Tinea': 0.4, 'Eczema': 0.3, 'Acne, cystic': 0.3}",
            ],
        }
    )
    return cases, labels


SCIN = {
    "table": "scin_cases.csv",
    "joins": [{"table": "scin_labels.csv", "by": ["case_id"]}],
    "path": ["image_1_path", "image_2_path", "image_3_path"],
    "image_id": "case_id",
    "label": {
        "column": "weighted_skin_condition_label",
        "positive": ["Eczema"],
        "rest_is_negative": True,
        "least_weight": 0.5,
    },
    "attributes": {
        "sex": {"column": "sex_at_birth"},
        "age": {"column": "age_group", "kind": "band"},
        "fitzpatrick": {"column": "fitzpatrick_skin_type"},
    },
}


@pytest.mark.key("table.several_images", "label_column.least_weight", "attribute_column.kind")
@pytest.mark.parametrize("rule", ["each", "first"])
def test_scin(tmp_path: Path, rule: str) -> None:
    cases, labels = scin()
    columns = ["image_1_path", "image_2_path", "image_3_path"]
    images = cases[columns].melt()["value"].dropna()
    root = put(tmp_path / "d", {"scin_cases.csv": cases, "scin_labels.csv": labels}, images)
    result = read(root, **SCIN, several_images=rule)
    joined = cases.merge(labels, how="left", on="case_id")
    long = joined.melt(id_vars=[c for c in joined if c not in columns], value_vars=columns,
                       value_name="path").dropna(subset="path")  # fmt: skip
    if rule == "first":
        long = long.drop_duplicates("case_id")
    weights = long["weighted_skin_condition_label"].dropna().map(ast.literal_eval)
    strong = weights.map(lambda found: [name for name, w in found.items() if w >= 0.5])
    strong = strong[strong.map(len) > 0]
    expected = long.loc[strong.index].assign(label=strong.map(lambda f: int("Eczema" in f)))
    frame = result.frame.set_index("path").sort_index()
    expected = expected.set_index("path").sort_index()
    assert frame["label"].to_dict() == expected["label"].to_dict()
    middles = {"AGE_18_TO_29": 24.0, "AGE_80_OR_ABOVE": 80.0, "AGE_30_TO_39": 35.0}
    assert plain(frame["age"]) == plain(expected["age_group"].map(middles))
    types = expected["fitzpatrick_skin_type"].str[-1].astype(float)
    assert plain(frame["fitzpatrick"]) == plain(types)
    if rule == "each":
        assert plain(frame["lesion_id"]) == list(expected["case_id"])
        assert frame["image_id"].is_unique
    else:
        assert plain(frame["image_id"]) == list(expected["case_id"])
    assert notes(result)["no row in scin_labels.csv of this case_id"] == 1


@pytest.mark.key("label_column.uncertain", "label_column.uncertain_is")
@pytest.mark.key("label_column.empty_is_negative")
@pytest.mark.parametrize("policy", ["drop", "positive", "negative"])
@pytest.mark.parametrize("empty", [False, True])
def test_chexpert_like(tmp_path: Path, policy: str, empty: bool) -> None:
    values = [1.0, 0.0, -1.0, None, 1.0, -1.0, None]
    table = pd.DataFrame(
        {
            "Path": [f"CheXpert-v1.0-small/train/patient{i}/view1.jpg" for i in range(7)],
            "Sex": ["Female", "Male", "Unknown"] * 2 + ["Male"],
            "Age": [68, 87, 0, 50, 41, 90, 7],
            "Pneumothorax": values,
        }
    )
    root = put(tmp_path / "d", {"train.csv": table}, table["Path"])
    result = read(
        root,
        table="train.csv",
        path="Path",
        label={
            "column": "Pneumothorax",
            "positive": [1],
            "negative": [0],
            "uncertain": [-1],
            "uncertain_is": policy,
            "empty_is_negative": empty,
        },
        attributes={"sex": {"column": "Sex"}, "age": {"column": "Age"}},
    )
    label = table["Pneumothorax"]
    if policy != "drop":
        label = label.replace(-1.0, float(policy == "positive"))
    if empty:
        label = label.fillna(0.0)
    expected = label[label.isin([0.0, 1.0])]
    assert plain(result.frame["path"]) == list(table.loc[expected.index, "Path"])
    assert plain(result.frame["label"]) == list(expected.astype(int))
    assert removed(result).get("uncertain label", 0) == (2 if policy == "drop" else 0)


@pytest.mark.key("table.lookup", "table.lesion", "attribute_column.values")
def test_nih_like(tmp_path: Path) -> None:
    """`A|B`, images in twelve folders found by name, ages with a unit, groups by a map."""
    table = pd.DataFrame(
        {
            "Image Index": [f"0000000{i}_000.png" for i in range(7)],
            "Finding Labels": [
                "Cardiomegaly|Pneumothorax",
                "No Finding",
                "Hernia",
                "Pneumothorax",
                "No Finding",
                "Effusion|Hernia",
                "No Finding",
            ],
            "Patient Age": ["058Y", "011M", "414", "030Y", "7", "", "40"],
            "View Position": ["PA", "AP", "AP supine", "PA", "XX", "AP", "AP"],
            "Series": ["s1", "s1", "s2", "s3", "", "s4", "s5"],
        }
    )
    folders = ["images_001/images", "images_002/images", "images_012/images"]
    images = [f"{folders[i % 3]}/{name}" for i, name in enumerate(table["Image Index"])]
    root = put(tmp_path / "d", {"t.csv": table}, [*images, f"{folders[1]}/00000006_000.png"])
    result = read(
        root,
        table="t.csv",
        path="Image Index",
        lookup="name",
        lesion="Series",
        label={"column": "Finding Labels", "positive": ["Pneumothorax"], "separator": "|",
               "rest_is_negative": True},
        attributes={
            "age": {"column": "Patient Age"},
            "position": {
                "column": "View Position",
                "values": {"standing": "PA", "lying": ["AP", "ap supine"]},
            },
        },
    )  # fmt: skip
    frame = result.frame
    assert plain(frame["path"]) == images[:6]  # the seventh lies in two folders
    assert removed(result) == {"several files of this name": 1}
    expected = table["Finding Labels"].str.split("|").map(lambda found: "Pneumothorax" in found)
    assert plain(frame["label"]) == list(expected[:6].astype(int))
    assert plain(frame["age"]) == [58.0, 11 / 12, None, 30.0, 7.0, None]
    assert plain(frame["position"]) == ["standing", "lying", "lying", "standing", None, "lying"]
    assert plain(frame["lesion_id"]) == ["s1", "s1", "s2", "s3", None, "s4"]


@pytest.mark.parametrize(
    "folder",
    ["", "C:\\scans\\pics\\", "C:/scans/", "\\\\server\\share\\", "/mnt/", "../", "..\\x\\", "./"],
)
def test_by_name_the_folder_of_a_path_is_whatever_it_is(folder: str, tmp_path: Path) -> None:
    """Nothing outside of the image folder is found, for the name alone is looked for."""
    names = ["1.png", "2.PNG", "outside.png", ".."]
    table = pd.DataFrame({"file": [folder + name for name in names], "y": [1, 0, 1, 0]})
    root = put(tmp_path / "d", {"t.csv": table}, ["a/1.png", "b/2.png"])
    put(tmp_path, {}, ["outside.png"])
    label = {"column": "y", "positive": ["1"], "negative": ["0"]}
    result = read(root, table="t.csv", path="file", lookup="name", label=label)
    assert plain(result.frame["path"]) == ["a/1.png", "b/2.png"]
    assert removed(result) == {"no image file": 2}


# --- single keys ----------------------------------------------------------------------------------


@pytest.mark.key("label_column.contains")
def test_words_of_a_finding(tmp_path: Path) -> None:
    cells = ["melanoma (in situ)", "melanosis", "Melanoma", "blue nevus", "no melanomatosis"]
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(5)], "diagnosis": cells})
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    label = {"column": "diagnosis", "positive": ["melanoma"], "rest_is_negative": True}
    frame = read(root, table="t.csv", path="file", label=label | {"contains": True}).frame
    assert plain(frame["label"]) == [1, 0, 1, 0, 0]
    whole = {"column": "diagnosis", "positive": ["melanoma"], "negative": ["melanosis"]}
    frame = read(root, table="t.csv", path="file", label=whole).frame
    assert plain(frame["label"]) == [0, 1]


@pytest.mark.key("join.table", "join.by")
def test_two_tables_are_joined_by_two_keys(tmp_path: Path) -> None:
    first = pd.DataFrame({"file": ["a.png", "b.png"], "who": ["p2", "p1"], "y": [1, 0]})
    ages_of = pd.DataFrame({"file": ["b.png", "a.png"], "age": [20, 10]})
    people = pd.DataFrame({"who": ["p1", "p2"], "site": ["s", None], "sex": ["F", "M"]})
    tables = {"t.csv": first, "ages.csv": ages_of, "people.csv": people}
    frame = read(
        put(tmp_path / "d", tables, first["file"]),
        table="t.csv",
        path="file",
        joins=[{"table": "ages.csv", "by": "file"}, {"table": "people.csv", "by": ["who"]}],
        label={"column": "y", "positive": [1], "negative": [0]},
        attributes={name: {"column": name} for name in ("age", "sex", "site")},
    ).frame
    plain_join = first.merge(ages_of, on="file").merge(people, on="who")
    assert plain(frame["age"]) == list(plain_join["age"])
    assert plain(frame["sex"]) == ["male", "female"]
    assert plain(frame["site"]) == [None, "s"]


@pytest.mark.key("join.prefix")
def test_a_column_of_two_tables_needs_a_prefix(tmp_path: Path) -> None:
    first = pd.DataFrame({"file": ["a.png", "b.png"], "y": [1, 0], "age": [1, 2]})
    other = pd.DataFrame({"file": ["b.png", "a.png"], "age": [20, 10]})
    root = put(tmp_path / "d", {"t.csv": first, "u.csv": other}, first["file"])
    options = {
        "table": "t.csv",
        "path": "file",
        "label": {"column": "y", "positive": [1], "negative": [0]},
    }
    age = {"age": {"column": "age"}}
    joins = [{"table": "u.csv", "by": "file"}]
    with pytest.raises(UserError, match=r"'age' is in t\.csv and u\.csv: .*prefix"):
        read(root, **options, joins=joins, attributes=age)
    joins[0]["prefix"] = "u "
    assert plain(read(root, **options, joins=joins, attributes=age).frame["age"]) == [1, 2]
    theirs = {"age": {"column": "u age"}}
    assert plain(read(root, **options, joins=joins, attributes=theirs).frame["age"]) == [10, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joins": [{"table": "none.csv", "by": "file"}]}, r"no file 'none\.csv' .key `joins\.0"),
        ({"joins": [{"table": "u.csv", "by": "fiel"}]}, r"no column 'fiel' in t\.csv, .*fil"),
        ({"path": "{folder}/{flie}"}, r"no column 'flie'.*'file'"),
        ({"label": {"column": "y", "positive": ["Eczema"], "rest_is_negative": True,
                    "least_weight": 0.5}}, r"has '1', which is no list of weights"),
    ],
)  # fmt: skip
def test_mistakes_name_what_is_there(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    table = pd.DataFrame({"file": ["a.png", "b.png"], "folder": ["", ""], "y": [1, 0]})
    root = put(
        tmp_path / "d", {"t.csv": table, "u.csv": table[["file"]].add_suffix("_")}, table["file"]
    )
    label = {"column": "y", "positive": [1], "negative": [0]}
    with pytest.raises(UserError, match=message):
        read(root, **{"table": "t.csv", "path": "file", "label": label, **change})


def test_rows_that_contradict_each_other_are_still_refused(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"boxes.csv": vindr()}, ["a.png"])
    label = {"column": "class_name", "positive": ["Pneumothorax"], "negative": ["No finding"]}
    with pytest.raises(UserError, match=r"3 values of 'image_id' .* contradict .*'class_name'"):
        read(root, table="boxes.csv", path="image_id", label=label)


def test_rows_of_one_image_must_name_one_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [1, 1], "file": ["a.png", "b.png"], "y": [0, 1]})
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    label = {"column": "y", "positive": [1], "negative": [0], "several_rows": "any"}
    with pytest.raises(UserError, match=r"1 images have rows with different paths, such as '1'"):
        read(root, table="t.csv", path="file", image_id="id", label=label)


@pytest.mark.parametrize(
    ("paths", "images", "kept"),
    [
        (["p1/v.png", "p2/v.png", "p3/v.png"], ["p1/v.png"], []),  # a part was downloaded
        (["p1/v.png", "p2/w.png", "p3/v.png"], ["x/v.png", "x/w.png"], ["x/w.png"]),
        (["x\\v.png", " x/v.png", "w.png"], ["x/v.png", "w.png"], ["x/v.png"] * 2 + ["w.png"]),
        (["p1/v.png", "p2/v.png", "y/w.jpg"], ["p1/v.png", "p2/v.png", "w.png"], ["w.png"]),
    ],
)  # fmt: skip
def test_a_file_found_by_name_is_of_one_path(
    tmp_path: Path, paths: list[str], images: list[str], kept: list[str]
) -> None:
    table = pd.DataFrame({"file": [*paths, "other.png"], "y": [1, 1, 1, 0]})
    root = put(tmp_path / "d", {"t.csv": table}, [*images, "other.png"])
    label = {"column": "y", "positive": [1], "negative": [0]}
    result = read(root, table="t.csv", path="file", lookup="name", label=label)
    assert plain(result.frame["path"]) == [*kept, "other.png"]
    assert sum(removed(result).values()) == 3 - len(kept)


@pytest.mark.parametrize("column", ["id", None])
@pytest.mark.parametrize("classes", [("1", "0"), ("1", "1.0"), ("mel", "nv"), ("mel", "MEL ")])
def test_a_file_has_one_class_whatever_its_rows_are_called(
    tmp_path: Path, column: str | None, classes: tuple[str, str]
) -> None:
    """Several ids, or spellings of a path, may name one file."""
    files = ["a.png", "a.png" if column else "./a.png", "b.png", "c.png"]
    table = pd.DataFrame({"id": range(4), "file": files, "y": [*classes, "0", "1"]})
    root = put(tmp_path / "d", {"t.csv": table}, ["a.png", "b.png", "c.png"])
    named = {"positive": [1], "negative": [0]} if classes[0] == "1" else {}
    options = {"table": "t.csv", "path": "file", "image_id": column}
    options["label"] = {"column": "y", **named}
    if classes[1] in ("0", "nv"):
        word = "label" if named else "diagnosis"
        with pytest.raises(
            UserError, match=rf"1 image files have rows whose {word} differs.*a\.png"
        ):
            read(root, **options)
    else:
        result = read(root, **options)
        assert plain(result.frame["path"]) == ["a.png", "a.png", "b.png", "c.png"]
        assert notes(result)["file of several rows; each is an image of its own"] == 2


@pytest.mark.parametrize("path", ["{dx}/{id}.png", "file"])
def test_a_column_means_the_same_inside_a_path_and_outside(tmp_path: Path, path: str) -> None:
    """Folders are called as they are written; labels, ids and groups are cleaned as ever."""
    words = ["mel", "nv", "unknown", "NA", "nv ", "mel"]
    table = pd.DataFrame({"id": [f"{i}.0" for i in range(6)], "dx": words, "who": range(6)})
    table["file"] = [f"{word.strip()}/{i}.png" for i, word in enumerate(words)]
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    label = {"column": "dx", "positive": ["mel"], "rest_is_negative": True}
    options = {"table": "t.csv", "path": path, "image_id": "id", "patient": "id"}
    result = read(root, **options, label=label)
    assert plain(result.frame["path"]) == [table["file"][i] for i in (0, 1, 4, 5)]
    assert plain(result.frame["label"]) == [1, 0, 0, 1]
    assert plain(result.frame["image_id"]) == plain(result.frame["patient_id"]) == list("0145")
    label = {"column": "who", "positive": [1], "rest_is_negative": True}
    result = read(root, **options, label=label, attributes={"site": {"column": "dx"}})
    assert plain(result.frame["path"]) == list(table["file"])
    assert plain(result.frame["site"]) == ["mel", "nv", None, None, "nv", "mel"]


def test_a_table_may_have_any_column_in_a_join(tmp_path: Path) -> None:
    """Those that pandas uses itself, too."""
    table = pd.DataFrame({"file": ["a.png", "b.png", "c.png"], "y": [0, 1, 1], "k": [1, 2, 3]})
    table["_merge"] = ["both", "left_only", "both"]
    other = pd.DataFrame({"k": [1, 2], "left_only": ["u", "v"]})
    root = put(tmp_path / "d", {"t.csv": table, "u.csv": other}, table["file"])
    label = {"column": "y", "positive": [1], "negative": [0]}
    result = read(
        root,
        table="t.csv",
        path="file",
        joins=[{"table": "u.csv", "by": "k"}],
        only={"_merge": "both"},
        label=label,
        attributes={"site": {"column": "left_only"}},
    )
    assert plain(result.frame["path"]) == ["a.png", "c.png"]
    assert plain(result.frame["site"]) == ["u", None]
    assert notes(result)["no row in u.csv of this k"] == 1


@pytest.mark.parametrize("repeated", [[], [0], [0, 2, 2]])
def test_a_repeated_row_of_several_images_is_one(tmp_path: Path, repeated: list[int]) -> None:
    table = pd.DataFrame({"f": ["a.png", "c.png", "d.png"], "g": ["b.png", None, "e.png"]})
    table["y"] = [0, 1, 1]
    twice = pd.concat([table, table.loc[repeated]])
    images = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    root = put(tmp_path / "d", {"t.csv": twice}, images)
    label = {"column": "y", "positive": [1], "negative": [0]}
    result = read(root, table="t.csv", path=["f", "g"], label=label)
    assert plain(result.frame["path"]) == images
    assert plain(result.frame["lesion_id"]) == ["0", "0", "1", "2", "2"]
    assert removed(result).get("repeated row", 0) == 2 * len(repeated)


@pytest.mark.parametrize(
    ("value", "cells", "kept"),
    [
        ("12345678901234567", ["12345678901234567", "12345678901234568"], [0]),
        ("12345678901234568", ["12345678901234567", "12345678901234568", "1" * 400], [1]),
        (" 12345678901234567.0 ", ["12345678901234567", "+12345678901234568"], [0]),
        ("1.0", ["1", "01", "1e0", "10"], [0, 1, 2]),
    ],
)
def test_long_ids_are_compared_digit_by_digit(
    tmp_path: Path, value: str, cells: list[str], kept: list[int]
) -> None:
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(len(cells))], "id": cells})
    table["y"] = "1"
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    label = {"column": "y", "positive": [1], "rest_is_negative": True}
    result = read(root, table="t.csv", path="file", label=label, only={"id": value})
    assert plain(result.frame["path"]) == [f"{i}.png" for i in kept]


@pytest.mark.parametrize("lookup", ["path", "name"])
def test_accents_are_found_however_a_system_writes_them(tmp_path: Path, lookup: str) -> None:
    table = pd.DataFrame({"file": ["f\u00e4.png", "o\u0308.png", "\u00e9.jpg"], "y": [0, 1, 1]})
    files = ["fa\u0308.png", "\u00f6.png", "e\u0301.PNG"]
    root = put(tmp_path / "d", {"t.csv": table}, files)
    label = {"column": "y", "positive": [1], "negative": [0]}
    result = read(root, table="t.csv", path="file", lookup=lookup, label=label)
    assert plain(result.frame["path"]) == files


NOT_KNOWN = (
    *("\u2013", "\u2014", "\u2212", "\\N", "(null)", "<NULL>", "#VALUE!", "#REF!", "#DIV/0!"),
    *("#NUM!", "#NAME?", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "not stated"),
)  # fmt: skip
KNOWN = (
    "n",
    "no",
    "0",
    "-1",
    "N",
    "1.5",
    "#1",
    "a-b",
    "nan-1",
    "null 7",
    "not sick",
    "none of these",
)


def test_marks_of_spreadsheets_and_databases_for_not_known(tmp_path: Path) -> None:
    """They are no class, though every other value is class 0, no patient and no group."""
    words = [*NOT_KNOWN, *KNOWN, "mel"]
    table = pd.DataFrame(
        {"file": [f"{i}.png" for i in range(len(words))], "dx": words, "word": words}
    )
    table["y"] = [0, 1] * (len(words) // 2) + [0] * (len(words) % 2)
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    options = {"table": "t.csv", "path": "file", "patient": "word"}
    label = {"column": "dx", "positive": ["mel"], "rest_is_negative": True}
    result = read(root, **options, label=label)
    assert plain(result.frame["diagnosis"]) == [*KNOWN, "mel"]
    label = {"column": "y", "positive": [1], "negative": [0]}
    result = read(root, **options, label=label, attributes={"site": {"column": "dx"}})
    expected = [None] * len(NOT_KNOWN) + [*KNOWN, "mel"]
    assert plain(result.frame["site"]) == expected
    nobody = [{"-1": None, "n": "N"}.get(word, word) for word in expected]
    assert plain(result.frame["patient_id"]) == nobody


def test_an_edit_of_a_joined_table_is_seen(tmp_path: Path) -> None:
    table = pd.DataFrame({"file": ["a.png", "b.png"], "y": [0, 1]})
    other = pd.DataFrame({"file": ["a.png", "b.png"], "age": [1, 2]})
    root = put(tmp_path / "d", {"t.csv": table, "u.csv": other}, table["file"])
    options = adapters.make_options(
        {
            "adapter": "table",
            "root": str(root),
            "table": "t.csv",
            "path": "file",
            "joins": [{"table": "u.csv", "by": "file"}],
            "label": {"column": "y", "positive": [1], "negative": [0]},
        }
    )
    before = fingerprint.look(options, Path())
    assert {*before.tables} == {"t.csv", "u.csv"}
    other.assign(age=[1, 3]).to_csv(root / "u.csv", index=False)
    assert fingerprint.look(options, Path()).tables["u.csv"] != before.tables["u.csv"]


@pytest.mark.parametrize(
    ("born", "seen", "age"),
    [
        ("19500304", "2010-03-03", 59),
        ("1950-03-04", "20100304", 60),
        ("1950", "20100101", 60),
        ("1950.0", "2010", 60),
        ("1950-03-04 00:00:00", "2010-12-31", 60),
        ("04/03/1950", "2010", None),
        ("19501340", "2010", None),
        ("12", "2010", None),
        (None, "2010", None),
    ],
)
def test_ages_from_dates(born: str | None, seen: str, age: float | None) -> None:
    (found,) = ages.from_birth(pd.Series([born], dtype="str"), pd.Series([seen], dtype="str"))
    assert (None if np.isnan(found) else found) == age


@pytest.mark.key("attribute_column.unit")
@pytest.mark.parametrize(
    ("unit", "days"), [("years", 365.25), ("months", 30.4375), ("weeks", 7), ("days", 1)]
)
def test_ages_of_another_unit(unit: str, days: float, tmp_path: Path) -> None:
    """A unit in the cell itself goes first; the impossible is judged in years."""
    cells = ["1", "24", "058Y", "011M", "10-19", "under 4 weeks", "1461"]
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(7)], "y": [0, 1, 0, 1, 0, 1, 0]})
    root = put(tmp_path / "d", {"t.csv": table.assign(a=cells)}, table["file"])
    label = {"column": "y", "positive": ["1"], "negative": ["0"]}
    age = {"column": "a", "unit": unit}
    options = {"table": "t.csv", "path": "file", "label": label}
    years = plain(read(root, **options, attributes={"age": age}).frame["age"])
    last = 1461 * days / 365.25
    whole = [days / 365.25, 24 * days / 365.25, 58, 11 / 12, None, None]
    assert years == [*map(nearly, whole), None if last > 120 else nearly(last)]
    banded = plain(read(root, **options, attributes={"age": age | {"kind": "band"}}).frame["age"])
    assert banded[0] == nearly(days / 365.25)
    assert banded[4:6] == [nearly(15 * days / 365.25), nearly(14 / 365.25)]


@pytest.mark.parametrize(
    ("name", "column", "ages_are_meant"),
    [
        ("age", "age", True), ("age", "a", True), ("age_at_scan", "a", True),
        ("old", "Patient Age", True), ("old", "AgeAtDiagnosis", True), ("years", "a", True),
        ("dosage", "dosage", False), ("stage", "Stage", False), ("points", "a", False),
        ("gap", "brain_age_gap", False), ("old", "AgeDifference", False),
    ],
)  # fmt: skip
def test_impossible_ages_are_unknown_whatever_they_are_called(
    name: str, column: str, ages_are_meant: bool, tmp_path: Path
) -> None:
    cells = ["999", "-1", "0", "120", "121", "58", "-9", "7.5"]
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(8)], "y": [0, 1] * 4})
    root = put(tmp_path / "d", {"t.csv": table.assign(**{column: cells})}, table["file"])
    label = {"column": "y", "positive": ["1"], "negative": ["0"]}
    given = {name: {"column": column, "kind": "number"}}
    result = read(root, table="t.csv", path="file", label=label, attributes=given)
    numbers = [float(cell) for cell in cells]
    expected = [n if not ages_are_meant or 0 <= n <= 120 else None for n in numbers]
    assert plain(result.frame[name]) == expected
    noted = {note["note"]: note["count"] for note in result.log["notes"]}
    said = f"{name} is not within 0 to 120 years; recorded as unknown"
    assert noted.get(said) == (4 if ages_are_meant else None)


@pytest.mark.parametrize(
    ("name", "column", "unit"),
    [
        ("age", "Age (months)", "months"), ("age", "age_weeks", "weeks"),
        ("old", "AgeInDays", "days"), ("age_months", "a", "months"),
        ("age", "months", "months"), ("years", "mons", "months"), ("age", "age_m", "months"),
        ("age", "Age (d)", "days"), ("old", "age_w", "weeks"), ("age", "mnths", "months"),
        ("age", "Age (years)", ""), ("age", "a", ""), ("delay", "Months of delay", ""),
        ("age", "age_mean", ""), ("age", "age_d2", ""), ("delay", "months", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["number", "band"])
def test_a_unit_that_a_name_says_is_to_be_said(
    name: str, column: str, unit: str, kind: str, tmp_path: Path
) -> None:
    table = pd.DataFrame({"file": ["0.png", "1.png"], "y": [0, 1], column: ["60", "600"]})
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    options = {"table": "t.csv", "path": "file"}
    options |= {"label": {"column": "y", "positive": ["1"], "negative": ["0"]}}
    given = {"column": column, "kind": kind}
    if not unit and name == "delay":
        read(root, **options, attributes={name: {**given, "kind": "number"}})
        return
    if not unit:
        read(root, **options, attributes={name: given})
        return
    with pytest.raises(UserError, match=f"unit: is missing.*{unit}"):
        read(root, **options, attributes={name: given})
    days = {"months": 30.4375, "weeks": 7, "days": 1, "years": 365.25}
    for said in (unit, "years"):
        frame = read(root, **options, attributes={name: {**given, "unit": said}}).frame
        years = [n * days[said] / 365.25 for n in (60, 600)]
        if kind == "number":
            assert plain(frame[name]) == [nearly(n if n <= 120 else None) for n in years]


@pytest.mark.parametrize("separator", [None, "|"])
@pytest.mark.parametrize(
    ("cell", "denied"),
    [
        ("no melanoma", True), ("Non-melanoma: nevus", True), ("NOT a melanoma", True),
        ("nevus without melanoma", True), ("negative for melanoma", True), ("r/o melanoma", True),
        ("rule out melanoma", True), ("no evidence of melanoma", True), ("denies melanoma", True),
        ("suspected melanoma", True), ("melanoma (in situ)", False), ("nodular melanoma", False),
        ("superficial melanoma, no ulcer", False), ("Casino melanoma", False), ("melanoma", False),
        ("melanotic nevus", False), ("unknown primary melanoma", False),
    ],
)  # fmt: skip
def test_a_finding_that_is_denied_is_noted(
    cell: str, denied: bool, separator: str | None, tmp_path: Path
) -> None:
    cells = ["melanoma", cell, cell, "nevus"]
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(4)], "dx": cells})
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    label = {"column": "dx", "positive": ["melanoma"], "rest_is_negative": True, "contains": True}
    label |= {"separator": separator} if separator else {}
    result = read(root, table="t.csv", path="file", label=label)
    found = [note for note in result.log["notes"] if "label.contains" in note["note"]]
    assert [note["count"] for note in found] == [2] * denied
    assert all(f"{cell!r} (2)" in note["note"] and "\n" not in note["note"] for note in found)
    if cell == "melanoma":
        return
    named = read(root, table="t.csv", path="file", label=label | {"unknown": [cell]})
    assert not [note for note in named.log["notes"] if "label.contains" in note["note"]]


def nearly(value: float | None) -> Any:
    return value if value is None else pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ({"age": {"kind": "birth", "at": "b", "unit": "months"}}, "dates make years"),
        ({"height": {"kind": "number", "unit": "months"}}, "attributes.height.unit: is of ages"),
        ({"height": {"kind": "category", "unit": "months"}}, "is of ages"),
    ],
)
def test_a_unit_is_of_ages(attribute: dict[str, Any], said: str, tmp_path: Path) -> None:
    label = {"column": "y", "positive": ["1"], "negative": ["0"]}
    given = {name: {"column": "a", **one} for name, one in attribute.items()}
    with pytest.raises(UserError, match=said):
        read(tmp_path, table="t.csv", path="file", label=label, attributes=given)


@pytest.mark.parametrize(
    ("band", "age"),
    [("AGE_30_TO_39", 35), ("30-39", 35), ("80+", 80), ("over 65", 65), ("<18", 9), ("7", 7),
     ("AGE_UNKNOWN", None), ("39-30", None), ("30-39 years", 35), ("30 - 39 yrs", 35),
     ("6-12 months", 9.5 / 12), ("6-12m", 9.5 / 12), ("<6 months", 3 / 12), (">6 mo", 6 / 12),
     ("0-28 days", 14.5 / 365.25), ("under 4 weeks", 14 / 365.25), ("6 months to 2 years", None),
     ("[30, 40)", 35), ("[30, 39]", 35), ("(29, 39]", 35), ("(29.999, 39.0]", 35), ("[7, 8)", 7.5),
     ("(7, 8)", None), ("[6, 12) mos", 9 / 12)],
)  # fmt: skip
def test_ages_from_bands(band: str, age: float | None) -> None:
    (found,) = ages.from_band(pd.Series([band]))
    assert (None if np.isnan(found) else found) == (age and pytest.approx(age))
