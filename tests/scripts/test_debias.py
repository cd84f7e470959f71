"""debias.py: what a method is handed, and one step of a real one against plain autograd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cell import SEED, WILDCARDS, Cell, external_seed, write_cell, write_choice
from prepared import (
    BACKBONE,
    COMPUTE,
    NORMALIZATION,
    STILL,
    assert_weights,
    bias_loss,
    inputs_of,
    prediction_loss,
    scores_of,
    seed_of,
    squared_gradients,
    write_parquet,
)
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score

from swift_debias.files import read_json, write_json
from swift_debias.learning import tensor_files

FOLDS = [0, 1]
RECIPE = {
    "epochs": 20,
    "batch_size": 64,
    "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.1},
}
READ = ("minibatch.full.prediction",)  # what the algorithm `spy` reads
FIRST = {"model": "model.safetensors", "history": "history.parquet", "cost": "cost.json"}
FINETUNING = {"epochs_percent": 15, "lr_extractor": 0.02, "lr_head": 0.3}


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return write_cell(tmp_path)


@pytest.fixture
def debias(run: Callable[..., str], tmp_path: Path, cell: Cell) -> Callable[..., str]:
    """Run the script on the cell with a method's settings.

    `first`: the folder of the first step that it goes on from. `into`: the folder of the outputs.
    `wildcard`: what names the job, and its name. `fold`: the only one that the job debiases.
    """

    def start(
        method: dict[str, Any],
        importance: list[Path] | None = None,
        *,
        first: str = "",
        search: Path | None = None,
        into: str = "debiased",
        wildcard: tuple[str, str] = ("method", "mine"),
        fold: int | None = None,
        **params: Any,
    ) -> str:
        own = FOLDS if fold is None else [fold]
        places = {fold: tmp_path / into / f"fold{fold}" for fold in own}
        task = {"pretraining": RECIPE, "augmentation": STILL, "finetuning": FINETUNING}
        done = {
            f"first_{kind}": [tmp_path / first / f"fold{fold}" / name for fold in FOLDS]
            for kind, name in FIRST.items()
        }
        return run(
            "debias.py",
            input=cell.inputs
            | {"importance": importance or [], "search": [search] if search else []}
            | (done if first else {}),
            output={
                "models": [place / "model.safetensors" for place in places.values()],
                "history": [place / "history.parquet" for place in places.values()],
                "costs": [place / "cost.json" for place in places.values()],
                "thresholds": [place / "threshold.json" for place in places.values()],
            },
            params={
                "method": method,
                "searched": [],
                "backbone": BACKBONE,
                "task": task | params.pop("task", {}),
                "normalization": NORMALIZATION,
                "groups": 2,
                "folds": FOLDS,
                "own_external": False,
                "compute": COMPUTE,
                "seed": SEED,
                "checkpoints": str(tmp_path / "checkpoints/mine"),
                **params,
            },
            wildcards=WILDCARDS | dict([wildcard]) | ({} if fold is None else {"fold": str(fold)}),
        )

    return start


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What an algorithm `spy` gets, call by call; it changes nothing but draws as it is told."""
    from swift_debias import methods
    from swift_debias.config.base import Model
    from swift_debias.methods import base

    class Settings(Model):
        strength: float = 0.0
        draws: int = 0

    calls: list[SimpleNamespace] = []

    def debias(classifier: Any, external: Any, settings: Any, context: Any) -> Any:
        state = {name: value.clone() for name, value in classifier.state_dict().items()}
        calls.append(SimpleNamespace(state=state, external=external, settings=settings))
        calls[-1].context, calls[-1].classifier = context, classifier
        calls[-1].importance = {name: dict(v) for name, v in context.importance().items()}
        for _ in range(settings.draws):
            external.full.draw(torch.arange(len(external.full)))
        context.history.append({"stage": "spy", "strength": settings.strength})
        return classifier

    spy = SimpleNamespace(Settings=Settings, IMPORTANCES=READ, debias=debias)
    for module in (methods, base):
        monkeypatch.setattr(module, "load", {"spy": spy}.__getitem__)
    return calls


def write_importances(folder: Path) -> list[Path]:
    """One number a fold and name."""
    paths = []
    for fold in FOLDS:
        values = {f"minibatch.full.bias/weight{i}": torch.tensor([fold + i / 10]) for i in (1, 2)}
        paths.append(folder / f"importance{fold}.safetensors")
        tensor_files.write(paths[-1], values)
    return paths


