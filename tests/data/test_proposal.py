"""`swift-debias inspect`: what it proposes loads, and names the columns that a person would."""

from __future__ import annotations

import csv
import itertools
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.data.test_spreadsheets import padchest, plain, put, scin, vindr
from tests.real import SAMPLES

from swift_debias import cli
from swift_debias.config import strict_yaml
from swift_debias.data import adapters, proposal
from swift_debias.data.manifest import ManifestResult
from swift_debias.errors import UserError


def nih() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Image Index": [f"0000{i}_000.png" for i in range(6)],
            "Finding Labels": ["No Finding", "Hernia|Mass", "No Finding", "Mass", "Mass", "Mass"],
            "Patient ID": [1, 1, 2, 3, 3, 4],
            "Patient Age": ["058Y", "059Y", "033Y", "040Y", "041Y", "011M"],
            "Patient Gender": list("MMFFFM"),
            "View Position": ["PA", "AP"] * 3,
        }
    )


def chexpert() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Path": [f"v1/train/patient0000{i // 2}/study1/view{i}.jpg" for i in range(6)],
            "Sex": ["Female", "Male", "Unknown"] * 2,
            "Age": [60, 70, 80, 50, 40, 30],
            "Frontal/Lateral": ["Frontal"] * 5 + ["Lateral"],
            "Pneumothorax": [1.0, 0.0, -1.0, None, 1.0, 0.0],
        }
    )


def cases() -> pd.DataFrame:
    first, labels = scin()
    return first.merge(labels, on="case_id")


def images_of(name: str, table: pd.DataFrame) -> list[str]:
    """Where the images lie."""
    if name == "padchest":
        return list("img/" + table["ImageDir"].astype(str) + "/" + table["ImageID"])
    if name == "vindr":
        return [f"train/{one}.png" for one in table["image_id"].unique()]
    if name == "scin":
        columns = ["image_1_path", "image_2_path", "image_3_path"]
        return list(table[columns].melt()["value"].dropna())
    if name == "nih":
        return [f"images_00{i % 3}/images/{one}" for i, one in enumerate(table["Image Index"])]
    return list(table["Path"])


TABLES = {"padchest": padchest, "vindr": vindr, "scin": cases, "nih": nih, "chexpert": chexpert}
EXPECTED: dict[str, dict[str, Any]] = {
    "padchest": {
        "path": ["{ImageDir}/{ImageID}"],
        "patient": "PatientID",
        "label": "Labels",
        "separator": ",",
        "attributes": {"sex": "PatientSex_DICOM", "age": "PatientBirth"},
    },
    "vindr": {
        "path": ["image_id"],
        "patient": None,
        "label": "class_name",
        "several_rows": "any",
        "reader": "rad_id",
        "attributes": {},
    },
    "scin": {
        "path": ["image_1_path", "image_2_path", "image_3_path"],
        "patient": None,
        "label": "weighted_skin_condition_label",
        "least_weight": 0.5,
        "attributes": {
            "sex": "sex_at_birth",
            "age": "age_group",
            "fitzpatrick": "fitzpatrick_skin_type",
        },
    },
    "nih": {
        "path": ["Image Index"],
        "lookup": "name",
        "patient": "Patient ID",
        "label": "Finding Labels",
        "separator": "|",
        "attributes": {"sex": "Patient Gender", "age": "Patient Age"},
    },
    "chexpert": {
        "path": ["Path"],
        "patient": None,
        "label": "Pneumothorax",
        "uncertain": ("-1",),
        "attributes": {"sex": "Sex", "age": "Age"},
    },
}


