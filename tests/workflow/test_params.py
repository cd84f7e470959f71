"""What every job is given: params and inputs against the YAML, read without the project's code.

Two dry runs in process: the paper's own configuration, and one laid on the demo's in which the
tasks differ in every key. What is compared is each job of the plan, not the text of the rules.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml
from dag import jobs_of
from snakemake.iocontainers import Wildcards

PROJECT = Path(__file__).resolve().parents[2]
# Two tasks that share no value; a user's own classifier; a data set of one task only.
OTHER = """
extends: config/demo.yaml
run: other
seed: 5
folds: 3
skin_tone: {size: 48, remove_hair: false}
duplicates: {radius: 7, keep: first}
compute: {threads: 2, checkpoint_seconds: 5}
tasks:
  skin:
    images: {size: 40, mean: [0.5, 0.4, 0.3], std: [0.3, 0.2, 0.25]}
    augmentation: {flips: true, transpose: false}
    pretraining: {epochs: 22, batch_size: 64}
    finetuning: {epochs_percent: 27, min_cell: 3, min_group: 21, lr_head: 0.1, eodds: signed_mean,
      batchnorm: masked}
    tie: {attribute: sex, strength: 0.4}
  cxr:
    images: {size: 32}
    augmentation: {flips: false, transpose: true}
    invert_labels: true
    group_by_patient: false
    pretraining: {epochs: 17, batch_size: 32, optimizer: {name: adam, lr: 0.003}}
    finetuning: {epochs_percent: 13, min_cell: 5, min_group: 31, lr_head: 0.2, class_weights: batch}
selection: {trials: null}
methods:
  fullft_rw: {search: null}
  fullft_reg: {search: null}
  fullft_fdr: {search: null}
  llft: {search: null}
  diffgda: {search: null}
  diffprune: {search: null}
  fairprune: {search: null}
  swift: {search: null}
  swift_external_20: {title: A fifth, prediction_weight_1: 0.4}
  swift_longer: {like: swift_epochs_40, reinit: full}
  bmft: {batchnorm: eval, batches: cells, search: null}
backbones:
  own: {architecture: small_densenet, baseline: "own/net{fold}.safetensors", dropout: 0.25}
experiments:
  table1:
    panels:
      - {task: skin, backbone: small_resnet, attribute: skin_tone}
      - {task: skin, backbone: own, attribute: sex, methods: [swift, baseline, fairprune]}
  figure7:
    panels:
      - {task: cxr, backbone: small_resnet, attribute: age, datasets: [nih]}
      - {task: skin, backbone: small_resnet, attribute: sex}
  figure1: {panels: [{task: skin, backbone: small_resnet, attribute: skin_tone}]}
  pareto: {panels: [{task: cxr, backbone: small_resnet, attribute: sex, methods: [llft, bmft]}]}
  cost: {panels: [{task: cxr, backbone: small_resnet, attribute: age, methods: [llft, swift]}]}
  effects:
    {kind: figure, plot: effects, title: Parts, methods: [swift, swift_no_reinit],
     panels: [{task: cxr, backbone: small_resnet, attribute: age}]}
"""
KEPT = (
    *("table1", "table5", "pareto", "cost", "effects"),
    *(f"figure{n}" for n in (1, 2, 3, 4, 6, 7, 8)),
)
IMPORTANCES = {
    *("minibatch.full.prediction", "minibatch.full.bias"),
    *("minibatch.balanced.prediction", "minibatch.balanced.bias"),
    *("per_sample.full.group0", "per_sample.full.group1"),
    *("per_sample.balanced.prediction", "per_sample.balanced.bias"),
}
READ_IMPORTANCES = {"swift", "bmft", "fairprune"}
# Settings of SWiFT's step 2, and what names a variant: they have no say in step 1.
OF_STEP_2 = {"prediction_weight_2", "reinit", "reinit_bias", "threshold", "step2", "title"}
# Of the paper's variants: which have their first step in common with another one.
SHARED = {
    "swift", "swift_no_step2", "swift_no_reinit", "swift_full_reinit",
    *(f"swift_reinit_{percent}0" for percent in range(1, 10)),
}  # fmt: skip


# --- the plan, and the YAML beside it -------------------------------------------------------------


class Plan(NamedTuple):
    """The jobs of a dry run, by rule, and the configuration as plain values."""

    jobs: dict[str, list[Any]]
    config: dict[str, Any]
    names: dict[str, Any]  # the functions of workflow/rules/common.smk

    @property
    def run(self) -> str:
        return f"results/{self.config['run']}"

    @property
    def folds(self) -> list[int]:
        return list(range(self.config["folds"]))

    def cells(self) -> dict[tuple[str, str, str], list[str]]:
        """(task, network, attribute) -> the methods of all views that show it."""
        found: dict[tuple[str, str, str], set[str]] = {}
        for view in self.config["experiments"].values():
            for panel in view["panels"]:
                key = panel["task"], panel["backbone"], panel["attribute"]
                methods = panel.get("methods") or view["methods"]
                found.setdefault(key, set()).update(methods)
        return {key: sorted(found[key]) for key in sorted(found)}

    def blocks(self, name: str) -> list[dict[str, Any]]:
        view = self.config["experiments"][name]
        return [
            {
                "task": panel["task"],
                "backbone": panel["backbone"],
                "attribute": panel["attribute"],
                "datasets": panel.get("datasets") or self.tests(panel["task"], panel["attribute"]),
                "methods": panel.get("methods") or view["methods"],
                "metrics": view.get("metrics", ["auc", "spd", "eodds"]),
            }
            for panel in view["panels"]
        ]

    def tests(self, task: str, attribute: str) -> list[str]:
        return self.config["tasks"][task]["tests"][attribute]

    def groups(self, attribute: str) -> list[str]:
        entry = self.config["attributes"][attribute]
        return list(entry["groups"]) if "groups" in entry else entry["names"]

    def views(self, kind: str) -> list[str]:
        views = self.config["experiments"].items()
        return [name for name, view in views if view["kind"] == kind]

    def shared(self) -> dict[str, tuple[str, ...]]:
        """Variant -> all variants of the configuration with the same first step, if there are any.

        A part of the external set has importances of its own; a hard rate is judged at the end.
        """
        alike: dict[str, list[str]] = {}
        for name, written in self.config["methods"].items():
            whole = written.get("external_fraction", 1) == 1 and written.get("mask") != "hard"
            if written["algorithm"] == "swift" and whole and written.get("step1", True):
                step = {k: v for k, v in written.items() if k not in OF_STEP_2}
                alike.setdefault(str(sorted(step.items())), []).append(name)
        return {name: tuple(names) for names in alike.values() for name in names if len(names) > 1}

    def tones(self, names: list[str]) -> list[str]:
        """Files of measured skin tones."""
        measured = [n for n in names if self.config["datasets"][n].get("skin_tone") == "ita"]
        return [f"{self.run}/skin_tone/{name}.parquet" for name in measured]

    def caches(self, names: list[str]) -> tuple[list[str], list[str]]:
        folder = f"{self.run}/images"
        return [f"{folder}/{n}.npy" for n in names], [f"{folder}/{n}.parquet" for n in names]


def merge(below: Any, above: Any) -> Any:
    """YAML laid on YAML; null leaves an entry out."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    mixed = {k: merge(below[k], above[k]) if k in above else below[k] for k in below}
    mixed |= {k: v for k, v in above.items() if k not in below}
    return {k: v for k, v in mixed.items() if v is not None}


