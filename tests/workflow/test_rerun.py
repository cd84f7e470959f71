"""A job depends on exactly what it uses: a change reruns what it concerns, and nothing else.

One real run of a cut of the demo in a copy of the project: two tasks, three methods, a table and
two figures. Then one thing after another is changed, and the plan is compared with what the change
concerns by its nature (the table below) and everything that reads from it (`road`).

Two couplings are wanted: importance and debias take all folds in one job, evaluate all methods of
a cell, since a job's fixed cost is its imports; and whatever reads from a job that runs again runs
too, though its input may turn out the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import cut

PROJECT = Path(__file__).resolve().parents[2]
COPIED = ("Snakefile", "workflow", "config", "resources", "envs", "requirements.txt")
METHODS = ("baseline", "llft", "swift")
DATA = {"skin": ("isic2020", "atlas"), "cxr": ("mimic_cxr", "nih")}  # training, test
IMAGES = {"isic2017": 40, "isic2018": 60, "isic2019": 160, "isic2020": 160}
IMAGES |= {"atlas": 80, "mimic_cxr": 160, "nih": 80}
SKIN = {"task": "skin", "backbone": "small_resnet", "attribute": "sex"}
BOTH = [SKIN, SKIN | {"task": "cxr"}]
SMALL = {
    "images": {"size": 24},
    "pretraining": {"epochs": 1},
    "finetuning": {"epochs_percent": 100, "min_cell": 2, "min_group": 2},
}
TASKS = {
    task: {"train": [train], "tests": {"sex": [test]}, **SMALL}
    for task, (train, test) in DATA.items()
}
VIEWS = cut.table_and_figure(METHODS, BOTH, [SKIN]) | {
    "figure3": {
        "kind": "figure",
        "plot": "importance",
        "title": "One layer",
        "methods": ["swift"],
        "panels": [SKIN],
    },
}


def road() -> dict[str, set[str]]:
    """Job -> jobs whose results it reads, as architecture.md draws the road."""
    reads: dict[str, set[str]] = {"check_data": set(), "compare": {"merge_metrics"}}
    reads |= {"merge_metrics": set(), "table/table1": {"merge_metrics"}, "cost_table": set()}
    reads |= {"figure/pareto": {"merge_metrics"}, "figure/figure3": {"figure_arrays/figure3"}}
    reads["figure_arrays/figure3"] = {"importance/skin/small_resnet/sex"}
    reads["verdict"] = {"merge_metrics"}
    reads["summary"] = {"table/table1"}
    reads["report"] = {"check_data", "merge_metrics", "compare", "verdict", "cost_table"}
    reads["report"] |= {"table/table1", "figure/pareto", "figure/figure3"}
    for task, data in DATA.items():
        cell, folds = f"{task}/small_resnet/sex", (0, 1)
        for dataset in data:
            raw, manifest, images = (
                f"{rule}/{dataset}" for rule in ("synthesize", "build_manifest", "cache_images")
            )
            reads |= {raw: set(), manifest: {raw}, images: {raw, manifest}}
            reads["check_data"].add(raw)
        manifests = {f"build_manifest/{dataset}" for dataset in data}
        caches = {f"cache_images/{dataset}" for dataset in data}
        cohort, pool = f"find_duplicates/{task}", f"cache_images/{data[0]}"
        tone = {"annotate_skin_tone/isic2020"} if task == "skin" else set()
        if tone:
            reads["annotate_skin_tone/isic2020"] = {
                f"{rule}/isic2020" for rule in ("synthesize", "build_manifest", "cache_images")
            }
        reads[cohort] = manifests | caches
        reads[f"make_folds/{task}"] = {cohort, *tone}
        external = f"make_external/{task}/sex"
        reads[external] = {cohort, f"make_folds/{task}", *tone}
        reads[f"set_sizes/{task}"] = {cohort, f"make_folds/{task}", external, *tone}
        baselines = {f"train_baseline/{task}/small_resnet/{fold}" for fold in folds}
        reads |= {job: {pool, cohort, f"make_folds/{task}"} for job in baselines}
        importance = f"importance/{cell}"
        reads[importance] = {pool, external, *baselines}
        reads[f"debias/{cell}/llft"] = {pool, external, *baselines}
        reads[f"debias/{cell}/swift"] = {pool, external, importance, *baselines}
        copies = {f"copy_baseline/{cell}/baseline/{fold}" for fold in folds}
        reads |= {job: {f"train_baseline/{task}/small_resnet/{job[-1]}"} for job in copies}
        debiased = {f"debias/{cell}/llft", f"debias/{cell}/swift"}
        test = {f"build_manifest/{data[1]}", f"cache_images/{data[1]}"}
        reads[f"evaluate/{cell}"] = {*copies, *debiased, *test}
        reads |= {f"{rule}/{cell}": {f"evaluate/{cell}"} for rule in ("score", "intervals")}
        reads["merge_metrics"].add(f"score/{cell}")
        reads["cost_table"] |= debiased | baselines
        reads["verdict"] |= debiased | copies | {importance}
        reads["summary"] |= debiased | copies
        reads["report"] |= {*manifests, cohort, external, f"intervals/{cell}"}
    return reads


ROAD = road()


def with_followers(patterns: tuple[str, ...]) -> set[str]:
    """The jobs of these names, and all that read from them, however far down the road."""
    for pattern in patterns:
        assert any(fnmatch(job, pattern) for job in ROAD), pattern
    found = {job for job in ROAD if any(fnmatch(job, pattern) for pattern in patterns)}
    while more := {job for job, reads in ROAD.items() if reads & found} - found:
        found |= more
    return found


@dataclass
class Change:
    """What is changed, and the jobs that it concerns by its nature."""

    name: str
    concerns: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    edit: dict[str, tuple[str, str]] = field(default_factory=dict)  # file -> old, new text
    touch: tuple[str, ...] = ()


LIBRARY = "workflow/scripts/swift_debias"
TRAINED = ("train_baseline/*", "importance/*", "debias/*", "evaluate/*")  # where torch computes
# The report shows the whole configuration, so every change of a key concerns it.
CHANGES = [
    # --- settings -------------------------------------------------------------------------------
    Change(
        "lambda of one method",
        ("debias/*/swift", "report"),
        {"methods": {"swift": {"prediction_weight_1": 0.4}}},
    ),
    Change(
        "title of one method",
        ("table/*", "figure/*", "cost_table", "verdict", "report"),
        {"methods": {"swift": {"title": "Ours"}}},
    ),
    Change(
        "title of a method that no view shows",
        ("cost_table", "verdict", "report"),  # they name every method of the configuration
        {"methods": {"bmft": {"title": "Theirs"}}},
    ),
    Change(
        "epochs of one task",
        ("train_baseline/cxr/*", "debias/cxr/*", "report"),
        {"tasks": {"cxr": {"pretraining": {"epochs": 2}}}},
    ),
    Change(
        "learning rate of one task's head",
        ("importance/cxr/*", "debias/cxr/*", "report"),  # importance: takes finetuning as a whole
        {"tasks": {"cxr": {"finetuning": {"lr_head": 0.05}}}},
    ),
    Change(
        "methods of a view",  # one that is already computed; check_data asks for data only
        ("figure/pareto", "report"),
        {"experiments": {"pareto": {"methods": ["baseline", "swift"]}}},
    ),
    Change("the seed", ("*",), {"seed": 1}),  # the demo's images are drawn from it too
    Change(
        "a data set's root",
        ("check_data", "build_manifest/nih", "cache_images/nih", "find_duplicates/cxr", "report"),
        {"datasets": {"nih": {"root": "elsewhere/nih"}}},
    ),
    Change(
        "the duplicate radius",
        ("find_duplicates/*", "report"),
        {"duplicates": {"radius": 18}},
    ),
    Change(
        "names of the classes of one task",
        ("report",),  # no figure of the cut names the classes of the chest X-rays
        {"tasks": {"cxr": {"positive": "collapsed lung"}}},
    ),
    Change(
        "a figure's style",
        ("figure/pareto", "report"),
        {"experiments": {"pareto": {"options": {"axes": ["auc", "spd"]}}}},
    ),
    Change(
        "what a figure computes",
        ("figure_arrays/figure3", "report"),
        {"experiments": {"figure3": {"options": {"size": 32}}}},
    ),
    Change(
        "a table's title",
        ("check_data", "table/table1", "report"),  # check_data says by title what can be computed
        {"experiments": {"table1": {"title": "Another title"}}},
    ),
    # --- code: what imports a changed module, however deep ---------------------------------------
    Change(
        "a comment and a docstring of the library",
        (),
        edit={
            f"{LIBRARY}/training.py": ('"""The one training loop', '# Why?\n"""The training loop'),
            f"{LIBRARY}/seeds.py": ("    text = ", "    # What is hashed\n    text = "),
        },
    ),
    Change(
        "a touch of everything, as a fresh checkout is",
        (),
        touch=COPIED,
    ),
    Change(
        "losses.py",
        TRAINED,
        edit={f"{LIBRARY}/losses.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "fisher.py",
        ("importance/*", "debias/*"),  # the Baselines stay
        edit={f"{LIBRARY}/fisher.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "a method's file",
        ("debias/*/llft",),
        edit={f"{LIBRARY}/methods/llft.py": ("NEEDS_IMPORTANCE = False", "NEEDS_IMPORTANCE = 0")},
    ),
    Change(
        "tables.py",  # compare, report and so on name things with it, or take its costs
        ("set_sizes/*", "figure/*", "table/*", "cost_table", "compare", "intervals/*", "verdict"),
        edit={f"{LIBRARY}/tables.py": ("import pandas as pd\n", "import pandas as pd, re\n")},
    ),
    Change(
        "the library's version",
        (),
        edit={f"{LIBRARY}/__init__.py": ('__version__ = "', '__version__ = "1')},
    ),
    # --- packages --------------------------------------------------------------------------------
    Change(
        "the torch range and pin",  # the figure of importances computes with torch as well
        (*TRAINED, "figure_arrays/*", "report"),  # the report lists the pins
        edit={
            "envs/torch.yaml": ("pytorch >=2.13,<2.14", "pytorch >=2.13,<2.15"),
            "requirements.txt": ("torch==2.13.0", "torch==2.13.1"),
        },
    ),
    Change(
        "another range and pin",  # only torch decides what weights come out; others move and draw
        ("report",),
        edit={
            "envs/torch.yaml": ("tqdm >=4.67.2,<5", "tqdm >=4.67.2,<6"),
            "requirements.txt": ("tqdm==4.70.1", "tqdm==4.70.2"),
        },
    ),
]


def merged(below: Any, above: Any) -> Any:
    """Mappings are merged; anything else replaces."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, snakemake) -> Path:
    """A copy of the project in which the cut has been run."""
    folder = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    config = folder / "cut.yaml"
    config.write_text(cut.config("cut", IMAGES, TASKS, VIEWS))
    snakemake(folder, "--cores", "2", "--configfile", str(config), project=folder)
    shutil.copytree(folder / "results/cut/raw/nih", folder / "elsewhere/nih")
    return folder


@pytest.fixture
def changed(project: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The project with one thing changed, and its configuration in changed.yaml."""
    change: Change = request.param
    config = merged(yaml.safe_load((project / "cut.yaml").read_text()), change.config)
    (project / "changed.yaml").write_text(json.dumps(config))
    before = {name: (project / name).read_text() for name in change.edit}
    for name, (old, new) in change.edit.items():
        assert old in before[name], f"{name}: {old!r} is not there"
        (project / name).write_text(before[name].replace(old, new, 1))
    for name in change.touch:
        for path in [project / name, *(project / name).rglob("*")]:
            path.touch()
    yield project
    for name, text in before.items():
        (project / name).write_text(text)


def plan(project: Path, *arguments: str) -> str:
    """What `make what-changed` says."""
    script = project / "workflow" / "scripts" / "what_changed.py"
    command = [sys.executable, str(script), "--configfile", "changed.yaml", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "concerns"),
    [pytest.param(change, change.concerns, id=change.name) for change in CHANGES],
    indirect=["changed"],
)
def test_exactly_what_a_change_concerns_runs_again(
    changed: Path, concerns: tuple[str, ...]
) -> None:
    jobs = json.loads(plan(changed, "--json"))
    runs = {"/".join([job["rule"], *job["wildcards"].values()]) for job in jobs} - {"all"}
    expected = with_followers(concerns)
    assert sorted(runs - expected) == [], "runs again without a reason"
    assert sorted(expected - runs) == [], "does not run again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Change("", ()), ["Nothing would run"]),
        (
            Change("", (), {"methods": {"swift": {"prediction_weight_1": 0.4}}}),
            ["debias: 2 jobs\n    method.prediction_weight_1: 0.5 -> 0.4  (2 jobs)", "(follow"],
        ),
        (Change("", (), {"folds": 3}), ["split.folds: 2 -> 3", "not made yet"]),
        (
            Change("", (), edit={f"{LIBRARY}/methods/llft.py": ("= False", "= 0")}),
            ["the code that it runs has changed  (2 jobs)"],
        ),
    ],
    indirect=["changed"],
    ids=["nothing", "param", "folds", "code"],
)
def test_what_changed_tells_why(changed: Path, said: list[str]) -> None:
    text = plan(changed)
    for part in said:
        assert part in text, text
