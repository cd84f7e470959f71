"""The examples of docs/extend.md: laid into a copy of the project, each does what the page says.

One of each kind is added: a method, a data set, a figure, a metric, a network. One process loads
all of them and writes what they give; the tests compare that with numbers made here by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from blocks import PROJECT, Block, apply, blocks

PAGE = PROJECT / "docs" / "extend.md"
CODE = Path("workflow", "scripts")
TABLE = """file,patient,biopsy,gender,age
a.jpg,p1,melanoma,female,61
b.jpg,p1,nevus,female,61
c.jpg,p2,,male,40
d.jpg,p3,nevus,male,35
"""
USE = """
import json, sys
from pathlib import Path

import pandas as pd
import torch
import yaml

import my_networks
from swift_debias import methods
from swift_debias.config import load, plan
from swift_debias.config.schema import Backbone
from swift_debias.data import adapters
from swift_debias.evaluation import metrics, words
from swift_debias.evaluation.cells import Block
from swift_debias.learning import networks
from swift_debias.report import figures
from swift_debias.report.figures._parts import Request, Sources

found = {"setups": {}}
for path in sorted(Path("config").glob("*.yaml")):
    settings = load.load(
        yaml.safe_load(path.read_text()),
        Path.cwd(),
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
    )
    setups = plan.setups(settings)
    found["setups"][path.stem] = {"/".join(key): value for key, value in setups.items()}
    found["setups"][path.stem]["datasets"] = plan.used_datasets(settings)

options = adapters.make_options({"adapter": "clinic", "root": "data/clinic"})
result = adapters.read(options, Path.cwd())
kept = ["image_id", "label", "patient_id", "sex", "age"]
found["manifest"] = result.frame[kept].to_dict("list")
found["rules"] = {rule["rule"]: rule["removed"] for rule in result.log["rules"]}

tiny = Backbone(architecture="my_networks:tiny", options={"width": 16})
classifier = networks.build(tiny, seed=0)
found["logits"] = list(classifier(torch.rand(2, 3, 32, 32)).shape)
method = methods.load("shrink_head")
before = classifier.head.linear.weight.detach().clone()
after = method.debias(classifier, None, method.Settings(factor=0.25), None).head.linear.weight
found["shrunk"] = (after / before).flatten().tolist()

predictions = pd.DataFrame(
    {
        "dataset": "atlas",
        "image_id": list("abcdef"),
        "label": [0, 0, 0, 1, 1, 1],
        "group": [0, 0, 1, 0, 1, 1],
        "score": [0.1, 0.7, 0.2, 0.4, 0.8, 0.3],
    }
)
scored = metrics.score(predictions, groups=2)
values = scored.set_index("metric")["value"]
names = ("error_rate", "error_rate[0]", "error_rate[1]", "error_gap")
found["errors"] = [values[name] for name in names]
found["arrow"] = words.arrow("error_rate")

