"""Data sets of one task: a value means one class and one group, and whose the ids are is said."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import tiny

from swift_debias import errors, methods
from swift_debias.config import load, schema
from swift_debias.data import adapters, check
from swift_debias.data.values import canonical, is_code

PROJECT = Path(__file__).resolve().parents[2]
EXPECTED = check.load_expected(PROJECT / "resources" / "expected_counts.yaml")
ALGORITHMS, ADAPTERS = methods.settings_models(), adapters.options_models()
ROLES = ("train", "external", "test")


def loaded(raw: Mapping[str, Any]) -> schema.Settings:
    return load.load(
        dict(raw),
        PROJECT,
        files=(),
        algorithms=ALGORITHMS,
        adapters=ADAPTERS,
    )


def settings(folder: Path, role: str = "train", **other: Any) -> dict[str, Any]:
    """A pool and a test set, and beside them `other` in a role of the task."""
    raw = tiny.config(folder, {"t": tiny.table("baseline")})
    raw["datasets"]["other"] = tiny.dataset(folder / "other") | other
    task = raw["tasks"]["lesion"]
    if role == "test":
        task["tests"]["sex"].append("other")
    else:
        task.setdefault(role, []).append("other")
    return raw


def label(positive: Iterable[str], negative: Iterable[str] | None = None) -> dict[str, Any]:
    rest = {"rest_is_negative": True} if negative is None else {"negative": list(negative)}
    return {"column": "dx", "positive": list(positive), **rest}


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """A table like tiny's, its images empty files: no image is opened."""
    rows = list(rows)
    (folder / name / "images").mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (folder / name / "t.csv").write_text("\n".join(lines) + "\n")
    for row in rows:
        (folder / name / "images" / row["file"]).touch()


def notes(raw: Mapping[str, Any]) -> list[str]:
    report = check.check(loaded(raw), PROJECT, EXPECTED)
    assert not [data.error for data in report.datasets if data.error]
    assert all("\n" not in note for note in report.notes)
    return [note for note in report.notes if "other" in note]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("positive", "negative", "value"),
    [
        (["nev"], ["mel"], "nev"),
        ([" NEV "], ["scc"], "NEV"),
        (["bcc"], ["Mel", "scc"], "Mel"),
        (["nev"], None, "nev"),
    ],
)
def test_a_word_of_opposite_classes_is_refused(
    tmp_path: Path, role: str, positive: list[str], negative: list[str] | None, value: str
) -> None:
    raw = settings(tmp_path, role, label=label(positive, negative))
    with pytest.raises(errors.UserError) as error:
        loaded(raw)
    message = str(error.value)
    assert "class" in message
    for said in ("datasets.other.label", value, "datasets.", "tasks.lesion"):
        assert said in message
    # other words, and the same meaning, are taken
    for fine in (label(["mel"], ["nev", "bk"]), label(["melanoma"], ["rest"]), label(["MEL"])):
        loaded(settings(tmp_path, role, label=fine))


def test_a_data_set_of_another_task_may_mean_the_opposite(tmp_path: Path) -> None:
    raw = settings(tmp_path, label=label(["nev"], ["mel"]))
    task = raw["tasks"]["lesion"]
    raw["tasks"]["second"] = task | {"train": ["other"], "tests": {"sex": ["other2"]}}
    raw["datasets"]["other2"] = raw["datasets"]["other"]
    raw["tasks"]["lesion"] = task | {"train": ["train"]}
    assert set(loaded(raw).tasks) == {"lesion", "second"}


@pytest.mark.parametrize(
    "codes", [("0", "1"), ("1", "2"), ("no", "YES"), ("false", "True"), ("neg", "pos"), ("n", "y")]
)
def test_codes_are_noted_where_they_are(tmp_path: Path, codes: tuple[str, str]) -> None:
    zero, one = codes
    dx = {"mel": one, "nev": zero}
    for name in ("train", "test", "other"):
        coded = [row | {"dx": dx[row["dx"]]} for row in tiny.rows(name, 48)]
        write(tmp_path, name, coded)
    for own, expected in ((label([zero], [one]), True), (label([one], [zero]), False)):
        for role in ROLES:
            raw = settings(tmp_path, role, label=own)
            for name in ("train", "test"):
                raw["datasets"][name]["label"] = label([one], [zero])
            found = [note for note in notes(raw) if "inverted" in note]
            assert bool(found) == expected
            assert all("datasets.other" in note and "class" in note for note in found)


def test_what_the_rest_takes_is_noted(tmp_path: Path) -> None:
    for name in ("train", "test", "other"):
        write(tmp_path, name, tiny.rows(name, 48))
    raw = settings(tmp_path, label=label(["nev"]))
    for name in ("train", "test"):
        raw["datasets"][name]["label"] = label(["mel"])
    [*found] = [note for note in notes(raw) if "inverted" in note]
    assert len(found) == 2
    assert all("(and 1 more)" in note for note in found)