def read_config(path: Path) -> dict[str, Any]:
    """A configuration laid on what it extends; the methods without `like`."""
    config = read_layers(path)
    if "synthetic" in config:
        for name, entry in config["datasets"].items():
            entry["root"] = f"results/{config['run']}/raw/{name}"
    written = config["methods"]

    def resolved(name: str) -> dict[str, Any]:
        own = dict(written[name])
        other = own.pop("like", None)
        below = resolved(other) if other else {}
        return {key: value for key, value in below.items() if key != "title"} | own

    return config | {"methods": {name: resolved(name) for name in written}}


def read_layers(path: Path) -> dict[str, Any]:
    own = yaml.safe_load(path.read_text())
    base = own.pop("extends", None)
    return merge(read_layers(PROJECT / base), own) if base else own


@pytest.fixture(scope="module", params=["other", "paper"])
def plan(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plan]:
    folder = tmp_path_factory.mktemp(request.param)
    path = PROJECT / "config" / "config.yaml"
    if request.param == "other":
        other = yaml.safe_load(OTHER)
        paper = yaml.safe_load(path.read_text())
        views = paper["experiments"]
        other["experiments"] |= dict.fromkeys(name for name in views if name not in KEPT)
        path = folder / "other.yaml"
        path.write_text(yaml.safe_dump(other))
    with planned(folder, path) as found:
        yield found


@contextlib.contextmanager
def planned(folder: Path, path: Path) -> Iterator[Plan]:
    """A dry run of a configuration in a folder of its own."""
    config = read_config(path)
    if "synthetic" not in config:
        for entry in config["datasets"].values():
            (folder / entry["root"]).mkdir(parents=True)
    (folder / "own").mkdir(exist_ok=True)
    for fold in range(config["folds"]):
        (folder / f"own/net{fold}.safetensors").touch()
    with jobs_of(folder, path) as (jobs, names):
        yield Plan(jobs, config, names)


def plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def assert_says(given: Any, written: Any, where: str = "") -> None:
    """A slice of the settings has what the YAML says; what the YAML does not say is a default."""
    if not isinstance(written, dict):
        assert plain(given) == written, where
        return
    for key, value in written.items():
        assert_says(given[key], value, f"{where}.{key}")


def files(job: Any, name: str) -> list[str]:
    """An input of a job, by its name, as a list of paths."""
    found = job.input[name]
    return [str(found)] if isinstance(found, str) else [str(path) for path in found]


def of(job: Any, *names: str) -> tuple[str, ...]:
    return tuple(job.wildcards_dict[name] for name in names)


def test_where_the_data_lie_is_compared_only_by_what_shows_it(tmp_path: Path) -> None:
    """What lies in a folder counts: a folder that has moved makes nothing again."""
    paper = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    compared = []
    for place in ("here", "elsewhere"):
        moved = {name: of | {"root": f"{place}/{name}"} for name, of in paper["datasets"].items()}
        path = tmp_path / place / "config.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(paper | {"datasets": moved, "only": ["table1"]}))
        with planned(path.parent, path) as found:
            compared.append(
                {
                    (rule, *job.wildcards_dict.values()): repr(job.non_derived_params)
                    for rule, jobs in found.jobs.items()
                    for job in jobs
                }
            )
    here, there = compared
    assert here.keys() == there.keys()
    assert {name[0] for name in here if here[name] != there[name]} == {"check_data", "report"}


# --- which jobs there are -------------------------------------------------------------------------


def test_every_cell_is_debiased_and_scored_and_nothing_else(plan: Plan) -> None:
    cells = plan.cells()
    key = ("task", "backbone", "attribute")
    for rule in ("importance", "predict", "evaluate", "intervals"):
        assert sorted(of(job, *key) for job in plan.jobs[rule]) == list(cells), rule
    methods = {(*cell, m) for cell, names in cells.items() for m in names}
    debiased = {cell for cell in methods if cell[3] != "baseline"}
    shared, first_of = plan.shared(), plan.names["FIRST_OF"]
    firsts = {(*cell[:3], first_of[cell[3]]) for cell in debiased if cell[3] in shared}
    assert sorted(of(job, *key, "first") for job in plan.jobs["first_step"]) == sorted(firsts)
    assert sorted(of(job, *key) for job in plan.jobs["choose_groups"]) == list(cells)
    copied = methods - debiased
    assert {of(job, *key, "method") for job in plan.jobs["debias"]} == debiased
    assert {of(job, *key, "method") for job in plan.jobs["copy_baseline"]} == copied
    trained = {of(job, "task", "backbone", "fold") for job in plan.jobs["train_baseline"]}
    assert trained == {(*cell[:2], str(f)) for cell in cells for f in plan.folds}


def test_who_shares_a_first_step(plan: Plan) -> None:
    """One digest for the variants of one first step, and no other's; the paper's are listed."""
    shared, first_of = plan.shared(), plan.names["FIRST_OF"]
    others = {"swift_longer", "swift_epochs_40"} & set(plan.config["methods"])
    others = others if len(others) > 1 else set()
    assert set(first_of) == set(shared) == SHARED | others
    assert len(set(first_of.values())) == len(set(shared.values())) == (2 if others else 1)
    for one, other in itertools.product(shared, shared):
        assert (first_of[one] == first_of[other]) == (shared[one] == shared[other])
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in first_of.values())


def test_no_two_jobs_write_the_same_file(plan: Plan) -> None:
    for what in ("output", "log", "benchmark"):
        jobs = itertools.chain.from_iterable(plan.jobs.values())
        written = [getattr(job, what) for job in jobs]
        paths = [
            str(path) for one in written for path in ([one] if isinstance(one, str) else one or ())
        ]
        assert len(paths) == len(set(paths)), what
        assert all(path.startswith(plan.run) for path in paths), what


# --- prepare --------------------------------------------------------------------------------------