rows = [
    ("skin", "small_resnet", "sex", name, fold, "atlas", "eodds", value, 100, None)
    for name, folds in {"baseline": (0.3, 0.5), "swift": (0.1, 0.2)}.items()
    for fold, value in enumerate(folds)
]
columns = [*("task", "backbone", "attribute", "method", "fold"), "dataset"]
table = pd.DataFrame(rows, columns=[*columns, "metric", "value", "n", "reason"])
block = Block("skin", "small_resnet", "sex", ("atlas",), ("baseline", "swift"), ("eodds",))
request = Request("dots", (block,), options={"metric": "eodds"})
drawing = figures.load("dots").draw(request, Sources(metrics=table))
found["needs"] = figures.facts("dots").needs
found["drawn"] = dict(zip(drawing.data["method"], drawing.data["mean"], strict=True))
drawing.figure.savefig("dots.png", dpi=50)
json.dump(found, sys.stdout)
"""


def files(language: str) -> list[Block]:
    """The blocks of the page that are files: their title says which."""
    return [block for block in blocks(PAGE, language) if block.title]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with everything that the page adds."""
    project = tmp_path_factory.mktemp("project")
    for name in ("workflow", "config"):
        shutil.copytree(
            PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("resources", "envs", "requirements.txt"):
        (project / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "Snakefile", project)
    for language in ("python", "yaml"):
        for block in files(language):
            path = project / block.title
            assert not path.exists()
            path.write_text(block.text, encoding="utf-8")
    for block in blocks(PAGE, "diff"):
        apply(block, project)
    clinic = project / "data" / "clinic"
    clinic.mkdir(parents=True)
    (clinic / "images.csv").write_text(TABLE)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (clinic / name).touch()
    return project


@pytest.fixture(scope="module")
def found(extended: Path) -> dict[str, Any]:
    """What the added parts give."""
    environment = {**os.environ, "PYTHONPATH": f"{extended / CODE}{os.pathsep}{extended}"}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=extended,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_page_adds_one_file_and_one_entry_of_each_kind() -> None:
    entries = [set(yaml.safe_load(block.text)) for block in files("yaml")]
    kinds = ("methods", "datasets", "backbones")
    assert len(files("python")) == 4  # a metric is a function
    assert len(entries) == 5
    assert all(any(kind in entry for entry in entries) for kind in kinds)


def test_each_example_with_an_experiment_has_a_command_that_computes_it_alone() -> None:
    """The planned setups are those of its own panels, and each is written for its own run."""
    commands = "".join(block.text for block in blocks(PAGE, "sh"))
    said = re.findall(r"--configfile (\S+) --config 'only=\[(\w+)\]'", commands)
    entries = {block.title: yaml.safe_load(block.text) for block in files("yaml")}
    wanted = {title: entry for title, entry in entries.items() if "experiments" in entry}
    assert dict(said) == {title: "".join(entry["experiments"]) for title, entry in wanted.items()}
    assert len(said) == len(wanted) == len({entry["run"] for entry in wanted.values()})


def test_a_method(found: dict[str, Any]) -> None:
    assert found["shrunk"] == [0.25] * 16
    setup, setups = "skin/small_resnet/sex", found["setups"]
    assert set(setups["shrink"][setup]) - set(setups["demo"][setup]) == {"shrink_half"}
    others = {key: value for key, value in setups["demo"].items() if key != setup}
    assert {key: setups["shrink"][key] for key in others} == others


def test_a_data_set(found: dict[str, Any]) -> None:
    assert found["manifest"] == {
        "image_id": ["a.jpg", "b.jpg", "d.jpg"],
        "label": [0, 1, 1],
        "patient_id": ["p1", "p1", "p3"],
        "sex": ["female", "female", "male"],
        "age": [61.0, 61.0, 35.0],
    }
    assert found["rules"]["no biopsy"] == 1
    assert "clinic" in found["setups"]["clinic"]["datasets"]
    assert "clinic" not in found["setups"]["config"]["datasets"]


def test_a_figure(found: dict[str, Any], extended: Path) -> None:
    assert found["needs"] == ["metrics"]
    assert found["drawn"] == pytest.approx({"baseline": 0.4, "swift": 0.15})
    assert (extended / "dots.png").stat().st_size > 0


def test_a_metric(found: dict[str, Any]) -> None:
    assert found["errors"] == pytest.approx([3 / 6, 2 / 3, 1 / 3, 1 / 3])  # b, d and f are wrong
    assert found["arrow"] == "↓"


def test_a_network(found: dict[str, Any]) -> None:
    assert found["logits"] == [2]
    assert "skin/tiny/sex" in found["setups"]["networks"]
    assert "skin/wide/sex" in found["setups"]["networks"]


@pytest.mark.slow
def test_a_method_has_a_job(
    extended: Path, snakemake: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Rule debias makes its model of the Baselines of all folds, and of nothing else's models."""
    model = "results/shrink/debiased/skin/small_resnet/sex/shrink_half/fold0/model.safetensors"
    config = ("--configfile", str(extended / "config" / "shrink.yaml"))
    done = snakemake(extended, "--dry-run", *config, "--", model, project=extended)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert (jobs["debias"], jobs["train_baseline"]) == ("1", "2")
    assert "importance" not in jobs  # it reads none