def proposed(
    table: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[Any, ManifestResult, str]:
    """The options that a proposal makes, what they read, and the text."""
    assert cli.main(["inspect", str(table), *more]) == 0
    text = capsys.readouterr().out
    (entry,) = yaml.safe_load(text)["datasets"].values()
    options = adapters.make_options(entry)
    return options, adapters.read(options, Path()), text


@pytest.mark.parametrize("name", TABLES)
def test_what_is_proposed_for_the_forms_of_people_loads(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = TABLES[name]()
    images = images_of(name, table)
    root = put(tmp_path / "d", {"table.csv": table}, images)
    options, result, text = proposed(root / "table.csv", capsys)
    expected = EXPECTED[name]
    assert list(options.paths) == expected["path"]
    assert options.patient == expected["patient"]
    assert options.label.column == expected["label"]
    found = {key: one.column for key, one in options.attributes.items()}
    assert found == expected["attributes"]
    assert options.lookup == expected.get("lookup", options.lookup)
    for key in ("separator", "several_rows", "reader", "least_weight", "uncertain"):
        assert getattr(options.label, key) == expected.get(key, getattr(options.label, key)), key
    assert {*result.frame["path"]} <= {*images} and len(result.frame) >= 3
    assert set(plain(result.frame["label"])) == {0, 1}
    assert f"# table.csv: {len(table)} rows of {table.shape[1]} columns" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_images_beside_the_table_and_two_columns_that_make_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same names in two folders: only both columns together say which file is meant."""
    table = pd.DataFrame(
        {
            "clinic": ["a", "a", "b", "b"],
            "name": ["1.png", "2.png", "1.png", "2.png"],
            "diagnosis": ["normal", "flu", "flu", "normal"],
        }
    )
    (tmp_path / "tables").mkdir()
    table.to_csv(tmp_path / "tables" / "t.csv", index=False)
    put(tmp_path / "pictures", {}, [f"{c}/{n}" for c, n in zip(table["clinic"], table["name"],
                                                              strict=True)])  # fmt: skip
    more = ("--images", str(tmp_path / "pictures"))
    options, result, _ = proposed(tmp_path / "tables" / "t.csv", capsys, *more)
    assert list(options.paths) == ["{clinic}/{name}"]
    assert options.image_folder == "pictures" and options.table == "tables/t.csv"
    assert plain(result.frame["path"]) == ["pictures/a/1.png", "pictures/a/2.png",
                                           "pictures/b/1.png", "pictures/b/2.png"]  # fmt: skip
    assert plain(result.frame["label"]) == [0, 1, 1, 0]


@pytest.mark.parametrize("named", ["from here", "from the table"])
def test_the_images_folder_is_looked_for_here_and_then_beside_the_table(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The entry loads whatever folder it is used in."""
    table = pd.DataFrame({"file": ["a.png", "b.png"], "diagnosis": ["normal", "flu"]})
    root = put(tmp_path / "d", {"t.csv": table}, [])
    put(root / "pictures", {}, ["a.png", "b.png"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path if named == "from here" else tmp_path / "elsewhere")
    given = Path("d/t.csv") if named == "from here" else Path("../d/t.csv")
    images = "d/pictures" if named == "from here" else "pictures"
    options, result, _ = proposed(given, capsys, "--images", images)
    assert options.image_folder == "pictures"
    assert plain(result.frame["path"]) == ["pictures/a.png", "pictures/b.png"]
    assert cli.main(["inspect", str(given), "--images", "pics"]) == 2
    told = capsys.readouterr().err
    assert f"pics: there is no such folder, neither here nor in {root}" in told


@pytest.mark.parametrize("name", ["no", "on", "2019", "1e3", "null", "t"])
@pytest.mark.parametrize("odd", ["\r", "\x85", "\u2028", "\x07", "\x7f", "\U000e0001", " # : "])
def test_what_is_proposed_is_yaml_whatever_is_in_the_table(
    tmp_path: Path, name: str, odd: str
) -> None:
    """By the project's own loader: names of files, values and columns of odd characters."""
    values = [f"sick{odd}er", "well"] * 3
    site = [f"a{odd}b", "c"] * 3
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(6)], "dx": values, f"No{odd}x": site})
    root = put(tmp_path / "d", {}, table["file"])
    table.to_csv(root / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)
    text = proposal.propose(root / f"{name}.csv")
    written = tmp_path / "config.yaml"
    written.write_text(text, encoding="utf-8")
    ((key, entry),) = strict_yaml.read(written)["datasets"].items()
    assert key == name
    assert {*entry["label"]["positive"], *entry["label"].get("negative", ["well"])} == {*values}
    assert all(line.isprintable() for line in text.split("\n"))


def test_images_elsewhere_on_the_disk_are_not_looked_for_on_all_of_it(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"t.csv": pd.DataFrame({"file": ["a.png"], "y": [1]})}, [])
    with pytest.raises(UserError, match=r"t\.csv and /usr lie in different folders of /"):
        proposal.propose(root / "t.csv", Path("/usr"))


