"""Ids of patients and lesions: who is one, who is nobody, and what is odd; at both doors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.real import SAMPLES

from swift_debias import cli
from swift_debias.api import ImageSet
from swift_debias.data import adapters, columns, persons
from swift_debias.data.manifest import ManifestResult
from swift_debias.errors import Note, UserError

NOBODIES = [
    *("ANON", "anonymous", "Anonymized", "xxx", "tbd", "n/d", "(blank)", "[unknown]", "#####"),
    *("withheld", "not provided", "no id", "N / A", "not_available", "not available.", "-1"),
    *("unbekannt", "inconnu", "-9", "-99", "-1.0", "(Not Known)", "<none>", "UNK.", "n / a."),
]
SOMEBODIES = ["0", "9", "99999", "Anona", "ND", "x1", "1e5", "5e82", "-12", "(-)", "#1", "NA-7"]


def from_table(folder: Path, ids: Sequence[Any], **options: Any) -> ManifestResult:
    folder.mkdir(exist_ok=True)
    files = [f"{n}.png" for n in range(len(ids))]
    for file in files:
        (folder / file).touch()
    table = pd.DataFrame({"file": files, "who": ids})
    table.assign(y=[n % 2 for n in range(len(ids))]).to_csv(folder / "t.csv", index=False)
    entry = {"adapter": "table", "root": str(folder), "table": "t.csv", "path": "file"}
    entry |= {"patient": "who", "label": {"column": "y", "positive": [1], "negative": [0]}}
    return adapters.read(adapters.make_options(entry | options), folder)


def persons_of(ids: Sequence[Any]) -> list[int]:
    """A number for each row: equal ones of one person; nobody is a person of its own."""
    seen: dict[Any, int] = {}
    return [seen.setdefault(n if who is None else f"={who}", n) for n, who in enumerate(ids)]


def both_doors(folder: Path, ids: Sequence[Any]) -> list[int]:
    table = from_table(folder, ids).frame["patient_id"].astype(object)
    ours = persons_of(table.where(table.notna(), None).tolist())
    assert persons_of(columns.patient_column(pd.Series(ids)).tolist()) == ours
    return ours


@pytest.mark.parametrize("word", NOBODIES)
def test_who_is_nobody_is_a_person_of_its_own(word: str, tmp_path: Path) -> None:
    assert both_doors(tmp_path / "d", [word, "P1", word, "P1"]) == [0, 1, 2, 1]


@pytest.mark.parametrize("word", SOMEBODIES)
def test_other_words_are_somebody(word: str, tmp_path: Path) -> None:
    assert both_doors(tmp_path / "d", [word, "P1", word, "P1"]) == [0, 1, 0, 1]


@pytest.mark.key("table.unknown_ids")
def test_further_ids_of_nobody_are_named(tmp_path: Path) -> None:
    ids = ["0", "P1", "0.0", "nurse", "P1", "NURSE"]
    result = from_table(tmp_path / "d", ids, unknown_ids=[0, "Nurse", "z"], lesion="who")
    for name in ("patient_id", "lesion_id"):
        assert result.frame[name].notna().tolist() == [False, True, False, False, True, False]
    (said,) = [n for n in result.log["notes"] if "unknown_ids" in n["note"]]
    assert said["examples"] == ["z"]
    with pytest.raises(UserError, match="unknown_ids: are of patient: or lesion:"):
        from_table(tmp_path / "d", ids, unknown_ids=[0], patient=None)


def test_letter_case_is_no_other_person_and_zeros_are(tmp_path: Path) -> None:
    ids = ["P1", "p1", "P01", "7", "007", "7.0", "é1", "É1", "Straße", "STRASSE"]
    assert both_doors(tmp_path / "d", ids) == [0, 0, 2, 3, 4, 3, 6, 6, 8, 8]
    notes = {n["note"]: n["count"] for n in from_table(tmp_path / "d", ids).log["notes"]}
    (case,) = [n for n in notes if "letter case" in n]
    (zeros,) = [n for n in notes if "leading zeros" in n]
    assert notes[case] == 3 and notes[zeros] == 6
    assert not any("p1" in n or "007" in n for n in notes)  # a report holds no id
    with pytest.warns(Note) as told:
        columns.tell_patients(pd.Series(ids, name="who"))
    assert sum("alone; they are one (3 rows, such as 'Straße'" in str(t.message) for t in told) == 1


@pytest.mark.parametrize("lost", ["1.23457E+11", "1.23457e+11", "1E+12", "1,23457E+11"])
def test_what_a_spreadsheet_rounded_is_refused(lost: str, tmp_path: Path) -> None:
    ids = ["123456000001", lost, "123456000002"]
    with pytest.raises(UserError, match=r"who|patient.*has lost its digits in a spreadsheet"):
        from_table(tmp_path / "d", ids)
    with pytest.raises(UserError, match="has lost its digits in a spreadsheet"):
        columns.patient_column(pd.Series(ids))


@pytest.mark.parametrize(
    ("counts", "crowd"),
    [
        ([30, 2, 1, 1], 1), ([30, 28, 3, 1], 2), ([10, 2, 2], 1), ([9, 1, 1], 0), ([20, 5, 4], 0),
        ([30], 0), ([40, 20, 10, 5, 2], 0), ([50, 50, 50, 50, 50, 1], 5), ([50] * 6 + [1], 0),
    ],
)  # fmt: skip
def test_an_id_of_far_more_images_than_the_next(counts: list[int], crowd: int) -> None:
    ids = [f"P{n}" for n, count in enumerate(counts) for _ in range(count)]
    found = pd.Series(np.random.default_rng(0).permutation(ids), dtype="str")
    assert persons.crowded(found) == [f"P{n}" for n in range(crowd)]


@pytest.mark.parametrize(
    ("sample", "column"), [("nih", "Patient ID"), ("pad_ufes_20", "patient_id")]
)
def test_of_real_patients_none_are_merged_and_none_is_odd(sample: str, column: str) -> None:
    ids = pd.read_csv(SAMPLES / sample / "table.csv", dtype=str)[column]
    found = persons.ids(ids, column)
    assert found.nunique() == ids.nunique() > 100 and found.notna().all()
    assert not [*persons.id_notes(ids, found, "patient")]


def test_a_placeholder_is_noted_at_every_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["99999" if n % 3 == 0 else f"P{n}" for n in range(60)]
    said = "patient id has far more images than any other; if it stands for nobody"
    result = from_table(tmp_path / "d", ids)
    assert [n["count"] for n in result.log["notes"] if said in n["note"]] == [20]
    images, y = np.zeros((60, 4, 4, 3), np.uint8), np.arange(60) % 2
    with pytest.warns(Note, match=said):
        ImageSet.from_arrays(images, y, y[::-1], ids)
    table = pd.DataFrame({"y": y, "p": 0.4, "sex": ["f", "m", "m"] * 20, "who": ids})
    table.to_csv(tmp_path / "t.csv", index=False)
    options = ["--label", "y", "--score", "p", "--group", "sex", "--patient", "who"]
    assert cli.main(["audit", str(tmp_path / "t.csv"), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.count(said) == 1 and "make it unknown (20 rows, such as '99999')" in printed


# --- one column, one role -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    list(itertools.combinations(("label", "score", "group", "patient"), 2)),
)
def test_a_column_has_one_role_on_the_command_line(
    one: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"label": [0, 1] * 20, "score": 0.5, "group": ["f", "f", "m", "m"] * 10})
    frame.assign(patient=range(40)).to_csv(tmp_path / "t.csv", index=False)
    columns_of = {name: name for name in ("label", "score", "group", "patient")} | {other: one}
    options = [part for name, column in columns_of.items() for part in (f"--{name}", column)]
    assert cli.main(["audit", str(tmp_path / "t.csv"), *options]) == 2
    said = f"--{one} and --{other} name the same column {one!r}\n"
    assert capsys.readouterr().err.endswith(said)


Call = Callable[..., ImageSet]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attribute": "y"}, "label= and attribute= name the same column 'y'"),
        ({"patient": "sex"}, "attribute= and patient= name the same column 'sex'"),
        ({"patient": "y"}, "label= and patient= name the same column 'y'"),
        ({"label": "path"}, "image= and label= name the same column 'path'"),
        ({"cuts": [3], "groups": {"a": ["f"], "b": ["m"]}}, "groups= and cuts=: give one"),
    ],
)
def test_a_column_has_one_role_in_a_call(given: dict[str, Any], said: str) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "y": [0, 1], "sex": ["f", "m"]})
    with pytest.raises(UserError, match=said):
        ImageSet.from_frame(table, **{"image": "path", "label": "y", "attribute": "sex"} | given)


def test_a_code_may_say_label_and_group_where_the_groups_are_named() -> None:
    both = {"label": "code", "attribute": "code"}
    with pytest.raises(UserError, match="name the same column 'code'"):
        columns.one_role_each(both)
    columns.one_role_each(both, named_groups=True)
    columns.one_role_each({"image": "file", "patient": "file", "label": "y", "attribute": None})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patient": "y"}, "patient: and label.column: name the same column 'y'"),
        ({"patient": "sex"}, "patient: and attributes.sex.column: name the same column 'sex'"),
    ],
)
def test_a_column_has_one_role_in_a_configuration(given: dict[str, Any], said: str) -> None:
    entry = {"adapter": "table", "root": "r", "table": "t.csv", "path": "file"}
    entry |= {"label": {"column": "y", "positive": [1], "negative": [0]}}
    entry |= {"attributes": {"sex": {"column": "sex"}}}
    adapters.make_options(entry | {"patient": "file"})
    shared = {"s": {"column": "y"}}  # of a task with another label
    adapters.make_options(entry | {"attributes": shared})
    with pytest.raises(UserError, match=said):
        adapters.make_options(entry | given)
