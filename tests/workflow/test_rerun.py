"""A job depends on exactly what it uses: a change reruns what it concerns, and nothing else.

In a copy of the shared run (tests/cut.py) one thing after another is changed, and the plan is
compared with what the change concerns by its nature (the table below) and everything that reads
from it (`road`).

Two couplings are wanted: importance and debias take all folds in one job, predict and evaluate all
methods of a cell, since a job's fixed cost is its imports; and whatever reads from a job that runs
again runs too, though its input may turn out the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import cut, warm

MEASURED = ("isic2019", "isic2020")  # data sets whose skin tone is measured


def road() -> dict[str, set[str]]:
    """Job -> jobs whose results it reads, as docs/design.md draws the road."""
    tables = {"table/table1", "table/table5"}
    reads: dict[str, set[str]] = {"check_data": set(), "merge_metrics": set()}
    reads["data_suffices"] = {"check_data"}
    readers = ("compare", "verdict", "ranks", "in_words")
    reads |= {reader: {"merge_metrics"} for reader in readers} | {"cost_table": set()}
    reads["verdict"].add("in_words")
    # under them stands which groups were compared, or which one FairPrune is for
    for table, cell in (("1", "skin/small_resnet/sex"), ("5", "cxr/small_resnet/age_4")):
        own = ("evaluate", "intervals", "plausibility", "choose_groups")
        reads[f"table/table{table}"] = {f"{rule}/{cell}" for rule in own}
    reads["figure/pareto"] = {f"{rule}/skin/small_resnet/sex" for rule in ("evaluate", "intervals")}
    reads["figure_arrays/figure1"] = {"predict/skin/small_resnet/sex", "cache_images/atlas"}
    reads["figure/figure1"] = {"figure_arrays/figure1", "predict/skin/small_resnet/sex"}
    reads["summary"] = {*tables, "ranks", "in_words"}
    reads["report"] = {"check_data", "compare", "verdict", "cost_table", "merge_metrics"}
    reads["report"] |= {*tables, "ranks", "in_words", "figure/pareto", "figure/figure1"}
    for task, train in cut.TRAIN.items():
        cells = {attribute: cell for (t, attribute), cell in cut.CELLS.items() if t == task}
        tests = {dataset for _, datasets in cells.values() for dataset in datasets}
        made: dict[str, set[str]] = {"build_manifest": set(), "cache_images": set()}
        for dataset in {*train, *tests}:
            raw, manifest, images = (
                f"{rule}/{dataset}" for rule in ("synthesize", "build_manifest", "cache_images")
            )
            reads |= {raw: set(), manifest: {raw}, images: {raw, manifest}}
            reads["check_data"].add(raw)
            made["build_manifest"].add(manifest)
            made["cache_images"].add(images)
            if dataset in MEASURED:
                reads[f"annotate_skin_tone/{dataset}"] = {raw, manifest, images}
        cohort, folds = f"find_duplicates/{task}", f"make_folds/{task}"
        pool = {f"cache_images/{dataset}" for dataset in train}
        tone = {f"annotate_skin_tone/{dataset}" for dataset in train if dataset in MEASURED}
        reads[cohort] = made["build_manifest"] | made["cache_images"]
        reads[folds] = {cohort, *tone}
        reads[f"set_sizes/{task}"] = {cohort, folds, *tone}
        baselines = {f"train_baseline/{task}/small_resnet/{fold}" for fold in cut.FOLDS}
        checked = f"check_models/{task}/small_resnet"
        reads[checked] = set()
        reads |= {job: {*pool, cohort, folds, checked} for job in baselines}
        reads["cost_table"] |= baselines
        reads["report"] |= {*made["build_manifest"], cohort}
        for attribute, (methods, datasets) in cells.items():
            cell = f"{task}/small_resnet/{attribute}"
            external, importance = f"make_external/{task}/{attribute}", f"importance/{cell}"
            reads[external] = {cohort, folds, *tone}
            reads[f"set_sizes/{task}"].add(external)
            groups, first = f"choose_groups/{cell}", f"first_step/{cell}/shared"
            reads[groups] = {external, cohort, *baselines}
            reads[importance] = {*pool, external, groups, *baselines}
            reads[first] = {*pool, external, groups, importance, *baselines}
            copies = {f"copy_baseline/{cell}/baseline"}
            reads |= {job: {*baselines} for job in copies}
            debiased = {f"debias/{cell}/{method}" for method in methods if method != "baseline"}
            reads |= {job: {*pool, external, groups, *baselines} for job in debiased}
            for job in debiased - {f"debias/{cell}/llft"}:
                reads[job].add(importance)
            reads[f"debias/{cell}/swift"].add(first)  # ablations of the demo share its step 1
            test = {f"{rule}/{name}" for rule in made for name in datasets}
            reads[f"predict/{cell}"] = {*copies, *debiased, *test}
            reads |= {f"{rule}/{cell}": {f"predict/{cell}"} for rule in ("evaluate", "intervals")}
            reads[f"plausibility/{cell}"] = {f"{r}/{cell}" for r in ("evaluate", "intervals")}
            reads["merge_metrics"] |= {f"{r}/{cell}" for r in ("evaluate", "plausibility")}
            for reader in ("compare", "verdict"):
                reads[reader].add(f"intervals/{cell}")
            reads["cost_table"] |= debiased
            reads["verdict"] |= debiased | copies | {importance}
            reads["summary"] |= debiased | copies
            for job in ("report", "in_words"):
                reads[job].add(f"intervals/{cell}")
            reads["report"].add(external)
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
    """What is changed, and the jobs that it concerns by its nature.

    new: jobs that there were none of.
    """

    name: str
    concerns: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    edit: dict[str, tuple[str, str]] = field(default_factory=dict)  # file -> old, new text
    touch: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


LIBRARY = "workflow/scripts/swift_debias"
DEBIASED = ("first_step/*", "debias/*")
TRAINED = ("train_baseline/*", "importance/*", *DEBIASED)  # where torch computes
# The report shows the whole configuration, so every change of a key concerns it.
CHANGES = [
    # --- settings -------------------------------------------------------------------------------
    Change(
        "lambda of one method",
        ("first_step/*", "debias/*/swift", "report"),
        {"methods": {"swift": {"prediction_weight_1": 0.4}}},
    ),
    Change(
        "lambda of one method's second step",
        ("debias/*/swift", "report"),
        {"methods": {"swift": {"prediction_weight_2": 0.8}}},
    ),
    Change(
        "a variant that shares its first step, and that no view shows",
        ("cost_table", "verdict", "report"),
        {"methods": {"swift_new": {"like": "swift", "reinit": "none"}}},
    ),
    Change(
        "a variant that shares its first step, in a table",
        ("predict/skin/small_resnet/sex", "cost_table", "verdict", "summary", "report"),
        {
            "methods": {"swift_new": {"like": "swift", "threshold": 0.35}},
            "experiments": {"table1": {"methods": [*cut.METHODS, "swift_new"]}},
        },
        new=("debias/skin/small_resnet/sex/swift_new",),
    ),
    Change(
        "what BatchNorm does in one variant",
        ("debias/*/swift_long", "report"),
        {"methods": {"swift_long": {"batchnorm": "eval"}}},
    ),
    Change(
        "title of one method",
        ("table/*", "ranks", "in_words", "figure/pareto", "cost_table", "verdict", "report"),
        {"methods": {"swift": {"title": "Ours"}}},
    ),
    Change(
        "title of a method that no view shows",
        ("cost_table", "verdict", "report"),  # they name every method of the configuration
        {"methods": {"bmft": {"title": "Theirs"}}},
    ),
    Change(
        "epochs of one task",
        ("train_baseline/cxr/*", "first_step/cxr/*", "debias/cxr/*", "report"),
        {"tasks": {"cxr": {"pretraining": {"epochs": 5}}}},
    ),
    Change(
        "learning rate of one task's head",
        # importance: takes finetuning as a whole
        ("importance/cxr/*", "first_step/cxr/*", "debias/cxr/*", "report"),
        {"tasks": {"cxr": {"finetuning": {"lr_head": 0.05}}}},
    ),
    Change(
        "share of the external set of one variant",
        ("debias/*/swift_part", "report"),
        {"methods": {"swift_part": {"external_fraction": 0.7}}},
    ),
    Change(
        "smallest group that counts, of one task",
        (
            *("choose_groups/cxr/*", "evaluate/cxr/*", "intervals/cxr/*", "report"),
            "check_data",  # it says beforehand whether enough of each group is there
        ),
        {"tasks": {"cxr": {"finetuning": {"min_group": 16}}}},
    ),
    Change(
        "methods of a view",  # one that is already computed; check_data asks for data only
        ("figure/pareto", "report"),
        {"experiments": {"pareto": {"methods": ["baseline", "swift"]}}},
    ),
    Change(  # the demo's images are drawn from it too; a network is only tried
        "the seed",
        ("[!c]*", "c[!h]*", "check_data", "choose_groups/*"),
        {"seed": 1},
    ),
    Change(
        "the dropout of the network",
        ("check_models/*", "report"),
        {"backbones": {"small_resnet": {"dropout": 0.25}}},
    ),
    Change(
        "what changes no number",  # the report shows it
        ("report",),
        {
            "compute": {
                "threads": 2,
                "checkpoint_seconds": 7,
                "resident": "off",
                "debias_job": "fold",
            }
        },
    ),
    Change(
        "precision",
        (*TRAINED, "predict/*", "figure_arrays/*", "report"),
        {"compute": {"precision": "bf16"}},
    ),
    Change(
        "the duplicate radius",
        ("find_duplicates/*", "report"),
        {"duplicates": {"radius": 18}},
    ),
    Change(
        "names of the classes of a task without a figure",
        ("check_data", "report"),  # both say how many of each class a group has
        {"tasks": {"cxr": {"positive": "collapsed lung", "disease": "collapsed lung"}}},
    ),
    Change(
        "names of the classes of a task with figures",
        ("check_data", "figure/*", "report"),
        {"tasks": {"skin": {"positive": "harmless"}}},
    ),
    Change(
        "a figure's style",
        ("figure/pareto", "report"),
        {"experiments": {"pareto": {"options": {"axes": ["auc", "spd"]}}}},
    ),
    Change(
        "what a figure computes",
        ("figure_arrays/figure1", "report"),
        {"experiments": {"figure1": {"options": {"quantiles": [0.5]}}}},
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
            f"{LIBRARY}/learning/loop.py": ('"""The one', '# Why?\n"""The'),
            f"{LIBRARY}/seeds.py": ("    text = ", "    # What is hashed\n    text = "),
        },
    ),
    Change(
        "a touch of everything, as a fresh checkout is",
        (),
        touch=cut.COPIED,
    ),
    Change(
        "what is looked at before the trainings",
        (),
        edit={f"{LIBRARY}/learning/model_check.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "the losses",
        TRAINED,
        edit={f"{LIBRARY}/learning/losses.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "the estimators of importance",
        ("importance/*", *DEBIASED),  # the Baselines stay
        edit={f"{LIBRARY}/importance/estimators.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "a method's file",
        ("debias/*/llft",),
        edit={f"{LIBRARY}/methods/llft.py": ('CLASS = "LLFT"', 'CLASS = "Llft"')},
    ),
    Change(
        "SWiFT's file",
        ("first_step/*", "debias/*/swift*"),
        edit={f"{LIBRARY}/methods/swift.py": ('CLASS = "SWiFT"', 'CLASS = "Swift"')},
    ),
    Change(
        "how groups are chosen",  # whoever reads the choice reads it with this module
        ("choose_groups/*", "importance/*", *DEBIASED),
        edit={
            f"{LIBRARY}/methods/_groups.py": ("import pandas as pd\n", "import pandas as pd, re\n")
        },
    ),
    Change(
        "cells of tables",  # figures read them too, and with a figure the arrays that it computes
        (
            *("set_sizes/*", "figure_arrays/*", "figure/*", "table/*", "cost_table", "compare"),
            *("plausibility/*", "ranks", "in_words", "verdict", "summary", "report"),
        ),
        edit={
            f"{LIBRARY}/evaluation/cells.py": ("import pandas as pd\n", "import pandas as pd, re\n")
        },
    ),
    Change(
        "the published numbers",
        ("table/*", "verdict"),
        edit={
            f"{LIBRARY}/report/published.py": ("import pandas as pd\n", "import pandas as pd, re\n")
        },
    ),
    Change(
        "the costs",
        ("figure/*", "cost_table", "verdict", "summary", "report"),
        edit={f"{LIBRARY}/report/costs.py": ("import pandas as pd\n", "import pandas as pd, re\n")},
    ),
    Change(
        "an adapter's file",  # check_data reads the raw folders with it
        ("check_data", "build_manifest/nih"),
        edit={f"{LIBRARY}/data/adapters/nih.py": ('TITLE = "NIH', 'TITLE = "The NIH')},
    ),
    Change(
        "a drawing's file",
        ("figure_arrays/figure1", "figure/figure1"),
        edit={f"{LIBRARY}/report/figures/bias.py": ("BINS = 20", "BINS = 10")},
    ),
    Change(
        "what a drawing imports to compute its arrays",
        ("figure_arrays/figure1", "figure/figure1"),
        edit={f"{LIBRARY}/report/figures/_images.py": ("import torch\n", "import torch, re\n")},
    ),
    Change(
        "the models and the reading of the settings",
        (),
        edit={
            f"{LIBRARY}/config/{name}.py": (
                "from __future__ import annotations\n",
                "from __future__ import annotations\n\nimport re\n",
            )
            for name in ("base", "load", "schema", "strict_yaml", "sections/tasks")
        },
    ),
    Change(
        "the library's version",
        (),
        edit={f"{LIBRARY}/__init__.py": ('__version__ = "', '__version__ = "1')},
    ),
    # --- packages --------------------------------------------------------------------------------
    Change(
        "the torch range and pin",  # the figure\'s arrays are made with torch as well
        (*TRAINED, "predict/*", "figure_arrays/*", "report"),  # the report lists the pins
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
def project(copy_run: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the cut has been run."""
    folder = copy_run(tmp_path_factory.mktemp("rerun") / "project")
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
    words = ("what-changed", "--configfile", "changed.yaml", *arguments)
    scripts = project / "workflow" / "scripts"
    done = warm.run("swift_debias.cli", *words, cwd=project, path=scripts)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "change"),
    [pytest.param(change, change, id=change.name) for change in CHANGES],
    indirect=["changed"],
)
def test_exactly_what_a_change_concerns_runs_again(changed: Path, change: Change) -> None:
    jobs = json.loads(plan(changed, "--json"))
    # a first step's name is made from its settings; a setup of the cut has one
    runs = {
        "/".join(
            [job["rule"], *("shared" if k == "first" else v for k, v in job["wildcards"].items())]
        )
        for job in jobs
    } - {"all"}
    expected = with_followers(change.concerns) | {*change.new}
    assert sorted(runs - expected) == [], "runs again without a reason"
    assert sorted(expected - runs) == [], "does not run again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Change("", ()), ["Nothing would run"]),
        (
            Change("", (), {"methods": {"swift": {"prediction_weight_1": 0.4}}}),
            [
                "first_step: 3 jobs\n    not made yet  (3 jobs)",
                "debias: 3 jobs\n",
                "\n    method.prediction_weight_1: 0.5 -> 0.4  (3 jobs)",
                "(follow",
            ],
        ),
        (Change("", (), {"folds": 3}), ["split.folds: 2 -> 3", "not made yet"]),
        (
            Change(
                "", (), edit={f"{LIBRARY}/methods/fairprune.py": ('"FairPrune"', '"Fairprune"')}
            ),
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
