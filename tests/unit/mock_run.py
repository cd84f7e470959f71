"""A plausible results folder from random numbers, for the tests of figures and report.

Two tasks, two attributes each (one with four groups), three folds, all ten methods and a few
variants of SWiFT. The predictions are drawn; metrics are computed from them by the library.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swift_debias.evaluation import metrics
from swift_debias.evaluation.cells import Block
from swift_debias.files import write_json, write_parquet

FOLDS = 3
TEN = (
    *("baseline", "fullft_rw", "fullft_reg", "fullft_fdr", "llft"),
    *("diffgda", "fairprune", "diffprune", "bmft", "swift"),
)
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"algorithm": name} for name in TEN},
    **{f"swift_epochs_{p:02d}": {"algorithm": "swift", "epochs_percent": p} for p in (5, 20, 40)},
    **{
        f"swift_external_{p}": {"algorithm": "swift", "external_fraction": p / 100}
        for p in (20, 60)
    },
    **{f"swift_reinit_{p}": {"algorithm": "swift", "threshold": 1 - p / 100} for p in (10, 50, 90)},
    "swift_per_sample": {"algorithm": "swift", "estimator": "per_sample"},
    "swift_external_20_epochs_20": {
        "algorithm": "swift",
        "external_fraction": 0.2,
        "epochs_percent": 20,
    },
}
for variant in VARIANTS.values():
    variant.setdefault("external_fraction", 1.0)
    variant.setdefault("epochs_percent", None)

TITLES = {
    **{name: name for name in VARIANTS},
    **{"baseline": "Baseline", "fullft_rw": "FullFT-RW", "fullft_reg": "FullFT-Reg"},
    **{"fullft_fdr": "FullFT-FDR", "llft": "LLFT", "diffgda": "DiffGda", "bmft": "BMFT"},
    **{"fairprune": "FairPrune", "diffprune": "DiffPrune", "swift": "SWiFT"},
    "swift_per_sample": "SWiFT (per sample)",
}
GROUPS = {
    "skin_tone": ("light", "dark"),
    "sex": ("female", "male"),
    "age": ("younger", "older"),
    "age_5": ("0-20", "20-40", "40-60", "60-80", "80-"),
}
CLASSES = {"skin": ("melanoma", "benign"), "cxr": ("no finding", "pneumothorax")}
EPOCHS = {"skin": (200, 10.0), "cxr": (100, 10.0)}
TESTS = {
    ("skin", "skin_tone"): ("fitzpatrick17k", "ddi"),
    ("skin", "sex"): ("atlas", "pad_ufes_20"),
    ("cxr", "age"): ("chexpert", "nih"),
    ("cxr", "age_5"): ("chexpert",),
}
FEW = ("baseline", "llft", "swift")
# which methods were run: all and all variants on skin tone, fewer elsewhere to save time
RUN = {
    ("skin", "skin_tone"): tuple(VARIANTS),
    ("skin", "sex"): FEW,
    ("cxr", "age"): (*FEW, *(name for name in VARIANTS if name.startswith("swift_"))),
    ("cxr", "age_5"): ("baseline", "swift"),
}
NETWORK = "resnet50"
LAYERS = (
    "conv1",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer2.0.conv1",
    "layer3.0.conv1",
    "layer4.0",
)


def block(task: str, attribute: str, methods: tuple[str, ...] = TEN, **changes: Any) -> Block:
    """A block of the mock run."""
    names = ("auc", "spd", "eodds")
    whole = Block(task, NETWORK, attribute, TESTS[task, attribute], methods, names)
    return whole._replace(**changes)


def draw_predictions(rng: np.random.Generator, method: str, truth: pd.DataFrame) -> pd.DataFrame:
    """Scores that are better and fairer for SWiFT than for the others."""
    skill = 1.1 if method.startswith("swift") else rng.uniform(0.6, 1.0)
    bias = 0.1 if method.startswith("swift") else rng.uniform(0.3, 0.9)
    shift = bias * (truth["group"].clip(lower=0) / max(1, truth["group"].max()) - 0.5)
    noise = truth["noise"] + 0.3 * rng.normal(size=len(truth))
    logit = skill * (2 * truth["label"] - 1) + 2 * shift + 1.3 * noise
    score = (1 / (1 + np.exp(-logit))).astype("float32")
    return truth.drop(columns="noise").assign(score=score)


def draw_truth(rng: np.random.Generator, dataset: str, k: int, n: int = 240) -> pd.DataFrame:
    """Labels and groups of a test set; some groups are unknown."""
    return pd.DataFrame(
        {
            "dataset": dataset,
            "image_id": [f"{dataset}_{i:04d}" for i in range(n)],
            "label": rng.integers(0, 2, n).astype("int8"),
            "group": rng.integers(-1, k, n).astype("int16"),
            "noise": rng.normal(size=n),
        }
    )


def make_run(folder: Path, seed: int = 0) -> None:
    """Write predictions, metrics, costs and mask summaries."""
    frames = []
    for (task, attribute), datasets in TESTS.items():
        rng = np.random.default_rng([seed, len(frames)])
        k = len(GROUPS[attribute])
        truth = pd.concat([draw_truth(rng, dataset, k) for dataset in datasets])
        for method, fold in itertools.product(RUN[task, attribute], range(FOLDS)):
            keys = {"task": task, "backbone": NETWORK, "attribute": attribute, "method": method}
            place = Path(*keys.values(), f"fold{fold}")
            predictions = draw_predictions(rng, method, truth)
            _parquet(predictions, folder / "predictions" / f"{place}.parquet")
            scored = metrics.score(predictions, groups=k)
            frames.append(scored.assign(**keys, fold=fold))
            _write_cost(folder / "debiased" / place / "cost.json", rng, method)
        for fold in range(FOLDS):
            place = folder / "importance" / task / NETWORK / attribute
            _parquet(_mask_summary(rng), place / f"fold{fold}.mask_summary.parquet")
    _parquet(pd.concat(frames, ignore_index=True), folder / "metrics.parquet")


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(frame, path)


def _write_cost(path: Path, rng: np.random.Generator, method: str) -> None:
    percent = VARIANTS[method]["epochs_percent"] or 10
    seconds = 9000.0 if method == "baseline" else 4.0 * percent * rng.uniform(0.9, 1.1)
    cost = {"seconds": seconds, "peak_memory_mb": rng.uniform(800, 3000)}
    cost |= {"images_seen": int(seconds * 900), "parameters_changed": int(rng.integers(2, 10**7))}
    cost["buffers_changed"] = cost["parameters_changed"] // 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, cost | {"parameters": 10**7, "device": "cpu"})


def _mask_summary(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for place, layer in enumerate((*(f"extractor.{name}" for name in LAYERS), "head.1")):
        values = rng.beta(2 + place, 5 - place / 2, 4000)
        rows.append(
            {
                "layer": layer,
                "group": layer.removeprefix("extractor.").split(".")[0],
                "n": len(values),
                "mean": values.mean(),
                "std": values.std(),
                "counts": np.histogram(values, 20, (0, 1))[0].tolist(),
            }
        )
    return pd.DataFrame(rows)
