"""Keys of somebody's own table and of the made-up population, against plain counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swift_debias.config.schema import Synthetic
from swift_debias.data import adapters
from swift_debias.data.synthetic import population
from swift_debias.errors import UserError

# --- a table --------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two tables of the same four images, with other columns for everything."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in "abcd":
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    first = {
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "other_file": ["d.png", "c.png", "b.png", "a.png"],
        "number": ["1", "2", "3", "4"],
        "finding": ["x", "y", "y", "z"],
        "second_reader": ["y", "y", "x", "x"],
    }
    pd.DataFrame(first).to_csv(folder / "first.csv", index=False)
    pd.DataFrame(first).iloc[:2].to_csv(folder / "second.csv", index=False)
    return folder


def read(root: Path, **changes: Any) -> pd.DataFrame:
    label = {"column": "finding", "positive": ["y"]} | changes.pop("label", {})
    label |= {} if "negative" in label else {"rest_is_negative": True}
    options = {"adapter": "table", "root": str(root), "table": "first.csv", "path": "file"}
    made = adapters.make_options({**options, "label": label, **changes})
    return adapters.read(made, Path()).frame


@pytest.mark.key("table.table", "table.path", "table.image_id")
def test_table_path_and_id(root: Path) -> None:
    assert read(root)["image_id"].tolist() == ["a.png", "b.png", "c.png", "d.png"]
    assert read(root, table="second.csv")["image_id"].tolist() == ["a.png", "b.png"]
    found = read(root, path="other_file")
    assert found["path"].tolist() == ["d.png", "c.png", "b.png", "a.png"]
    assert found["label"].tolist() == [0, 1, 1, 0]
    found = read(root, image_id="number")
    assert found["image_id"].tolist() == ["1", "2", "3", "4"]
    assert found["path"].tolist() == ["a.png", "b.png", "c.png", "d.png"]


@pytest.mark.key("label_column.column", "label_column.positive", "label_column.negative")
def test_the_label_of_a_table(root: Path) -> None:
    assert read(root)["label"].tolist() == [0, 1, 1, 0]
    assert read(root, label={"column": "second_reader"})["label"].tolist() == [1, 1, 0, 0]
    assert read(root, label={"positive": ["x", "z"]})["label"].tolist() == [1, 0, 0, 1]
    found = read(root, label={"negative": ["z"]})
    assert found["image_id"].tolist() == ["b.png", "c.png", "d.png"]
    assert found["label"].tolist() == [1, 1, 0]


@pytest.mark.key("label_column.rest_is_negative", "label_column.unknown")
def test_what_the_rest_is(root: Path) -> None:
    named = read(root, label={"positive": ["y"], "negative": ["x"]})
    assert named["label"].tolist() == [0, 1, 1]  # z is left out
    rest = read(root, label={"positive": ["y"], "rest_is_negative": True})
    assert rest["label"].tolist() == [0, 1, 1, 0]
    rest = read(root, label={"positive": ["y"], "rest_is_negative": True, "unknown": ["z"]})
    assert rest["image_id"].tolist() == ["a.png", "b.png", "c.png"]


@pytest.mark.key("label_column.separator")
def test_several_findings_in_a_cell(root: Path) -> None:
    table = pd.read_csv(root / "first.csv")
    table["finding"] = ["x|w", "y", "w | y", "x|y"]
    table.to_csv(root / "first.csv", index=False)
    label = {"positive": ["y"], "negative": ["x"], "separator": "|"}
    found = read(root, label=label)  # the last is of both classes
    assert dict(zip(found["image_id"], found["label"], strict=True)) == {
        "a.png": 0,
        "b.png": 1,
        "c.png": 1,
    }
    rest = {"positive": ["y"], "rest_is_negative": True}
    assert read(root, label=rest | {"separator": "|"})["label"].tolist() == [0, 1, 1, 1]
    with pytest.raises(
        UserError, match=r"'w \| y' in 2 rows, which holds .* among others: say label\.separator"
    ):
        read(root, label=rest)


@pytest.mark.key("attribute_column.known", "attribute_column.unknown")
def test_a_word_for_unknown_may_be_a_value(root: Path) -> None:
    table = pd.read_csv(root / "first.csv").assign(device=["none", "tube", "NA", "?"])
    table.to_csv(root / "first.csv", index=False)
    for known, expected in (
        ((), [None, "tube", None, None]),
        (("None",), ["none", "tube", None, None]),
    ):
        frame = read(root, attributes={"device": {"column": "device", "known": known}})
        assert [None if pd.isna(v) else v for v in frame["device"]] == expected
    frame = read(root, attributes={"device": {"column": "device", "unknown": ["Tube"]}})
    assert frame["device"].isna().all()


# --- the made-up population -----------------------------------------------------------------------


@pytest.mark.key("synthetic.melanoma", "synthetic.pneumothorax")
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_share_of_the_disease(share: float) -> None:
    config = Synthetic(images={}, melanoma=share, pneumothorax=share)
    skin = population.skin_population("test", [200], 0, config, 0)
    chest = population.chest_population("test", 200, 0, config, 0).iloc[:200]
    assert skin["disease"].sum() == chest["disease"].sum() == round(200 * share)


@pytest.mark.key("synthetic.correlation", "synthetic.test_correlation")
@pytest.mark.parametrize(("pool", "tests"), [(0.0, 0.9), (0.9, 0.3)])
def test_correlation_of_the_pool_and_of_the_test_sets(
    tmp_path: Path, pool: float, tests: float
) -> None:
    """In each class a share of 1/2 + correlation / 3 has the attribute that goes with it."""
    from swift_debias.data import synthetic

    sizes = dict.fromkeys(("mimic_cxr", "nih"), 120)
    config = Synthetic(images=sizes, size=16, correlation=pool, test_correlation=tests, unknown=0)
    for name, correlation in (("mimic_cxr", pool), ("nih", tests)):
        synthetic.write(name, config, 0, tmp_path / name)
        options = adapters.make_options({"adapter": name, "root": str(tmp_path / name)})
        frame = adapters.read(options, Path()).frame.dropna(subset="sex")
        share = (frame["sex"] == "male").groupby(frame["label"]).mean()
        assert abs(share[1] - share[0]) == pytest.approx(2 / 3 * correlation, abs=0.09)


@pytest.mark.key("synthetic.images")
@pytest.mark.parametrize("n", [20, 31])
def test_number_of_images(tmp_path: Path, n: int) -> None:
    from swift_debias.data import synthetic

    synthetic.write("pad_ufes_20", Synthetic(images={"pad_ufes_20": n}, size=16), 0, tmp_path / "d")
    options = adapters.make_options({"adapter": "pad_ufes_20", "root": str(tmp_path / "d")})
    assert len(adapters.read(options, Path()).frame) == n


@pytest.mark.key("synthetic.shift")
def test_colour_cast_of_a_camera() -> None:
    """Blue over red: 0.95 to 1.03 of Fitzpatrick-17k's, 1.01 to 1 of the reference, ISIC 2018's."""

    def blue(shift: float) -> float:
        config = Synthetic(images={}, size=24, shift=shift)
        people = population.skin_population("test", [30], 0, config, 0)
        pictures = population.draw(people, "test", "fitzpatrick17k", config, 0)
        red_green_blue = np.mean([picture.mean(axis=(0, 1)) for picture in pictures], axis=0)
        return red_green_blue[2] / red_green_blue[0]

    assert blue(1) / blue(0) == pytest.approx(0.95 / 1.03 / 1.01, abs=0.03)
