"""A small project of somebody's own images, and the workflow on it in this process.

Snakemake reads the configuration and plans; the scripts of its jobs then run here, one after the
other, so that a key can be followed from the YAML to a file of results in a second or two.
"""

from __future__ import annotations

import copy
import runpy
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]

# data set -> seed of its pictures and how many there are
SETS = {"north": (0, 40), "south": (1, 40), "east": (2, 24), "west": (3, 20)}


def draw_data_set(folder: Path, name: str) -> None:
    """Pictures and their table; the ids of the first three are those of every other set too."""
    seed, n = SETS[name]
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"shared_{i}" if i < 3 else f"{name}_{i}" for i in range(n)],
            "finding": rng.permutation(np.arange(n) % 2),
            "who": [f"{name} {i // 2}" for i in range(n)],
            "gender": rng.permutation(np.resize(["F", "M", "F", "M", ""], n)),
            "years": rng.permutation(np.resize([20, 35, 50, 65, 80], n)),
            "tone": rng.permutation(np.resize(["2", "5", ""], n)),
        }
    )
    frame["file"] = [f"{i:02d}.png" for i in range(n)]
    (folder / "images").mkdir(parents=True)
    for row in frame.itertuples():
        skin = rng.uniform(0.4, 1) * np.array([230, 180, 150])
        picture = rng.normal(skin, 12, (20, 20, 3))
        picture[:8, :8] -= 40 * row.finding
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / row.file)
    frame.to_csv(folder / "table.csv", index=False)


def configuration() -> dict[str, Any]:
    """One task of two training and two test sets, one tiny network, two methods, one table."""
    panel = {"task": "skin", "backbone": "net", "attribute": "sex"}
    return {
        "run": "mine",
        "folds": 2,
        "datasets": {
            name: {
                "adapter": "table",
                "root": f"data/{name}",
                "table": "table.csv",
                "path": "file",
                "image_folder": "images",
                "image_id": "id",
                "patient": "who",
                "label": {"column": "finding", "positive": ["1"], "negative": ["0"]},
                "attributes": {
                    "sex": {"column": "gender"},
                    "age": {"column": "years"},
                    "fitzpatrick": {"column": "tone"},
                },
            }
            for name in SETS
        },
        "attributes": {
            "sex": {"column": "sex", "groups": {"female": ["female"], "male": ["male"]}},
            "age": {"column": "age", "cuts": [50], "names": ["younger", "older"]},
            "tone": {"column": "fitzpatrick", "groups": {"light": [1, 2, 3], "dark": [4, 5, 6]}},
        },
        "skin_tone": {"size": 12},
        "tasks": {
            "skin": {
                "train": ["north", "south"],
                "tests": {"sex": ["east", "west"], "age": ["east", "west"], "tone": ["east"]},
                "positive": "benign",
                "negative": "malignant",
                "images": {"size": 12},
                "pretraining": {
                    "epochs": 2,
                    "batch_size": 32,
                    "optimizer": {"name": "sgd", "lr": 0.05},
                },
                "finetuning": {"min_cell": 2, "min_group": 2},
            }
        },
        "backbones": {
            "net": {"architecture": "small_resnet", "options": {"width": 8}},
            "wide": {"architecture": "small_resnet", "options": {"width": 16}},
        },
        "methods": {
            "baseline": {"algorithm": "baseline"},
            "fullft": {"algorithm": "fullft"},
            "llft": {"algorithm": "llft", "steps": 3},
        },
        "experiments": {
            "table1": {
                "kind": "table",
                "title": "First",
                "methods": ["baseline", "fullft"],
                "panels": [panel],
            }
        },
        "compute": {"device": "cpu"},
    }


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration with other values at these paths, e.g. "tasks.skin.train"."""
    config = copy.deepcopy(configuration())
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = config
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[last] = value
    return config


def plan(config: dict[str, Any], targets: Iterable[str] = ()) -> list[Any]:
    """Snakemake's jobs for these files or rules of the working directory, in order."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        ResourceSettings,
        SchedulingSettings,
    )

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=config),
            snakefile=PROJECT / "Snakefile",
            workdir=Path.cwd(),
        )
        forced = DAGSettings(targets=set(targets), forceall=True)
        greedy = SchedulingSettings(scheduler="greedy")
        workflow.dag(forced).execute_workflow(executor="dryrun", scheduling_settings=greedy)
        dag = workflow._workflow.dag
        return [job for level in dag.toposorted() for job in level if job in set(dag.jobs)]


def perform(job: Any) -> None:
    """What a job does, here."""
    for path in (*job.output, *job.log):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if job.shellcmd:
        subprocess.run(job.shellcmd, shell=True, check=True)
    elif job.rule.script:
        names = ("input", "output", "params", "wildcards", "log", "threads")
        given = SimpleNamespace(**{name: getattr(job, name) for name in names}, rule=job.rule.name)
        script = PROJECT / "workflow" / "scripts" / Path(job.rule.script).name
        runpy.run_path(str(script), {"snakemake": given}, "__main__")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a script sets for its whole process is undone."""
    import torch

    from swift_debias.learning import devices
    from swift_debias.run import job

    monkeypatch.setattr(job, "_end_with_parent", lambda: None)
    monkeypatch.setattr(job, "_end_at_once", lambda _: None)
    monkeypatch.setattr(devices, "_keep_memory", lambda: None)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw data sets."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in SETS:
        draw_data_set(folder / "data" / name, name)
    return folder


Make = Callable[..., Path]


@pytest.fixture
def make(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> Make:
    """make("folds/skin.parquet", {"folds": 3}) -> that file, made from the raw data.

    Every call has a folder of its own. With `given`, a name -> what writes the file, the target's
    own job alone runs and finds those files.
    """

    def start(
        target: str,
        changes: dict[str, Any] | None = None,
        given: Mapping[str, Callable[[Path], object]] | None = None,
    ) -> Path:
        folder = tmp_path / f"made{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "data").symlink_to(drawn / "data")
        monkeypatch.chdir(folder)
        config = changed(changes or {})
        run = Path("results") / config["run"]
        for name, write in (given or {}).items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            write(run / name)
        jobs = plan(config, [str(run / target)])
        for job in jobs if given is None else jobs[-1:]:
            perform(job)
        return folder / run / target

    return start