def cost(folder: Path, fold: int, into: str = "debiased") -> dict[str, Any]:
    return json.loads((folder / into / f"fold{fold}/cost.json").read_text())


def history(folder: Path, fold: int, into: str = "debiased") -> pd.DataFrame:
    return pd.read_parquet(folder / into / f"fold{fold}/history.parquet")


# --- what a method is handed ----------------------------------------------------------------------


@pytest.mark.key("method.algorithm", "compute.checkpoint_seconds")
def test_a_method_is_handed_its_folds_files_and_its_own_settings(
    debias: Callable[..., str], cell: Cell, handed: list[SimpleNamespace], tmp_path: Path
) -> None:
    compute = COMPUTE | {"checkpoint_seconds": 11}
    task = {"augmentation": {"flips": False, "transpose": True}}
    said = debias(
        {"algorithm": "spy", "title": "Spy", "strength": 3.5, "draws": 2},
        write_importances(tmp_path),
        compute=compute,
        task=task,
    )
    assert len(handed) == len(FOLDS)
    for fold, call in enumerate(handed):
        assert_weights(call.state, load_file(cell.inputs["models"][fold]))
        assert not call.classifier.training
        assert call.settings.strength == 3.5
        for part in ("full", "balanced"):
            samples = getattr(call.external, part)
            inputs, labels, groups = cell.part(fold, part)
            drawn = samples.draw(torch.arange(len(samples)))
            torch.testing.assert_close(drawn.contiguous(), inputs, rtol=0, atol=1e-5)
            assert samples.labels.tolist() == labels.tolist()
            assert samples.attributes.tolist() == groups.tolist()
        context = call.context
        # without the method's name: the draws of two variants are paired
        assert context.seed == seed_of(SEED, "debias", "skin", "net", "sex", fold)
        assert context.unprivileged() == 0
        assert context.finetuning.batchnorm == "train"
        assert context.epochs == 3  # 15 % of 20
        assert context.batch_size == 64
        assert context.optimizer.lr == 0.5
        assert (context.finetuning.lr_extractor, context.finetuning.lr_head) == (0.02, 0.3)
        assert (context.augmentation.flips, context.augmentation.transpose) == (False, True)
        assert context.compute.checkpoint_seconds == context.checkpoints.every_seconds == 11
        assert context.checkpoints.folder == tmp_path / f"checkpoints/mine/fold{fold}"
        assert len(context.checkpoints.key) == 64
        assert call.importance["minibatch.full.bias"] == {
            "weight1": torch.tensor([fold + 0.1]),
            "weight2": torch.tensor([fold + 0.2]),
        }
        assert context.name == f"mine skin net sex fold {fold}"
        assert history(tmp_path, fold)["strength"].tolist() == [3.5]
        assert cost(tmp_path, fold)["images_seen"] == 2 * len(cell.external[fold])
        assert cost(tmp_path, fold)["parameters_changed"] == 0
        assert cost(tmp_path, fold)["buffers_changed"] == 0
        whole, balanced = len(cell.external[fold]), int(cell.external[fold].balanced.sum())
        assert f"external set: {whole} images, {balanced} balanced" in said


@pytest.mark.key("compute.debias_job")
@pytest.mark.parametrize("own_external", [False, True])
def test_a_job_of_one_fold_makes_that_fold_and_the_same_bytes(
    debias: Callable[..., str], cell: Cell, tmp_path: Path, own_external: bool
) -> None:
    method = {"algorithm": "fullft", "prediction_weight": 0.6}
    debias(method, own_external=own_external)
    others = tmp_path / "checkpoints/mine/fold0/state"  # of a job that is running beside
    others.parent.mkdir(parents=True)
    others.write_text("")
    said = debias(method, into="one", fold=1, own_external=own_external)
    assert "fold 1" in said and "fold 0" not in said
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["fold1"]
    for name in ("model.safetensors", "history.parquet", "threshold.json"):
        whole = (tmp_path / "debiased/fold1" / name).read_bytes()
        assert (tmp_path / "one/fold1" / name).read_bytes() == whole, name
    measured = {"seconds", "peak_memory_mb", "digest"}  # the digest is of all that stands there
    whole, one = (
        {key: value for key, value in cost(tmp_path, 1, into).items() if key not in measured}
        for into in ("debiased", "one")
    )
    assert whole == one
    assert others.exists()
    others.unlink()
    debias(method, into="one", fold=0, own_external=own_external)
    assert not (tmp_path / "checkpoints/mine").exists()