@pytest.mark.parametrize("name", ["pad_ufes_20", "nih"])
def test_real_tables(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, result, _ = proposed(SAMPLES / name / "table.csv", capsys)
    rows = pd.read_csv(SAMPLES / name / "table.csv")
    assert options.image_folder == "images"
    assert options.patient == {"pad_ufes_20": "patient_id", "nih": "Patient ID"}[name]
    assert {"sex", "age"} <= {*options.attributes}
    assert len(result.frame) > 0.9 * len(rows)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "no column names images"),
        (pd.DataFrame({"file": ["a.png", "b.png"], "b": ["x", "x"]}), "no column can be the label"),
    ],
)
def test_tables_of_which_nothing_can_be_made(
    table: pd.DataFrame, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = put(tmp_path / "d", {"t.csv": table}, ["a.png", "b.png"])
    assert cli.main(["inspect", str(root / "t.csv")]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("character", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
@pytest.mark.parametrize(("score", "point"), [("score", "."), ("score", ","), ("score, in %", ".")])
def test_a_table_of_another_separator_is_called_so(
    character: str, name: str, score: str, point: str, tmp_path: Path
) -> None:
    """And not a table of one column, or one whose rows differ in length."""
    rows = [["file", "diagnosis", score], ["a.png", "flu", "0.5"], ["b.png", "well", "1.5"]]
    lines = [character.join(row) for row in rows]
    text = "\n".join([lines[0], *(line.replace(".5", point + "5") for line in lines[1:])])
    root = put(tmp_path / "d", {}, ["a.png", "b.png"])
    (root / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"t\.csv: is separated by {name}; save it with commas"):
        proposal.propose(root / "t.csv")


def test_bars_in_the_name_of_a_column_are_no_separator(tmp_path: Path) -> None:
    text = "file,finding (a|b|c|d)\na.png,a|b\nb.png,c\n"
    root = put(tmp_path / "d", {}, ["a.png", "b.png"])
    (root / "t.csv").write_text(text, encoding="utf-8")
    assert '"separator": "|"' in proposal.propose(root / "t.csv")
    (root / "t.csv").write_text(text + "c.png,a|b,c\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 4: 3 fields, but the header has 2"):
        proposal.propose(root / "t.csv")
    (root / "t.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"t\.tsv: is separated by commas; name it \.csv"):
        proposal.propose(root / "t.tsv")


# How a truth is written: the file's number, the sex, the age in years, the class.
PATHS = {
    "name": "{:03}.png",
    "folder": "pics/{:03}.png",
    "backslash": "pics\\{:03}.png",
    "Windows": "C:\\scans\\pics\\{:03}.png",
    "share": "\\\\server\\share\\{:03}.PNG",
    "absolute": "/mnt/data/{:03}.png",
    "above": "../old/{:03}.jpg",
}
SEX_WORDS = {
    "letters": ("sex", "F", "M"),
    "German": ("Geschlecht", "weiblich", "männlich"),
    "German letters": ("Geschlecht", "w", "m"),
    "French": ("Sexe", "Femme", "Homme"),
    "French letters": ("Sexe", "F", "M"),
    "Spanish": ("Sexo", "Mujer", "Hombre"),
    "Spanish letters": ("Sexo", "M", "H"),
    "English": ("Gender", "Woman", "man"),
    "numbers": ("gender", "1", "2"),
}
AGES = {
    "age": (1, ""), "Age (years)": (1, ""), "age_months": (12, ""), "Age (months)": (12, ""),
    "AgeMonths": (12, ""), "age_mo": (12, ""), "age in weeks": (365.25 / 7, ""),
    "AGE [DAYS]": (365.25, ""), "Patient Age": (12, "M"), "AgeInDays_at_scan": (365.25, ""),
    "Age of months": (12, ""), "age at scan": (12, "?"),
}  # fmt: skip
CLASS_WORDS = [("yes", "no", "unclear"), ("1", "0", "-1"), ("flu", "normal", "possible flu"),
               ("flu", "healthy", "flu?"), ("1", "0", "indeterminate")]  # fmt: skip


def styles() -> list[tuple[str, str, str, int]]:
    """Every style of each column, with some of the other columns'."""
    names = zip(range(36), itertools.cycle(PATHS), itertools.cycle(SEX_WORDS),
                itertools.cycle(AGES), itertools.cycle(range(5)), strict=False)  # fmt: skip
    return [(path, sex, age, number) for _, path, sex, age, number in names]


@pytest.mark.parametrize(("path", "sex", "age", "number"), styles())
def test_what_the_comments_count_is_what_the_adapter_keeps(
    path: str, sex: str, age: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against a truth that is drawn, with empty cells, repeated rows and images that are not there.

    What cannot be read from the table alone, months that are called an age, is counted as unknown.
    """
    rng = random.Random(f"{path} {sex} {age} {number}")
    column, *words = SEX_WORDS[sex]
    times, mark = AGES[age]
    said = CLASS_WORDS[number]
    rows, kept, sexes, years = [], 0, {"female": 0, "male": 0, None: 0}, {True: 0, False: 0}
    classes = {0: 0, 1: 0, 2: 0}
    for n in range(80):
        who, old = rng.choice(["female", "male", None]), rng.choice([None, rng.randint(1, 90)])
        label, there = n % 2 if n < 60 else 2, n % 9 != 0
        given = "" if old is None else f"{round(old * times)}{mark.strip('?')}"
        word = "" if who is None else words[who == "male"]
        once = (PATHS[path].format(n), said[1 - label if label < 2 else 2], word, given)
        rows += [once] * rng.choice([1, 1, 2])
        classes[label] += 1
        if there:
            put(tmp_path / "d", {}, [f"images/pics/{n:03}.png"])
        if there and label < 2:
            kept += 1
            sexes[None if sex == "numbers" else who] += 1
            years[bool(given) and not (mark == "?" and int(given) > 120)] += 1
    table = pd.DataFrame(rows, columns=["file", "diagnosis", column, age])
    root = put(tmp_path / "d", {"t.csv": table}, [])
    options, result, text = proposed(root / "t.csv", capsys)
    comments = dict(re.findall(r"^ +(\w+): .* # (.*)$", text, re.MULTILINE))
    assert f"# As it stands {kept} of {len(table)} rows are kept; " in text
    assert len(result.frame) == kept
    unknown = f"unknown {classes[2]} ({said[2]} {classes[2]})"
    assert sorted(comments["label"].split("; ")[0].split(", ")) == sorted(
        f"{word} {classes[label]}" for label, word in ((1, said[0]), (0, said[1]))
    )
    assert comments["label"].endswith(f"; {unknown}")
    assert options.label.uncertain == (said[2],)
    for name in ("female", "male"):
        assert (result.frame["sex"] == name).sum() == sexes[name]
        assert f"{words[name == 'male']} {sexes[name]}" in comments["sex"] or not sexes[name]
    assert f"unknown {sexes[None]}" in comments["sex"]
    assert result.frame["age"].notna().sum() == years[True]
    assert f"; unknown {years[False]}" in comments["age"]
    assert f": {years[True]}; " in comments["age"] or mark == "?"
    assert result.frame["age"].max() <= 91 or mark == "?"


def test_an_entry_that_is_refused_says_so(tmp_path: Path) -> None:
    """Two rows of an image contradict each other in more than their label."""
    table = pd.DataFrame({"file": ["a.png", "a.png", "b.png"], "dx": ["flu", "flu", "normal"]})
    root = put(tmp_path / "d", {"t.csv": table.assign(sex=["f", "m", "f"])}, ["a.png", "b.png"])
    text = proposal.propose(root / "t.csv")
    assert "# As it stands it is refused: " in text and "contradict each other" in text
    assert yaml.safe_load(text)["datasets"]["t"]["attributes"] == {"sex": {"column": "sex"}}


@pytest.mark.parametrize(
    ("values", "positive", "negative", "uncertain"),
    [
        (["normal", "unclear"], ["unclear"], ["normal"], ()),
        (["normal", "benign", "benign"], ["normal"], ["benign"], ()),
        (["flu", "cold", "flu", "possibly cold"], ["flu"], None, ["possibly cold"]),
        (["impossible", "normal"], ["impossible"], ["normal"], ()),
        (["a|flu", "normal", "equivocal|a"], ["a"], ["normal"], ["equivocal"]),
    ],
)
def test_uncertain_words_are_of_no_class(
    values: list[str], positive: list[str], negative: list[str] | None, uncertain: Any,
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """Unless there would be no two classes left."""
    files = [f"{n}.png" for n in range(len(values))]
    root = put(tmp_path / "d", {"t.csv": pd.DataFrame({"f": files, "label": values})}, files)
    options, _, _ = proposed(root / "t.csv", capsys)
    assert options.label.positive == tuple(positive)
    assert options.label.negative == (None if negative is None else tuple(negative))
    assert options.label.uncertain == tuple(uncertain)


def test_some_absolute_paths_among_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["pics/0.png", "pics/1.png", "C:\\a\\2.png", "C:\\a\\3.png", "C:\\a\\4.png"]
    table = pd.DataFrame({"f": files, "label": list("10101")})
    root = put(tmp_path / "d", {"t.csv": table}, [f"pics/{n}.png" for n in range(5)])
    options, result, text = proposed(root / "t.csv", capsys)
    assert options.lookup == "name" and len(result.frame) == 5
    assert "As it stands 5 of 5 rows are kept\n" in text


def test_a_proposal_names_what_would_be_refused_as_the_rest(tmp_path: Path) -> None:
    cells = ["melanoma", "melanoma in situ", "lentigo", "lentigo maligna melanoma"] * 5
    table = pd.DataFrame(
        {"file": [f"{i}.png" for i in range(20)], "dx": cells, "sex": list("fm") * 10}
    )
    root = put(tmp_path / "d", {"t.csv": table}, table["file"])
    entry = yaml.safe_load(proposal.propose(root / "t.csv", root))["datasets"]
    (data,) = entry.values()
    assert data["label"]["rest_is_negative"] and "melanoma in situ" in data["label"]["negative"]
