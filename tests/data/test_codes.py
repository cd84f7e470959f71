"""Codes for 'not known' among numbers, and several spellings of one group."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swift_debias import cli
from swift_debias.api import ImageSet
from swift_debias.data import adapters, columns
from swift_debias.data.values import codes_among
from swift_debias.errors import Note, UserError

OF_NUMBERS = [
    ([22, 31, 45, -9, 999], {-9, 999}), ([0, 1, 99, -99], {99, -99}), ([1, 2, 9, -9], {9, -9}),
    ([0.5, 1.5, 888], {888}), ([1, 2, 3, 4, 5, 9], set()), ([60, 70, 99], set()),
    ([-3, 2, -9], set()), ([-1, 1], {-1}), ([9, 99], set()), ([1, 9], set()), ([-1, 0.5], {-1}),
    ([10, 20, 77], {77}), ([10, 20, 78], set()), ([-20, -30, 9, 999], {9, 999}), ([], set()),
]  # fmt: skip


@pytest.mark.parametrize(("numbers", "codes"), OF_NUMBERS)
def test_codes_lie_far_outside_the_others(numbers: list[float], codes: set[float]) -> None:
    assert codes_among(numbers) == codes


def test_codes_of_a_number_are_noted_and_stay(tmp_path: Path) -> None:
    cells = ["22,5", "31", "45", "-9", "999", "27.5"]
    for n in range(6):
        (tmp_path / f"{n}.png").touch()
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(6)], "y": [0, 1] * 3, "b": cells})
    table.to_csv(tmp_path / "t.csv", index=False)
    entry = {"adapter": "table", "root": str(tmp_path), "table": "t.csv", "path": "file"}
    entry |= {"label": {"column": "y", "positive": [1], "negative": [0]}}

    def read(**bmi: Any) -> tuple[list[float], list[int]]:
        given = {"attributes": {"bmi": {"column": "b", "kind": "number"} | bmi}}
        result = adapters.read(adapters.make_options(entry | given), tmp_path)
        said = "bmi is -9 or 999, far outside the other numbers; if that says 'not known', name it"
        found = [n["count"] for n in result.log["notes"] if n["note"].startswith(said)]
        return result.frame["bmi"].dropna().tolist(), found

    assert read() == ([31, 45, -9, 999, 27.5], [2])
    assert read(unknown=[-9, 999]) == ([31, 45, 27.5], [])


def table_of(path: Path, **cells: Any) -> pd.DataFrame:
    n = np.arange(80)
    frame = pd.DataFrame({"y": n % 2, "p": n % 7 / 7, "sex": "F"}).assign(**cells)
    frame.to_csv(path, index=False)
    return frame


def audit(path: Path, *more: str, group: str = "sex") -> pd.Series:
    options = ["--label", "y", "--score", "p", "--group", group, *more, "--force"]
    assert cli.main(["audit", str(path), *options]) == 0
    return pd.read_csv(path.with_suffix(".audit.csv")).set_index("metric")["value"]


def test_codes_of_cut_numbers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_of(tmp_path / "t.csv", bmi=[22, 35, -9, 999] * 20)
    found = audit(tmp_path / "t.csv", "--cuts", "30", group="bmi")
    assert (found["n[below 30]"], found["n[from 30]"]) == (40, 40)
    said = "40 rows of column 'bmi' hold -9 or 999, far outside the other numbers, and are cut"
    assert said in capsys.readouterr().out


SPELLED = ["F", "female", " f", "Female", "M", "m", "Male", "male"]


def test_spellings_of_a_sex_are_one_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table_of(tmp_path / "t.csv", sex=SPELLED * 10)
    found = audit(tmp_path / "t.csv")
    assert (found["n[female]"], found["n[male]"]) == (40, 40)
    assert sum(name.startswith("n[") for name in found.index) == 2
    assert "column 'sex': 'F' and 'female' are one group, 'female'" in capsys.readouterr().out
    # of one spelling each the groups are called as they are written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert columns.group_column(pd.Series(["F", "f", "male"]))[1] == ("F", "male")
    with pytest.warns(Note, match="'M' and 'male' are one group, 'male'"):
        index, names = columns.group_column(pd.Series(["M", "male", "O", "F"]))
    assert names == ("F", "male", "O") and index.tolist() == [1, 1, 2, 0]


def test_codes_are_no_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_of(tmp_path / "t.csv", sex=[1, 2, 9, -9] * 20)
    found = audit(tmp_path / "t.csv")
    assert [name for name in found.index if name.startswith("n[")] == ["n[1]", "n[2]"]
    assert found["n_unknown"] == 40
    assert "40 rows of column 'sex' hold -9 or 9: of no known group" in capsys.readouterr().out
    images, y = np.zeros((80, 4, 4, 3), np.uint8), np.arange(80) % 2
    with pytest.warns(Note, match="hold 99: of no known group"):
        made = ImageSet.from_arrays(images, y, [0, 1, 1, 99] * 20)
    assert made.group_names == ("0", "1") and (made.groups < 0).sum() == 20
    named, names = columns.group_column(pd.Series([1, 2, 9]), {"a": [1, 9], "b": [2]})
    assert named.tolist() == [0, 1, 0] and names == ("a", "b")
    index, _ = columns.group_values(np.array([0, 1, 9]), list("abcdefghij"))
    assert index.tolist() == [0, 1, 9]


def test_a_value_of_a_group_that_no_row_has_is_noted() -> None:
    sex = pd.Series(["female", "male", "female", "unknown"], name="sex")
    said = "column 'sex': no row has 'man' of group 'm'; in no group are 'male' .1 rows"
    with pytest.warns(Note, match=said):
        columns.tell_groups(sex, {"w": ["female"], "m": ["man"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns.tell_groups(sex, {"w": ["Female"], "m": ["male"]})
    with pytest.raises(UserError, match="give one of them"):
        columns.group_column(sex, {"w": ["female"], "m": ["man"]}, [3])
