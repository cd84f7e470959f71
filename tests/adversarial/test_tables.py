"""Hundreds of tables of anybody's own, and of made-up official ones: right, refused, or counted."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from adversarial.cells import cased, missing, padded, pick, spelled, write_csv
from swift_debias.config import load
from swift_debias.data import adapters, manifest
from swift_debias.errors import UserError

POSITIVE = ("Mélanome", "carcinoma in situ", "1", "yes/MEL")
NEGATIVE = ("nevus", "0", "benign nävus")
OTHER = ("lichen", "2", "-1", "scar; old")
FAULTS = ("utf-16", "latin-1", ";", "ragged", "no column", "two columns", "empty", "header only")


class Row(NamedTuple):
    """What a row means; None: not known."""

    image: int
    file: str  # plain, missing, unsafe
    label: Any  # a word, a tuple of words in one cell, or None
    patient: int | None
    sex: str | None
    age: int | None
    dose: float | None
    site: str | None


def draw_row(rng: np.random.Generator, image: int, several: bool) -> Row:
    words = (*POSITIVE, *NEGATIVE, *OTHER)
    label: Any = pick(rng, words) if rng.random() < 0.85 else None
    if several and rng.random() < 0.3:
        label = tuple(dict.fromkeys(pick(rng, words[:8]) for _ in range(2)))
    return Row(
        image,
        pick(rng, ("plain",) * 8 + ("missing", "unsafe")),
        label,
        int(rng.integers(4)) if rng.random() < 0.7 else None,
        pick(rng, ("female", "male", None)),
        pick(rng, (0, 7, 45, 90, None)),
        pick(rng, (0.5, 2, -3.25, 1000, None)),
        pick(rng, ("Zürich", "Bern", None)),
    )


def path_of(row: Row) -> str:
    if row.file == "unsafe":
        return (f"../{row.image}.png", f"/{row.image}.png", f"C:\\{row.image}.png")[row.image % 3]
    return f"{row.image}.png"


def written(rng: np.random.Generator, row: Row) -> list[str]:
    """The cells of a row: id, file, label, patient, sex, age, dose, site."""

    def cell(value: Any, spell=spelled) -> str:
        return missing(rng) if value is None else spell(rng, str(value))

    sexes = {"female": ("female", "F"), "male": ("male", "M"), None: (None,)}
    if isinstance(row.label, tuple):
        label = "|".join(padded(rng, word) for word in row.label)
        if rng.random() < 0.3:
            label = "['" + "'|'".join(row.label) + "']"
    else:
        label = cell(row.label, cased)
    return [
        cell(row.image),
        path_of(row),
        label,
        cell(None if row.patient is None else 100 + row.patient),
        cell(pick(rng, sexes[row.sex]), cased),
        cell(row.age),
        cell(row.dose),
        cell(row.site),
    ]


COLUMNS = ["id", "file", "dx", "who is it", "sex", "âge", "dose", "site"]


def draw_label(rng: np.random.Generator, several: bool) -> dict[str, Any]:
    """A label's entry, sometimes one that must be refused."""
    label: dict[str, Any] = {"column": "dx", "positive": list(POSITIVE)}
    if rng.random() < 0.5:
        label["negative"] = list(NEGATIVE)
    else:
        label["rest_is_negative"] = True
    if rng.random() < 0.4:
        label["unknown"] = ["-1"]
    if several and rng.random() < 0.7:
        label["separator"] = "|"
    fault = rng.random()
    if fault < 0.04:
        label.pop("negative", None)
        label.pop("rest_is_negative", None)
    elif fault < 0.08 and "negative" in label:
        label["negative"].append(POSITIVE[1].upper())
    elif fault < 0.12:
        label["positive"] = ["misspelt"]
    return label