@pytest.mark.key("finetuning.epochs_percent", "method.epochs_percent")
@pytest.mark.parametrize(
    ("finetuning", "variant", "epochs"),
    [(10, None, 2), (13, None, 3), (1, None, 1), (10, 35, 7), (40, 5, 1), (0.1, 100, 20)],
)
def test_epochs_are_a_share_of_pretrainings_and_a_variant_has_its_own(
    debias: Callable[..., str],
    handed: list[SimpleNamespace],
    tmp_path: Path,
    finetuning: float,
    variant: float | None,
    epochs: int,
) -> None:
    task = {"finetuning": FINETUNING | {"epochs_percent": finetuning}}
    importances = write_importances(tmp_path)
    debias({"algorithm": "spy", "epochs_percent": variant}, importances, task=task)
    assert [call.context.epochs for call in handed] == [epochs, epochs]


@pytest.mark.key("finetuning.batchnorm", "method.batchnorm")
@pytest.mark.parametrize(
    ("finetuning", "variant", "expected"),
    [("masked", None, "masked"), ("train", "eval", "eval"), ("eval", "masked", "masked")],
)
def test_batchnorm_is_the_tasks_and_a_variant_has_its_own(
    debias: Callable[..., str],
    handed: list[SimpleNamespace],
    tmp_path: Path,
    finetuning: str,
    variant: str | None,
    expected: str,
) -> None:
    task = {"finetuning": FINETUNING | {"batchnorm": finetuning}}
    debias({"algorithm": "spy", "batchnorm": variant}, write_importances(tmp_path), task=task)
    assert [call.context.finetuning.batchnorm for call in handed] == [expected] * 2


@pytest.mark.key("finetuning.batches", "method.batches")
@pytest.mark.parametrize(
    ("finetuning", "variant", "expected"),
    [("cells", None, "cells"), ("shuffled", "cells", "cells"), ("cells", "shuffled", "shuffled")],
)
def test_batches_are_the_tasks_and_a_variant_has_its_own(
    debias: Callable[..., str],
    handed: list[SimpleNamespace],
    tmp_path: Path,
    finetuning: str,
    variant: str | None,
    expected: str,
) -> None:
    task = {"finetuning": FINETUNING | {"batches": finetuning}}
    debias({"algorithm": "spy", "batches": variant}, write_importances(tmp_path), task=task)
    assert [call.context.finetuning.batches for call in handed] == [expected] * 2


@pytest.mark.parametrize("unprivileged", [0, 1, None])
@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_the_chosen_groups_are_those_of_every_fold(
    run: Callable[..., str],
    debias: Callable[..., str],
    handed: list[SimpleNamespace],
    tmp_path: Path,
    cell: Cell,
    pair: tuple[int, int],
    unprivileged: int | None,
) -> None:
    """Of three groups: whatever the AUCs of a fold. The lower of the pair is group 0."""
    three = write_cell(tmp_path, groups=(0, 1, 2))
    write_choice(tmp_path, pair, unprivileged)
    cell.inputs.update(three.inputs)
    task = {"finetuning": FINETUNING | {"min_cell": 2}}
    debias({"algorithm": "spy"}, write_importances(tmp_path), groups=3, task=task)
    for fold, call in enumerate(handed):
        full, balanced = call.external.full, call.external.balanced
        inputs, labels, groups = three.part(fold, "full")
        chosen = np.isin(groups, pair)
        drawn = full.draw(torch.arange(len(full)))
        torch.testing.assert_close(drawn.contiguous(), inputs[chosen], rtol=0, atol=1e-5)
        assert full.labels.tolist() == labels[chosen].tolist()
        assert full.attributes.tolist() == [pair.index(g) for g in groups[chosen].tolist()]
        assert set(balanced.rows.tolist()) <= set(full.rows.tolist())
        sizes = pd.crosstab(full.labels.numpy(), full.attributes.numpy()).min(axis=1)
        cells = pd.crosstab(balanced.labels.numpy(), balanced.attributes.numpy())
        assert cells.eq(sizes, axis="index").all(axis=None)
        assert call.context.unprivileged() == unprivileged


