"""Malformed tables and paths: every one ends in a clear error or in a counted exclusion.

Malformed images (zero bytes, HTML saved as .jpg, bombs) are in the tests of the image cache.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from swift_debias.data import adapters, manifest, raw_files, raw_tables, rows
from swift_debias.errors import UserError

HEADER = "path,label,sex"
GOOD = f"{HEADER}\na.jpg,1,f\nb.jpg,0,m\nc.jpg,1,f\n"
OPTIONS = {
    "adapter": "table",
    "root": "root",
    "table": "t.csv",
    "path": "path",
    "label": {"column": "label", "positive": ["1"], "negative": ["0"]},
    "attributes": {"sex": {"column": "sex"}},
}

Spoil = Callable[[Path], None]


def put(content: str | bytes, name: str = "t.csv") -> Spoil:
    """Replace the table."""
    data = content.encode() if isinstance(content, str) else content

    def spoil(root: Path) -> None:
        (root / "t.csv").unlink()
        (root / name).write_bytes(data)

    return spoil


def link(name: str, target: str) -> Spoil:
    """Replace an image by a symbolic link."""

    def spoil(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(target)

    return spoil


def remove_table(root: Path) -> None:
    (root / "t.csv").unlink()


def folder_loop(root: Path) -> None:
    (root / "again").symlink_to(".", target_is_directory=True)


def unpacked_twice(root: Path) -> None:
    (root / "copy").mkdir()
    for name in "abc":
        (root / "copy" / f"{name}.jpg").touch()


def read(tmp_path: Path, spoil: Spoil) -> manifest.ManifestResult:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").touch()
    for name in "abc":
        (root / f"{name}.jpg").touch()
    (root / "t.csv").write_text(GOOD)
    spoil(root)
    result = adapters.read(adapters.make_options(OPTIONS), tmp_path)
    manifest.write(result, "test", tmp_path / "m.parquet", tmp_path / "m.json")
    return result


# What is malformed -> the error that says so.
ERRORS: dict[str, tuple[Spoil, str]] = {
    "no table": (
        remove_table,
        r"no file 't\.csv' .key `table`. in .*; the folder holds 3 \.jpg",
    ),
    "empty file": (put(""), r"t\.csv: is empty"),
    "only blank lines": (put("\n\n\n"), r"t\.csv: is empty"),
    "only a header": (put(HEADER + "\n"), r"t\.csv: has no rows"),
    "missing column": (put("path,sex\na.jpg,f\n"), r"no column 'label'; valid: path, sex"),
    "renamed column": (put(GOOD.replace("label", "labels")), r"did you mean 'labels'\?"),
    "other letter case": (put(GOOD.replace("label", "Label")), r"did you mean 'Label'\?"),
    "column twice": (put(GOOD.replace("sex", "label")), r"two columns are named 'label'"),
    "semicolons": (put(GOOD.replace(",", ";")), "is separated by semicolons; save it with commas"),
    "tabs": (put(GOOD.replace(",", "\t")), "is separated by tabs"),
    "semicolons, and a comma in a name": (
        put(GOOD.replace(",", ";").replace("sex", "sex, at birth")),
        "is separated by semicolons; save it with commas",
    ),
    "semicolons, and decimal commas": (
        put(GOOD.replace(",", ";").replace(";f", ";0,5").replace(";m", ";1,5")),
        "is separated by semicolons; save it with commas",
    ),
    "UTF-16": (put(GOOD.encode("utf-16")), "line 1: not UTF-8 text"),
    "Latin-1": (put((GOOD + "é.jpg,1,f\n").encode("latin-1")), "line 5: not UTF-8.*CSV UTF-8"),
    "web page": (put("<!DOCTYPE html>\n<html>log in</html>\n"), "is a web page"),
    "short row": (put(GOOD + "d.jpg,1\n"), r"line 5: 2 fields, but the header has 3"),
    "long row": (put(GOOD + "d,1,f,x\n"), r"line 5: 4 fields, but the header has 3"),
    "unquoted comma in the first row": (
        put(f"{HEADER}\na,b.jpg,1,f\n"),
        r"line 2: 4 fields, but the header has 3",
    ),
    "quote never closed": (put(GOOD + '"d.jpg,1,f\n'), "line 5: unexpected end of data"),
    "contradicting duplicates": (
        put(GOOD + "a.jpg,0,f\n"),
        r"'path' have rows that contradict each other, the first is 'a\.jpg' \(different 'label'\)",
    ),
    "labels misspelt": (put(GOOD.replace("1", "one")), r"label\.positive: no row has 1.*'one'"),
    "no image anywhere": (put(GOOD.replace(".jpg", "/x")), "none of 3 rows is left.*no image file"),
    "every path absolute": (
        put(GOOD.replace("\na", "\n/a").replace("\nb", "\n/b").replace("\nc", "\n/c")),
        "none of 3 rows is left.*path is absolute or leaves the image folder: 3",
    ),
}

# What is malformed -> the rule or note that counts it, how many, and which images stay.
COUNTED: dict[str, tuple[Spoil, str, int, list[str]]] = {
    "repeated row": (put(GOOD + "a.jpg,1,f\n"), "repeated row", 1, ["a", "b", "c"]),
    "no id": (put(GOOD + ",1,f\n"), "no path", 1, ["a", "b", "c"]),
    "image missing": (put(GOOD + "d.jpg,1,f\n"), rows.NO_FILE, 1, ["a", "b", "c"]),
    "traversal": (
        put(GOOD.replace("c.jpg", "../secret.jpg")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "hidden traversal": (
        put(GOOD.replace("c.jpg", "x/../../secret.jpg")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "windows traversal": (
        put(GOOD.replace("c.jpg", "..\\secret.jpg")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "absolute path": (
        put(GOOD.replace("c.jpg", "/etc/passwd")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "windows drive": (
        put(GOOD.replace("c.jpg", "C:\\c.jpg")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "NUL in a path": (
        put(GOOD.replace("c.jpg", "c.jpg\0")),
        "path is absolute or leaves the image folder",
        1,
        ["a", "b"],
    ),
    "web address": (put(GOOD.replace("c.jpg", "https://x/c.jpg")), rows.NO_FILE, 1, ["a", "b"]),
    "no label": (
        put(GOOD.replace("c.jpg,1", "c.jpg,")),
        "label is none of the classes' values",
        1,
        ["a", "b"],
    ),
    "link loop": (
        link("c.jpg", "c.jpg"),
        "symbolic link that is broken or loops",
        1,
        ["a", "b"],
    ),
    "broken link": (
        link("c.jpg", "gone.jpg"),
        "symbolic link that is broken or loops",
        1,
        ["a", "b"],
    ),
    "link out of the folder": (
        link("c.jpg", "../secret.jpg"),
        "symbolic link that leaves the data set's folder (not followed)",
        1,
        ["a", "b"],
    ),
    "folder loop": (
        folder_loop,
        "symbolic link to a folder (not followed)",
        1,
        ["a", "b", "c"],
    ),
    "unpacked twice": (unpacked_twice, raw_files.FILES_WITHOUT_ROW, 3, ["a", "b", "c"]),
    "sex unreadable": (
        put(GOOD.replace("c.jpg,1,f", "c.jpg,1,?")),
        "sex is neither female nor male; unknown",
        1,
        ["a", "b", "c"],
    ),
}

# Unusual but harmless: nothing is lost.
HARMLESS: dict[str, Spoil] = {
    "as it should be": put(GOOD),
    "byte order mark": put(b"\xef\xbb\xbf" + GOOD.encode()),
    "Windows line ends": put(GOOD.replace("\n", "\r\n")),
    "no last line end": put(GOOD.rstrip("\n")),
    "quoted": put('"path","label","sex"\n"a.jpg","1","f"\n"b.jpg","0","m"\n"c.jpg","1","f"\n'),
    "spaces in the header": put(GOOD.replace("path,label", " path , label")),
    "empty trailing column": put(GOOD.replace("\n", ",\n")),
    "empty cells behind the last column": put(GOOD.replace("f\n", "f,,\n")),
    "blank lines": put(GOOD.replace("\nb", "\n\nb")),
    "numbers with a point": put(GOOD.replace(",1,", ",1.0,")),
    "./ before the path": put(GOOD.replace("\na", "\n./a")),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_clear_error(tmp_path: Path, case: str) -> None:
    spoil, message = ERRORS[case]
    with pytest.raises(UserError, match=message):
        read(tmp_path, spoil)
    assert not (tmp_path / "m.parquet").exists()


@pytest.mark.parametrize("case", COUNTED)
def test_a_counted_exclusion(tmp_path: Path, case: str) -> None:
    spoil, reason, number, kept = COUNTED[case]
    frame, log = read(tmp_path, spoil)
    counts = {rule["rule"]: rule["removed"] for rule in log["rules"]}
    counts.update({note["note"]: note["count"] for note in log["notes"]})
    assert counts[reason] == number
    assert list(frame["path"]) == [f"{name}.jpg" for name in kept]
    removed = sum(rule["removed"] for rule in log["rules"])
    assert log["rows_read"] - removed == log["rows_kept"] == len(kept)


@pytest.mark.parametrize("case", HARMLESS)
def test_nothing_lost(tmp_path: Path, case: str) -> None:
    frame, log = read(tmp_path, HARMLESS[case])
    assert list(frame["path"]) == ["a.jpg", "b.jpg", "c.jpg"]
    assert list(frame["label"]) == [1, 0, 1]
    assert list(frame["sex"]) == ["female", "male", "female"]
    assert not any(rule["removed"] for rule in log["rules"])


def test_a_damaged_archive_and_a_false_parquet_file_are_named(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD.encode() * 200)
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "false.csv.gz").write_text(GOOD)
    (tmp_path / "false.parquet").write_text(GOOD)
    for name in ("cut.csv.gz", "false.csv.gz", "false.parquet"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            raw_tables.read_table(tmp_path / name, ("path",))


def test_a_parquet_file_without_the_column(tmp_path: Path) -> None:
    pd.DataFrame({"Path": ["a"], "label": [1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(raw_tables.ColumnError, match=r"did you mean 'Path'\?"):
        raw_tables.read_table(tmp_path / "t.parquet", ("path", "label"))


def test_roots_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="is a file, not a folder"):
        raw_files.scan(tmp_path / "file")
    for name in ("nowhere", "loop"):
        with pytest.raises(UserError, match="no such folder"):
            raw_files.scan(tmp_path / name)