@pytest.mark.parametrize("role", ROLES)
def test_a_word_of_different_groups_is_refused(tmp_path: Path, role: str) -> None:
    def sex(**values: Any) -> dict[str, Any]:
        return {"sex": {"column": "s", "values": values}}

    raw = settings(tmp_path, role, attributes=sex(female=["w", "Male"], male=["x"]))
    with pytest.raises(errors.UserError, match=r"attributes\.sex.*'Male'.*group"):
        loaded(raw)
    loaded(settings(tmp_path, role, attributes=sex(female=["w", "Female"], male=["x", "male"])))


def test_codes_of_groups_are_noted(tmp_path: Path) -> None:
    """1 is a woman here and a man there, which may be meant."""
    for name in ("train", "test", "other"):
        rows = [row | {"sex": 1 + (row["sex"] == "male")} for row in tiny.rows(name, 48)]
        write(tmp_path, name, rows)
    for (female, male), expected in (((1, 2), False), ((2, 1), True)):
        raw = settings(tmp_path)
        for name in ("train", "test", "other"):
            values = {"female": [1], "male": [2]}
            if name == "other":
                values = {"female": [female], "male": [male]}
            raw["datasets"][name]["attributes"] = {"sex": {"column": "sex", "values": values}}
        found = [note for note in notes(raw) if "group" in note]
        assert bool(found) == expected


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("ids", ["p{}", "{}", "MRN-00{}"])
def test_ids_that_two_sets_share_are_noted_until_it_is_said_whose(
    tmp_path: Path, role: str, ids: str
) -> None:
    counted = {"train": range(48), "test": range(100, 148), "other": range(40, 88)}
    for name, numbers in counted.items():
        rows = tiny.rows(name, 48)
        people = [row | {"patient": ids.format(n)} for n, row in zip(numbers, rows, strict=True)]
        write(tmp_path, name, people)
    raw = settings(tmp_path, role)
    [note] = [note for note in notes(raw) if " ids " in note]
    assert "8 of 48 patient ids" in note
    assert ("by chance" in note) == (ids == "{}")
    assert "archive:" in note
    for ours, theirs in (("a", "a"), ("a", "b")):
        raw["datasets"]["train"]["archive"], raw["datasets"]["other"]["archive"] = ours, theirs
        raw["datasets"]["test"]["archive"] = "c"
        assert not [note for note in notes(raw) if " ids " in note]


@pytest.mark.parametrize("archive", [{}, {"archive": "h"}])
def test_a_person_in_another_letter_case_leaks_and_zeros_are_noted(
    tmp_path: Path, archive: dict[str, str]
) -> None:
    spelled = {"train": "P{:03}", "test": "p{:03}", "other": "p{}"}
    for name, form in spelled.items():
        rows = tiny.rows(name, 48)
        people = [row | {"patient": form.format(n)} for n, row in enumerate(rows)]
        write(tmp_path, name, people)
    raw = settings(tmp_path)
    for entry in raw["datasets"].values():
        entry |= archive
    report = check.check(loaded(raw), PROJECT, EXPECTED)
    near = "48 patient ids of other and test differ in leading zeros alone, such as 'p0' and 'p000'"
    assert any(near in note for note in report.notes)
    if archive:
        assert report.pools[0].leaks["of_them_of_a_patient_or_lesion_in_a_test_set"] == 48
        return
    assert any("48 of 48 patient ids of test are in train too" in note for note in report.notes)


def test_two_tables_of_one_folder(tmp_path: Path) -> None:
    """The commonest layout: train.csv and test.csv of one folder, of the same people."""
    rows = tiny.rows("train", 48)
    write(tmp_path, "train", rows)
    table = (tmp_path / "train" / "t.csv").read_text()
    (tmp_path / "train" / "test.csv").write_text(table)
    raw = tiny.config(tmp_path, {"t": tiny.table("baseline")})
    raw["datasets"]["test"] = raw["datasets"]["train"] | {"table": "test.csv"}
    report = check.check(loaded(raw), PROJECT, EXPECTED)
    assert any("48 of 48 patient ids of test are in train too" in note for note in report.notes)


@pytest.mark.parametrize("path", sorted((PROJECT / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_settings_name_no_value_twice(path: Path) -> None:
    """Told by plain sets, not by the check itself."""
    config = loaded(yaml.safe_load(path.read_text()))
    for task in config.tasks.values():
        sets = {*task.pool, *itertools.chain(*task.tests.values())}
        of_tables = [config.datasets[name] for name in sets]
        labels = [one.label for one in of_tables if hasattr(one, "label")]
        high = {canonical(value) for one in labels for value in one.positive or ()}
        low = {canonical(value) for one in labels for value in one.negative or ()}
        assert not high & low


@pytest.mark.parametrize("value", ["0", 1, "2.0", -1, "Yes", " no ", True, "T", "Negative", "+"])
def test_codes(value: Any) -> None:
    assert is_code(value)


@pytest.mark.parametrize("value", ["mel", "benign", "M", "none", "", "normal", "no finding", "II"])
def test_words(value: Any) -> None:
    assert not is_code(value)
