"""What is not of class 0 merely because nothing names it: the same by a config and by a call."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from swift_debias import cli
from swift_debias.data import adapters, columns
from swift_debias.errors import Note, UserError

PROJECT = Path(__file__).resolve().parents[2]
BETWEEN = (
    "|",
    ";",
    ", ",
    "/",
    " + ",
    " & ",
    " and ",
    " ",
    ":",
    " - ",
    "_",
    "\\",
    "、",
    " · ",
    "\t",
)
HIDDEN = [
    *(f"cough{mark}sick" for mark in BETWEEN),
    *(f"Sick{mark}cough" for mark in BETWEEN),
    *("sick?", "sick (mild)", "very sick", "possible sick", "suspected sick", "r/o sick"),
    *("cannot exclude sick", "not well, sick", "no cough; sick", "SICK_NOS", "no sick; sick"),
]
UNSURE = [
    *("uncertain", "Unsure", "indeterminate", "equivocal", "inconclusive", "pending", "TBC"),
    *("to be reviewed", "to_be_confirmed", "not done", "Not determined", "see report", "maybe"),
    *("non-diagnostic", "well?", "(unclear)", "unklar", "possible", "awaiting histology"),
]
REST = [
    *("well", "cough", "no sick", "not sick", "non-sick", "without sick", "no signs of sick"),
    *("negative for sick", "Not_sick", "free of sick", "sickle cell", "homesick", "2", "0.5"),
    *("cough|cold", "no finding", "n", "uncertainty principle", "reviewed", "2020-01-01"),
]  # fmt: skip


def through_config(folder: Path, cells: list[str], **label: Any) -> list[int]:
    """The classes by the workflow's adapter; of the named value first."""
    cells = ["sick", *cells]
    folder.mkdir(exist_ok=True)
    files = [f"{n}.png" for n in range(len(cells))]
    for file in files:
        (folder / file).touch()
    pd.DataFrame({"file": files, "dx": cells}).to_csv(folder / "t.csv", index=False)
    entry = {"adapter": "table", "root": str(folder), "table": "t.csv", "path": "file"}
    entry["label"] = {"column": "dx", "positive": ["sick"], "rest_is_negative": True} | label
    frame = adapters.read(adapters.make_options(entry), folder).frame
    assert len(frame) == len(cells)
    return frame["label"].tolist()[1:]


def through_call(cells: list[Any], positive: Any = "sick") -> list[int]:
    return columns.label_column(pd.Series([positive, *cells], name="dx"), positive).tolist()[1:]


@pytest.mark.parametrize("cell", [*HIDDEN, *UNSURE])
def test_what_looks_like_no_class_0_is_refused_at_both_doors(cell: str, tmp_path: Path) -> None:
    why = "certain" if cell in UNSURE or cell[-1] == "?" else "among others"
    for separator in ({}, {"separator": "#"}, {"contains": True} if cell in UNSURE else {}):
        with pytest.raises(UserError, match=f"in 1 rows, which .*{why}"):
            through_config(tmp_path / "d", [cell, "well"], **separator)
    with pytest.raises(UserError, match=f"row 2: .*{why} .1 rows.; leave them out"):
        through_call([cell, "well"])
    # named as a whole it is what it is said to be
    assert through_config(tmp_path / "d", [cell, "well"], negative=[cell]) == [0, 0]
    assert through_config(tmp_path / "d", [cell], positive=["sick", cell]) == [1]


@pytest.mark.parametrize("cell", REST)
def test_everything_else_is_class_0_at_both_doors(cell: str, tmp_path: Path) -> None:
    assert through_config(tmp_path / "d", [cell]) == through_call([cell]) == [0]


@pytest.mark.parametrize(
    ("positive", "others", "fine"),
    [
        ("1", ["0", "-1"], False), ("1", ["-1.0"], False), ("0", ["1", "-1"], False),
        ("1", ["0", "2"], True), ("sick", ["0", "-1"], True), ("2", ["-1", "3"], True),
    ],
)  # fmt: skip
def test_minus_one_beside_0_and_1(
    positive: str, others: list[str], fine: bool, tmp_path: Path
) -> None:
    cells = [positive, *others]
    doors = (
        lambda: through_config(tmp_path / "d", cells, positive=[positive, "sick"]),
        lambda: through_call(cells, positive),
    )
    for door in doors:
        if fine:
            assert door() == [1, *([0] * len(others))]
        else:
            with pytest.raises(UserError, match=r"-1.* beside 0 and 1 is an uncertain label"):
                door()


@pytest.mark.parametrize("separator", ["|", ";", ", ", "/", None])
def test_a_wrong_separator_makes_no_pneumonia_healthy(separator: str | None) -> None:
    """Of real X-rays, 384 of 500 pneumonias have other findings beside them."""
    label = {"column": "Finding Labels", "positive": ["Pneumonia"], "rest_is_negative": True}
    entry = {"adapter": "table", "root": "resources/samples/nih", "table": "table.csv"}
    entry |= {"path": "file", "image_folder": "images", "label": label}
    if separator is not None:
        label["separator"] = separator
    if separator != "|":
        with pytest.raises(UserError, match=r"'.*\|Pneumonia.*' in 384 rows, .*label\.separator"):
            adapters.read(adapters.make_options(entry), PROJECT)
        return
    frame = adapters.read(adapters.make_options(entry), PROJECT).frame
    table = pd.read_csv(PROJECT / "resources/samples/nih/table.csv").set_index("file")
    expected = table["Finding Labels"].str.split("|").map(lambda words: "Pneumonia" in words)
    assert frame["label"].tolist() == expected[frame["image_id"]].astype(int).tolist()


def test_a_row_that_is_decided_has_nothing_to_refuse(tmp_path: Path) -> None:
    cells = ["sick|very sick", "well|uncertain|sick"]
    assert through_config(tmp_path / "d", cells, separator="|") == [1, 1]


def test_values_that_no_row_has_are_noted() -> None:
    cells = pd.Series(["mel", "bcc", "nev"], name="dx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert columns.label_column(cells, ["mel", "BCC"]).tolist() == [1, 1, 0]
    with pytest.warns(Note, match=r"column 'dx': no row has 'bbc' or 'x' .*; there are 'mel'"):
        columns.label_column(cells, ["mel", "bbc", "x"])


def test_a_command_says_them_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = itertools.product(("mel", "nev"), ("f", "m"), (0.2, 0.7))
    table = pd.DataFrame(rows, columns=["y", "sex", "p"])
    table.to_csv(tmp_path / "t.csv", index=False)
    options = ["--label", "y", "--score", "p", "--group", "sex", "--positive", "mel", "melnoma"]
    assert cli.main(["audit", str(tmp_path / "t.csv"), *options]) == 0
    assert capsys.readouterr().out.count("no row has 'melnoma' (--positive)") == 1