def class_of(label: dict[str, Any], value: Any) -> int | str | None:
    """0, 1, None: left out; 'refused'."""
    words = value if isinstance(value, tuple) else (value,)
    one = isinstance(value, tuple) and len(value) > 1
    if value is None:
        return None
    if one and "separator" not in label:
        named = {*label["positive"], *label.get("negative", ()), *label.get("unknown", ())}
        if "rest_is_negative" in label:
            return "refused" if named & set(words) else 0
        return None
    if any(word in label.get("unknown", ()) for word in words):
        return None
    positive = any(word in label["positive"] for word in words)
    if "rest_is_negative" in label:  # -1 beside 0 and 1 is uncertain
        return "refused" if not positive and "-1" in words else int(positive)
    negative = any(word in label["negative"] for word in words)
    return None if positive == negative else int(positive)


def configuration_is_wrong(label: dict[str, Any]) -> bool:
    """Neither of two keys, or a value in both classes."""
    neither = "negative" not in label and "rest_is_negative" not in label
    folded = [[w.casefold() for w in label.get(key, ())] for key in ("positive", "negative")]
    return neither or bool(set(folded[0]) & set(folded[1]))


def refusal(label: dict[str, Any], rows: list[Row]) -> str:
    """What must be refused, by the meaning of rows that are read; empty: nothing."""
    split = "separator" in label
    seen: set[str] = set()
    for row in rows:
        if isinstance(row.label, tuple) and (split or len(row.label) == 1):
            seen |= set(row.label)
        elif isinstance(row.label, str):
            seen.add(row.label)
    for key in ("positive", "negative"):
        if key in label and not seen & set(label[key]):
            return f"label.{key}"
    if any(class_of(label, row.label) == "refused" for row in rows):
        return "label.rest_is_negative"
    return ""


def one_line(error: UserError) -> str:
    text = str(error)
    assert text and "Traceback" not in text
    assert len(text.splitlines()) <= 2, text  # what is refused in a configuration has a headline
    return text


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures 0.png to 11.png."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(12):
        (folder / f"{number}.png").touch()
    return folder


def attempt(entry: dict[str, Any]) -> manifest.ManifestResult | str:
    """The manifest, or the line that refuses it: as a configuration is read."""
    try:
        options = load._typed_datasets({"mine": entry}, adapters.options_models())["mine"]
        result = adapters.read(options, Path())
    except UserError as error:
        return one_line(error)
    manifest.validate(result.frame, "mine")
    return result


def null(value: Any) -> Any:
    return None if pd.isna(value) else value