def normalization(plan: Plan, task: str) -> dict[str, list[float]]:
    """What the task's networks were trained with; ImageNet's where the YAML does not say."""
    default = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    images = plan.config["tasks"][task].get("images", {})
    return {key: images.get(key, value) for key, value in default.items()}


def task_of(plan: Plan, dataset: str) -> str:
    [name] = [
        name
        for name, task in plan.config["tasks"].items()
        if dataset in {*task["train"], *itertools.chain.from_iterable(task["tests"].values())}
    ]
    return name


def used_tests(plan: Plan, task: str) -> list[str]:
    used = {a for t, _, a in plan.cells() if t == task}
    return sorted({name for a in used for name in plan.tests(task, a)})


def test_data_sets(plan: Plan) -> None:
    for job in plan.jobs.get("synthesize", []):
        [name] = of(job, "dataset")
        assert job.params.drawn["name"] == plan.config["datasets"][name]["adapter"]
        assert job.params.seed == plan.config.get("seed", 0)
        assert_says(job.params.drawn["settings"], plan.config["synthetic"])
        assert list(job.output) == [plan.config["datasets"][name]["root"]]
    for job in plan.jobs["build_manifest"]:
        [name] = of(job, "dataset")
        # where the files lie is a param of its own, which is not compared between runs
        said = job.params.dataset | job.params.places
        assert_says(said, plan.config["datasets"][name])
        assert "root" not in job.params.dataset
        task = plan.config["tasks"][task_of(plan, name)]
        assert job.params.invert_labels == task.get("invert_labels", False)
    for job in plan.jobs["cache_images"]:
        [name] = of(job, "dataset")
        assert job.params.root == plan.config["datasets"][name]["root"]
        written = dict(plan.config["tasks"][task_of(plan, name)]["images"])
        for key in ("mean", "std"):  # pixels are cached as they are, and normalized when drawn
            written.pop(key, None)
            assert key not in job.params.images
        assert_says(job.params.images, written)
        assert str(job.input.manifest) == f"{plan.run}/manifests/{name}.parquet"
    measured = []
    for job in plan.jobs["annotate_skin_tone"]:
        measured.append(str(job.output[0]))
        assert_says(job.params.skin_tone, plan.config["skin_tone"])
        assert str(job.input.pixels) == plan.caches([*of(job, "dataset")])[0][0]
    assert sorted(measured) == sorted(plan.tones(list(plan.config["datasets"])))


def test_pools(plan: Plan) -> None:
    for job in plan.jobs["find_duplicates"]:
        [name] = of(job, "task")
        task, tests = plan.config["tasks"][name], used_tests(plan, name)
        assert (job.params.train, job.params.tests) == (task["train"], tests)
        for kind, names in (("train", task["train"]), ("test", tests)):
            expected = [f"{plan.run}/manifests/{one}.parquet" for one in names]
            assert files(job, f"{kind}_manifests") == expected
            assert files(job, f"{kind}_images") == plan.caches(names)[1]
        for one, (archive, lists_pairs) in job.params.sources.items():
            entry = plan.config["datasets"][one]
            assert (job.params.roots[one], archive) == (entry["root"], entry.get("archive", one))
            assert lists_pairs == (entry["adapter"] == "isic2020")
        assert set(job.params.sources) == {*task["train"], *tests}
        assert_says(job.params.duplicates, plan.config["duplicates"])
        assert job.params.group_by_patient == task.get("group_by_patient", True)
        if "tie" not in task:
            assert job.params.tie is None
            continue
        assert_says(job.params.tie["tie"], task["tie"])
        assert_says(
            job.params.tie["attribute"], plan.config["attributes"][task["tie"]["attribute"]]
        )
        assert job.params.tie["seed"] == plan.config.get("seed", 0)


def test_folds_and_external_sets(plan: Plan) -> None:
    seed = plan.config.get("seed", 0)
    for job in plan.jobs["make_folds"]:
        task = plan.config["tasks"][job.wildcards.task]
        two = sorted(name for name in task["tests"] if len(plan.groups(name)) == 2)
        assert list(job.params.attributes) == two
        for name in two:
            assert_says(job.params.attributes[name], plan.config["attributes"][name])
        assert job.params.split == {"folds": plan.config["folds"], "seed": seed}
        assert files(job, "skin_tone") == plan.tones(task["train"])
    for job in plan.jobs["make_external"]:
        task, attribute = of(job, "task", "attribute")
        assert_says(job.params.attribute, plan.config["attributes"][attribute])
        finetuning = plan.config["tasks"][task]["finetuning"]
        assert job.params.min_cell == finetuning.get("min_cell", 10)
        assert job.params.seed == seed
        folder = f"{plan.run}/external/{task}/{attribute}"
        assert list(job.output) == [f"{folder}/fold{fold}.parquet" for fold in plan.folds]
        assert files(job, "cohort") == [f"{plan.run}/cohorts/{task}.parquet"]
        assert files(job, "folds") == [f"{plan.run}/folds/{task}.parquet"]
        assert files(job, "skin_tone") == plan.tones(plan.config["tasks"][task]["train"])
    for job in plan.jobs["set_sizes"]:
        [task] = of(job, "task")
        train = plan.config["tasks"][task]["train"]
        assert job.params.adapters == [plan.config["datasets"][n]["adapter"] for n in train]
        used = sorted({a for t, _, a in plan.cells() if t == task})
        assert list(job.params.attributes) == used
        for name in used:
            assert_says(job.params.attributes[name], plan.config["attributes"][name])
        assert job.params.synthetic == ("synthetic" in plan.config)
        assert files(job, "external") == [
            f"{plan.run}/external/{task}/{a}/fold{f}.parquet" for a in used for f in plan.folds
        ]
        assert files(job, "skin_tone") == plan.tones(train)


# --- train and debias -----------------------------------------------------------------------------


def baselines(plan: Plan, task: str, backbone: str) -> list[str]:
    folder = f"{plan.run}/baseline/{task}/{backbone}"
    return [f"{folder}/fold{fold}/model.safetensors" for fold in plan.folds]


def assert_pool(plan: Plan, job: Any) -> None:
    """Caches of the task's training pool."""
    pixels, index = plan.caches(plan.config["tasks"][job.wildcards.task]["train"])
    assert (files(job, "pixels"), files(job, "index")) == (pixels, index)


