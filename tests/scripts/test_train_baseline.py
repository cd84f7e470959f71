"""train_baseline.py: one step on the rows outside of the fold, against plain autograd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prepared import (
    BACKBONE,
    COMPUTE,
    NORMALIZATION,
    STILL,
    DataSet,
    assert_weights,
    caches,
    inputs_of,
    new_network,
    prediction_loss,
    read_model,
    seed_of,
    write_data_set,
    write_model,
    write_parquet,
)
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

FOLD, SEED, LR, DECAY = 1, 5, 0.05, 0.1
WILDCARDS = {"task": "skin", "backbone": "net", "fold": FOLD}


@pytest.fixture
def pool(tmp_path: Path) -> tuple[list[DataSet], pd.DataFrame]:
    """Two data sets, and the rows of the pool with their fold; not all images are in the pool."""
    rng = np.random.default_rng(3)
    sets = [
        write_data_set(tmp_path, name, {"label": rng.integers(0, 2, n)})
        for name, n in (("north", 16), ("south", 14))
    ]
    rows = pd.concat([one.frame.assign(dataset=one.name) for one in sets], ignore_index=True)
    rows = rows.drop(index=[3, 20]).sample(frac=1, random_state=0, ignore_index=True)
    return sets, rows.assign(fold=rng.integers(0, 3, len(rows)).astype("int16"))


def train(
    run: Callable[..., str],
    folder: Path,
    pool: tuple[list[DataSet], pd.DataFrame],
    *,
    pretraining: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    own: list[Path] | None = None,
) -> tuple[dict[str, torch.Tensor], pd.DataFrame, dict[str, Any], str]:
    """Weights, history, cost and log of a run of the script."""
    sets, rows = pool
    folds = rows[["image_id", "dataset", "fold"]].sample(frac=1, random_state=1)
    sgd = {"name": "sgd", "lr": LR, "momentum": 0.0, "weight_decay": DECAY}
    recipe = {"epochs": 1, "batch_size": 64, "optimizer": sgd} | (pretraining or {})
    said = run(
        "train_baseline.py",
        input={
            **caches(sets),
            "cohort": write_parquet(folder / "cohort.parquet", rows.drop(columns="fold")),
            "folds": [write_parquet(folder / "folds.parquet", folds)],
            "own": own or [],
            "weights": [],
        },
        output={
            "model": folder / "model.safetensors",
            "history": folder / "history.parquet",
            "cost": folder / "cost.json",
            "source": folder / "source.json",
            "scores": folder / "held_out.parquet",
            "threshold": folder / "threshold.json",
        },
        params={
            "backbone": BACKBONE | (backbone or {}),
            "task": {"pretraining": recipe, "augmentation": STILL},
            "normalization": NORMALIZATION,
            "compute": COMPUTE | {"checkpoint_seconds": 0},
            "seed": SEED,
            "checkpoints": str(folder / "checkpoints"),
        },
        wildcards=WILDCARDS,
    )
    cost = json.loads((folder / "cost.json").read_text())
    history = pd.read_parquet(folder / "history.parquet")
    return load_file(folder / "model.safetensors"), history, cost, said


@pytest.mark.key("pretraining.epochs")
def test_one_step_on_the_rows_outside_of_the_fold(
    run: Callable[..., str], tmp_path: Path, pool: tuple[list[DataSet], pd.DataFrame]
) -> None:
    weights, history, cost, said = train(run, tmp_path, pool)
    sets, rows = pool
    outside, held_out = rows[rows.fold != FOLD], rows[rows.fold == FOLD]
    network = new_network(seed_of(SEED, "baseline", "skin", "net", FOLD)).train()
    labels = torch.tensor(outside.label.to_numpy(), dtype=torch.float32)
    logits = network(inputs_of(sets, outside))
    loss = prediction_loss(logits, labels)
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= LR * (parameter.grad + DECAY * parameter)
    assert_weights(weights, network.state_dict())

    assert history["stage"].tolist() == ["pretraining"]
    assert history["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert history["auc"].item() == pytest.approx(roc_auc_score(labels, logits.detach()))
    with torch.no_grad():
        validation = network.eval()(inputs_of(sets, held_out))
    auc = roc_auc_score(held_out.label, validation)
    assert history["validation_auc"].item() == pytest.approx(auc)
    assert_held_out(tmp_path, held_out, validation)
    assert f"{len(outside)} training and {len(held_out)} validation images" in said
    assert cost["images_seen"] == len(rows)  # each once: trained on, or watched
    sizes = [parameter.numel() for parameter in network.parameters()]
    assert cost["parameters"] == sum(sizes)
    assert 0.9 * sum(sizes) < cost["parameters_changed"] <= sum(sizes)
    assert not (tmp_path / "checkpoints").exists()


def assert_held_out(folder: Path, rows: pd.DataFrame, logits: torch.Tensor) -> None:
    """The file of held-out scores has these rows, each image under its own name."""
    found = pd.read_parquet(folder / "held_out.parquet").set_index(["dataset", "image_id"])
    expected = rows.assign(logit=logits.numpy()).set_index(["dataset", "image_id"])
    assert list(found.columns) == ["label", "logit"]
    assert len(found) == len(expected) and set(found.index) == set(expected.index)
    found = found.loc[expected.index]
    assert found["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(found["logit"], expected["logit"], rtol=1e-4, atol=2e-5)
    assert found["logit"].nunique() == len(found)
    # the external threshold: nothing does better
    stored = json.loads((folder / "threshold.json").read_text())
    scores = 1 / (1 + np.exp(-found["logit"]))
    best = max(balanced_accuracy_score(found["label"], scores >= t) for t in np.linspace(0, 1, 101))
    at = balanced_accuracy_score(found["label"], scores >= stored["threshold"])
    assert at == pytest.approx(best)
    assert stored["found_on"] == "held out"


@pytest.mark.key("pretraining.epochs")
def test_epochs_and_batches_are_the_recipes(
    run: Callable[..., str], tmp_path: Path, pool: tuple[list[DataSet], pd.DataFrame]
) -> None:
    _, history, cost, _ = train(run, tmp_path, pool, pretraining={"epochs": 3, "batch_size": 5})
    assert history["epoch"].tolist() == [1, 2, 3]
    assert cost["images_seen"] == 3 * len(pool[1])


def test_other_folds_start_from_other_weights(
    run: Callable[..., str], tmp_path: Path, pool: tuple[list[DataSet], pd.DataFrame]
) -> None:
    """With next to no learning rate the result is the start: it depends on all that names it."""
    sgd = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}
    weights, *_ = train(run, tmp_path, pool, pretraining={"optimizer": sgd})
    start = dict(new_network(seed_of(SEED, "baseline", "skin", "net", FOLD)).named_parameters())
    other = dict(new_network(seed_of(SEED, "baseline", "skin", "net", 0)).named_parameters())
    torch.testing.assert_close(weights["head.1.weight"], start["head.1.weight"].data)
    assert (weights["head.1.weight"] - other["head.1.weight"]).abs().max() > 0.01


@pytest.mark.key("backbone.baseline")
def test_a_users_own_classifier_is_taken_as_it_is(
    run: Callable[..., str], tmp_path: Path, pool: tuple[list[DataSet], pd.DataFrame]
) -> None:
    own = write_model(tmp_path / "own.safetensors", seed=9)
    baseline = {"baseline": "own{fold}.safetensors"}
    weights, history, cost, _ = train(run, tmp_path, pool, backbone=baseline, own=[own])
    assert_weights(weights, load_file(own))
    assert history.empty
    assert (cost["images_seen"], cost["parameters_changed"], cost["buffers_changed"]) == (0, 0, 0)
    sets, rows = pool
    held_out = rows[rows.fold == FOLD]
    with torch.no_grad():
        logits = read_model(own)(inputs_of(sets, held_out))
    assert_held_out(tmp_path, held_out, logits)