@pytest.mark.parametrize("block", range(8))
def test_a_table_of_ones_own(tmp_path: Path, images: Path, block: int) -> None:
    verdicts: collections.Counter[str] = collections.Counter()
    for seed in range(35 * block, 35 * block + 35):
        rng = np.random.default_rng([15, seed])
        several = rng.random() < 0.4
        rows = [draw_row(rng, number, several) for number in range(int(rng.integers(4, 12)))]
        root = tmp_path / str(seed)
        root.mkdir()
        for row in rows:
            if row.file == "plain":
                (root / path_of(row)).hardlink_to(images / path_of(row))
        label = draw_label(rng, several)
        lines = [written(rng, row) for row in rows]
        twice = contradiction = False
        if rng.random() < 0.2:
            first, path, *rest = lines[0]  # the same row with other spaces
            lines.append([padded(rng, first), path, *(padded(rng, cell) for cell in rest)])
            twice = True
        elif rng.random() < 0.1:
            other = rows[0]._replace(patient=5)
            lines.append(written(rng, other))
            contradiction = True
        columns, name = list(COLUMNS), "a table é.csv"
        fault = pick(rng, FAULTS) if rng.random() < 0.15 else ""
        encoding, separator = pick(rng, ("utf-8", "utf-8-sig")), ","
        if rng.random() < 0.2:
            name, separator = "t.tsv", "\t"
            lines = [[cell.replace("\t", " ") for cell in line] for line in lines]
        if fault in ("utf-16", "latin-1"):
            encoding = fault
            text = "é" if fault == "latin-1" else ""
            lines = [
                [c.encode("latin-1", "replace").decode("latin-1") + text for c in line]
                for line in lines
            ]
            columns = [c.encode("latin-1", "replace").decode("latin-1") for c in columns]
        if fault == ";":
            separator, name = ";", "t.csv"
        if fault == "no column":
            columns[int(rng.integers(8))] = "else"
        if fault == "two columns":
            columns.append("dx")
            lines = [[*line, "x"] for line in lines]
        if fault == "header only":
            lines = []
        write_csv(root / name, rng, columns, lines, encoding, separator)
        if fault == "empty":
            (root / name).write_bytes(pick(rng, (b"", b"\n\n", b"\xef\xbb\xbf")))
        if fault == "ragged":
            with (root / name).open("a") as stream:
                stream.write(f"\n1{separator}2\n")
        entry = {
            "adapter": "table",
            "root": str(root),
            "table": name,
            "path": "file",
            "image_id": "id",
            "patient": "who is it",
            "label": label,
            "attributes": {
                "sex": {"column": "sex"},
                "age": {"column": "âge", "kind": "number"},
                "dose": {"column": "dose", "kind": "number"},
                "site": {"column": "site"},
            },
        }
        found = attempt(entry)
        if configuration_is_wrong(label):
            assert isinstance(found, str) and "datasets.mine.label" in found, (seed, found)
            verdicts["refused: configuration"] += 1
            continue
        if fault:
            assert isinstance(found, str) and name in found, (seed, fault, found)
            verdicts["refused: file"] += 1
            continue
        if contradiction:
            assert isinstance(found, str) and "contradict" in found, (seed, found)
            assert repr(str(rows[0].image)) in found
            verdicts["refused: contradiction"] += 1
            continue
        if wrong := refusal(label, rows):
            assert isinstance(found, str) and wrong in found, (seed, wrong, found)
            verdicts["refused: values"] += 1
            continue
        assert not isinstance(found, str), (seed, found)
        check_rows(seed, rows, label, found, twice)
        verdicts["right"] += 1
        shutil.rmtree(root)
    print(dict(verdicts))
    assert verdicts["right"] >= 10 and len(verdicts) >= 3


def check_rows(
    seed: int, rows: list[Row], label: dict[str, Any], found: manifest.ManifestResult, twice: bool
) -> None:
    """Rows, values and counts against the meanings."""
    classes = {row.image: class_of(label, row.label) for row in rows}
    kept = [row for row in rows if classes[row.image] is not None and row.file == "plain"]
    frame, log = found
    assert frame["image_id"].tolist() == [str(row.image) for row in kept], seed
    people: dict[int, set[str]] = collections.defaultdict(set)
    for row, got in zip(kept, frame.to_dict("records"), strict=True):
        place = (seed, row, got)
        assert got["label"] == classes[row.image], place
        assert null(got["sex"]) == row.sex, place
        assert null(got["age"]) == row.age, place
        assert null(got["dose"]) == row.dose, place
        assert null(got["site"]) == row.site, place
        if row.patient is None:
            assert pd.isna(got["patient_id"]), place
        else:
            people[row.patient].add(got["patient_id"])
    assert all(len(names) == 1 for names in people.values())
    assert len(set().union(*people.values())) == len(people)
    removed = {rule["rule"]: rule["removed"] for rule in log["rules"]}
    assert log["rows_read"] - sum(removed.values()) == log["rows_kept"] == len(kept)
    assert removed["repeated row"] == int(twice)
    # the table of values says of every row that was read what its label became
    became: collections.Counter[Any] = collections.Counter()
    for one in log["values"]["label"]:
        became[one["became"]] += one["count"]
    expected = collections.Counter(None if one is None else str(one) for one in classes.values())
    assert became == expected, seed
    for name, column in (("sex", "sex"), ("site", "site")):
        shown = collections.Counter()
        for one in log["values"][name]:
            shown[one["became"]] += one["count"]
        assert shown == collections.Counter(getattr(row, column) for row in kept), seed


