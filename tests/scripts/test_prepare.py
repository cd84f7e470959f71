"""The scripts that prepare data, on small folders; what is expected is counted in plain pandas."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from prepared import MANIFEST, DataSet, seed_of, write_data_set, write_json, write_parquet
from tests.written import write_cache

from swift_debias.run.job import last_error

TONE = {"column": "fitzpatrick", "groups": {"light": [1, 2, 3], "dark": [4, 5, 6]}}
SEX = {"column": "sex", "groups": {"female": ["female"], "male": ["male"]}}
AGE = {"column": "age", "cuts": [40, 60], "names": ["young", "middle", "old"]}


def write_table(folder: Path, rows: pd.DataFrame) -> dict[str, Any]:
    """A user's data set `mine`: a table and an image a row; returns its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "table.csv", index=False)
    for number, name in enumerate(rows["file"]):
        Image.new("RGB", (8, 8), (9 * number, 40, 200)).save(folder / name)
    return {
        "adapter": "table",
        "root": folder.name,
        "table": "table.csv",
        "path": "file",
        "label": {"column": "finding", "positive": ["benign"], "negative": ["melanoma"]},
        "attributes": {"sex": {"column": "gender"}},
    }


FINDINGS = pd.DataFrame(
    {
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "finding": ["benign", "melanoma", None, "benign"],
        "gender": ["F", "m", "f", "?"],
    }
)

# --- from raw folders to manifests and caches -----------------------------------------------------


@pytest.mark.parametrize("invert", [False, True])
def test_build_manifest(run: Callable[..., str], tmp_path: Path, invert: bool) -> None:
    settings = write_table(tmp_path / "mine", FINDINGS)
    said = run(
        "build_manifest.py",
        output={"manifest": "manifests/mine.parquet", "log": "manifests/mine.log.json"},
        params={"dataset": settings, "places": {}, "invert_labels": invert},
        wildcards={"dataset": "mine"},
    )
    found = pd.read_parquet(tmp_path / "manifests/mine.parquet")
    assert found["image_id"].tolist() == found["path"].tolist() == ["a.png", "b.png", "d.png"]
    assert found["label"].tolist() == ([0, 1, 0] if invert else [1, 0, 1])
    assert found["sex"].tolist()[:2] == ["female", "male"] and found["sex"].isna().tolist()[2]
    log = json.loads((tmp_path / "manifests/mine.log.json").read_text())
    assert (log["rows_read"], log["rows_kept"]) == (4, 3)
    assert "4 rows read, 3 images kept" in said and "tables: table.csv\n" in said
    assert "label is none of the classes' values: 1" in said