def test_train_baseline(plan: Plan) -> None:
    for job in plan.jobs["train_baseline"]:
        task, backbone, fold = of(job, "task", "backbone", "fold")
        assert_pool(plan, job)
        written = plan.config["tasks"][task]
        slices = {name: written[name] for name in ("pretraining", "augmentation")}
        assert_says(job.params.task, slices)
        assert set(job.params.task) == set(slices)
        assert_says(job.params.backbone, plan.config["backbones"][backbone])
        assert job.params.normalization == normalization(plan, task)
        assert_says(job.params.compute, plan.config["compute"])
        assert job.params.seed == plan.config.get("seed", 0)
        assert files(job, "cohort") == [f"{plan.run}/cohorts/{task}.parquet"]
        assert files(job, "folds") == [f"{plan.run}/folds/{task}.parquet"]
        own = [f"own/net{fold}.safetensors"] if backbone == "own" else []
        assert files(job, "own") == own
        assert str(job.output.model) == baselines(plan, task, backbone)[int(fold)]
        assert str(job.output.scores) == held_out_scores(plan, task, backbone)[int(fold)]
        assert (
            job.params.checkpoints
            == f"{plan.run}/checkpoints/baseline/{task}/{backbone}/fold{fold}"
        )


def held_out_scores(plan: Plan, task: str, backbone: str) -> list[str]:
    folder = f"{plan.run}/baseline/{task}/{backbone}"
    return [f"{folder}/fold{fold}/held_out.parquet" for fold in plan.folds]


def external_files(plan: Plan, job: Any) -> list[str]:
    task, attribute = of(job, "task", "attribute")
    return [f"{plan.run}/external/{task}/{attribute}/fold{fold}.parquet" for fold in plan.folds]


def choice_of(plan: Plan, job: Any) -> list[str]:
    return [f"{plan.run}/groups/{'/'.join(of(job, 'task', 'backbone', 'attribute'))}.json"]


def test_choose_groups(plan: Plan) -> None:
    for job in plan.jobs["choose_groups"]:
        task, backbone, attribute = of(job, "task", "backbone", "attribute")
        assert files(job, "scores") == held_out_scores(plan, task, backbone)
        assert files(job, "external") == external_files(plan, job)
        assert files(job, "cohort") == [f"{plan.run}/cohorts/{task}.parquet"]
        assert list(job.params.groups) == plan.groups(attribute)
        finetuning = plan.config["tasks"][task]["finetuning"]
        assert job.params.finetuning == {
            "min_group": finetuning.get("min_group", 20),
            "min_cell": finetuning.get("min_cell", 10),
        }
        assert list(job.output) == choice_of(plan, job)


def test_importance(plan: Plan) -> None:
    for job in plan.jobs["importance"]:
        task, backbone, attribute = of(job, "task", "backbone", "attribute")
        assert_pool(plan, job)
        written = plan.config["tasks"][task]
        assert_says(job.params.finetuning, written["finetuning"])
        assert job.params.batch_size == written["pretraining"]["batch_size"]
        assert set(job.params.wanted) == IMPORTANCES
        assert job.params.groups == len(plan.groups(attribute))
        assert job.params.folds == plan.folds
        assert job.params.seed == plan.config.get("seed", 0)
        assert_says(job.params.backbone, plan.config["backbones"][backbone])
        assert job.params.normalization == normalization(plan, task)
        assert files(job, "models") == baselines(plan, task, backbone)
        assert files(job, "external") == external_files(plan, job)
        assert files(job, "groups") == choice_of(plan, job)


def first_files(plan: Plan, place: str, first: str) -> dict[str, list[str]]:
    """Files of a shared first step, by the input's name of those who go on from it."""
    names = {"model": "model.safetensors", "history": "history.parquet", "cost": "cost.json"}
    folder = f"{plan.run}/first_steps/{place}/{first}"
    return {
        f"first_{kind}": [f"{folder}/fold{fold}/{name}" for fold in plan.folds]
        for kind, name in names.items()
    }


def test_first_step(plan: Plan) -> None:
    """It is given what the variants that share it are given, but for their settings of step 2."""
    shared, first_of = plan.shared(), plan.names["FIRST_OF"]
    debias = {of(j, "task", "backbone", "attribute", "method"): j for j in plan.jobs["debias"]}
    for job in plan.jobs["first_step"]:
        *cell, first = of(job, "task", "backbone", "attribute", "first")
        users = [name for name in shared if first_of[name] == first and (*cell, name) in debias]
        assert users
        for name in users:
            user, written = debias[(*cell, name)], plan.config["methods"][name]
            step = {k: v for k, v in written.items() if k not in OF_STEP_2} | {"step2": False}
            assert_says(job.params.method, step)
            given = dict(job.params.method)
            for key in OF_STEP_2 - {"step2", "title"}:
                assert given.pop(key) == STEP_2_DEFAULTS[key]
            assert "title" not in given
            assert given["external_fraction"] == 1
            for what in ("backbone", "task", "normalization", "groups", "folds", "compute", "seed"):
                assert plain(getattr(job.params, what)) == plain(getattr(user.params, what)), what
            for what in ("pixels", "index", "models", "external", "groups", "importance"):
                assert files(job, what) == files(user, what), what
        place = "/".join(cell)
        assert job.params.checkpoints == f"{plan.run}/checkpoints/first_steps/{place}/{first}"
        names = {"models": "first_model", "history": "first_history", "costs": "first_cost"}
        expected = first_files(plan, place, first)
        assert {kind: list(job.output[kind]) for kind in names} == {
            kind: expected[name] for kind, name in names.items()
        }


STEP_2_DEFAULTS = {
    "prediction_weight_2": 0.9,
    "reinit": "partial",
    "reinit_bias": False,
    "threshold": "mean",
}


def test_debias(plan: Plan) -> None:
    shared, first_of = plan.shared(), plan.names["FIRST_OF"]
    for job in plan.jobs["debias"]:
        task, backbone, attribute, method = of(job, "task", "backbone", "attribute", "method")
        assert_pool(plan, job)
        found = {name: files(job, name) for name, _ in job.input.items() if "first" in name}
        place, first = f"{task}/{backbone}/{attribute}", first_of.get(method, "")
        assert found == (first_files(plan, place, first) if method in shared else {})
        assert files(job, "groups") == choice_of(plan, job)
        written = plan.config["tasks"][task]
        slices = {name: written[name] for name in ("pretraining", "augmentation", "finetuning")}
        assert_says(job.params.task, slices)
        variant = {k: v for k, v in plan.config["methods"][method].items() if k != "title"}
        assert_says(job.params.method, variant)
        defaults = {"external_fraction": 1.0, "epochs_percent": None, "batchnorm": None}
        defaults |= {"batches": None, "lr_factor": 1.0}
        assert plain(job.params.method) == defaults | variant  # and nothing of another one's
        assert_says(job.params.backbone, plan.config["backbones"][backbone])
        assert job.params.normalization == normalization(plan, task)
        assert_says(job.params.compute, plan.config["compute"])
        assert job.params.groups == len(plan.groups(attribute))
        assert job.params.folds == plan.folds
        assert job.params.seed == plan.config.get("seed", 0)
        place = f"{task}/{backbone}/{attribute}"
        assert job.params.checkpoints == f"{plan.run}/checkpoints/{place}/{method}"
        assert files(job, "models") == baselines(plan, task, backbone)
        folder = f"{plan.run}/external/{task}/{attribute}"
        assert files(job, "external") == [f"{folder}/fold{f}.parquet" for f in plan.folds]
        needed = variant["algorithm"] in READ_IMPORTANCES
        needed &= variant.get("mask") != "random"
        folder = f"{plan.run}/importance/{place}"
        expected = [f"{folder}/fold{f}.safetensors" for f in plan.folds] if needed else []
        assert files(job, "importance") == expected
        for kind, name in (("models", "model.safetensors"), ("costs", "cost.json")):
            folder = f"{plan.run}/debiased/{place}/{method}"
            assert list(job.output[kind]) == [f"{folder}/fold{f}/{name}" for f in plan.folds]