@pytest.mark.parametrize("seed", range(40))
def test_a_parquet_table_reads_like_the_csv(tmp_path: Path, seed: int) -> None:
    """Numbers, truth values, categories and nulls with a type of their own."""
    rng = np.random.default_rng([16, seed])
    n = int(rng.integers(4, 10))
    labels = [0, 1, *rng.integers(0, 2, n - 2).tolist()]
    patients = [None if rng.random() < 0.3 else int(rng.integers(10**14)) for _ in range(n)]
    sexes = [pick(rng, ("female", "male", None)) for _ in range(n)]
    kind = pick(rng, ("int", "float", "bool", "text"))
    column = {
        "int": pd.array(labels, dtype="Int8"),
        "float": np.array(labels, float),
        "bool": np.array(labels, bool),
        "text": [padded(rng, str(label)) for label in labels],
    }[kind]
    who: Any = [np.nan if p is None else float(p) for p in patients]
    if rng.random() < 0.5:
        who = pd.array(patients, dtype="Int64")
    frame = pd.DataFrame(
        {
            "file": [f"{row}.png" for row in range(n)],
            "dx": column,
            "who": who,
            "sex": pd.Categorical(sexes) if rng.random() < 0.5 else sexes,
        }
    )
    for row in range(n):
        (tmp_path / f"{row}.png").touch()
    frame.to_parquet(tmp_path / "t.parquet")
    found = attempt(
        {
            "adapter": "table",
            "root": str(tmp_path),
            "table": "t.parquet",
            "path": "file",
            "patient": "who",
            "label": {"column": "dx", "positive": [1], "negative": [0]},
            "attributes": {"sex": {"column": "sex"}},
        }
    )
    assert not isinstance(found, str), found
    assert found.frame["label"].tolist() == labels
    assert [null(v) for v in found.frame["sex"]] == sexes
    told = [null(v) for v in found.frame["patient_id"]]
    assert told == [None if p is None else str(p) for p in patients]


# --- official tables ------------------------------------------------------------------------------


class Case(NamedTuple):
    """What a row of an official table means: disease 1, none 0, None: not known."""

    disease: int | None
    sex: str | None
    age: int | None
    tone: int | None
    patient: int


def draw_case(rng: np.random.Generator) -> Case:
    return Case(
        pick(rng, (0, 0, 1, 1, None)),
        pick(rng, ("female", "male", None)),
        pick(rng, (5, 35, 60, None)),
        pick(rng, (1, 3, 6, None)),
        int(rng.integers(5)),
    )


