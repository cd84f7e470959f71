"""A run of a user's own table of tiny images, as small as a run can be.

Two hundred noisy squares in which label and sex show, one task, one small network. `config` gives
its settings as a dictionary, for a test to change.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RUN = Path("results/tiny")
SIZE = 16  # pixels a side
PANEL = {"task": "lesion", "backbone": "small", "attribute": "sex"}
ALGORITHMS = ("baseline", "bmft", "bn_recalibrate", "dfr", "diffgda", "diffprune", "fairprune")
ALGORITHMS += ("fullft", "llft", "ssd", "swift", "threshold_optimizer")

Row = Mapping[str, Any]


def rows(name: str, number: int) -> list[dict[str, Any]]:
    """A table: label, sex and age group are independent, a patient has one image."""
    kinds = itertools.cycle(itertools.product((30, 50, 70), ("female", "male"), ("mel", "nev")))
    return [
        {"file": f"{name}{n:03d}.png", "patient": f"{name}_{n}", "dx": dx, "sex": sex, "age": age}
        for n, (age, sex, dx) in zip(range(number), kinds, strict=False)
    ]


def write_set(folder: Path, table: Iterable[Row]) -> None:
    """The folder of a data set: t.csv and images."""
    table = list(table)
    (folder / "images").mkdir(parents=True)
    for row in table:
        rng = np.random.default_rng(list(row["file"].encode()))
        image = rng.integers(0, 150, (SIZE, SIZE, 3))
        image[..., 0] += 60 * (row["dx"] == "mel")
        image[..., 1] += 40 * (row["sex"] == "male")
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / row["file"])
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "patient", "dx", "sex", "age"])
        writer.writeheader()
        writer.writerows(table)


def dataset(folder: Path) -> dict[str, Any]:
    """The entry of a data set."""
    return {
        "adapter": "table",
        "root": str(folder),
        "table": "t.csv",
        "path": "file",
        "image_folder": "images",
        "patient": "patient",
        "label": {"column": "dx", "positive": ["mel"], "negative": ["nev"]},
        "attributes": {"sex": {"column": "sex"}, "age": {"column": "age", "kind": "number"}},
    }


def table(*methods: str, **others: Any) -> dict[str, Any]:
    """A table of the setup's methods."""
    return {"kind": "table", "title": "T", "methods": list(methods), "panels": [PANEL], **others}


def figure(plot: str, *methods: str, **others: Any) -> dict[str, Any]:
    """A figure of the setup's methods."""
    return table(*methods) | {"kind": "figure", "plot": plot, **others}


def config(data: Path, experiments: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run on the data sets `train` and `test` below a folder."""
    return {
        "run": RUN.name,
        "folds": 2,
        "datasets": {name: dataset(data / name) for name in ("train", "test")},
        "attributes": {
            "sex": {"column": "sex", "groups": {"female": ["female"], "male": ["male"]}},
            "age": {"column": "age", "cuts": [40, 60], "names": ["young", "middle", "old"]},
        },
        "tasks": {
            "lesion": {
                "train": ["train"],
                "tests": {"sex": ["test"]},
                "positive": "mel",
                "negative": "nev",
                "images": {"size": SIZE},
                "pretraining": {
                    "epochs": 2,
                    "batch_size": 32,
                    "optimizer": {"name": "sgd", "lr": 0.02},
                },
                "finetuning": {
                    "epochs_percent": 50,
                    "lr_extractor": 0.005,
                    "lr_head": 0.1,
                    "min_cell": 3,
                    "min_group": 5,
                },
            }
        },
        "backbones": {"small": {"architecture": "small_resnet", "options": {"width": 8}}},
        "methods": {name: {"algorithm": name} for name in ALGORITHMS},
        "experiments": dict(experiments),
        "compute": {"checkpoint_seconds": 0},
    }


def write_data(data: Path, train: int = 144, test: int = 48) -> None:
    """Both data sets."""
    write_set(data / "train", rows("train", train))
    write_set(data / "test", rows("test", test))


def write_config(path: Path, settings: Mapping[str, Any]) -> Path:
    """The settings as a file."""
    path.write_text(json.dumps(settings, indent=1))
    return path