def test_copy_baseline(plan: Plan) -> None:
    for job in plan.jobs["copy_baseline"]:
        task, backbone, attribute, method = of(job, "task", "backbone", "attribute", "method")
        names = ("model.safetensors", "history.parquet", "cost.json", "threshold.json")
        trained = f"{plan.run}/baseline/{task}/{backbone}"
        copied = f"{plan.run}/debiased/{task}/{backbone}/{attribute}/{method}"
        places = [f"fold{fold}/{name}" for name in names for fold in plan.folds]
        assert list(job.input) == [f"{trained}/{place}" for place in places]
        assert list(job.output) == [f"{copied}/{place}" for place in places]


# --- evaluate -------------------------------------------------------------------------------------


def test_predict_evaluate_and_intervals(plan: Plan) -> None:
    cells = plan.cells()
    for job in plan.jobs["predict"]:
        task, backbone, attribute = cell = of(job, "task", "backbone", "attribute")
        tests = plan.tests(task, attribute)
        assert (job.params.methods, job.params.folds) == (cells[cell], plan.folds)
        assert files(job, "models") == [
            f"{plan.run}/debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/model.safetensors"
            for method in cells[cell]
            for fold in plan.folds
        ]
        assert job.params.datasets == tests
        assert files(job, "manifests") == [f"{plan.run}/manifests/{n}.parquet" for n in tests]
        assert (files(job, "pixels"), files(job, "index")) == plan.caches(tests)
        assert files(job, "skin_tone") == plan.tones(tests)
        assert_says(job.params.attribute, plan.config["attributes"][attribute])
        assert_says(job.params.backbone, plan.config["backbones"][backbone])
        assert job.params.normalization == normalization(plan, task)
    for rule in ("evaluate", "intervals"):
        for job in plan.jobs[rule]:
            task, _, attribute = cell = of(job, "task", "backbone", "attribute")
            finetuning = plan.config["tasks"][task]["finetuning"]
            assert job.params.min_group == finetuning.get("min_group", 20)
            assert list(job.input) == [f"{plan.run}/predictions/{'/'.join(cell)}"]
            if rule == "evaluate":
                assert (job.params.methods, job.params.folds) == (cells[cell], plan.folds)
                assert job.params.groups == plan.groups(attribute)
                assert job.params.disease == {"skin": 0, "cxr": 1}[task]
            else:
                assert job.params.groups == len(plan.groups(attribute))
                assert job.params.permutations == 1000
                assert job.params.baseline == "baseline"
                assert job.params.seed == plan.config.get("seed", 0)
    [merged] = plan.jobs["merge_metrics"]
    for need in ("metrics", "plausibility"):
        of_all = [f"{plan.run}/{need}/{'/'.join(cell)}.parquet" for cell in cells]
        assert files(merged, need) == of_all


# --- report ---------------------------------------------------------------------------------------


def titles(plan: Plan, methods: Any) -> dict[str, str]:
    return {name: plan.config["methods"][name].get("title") or name for name in methods}


def test_tables(plan: Plan) -> None:
    synthetic = "synthetic" in plan.config
    for job in plan.jobs["table"]:
        [name] = of(job, "table")
        blocks = plan.blocks(name)
        assert plain(job.params.blocks) == blocks
        assert job.params.title == plan.config["experiments"][name]["title"]
        assert job.params.titles == titles(plan, {m for b in blocks for m in b["methods"]})
        assert job.params.synthetic == synthetic
        for need in ("metrics", "intervals", "plausibility"):
            assert files(job, need) == of_blocks(plan, need, blocks)
        told = [
            f"{plan.run}/groups/{b['task']}/{b['backbone']}/{b['attribute']}.json"
            for b in blocks
            if len(plan.groups(b["attribute"])) > 2 or "fairprune" in b["methods"]
        ]
        assert files(job, "groups") == told
        assert job.params.groups == {b["attribute"]: plan.groups(b["attribute"]) for b in blocks}
        pruned = [m for m in job.params.titles if m == "fairprune"]
        assert job.params.prune_by_group == [*titles(plan, pruned).values()]
        on_folds = plan.config.get("selection", {}).get("on_folds")
        assert (job.params.searched, job.params.folds) == ({}, on_folds or len(plan.folds))
    assert {job.wildcards.table for job in plan.jobs["table"]} == set(plan.views("table"))
    [compare] = plan.jobs["compare"]
    tables = {name: plan.blocks(name) for name in plan.views("table")}
    assert plain(compare.params.tables) == tables
    assert compare.params.baseline == "baseline"
    intervals = [f"{plan.run}/intervals/{'/'.join(cell)}.parquet" for cell in plan.cells()]
    [verdict] = plan.jobs["verdict"]
    for job in (compare, verdict):
        assert files(job, "intervals") == intervals
        assert files(job, "plausibility") == [f"{plan.run}/plausibility.parquet"]
    assert len(plan.jobs["plausibility"]) == len(plan.cells())
    for job in plan.jobs["plausibility"]:
        task, backbone, attribute = of(job, "task", "backbone", "attribute")
        cell = f"{task}/{backbone}/{attribute}.parquet"
        for need in ("metrics", "intervals"):
            assert files(job, need) == [f"{plan.run}/{need}/{cell}"]
        settings = plan.config["tasks"][task].get("finetuning", {})
        assert job.params.min_group == {task: settings.get("min_group", 20)}
        assert job.params.groups == {attribute: plan.groups(attribute)}
    [costs] = plan.jobs["cost_table"]
    assert list(costs.params.titles.items()) == list(titles(plan, plan.config["methods"]).items())
    assert sorted(costs.input) == sorted([*method_costs(plan), *training_costs(plan)])
    assert costs.output["costs"] == f"{plan.run}/costs.parquet"
    assert costs.params.synthetic == synthetic


