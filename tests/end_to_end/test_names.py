"""A method is chosen by its algorithm: runs whose variants are called otherwise, or lack some.

`swift` and `baseline` are names like any other. Both runs share their data and Baselines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import cut

IMAGES = {"isic2019": 120, "isic2020": 120, "isic2017": 30, "isic2018": 30, "pad_ufes_20": 60}
TASK = {
    "train": ["isic2019", "isic2020"],
    "tests": {"sex": ["pad_ufes_20"]},
    "images": {"size": 24},
    "pretraining": {"epochs": 2, "batch_size": 32},
    "finetuning": {"epochs_percent": 100, "min_cell": 2},
}
RENAMED = {
    "as_trained": {"algorithm": "baseline", "title": "As trained"},
    "mine": {"algorithm": "swift", "title": "Mine"},
    "mine_longer": {"like": "mine", "epochs_percent": 200},
    # names of the paper for something else
    "bmft": {"algorithm": "llft", "title": "Not BMFT"},
    "baseline": {"algorithm": "fullft", "title": "Not the Baseline"},
}


def views(*methods: str, sweep: tuple[str, ...] = ()) -> dict[str, Any]:
    """A table, the Pareto figure, and what is drawn against the Baseline."""
    panel = [cut.panel("skin", "sex")]
    shown = {"methods": list(methods), "panels": panel}
    found = cut.table_and_figure(methods, panel, panel) | {
        "intervals": {"kind": "figure", "plot": "intervals", "title": "Intervals", **shown},
        "cost": {"kind": "figure", "plot": "cost", "title": "Cost", **shown},
    }
    if sweep:
        found["epochs"] = {"kind": "figure", "plot": "epochs", "title": "Epochs"} | {
            "methods": list(sweep),
            "panels": panel,
        }
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, snakemake) -> Path:
    """Both runs, one after the other in one folder; the first one's report is kept."""
    folder = tmp_path_factory.mktemp("names")
    renamed = views(*RENAMED, sweep=("as_trained", "mine", "mine_longer"))
    for number, (methods, experiments) in enumerate(
        ((RENAMED, renamed), ({}, views("llft", "fullft_rw")))
    ):
        config = folder / f"config{number}.yaml"
        config.write_text(cut.config("names", IMAGES, {"skin": TASK}, experiments, methods=methods))
        snakemake(folder, "--cores", "2", "--configfile", str(config))
        results = folder / "results" / "names"
        (results / "report.html").rename(results / f"report{number}.html")
        (results / "statistics.parquet").rename(results / f"statistics{number}.parquet")
    return results


@pytest.mark.ci
def test_renamed_methods_are_compared_with_the_variant_that_is_the_baseline(run: Path) -> None:
    compared = pd.read_parquet(run / "statistics0.parquet")
    against = compared[compared["against"] == "baseline"]
    assert set(against["other"]) == {"as_trained"}
    assert set(against["method"]) == set(RENAMED) - {"as_trained"}
    sweep = pd.read_csv(run / "figures" / "epochs.csv")
    assert sweep.groupby("method")["x"].first().to_dict() == {
        "as_trained": 0,
        "mine": 2,
        "mine_longer": 4,
    }
    page = (run / "report0.html").read_text()
    assert all(variant.get("title", "") in page for variant in RENAMED.values())


@pytest.mark.ci
def test_a_run_without_baseline_and_swift_ends_in_a_report(run: Path) -> None:
    compared = pd.read_parquet(run / "statistics1.parquet")
    # the best other method is one that is ranked: few images are decided at random here
    judged = pd.read_parquet(run / "plausibility.parquet")
    unfit = judged[judged["mark"].isin(["collapsed", "constant decisions", "implausible"])]
    both = {"llft", "fullft_rw"}
    assert set(unfit["method"]) == both and compared.empty
    assert set(judged["method"]) <= both
    assert not (compared["against"] == "baseline").any()
    assert "LLFT" in (run / "report1.html").read_text()