@pytest.mark.key("method.external_fraction")
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_a_part_of_the_external_set_has_its_own_importances(
    debias: Callable[..., str],
    cell: Cell,
    handed: list[SimpleNamespace],
    tmp_path: Path,
    fraction: float,
) -> None:
    stored = write_importances(tmp_path)
    debias({"algorithm": "spy", "external_fraction": fraction}, stored)
    for fold, call in enumerate(handed):
        full, balanced = call.external.full, call.external.balanced
        rows = cell.external[fold]
        sizes = rows.groupby(["label", "attribute"]).size()
        kept = {cell: round(fraction * n) for cell, n in sizes.items()}
        found = pd.Series(zip(full.labels.int().tolist(), full.attributes.tolist(), strict=True))
        assert found.value_counts().to_dict() == kept
        assert len(balanced) == 2 * sum(min(kept[y, 0], kept[y, 1]) for y in (0, 1))
        assert set(balanced.rows.tolist()) <= set(full.rows.tolist())
        # one batch: its order does not matter
        network = cell.baseline(fold)
        inputs = full.draw(torch.arange(len(full)))
        logits = network(inputs)
        loss = prediction_loss(logits, full.labels)
        assert tuple(call.importance) == READ
        assert_weights(
            call.importance["minibatch.full.prediction"], squared_gradients(loss, network)
        )
        # the draw is every method's and network's of this task, attribute and fold
        rng = np.random.default_rng(seed_of(external_seed(fold), "fraction"))
        mask = np.zeros(len(rows), bool)
        for label in (0, 1):
            for group in (0, 1):
                one = np.flatnonzero((rows.label == label) & (rows.attribute == group))
                mask[rng.permutation(one)[: kept[label, group]]] = True
        torch.testing.assert_close(
            inputs.contiguous(), cell.part(fold, "full")[0][mask], rtol=0, atol=1e-5
        )


# --- a real method --------------------------------------------------------------------------------


@pytest.mark.key("method.algorithm")
@pytest.mark.parametrize("balanced", [True, False])
def test_one_step_of_full_finetuning(
    debias: Callable[..., str], cell: Cell, tmp_path: Path, balanced: bool
) -> None:
    variant = {"algorithm": "fullft", "balanced": balanced, "prediction_weight": 0.3}
    debias(variant | {"epochs_percent": 5})  # one epoch of one batch
    for fold in FOLDS:
        network = cell.baseline(fold).train()
        inputs, labels, groups = cell.part(fold, "balanced" if balanced else "full")
        logits = network(inputs)
        loss = 0.3 * prediction_loss(logits, labels) + 0.7 * bias_loss(logits, labels, groups)
        loss.backward()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                rate = 0.3 if name.startswith("head.") else 0.02
                parameter -= rate * (parameter.grad + 0.1 * parameter)
        found = load_file(tmp_path / f"debiased/fold{fold}/model.safetensors")
        assert_weights(found, network.state_dict())
        assert history(tmp_path, fold)["loss"].tolist() == [pytest.approx(loss.item(), rel=1e-4)]
        assert cost(tmp_path, fold)["images_seen"] == len(labels)
    assert not (tmp_path / "checkpoints/mine").exists()