def test_build_manifest_shows_a_users_mistake_without_a_traceback(
    run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_table(tmp_path / "mine", FINDINGS) | {"table": "other.csv"}
    with pytest.raises(SystemExit) as end:
        run(
            "build_manifest.py",
            output={"manifest": "mine.parquet", "log": "mine.log.json"},
            params={"dataset": settings, "places": {}, "invert_labels": False},
            wildcards={"dataset": "mine"},
        )
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert "error in build_manifest" in shown and "other.csv" in shown
    assert "Traceback" not in shown + (tmp_path / "logs/build_manifest.py.log").read_text()


def manifest_of(paths: list[str]) -> pd.DataFrame:
    rows = pd.DataFrame(dict.fromkeys(MANIFEST, [None] * len(paths)))
    return rows.assign(image_id=[Path(path).stem for path in paths], path=paths, label=np.int8(1))


@pytest.mark.key("images.size", "images.channels", "images.max_broken")
@pytest.mark.parametrize("channels", [1, 3])
def test_cache_images(run: Callable[..., str], tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    (tmp_path / "raw/deep").mkdir(parents=True)
    paths = ["b.png", "deep/a.png", "gone.png"]
    for path, image in zip(paths[:2], pixels, strict=False):
        Image.fromarray(image).save(tmp_path / "raw" / path)
    manifest = write_parquet(tmp_path / "m.parquet", manifest_of(paths))
    job: dict[str, Any] = {
        "input": {"raw": [], "manifest": manifest},
        "output": {"pixels": "images/mine.npy", "index": "images/mine.parquet"},
        "threads": 2,
    }
    images = {"size": 9, "channels": channels, "max_broken": 0.4}
    run("cache_images.py", params={"root": "raw", "images": images}, **job)
    found = np.load(tmp_path / "images/mine.npy")
    index = pd.read_parquet(tmp_path / "images/mine.parquet")
    assert index["image_id"].tolist() == ["b", "a", "gone"]
    assert index["error"].isna().tolist() == [True, True, False]
    if channels == 3:
        assert (found[:2] == pixels[:2]).all()
    else:
        grey = pixels[:2] @ np.array([0.299, 0.587, 0.114])
        assert np.abs(found[:2, ..., 0] - grey).max() <= 1
    assert not found[2].any()
    with pytest.raises(SystemExit):
        images["max_broken"] = 0.3
        run("cache_images.py", params={"root": "raw", "images": images}, **job)


def lab(rgb: tuple[int, int, int]) -> tuple[float, float]:
    """L* and b* of an sRGB colour (D65)."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    z = (0.0193 * linear[0] + 0.1192 * linear[1] + 0.9505 * linear[2]) / 1.089
    return 116 * y ** (1 / 3) - 16, 200 * (y ** (1 / 3) - z ** (1 / 3))


@pytest.mark.key("skin_tone.size", "skin_tone.remove_hair")
def test_annotate_skin_tone(run: Callable[..., str], tmp_path: Path) -> None:
    skins = [(250, 230, 200), (222, 184, 150), (198, 150, 110), (120, 80, 50), (0, 0, 0)]
    one = write_data_set(tmp_path, "mine", {"label": [0] * 5}, broken=[4])
    pixels = np.empty((5, 64, 64, 3), np.uint8)
    pixels[:] = np.array(skins, np.uint8)[:, None, None]
    broken = [None] * 4 + ["damaged"]
    write_cache(one.pixels, list(one.frame["image_id"]), pixels, broken)

    def measure(**options: Any) -> pd.DataFrame:
        run(
            "annotate_skin_tone.py",
            input={"pixels": one.pixels, "index": one.index},
            output={"tones": "skin_tone/mine.parquet", "sheet": "skin_tone/mine.png"},
            wildcards={"dataset": "mine"},
            params={"skin_tone": options},
        )
        return pd.read_parquet(tmp_path / "skin_tone/mine.parquet")

    found = measure(size=32)
    assert found["image_id"].tolist() == one.frame["image_id"].tolist()[:4]  # the last is broken
    bounds = (55, 41, 28, 19, 10)  # Del Bino's: above the first is type 1, below the last type 6
    for row, skin in zip(found.itertuples(), skins, strict=False):
        light, yellow = lab(skin)
        angle = math.degrees(math.atan((light - 50) / yellow))
        assert row.ita == pytest.approx(angle, abs=0.5)
        assert row.fitzpatrick == 1 + sum(angle <= bound for bound in bounds)
    assert found["fitzpatrick"].nunique() >= 3
    pixels[1, ::4] = 20  # hair all over the second picture
    write_cache(one.pixels, list(one.frame["image_id"]), pixels, broken)
    with_hair, without = measure(size=64, remove_hair=False), measure(size=64, remove_hair=True)
    assert with_hair["ita"][1] < found["ita"][1] - 5
    assert without["ita"][1] == pytest.approx(found["ita"][1], abs=0.5)
    assert abs(measure(size=32, remove_hair=False)["ita"][1] - with_hair["ita"][1]) > 0.01


@pytest.mark.key("synthetic.size")
def test_synthesize(run: Callable[..., str], tmp_path: Path) -> None:
    def draw(name: str, seed: int) -> dict[str, bytes]:
        settings = {"images": {"pad_ufes_20": 20, "ddi": 29}, "size": 16, "unknown": 0.0}
        run(
            "synthesize.py",
            output=[name],
            params={"drawn": {"name": "pad_ufes_20", "settings": settings}, "seed": seed},
        )
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}

    first = draw("one", 3)
    assert first == draw("again", 3)
    assert first != draw("other", 4)
    [table] = [name for name in first if name.endswith(".csv")]
    rows = pd.read_csv(tmp_path / "one" / table)
    files = {Path(name).name for name in first}
    assert sum(rows["img_id"].isin(files)) == 20
    with Image.open(next((tmp_path / "one").rglob(rows["img_id"][0]))) as image:
        assert min(image.size) == 16


def test_check_data(
    run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = {
        "kind": "table",
        "title": "A view",
        "panels": [{"task": "skin", "backbone": "net", "attribute": "sex"}],
    }
    cells = [(dx, sex) for dx in ("benign", "melanoma") for sex in "FM" for _ in range(4)]
    enough = pd.DataFrame(cells, columns=["finding", "gender"])  # for two folds
    enough["file"] = [f"{row}.png" for row in range(len(enough))]
    settings = {
        "run": "mine",
        "folds": 2,
        "datasets": {
            "train": write_table(tmp_path / "train", enough),
            "test": write_table(tmp_path / "test", FINDINGS),
        },
        "attributes": {"sex": SEX},
        "tasks": {
            "skin": {
                "train": ["train"],
                "tests": {"sex": ["test"]},
                "positive": "melanoma",
                "negative": "benign",
                "pretraining": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 1}},
                "finetuning": {"min_cell": 1},
            }
        },
        "backbones": {"net": {"architecture": "small_resnet"}},
        "methods": {},
        "experiments": {"table1": view},
    }
    expected = tmp_path / "expected.yaml"
    expected.write_text(
        "datasets:\n  table:\n    {title: T, url: U, licence: L, folder: F, paper: 7, counts: {}, "
        "source: S}\npools: []\n"
    )
    job: dict[str, Any] = {
        "input": {"raw": [], "expected": expected},
        "output": {"json": "data_check.json", "text": "data_check.txt"},
        "params": {"settings": settings, "seen": {"train": "seen.gz", "test": "seen.gz"}},
    }
    said = run("check_data.py", **job)
    found = json.loads((tmp_path / "data_check.json").read_text())
    assert found["ok"] and "table1: can run" in said
    assert {one["name"]: one["rows_read"] for one in found["datasets"]} == {"train": 16, "test": 4}
    assert found["datasets"][0]["origin"]["url"] == "U"
    told: dict[str, Any] = {
        "input": {"json": "data_check.json", "text": "data_check.txt"},
        "output": ["data_suffices.txt"],
    }
    run("data_suffices.py", **told)
    assert (tmp_path / "data_suffices.txt").is_file()
    (tmp_path / "test/table.csv").unlink()
    run("check_data.py", **job)
    (tmp_path / "data_suffices.txt").unlink()
    with pytest.raises(SystemExit):
        run("data_suffices.py", **told)
    assert "table1: cannot run" in capsys.readouterr().err
    log = tmp_path / "logs/data_suffices.py.log"  # its last line is what a run ends with
    assert last_error(log).startswith("error: table1: cannot run: test: ")
    assert not (tmp_path / "data_suffices.txt").exists()
    # what is missing is told in both files
    assert not json.loads((tmp_path / "data_check.json").read_text())["ok"]
    assert "table1: cannot run" in (tmp_path / "data_check.txt").read_text()


def test_find_duplicates(run: Callable[..., str], tmp_path: Path) -> None:
    """Who is compared with whom: ids within an archive, bytes everywhere, lists of the root."""

    def write(name: str, ids: list[str], bytes_: list[str], patients: list[str]) -> DataSet:
        one = write_data_set(tmp_path, name, {"label": [1] * len(ids), "patient_id": patients})
        frame = one.frame.assign(image_id=ids)
        index = pd.read_parquet(one.index).assign(image_id=ids, sha256=bytes_)
        rng = np.random.default_rng([*name.encode()])
        index["phash"] = [rng.bytes(32) for _ in ids]
        index["phash_quality"] = 100
        index["bits"], index["contrast"] = [None if name == "new" else 12] * len(ids), 200
        write_parquet(one.manifest, frame)
        write_parquet(one.index, index)
        return one

    old = write("old", ["i", "j", "k", "m"], ["s1", "s2", "s3", "s9"], ["p", "q", "r", "p"])
    new = write("new", ["i", "l", "n", "o"], ["s4", "s5", "s6", "s7"], ["p", "p", "q", "t"])
    test = write("test", ["j", "x"], ["s8", "s3"], ["p", "p"])
    listed = pd.DataFrame({"image_name_1": ["l"], "image_name_2": ["o"]})
    (tmp_path / "roots/new").mkdir(parents=True)
    listed.to_csv(tmp_path / "roots/new/ISIC_2020_Training_Duplicates.csv", index=False)

    def search(duplicates: dict[str, Any], by_patient: bool) -> tuple[dict[str, str], dict]:
        run(
            "find_duplicates.py",
            input={
                "train_manifests": [old.manifest, new.manifest],
                "train_images": [old.index, new.index],
                "test_manifests": [test.manifest],
                "test_images": [test.index],
            },
            output={
                "cohort": "cohorts/skin.parquet",
                "duplicates": "cohorts/skin.duplicates.parquet",
                "log": "cohorts/skin.log.json",
            },
            params={
                "train": ["old", "new"],
                "tests": ["test"],
                "sources": {
                    "old": ["isic", False],
                    "new": ["isic", True],
                    "test": [None, False],
                },
                "roots": {name: f"roots/{name}" for name in ("old", "new", "test")},
                "duplicates": duplicates,
                "external": [],
                "group_by_patient": by_patient,
                "tie": None,
            },
        )
        cohort = pd.read_parquet(tmp_path / "cohorts/skin.parquet")
        names = cohort["dataset"] + "/" + cohort["image_id"]
        log = json.loads((tmp_path / "cohorts/skin.log.json").read_text())
        return dict(zip(names, cohort["cluster"], strict=True)), log

    # old/k has the bytes of a test image; i is in both; l and o are a listed pair
    kept, log = search({}, True)
    assert set(kept) == {"old/j", "old/m", "new/i", "new/n", "new/o"}
    assert log["removed"] == {"test_leak": 1, "same_id": 1, "listed": 1}
    assert log["bits_of_16_bit_images"] == {"old": 12, "test": 12}
    pairs = pd.read_parquet(tmp_path / "cohorts/skin.duplicates.parquet")
    assert set(pairs["kind"]) == {"test_leak", "same_id", "listed"}
    # patients p (old/m, new/i, and new/l that left for o) and q bind; the test set's p does not
    assert kept["old/m"] == kept["new/i"] == kept["new/o"] != kept["old/j"] == kept["new/n"]
    first, _ = search({"keep": "first"}, False)
    assert set(first) == {"old/i", "old/j", "old/m", "new/l", "new/n"}
    assert len(set(first.values())) == 5


# --- folds and external sets ----------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path: Path) -> pd.DataFrame:
    """4 images of each label, sex and tone in two data sets; `north` does not know the tone."""
    cells = itertools.product((0, 1), ("female", "male"), (2.0, 5.0), range(4))
    rows = pd.DataFrame(cells, columns=["label", "sex", "fitzpatrick", "number"])
    rows["age"] = [30.0, 40.0, 59.0, 60.0] * 8
    rows["dataset"] = np.where(rows.pop("number") < 2, "north", "south")
    rows = rows.sample(frac=1, random_state=5, ignore_index=True).astype({"label": "int8"})
    rows["image_id"] = [f"{row:02d}" for row in range(len(rows))]
    rows["cluster"] = rows["dataset"] + "/" + rows["image_id"]
    north = rows["dataset"] == "north"
    measured = rows.loc[north, ["image_id", "fitzpatrick"]].sample(frac=1, random_state=6)
    write_parquet(tmp_path / "skin_tone/north.parquet", measured.assign(ita=0.0))
    known = rows.assign(fitzpatrick=rows["fitzpatrick"].mask(north))
    write_parquet(tmp_path / "cohort.parquet", known)
    return rows  # with the tones of all


def fold_files(tmp_path: Path) -> dict[str, Any]:
    return {
        "cohort": tmp_path / "cohort.parquet",
        "skin_tone": [tmp_path / "skin_tone/north.parquet"],
    }


def test_make_folds(run: Callable[..., str], tmp_path: Path, cohort: pd.DataFrame) -> None:
    def cut(**split: int) -> pd.Series:
        run(
            "make_folds.py",
            input=fold_files(tmp_path),
            output=["folds/skin.parquet"],
            params={"attributes": {"sex": SEX, "tone": TONE}, "split": split},
        )
        folds = pd.read_parquet(tmp_path / "folds/skin.parquet")
        assert folds["image_id"].tolist() == cohort["image_id"].tolist()
        return folds["fold"]

    found = cut(folds=4, seed=1)
    # one image of every (label, sex, tone) in every fold: both attributes stratify, measured too
    sizes = cohort.assign(fold=found).groupby(["fold", "label", "sex", "fitzpatrick"]).size()
    assert sizes.tolist() == [1] * (4 * 8)
    assert (cut(folds=4, seed=1) == found).all()
    assert (cut(folds=4, seed=2) != found).any()
    assert sorted(cut(folds=2, seed=1).unique()) == [0, 1]


def externals(
    run: Callable[..., str], tmp_path: Path, cohort: pd.DataFrame, attribute: dict, **params: Any
) -> list[pd.DataFrame]:
    """External sets of two folds, which alternate row by row."""
    folds = cohort[["image_id", "dataset"]].assign(fold=np.arange(len(cohort)) % 2)
    write_parquet(tmp_path / "folds.parquet", folds.sample(frac=1, random_state=0))
    run(
        "make_external.py",
        input=fold_files(tmp_path) | {"folds": [tmp_path / "folds.parquet"]},
        output=[f"external/fold{fold}.parquet" for fold in (0, 1)],
        params={"attribute": attribute, "min_cell": 1, "seed": 0} | params,
        wildcards={"task": "skin", "attribute": "mine"},
    )
    return [pd.read_parquet(tmp_path / f"external/fold{fold}.parquet") for fold in (0, 1)]


@pytest.mark.key("attribute.column")
def test_make_external(run: Callable[..., str], tmp_path: Path, cohort: pd.DataFrame) -> None:
    found = externals(run, tmp_path, cohort, TONE)
    for fold, external in enumerate(found):
        rows = cohort.iloc[fold::2]
        assert external["image_id"].tolist() == rows["image_id"].tolist()
        assert external["dataset"].tolist() == rows["dataset"].tolist()
        assert external["label"].tolist() == rows["label"].tolist()
        assert external["attribute"].tolist() == (rows["fitzpatrick"] > 3).astype(int).tolist()
        sizes = external.groupby(["label", "attribute"]).size()
        balanced = external[external.balanced].groupby(["label", "attribute"]).size()
        for label in (0, 1):
            assert balanced[label].tolist() == [sizes[label].min()] * 2
        # drawn anew for every fold, from what names the set
        rng = np.random.default_rng(seed_of(0, "external", "skin", "mine", fold))
        expected = np.zeros(len(external), bool)
        for label in (0, 1):
            for group in (0, 1):
                of_label, of_group = external.label == label, external.attribute == group
                chosen = rng.permutation(np.flatnonzero(of_label & of_group))
                expected[chosen[: sizes[label].min()]] = True
        assert (external["balanced"] == expected).all()
    # of the smallest cell as many as there are is enough, one more is not
    smallest = min(e.groupby(["label", "attribute"]).size().min() for e in found)
    externals(run, tmp_path, cohort, TONE, min_cell=int(smallest))
    with pytest.raises(SystemExit):
        externals(run, tmp_path, cohort, TONE, min_cell=int(smallest) + 1)


@pytest.mark.key("attribute.column")
def test_make_external_of_three_groups_balances_those_that_are_large_enough(
    run: Callable[..., str], tmp_path: Path, cohort: pd.DataFrame
) -> None:
    counts = set()
    for min_cell in (1, 2, 3, 99):
        for fold, external in enumerate(externals(run, tmp_path, cohort, AGE, min_cell=min_cell)):
            ages = cohort["age"].iloc[fold::2]  # a value on a cut is in the upper group
            assert external["attribute"].tolist() == [int(a >= 40) + int(a >= 60) for a in ages]
            cells = external.groupby(["label", "attribute"]).size()
            large = [g for g in range(3) if min(cells[y, g] for y in (0, 1)) >= min_cell]
            counts.add(len(large))
            balanced = external[external.balanced].groupby(["label", "attribute"]).size()
            assert balanced.to_dict() == (
                {(y, g): min(cells[y, other] for other in large) for y in (0, 1) for g in large}
                if len(large) > 1
                else {}
            )
    assert counts == {0, 1, 2, 3}


# --- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["papers pool", "another pool", "synthetic"])
def test_set_sizes(
    run: Callable[..., str], tmp_path: Path, cohort: pd.DataFrame, case: str
) -> None:
    pool = {"adapters": ["north", "south"], "paper": 30, "note": "As the paper says."}
    pool |= {"paper_train": 15, "paper_validation": 17, "paper_external": {"tone": 12}}
    other = pool | {"adapters": ["south", "north"], "paper": 1, "note": "No."}
    expected = write_json(tmp_path / "expected.yaml", {"pools": [other, pool]})
    fold = np.arange(len(cohort)) % 2
    folds = cohort[["image_id", "dataset"]].assign(fold=fold.astype("int16"))
    external = {}
    for name, column in (("tone", "fitzpatrick"), ("sex", "sex")):
        for number in (0, 1):
            rows = cohort[fold == number]
            frame = rows[["image_id", "dataset", "label"]].assign(
                attribute=rows[column].isin([5.0, "male"]).astype("int16"),
                balanced=np.arange(len(rows)) < 5 + number,
            )
            path = tmp_path / f"external/skin/{name}/fold{number}.parquet"
            external[name, number] = write_parquet(path, frame)
    run(
        "set_sizes.py",
        input=fold_files(tmp_path)
        | {
            "folds": write_parquet(tmp_path / "folds.parquet", folds),
            "external": list(external.values()),
            "expected": expected,
        },
        output={"csv": "folds/skin.sizes.csv", "md": "folds/skin.sizes.md"},
        params={
            "adapters": ["north"] if case == "another pool" else ["north", "south"],
            "attributes": {"tone": TONE, "sex": SEX},
            "synthetic": case == "synthetic",
        },
    )
    sizes = pd.read_csv(tmp_path / "folds/skin.sizes.csv", dtype={"label": str})
    text = (tmp_path / "folds/skin.sizes.md").read_text()

    def row(**wanted: Any) -> pd.Series:
        mask = np.ones(len(sizes), bool)
        for column, value in ({"group": "all", "label": "all"} | wanted).items():
            mask &= (sizes[column] == value).to_numpy()
        [position] = np.flatnonzero(mask)
        return sizes.iloc[position]

    whole = {"attribute": "all"}
    assert row(set="pool", **whole)["n"] == 32
    assert (
        row(set="train", fold=1, **whole)["n"] == row(set="validation", fold=0, **whole)["n"] == 16
    )
    dark = cohort[(fold == 1) & (cohort["fitzpatrick"] > 3) & (cohort["label"] == 1)]
    place = {"fold": 1, "attribute": "tone", "group": "dark", "label": "1"}
    assert row(set="validation", **place)["n"] == row(set="external", **place)["n"] == len(dark)
    assert row(set="balanced", fold=1, attribute="tone")["n"] == 6
    assert row(set="balanced", fold=0, attribute="sex")["n"] == 5
    if case == "papers pool":
        assert row(set="pool", **whole)[["paper", "difference"]].tolist() == [30, 2]
        assert row(set="train", fold=0, **whole)["difference"] == 1
        assert row(set="validation", fold=0, **whole)["difference"] == -1
        assert row(set="balanced", fold=1, attribute="tone")["difference"] == -6
        assert np.isnan(row(set="balanced", fold=1, attribute="sex")["paper"])
        assert "As the paper says." in text
    else:
        assert sizes["paper"].isna().all()
        assert "As the paper says." not in text
    assert "| pool" in text