def of_blocks(plan: Plan, kind: str, blocks: Any) -> list[str]:
    """A file of every cell that is shown, in order."""
    cells = dict.fromkeys((b["task"], b["backbone"], b["attribute"]) for b in blocks)
    return [f"{plan.run}/{kind}/{'/'.join(cell)}.parquet" for cell in cells]


def method_costs(plan: Plan) -> list[str]:
    return [
        f"{plan.run}/debiased/{'/'.join(cell)}/{method}/fold{fold}/cost.json"
        for cell, methods in plan.cells().items()
        for method in methods
        for fold in plan.folds
        if method != "baseline"
    ]


def training_costs(plan: Plan) -> list[str]:
    networks = sorted({cell[:2] for cell in plan.cells()})
    return [
        f"{plan.run}/baseline/{task}/{backbone}/fold{fold}/cost.json"
        for task, backbone in networks
        for fold in plan.folds
    ]


def summaries(plan: Plan, cells: Any) -> list[str]:
    return [
        f"{plan.run}/importance/{'/'.join(cell)}/fold{fold}.mask_summary.parquet"
        for cell in cells
        for fold in plan.folds
    ]


def test_ranks_and_words(plan: Plan) -> None:
    """Over the panels of figure `ranks`, or of all tables where there is none."""
    shown = ["ranks"] if "ranks" in plan.views("figure") else plan.views("table")
    blocks = [block for name in shown for block in plan.blocks(name)]
    [ranks], [words] = plan.jobs["ranks"], plan.jobs["in_words"]
    used = {method for methods in plan.cells().values() for method in methods}
    named = {method for block in blocks for method in block["methods"]}
    for job, methods in ((ranks, named), (words, used)):
        assert plain(job.params.blocks) == blocks
        assert job.params.titles == titles(plan, methods)
        assert files(job, "plausibility") == [f"{plan.run}/plausibility.parquet"]
        assert files(job, "metrics") == [f"{plan.run}/metrics.parquet"]
    assert (words.params.baseline, words.params.swift) == ("baseline", "swift")

    def intervals(cells: Any) -> list[str]:
        return [f"{plan.run}/intervals/{'/'.join(cell)}.parquet" for cell in cells]

    assert files(words, "intervals") == intervals(plan.cells())


SEARCHED = """
extends: config/demo.yaml
run: searched
selection: {trials: null}
methods:
  fullft_rw: {search: null}
  fullft_reg: {search: null}
  fullft_fdr: {search: null}
  llft: {search: null}
  diffgda: {search: null}
  diffprune: {search: null}
  swift: {search: {lr_factor: [0.5, 1], epochs_percent: [5, 10]}}
  bmft: {epochs_percent: 20, search: {lr_factor: [0.5, 1]}}
  fairprune: {search: {beta: [0.1, 0.3]}}
"""


def test_searches_are_told_under_the_tables_that_they_concern(tmp_path: Path) -> None:
    path = tmp_path / "searched.yaml"
    path.write_text(SEARCHED)
    with planned(tmp_path, path) as plan:
        epochs = {
            name: task["pretraining"]["epochs"] for name, task in plan.config["tasks"].items()
        }
        names = titles(plan, plan.config["methods"])

        def expected(percents: tuple[int, ...], tasks: set[str]) -> list[int]:
            found = {max(1, round(epochs[task] * p / 100)) for task in tasks for p in percents}
            return sorted(found)

        every = set()
        for job in plan.jobs["table"]:
            blocks = plan.blocks(job.wildcards.table)
            own, tasks = set(), {b["task"] for b in blocks}
            for block in blocks:
                place = "/".join(block[key] for key in ("task", "backbone", "attribute"))
                # variants of SWiFT take over what is found for it, by `like`
                owners = {m.split("_")[0] for m in block["methods"]} & {
                    "swift",
                    "bmft",
                    "fairprune",
                }
                own |= {f"{plan.run}/search/{place}/{owner}.json" for owner in owners}
            assert set(files(job, "searches")) == own
            every |= own
            told = job.params.searched
            assert {Path(name).stem for name in own} == set(told)
            assert all(told[owner]["title"] == names[owner] for owner in told)
            if "swift" in told:
                assert told["swift"]["epochs"] == expected((5, 10), tasks)
            if "bmft" in told:
                assert told["bmft"]["epochs"] == expected((20,), tasks)
                assert told["fairprune"]["epochs"] == []
        [table], [report] = plan.jobs["search_table"], plan.jobs["report"]
        assert every <= set(table.input) == {str(job.output[0]) for job in plan.jobs["search"]}
        assert f"{plan.run}/tables/search.html" in files(report, "tables")


def test_verdict(plan: Plan) -> None:
    [job] = plan.jobs["verdict"]
    assert plain(job.params.tables) == {name: plan.blocks(name) for name in plan.views("table")}
    for name, method in plan.config["methods"].items():
        assert_says(job.params.methods[name], method)
    assert set(job.params.methods) == set(plan.config["methods"])
    tasks = plan.config["tasks"].items()
    percent = {name: task["finetuning"]["epochs_percent"] for name, task in tasks}
    assert job.params.epochs_percent == percent
    assert job.params.synthetic == ("synthetic" in plan.config)
    assert files(job, "costs") == [f"{plan.run}/costs.parquet"]
    with_swift = [cell for cell, methods in plan.cells().items() if "swift" in methods]
    assert files(job, "summaries") == summaries(plan, with_swift)
    assert Path(files(job, "published")[0]).name == "published_results.csv"
    assert Path(files(job, "claims")[0]).name == "claims.yaml"


def test_figures_name_things_as_the_configuration_does(plan: Plan) -> None:
    assert {job.wildcards.figure for job in plan.jobs["figure"]} == set(plan.views("figure"))
    for job in plan.jobs["figure"]:
        [name] = of(job, "figure")
        view, blocks = plan.config["experiments"][name], plan.blocks(name)
        assert (job.params.plot, job.params.title) == (view["plot"], view["title"])
        assert plain(job.params.blocks) == blocks
        assert plain(job.params.options) == view.get("options", {})
        assert job.params.synthetic == ("synthetic" in plan.config)
        names, tasks = job.params.names, {block["task"] for block in blocks}
        assert names["titles"] == titles(plan, {m for b in blocks for m in b["methods"]})
        assert (names["baseline"], names["swift"]) == ("baseline", "swift")
        assert names["groups"] == {b["attribute"]: plan.groups(b["attribute"]) for b in blocks}
        # class 0 first, which is the negative one
        settings = plan.config["tasks"]
        assert names["classes"] == {
            t: [settings[t]["negative"], settings[t]["positive"]] for t in tasks
        }
        assert plain(names["epochs"]) == {
            t: [settings[t]["pretraining"]["epochs"], settings[t]["finetuning"]["epochs_percent"]]
            for t in tasks
        }
        ties = {t: settings[t]["tie"]["strength"] for t in tasks if "tie" in settings[t]}
        assert names.get("ties", {}) == ties
        # what a drawing of all repeats needs beside
        of_all = view["plot"] == "effects"
        groups = {t: settings[t]["finetuning"].get("min_group", 20) for t in tasks}
        assert names.get("min_groups", {}) == (groups if of_all else {})
        methods = {m for b in blocks for m in b["methods"]} if of_all else ()
        repeats = plan.config.get("repeats", 1)
        assert plain(job.params.repeats) == {m: 1 if m == "baseline" else repeats for m in methods}


