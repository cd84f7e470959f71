"""The plan of a small configuration, job by job: who reads what, and under which settings.

Expected names are put together here from the configuration as it is written, not by the workflow's
own functions. Nothing runs: the raw folders are empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    SchedulingSettings,
)

PROJECT = Path(__file__).resolve().parents[2]
RUN, FOLDS = "results/plan", (0, 1, 2)
TRAIN = {"skin": ["isic2019", "isic2020"], "cxr": ["mimic_cxr"]}
TESTS = {  # of those cells that some view shows
    ("skin", "resnet50", "skin_tone"): ["fitzpatrick17k", "ddi"],
    ("skin", "resnet50", "sex"): ["atlas"],
    ("cxr", "densenet121", "age_5"): ["nih", "chexpert"],
}
METHODS = {  # not in the order of the alphabet
    ("skin", "resnet50", "skin_tone"): ["swift", "baseline", "fullft_rw"],
    ("skin", "resnet50", "sex"): ["swift", "baseline"],
    ("cxr", "densenet121", "age_5"): ["llft", "swift", "baseline"],
}
TASKS: dict[str, dict[str, Any]] = {
    "skin": {
        "images": {"size": 96},
        "pretraining": {"epochs": 20, "batch_size": 16},
        "finetuning": {"min_cell": 3, "min_group": 7},
    },
    "cxr": {
        "invert_labels": True,
        "group_by_patient": False,
        "images": {"size": 80},
        "pretraining": {"epochs": 30, "batch_size": 32},
        "finetuning": {"min_cell": 4, "min_group": 9},
    },
}
PAPER = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())


def configuration() -> dict[str, Any]:
    """Laid on the paper's: two tasks, three cells, one table and one figure; no other view."""
    tasks: dict[str, dict[str, Any]] = {
        name: task | {"train": TRAIN[name], "tests": {}} for name, task in TASKS.items()
    }
    panels = []
    for cell, methods in METHODS.items():
        task, backbone, attribute = cell
        tasks[task]["tests"][attribute] = TESTS[cell]
        panels.append({"task": task, "backbone": backbone, "attribute": attribute})
        panels[-1]["methods"] = methods
    views: dict[str, Any] = dict.fromkeys(PAPER["experiments"])
    views["table1"] = {"kind": "table", "title": "All", "panels": panels}
    views["costs"] = {"kind": "figure", "plot": "cost", "title": "Costs", "panels": panels}
    return {
        "extends": "config/config.yaml",
        "run": "plan",
        "folds": len(FOLDS),
        "datasets": {"ddi": {"skin_tone": "ita"}},
        "tasks": tasks,
        "experiments": views,
    }


