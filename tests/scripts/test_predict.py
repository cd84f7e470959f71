"""predict.py: every model's scores under its own method and fold, on the rows of its test sets."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prepared import (
    BACKBONE,
    COMPUTE,
    NORMALIZATION,
    DataSet,
    caches,
    inputs_of,
    read_model,
    scores_of,
    write_data_set,
    write_json,
    write_model,
    write_parquet,
)
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from swift_debias.evaluation import metrics
from swift_debias.learning import tensor_files

METHODS, FOLDS = ["swift", "baseline"], [0, 1, 2]
SETUP = "skin/net/tone"
LIGHT = {"column": "fitzpatrick", "groups": {"light": [1, 2, 3], "dark": [4, 5, 6]}}


def test_every_model_scores_under_its_own_name(run: Callable[..., str], tmp_path: Path) -> None:
    measured = write_data_set(
        tmp_path, "zeta", {"label": [0, 1, 1, 0, 1, 0], "patient_id": [*"ababcb"]}, broken=[4]
    )
    annotated = write_data_set(
        tmp_path, "alpha", {"label": [1, 0, 1, 1, 0], "fitzpatrick": [2, 6, None, 4, 1]}
    )
    tones = measured.frame[["image_id"]].assign(fitzpatrick=[5, 1, 3, 4, 2, None], ita=0.0)
    tone = write_parquet(tmp_path / "skin_tone" / "zeta.parquet", tones.drop(index=4))
    models = {
        (method, fold): write_model(
            tmp_path / f"debiased/{SETUP}/{method}/fold{fold}/model.safetensors", seed
        )
        for seed, (method, fold) in enumerate(itertools.product(METHODS, FOLDS))
    }
    thresholds = {key: 0.11 + number / 100 for number, key in enumerate(models)}
    files = []
    for (method, fold), threshold in thresholds.items():
        files.append(tmp_path / f"debiased/{SETUP}/{method}/fold{fold}/threshold.json")
        write_json(files[-1], {"threshold": threshold})
    said = run(
        "predict.py",
        input={
            "models": [*models.values()][::-1],  # their paths name them, not their order
            "thresholds": files,
            "manifests": [measured.manifest, annotated.manifest],
            **caches([measured, annotated]),
            "skin_tone": [tone],
        },
        output=[f"predictions/{SETUP}"],
        params={
            "backbone": BACKBONE,
            "attribute": LIGHT,
            "normalization": NORMALIZATION,
            "datasets": ["zeta", "alpha"],
            "compute": COMPUTE,
        },
    )
    expected = pd.concat(
        [
            measured.frame.drop(index=4).assign(dataset="zeta", group=[1, 0, 0, 1, -1]),
            annotated.frame.assign(dataset="alpha", group=[0, 1, -1, 1, 0]),
        ],
        ignore_index=True,
    ).astype({"group": "int16"})[["dataset", "image_id", "patient_id", "label", "group"]]
    inputs = inputs_of([measured, annotated], expected)
    scores = {key: scores_of(path, inputs) for key, path in models.items()}
    for one, other in itertools.combinations(scores.values(), 2):  # a mix-up would show
        assert np.abs(one - other).max() > 0.01
    for (method, fold), value in scores.items():
        found = pd.read_parquet(tmp_path / "predictions" / SETUP / method / f"fold{fold}.parquet")
        assert found["score"].dtype == np.float64
        np.testing.assert_allclose(found.pop("score"), value, atol=1e-5)
        assert found.pop("threshold").unique() == [thresholds[method, fold]]
        pd.testing.assert_frame_equal(found, expected)
        assert f"{models[method, fold]}: 10 images scored" in said
    assert len(list((tmp_path / "predictions").rglob("*.parquet"))) == len(models)


def predicted(run: Callable[..., str], folder: Path, model: Path, made: DataSet) -> pd.DataFrame:
    """What predict.py writes of one model of SWiFT, its threshold beside it, and one data set."""
    run(
        "predict.py",
        input={
            "models": [model],
            "thresholds": [model.parent / "threshold.json"],
            "manifests": [made.manifest],
            **caches([made]),
            "skin_tone": [],
        },
        output=[f"predictions/{SETUP}"],
        params={
            "backbone": BACKBONE,
            "attribute": LIGHT,
            "normalization": NORMALIZATION,
            "datasets": ["alpha"],
            "compute": COMPUTE,
        },
    )
    return pd.read_parquet(folder / "predictions" / SETUP / "swift/fold0.parquet")


def test_a_rule_decides_by_score_group_and_image(run: Callable[..., str], tmp_path: Path) -> None:
    """It lies beside its model; a certain decision, one that is drawn, and groups it lacks."""
    rows = {"label": [0, 1] * 30, "fitzpatrick": [1, 2, 5, 6, None, 3] * 10}
    made = write_data_set(tmp_path, "alpha", rows)
    folder = tmp_path / f"debiased/{SETUP}/swift/fold0"
    model = write_model(folder / "model.safetensors", 3)
    half = {"parts": [{"share": 1.0, "side": ">", "threshold": 2.0}], "ignore": 1.0}
    cut = {"parts": [{"share": 1.0, "side": "<", "threshold": 0.5}], "ignore": 0.0}
    groups = {"0": half | {"constant": 0.5}, "1": cut | {"constant": 0.0}}
    write_json(
        folder / "threshold.json", {"threshold": None, "rule": {"groups": groups, "seed": 8}}
    )
    found = predicted(run, tmp_path, model, made)
    assert found["threshold"].isna().all() and found["threshold"].dtype == "float64"
    np.testing.assert_allclose(
        found["score"], scores_of(model, inputs_of([made], found)), atol=1e-5
    )
    for row in found.itertuples():
        digest = hashlib.sha256(f"8/alpha/{row.image_id}".encode()).digest()
        heads = int.from_bytes(digest[:8], "big") < 2**63
        expected = {0: heads, 1: row.score < 0.5, -1: row.score >= 0.5}[row.group]
        assert row.decision == expected
    assert found.groupby("group")["decision"].nunique()[0] == 2


@pytest.mark.parametrize("shift", [-25.0, 0.0, 25.0])
def test_a_network_that_is_sure_of_itself_keeps_its_order(
    run: Callable[..., str], tmp_path: Path, shift: float
) -> None:
    """Logits of 25 are all 1 as probabilities of 32 bits; the AUC is that of the logits."""
    made = write_data_set(tmp_path, "alpha", {"label": [0, 1] * 30, "fitzpatrick": [1, 5] * 30})
    folder = tmp_path / f"debiased/{SETUP}/swift/fold0"
    model = write_model(folder / "model.safetensors", 3)
    state = load_file(model)
    bias = max(name for name in state if name.startswith("head.") and name.endswith("bias"))
    state[bias] += shift
    tensor_files.write(model, state)
    write_json(folder / "threshold.json", {"threshold": 0.5})
    found = predicted(run, tmp_path, model, made)
    with torch.no_grad():
        logits = read_model(model)(inputs_of([made], found)).numpy()
    assert logits.mean() == pytest.approx(shift, abs=5)
    rows = metrics.score(found, groups=2, min_group=2).set_index("metric")["value"]
    assert rows["auc"] == pytest.approx(roc_auc_score(found["label"], logits), abs=1e-9)
