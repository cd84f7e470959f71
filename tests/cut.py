"""Cuts of the demo: the same pipeline on few tiny images, in seconds.

`config` lays a cut on the demo's configuration. `SHARED` is the one that `make test` runs once, for
all tests of whole runs (conftest.py): it has something of everything that the rules wire together,
and is only as large as that needs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "workflow", "config", "resources", "envs", "requirements.txt")


# The demo's methods without their searches: oracles know the settings.
UNSEARCHED: dict[str, dict[str, Any]] = {
    name: {"search": None}
    for name, own in yaml.safe_load((PROJECT / "config" / "demo.yaml").read_text())[
        "methods"
    ].items()
    if "search" in own
}
UNSEARCHED["swift"] |= {"prediction_weight_1": 0.5}


def table_and_figure(
    methods: tuple[str, ...], table: list[dict[str, str]], figure: list[dict[str, str]]
) -> dict[str, Any]:
    """Table 1 and the Pareto figure of these methods, on the panels of each."""
    return {
        "table1": {"kind": "table", "title": "A cut", "methods": methods, "panels": table},
        "pareto": {
            "kind": "figure",
            "plot": "pareto",
            "title": "AUC against EOdds",
            "methods": methods,
            "panels": figure,
        },
    }


def config(
    run: str,
    images: dict[str, int],
    tasks: dict[str, Any],
    experiments: dict[str, Any],
    *,
    size: int = 48,
    **others: Any,
) -> str:
    """A configuration laid on the demo's, as YAML.

    Args:
        run: name of the run.
        images: data set -> how many images are drawn; the others are left out.
        tasks: what differs from the demo's tasks.
        experiments: tables and figures; the demo's own are left out.
        size: pixels a side of the drawn images.
        others: further sections, e.g. `methods`.
    """
    paper = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    own = others.pop("methods", {})
    methods = {name: UNSEARCHED.get(name, {}) | own.get(name, {}) for name in UNSEARCHED | own}
    left_out = dict.fromkeys(name for name in paper["experiments"] if name not in experiments)
    return json.dumps(
        {
            "extends": "config/demo.yaml",
            "run": run,
            "synthetic": {"size": size, "images": images},
            "tasks": tasks,
            "experiments": {**left_out, **experiments},
            "selection": {"trials": None},
            "methods": methods,
            **others,
        },
        indent=1,
    )


# --- the shared cut -------------------------------------------------------------------------------

RESULTS = Path("results/cut")
FOLDS = (0, 1)
EPOCHS = {"skin": 8, "cxr": 4}
BATCH = 32
MIN_GROUP = (
    15  # leaves a group of an external set out, and keeps one of the test set that 20 would not
)
MIN_CELL = 2  # images of a label in a group, below which it is no part of a balanced set
# years; of the oldest all external sets together hold fewer than `MIN_GROUP`
AGES = {"young": (0, 45), "middle": (45, 65), "elder": (65, 88), "old": (88, 200)}
# One algorithm of each kind (untouched, head alone, pruned, both steps), and SWiFT with epochs of
# its own and with a part of the external set.
VARIANTS = {
    "swift_long": {"algorithm": "swift", "title": "Long", "epochs_percent": 75},
    "swift_part": {"algorithm": "swift", "title": "Part", "external_fraction": 0.6},
}
METHODS = ("baseline", "llft", "fairprune", "swift", *VARIANTS)
# (task, attribute) -> methods, test sets. The network is always the small ResNet.
CELLS = {
    ("skin", "sex"): (METHODS, ("atlas", "pad_ufes_20")),
    ("skin", "skin_tone"): (("baseline", "swift"), ("pad_ufes_20",)),
    ("cxr", "age_4"): (("baseline", "fairprune", "swift"), ("nih",)),
}
TRAIN = {"skin": ("isic2019", "isic2020"), "cxr": ("mimic_cxr",)}
IMAGES = {"isic2017": 30, "isic2018": 30, "isic2019": 120, "isic2020": 120}
IMAGES |= {"atlas": 60, "pad_ufes_20": 80, "mimic_cxr": 240, "nih": 140}


def panel(task: str, attribute: str, **others: Any) -> dict[str, Any]:
    """A panel of a view."""
    return {"task": task, "backbone": "small_resnet", "attribute": attribute} | others


VIEWS = table_and_figure(
    METHODS,
    [panel("skin", "sex"), panel("skin", "skin_tone", methods=CELLS["skin", "skin_tone"][0])],
    [panel("skin", "sex")],
) | {
    "table5": {
        "kind": "table",
        "title": "More than two groups",
        "methods": CELLS["cxr", "age_4"][0],
        "metrics": ["auc", "auc_min", "auc_gap"],
        "panels": [panel("cxr", "age_4")],
    },
    "figure1": {
        "kind": "figure",
        "plot": "bias",
        "title": "What bias looks like",
        "methods": ["baseline"],
        "panels": [panel("skin", "sex", datasets=["atlas"])],
    },
}
TASKS = {
    task: {
        "train": TRAIN[task],
        "tests": {attribute: CELLS[task, attribute][1] for t, attribute in CELLS if t == task},
        "images": {"size": 24},
        "pretraining": {"epochs": EPOCHS[task], "batch_size": BATCH},
        "finetuning": {"epochs_percent": 50, "min_cell": MIN_CELL, "min_group": MIN_GROUP},
    }
    for task in TRAIN
}
SHARED = config(
    "cut",
    IMAGES,
    TASKS,
    VIEWS,
    attributes={
        "age_4": {
            "column": "age",
            "cuts": [low for low, _ in AGES.values() if low],
            "names": list(AGES),
        }
    },
    methods=VARIANTS,
    # after every epoch, so that killed trainings have something to resume from
    compute={"checkpoint_seconds": 0},
)


def copy_project(folder: Path) -> None:
    """What a run needs of the project, and the shared cut's configuration in cut.yaml."""
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "samples")
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    (folder / "cut.yaml").write_text(SHARED)
