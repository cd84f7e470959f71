"""Small mistakes that are told in the right words, and names that are files all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from swift_debias.data import adapters, duplicates, manifest, raw_tables
from swift_debias.errors import UserError

ENTRY: dict[str, Any] = {
    "adapter": "table",
    "table": "t.csv",
    "path": "file",
    "label": {"column": "y", "positive": [1], "negative": [0]},
}


@pytest.mark.parametrize(
    ("positive", "said"),
    [
        ([True], "label.positive.0: is a truth value in YAML; put it in quotes (given: True)"),
        ([], "label.positive: Tuple should have at least 1 item"),
        (["a", None], "label.positive.1: is left empty: give it a value, or take the line out"),
    ],
)
def test_one_mistake_is_one_line(positive: list[Any], said: str) -> None:
    label = {"column": "y", "positive": positive, "negative": ["b"]}
    with pytest.raises(UserError) as error:
        adapters.make_options(ENTRY | {"root": "r", "label": label})
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize("first", ["sep=,", "# exported 2024", "My scores,,", ",,# by hand"])
def test_a_first_line_that_is_no_header(first: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{first}\na,b,y\n1,2,3\n")
    with pytest.raises(UserError, match=r"t\.csv: line 1, '.*', is no header: take it out"):
        raw_tables.read_table(tmp_path / "t.csv", ("y",))
    (tmp_path / "t.csv").write_text("#\n1\n")
    assert raw_tables.read_table(tmp_path / "t.csv", ("#",))["#"].tolist() == ["1"]


@pytest.mark.parametrize("some", [True, False])
def test_absolute_paths_below_the_images_say_what_to_cut(some: bool, tmp_path: Path) -> None:
    folder = tmp_path / "d" / "images"
    folder.mkdir(parents=True)
    for n in range(4):
        (folder / f"{n}.png").touch()
    paths = [f"{n}.png" if some and n < 2 else str(folder / f"{n}.png") for n in range(4)]
    table = pd.DataFrame({"file": paths, "y": [0, 1, 0, 1]})
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    entry = ENTRY | {"root": str(tmp_path / "d"), "image_folder": "images"}
    result = adapters.read(adapters.make_options(entry), tmp_path)
    said = "absolute path below the image folder: cut off what stands before, or say lookup: name"
    assert {n["note"]: n["count"] for n in result.log["notes"]}[said] == (2 if some else 4)
    if not some:
        with pytest.raises(UserError, match=f"none of 4 rows is left.*{said}"):
            manifest.write(result, "d", tmp_path / "m.parquet", tmp_path / "m.json")
    named = adapters.read(adapters.make_options(entry | {"lookup": "name"}), tmp_path)
    assert len(named.frame) == 4


@pytest.mark.parametrize("spell", [str, lambda p: p.replace("/", "\\"), str.title])
def test_chexpert_with_other_slashes_and_letter_case(spell: Any, tmp_path: Path) -> None:
    lines = ["Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pneumothorax"]
    for n in range(1, 4):
        path = f"train/patient{n:05}/study1/view1_frontal.jpg"
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
        lines.append(f"{spell(path)},Female,60,Frontal,AP,{n % 2},{1 - n % 2}")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    entry = {"adapter": "chexpert", "root": str(tmp_path)}
    frame = adapters.read(adapters.make_options(entry), tmp_path).frame
    assert frame["patient_id"].str.lower().tolist() == [f"patient{n:05}" for n in range(1, 4)]
    assert frame["path"].tolist() == [
        f"train/patient{n:05}/study1/view1_frontal.jpg" for n in range(1, 4)
    ]


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF"])
def test_other_endings_of_a_jpeg(suffix: str, tmp_path: Path) -> None:
    for n in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{n}{suffix}", "JPEG")
    table = pd.DataFrame({"file": [f"{n}{suffix}" for n in range(2)], "y": [0, 1]})
    table.to_csv(tmp_path / "t.csv", index=False)
    options = adapters.make_options(ENTRY | {"root": str(tmp_path)})
    assert adapters.read(options, tmp_path).frame["path"].tolist() == table["file"].tolist()


@pytest.mark.parametrize("name", ["", " (1)", " (12)", "_copy"])
@pytest.mark.parametrize("ending", ["", ".jpg", ".JPG"])
def test_the_list_of_duplicates_under_another_name(name: str, ending: str, tmp_path: Path) -> None:
    text = f"image_name_1,image_name_2\nISIC_1{ending},ISIC_2{ending}\n"
    (tmp_path / f"ISIC_2020_Training_Duplicates{name}.csv").write_text(text)
    assert duplicates.read_listed(tmp_path) == [("ISIC_1", "ISIC_2")]
