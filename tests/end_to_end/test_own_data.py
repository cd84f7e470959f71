"""`config/own_data.yaml`: the bundled real images go the whole road.

Only that it works is checked: a few hundred small images prove nothing about any method.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
SAMPLES = PROJECT / "resources" / "samples"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, snakemake) -> Path:
    directory = tmp_path_factory.mktemp("own")
    (directory / "resources").symlink_to(PROJECT / "resources")
    config = directory / "own.yaml"
    config.write_text(
        "extends: config/own_data.yaml\n"
        "tasks:\n"
        "  lesion: {pretraining: {epochs: 2}, images: {size: 32}}\n"
        "  chest: {pretraining: {epochs: 2}, images: {size: 32}}\n"
        "experiments:\n"
        "  table1:\n"
        "    methods: [baseline, swift]\n"
        "    panels:\n"
        "      - {task: lesion, backbone: small, attribute: sex}\n"
        "      - {task: chest, backbone: small, attribute: age}\n"
    )
    targets = ["results/own_data/data_check.txt", "results/own_data/summary.txt"]
    snakemake(directory, "--cores", "2", "--configfile", str(config), "--", *targets)
    return directory / "results" / "own_data"


@pytest.mark.ci
def test_every_image_of_the_tables_is_accounted_for(run: Path) -> None:
    for dataset, sample, part in (
        ("pad", "pad_ufes_20", "train"),
        ("pad_test", "pad_ufes_20", "test"),
        ("xray", "nih", "train"),
        ("xray_test", "nih", "test"),
    ):
        table = pd.read_csv(SAMPLES / sample / "table.csv")
        frame = pd.read_parquet(run / "manifests" / f"{dataset}.parquet")
        assert set(frame.image_id) == set(table[table.part == part].file)
        log = json.loads((run / "manifests" / f"{dataset}.log.json").read_text())
        assert log["rows_read"] == len(table)
        assert log["rows_read"] - sum(rule["removed"] for rule in log["rules"]) == len(frame)


@pytest.mark.ci
def test_cached_pixels_are_the_real_ones(run: Path) -> None:
    pixels = np.load(run / "images" / "pad.npy", mmap_mode="r")
    index = pd.read_parquet(run / "images" / "pad.parquet")
    assert index.error.isna().all()
    for row in (0, len(index) // 2, len(index) - 1):
        image = Image.open(SAMPLES / "pad_ufes_20" / "images" / index.image_id[row]).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        expected = image.resize(pixels.shape[1:3], Image.Resampling.BILINEAR, box=box)
        difference = np.abs(pixels[row].astype(int) - np.asarray(expected).astype(int))
        assert difference.mean() < 3


@pytest.mark.ci
def test_real_duplicates_are_found(run: Path) -> None:
    """PAD-UFES-20 holds pictures twice under two lesions' names."""
    pairs = pd.read_parquet(run / "cohorts" / "lesion.duplicates.parquet")
    found = {frozenset(pair) for pair in zip(pairs.image_id_a, pairs.image_id_b, strict=True)}
    pool = set(pd.read_csv(SAMPLES / "pad_ufes_20" / "table.csv").file)
    known = [
        {"PAT_56_86_479.jpg", "PAT_56_88_274.jpg"},
        {"PAT_701_4056_457.jpg", "PAT_701_1321_156.jpg"},
    ]
    expected = [pair for pair in known if pair <= pool]
    assert expected
    assert all(frozenset(pair) in found for pair in expected)


@pytest.mark.ci
def test_the_table_has_all_methods(run: Path) -> None:
    table = pd.read_csv(run / "tables" / "table1.csv")
    assert set(table.method) == {"baseline", "swift"}
    assert set(table.dataset) == {"pad_test", "xray_test"}
    assert table[table.metric == "auc"]["mean"].between(0, 1).all()
    assert (run / "summary.txt").read_text().count("SWiFT") >= 2
