"""An external set of one's own, of a classifier that was brought along and one trained beside it.

One tiny run of two tasks. What is expected is counted in plain pandas and plain torch.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tests import tiny, warm

from swift_debias import methods
from swift_debias.config import load
from swift_debias.config.schema import Backbone, Settings
from swift_debias.data import adapters, check
from swift_debias.errors import UserError
from swift_debias.learning import networks

pytestmark = pytest.mark.ci
PROJECT = Path(__file__).resolve().parents[2]
FOLDS = 3
SMALL = {"architecture": "small_resnet", "options": {"width": 8}, "dropout": 0.0}
KEYS = ["dataset", "image_id"]


def config(data: Path) -> dict[str, Any]:
    """`brought`: a classifier and a small set, nothing else; `trained`: a pool beside that set."""
    settings = tiny.config(data, {})
    settings["folds"] = FOLDS
    settings["repeats"] = 2
    settings["datasets"]["small"] = tiny.dataset(data / "small")
    for name in ("train", "small"):
        settings["datasets"][name]["archive"] = "hospital"  # whose patients have one name in both
    trained = settings["tasks"].pop("lesion") | {"external": ["small"]}
    brought = copy.deepcopy(trained)
    del brought["train"], brought["pretraining"]
    brought["finetuning"]["epochs_percent"] = 1
    settings["tasks"] = {"brought": brought, "trained": trained}
    settings["backbones"] = {
        "small": SMALL,
        "mine": SMALL | {"baseline": str(data / "mine.safetensors")},
    }
    settings["methods"] = {
        "baseline": {"algorithm": "baseline"},
        "swift": {"algorithm": "swift"},
        "llft": {"algorithm": "llft", "search": {"alpha": [0.2, 0.8]}},
    }
    panels = [
        {"task": "brought", "backbone": "mine", "attribute": "sex"},
        {"task": "trained", "backbone": "small", "attribute": "sex", "methods": ["baseline"]},
    ]
    views = tiny.table("baseline", "swift", "llft") | {"panels": panels}
    settings["experiments"] = {"table1": views}
    return settings


def read_settings(settings: dict[str, Any]) -> Settings:
    """The settings as the workflow reads them."""
    known = {"algorithms": methods.settings_models(), "adapters": adapters.options_models()}
    return load.load(settings, PROJECT, **known)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets, and a classifier that nobody here has trained."""
    folder = tmp_path_factory.mktemp("own_external") / "data"
    tiny.write_data(folder, train=72)
    rows = tiny.rows("small", 72)
    rows[0] |= {"patient": "train_0"}  # whom the pool has too
    tiny.write_set(folder / "small", rows)
    classifier = networks.build(Backbone(**SMALL), seed=5)
    classifier.head.linear.weight.data *= 40  # scores far apart, as a trained one has
    save_file(classifier.state_dict(), folder / "mine.safetensors")
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Iterator[Path]:
    """The results of the run."""
    folder = data.with_name("run")
    folder.mkdir()
    path = tiny.write_config(folder / "config.yaml", config(data))
    words = ["--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    words += ["--cores", "2", "--scheduler", "greedy", "--configfile", str(path)]
    with warm.serve_jobs() as jobs:
        done = warm.run("snakemake", *words, cwd=folder, jobs=jobs, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    yield folder / tiny.RUN


def images_of(run: Path, task: str, fold: int) -> set[str]:
    """Images of a fold's external set."""
    frame = pd.read_parquet(run / f"external/{task}/sex/fold{fold}.parquet")
    return set(frame["image_id"])


@pytest.mark.parametrize("task", ["brought", "trained"])
def test_methods_are_fitted_on_all_folds_of_the_set_but_one(run: Path, task: str) -> None:
    folds = pd.read_parquet(run / f"folds/{task}.parquet")
    own = folds[folds["dataset"] == "small"]
    assert len(own) == 72
    for fold in range(FOLDS):
        fitted = images_of(run, task, fold)
        assert fitted == set(own.loc[own["fold"] != fold, "image_id"])
        assert 0 < len(fitted) < 72


def test_the_classifier_is_debiased_as_it_was_brought(run: Path, data: Path) -> None:
    mine = load_file(data / "mine.safetensors")
    for fold in range(FOLDS):
        kept = load_file(run / f"baseline/brought/mine/fold{fold}/model.safetensors")
        assert all(torch.equal(kept[name], value) for name, value in mine.items())
        moved = load_file(run / f"debiased/brought/mine/sex/swift/fold{fold}/model.safetensors")
        assert any(not torch.equal(moved[name], value) for name, value in mine.items())


def test_thresholds_are_found_on_the_fold_that_was_kept(run: Path) -> None:
    manifest = pd.read_parquet(run / "manifests/small.parquet").set_index("image_id")
    ids = pd.read_parquet(run / "images/small.parquet")["image_id"].tolist()
    pixels = np.load(run / "images/small.npy")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    views = torch.tensor(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2), dtype=torch.float32)
    for method in ("swift", "llft", "baseline"):
        for fold in range(FOLDS):
            kept = sorted(set(ids) - images_of(run, "brought", fold))
            folder = run / f"debiased/brought/mine/sex/{method}/fold{fold}"
            network = networks.load(folder / "model.safetensors", Backbone(**SMALL))
            with torch.no_grad():
                logits = network(views[[ids.index(image) for image in kept]]).double()
            labels = manifest.loc[kept, "label"].to_numpy()
            found = pd.read_json(folder / "threshold.json", typ="series")
            assert found["found_on"] == "held out"

            def accuracy(threshold: float) -> float:
                decisions = logits.sigmoid().numpy() >= threshold  # noqa: B023
                return balanced_accuracy_score(labels, decisions)  # noqa: B023

            grid = np.linspace(0, 1, 101)
            reached = np.array([accuracy(t) for t in grid])
            best = np.flatnonzero(reached >= reached.max() - 1e-12)
            if method != "llft":  # whose threshold is that of the trial, fitted likewise
                assert found["threshold"] == pytest.approx(grid[best[len(best) // 2]])


def test_trials_are_judged_on_the_fold_that_was_kept(run: Path) -> None:
    found = pd.read_json(run / "search/brought/mine/sex/llft.json", typ="series")
    assert found["select_images"] == 72  # each once, in the fold that is kept
    assert found["chosen"]["alpha"] in (0.2, 0.8)


@pytest.mark.key("repeats")
def test_every_fold_is_debiased_twice_and_counts_once(run: Path) -> None:
    place = "brought/mine/sex"
    scored = pd.read_parquet(run / f"metrics/{place}.parquet")
    for method, fold in itertools.product(("swift", "llft"), range(FOLDS)):
        folder = run / f"debiased/{place}/{method}/fold{fold}"
        first, second = (
            load_file(path / "model.safetensors") for path in (folder, folder / "repeat1")
        )
        assert any(not torch.equal(first[name], second[name]) for name in first)
        cell = run / f"predictions/{place}/{method}"
        both = [pd.read_parquet(cell / f"fold{fold}{end}.parquet") for end in ("", ".repeat1")]
        assert not np.array_equal(both[0]["score"], both[1]["score"])
        expected = np.mean([roc_auc_score(rows["label"], rows["score"]) for rows in both])
        mine = scored[(scored["method"] == method) & (scored["fold"] == fold)]
        [value] = mine.loc[mine["metric"] == "auc", "value"]
        assert value == pytest.approx(expected)
    intervals = pd.read_parquet(run / f"intervals/{place}.parquet")
    assert set(intervals["n_folds"]) == {FOLDS}
    assert not (run / f"debiased/{place}/baseline/fold0/repeat1").exists()


@pytest.mark.key("task.external")
def test_a_classifier_on_its_own_pool_is_pointed_at(data: Path) -> None:
    settings = config(data)
    settings["tasks"]["brought"] = settings["tasks"].pop("trained")
    settings["experiments"]["table1"]["panels"].pop()

    def notes(external: list[str]) -> str:
        settings["tasks"]["brought"]["external"] = external
        read = read_settings(settings)
        expected = {"datasets": {}, "pools": []}
        return " ".join(check.check(read, data, expected).notes)

    said = notes([])
    assert "backbone mine brings its own classifier" in said and "tasks.brought.external" in said
    assert "backbone mine" not in notes(["small"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": []}, "backbones.small needs a trained classifier of yours (baseline:)"),
        ({"external": ["test"]}, "'test' is also an external set"),
        ({"external": ["train"]}, "'train' is a training set as well"),
        ({"external": ["smal"]}, "no data set 'smal'"),
        ({"external": ["small", "small"]}, "'small' stands there twice"),
        ({"train": [], "external": []}, "train: is missing"),
        ({"pretraining": None}, "pretraining: is missing"),
        ({"tie": {"attribute": "sex", "strength": 0.5}}, "leave out tie: or external:"),
    ],
)
def test_contradictions_are_refused_when_the_config_is_read(
    data: Path, change: dict[str, Any], words: str
) -> None:
    settings = config(data)
    task = settings["tasks"]["trained"] | change
    settings["tasks"]["trained"] = {key: v for key, v in task.items() if v is not None}
    with pytest.raises(UserError, match=re.escape(words)):
        read_settings(settings)


def test_nothing_is_trained_on_the_set_or_its_patients(run: Path) -> None:
    cohort = pd.read_parquet(run / "cohorts/trained.parquet")
    assert set(cohort.loc[cohort["external"], "dataset"]) == {"small"}
    trained = cohort[cohort["trains"]]
    assert set(trained["dataset"]) == {"train"} and len(trained) == 71
    assert "train_0" not in set(trained["patient_id"])
    sizes = pd.read_csv(run / "folds/trained.sizes.csv")
    whole = sizes[(sizes["group"] == "all") & (sizes["label"] == "all")]
    assert (whole.loc[whole["set"] == "pool", "n"] == 71).all()
    train = whole[(whole["set"] == "train") & (whole["attribute"] == "all")]
    kept = whole[(whole["set"] == "validation") & (whole["attribute"] == "all")]
    assert (train["n"].to_numpy() + kept["n"].to_numpy() == 71).all()
    for fold in range(FOLDS):
        cost = pd.read_json(run / f"baseline/trained/small/fold{fold}/cost.json", typ="series")
        epochs = 2
        assert cost["images_seen"] == epochs * (train["n"].iloc[fold] + kept["n"].iloc[fold])