# Drawing -> the setting of its methods that it draws.
DRAWN = {"epochs": ("epochs_percent", None), "external": ("external_fraction", 1.0)}


def test_figures_show_their_methods_settings(plan: Plan) -> None:
    for job in plan.jobs["figure"]:
        [name] = of(job, "figure")
        methods = {m for block in plan.blocks(name) for m in block["methods"]}
        found = job.params.variants
        assert set(found) == methods
        for method in methods:
            written = plan.config["methods"][method]
            if job.params.plot in ("method", "effects"):
                shown = {k: v for k, v in written.items() if k != "title"}
                assert_says(found[method], shown)
                assert {"prediction_weight_2", "threshold", "reinit"} <= set(found[method])
                continue
            expected = {"algorithm": written["algorithm"]}
            if job.params.plot in DRAWN:
                key, default = DRAWN[job.params.plot]
                expected[key] = written.get(key, default)
            assert plain(found[method]) == expected


def test_figures_read_what_they_draw(plan: Plan) -> None:
    run, folds = plan.run, plan.folds
    for job in plan.jobs["figure"]:
        [name] = of(job, "figure")
        blocks = plan.blocks(name)
        cells = list(dict.fromkeys((b["task"], b["backbone"], b["attribute"]) for b in blocks))
        expected = {
            **{n: of_blocks(plan, n, blocks) for n in ("metrics", "intervals", "plausibility")},
            "predictions": (scored := [f"{run}/predictions/{'/'.join(cell)}" for cell in cells]),
            "repeats": scored,
            "summaries": summaries(plan, cells),
            "arrays": [f"{run}/figures/arrays/{name}.npz"],
            "costs": [
                f"{run}/debiased/{b['task']}/{b['backbone']}/{b['attribute']}/{m}/fold{f}/cost.json"
                for b in blocks
                for m in b["methods"]
                for f in folds
            ],
        }
        read = {need: files(job, need) for need, _ in job.input.items()}
        assert read == {need: list(dict.fromkeys(expected[need])) for need in read}
        assert set(read) == NEEDS[job.params.plot]


NEEDS = {
    "bias": {"predictions", "arrays"},
    "method": set(),
    "importance": {"arrays"},
    "cam": {"arrays"},
    "epochs": {"metrics", "costs"},
    "reinit": {"metrics", "arrays"},
    "external": {"metrics"},
    "masks": {"summaries"},
    "pareto": {"metrics", "intervals"},
    "cost": {"costs"},
    "dose": {"metrics", "intervals"},
    "effects": {"repeats"},
    "groups": {"metrics"},
    "intervals": {"intervals"},
    "ranks": {"metrics", "plausibility"},
    "thresholds": {"predictions", "intervals"},
    "estimators": {"metrics", "arrays"},
}


def test_figure_arrays(plan: Plan) -> None:
    for job in plan.jobs["figure_arrays"]:
        [name] = of(job, "figure")
        blocks, params = plan.blocks(name), job.params
        first = blocks[0]
        assert params.plot == plan.config["experiments"][name]["plot"]
        assert params.dataset == first["datasets"][0]
        assert plain(params.methods) == first["methods"]
        assert params.fold == 0
        assert params.groups == len(plan.groups(first["attribute"]))
        assert_says(params.backbone, plan.config["backbones"][first["backbone"]])
        assert params.normalization == normalization(plan, first["task"])
        place = f"{first['task']}/{first['backbone']}/{first['attribute']}"
        read = {need: files(job, need) for need, _ in job.input.items()}
        if params.plot in ("bias", "cam"):
            assert read["predictions"] == [f"{plan.run}/predictions/{place}"]
            assert (read["pixels"], read["index"]) == plan.caches([first["datasets"][0]])
            models = f"{plan.run}/debiased/{place}/{{}}/fold0/model.safetensors"
            expected = [models.format(method) for method in first["methods"]]
            assert read.get("models", []) == (expected if params.plot == "cam" else [])
            continue
        cells = [(b["task"], b["backbone"], b["attribute"]) for b in blocks]
        numbers = plan.folds
        expected = {"importances"}
        if params.plot == "importance":
            cells, numbers, expected = cells[:1], [0], {"importance", "summaries"}
            assert read["summaries"] == summaries(plan, cells)[:1]
        assert set(read) == expected
        assert read[min(expected)] == [
            f"{plan.run}/importance/{'/'.join(cell)}/fold{f}.safetensors"
            for cell in cells
            for f in numbers
        ]
        swifts = {m for b in blocks for m in b["methods"] if m.startswith("swift")}
        assert set(params.variants) == swifts
        for method, shown in params.variants.items():
            written = plan.config["methods"][method]
            assert shown["threshold"] == written.get("threshold", "mean")
            assert shown["estimator"] == written.get("estimator", "minibatch")
            assert shown["normalization"] == written.get("normalization", "minmax")
            assert shown["percentile"] == 99.0


