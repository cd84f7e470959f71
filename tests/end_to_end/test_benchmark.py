"""A small cut of config/benchmark.yaml: by the workflow, and by `swift-debias compare`.

Both must give the same numbers, and each of them those of a loop and of scikit-learn.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests import warm
from tests.unit.test_compare import METHOD

from swift_debias import cli, methods

PROJECT = Path(__file__).resolve().parents[2]
TASKS = ("correlation_90", "absence")
pytestmark = pytest.mark.ci


def small(folder: Path) -> Path:
    """The benchmark with few tiny images, one fold of search and two methods."""
    bias = {"kind": "correlation", "strength": 0.8}
    panel = {"backbone": "small_resnet", "attribute": "tone"}
    tasks: dict[str, Any] = {name: {} for name in ("clean", "correlation_90", "absence")}
    settings = {
        "extends": str(PROJECT / "config/benchmark.yaml"),
        "folds": 2,
        "repeats": 2,
        "synthetic": {
            "populations": {
                "test": {"people": "test", "images": 80},
                "external_800": {"people": "external", "images": 80},
                "pool_clean": {"people": "pool", "images": 80},
                "pool_correlation_90": {"people": "pool", "images": 80, "bias": bias},
                "pool_absence": {"people": "pool", "images": 80},
            },
        },
        "tasks": tasks,
        "selection": {"trials": 2},
        "compute": {"deterministic": False},  # saves an import of seconds
        "methods": dict.fromkeys(
            (
                *("fullft_rw", "fullft_reg", "fullft_fdr", "diffgda", "fairprune", "diffprune"),
                *("bmft", "swift", "no_mask", "swift_bn_eval"),
            )
        )
        | {"llft": {"steps": 20, "search": {"alpha": [0.5, 2]}}},
        "experiments": dict.fromkeys(
            (
                *("clean", "correlation", "imbalance", "class_imbalance", "annotation"),
                *("acquisition", "sizes", "biased_external"),
                *("ranks", "ranks_800", "front"),
            )
        )
        | {
            "compare": {
                "methods": ["baseline", "llft"],
                "panels": [
                    panel | {"task": "clean", "methods": ["baseline"]},
                    panel | {"task": "correlation_90"},
                    panel | {"task": "absence"},
                ],
            }
        },
    }
    recipe = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adam", "lr": 0.003}}
    for task in tasks.values():
        task["pretraining"] = recipe
        task["finetuning"] = {"epochs_percent": 50, "min_cell": 2}
    path = folder / "small.json"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the workflow."""
    folder = tmp_path_factory.mktemp("benchmark")
    words = ["--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder), "--cores", "2"]
    words += ["--scheduler", "greedy", "--configfile", str(small(folder))]
    with warm.serve_jobs() as jobs:
        done = warm.run("snakemake", *words, cwd=folder, jobs=jobs, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    sys.modules.pop("swift_debias.methods.shrunk", None)
    methods.OUTSIDE.clear()
    methods.load.cache_clear()


def test_the_run_is_of_what_the_configuration_says(run: Path) -> None:
    results = run / "results/benchmark"
    with (results / "raw/pool_correlation_90/table.csv").open(newline="") as file:
        cells = Counter((row["truth"], row["group"]) for row in csv.DictReader(file))
    assert cells == {("1", "dark"): 36, ("1", "light"): 4, ("0", "light"): 36, ("0", "dark"): 4}
    # tests are balanced and clean, and external sets too
    for name in ("test", "external_800"):
        frame = pd.read_parquet(results / f"manifests/{name}.parquet")
        assert set(frame.groupby(["label", "tone"]).size()) == {20}
        truth = pd.read_csv(results / f"raw/{name}/table.csv")
        assert (truth.label == truth.truth).all()
    for task in ("clean", *TASKS):
        cohort = pd.read_parquet(results / f"cohorts/{task}.parquet")
        assert cohort.external.sum() == 80
        assert cohort.trains.sum() == 80
    assert "SYNTHETIC" in (results / "report.html").read_text().upper()


def loop(stored: pd.DataFrame) -> tuple[float, float]:
    """EOdds and AUC of a method: means over folds of means over repeats."""
    gaps, areas = [], []
    for _, rows in stored.groupby(["fold", "repeat"]):
        areas.append(roc_auc_score(rows.label, rows.score))
        decided = rows.score >= 0.5
        rates = [
            [decided[(rows.label == y) & (rows.group == g)].mean() for g in (0, 1)] for y in (0, 1)
        ]
        gaps.append(np.abs(np.diff(rates, axis=1)).mean())
    return float(np.mean(gaps)), float(np.mean(areas))


def test_a_method_of_a_file_is_ranked_beside_others(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method, out = tmp_path / "shrunk.py", tmp_path / "out"
    method.write_text(textwrap.dedent(METHOD))
    words = ["compare", str(method), "--config", str(small(tmp_path)), "--out", str(out)]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "training the Baseline" in told.err
    lines = told.out.splitlines()
    assert "SYNTHETIC" in lines[0]
    for name in ("Baseline", "LLFT", "shrunk (yours)", "Oracle", "Largest floor"):
        assert sum(line.strip().startswith(name) for line in lines[2:7]) == 1, told.out
    place = next(line for line in lines if line.startswith("shrunk (yours): place "))
    assert " of 3 by EOdds, mean rank " in place

    cells = pd.read_csv(out / "shrunk.csv").set_index(["task", "method"])
    of_run = pd.read_parquet(run / "results/benchmark/metrics.parquet")
    means = of_run.groupby(["task", "method", "metric"])["value"].mean()
    for task in TASKS:
        for name in ("baseline", "llft", "shrunk"):
            stored = pd.read_parquet(next((out / task).glob(f"{name}.*.parquet")))
            assert len(stored) == 80 * 2 * (1 if name == "baseline" else 2)
            eodds, auc = loop(stored)
            assert cells.loc[(task, name), "eodds"] == pytest.approx(eodds)
            assert cells.loc[(task, name), "auc"] == pytest.approx(auc)
            for metric in ("eodds", "auc") if name != "shrunk" else ():
                here = cells.loc[(task, name), metric]
                assert here == pytest.approx(means[task, name, metric], abs=1e-6), (task, name)
        # a shrunk head draws the scores to the bias: their order is the Baseline's
        mine = cells.loc[(task, "shrunk"), "auc"]
        assert mine == pytest.approx(cells.loc[(task, "baseline"), "auc"], abs=1e-9)
        oracle = cells.loc[(task, "oracle"), "auc"]
        assert oracle == pytest.approx(means["clean", "baseline", "auc"], abs=1e-6)

    # another file of that name: only that is done again
    methods.OUTSIDE.clear()
    method.write_text(textwrap.dedent(METHOD).replace("[0.25, 0.5]", "[0.125]"))
    assert cli.main(words) == 0
    assert {line.split(": ")[1] for line in capsys.readouterr().err.splitlines()} == {"shrunk"}

    # what is wrong in it is told before the others run
    methods.OUTSIDE.clear()
    broken = textwrap.dedent(METHOD).replace("return classifier", "return None")
    method.write_text(broken)
    assert cli.main([*words, "--out", str(tmp_path / "anew")]) == 2
    *doing, told = capsys.readouterr().err.splitlines()
    assert told.endswith("shrunk: debias must return the classifier, not NoneType")
    assert not any("llft" in line for line in doing)


def test_panels_of_one_task_and_what_is_implausible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two networks stand side by side; a method that is ranked last is shown with the reason."""
    method, out, config = tmp_path / "shrunk.py", tmp_path / "out", small(tmp_path)
    # every score is one half: no gap, and nothing told apart
    method.write_text(
        textwrap.dedent(METHOD)
        .replace("mul_(settings.factor)", "zero_()")
        .replace('SEARCH = {"factor": [0.25, 0.5]}', "")
    )
    settings = json.loads(config.read_text())
    task, tone = TASKS[0], {"attribute": "tone"}
    settings["backbones"] = {"twin": {"architecture": "small_resnet"}}
    settings["backbones"]["twin"]["options"] = {"width": 4}
    settings["experiments"]["compare"] = {
        "methods": ["baseline"],
        "panels": [
            tone | {"task": "clean", "backbone": "small_resnet"},
            tone
            | {"task": task, "backbone": "small_resnet", "methods": ["baseline", "bn_recalibrate"]},
            tone | {"task": task, "backbone": "twin", "methods": ["baseline", "bn_recalibrate"]},
        ],
    }
    config.write_text(json.dumps(settings))
    words = ["compare", str(method), "--config", str(config), "--out", str(out)]
    assert cli.main(words) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    head = told.splitlines()[1]
    for network in ("small_resnet", "twin"):
        assert f"{task} {network} EOdds" in head

    cells = pd.read_csv(out / "shrunk.csv", keep_default_na=False)
    cells = cells.set_index(["backbone", "method"])
    assert not cells.index.duplicated().any()
    stored = list((out / task).glob("baseline.*.parquet"))
    assert len(stored) == 2
    areas = sorted(loop(pd.read_parquet(path))[1] for path in stored)
    shown = [float(cells.loc[(name, "baseline"), "auc"]) for name in ("small_resnet", "twin")]
    assert sorted(shown) == pytest.approx(areas)
    assert len({*shown}) == 2
    assert ("small_resnet", "oracle") in cells.index and ("twin", "oracle") not in cells.index
    for network in ("small_resnet", "twin"):
        own = cells.loc[network].drop(index=["oracle", "floor"], errors="ignore")
        assert "constant" in own.loc["shrunk", "eodds_marks"]
        floors = own["floor"].astype(float)
        assert float(cells.loc[(network, "floor"), "eodds"]) == floors.max()
        assert len({*floors}) > 1
    row = next(line for line in told.splitlines() if line.strip().startswith("shrunk (yours)"))
    assert "^" in row
    assert any(line.startswith("^") and "(ranked last)" in line for line in told.splitlines())

    # other arithmetic is computed anew, and nothing else
    methods.OUTSIDE.clear()
    for compute, anew in (({"threads": 2}, False), ({"precision": "bf16"}, True)):
        settings["compute"] = {"deterministic": False} | compute
        config.write_text(json.dumps(settings))
        methods.OUTSIDE.clear()
        assert cli.main(words) == 0
        assert ("training the Baseline" in capsys.readouterr().err) == anew


def test_the_run_says_which_method_to_take(run: Path, tmp_path: Path) -> None:
    results = run / "results/benchmark"
    assert cli.main(["which-method", str(results), "--out", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "which_method.csv").set_index(["task", "method"])
    assert len(rows) == 5  # the oracle, and two methods of two tasks
    means = pd.read_parquet(results / "metrics.parquet")
    means = means.groupby(["task", "method", "metric"])["value"].mean()
    for task, method in rows.index:
        for metric in ("eodds", "auc"):
            found = rows.loc[(task, method), metric]
            assert found == pytest.approx(means[task, method, metric], abs=1e-6)
    page = (tmp_path / "which_method.md").read_text()
    assert "| correlation | 0.8 | 80 |" in page
    # the rule wrote the same, and the report shows it
    of_rule, of_command = (
        {path.name: path.read_bytes() for path in folder.glob("which_method*")}
        for folder in (results / "which_method", tmp_path)
    )
    assert of_rule == of_command
    [chapter] = re.findall("<body>(.*)</body>", of_rule["which_method.html"].decode(), re.S)
    assert chapter.strip() in (results / "report.html").read_text()
