"""The manifest's schema, its log, and the safe reading of tables and folders."""

from __future__ import annotations

import bisect
import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from swift_debias.config.schema import Attribute
from swift_debias.data import groups, manifest, raw_files, raw_tables
from swift_debias.data.rows import NO_FILE, Rows, parse_ages
from swift_debias.errors import UserError

COLUMNS = ("image", "age", "word")


def write_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def text(*values: str | None) -> pd.Series:
    return pd.Series(list(values), dtype="str")


def valid_frame(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": text(*(f"i{k}" for k in range(n))),
            "path": text(*(f"a/i{k}.jpg" for k in range(n))),
            "label": np.arange(n, dtype=np.int8) % 2,
            "diagnosis": text(*["nevus"] * n),
            "patient_id": text(*[None] * n),
            "lesion_id": text(*[None] * n),
            "sex": text(*["female", "male", None][:n]),
            "age": [30.0, np.nan, 0.5][:n],
            "fitzpatrick": [1.5, 6.0, np.nan][:n],
            "view": text(*[None] * n),
            "split": text(*["train"] * n),
        }
    )


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("zipped", [False, True])
def test_csv_cells_come_back_as_text(
    tmp_path: Path, ending: str, mark: bytes, zipped: bool
) -> None:
    lines = ["image,extra, age ,word", '007,x,12.50,"a, ""b"""', "é,y,,NA", ""]
    content = mark + ending.join(lines).encode()
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    frame = raw_tables.read_table(path, COLUMNS)
    assert frame["image"].tolist() == ["007", "é"]
    assert frame["word"].tolist() == ['a, "b"', "NA"]
    assert frame["age"].iloc[0] == "12.50"
    assert frame["age"].isna().tolist() == [False, True]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Not of a quoted name of a column, and not of the first word of a list."""
    mark = b"\xef\xbb\xbf"
    (tmp_path / "t.csv").write_bytes(mark + b'"image","age","word"\na,1,b\n')
    assert raw_tables.header(tmp_path / "t.csv") == ["image", "age", "word"]
    assert raw_tables.read_table(tmp_path / "t.csv", COLUMNS)["image"].tolist() == ["a"]
    (tmp_path / "list.txt").write_bytes(mark + b"a.png\nb.png\n")
    assert raw_tables.read_words(tmp_path / "list.txt") == ["a.png", "b.png"]


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a", "b"], "age": [3, 4], "word": ["x", None]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(
        raw_tables.read_table(tmp_path / "t.parquet", COLUMNS),
        raw_tables.read_table(tmp_path / "t.csv", COLUMNS),
    )


def test_columns_are_found_under_older_names_and_optional_ones_may_lack(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",fitzpatrick\n0,3\n1,-1\n")
    frame = raw_tables.read_table(
        tmp_path / "t.csv", (("fitzpatrick_scale", "fitzpatrick"),), optional=("qc",)
    )
    assert list(frame) == ["fitzpatrick_scale", "qc"]
    assert frame["fitzpatrick_scale"].tolist() == ["3", "-1"]
    assert frame["qc"].isna().all()


def test_missing_columns_are_listed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,Age\na,1\n")
    with pytest.raises(
        raw_tables.ColumnError, match=r"no column 'age'; did you mean 'Age'\?"
    ) as caught:
        raw_tables.read_table(tmp_path / "t.csv", COLUMNS)
    assert caught.value.missing == ("age", "word")
    assert caught.value.path == tmp_path / "t.csv"


# --- folders --------------------------------------------------------------------------------------


def test_scan_lists_images_and_passes_over_debris(tmp_path: Path) -> None:
    write_files(
        tmp_path, "b/2.JPG", "a/1.jpg", "a/1_superpixels.png", "a/._1.jpg", "__MACOSX/a/1.jpg"
    )
    write_files(tmp_path, "meta.csv", "a/readme.txt", ".hidden/3.jpg")
    folder = raw_files.scan(tmp_path, ignore="_superpixels.png")
    assert folder.images == ["a/1.jpg", "b/2.JPG"]
    assert folder.others == ["a/readme.txt", "meta.csv"]


def test_scan_agrees_with_a_walk(tmp_path: Path) -> None:
    names = [f"d{k % 5}/e{k % 3}/{k}.png" for k in range(60)]
    write_files(tmp_path, *names)
    walked = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert raw_files.scan(tmp_path).images == walked


def test_an_exact_name_beats_letter_case_and_extension(tmp_path: Path) -> None:
    write_files(tmp_path, "x/a.jpg", "y/A.png", "y/c.JPEG")
    folder = raw_files.scan(tmp_path)
    found = folder.find(text("a.jpg", "A.png", "C.png", "c", "none.jpg", None))
    assert found.tolist()[:4] == ["x/a.jpg", "y/A.png", "y/c.JPEG", "y/c.JPEG"]
    assert found.isna().tolist() == [False] * 4 + [True] * 2


def test_a_file_with_a_row_of_its_own_is_not_lent_to_another(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg")
    found = raw_files.scan(tmp_path).find(text("a.jpg", "a.png"))
    assert found.iloc[0] == "a.jpg"
    assert pd.isna(found.iloc[1])


def test_parts_tell_equal_names_apart(tmp_path: Path) -> None:
    write_files(tmp_path, "p1/s1/view1.jpg", "p2/s1/view1.jpg", "p2/s2/view1.jpg")
    folder = raw_files.scan(tmp_path)
    found = folder.find(text("release/train/p2/s1/view1.jpg", "x/p1/s1/view1.jpg"), parts=3)
    assert found.tolist() == ["p2/s1/view1.jpg", "p1/s1/view1.jpg"]
    assert dict(folder.notes())[raw_files.FILES_WITHOUT_ROW] == ["p2/s2/view1.jpg"]


def test_several_files_of_one_name_are_reported(tmp_path: Path) -> None:
    write_files(tmp_path, "jpeg/train/a.jpg", "train/a.jpg")
    folder = raw_files.scan(tmp_path)
    assert folder.find(text("a")).tolist() == ["jpeg/train/a.jpg"]
    notes = dict(folder.notes())
    assert notes["several files of the same name; the first is used"] == ["train/a.jpg"]


def test_ids_with_dots_keep_their_tail(tmp_path: Path) -> None:
    write_files(tmp_path, "1.2.840.11.jpg", "1.2.840.12.jpg")
    assert raw_files.scan(tmp_path).find(text("1.2.840.12")).tolist() == ["1.2.840.12.jpg"]


def test_links_count_only_inside_the_folder(tmp_path: Path) -> None:
    root = write_files(tmp_path / "root", "real.jpg", "sub/2.jpg")
    write_files(tmp_path, "secret.jpg", "elsewhere/3.jpg")
    (root / "inside.jpg").symlink_to("real.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "sub" / "up").symlink_to("..", target_is_directory=True)
    (root / "away").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    os.mkfifo(root / "pipe.jpg")
    folder = raw_files.scan(root)
    assert folder.images == ["inside.jpg", "real.jpg", "sub/2.jpg"]
    assert {path for paths in folder.skipped.values() for path in paths} == {
        "outside.jpg",
        "broken.jpg",
        "loop.jpg",
        "sub/up",
        "away",
        "pipe.jpg",
    }


@pytest.mark.parametrize(
    "name", [b"M\xe9l.jpg", b"Donn\xe9es.zip", b"Ann\xe9e/1.jpg", b"l\xe9.jpg"]
)
def test_names_that_are_no_text_are_named_escaped(tmp_path: Path, name: bytes) -> None:
    """As unpackers of old archives leave them."""
    root = write_files(tmp_path / "root", "1.jpg")
    odd = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
    odd.parent.mkdir(exist_ok=True)
    if name.startswith(b"l"):
        odd.symlink_to("nowhere.jpg")
    else:
        odd.touch()
    folder = raw_files.scan(root)
    assert folder.find(text("1.jpg", "2.jpg")).tolist()[0] == "1.jpg"
    (note,) = [paths for reason, paths in folder.notes() if "not UTF-8" in reason]
    assert note == [name.decode("latin-1").replace("\xe9", "\\xe9")]
    told = " ".join([*folder.hints(), str(folder.no_table("t.csv", "t.csv"))])
    assert told.encode() and "\\xe9" in told and "rename it" in told


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    write_files(tmp_path / "disk", "1.jpg")
    (tmp_path / "data").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert raw_files.scan(tmp_path / "data").images == ["1.jpg"]


def test_tables_are_found_inside_and_beside(tmp_path: Path) -> None:
    root = write_files(tmp_path / "images", "deep/er/Truth.csv", "1.jpg")
    write_files(tmp_path, "Beside.csv.gz", "Archive/Archive.csv")
    folder = raw_files.scan(root)
    assert folder.table("truth.csv").name == "Truth.csv"
    assert folder.optional_table("beside.csv") is None
    assert folder.table("beside.csv", beside=True).name == "Beside.csv.gz"
    assert folder.table("archive.csv", beside=True).parent.name == "Archive"
    with pytest.raises(UserError, match=r"no file 'Trush\.csv'.*did you mean 'Truth\.csv'"):
        folder.table("Trush.csv")


# --- rows -----------------------------------------------------------------------------------------


def rows_of(**columns: list[str | None]) -> Rows:
    return Rows(pd.DataFrame({k: text(*v) for k, v in columns.items()}), "id", "t.csv")


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    folder = raw_files.scan(write_files(tmp_path, "a.jpg", "c.jpg", "z.jpg"))
    rows = rows_of(id=["a", "a", "b", "c", None, "d"], kind=["x", "x", "x", "y", "x", "x"])
    rows.drop(rows.frame["kind"] == "y", "kind y")
    rows.frame["path"] = folder.find(rows.frame["id"])
    rows.frame["image_id"], rows.frame["label"] = rows.frame["id"], 1
    rows.frame["diagnosis"] = "n"
    frame, log = rows.result(folder)
    removed = {rule["rule"]: (rule["removed"], rule["examples"]) for rule in log["rules"]}
    assert removed == {
        "no id": (1, ["row 5"]),
        "repeated row": (1, ["a"]),
        "kind y": (1, ["c"]),
        NO_FILE: (2, ["b", "d"]),
    }
    assert log["rows_read"] - sum(rule["removed"] for rule in log["rules"]) == log["rows_kept"]
    assert frame["image_id"].tolist() == ["a"]
    assert log["notes"] == [
        {"note": raw_files.FILES_WITHOUT_ROW, "count": 2, "examples": ["c.jpg", "z.jpg"]}
    ]
    manifest.validate(frame, "test")


def test_a_row_needs_exactly_one_diagnosis() -> None:
    rows = rows_of(
        id=list("abcde"), MEL=["1", "0", "1.0", "0", None], NV=["0", "1", "1", "0.0", "1"]
    )
    rows.keep_one_diagnosis(("MEL", "NV"))
    assert rows.frame["id"].tolist() == ["a", "b", "e"]
    assert rows.frame["diagnosis"].tolist() == ["MEL", "NV", "NV"]
    assert rows._rules[-1] == {
        "rule": "not exactly one diagnosis",
        "removed": 2,
        "examples": ["c", "d"],
    }


def test_ten_examples_are_enough() -> None:
    rows = rows_of(id=[f"i{k:03d}" for k in range(100)])
    rows.drop(rows.frame["id"] > "i049", "late")
    assert rows._rules[-1]["removed"] == 50
    assert rows._rules[-1]["examples"] == [f"i{k:03d}" for k in range(50, 60)]


def test_contradicting_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"t\.csv: 1 values of 'id'.*first is 'a'.*'sex'"):
        rows_of(id=["a", "b", "a"], sex=["f", "f", "m"], same=["1", "2", "1"])


def test_join_looks_up_and_notes_the_unmatched(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("id,age\nb,5\nb,5\nz,9\n")
    rows = rows_of(id=["a", "b"])
    rows.join(tmp_path / "more.csv", on="id", required=("id", "age"))
    assert rows.frame["age"].tolist()[1] == "5"
    assert pd.isna(rows.frame["age"].iloc[0])
    assert rows._notes == [{"note": "no row in more.csv", "count": 1, "examples": ["a"]}]
    (tmp_path / "more.csv").write_text("id,age\nb,5\nb,6\n")
    with pytest.raises(UserError, match="contradict"):
        rows_of(id=["a", "b"]).join(tmp_path / "more.csv", on="id", required=("id", "age"))


@pytest.mark.parametrize(
    ("given_text", "years"),
    [("58", 58), ("58.5", 58.5), ("058Y", 58), ("006M", 0.5), ("0", 0), (" 7y ", 7), ("411Y", 411)],
)
def test_ages_in_all_units(given_text: str, years: float) -> None:
    assert parse_ages(text(given_text)).iloc[0] == pytest.approx(years)


def test_days_and_weeks_are_fractions_of_a_year() -> None:
    days, weeks = parse_ages(text("003D", "52W"))
    assert days == pytest.approx(3 / 365.25)
    assert weeks == pytest.approx(364 / 365.25)


def test_impossible_ages_are_unknown_and_counted() -> None:
    rows = rows_of(id=list("abcdef"), age=["50", "unknown", None, "155", "-1", "0"])
    ages = rows.ages("age")
    assert ages.isna().tolist() == [False, True, True, True, True, False]
    assert [note["count"] for note in rows._notes] == [1, 2, 1]  # unknown, impossible, 0
    assert rows.ages("age", zero_is_unknown=True).isna().sum() == 5


def test_sexes_are_words_of_the_vocabulary() -> None:
    rows = rows_of(id=list("abcdef"), sex=["F", "male", " Female", "Unknown", None, "M"])
    expected = ["female", "male", "female", "-", "-", "male"]
    assert rows.sexes("sex").fillna("-").tolist() == expected
    assert rows._notes[0]["count"] == 1


# --- the finished manifest ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("image_id", "i1", "image_id is used twice"),
        ("image_id", None, "no image_id"),
        ("diagnosis", None, "no diagnosis"),
        ("path", "/etc/passwd", "plain path"),
        ("path", "a/../../b.jpg", "plain path"),
        ("path", "a//b.jpg", "plain path"),
        ("label", 2, "neither 0 nor 1"),
        ("sex", "Female", "neither 'female' nor 'male'"),
        ("age", 130.0, "not within 0 to 120"),
        ("fitzpatrick", 0.0, "not within 1 to 6"),
    ],
)
def test_validate_names_what_is_wrong(column: str, value: object, message: str) -> None:
    frame = valid_frame()
    manifest.validate(frame, "good")
    frame.loc[0, column] = value
    with pytest.raises(UserError, match=f"manifest of bad: .*{message}"):
        manifest.validate(frame, "bad")


def test_validate_wants_every_column_and_its_type() -> None:
    with pytest.raises(UserError, match="no column 'view'"):
        manifest.validate(valid_frame().drop(columns="view"), "d")
    with pytest.raises(UserError, match="'label' is int64, not int8"):
        manifest.validate(valid_frame().astype({"label": "int64"}), "d")


def test_writing_is_lossless_and_repeatable(tmp_path: Path) -> None:
    frame = valid_frame().assign(scanner=text("A", None, "é"), dose=[1.0, np.nan, 2.5])
    result = manifest.ManifestResult(frame, {"rows_read": 3, "rules": []})
    for name in "ab":
        manifest.write(result, "d", tmp_path / f"{name}.parquet", tmp_path / f"{name}.json")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(manifest.read(tmp_path / "a.parquet"), frame)


def test_an_empty_manifest_is_refused_with_its_rules(tmp_path: Path) -> None:
    log = {
        "rows_read": 7,
        "rules": [
            {"rule": "lateral view", "removed": 0, "examples": []},
            {"rule": NO_FILE, "removed": 7, "examples": ["a", "b"]},
        ],
    }
    result = manifest.ManifestResult(valid_frame().head(0), log)
    with pytest.raises(UserError, match=r"none of 7 rows is left.*no image file: 7 \(such as a, b"):
        manifest.write(result, "d", tmp_path / "m.parquet", tmp_path / "m.json")


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.key("attribute.groups")
def test_groups_compare_numbers_as_numbers_and_words_without_case() -> None:
    tone = Attribute(column="fitzpatrick", groups={"light": (1, 1.5, 2, 3), "dark": (4, 5, 5.5, 6)})
    values = pd.Series([1, 1.5, 3, 3.5, 4, 6, np.nan])
    assert groups.group_index(values, tone).tolist() == [0, 0, 0, -1, 1, 1, -1]
    assert groups.group_index(text("1", "5.50", "x", None), tone).tolist() == [0, 1, -1, -1]
    sex = Attribute(column="sex", groups={"f": ("female",), "m": ("male", "M")})
    index = groups.group_index(text("Female", "m", " male ", "other"), sex)
    assert index.tolist() == [0, 1, 1, -1]
    assert index.dtype == np.int16
    implant = Attribute(column="implant", groups={"no": ("false",), "yes": ("TRUE",)})
    assert groups.group_index(pd.Series([True, False]), implant).tolist() == [1, 0]


@pytest.mark.key("attribute.cuts")
@given(
    st.lists(st.one_of(st.just(np.nan), st.floats(0, 9), st.integers(0, 9).map(float)), min_size=1),
    st.lists(st.integers(1, 9), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_cuts_put_a_value_on_a_cut_into_the_upper_group(
    values: list[float], cuts: list[int]
) -> None:
    names = tuple(map(str, range(len(cuts) + 1)))
    attribute = Attribute(column="age", cuts=tuple(cuts), names=names)
    expected = [-1 if np.isnan(v) else bisect.bisect_right(cuts, v) for v in values]
    assert groups.group_index(pd.Series(values, dtype="float64"), attribute).tolist() == expected


def test_sixty_five_is_old() -> None:
    age = Attribute(column="age", cuts=(65,), names=("younger", "older"))
    values = pd.Series([64.9, 65, np.nan, 0])
    assert groups.group_index(values, age).tolist() == [0, 1, -1, 0]


def test_mistaken_groups_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"'1\.0' is in two groups"):
        Attribute(column="c", groups={"a": (1,), "b": ("1.0",)})
    cut = Attribute(column="c", cuts=(5,), names=("a", "b"))
    with pytest.raises(UserError, match="cuts need numbers, but there is 'old'"):
        groups.group_index(text("3", "old"), cut)


def test_matches_has_no_nulls() -> None:
    hits = groups.matches(text("1.0", "TRUE", None, "0", "b_1"), (1, "B_1"))
    assert hits.tolist() == [True, True, False, False, True]
    assert hits.dtype == bool


def test_skin_types_are_one_to_six() -> None:
    given = ["1", "6", "3.5", "0", "7", "-1", "III", None]
    frame = pd.DataFrame({"id": list("abcdefgh"), "type": given}, dtype="str")
    rows = Rows(frame, "id", "x.csv")
    types = rows.skin_types("type")
    np.testing.assert_equal(types.to_numpy(), [1, 6, 3.5, *[np.nan] * 3, 3, np.nan])
