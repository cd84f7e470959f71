"""Drawn tables of one kind of bias: the recorded against the known truth, counted by hand."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.adversarial import settings_world as world
from tests.keys.conftest import changed

from swift_debias.config.schema import Population, Synthetic
from swift_debias.data import synthetic
from swift_debias.data.synthetic import kinds

KINDS = ("correlation", "imbalance", "class_imbalance", "underdiagnosis", "label_noise")
KINDS += ("acquisition",)
STRENGTHS = (0.0, 0.3, 0.5, 0.9, 1.0)
SEED = 5
HALF = 0.5 + 1e-9  # counts are rounded


def settings(**populations: dict) -> Synthetic:
    return Synthetic(size=16, melanoma=0.4, populations=populations)


def draw(folder: Path, name: str, own: Synthetic) -> list[dict[str, str]]:
    """The rows of a drawn table."""
    synthetic.write(name, own, SEED, folder / name)
    with (folder / name / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels(folder: Path, name: str, file: str) -> np.ndarray:
    with Image.open(folder / name / "images" / file) as image:
        return np.asarray(image).astype(int)


def bias(kind: str, strength: float) -> dict:
    return {"kind": kind, "strength": strength}


def counted(of: Population, rate: float) -> tuple[Counter, Counter]:
    """How many have (truth, group), and how many of these are labelled otherwise."""
    own = Synthetic(melanoma=rate)
    people = kinds.people(of, own, SEED)
    rows = list(zip(people.disease.astype(int), people.group, people.label, strict=True))
    cells = Counter((truth, group) for truth, group, _ in rows)
    return cells, Counter((truth, group) for truth, group, label in rows if label != truth)


@pytest.mark.key("bias.kind", "bias.strength", "population.images")
@pytest.mark.parametrize("kind", KINDS)
def test_proportions(kind: str) -> None:
    """Of many sizes, rates and strengths: the shares that the kind is defined by, and no other."""
    for strength in STRENGTHS:
        for images in (8, 101, 1500):
            for rate in (0.3, 0.5):
                of = Population(people="a", images=images, bias=bias(kind, strength))
                cells, wrong = counted(of, rate)
                assert sum(cells.values()) == images
                truth = {y: cells[y, 0] + cells[y, 1] for y in (0, 1)}
                if kind != "class_imbalance":
                    assert abs(truth[1] - rate * images) <= HALF
                # P(group 1 | class), and how far a count may be from it by rounding
                dark = {0: 0.5, 1: 0.5}
                if kind == "correlation":
                    dark = {1: (1 + strength) / 2, 0: 1 - (1 + strength) / 2}
                if kind == "imbalance":
                    dark = dict.fromkeys((0, 1), (1 - strength) / 2)
                if kind == "class_imbalance":
                    # the other three cells are to each other as in the clean population
                    assert abs(cells[0, 0] - cells[0, 1]) <= 1
                    assert abs(cells[1, 0] * (1 - rate) - cells[0, 0] * rate) <= 1
                    assert abs(cells[1, 1] - (1 - strength) * cells[1, 0]) <= 2
                else:
                    for label in (0, 1):
                        assert abs(cells[label, 1] - dark[label] * truth[label]) <= HALF
                expected = {(1, 1)} if kind == "underdiagnosis" else set()
                expected |= {(0, 1), (1, 1)} if kind == "label_noise" else set()
                for cell, n in cells.items():
                    share = strength / 2 if cell in expected else 0
                    assert abs(wrong[cell] - share * n) <= (HALF if share else 0)


def test_without_bias_nothing_is_wrong_and_all_is_balanced() -> None:
    for images in (8, 50, 200, 800, 3200):
        cells, wrong = counted(Population(people="t", images=images), 0.5)
        assert not any(wrong.values())
        assert max(cells.values()) - min(cells.values()) <= 1
        for kind in KINDS:  # strength 0 is the same set
            of = Population(people="t", images=images, bias=bias(kind, 0))
            assert counted(of, 0.5) == (cells, wrong)


@pytest.mark.key("population.people")
def test_sets_share_whom_they_can(tmp_path: Path) -> None:
    """Pictures of one person are the same in all sets but where the camera is biased."""
    own = settings(
        clean={"people": "pool", "images": 60},
        larger={"people": "pool", "images": 120},
        tied={"people": "pool", "images": 60, "bias": bias("correlation", 0.5)},
        noisy={"people": "pool", "images": 60, "bias": bias("label_noise", 0.5)},
        noisier={"people": "pool", "images": 60, "bias": bias("label_noise", 1)},
        shifted={"people": "pool", "images": 60, "bias": bias("acquisition", 1)},
        test={"people": "test", "images": 60},
    )
    rows = {name: draw(tmp_path, name, own) for name in own.populations}
    files = {name: {row["file"]: row for row in table} for name, table in rows.items()}
    assert {len(table) for name, table in files.items() if name != "larger"} == {60}
    assert set(files["clean"]) < set(files["larger"])
    assert set(files["clean"]) == set(files["noisy"]) == set(files["shifted"])
    assert not set(files["test"]) & set(files["larger"])
    # of a tied pool, whoever stays in a cell that shrinks is of the clean pool
    here = [file for file, row in files["tied"].items() if (row["truth"] == "1") ^ (
        row["group"] == "dark")]  # fmt: skip
    assert here
    assert set(here) <= set(files["clean"])
    for name in ("larger", "tied", "noisy"):
        for file in sorted(set(files[name]) & set(files["clean"])):
            assert np.array_equal(pixels(tmp_path, name, file), pixels(tmp_path, "clean", file))
            assert files[name][file]["truth"] == files["clean"][file]["truth"]
    wrong = {
        name: {file for file, row in files[name].items() if row["label"] != row["truth"]}
        for name in files
    }
    assert wrong["noisy"] < wrong["noisier"]
    assert {name for name, some in wrong.items() if some} == {"noisy", "noisier"}
    for file, row in files["shifted"].items():
        same = np.array_equal(pixels(tmp_path, "shifted", file), pixels(tmp_path, "clean", file))
        assert same == (row["group"] == "light")
    # the same settings and seed, the same bytes
    synthetic.write("tied", own, SEED, tmp_path / "again")
    for path in sorted((tmp_path / "tied").rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(tmp_path / "tied")
        assert again.read_bytes() == path.read_bytes()


def test_the_camera_moves_with_the_strength(tmp_path: Path) -> None:
    """More noise and less detail the stronger the shift; colours drift to yellow."""
    names = {f"s{s}": bias("acquisition", s / 10) for s in (0, 5, 10)}
    own = settings(
        **{name: {"people": "p", "images": 40, "bias": of} for name, of in names.items()}
    )
    distance, yellow = [], []
    clean: dict[str, np.ndarray] = {}
    for name in names:
        dark = [row["file"] for row in draw(tmp_path, name, own) if row["group"] == "dark"]
        drawn = {file: pixels(tmp_path, name, file) for file in dark}
        clean = clean or drawn
        distance.append(np.mean([np.abs(drawn[f] - clean[f]).mean() for f in dark]))
        yellow.append(np.mean([drawn[f][..., 0].mean() / drawn[f][..., 2].mean() for f in dark]))
    assert distance == sorted(distance)
    assert yellow == sorted(yellow)
    assert distance[2] > distance[1] + 1 > distance[0] + 2


def test_the_core_feature_is_independent_of_group_and_recorded_label() -> None:
    """Given the truth, no kind changes the lesion: means by group differ by chance alone."""
    for kind in KINDS:
        of = Population(people="p", images=4000, bias=bias(kind, 0.6))
        people = kinds.people(of, Synthetic(melanoma=0.5), SEED)
        for truth, rows in people.groupby("disease"):
            for by in ("group", "label"):
                parts = [part.severity.to_numpy(float) for _, part in rows.groupby(by)]
                error = np.sqrt(sum(part.var() / len(part) for part in parts))
                assert np.ptp([part.mean() for part in parts]) < 4 * error, (kind, truth, by)


def test_what_cannot_be_drawn_is_refused() -> None:
    drawn = {"people": "p", "images": 40}

    def said(name: str, entry: dict, **others: dict) -> str:
        message = world.read(changed({"synthetic": {"populations": {name: entry}}} | others))
        assert isinstance(message, str), "it was taken"
        world.assert_one_line_each(message, f"synthetic.populations.{name}")
        return message

    assert "there is no data set of that name; did you mean 'north'" in said("nort", drawn)
    isic = {"adapter": "isic2017", "root": "data/isic2017"}
    refused = said("other", drawn, **{"datasets.other": isic})
    assert "datasets.other.adapter must be 'table'" in refused
    for wrong in ({"strength": 1.1}, {"strength": -0.1}, {"kind": "corelation"}):
        entry = drawn | {"bias": bias("correlation", 0.5) | wrong}
        assert f"populations.east.bias.{next(iter(wrong))}" in said("east", entry)
