"""docs/performance.md: made of the JSON in resources/, and of nothing else."""

from __future__ import annotations

import copy
import json
import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from benchmarks import page
from blocks import PROJECT

TEXT = page.PAGE.read_text(encoding="utf-8")
RESOURCES = PROJECT / "resources"
SECTION = re.compile(r"^<!-- (.+): begin -->$(.*?)^<!-- \1: end -->$", re.MULTILINE | re.DOTALL)
SECTIONS = {match[1]: match[2] for match in SECTION.finditer(TEXT)}
ASKED = ("machine", "versions", "rounds", "spread")


def read(name: str) -> Any:
    return json.loads((RESOURCES / f"{name}.json").read_text(encoding="utf-8"))


def cells(section: str) -> list[list[str]]:
    """The rows of a section's tables."""
    rows = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def typed_rows(text: str) -> list[str]:
    """Rows of tables with a number that no section holds."""
    rest = SECTION.sub("", text)
    return [line for line in rest.splitlines() if re.match(r" *\|.*\d", line)]


def typed_numbers(text: str) -> list[str]:
    """Numbers of the prose; names like ResNet-50, bf16 and step 1 are none, nor is code."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|\b[Ss]tep\s+[12]\b", "", SECTION.sub("", text))
    return re.findall(r"(?<![\w.-])\d[\w.,]*", prose)


def test_every_section_is_what_its_json_gives() -> None:
    assert page.written(TEXT, page.read()) == TEXT, "run `make docs`"


def test_no_table_and_no_number_is_typed_by_hand() -> None:
    assert typed_rows(TEXT) == []
    assert typed_numbers(TEXT) == []


def test_a_typed_table_or_number_is_noticed() -> None:
    assert typed_rows(f"{TEXT}\n| ResNet | 4.86 |\n") == ["| ResNet | 4.86 |"]
    assert typed_numbers(f"{TEXT}\nIt is 3.5 times as fast, with ResNet-50 in bf16.\n") == ["3.5"]


def test_what_is_typed_into_a_section_is_written_over() -> None:
    row = "| " + " | ".join(cells("swift")[2]) + " |"
    assert TEXT.count(row) == 1
    typed = TEXT.replace(row, row.replace("2", "9"))
    assert typed != TEXT
    assert page.written(typed, page.read()) == TEXT


def _training(kept: Any) -> None:
    kept["benchmarks"]["reports"]["training_step"]["results"]["resnet50"]["images_per_second"] = 777


def _network(kept: Any) -> None:
    kept["networks"]["results"]["resnet18"]["64"]["both"]["highest"] = 777


def _round(kept: Any) -> None:
    sides = kept["precision"][0]["results"]["networks"]["resnet50"]["rounds"][0]["sides"]
    sides["plain fp32"]["step1"] *= 777


def _row(kept: Any) -> None:
    kept["measured_elsewhere"]["demo"]["rows"][0][1] = 777


def _rounds(kept: Any) -> None:
    del kept["measured_elsewhere"]["demo"]["rounds"]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (_training, "training_step"),
        (_network, "networks"),
        (_round, "precision"),
        (_row, "demo"),
        (_rounds, "demo"),
    ],
)
def test_another_number_makes_another_section(change: Callable[[Any], None], changed: str) -> None:
    kept = page.read()
    change(kept)
    new = {match[1]: match[2] for match in SECTION.finditer(page.written(TEXT, kept))}
    assert [name for name in SECTIONS if new[name] != SECTIONS[name]] == [changed]


def test_every_section_says_where_its_numbers_are_from() -> None:
    for name, text in SECTIONS.items():
        if name != "bench":  # whose sentences are of the tables below
            said = " ".join(text.split())
            unknown = "".join(re.findall(r"Not recorded: ([^.]*)\.", said))
            for asked in ASKED:
                assert f"{asked.capitalize()}: " in said or asked in unknown, (name, asked)


def test_what_is_not_known_is_called_so() -> None:
    entry = {"what": "It", "written": {"date": "2026-01-01", "commit": "abc"}, "rounds": 2}
    said = " ".join(page.elsewhere(entry).split())
    unknown = "Not recorded: machine, versions, spread."
    assert said == f"It. Rounds: 2. {unknown} Written down 2026-01-01 (abc)."


def test_rows_are_those_of_the_json() -> None:
    """Some cells of each source, formatted here."""
    bench = read("benchmarks")["reports"]
    (row,) = [row for row in cells("swift") if row[0].startswith("densenet121")]
    of = bench["swift"]["results"][row[0]]
    low, high = of["ratio"]["lowest"], of["ratio"]["highest"]
    assert row[3] == f"{of['ratio']['median']:.2f} ({low:.2f}-{high:.2f})"
    assert float(row[5]) == pytest.approx(of["projected"]["skin, 20 epochs"])
    assert f"torch {bench['swift']['machine']['torch']}" in SECTIONS["swift"]

    results = read("networks")["results"]
    rows = [row for row in cells("networks") if row[0] == "vit_b_16"]
    for row, size in zip(rows, ("64", "224"), strict=True):
        for cell, way in zip(row[3:], ("minibatch", "per_sample", "both", "autograd"), strict=True):
            of = results["vit_b_16"][size][way]
            assert cell == f"{of['median']:.2f} ({of['lowest']:.2f}-{of['highest']:.2f})"

    for entry, name in ((read("measured_elsewhere")[name], name) for name in ("gpu", "forked")):
        shown = cells(name)[2:]
        assert [[cell.replace(",", "") for cell in row] for row in shown] == [
            [str(value).replace(",", "") for value in row] for row in entry["rows"]
        ]


def test_ratios_of_precision_follow_from_the_stages() -> None:
    """At the epochs that were run nothing is projected: plain over ours of the sums of stages."""
    kept = copy.deepcopy(page.read()["precision"])
    for report in kept:
        for of in report["results"]["networks"].values():
            for one in of["rounds"]:
                one["epochs"] = 20
        of = report["results"]["networks"]["resnet50"]["rounds"]
        ratios = [
            sum(s for name, s in one["sides"]["plain fp32"].items() if name != "reading")
            / sum(one["sides"]["ours auto"].values())
            for one in of
        ]
        (row,) = [r for r in page.tables.precision(report).splitlines() if "| resnet50" in r]
        assert row.split("|")[4].split()[0] == f"{statistics.median(ratios):.2f}"


def test_sections_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(ValueError, match="networks"):
        page.written(TEXT.replace("<!-- networks: begin -->", ""), page.read())
    with pytest.raises(ValueError, match="other"):
        page.written(f"{TEXT}\n<!-- other: begin -->\n<!-- other: end -->\n", page.read())


def test_nothing_names_a_folder_of_a_machine() -> None:
    kept = [RESOURCES / "benchmarks.json", RESOURCES / "networks.json"]
    kept += [RESOURCES / "measured_elsewhere.json", *(RESOURCES / "precision").glob("*.json")]
    for text in (TEXT, *(path.read_text(encoding="utf-8") for path in kept)):
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|mnt|Users)\b", text)
