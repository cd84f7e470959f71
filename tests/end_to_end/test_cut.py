"""A cut of the demo, from raw folders to a table, twice: the same bytes whatever the cores.

One task, one small network, one attribute, four methods, on few tiny images. The numbers mean
nothing; that they are what an independent computation from the predictions gives is checked.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import true_positive_rate_difference
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from tests import cut

METHODS = ["baseline", "llft", "fairprune", "swift"]
RESULTS = ["metrics.parquet", "tables/table1.csv", "tables/table1.md", "tables/table1.tex"]


def cut_config() -> str:
    """Only table 1 of the demo's experiments, with one panel."""
    images = {"isic2017": 40, "isic2018": 60, "isic2019": 160, "isic2020": 200}
    images |= {"atlas": 60, "pad_ufes_20": 60}
    skin = {
        "images": {"size": 24},
        "pretraining": {"epochs": 3},
        "finetuning": {"epochs_percent": 100, "min_cell": 2},
    }
    table = {
        "kind": "table",
        "title": "A cut",
        "methods": METHODS,
        "panels": [{"task": "skin", "backbone": "small_resnet", "attribute": "sex"}],
    }
    return cut.config("cut", images, {"skin": skin}, {"table1": table})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, snakemake) -> list[Path]:
    made = []
    for cores in ("1", "2"):
        directory = tmp_path_factory.mktemp(f"cores{cores}")
        config = directory / "cut.yaml"
        config.write_text(cut_config())
        target = "results/cut/tables/table1.csv"
        snakemake(directory, "--cores", cores, "--configfile", str(config), "--", target)
        made.append(directory / "results" / "cut")
    return made


@pytest.mark.slow
def test_same_bytes_with_one_and_two_cores(runs: list[Path]) -> None:
    one, two = runs
    patterns = ["**/*.safetensors", "predictions/**/*.parquet", "external/**/*.parquet"]
    patterns += ["cohorts/*", "folds/*", "manifests/*", "images/*", "debiased/**/history.parquet"]
    files = [path.relative_to(one) for pattern in patterns for path in one.glob(pattern)]
    files += [Path(name) for name in RESULTS]
    assert len(files) > 40
    different = [str(f) for f in files if (one / f).read_bytes() != (two / f).read_bytes()]
    assert not different


@pytest.mark.slow
def test_table_is_what_the_predictions_say(runs: list[Path]) -> None:
    table = pd.read_csv(runs[0] / "tables" / "table1.csv").set_index(
        ["method", "dataset", "metric"]
    )
    for method in METHODS:
        for dataset in ("atlas", "pad_ufes_20"):
            aucs, odds = [], []
            for fold in (0, 1):
                path = f"predictions/skin/small_resnet/sex/{method}/fold{fold}.parquet"
                rows = pd.read_parquet(runs[0] / path)
                rows = rows[(rows.dataset == dataset) & (rows.attribute >= 0)]
                decided = (rows.score >= 0.5).astype(int)
                aucs.append(roc_auc_score(rows.label, rows.score))
                gaps = [
                    true_positive_rate_difference(truth, guess, sensitive_features=rows.attribute)
                    for truth, guess in ((rows.label, decided), (1 - rows.label, 1 - decided))
                ]
                odds.append(sum(gaps) / 2)
            for metric, values in (("auc", aucs), ("eodds", odds)):
                cell = table.loc[(method, dataset, metric)]
                assert cell["mean"] == pytest.approx(np.mean(values), abs=1e-9)
                assert cell["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
                assert cell["n_folds"] == 2
    assert table["published_mean"].isna().all()


@pytest.mark.slow
def test_baseline_is_untouched_and_no_image_is_on_both_sides(runs: list[Path]) -> None:
    run = runs[0]
    for fold in (0, 1):
        trained = run / f"baseline/skin/small_resnet/fold{fold}/model.safetensors"
        kept = run / f"debiased/skin/small_resnet/sex/baseline/fold{fold}/model.safetensors"
        assert trained.read_bytes() == kept.read_bytes()
        assert load_file(trained)
    cohort = pd.read_parquet(run / "cohorts/skin.parquet")
    folds = pd.read_parquet(run / "folds/skin.parquet")
    both = cohort.merge(folds, on=["dataset", "image_id"])
    assert len(both) == len(cohort) == len(folds)
    assert both.groupby("group").fold.nunique().max() == 1
    known = both[both.patient_id.notna()]
    assert known.groupby(["dataset", "patient_id"]).fold.nunique().max() == 1
    hashes = {
        path.stem: pd.read_parquet(path).set_index("image_id").sha256
        for path in (run / "images").glob("*.parquet")
    }
    training = {
        hashes[dataset][image_id]
        for dataset, image_id in zip(cohort.dataset, cohort.image_id, strict=True)
    }
    for test in ("atlas", "pad_ufes_20"):
        assert not training & set(hashes[test].dropna())