def test_report_and_summary(plan: Plan) -> None:
    [job] = plan.jobs["report"]
    run, params = plan.run, job.params
    assert params.run == plan.config["run"]
    assert (params.settings["seed"], params.settings["folds"]) == (
        plan.config.get("seed", 0),
        plan.config["folds"],
    )
    assert_says(params.settings["tasks"], plan.config["tasks"])
    assert params.titles == titles(plan, plan.config["methods"])
    assert params.groups == {name: plan.groups(name) for name in plan.config["attributes"]}
    assert params.metrics == ["auc", "spd", "eodds", "auc_min", "auc_gap"]
    assert params.synthetic == ("synthetic" in plan.config)
    figures, tables = plan.views("figure"), plan.views("table")
    for name in figures:
        assert params.figures[name][0] == plan.config["experiments"][name]["title"]
        assert len(params.figures[name][1]) > 30
    assert files(job, "figures") == [f"{run}/figures/{name}.png" for name in figures]
    shown = [*tables, "ranks"]  # nothing is searched, so that there is no table of searches
    assert files(job, "tables") == [f"{run}/tables/{name}.html" for name in shown]
    for reader in ("report", "verdict", "summary"):
        assert files(plan.jobs[reader][0], "in_words") == [f"{run}/in_words.json"]
    assert params.classes == {
        name: [task["negative"], task["positive"]] for name, task in plan.config["tasks"].items()
    }
    cells = list(plan.cells())
    assert files(job, "intervals") == [f"{run}/intervals/{'/'.join(c)}.parquet" for c in cells]
    assert set(files(job, "external")) == {
        f"{run}/external/{task}/{attribute}/fold{f}.parquet"
        for task, _, attribute in cells
        for f in plan.folds
    }
    used = {n for task, _, attribute in cells for n in plan.tests(task, attribute)}
    used |= {n for task, *_ in cells for n in plan.config["tasks"][task]["train"]}
    data = [name for name in plan.config["datasets"] if name in used]
    assert files(job, "manifests") == [f"{run}/manifests/{name}.parquet" for name in data]
    assert files(job, "manifest_logs") == [f"{run}/manifests/{name}.log.json" for name in data]
    assert files(job, "cohort_logs") == [f"{run}/cohorts/{t}.log.json" for t in ("cxr", "skin")]
    [summary] = plan.jobs["summary"]
    assert summary.params.run == run
    assert files(summary, "tables") == [f"{run}/tables/{name}.txt" for name in shown]
    assert set(summary.input) == {*files(summary, "tables"), *files(summary, "in_words")}


def test_check_data_depends_on_data_alone(plan: Plan) -> None:
    [job] = plan.jobs["check_data"]
    given = job.params.settings
    assert_says(given["datasets"], plan.config["datasets"])
    assert_says(given["attributes"], plan.config["attributes"])
    assert given["folds"] == plan.config["folds"]
    assert given["duplicates"] == {
        "keep": plan.config["duplicates"].get("keep", "last"),
        "leaks": "exclude",
    }
    for name, task in plan.config["tasks"].items():
        assert plain(given["tasks"][name]["train"]) == task["train"]
        assert plain(given["tasks"][name]["tests"]) == task["tests"]
        assert given["tasks"][name]["invert_labels"] == task.get("invert_labels", False)
        assert given["tasks"][name]["pretraining"]["epochs"] == 1  # whatever the config says
        assert given["tasks"][name]["group_by_patient"] == task.get("group_by_patient", True)
        for which in ("positive", "negative"):
            assert given["tasks"][name][which] == task[which]
        assert (given["tasks"][name]["tie"] is None) == ("tie" not in task)
        assert_says(given["tasks"][name]["tie"] or {}, task.get("tie", {}))
        written = task.get("finetuning", {})
        sizes = {"min_cell": written.get("min_cell", 10), "min_group": written.get("min_group", 20)}
        assert given["tasks"][name]["finetuning"] == sizes
    for name, view in plan.config["experiments"].items():
        panels = [{k: v for k, v in panel.items() if k != "methods"} for panel in view["panels"]]
        assert_says(given["experiments"][name]["title"], view["title"])
        for panel, written in zip(given["experiments"][name]["panels"], panels, strict=True):
            assert_says(panel, written)
            assert panel["methods"] is None
    assert given["methods"] == {}


# --- what a job asks for --------------------------------------------------------------------------


def test_memory_and_time_grow_with_the_input_and_with_every_attempt(
    plan: Plan, tmp_path: Path
) -> None:
    pixels = tmp_path / "set.npy"
    pixels.write_bytes(bytes(3_000_000))
    paths = [str(pixels), str(tmp_path / "not made yet")]
    memory, minutes = plan.names["memory"], plan.names["minutes"]
    assert [memory(1000, 2)(None, paths, attempt) for attempt in (1, 2)] == [1006, 2012]
    assert minutes(30, per_input=0.5)(None, paths, 1) == 32

    # passes of images through a network, at 400 a second
    task = plan.config["tasks"]["cxr"]
    size, channels = task["images"]["size"], task["images"].get("channels", 3)
    images = 3_000_000 / (size**2 * channels)
    epochs, percent = task["pretraining"]["epochs"], task["finetuning"]["epochs_percent"]
    given = SimpleNamespace(pixels=paths, models=["model"] * 6)
    for method, share in (("swift", percent), ("swift_epochs_40", 40)):
        wildcards = Wildcards(fromdict={"task": "cxr", "method": method})
        found = plan.names["debias_passes"](wildcards, given)
        assert found == pytest.approx(10 * images * epochs * share / 100)
        of_one = Wildcards(fromdict={"task": "cxr", "method": method, "fold": "0"})
        assert plan.names["debias_passes"](of_one, given) == pytest.approx(found / len(plan.folds))
    wildcards = Wildcards(fromdict={"task": "cxr", "first": plan.names["FIRST_OF"]["swift"]})
    found = plan.names["debias_passes"](wildcards, given)
    assert found == pytest.approx(10 * images * epochs * percent / 100)
    wildcards = SimpleNamespace(task="cxr")
    passes = {
        "training_passes": images * epochs,
        "importance_passes": 10 * images,
        "prediction_passes": 2 * images,
    }
    for name, expected in passes.items():
        assert plan.names[name](wildcards, given) == pytest.approx(expected), name
    hour = minutes(10, lambda *_: 60 * 60 * 400)
    assert [hour(wildcards, [], attempt) for attempt in (1, 3)] == [70, 210]


def test_missing_folders_are_those_of_the_paper(plan: Plan) -> None:
    """A folder that is gone is missed, unless all that is made of it is there."""
    roots = {name: Path(entry["root"]) for name, entry in plan.config["datasets"].items()}
    missing = plan.names["missing_data"]
    assert missing() == []
    if "synthetic" in plan.config:
        assert not roots["ddi"].exists()  # it will be drawn
        return
    roots["ddi"].rmdir()
    assert [one.dataset for one in missing()] == ["ddi"]
    made = [f"{plan.run}/{name}" for name in ("manifests/ddi.parquet", "images/ddi.npy")]
    for name in (*made, f"{plan.run}/images/ddi.parquet"):
        assert [one.dataset for one in missing()] == ["ddi"]
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert missing() == []


def test_what_decides_last_bits_is_compared_between_runs(plan: Plan) -> None:
    """And what changes no number is not: `compute` takes `output`, so Snakemake passes over it."""
    compared = {"device", "precision", "channels_last", "compile_from", "deterministic"}
    rules = ("train_baseline", "importance", "debias", "predict", "figure_arrays")
    for rule in rules:
        assert plan.jobs[rule]
        for job in plan.jobs[rule]:
            assert set(job.params.arithmetic) == compared, rule
            whole = plain(job.params.compute)
            assert whole | plain(job.params.arithmetic) == whole, rule
