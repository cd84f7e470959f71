"""importance.py: every shared importance against plain autograd, and the summary of the mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cell import SEED, WILDCARDS, Cell, write_cell, write_choice
from prepared import (
    BACKBONE,
    COMPUTE,
    NORMALIZATION,
    assert_weights,
    bias_loss,
    prediction_loss,
    squared_gradients,
)
from safetensors.torch import load_file
from torch import Tensor

WANTED = [
    *("minibatch.full.prediction", "minibatch.full.bias"),
    *("minibatch.balanced.prediction", "minibatch.balanced.bias"),
    *("per_sample.full.group0", "per_sample.full.group1"),
    *("per_sample.balanced.prediction", "per_sample.balanced.bias"),
]


def measure(run: Callable[..., str], folder: Path, cell: Cell, **params: Any) -> str:
    return run(
        "importance.py",
        input=cell.inputs,
        output={
            "importance": [folder / f"importance/fold{fold}.safetensors" for fold in (0, 1)],
            "summary": [folder / f"importance/fold{fold}.summary.parquet" for fold in (0, 1)],
        },
        params={
            "backbone": BACKBONE,
            "finetuning": {"min_cell": 2},
            "batch_size": 100,
            "normalization": NORMALIZATION,
            "groups": 2,
            "wanted": WANTED,
            "folds": [0, 1],
            "compute": COMPUTE,
            "seed": SEED,
            **params,
        },
        wildcards=WILDCARDS,
    )


def read(folder: Path, fold: int) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(folder / f"importance/fold{fold}.safetensors").items():
        objective, _, name = key.rpartition("/")
        found.setdefault(objective, {})[name] = value
    return found


def test_importances_and_mask_of_every_fold(run: Callable[..., str], tmp_path: Path) -> None:
    cell = write_cell(tmp_path)
    measure(run, tmp_path, cell)
    for fold in (0, 1):
        found = read(tmp_path, fold)
        assert set(found) == set(WANTED)
        network = cell.baseline(fold)
        for part in ("full", "balanced"):
            inputs, labels, groups = cell.part(fold, part)
            logits = network(inputs)  # one batch: its order does not matter
            losses = {
                "prediction": prediction_loss(logits, labels),
                "bias": bias_loss(logits, labels, groups),
            }
            for name, loss in losses.items():
                expected = squared_gradients(loss, network)
                assert_weights(found[f"minibatch.{part}.{name}"], expected)
        assert_weights(found["per_sample.full.group1"], group_by_loop(cell, fold, group=1))

        bias, prediction = (found[f"minibatch.balanced.{name}"] for name in ("bias", "prediction"))
        summary = pd.read_parquet(tmp_path / f"importance/fold{fold}.summary.parquet")
        for row in summary.itertuples():
            values = np.concatenate(
                [eq9(bias[n], prediction[n]) for n in bias if n.rpartition(".")[0] == row.layer]
            )
            assert row.n == len(values)
            assert row.mean == pytest.approx(values.mean(), abs=1e-4)
            assert row.std == pytest.approx(values.std(), abs=1e-4)
        assert summary["n"].sum() == sum(value.numel() for value in bias.values())
    first, second = read(tmp_path, 0), read(tmp_path, 1)
    weight = "head.1.weight"
    assert (first["minibatch.full.bias"][weight] != second["minibatch.full.bias"][weight]).any()


def group_by_loop(
    cell: Cell, fold: int, group: int, among: tuple[int, int] = (0, 1)
) -> dict[str, Tensor]:
    """FairPrune's importance of a group: mean of the squared gradients of its samples' losses.

    The classes of all samples of the two groups that are compared weigh the losses.
    """
    network = cell.baseline(fold)
    inputs, labels, groups = cell.part(fold, "full")
    positive = labels[torch.isin(groups, torch.tensor(among))].mean()
    sums = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    rows = torch.nonzero(groups == group).squeeze(1)
    for row in rows:
        p = torch.sigmoid(network(inputs[row : row + 1]))
        loss = -(1 - positive) * torch.log(p) if labels[row] else -positive * torch.log(1 - p)
        for name, value in squared_gradients(loss.sum(), network).items():
            sums[name] += value / len(rows)
    return sums


def eq9(bias: Tensor, prediction: Tensor) -> np.ndarray:
    """Eq. 9 for one tensor: |tanh(F_bias / F_pred)|, each scaled to [0, 1]."""

    def scaled(values: np.ndarray) -> np.ndarray:
        low, high = values.min(), values.max()
        return (values - low) / (high - low) if high > low else values

    above, below = (scaled(value.double().numpy().ravel()) for value in (bias, prediction))
    return np.abs(np.tanh(above / (below + 1e-10)))


@pytest.mark.parametrize(
    ("finetuning", "batch_size"),
    [({"class_weights": "batch"}, 5), ({"eodds": "signed_mean"}, 100), ({}, 5)],
    ids=["class_weights", "eodds", "batch_size"],
)
def test_settings_reach_the_importances(
    run: Callable[..., str], tmp_path: Path, finetuning: dict[str, Any], batch_size: int
) -> None:
    cell = write_cell(tmp_path)
    before_batch = 5 if "class_weights" in finetuning else 100
    measure(run, tmp_path, cell, batch_size=before_batch)
    before = read(tmp_path, 1)
    measure(run, tmp_path, cell, finetuning=finetuning, batch_size=batch_size)
    after = read(tmp_path, 1)
    name = "minibatch.full.bias" if "eodds" in finetuning else "minibatch.full.prediction"
    weight = "head.1.weight"
    assert not torch.allclose(before[name][weight], after[name][weight], rtol=1e-3, atol=0)
    same = "per_sample.full.group0"  # single samples know neither batches nor this proxy
    torch.testing.assert_close(before[same][weight], after[same][weight], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_the_chosen_two_of_three_groups_are_compared_in_every_fold(
    run: Callable[..., str], tmp_path: Path, pair: tuple[int, int]
) -> None:
    """Whatever their AUC; the lower of the pair is group 0."""
    cell = write_cell(tmp_path, groups=(0, 1, 2))
    write_choice(tmp_path, pair)
    said = measure(run, tmp_path, cell, groups=3)
    assert (
        said.count(f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1") == 2
    )
    for fold in (0, 1):
        chosen = np.isin(cell.external[fold].attribute, pair)
        inputs, labels, groups = (values[chosen] for values in cell.part(fold, "full"))
        network, found = cell.baseline(fold), read(tmp_path, fold)
        loss = bias_loss(network(inputs), labels, (groups == pair[1]).long())
        assert_weights(found["minibatch.full.bias"], squared_gradients(loss, network))
        for group in pair:
            name = f"per_sample.full.group{pair.index(group)}"
            assert_weights(found[name], group_by_loop(cell, fold, group, among=pair))
