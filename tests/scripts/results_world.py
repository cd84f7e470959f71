"""Results of a small run as plain files: predictions, metrics and costs, drawn at random."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prepared import write_json, write_parquet
from sklearn.metrics import roc_auc_score

CELL = {"task": "skin", "backbone": "net", "attribute": "tone"}
METHODS, FOLDS, SETS = ["swift", "baseline", "llft"], [0, 1, 2], ["atlas", "ddi"]
TITLES = {"baseline": "Baseline", "llft": "LLFT", "swift": "SWiFT", "swift_40": "Long"}
GROUPS = (14, 12, 8)  # images of a group in a test set
BLOCK = {**CELL, "datasets": SETS, "methods": METHODS, "metrics": ["auc", "spd"]}


def draw_predictions(seed: int) -> pd.DataFrame:
    """Of one model: both test sets, three groups and two images of an unknown one."""
    rng = np.random.default_rng(seed)
    frames = []
    for dataset in SETS:
        group = np.repeat([0, 1, 2, -1], (*GROUPS, 2))
        label = np.arange(len(group)) % 2
        score = 1 / (1 + np.exp(-(label - 0.5 + 0.4 * group + rng.normal(size=len(group)))))
        ids = [f"{dataset}{place:02d}" for place in range(len(group))]
        frames.append(
            pd.DataFrame({"dataset": dataset, "image_id": ids, "label": label, "group": group})
        )
        frames[-1].insert(2, "patient_id", [None] * len(group))
        frames[-1]["score"] = score.astype("float32")
    types = {"label": "int8", "group": "int16"}
    return pd.concat(frames, ignore_index=True).astype(types)


def write_predictions(folder: Path) -> dict[tuple[str, int], pd.DataFrame]:
    """The folder that rule predict writes; (method, fold) -> predictions."""
    found = {}
    for seed, key in enumerate(itertools.product(METHODS, FOLDS)):
        found[key] = draw_predictions(seed)
        write_parquet(folder / key[0] / f"fold{key[1]}.parquet", found[key])
    return found


def known(predictions: pd.DataFrame, dataset: str, group: int | None = None) -> pd.DataFrame:
    """The rows of a test set that count, or those of one group."""
    rows = predictions[(predictions.dataset == dataset) & (predictions.group >= 0)]
    return rows if group is None else rows[rows.group == group]


def auc(rows: pd.DataFrame) -> float:
    return float(roc_auc_score(rows.label, rows.score))


def draw_metrics(**keys: Any) -> pd.DataFrame:
    """Tidy metrics of all methods and folds of a cell: random values."""
    rng = np.random.default_rng(7)
    rows = itertools.product(METHODS, FOLDS, SETS, ("auc", "spd", "eodds"))
    frame = pd.DataFrame(rows, columns=["method", "fold", "dataset", "metric"])
    frame = frame.assign(**CELL | keys, value=rng.random(len(frame)), n=34)
    return frame.assign(reason=pd.Series([None] * len(frame), dtype="string"))


def value_of(metrics: pd.DataFrame, **wanted: Any) -> np.ndarray:
    """Values of these keys, fold by fold."""
    mask = np.ones(len(metrics), bool)
    for column, value in wanted.items():
        mask &= (metrics[column] == value).to_numpy()
    return metrics[mask].sort_values("fold")["value"].to_numpy()


def write_costs(folder: Path) -> dict[str, Path]:
    """A Baseline's training and three methods', two folds each; seconds tell which is which."""
    seconds_of = {"llft": 10, "swift": 30, "swift_40": 45}
    places = {"baseline/skin/net": 100}
    places |= {f"debiased/skin/net/tone/{name}": s for name, s in seconds_of.items()}
    found = {}
    for (place, seconds), fold in itertools.product(places.items(), (0, 1)):
        cost = {"seconds": seconds + fold, "peak_memory_mb": 500, "images_seen": 7 * seconds}
        cost |= {"parameters_changed": 3, "buffers_changed": 2, "parameters": 9, "device": "cpu"}
        path = f"{place}/fold{fold}/cost.json"
        found[path] = write_json(folder / path, cost)
    return found