def test_a_finished_fold_of_a_killed_job_is_found_again(
    debias: Callable[..., str], cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second fold, a job keeps the first one's checkpoint; the result is the same."""
    from swift_debias.learning import networks

    variant = {"algorithm": "fullft", "epochs_percent": 10}
    compute = COMPUTE | {"checkpoint_seconds": 0}
    debias(variant, compute=compute)
    finished = load_file(tmp_path / "debiased/fold0/model.safetensors")
    load, second = networks.load, cell.inputs["models"][1]

    def stop(path: Path, backbone: Any) -> Any:
        if path == second:
            raise KeyboardInterrupt
        return load(path, backbone)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(networks, "load", stop)
        debias(variant, compute=compute)
    assert (tmp_path / "checkpoints/mine/fold0/fullft.safetensors").is_file()
    assert "resumed after epoch 2 of 2" in debias(variant, compute=compute)
    resumed = load_file(tmp_path / "debiased/fold0/model.safetensors")
    assert all(torch.equal(resumed[name], value) for name, value in finished.items())
    assert "resumed" not in debias(variant | {"prediction_weight": 0.4}, compute=compute)


# --- a first step that several variants share -----------------------------------------------------

SWIFT = {"algorithm": "swift", "epochs_percent": 10, "mask": "random"}
REST = {"prediction_weight_2": 0.6, "reinit": "full"}


def test_a_shared_first_step_and_the_rest_are_the_whole(
    debias: Callable[..., str], tmp_path: Path
) -> None:
    """To the bit, through the files; the costs are summed."""
    task = {"finetuning": FINETUNING | {"min_cell": 2}}
    debias(SWIFT | REST, into="whole", task=task)
    first = SWIFT | {"step2": False}
    said = debias(first, into="first", wildcard=("first", "0123456789ab"), task=task)
    assert "step1" in said and "step2" not in said
    doctored = [cost(tmp_path, fold, "first") for fold in FOLDS]
    for fold, one in enumerate(doctored):
        one |= {"seconds": 1000.0 + fold, "peak_memory_mb": 1e6 + fold}
        one.pop("digest")
        write_json(tmp_path / f"first/fold{fold}/cost.json", one)
    said = debias(SWIFT | REST, first="first", into="rest", task=task)
    assert "step2" in said and "step1 " not in said
    for fold in FOLDS:
        models = [
            load_file(tmp_path / into / f"fold{fold}/model.safetensors")
            for into in ("whole", "rest", "first")
        ]
        assert models[0].keys() == models[1].keys()
        assert all(torch.equal(models[1][name], value) for name, value in models[0].items())
        assert any(not torch.equal(models[2][name], value) for name, value in models[0].items())
        rows = [history(tmp_path, fold, into) for into in ("whole", "rest", "first")]
        pd.testing.assert_frame_equal(rows[0], rows[1])
        assert rows[0]["stage"].tolist() == ["step1"] * 2 + ["step2"] * 2
        assert rows[2]["stage"].tolist() == ["step1"] * 2
        whole, rest = (cost(tmp_path, fold, into) for into in ("whole", "rest"))
        for name in ("images_seen", "parameters_changed", "buffers_changed", "parameters"):
            assert whole[name] == rest[name] > 0, name
        assert doctored[fold]["images_seen"] < whole["images_seen"]
        assert 1000 + fold <= rest["seconds"] < 1200 + fold
        assert rest["peak_memory_mb"] == 1e6 + fold


def test_variants_that_differ_in_step_2_meet_the_same_draws_in_step_1(
    debias: Callable[..., str], tmp_path: Path
) -> None:
    """Whatever they are called: with flips, and a mask that is drawn."""
    task = {
        "augmentation": {"flips": True, "transpose": True},
        "finetuning": FINETUNING | {"min_cell": 2},
        "pretraining": RECIPE | {"batch_size": 7},
    }
    for name, other in (("mine", {}), ("yours", REST)):
        debias(SWIFT | other, into=name, wildcard=("method", name), task=task)
    for fold in FOLDS:
        mine, yours = (history(tmp_path, fold, into) for into in ("mine", "yours"))
        step1 = [rows[rows.stage == "step1"].reset_index(drop=True) for rows in (mine, yours)]
        assert len(step1[0]) == 2
        pd.testing.assert_frame_equal(*step1)
        assert (mine.loss != yours.loss)[2:].all()


# --- the external threshold -----------------------------------------------------------------------


def threshold(folder: Path, fold: int) -> dict[str, Any]:
    return json.loads((folder / f"debiased/fold{fold}/threshold.json").read_text())


def test_the_threshold_is_the_best_on_the_external_set(
    debias: Callable[..., str], cell: Cell, tmp_path: Path
) -> None:
    debias({"algorithm": "fullft", "epochs_percent": 10})
    for fold in FOLDS:
        rows = pd.read_parquet(cell.inputs["external"][fold])
        model = tmp_path / f"debiased/fold{fold}/model.safetensors"
        scores = scores_of(model, inputs_of(cell.sets, rows))
        stored = threshold(tmp_path, fold)
        found = {
            t: balanced_accuracy_score(rows.label, scores >= t) for t in np.linspace(0, 1, 101)
        }
        nearest = min(found, key=lambda t: abs(t - stored["threshold"]))
        assert found[nearest] == pytest.approx(max(found.values()))
        assert stored["found_on"] == "fitted on"


def test_what_a_search_found_is_taken(debias: Callable[..., str], tmp_path: Path) -> None:
    """Its settings of the keys that it sets, its held-out thresholds, and its cost."""
    found = tmp_path / "search/skin/net/sex/mine.json"
    found.parent.mkdir(parents=True)
    write_json(
        found,
        {
            "chosen": {"prediction_weight": 0.123, "epochs_of": "both"},
            "thresholds": [0.2 + fold / 10 for fold in FOLDS],
            "seconds": 30.0 * len(FOLDS),
            "images_seen": 100 * len(FOLDS),
        },
    )
    method = {"algorithm": "fullft", "epochs_percent": 10}
    debias(method | {"prediction_weight": 0.123}, into="own")
    debias(method, search=found, searched=["prediction_weight"])
    for fold in FOLDS:
        ours, theirs = (
            load_file(tmp_path / into / f"fold{fold}/model.safetensors")
            for into in ("debiased", "own")
        )
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        assert threshold(tmp_path, fold) | {"digest": ""} == {
            "threshold": 0.2 + fold / 10, "found_on": "held out", "digest": "",
        }  # fmt: skip
        spent = cost(tmp_path, fold)
        assert (spent["search_seconds"], spent["search_images_seen"]) == (30, 100)
        assert cost(tmp_path, fold, "own")["search_seconds"] == 0
    # an ablation takes the settings over; its scores are others, and so is its threshold
    debias(method, search=found, searched=["prediction_weight"], wildcard=("method", "ablation"))
    assert {threshold(tmp_path, fold)["found_on"] for fold in FOLDS} == {"fitted on"}
    # a search on the first folds alone has no held-out threshold of the others
    write_json(found, read_json(found) | {"thresholds": [0.2]})
    debias(method, search=found, searched=["prediction_weight"])
    assert threshold(tmp_path, 0)["threshold"] == 0.2
    found_on = [threshold(tmp_path, fold)["found_on"] for fold in FOLDS]
    assert found_on == ["held out", *["fitted on"] * (len(FOLDS) - 1)]


# --- rules and samples held out -------------------------------------------------------------------


def test_a_rule_lies_beside_its_model(
    debias: Callable[..., str], cell: Cell, tmp_path: Path
) -> None:
    """In the place of a threshold; the network is the Baseline's."""
    debias({"algorithm": "threshold_optimizer"})
    for fold in FOLDS:
        folder = tmp_path / f"debiased/fold{fold}"
        found = read_json(folder / "threshold.json")
        assert (found["threshold"], found["found_on"]) == (None, "a rule for each group")
        assert_weights(load_file(folder / "model.safetensors"), cell.baseline(fold).state_dict())
        inputs, labels, groups = cell.part(fold, "full")
        with torch.no_grad():
            scores = cell.baseline(fold)(inputs).flatten().double().sigmoid()
        promised = {}
        for group in (0, 1):
            rule = found["rule"]["groups"][str(group)]
            above = sum(
                part["share"] * (scores > part["threshold"]).double() for part in rule["parts"]
            )
            decided = rule["ignore"] * rule["constant"] + (1 - rule["ignore"]) * above
            promised[group] = [
                float(decided[(labels == label) & (groups == group)].mean()) for label in (0, 1)
            ]
        assert promised[0] == pytest.approx(promised[1], abs=1e-6)  # equalized odds


@pytest.mark.parametrize("known", [True, False])
def test_a_method_that_holds_out_is_told_whose_the_images_are(
    debias: Callable[..., str],
    cell: Cell,
    handed: list[SimpleNamespace],
    tmp_path: Path,
    known: bool,
) -> None:
    """From the cohort, in the order of the external set; and by the run's selection."""
    rows = pd.concat(cell.external)[["dataset", "image_id"]].sample(frac=1, random_state=1)
    cohort = rows.assign(patient_id=[f"p{i % 7}" if i % 5 else None for i in range(len(rows))])
    if known:
        cell.inputs["cohort"] = [write_parquet(tmp_path / "cohort.parquet", cohort)]
    debias(
        {"algorithm": "spy"}, write_importances(tmp_path),
        selection={"share": 0.45} if known else None,
    )  # fmt: skip
    whose = {(row.dataset, row.image_id): row.patient_id for row in cohort.itertuples()}
    for fold, call in enumerate(handed):
        patients, share = call.external.patients, call.context.selection.share
        assert share == (0.45 if known else 0.3)
        if not known:
            assert patients is None
            continue
        keys = cell.external[fold][["dataset", "image_id"]].itertuples(index=False, name=None)
        for found, key in zip(patients, keys, strict=True):
            assert found == whose[key] or (pd.isna(found) and pd.isna(whose[key]))
