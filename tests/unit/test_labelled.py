"""labelled.py: rows with label and group, against what is written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from swift_debias.config.schema import Attribute
from swift_debias.data.labelled import read_labelled, with_skin_tone
from swift_debias.files import write_parquet

LIGHT = Attribute(column="fitzpatrick", groups={"light": (1, 2, 3), "dark": (4, 5, 6)})


def write(folder: Path, name: str, columns: dict[str, list[Any]], errors: dict[int, str]) -> Path:
    """A manifest and the index of its images; rows of `errors` could not be read."""
    n = len(columns["label"])
    ids = [f"{place}" for place in range(n)]  # the same ids in every data set
    patients = [f"{name}{place // 2}" for place in range(n - 1)] + [None]
    rows = pd.DataFrame({"image_id": ids, "patient_id": patients, **columns})
    rows = rows.astype({"patient_id": "str", "label": "int8"})
    write_parquet(rows, folder / f"{name}.manifest")
    error = [errors.get(place) for place in range(n)]
    index = pd.DataFrame({"row": range(n), "image_id": ids, "error": error})
    write_parquet(index, folder / f"{name}.index")
    return folder / f"{name}.manifest"


def tones(folder: Path, name: str, values: dict[str, float | None]) -> Path:
    path = folder / f"{name}.parquet"
    frame = pd.DataFrame({"image_id": list(values), "ita": 0.0, "fitzpatrick": values.values()})
    write_parquet(frame.astype({"fitzpatrick": float}), path)
    return path


def read(folder: Path, names: list[str], skin_tones: list[Path], attribute: Attribute) -> list:
    found = read_labelled(
        names,
        [str(folder / f"{name}.manifest") for name in names],
        [str(folder / f"{name}.index") for name in names],
        [str(path) for path in skin_tones],
        attribute,
    )
    assert list(found.columns) == ["dataset", "image_id", "patient_id", "label", "group"]
    assert list(map(str, found.dtypes)) == ["str", "str", "str", "int8", "int16"]
    assert found.index.tolist() == list(range(len(found)))
    known = found.astype({"patient_id": object}).where(found.notna(), None)
    return list(known.itertuples(index=False, name=None))


def test_rows_groups_and_order(tmp_path: Path) -> None:
    """In the order of the data sets given; unreadable images are no rows."""
    ages = [20.0, 40.0, 39.9, 60.0, None, 90.0]
    write(tmp_path, "zeta", {"label": [1, 0, 1, 0, 1, 0], "age": ages}, {1: "damaged"})
    write(tmp_path, "alpha", {"label": [0, 1], "age": [65.0, 3.0]}, {})
    attribute = Attribute(column="age", cuts=(40, 60), names=("young", "middle", "old"))
    assert read(tmp_path, ["zeta", "alpha"], [], attribute) == [
        ("zeta", "0", "zeta0", 1, 0),
        ("zeta", "2", "zeta1", 1, 0),
        ("zeta", "3", "zeta1", 0, 2),  # a value on a cut is in the upper group
        ("zeta", "4", "zeta2", 1, -1),
        ("zeta", "5", None, 0, 2),
        ("alpha", "0", "alpha0", 0, 2),
        ("alpha", "1", None, 1, 0),
    ]


def test_groups_are_numbered_in_their_order_and_other_values_are_in_none(tmp_path: Path) -> None:
    write(tmp_path, "one", {"label": [0, 1, 1], "sex": ["male", "female", None]}, {})
    groups = {"male": ("male",), "female": ("female",)}
    swapped = {"female": ("female",), "male": ("male",)}
    for order, expected in ((groups, [0, 1, -1]), (swapped, [1, 0, -1])):
        found = read(tmp_path, ["one"], [], Attribute(column="sex", groups=order))
        assert [row[4] for row in found] == expected
    only = Attribute(column="sex", groups={"female": ("female",), "other": ("other",)})
    assert [row[4] for row in read(tmp_path, ["one"], [], only)] == [-1, 0, -1]


def test_measured_skin_tones_fill_what_the_source_does_not_say(tmp_path: Path) -> None:
    own = {"label": [0, 1, 1, 0], "fitzpatrick": [None, 2.0, 5.0, None]}
    write(tmp_path, "one", own, {2: "damaged"})
    write(tmp_path, "two", {"label": [1, 1], "fitzpatrick": [None, None]}, {})
    measured = [
        tones(tmp_path, "two", {"1": 1.0, "0": 6.0}),
        tones(tmp_path, "one", {"3": None, "1": 6.0, "0": 4.0}),
    ]
    found = read(tmp_path, ["one", "two"], measured, LIGHT)
    assert [row[4] for row in found] == [1, 0, -1, 1, 0]  # of "one" the annotated type stays
    # without measurements, or with those of another set only
    assert [row[4] for row in read(tmp_path, ["one", "two"], [], LIGHT)] == [-1, 0, -1, -1, -1]
    found = read(tmp_path, ["one", "two"], measured[:1], LIGHT)
    assert [row[4] for row in found] == [-1, 0, -1, 1, 0]


def test_with_skin_tone_keeps_rows_columns_and_order(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "dataset": ["b", "a", "b"],
            "image_id": ["2", "1", "1"],
            "fitzpatrick": [None, 3.0, None],
            "more": [7, 8, 9],
        }
    )
    files = [tones(tmp_path, "b", {"1": 1.0, "2": 2.0, "9": 5.0})]
    found = with_skin_tone(frame, files)
    assert found["fitzpatrick"].tolist() == [2.0, 3.0, 1.0]
    pd.testing.assert_frame_equal(
        found.drop(columns="fitzpatrick"), frame.drop(columns="fitzpatrick"), check_dtype=False
    )
    assert with_skin_tone(frame, []) is frame


def test_a_tone_measured_twice_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"dataset": ["b"], "image_id": ["1"], "fitzpatrick": [None]})
    path = tones(tmp_path, "b", {"1": 1.0})
    with pytest.raises(pd.errors.MergeError):
        with_skin_tone(frame, [path, path])