def official(
    rng: np.random.Generator, name: str, cases: list[Case]
) -> tuple[dict[str, tuple[list[str], list[list[str]]]], list[str]]:
    """The tables of an adapter for these cases, and the files of its images."""

    def cell(value: Any, spell=spelled) -> str:
        return missing(rng) if value is None else spell(rng, str(value))

    def flag(value: int | None, true: str = "1.0", false: str = "0.0") -> str:
        return cell({1: true, 0: false, None: None}[value])

    def sex(case: Case) -> str:
        words = {"female": ("female", "F"), "male": ("male", "M"), None: (None,)}
        return cell(pick(rng, words[case.sex]), cased)

    n = range(len(cases))
    ids = [f"ISIC_{k:04d}" for k in n]
    if name == "isic2017":
        truth = [[padded(rng, ids[k]), flag(cases[k].disease), "0.0"] for k in n]
        about = [[padded(rng, ids[k]), cell(cases[k].age), sex(cases[k])] for k in n]
        return {
            "ISIC-2017_Training_Part3_GroundTruth.csv": (
                ["image_id", "melanoma", "seborrheic_keratosis"],
                truth,
            ),
            "ISIC-2017_Training_Data_metadata.csv": (["image_id", "age_approximate", "sex"], about),
        }, [f"{one}.jpg" for one in ids]
    if name == "isic2019":
        classes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
        truth = []
        for k in n:
            hot = {1: "MEL", 0: pick(rng, classes[1:]), None: ""}[cases[k].disease]
            truth.append([padded(rng, ids[k]), *(flag(int(c == hot)) for c in classes)])
        about = [
            [padded(rng, ids[k]), cell(cases[k].age), cell(f"L{cases[k].patient}"), sex(cases[k])]
            for k in n
        ]
        return {
            "ISIC_2019_Training_GroundTruth.csv": (["image", *classes], truth),
            "ISIC_2019_Training_Metadata.csv": (["image", "age_approx", "lesion_id", "sex"], about),
        }, [f"{one}.jpg" for one in ids]
    if name == "isic2020":
        rows = [
            [
                padded(rng, ids[k]),
                cell(f"IP_{cases[k].patient}"),
                sex(cases[k]),
                cell(cases[k].age),
                cell(pick(rng, ("nevus", None))),
                flag(cases[k].disease, "1", "0"),
            ]
            for k in n
        ]
        header = ["image_name", "patient_id", "sex", "age_approx", "diagnosis", "target"]
        return {"train.csv": (header, rows)}, [f"{one}.jpg" for one in ids]
    if name == "pad_ufes_20":
        words = {1: ("MEL",), 0: ("BCC", "NEV", "ACK"), None: (None, "XYZ")}
        rows = [
            [
                padded(rng, f"{ids[k]}.png"),
                cell(f"PAT_{cases[k].patient}"),
                cell(k),
                cell(cases[k].age),
                sex(cases[k]),
                cell(cases[k].tone),
                cell(pick(rng, words[cases[k].disease]), cased),
            ]
            for k in n
        ]
        header = ["img_id", "patient_id", "lesion_id", "age", "gender", "fitspatrick", "diagnostic"]
        return {"metadata.csv": (header, rows)}, [f"{one}.png" for one in ids]
    if name == "ddi":
        pairs = {1: "12", 3: "34", 6: "56", None: None}
        words = {1: ("True", "melanoma-in-situ"), 0: ("False", "nevus"), None: (None, "melanoma")}
        rows = []
        for k in n:
            malignant, disease = words[cases[k].disease]
            tone = cell(pairs[cases[k].tone])
            rows.append([padded(rng, f"{ids[k]}.png"), tone, cell(malignant, cased), cell(disease)])
        header = ["DDI_file", "skin_tone", "malignant", "disease"]
        return {"ddi_metadata.csv": (header, rows)}, [f"{one}.png" for one in ids]
    if name == "fitzpatrick17k":
        words = {1: ("malignant",), 0: ("benign", "non-neoplastic"), None: (None, "other")}
        rows = [
            [
                padded(rng, ids[k]),
                pick(rng, ("-1", missing(rng))) if cases[k].tone is None else cell(cases[k].tone),
                cell("acne"),
                cell(pick(rng, words[cases[k].disease]), cased),
            ]
            for k in n
        ]
        header = ["md5hash", "fitzpatrick_scale", "label", "three_partition_label"]
        return {"fitzpatrick17k.csv": (header, rows)}, [f"{one}.jpg" for one in ids]
    if name == "atlas":
        words = {
            1: ("melanoma", "melanoma (in situ)"),
            0: ("clark nevus", "melanosis"),
            None: (None,),
        }
        rows = [
            [
                cell(k + 1),
                cell(pick(rng, words[cases[k].disease]), cased),
                sex(cases[k]),
                f"A/c{k}.jpg",
                padded(rng, f"A/{ids[k]}.jpg"),
            ]
            for k in n
        ]
        header = ["case_num", "diagnosis", "sex", "clinic", "derm"]
        return {"meta/meta.csv": (header, rows)}, [f"images/A/{one}.jpg" for one in ids]
    if name == "nih":
        words = {1: "Mass|Pneumothorax", 0: "No Finding", None: None}
        rows = [
            [
                padded(rng, f"{ids[k]}.png"),
                cell(words[cases[k].disease]),
                cell(cases[k].patient),
                cell(None if cases[k].age is None else f"{cases[k].age:03d}Y"),
                sex(cases[k]),
                cell("PA"),
            ]
            for k in n
        ]
        header = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]
        return {"Data_Entry_2017.csv": ([*header, "View Position"], rows)}, [
            f"images/{one}.png" for one in ids
        ]
    assert name == "mimic_cxr"
    about = [
        [padded(rng, ids[k]), cell(9000 + cases[k].patient), cell(500 + k), cell("AP")] for k in n
    ]
    findings = {1: (None, "1.0"), 0: ("1.0", None), None: (None, None)}
    labels = []
    for k in n:
        nothing, pneumothorax = findings[cases[k].disease]
        labels.append([cell(500 + k), cell(nothing), cell(pneumothorax)])
    people = {case.patient: case for case in cases}
    persons = [
        [cell(9000 + who), sex(case), cell(case.age)] for who, case in sorted(people.items())
    ]
    return {
        "mimic-cxr-2.0.0-metadata.csv": (
            ["dicom_id", "subject_id", "study_id", "ViewPosition"],
            about,
        ),
        "mimic-cxr-2.0.0-chexpert.csv": (["study_id", "No Finding", "Pneumothorax"], labels),
        "patients.csv": (["subject_id", "gender", "anchor_age"], persons),
    }, [f"files/{one}.jpg" for one in ids]