def plain(value: Any) -> Any:
    """Tuples and Snakemake's lists as lists."""
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], Any]]:
    """(rule, values of the wildcards ...) -> job."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "plan.yaml").write_text(yaml.safe_dump(configuration()))
    for name in PAPER["datasets"]:
        (folder / "data" / name).mkdir(parents=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(configfiles=[folder / "plan.yaml"]),
                snakefile=PROJECT / "Snakefile",
            )
            dag = workflow.dag(DAGSettings())
            greedy = SchedulingSettings(scheduler="greedy")
            dag.execute_workflow(executor="dryrun", scheduling_settings=greedy)
            found = workflow._workflow.dag.jobs
            yield {(job.rule.name, *job.wildcards_dict.values()): job for job in found}
    finally:
        os.chdir(before)


def of_folds(pattern: str) -> list[str]:
    """A file of every fold, in order."""
    return [f"{RUN}/{pattern}".format(fold=fold) for fold in FOLDS]


def of_sets(pattern: str, names: list[str]) -> list[str]:
    """A file of every data set, in order."""
    return [f"{RUN}/{pattern}".format(name) for name in names]


def test_a_baseline_reads_the_whole_pool(jobs: dict) -> None:
    for task, network in (("skin", "resnet50"), ("cxr", "densenet121")):
        given = jobs["train_baseline", task, network, "1"].input
        assert plain(given.pixels) == of_sets("images/{}.npy", TRAIN[task])
        assert plain(given.index) == of_sets("images/{}.parquet", TRAIN[task])
        assert plain(given.folds) == [f"{RUN}/folds/{task}.parquet"]


def test_debias_reads_its_own_cell_fold_by_fold(jobs: dict) -> None:
    for (task, network, attribute), methods in METHODS.items():
        for method in set(methods) - {"baseline"}:
            job = jobs["debias", task, network, attribute, method]
            given, place = job.input, f"{task}/{network}"
            models = of_folds(f"baseline/{place}/fold{{fold}}/model.safetensors")
            shared = of_folds(f"importance/{place}/{attribute}/fold{{fold}}.safetensors")
            assert plain(given.models) == models
            assert plain(given.external) == of_folds(
                f"external/{task}/{attribute}/fold{{fold}}.parquet"
            )
            assert plain(given.get("importance", [])) == (shared if method == "swift" else [])
            assert plain(job.params.folds) == list(FOLDS)


def test_predictions_are_of_all_models_in_the_order_of_the_params(jobs: dict) -> None:
    for cell, methods in METHODS.items():
        job, place = jobs["evaluate", *cell], "/".join(cell)
        assert sorted(job.params.methods) == sorted(methods)
        assert plain(job.input.models) == [
            f"{RUN}/debiased/{place}/{method}/fold{fold}/model.safetensors"
            for method, fold in product(job.params.methods, job.params.folds)
        ]
        assert job.params.datasets == TESTS[cell]
        assert plain(job.input.pixels) == of_sets("images/{}.npy", TESTS[cell])
        assert plain(job.input.index) == of_sets("images/{}.parquet", TESTS[cell])
        assert plain(job.input.manifests) == of_sets("manifests/{}.parquet", TESTS[cell])


def test_skin_tone_is_read_of_those_sets_where_it_is_measured(jobs: dict) -> None:
    def tones(*job: str) -> list[str]:
        return plain(jobs[job].input.get("skin_tone", []))

    pool = of_sets("skin_tone/{}.parquet", TRAIN["skin"])
    assert tones("make_folds", "skin") == tones("make_external", "skin", "sex") == pool
    assert tones("evaluate", "skin", "resnet50", "skin_tone") == [f"{RUN}/skin_tone/ddi.parquet"]
    assert tones("evaluate", "skin", "resnet50", "sex") == tones("make_folds", "cxr") == []


def test_duplicates_are_searched_in_all_training_and_test_sets(jobs: dict) -> None:
    for task, train in TRAIN.items():
        job = jobs["find_duplicates", task]
        tests = {name for cell, names in TESTS.items() if cell[0] == task for name in names}
        assert job.params.train == train
        assert set(job.params.tests) == tests
        for kind, names in (("train", train), ("test", job.params.tests)):
            assert plain(job.input[f"{kind}_manifests"]) == of_sets("manifests/{}.parquet", names)
            assert plain(job.input[f"{kind}_images"]) == of_sets("images/{}.parquet", names)
        assert job.params.sources == {
            name: [f"data/{name}", "isic" if name.startswith("isic") else None]
            for name in {*train, *tests}
        }
        assert job.params.group_by_patient == (task == "skin")


def test_images_and_labels_follow_the_task_of_the_data_set(jobs: dict) -> None:
    for name in ("isic2019", "isic2020", "atlas", "ddi", "mimic_cxr", "nih", "chexpert"):
        chest = name in ("mimic_cxr", "nih", "chexpert")
        images = jobs["cache_images", name].params.images
        assert (images["size"], images["channels"]) == ((80, 1) if chest else (96, 3))
        assert jobs["build_manifest", name].params.invert_labels == chest


def test_number_of_groups_is_that_of_the_attribute(jobs: dict) -> None:
    for cell in METHODS:
        groups = 5 if cell[2] == "age_5" else 2
        assert jobs["importance", *cell].params.groups == groups
        assert jobs["debias", *cell, "swift"].params.groups == groups
        assert jobs["intervals", *cell].params.groups == groups
        assert len(jobs["score", *cell].params.groups) == groups


def test_folds_are_stratified_by_binary_attributes(jobs: dict) -> None:
    assert set(jobs["make_folds", "skin"].params.attributes) == {"skin_tone", "sex"}
    assert set(jobs["make_folds", "cxr"].params.attributes) == {"sex", "age"}
    assert jobs["make_folds", "cxr"].params.split["folds"] == len(FOLDS)


def test_settings_of_the_task_reach_its_jobs(jobs: dict) -> None:
    for cell in METHODS:
        own = TASKS[cell[0]]
        task = jobs["debias", *cell, "swift"].params.task
        assert task["finetuning"]["min_group"] == own["finetuning"]["min_group"]
        assert jobs["importance", *cell].params.batch_size == own["pretraining"]["batch_size"]
        external = jobs["make_external", cell[0], cell[2]].params
        assert external.min_cell == own["finetuning"]["min_cell"]
        for rule in ("score", "intervals"):
            assert jobs[rule, *cell].params.min_group == own["finetuning"]["min_group"]
        for trained in (task, jobs["train_baseline", *cell[:2], "0"].params.task):
            for name, value in own["pretraining"].items():
                assert trained["pretraining"][name] == value


def test_a_title_is_no_part_of_a_methods_recipe(jobs: dict) -> None:
    recipe = jobs["debias", "skin", "resnet50", "skin_tone", "fullft_rw"].params.method
    given = PAPER["methods"]["fullft_rw"]
    assert "title" in given
    assert "title" not in recipe
    assert {name: recipe[name] for name in given if name != "title"} == {
        name: value for name, value in given.items() if name != "title"
    }


def test_the_code_of_a_job_is_that_of_its_method_or_adapter(jobs: dict) -> None:
    cell = ("skin", "resnet50", "skin_tone")
    assert (
        jobs["debias", *cell, "swift"].params.code != jobs["debias", *cell, "fullft_rw"].params.code
    )
    sets = [*TRAIN["skin"], *TRAIN["cxr"], "ddi", "atlas"]
    assert len({jobs["build_manifest", name].params.code for name in sets}) == len(sets)


def test_a_job_that_failed_gets_more_memory_and_time(jobs: dict) -> None:
    job = jobs["debias", "skin", "resnet50", "skin_tone", "swift"]
    first = {name: job.resources[name] for name in ("mem_mb", "runtime", "gpu")}
    try:
        job.attempt = 2
        second = {name: job.resources[name] for name in first}
    finally:
        job.attempt = 1
    for name in ("mem_mb", "runtime"):
        assert second[name] == 2 * first[name] > 0
    assert second["gpu"] == first["gpu"] == 1


def test_tables_and_verdict_read_everything(jobs: dict) -> None:
    costs = [
        path
        for cell, methods in METHODS.items()
        for method in methods
        for path in of_folds(f"debiased/{'/'.join(cell)}/{method}/fold{{fold}}/cost.json")
    ]
    training = [
        path
        for place in ("skin/resnet50", "cxr/densenet121")
        for path in of_folds(f"baseline/{place}/fold{{fold}}/cost.json")
    ]
    debiasing = [path for path in costs if "/baseline/fold" not in path]
    assert sorted(jobs["cost_table",].input) == sorted(debiasing + training)
    assert sorted(jobs["verdict",].input.costs) == sorted(costs)
    assert sorted(jobs["verdict",].input.summaries) == sorted(
        path
        for cell in METHODS
        for path in of_folds(f"importance/{'/'.join(cell)}/fold{{fold}}.mask_summary.parquet")
    )
    assert sorted(jobs["merge_metrics",].input) == sorted(
        f"{RUN}/metrics/{'/'.join(cell)}.parquet" for cell in METHODS
    )


def test_figures_read_all_folds_of_their_view(jobs: dict) -> None:
    given = plain(jobs["figure", "costs"].input.costs)
    assert given == [
        path
        for cell, methods in METHODS.items()
        for method in methods
        for path in of_folds(f"debiased/{'/'.join(cell)}/{method}/fold{{fold}}/cost.json")
    ]
