"""One cell, (task, backbone, attribute), as its jobs find it: pool, Baselines, external sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from prepared import (
    DataSet,
    caches,
    inputs_of,
    new_network,
    seed_of,
    write_data_set,
    write_json,
    write_model,
    write_parquet,
)
from safetensors.torch import load_file
from torch import Tensor, nn

SEED = 7
WILDCARDS = {"task": "skin", "backbone": "net", "attribute": "sex"}
# images of (label, group) in the external set of each fold, and how many of them are balanced
CELLS = (
    {(0, 0): 4, (0, 1): 8, (1, 0): 9, (1, 1): 6},
    {(0, 0): 7, (0, 1): 4, (1, 0): 4, (1, 1): 10},
)


class Cell(NamedTuple):
    """Prepared files; entry f of each list is fold f's."""

    sets: list[DataSet]
    external: list[pd.DataFrame]
    inputs: dict[str, Any]

    def part(self, fold: int, which: str) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and groups of the external set of a fold: full or balanced."""
        rows = self.external[fold]
        rows = rows if which == "full" else rows[rows.balanced]
        labels = torch.tensor(rows.label.to_numpy(), dtype=torch.float32)
        return inputs_of(self.sets, rows), labels, torch.tensor(rows.attribute.to_numpy())

    def baseline(self, fold: int) -> nn.Module:
        network = new_network(0)
        network.load_state_dict(load_file(self.inputs["models"][fold]))
        return network.eval()


def write_choice(folder: Path, pair: Sequence[int] | None = None, unprivileged: int = 0) -> Path:
    """The groups that are compared, as rule `choose_groups` writes them; without its reasons."""
    choice = {"pair": pair, "unprivileged": unprivileged, "groups": {}}
    return write_json(folder / "groups.json", choice)


def external_seed(fold: int) -> int:
    """What is drawn in the external set of a fold: the same for every method and network."""
    return seed_of(SEED, "external", "skin", "sex", fold)


def write_cell(folder: Path, groups: Sequence[int] = (0, 1)) -> Cell:
    """Two folds; with more than two groups the further ones get rows like the first two."""
    rng = np.random.default_rng(1)
    per_fold = [
        [
            (label, group)
            for group in groups
            for label in (0, 1)
            for _ in range(cells[label, group % 2])
        ]
        for cells in CELLS
    ]
    flat = [(fold, *cell) for fold, cells in enumerate(per_fold) for cell in cells]
    rows = pd.DataFrame(flat, columns=["fold", "label", "attribute"])
    rows = rows.sample(frac=1, random_state=2, ignore_index=True)
    rows["dataset"] = np.where(rng.random(len(rows)) < 0.6, "north", "south")
    sets = []
    for name in ("north", "south"):
        mine = rows.index[rows.dataset == name]
        sets.append(write_data_set(folder, name, {"label": rows.loc[mine, "label"].to_numpy()}))
        rows.loc[mine, "image_id"] = sets[-1].frame["image_id"].to_numpy()
    rows["balanced"] = False
    for _, part in rows.groupby(["fold", "label"]):
        size = part["attribute"].value_counts().min()
        for group in groups:
            rows.loc[part.index[part.attribute == group][:size], "balanced"] = True
    types = {"label": "int8", "attribute": "int16"}
    external = [
        part.drop(columns="fold").astype(types).reset_index(drop=True)
        for _, part in rows.groupby("fold")
    ]
    return Cell(
        sets,
        external,
        {
            **caches(sets),
            "groups": write_choice(folder),
            "models": [
                write_model(folder / f"base{fold}.safetensors", 10 + fold) for fold in (0, 1)
            ],
            "external": [
                write_parquet(folder / f"external/fold{fold}.parquet", frame)
                for fold, frame in enumerate(external)
            ],
        },
    )