ADAPTERS = {  # name -> is the disease class 1
    "isic2017": False,
    "isic2019": False,
    "isic2020": False,
    "pad_ufes_20": False,
    "ddi": False,
    "fitzpatrick17k": False,
    "atlas": False,
    "nih": True,
    "mimic_cxr": True,
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_official_tables_in_odd_spellings(tmp_path: Path, name: str) -> None:
    right = left_out = 0
    for seed in range(15):
        rng = np.random.default_rng([17, seed])
        cases = [draw_case(rng) for _ in range(int(rng.integers(3, 9)))]
        if name == "mimic_cxr":  # sex and age belong to the patient there
            of = {case.patient: case for case in cases}
            cases = [c._replace(sex=of[c.patient].sex, age=of[c.patient].age) for c in cases]
        root = tmp_path / str(seed)
        tables, files = official(rng, name, cases)
        for table, (columns, rows) in tables.items():
            write_csv(root / table, rng, columns, rows, pick(rng, ("utf-8", "utf-8-sig")))
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        more = {"target": "malignant"} if name == "fitzpatrick17k" else {}
        found = attempt({"adapter": name, "root": str(root), **more})
        assert not isinstance(found, str), (seed, found)
        expected = [(k, case) for k, case in enumerate(cases) if case.disease is not None]
        rows = found.frame.set_index(found.frame["path"].map(lambda path: Path(path).stem))
        assert list(rows.index) == [f"ISIC_{k:04d}" for k, _ in expected], (seed, found.log)
        for (_, case), got in zip(expected, rows.to_dict("records"), strict=True):
            place = (seed, case, got)
            assert got["label"] == (case.disease if ADAPTERS[name] else 1 - case.disease), place
            if name not in ("ddi", "fitzpatrick17k"):
                assert null(got["sex"]) == case.sex, place
            if name not in ("ddi", "fitzpatrick17k", "atlas"):
                assert null(got["age"]) == case.age, place
            if name in ("pad_ufes_20", "fitzpatrick17k"):
                assert null(got["fitzpatrick"]) == case.tone, place
            if name == "ddi":
                tone = {1: 1.5, 3: 3.5, 6: 5.5, None: None}[case.tone]
                assert null(got["fitzpatrick"]) == tone, place
        if name in ("isic2020", "pad_ufes_20", "nih", "mimic_cxr"):
            told = rows["patient_id"].tolist()
            for (_, one), a in zip(expected, told, strict=True):
                for (_, other), b in zip(expected, told, strict=True):
                    assert (a == b) == (one.patient == other.patient), (seed, a, b)
        right += len(expected)
        left_out += len(cases) - len(expected)
    print(f"{name}: 15 folders, {right} rows right, {left_out} left out and counted")
    assert right and left_out
