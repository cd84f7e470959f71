"""`--sdm conda`, with a stand-in for conda that solves and links from a channel made here.

It proves the wiring: each rule runs in the environment of its file, which has all it imports; a
changed pin makes a new environment. It does not prove that conda-forge has those builds.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conda_channel import SITE, STANDIN, USES, add_package, index, make_channel
from test_environments import ENVIRONMENTS, MODULES, PROJECT, dependencies, rules

TRIGGERS = ["mtime", "params", "input"]  # of every profile: `software-env` is left out
# Every rule of the workflow, on few tiny images. The numbers mean nothing.
CUT = """
extends: config/demo.yaml
run: conda
synthetic: {size: 48, images: {isic2018: 160, fitzpatrick17k: 60}}
datasets:
  isic2018: {root: results/conda/raw/isic2018}
  fitzpatrick17k: {root: results/conda/raw/fitzpatrick17k}
tasks:
  skin:
    train: [isic2018]
    tests: {skin_tone: [fitzpatrick17k]}
    images: {size: 24}
    pretraining: {epochs: 1}
    finetuning: {epochs_percent: 100, min_cell: 2}
experiments:
"""
VIEW = {
    "methods": ["baseline", "swift"],
    "panels": [{"task": "skin", "backbone": "small_resnet", "attribute": "skin_tone"}],
}
SMALL = """
rule job:
    output: "seen.json"
    conda: "envs/data.yaml"
    shell:
        "python -c 'import json, os, sys, pandas; json.dump([sys.prefix, pandas.__file__,"
        " os.environ.get(\\"CONDA_PREFIX\\")], open(sys.argv[1], \\"w\\"))' {output}"
"""


@pytest.fixture(scope="module", autouse=True)
def conda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stand-in on PATH, and its channel, with one more version of pandas than is pinned."""
    root = tmp_path_factory.mktemp("channel")
    make_channel(root, ENVIRONMENTS)
    add_package(root, "pandas", "3.0.9", ["numpy"], {f"{SITE}/pandas.py": "older = True\n"})
    path = [str(STANDIN), str(Path(sys.executable).parent), os.environ["PATH"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join(path))
        patch.setenv("CONDA_CHANNEL_ALIAS", index(root))
        yield


def cut(directory: Path) -> Path:
    """Write the config of the cut: the demo with one table and one figure."""
    names = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())["experiments"]
    views = dict.fromkeys(names) | {"table1": VIEW, "estimators": VIEW}
    rows = [f"  {name}: {json.dumps(view)}\n" for name, view in views.items()]
    config = directory / "cut.yaml"
    config.write_text(CUT + "".join(rows))
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, snakemake) -> Path:
    """The cut, run with `--sdm conda`."""
    directory = tmp_path_factory.mktemp("conda")
    options = ("--sdm", "conda", "--configfile", str(cut(directory)))
    done = snakemake(directory, "--cores", "2", *options)
    ran = set(re.findall(r"\(Rule: (\w+)\)", done.stdout + done.stderr))
    assert ran == {job.rule for job in rules()} | {"all"}
    return directory


@pytest.mark.slow
def test_each_file_becomes_one_environment(finished: Path) -> None:
    made = {path.read_text(): path.with_suffix("") for path in environments(finished)}
    assert set(made) == {path.read_text() for path in ENVIRONMENTS}
    for text, prefix in made.items():
        linked = [json.loads(p.read_text()) for p in prefix.glob("conda-meta/*.json")]
        versions = {record["name"]: record["version"] for record in linked}
        for entry in yaml.safe_load(text)["dependencies"]:
            name, version = entry.split("=")
            assert f"{versions[name]}.".startswith(f"{version}.")


@pytest.mark.slow
def test_each_script_runs_in_its_own_environment(finished: Path) -> None:
    """A script sees Snakemake's own packages too, after its environment's: none is needed."""
    known = {path.read_text(): path.stem for path in ENVIRONMENTS}
    used, foreign = defaultdict(set), set()
    for path in environments(finished):
        for line in (path.with_suffix("") / USES).read_text().splitlines():
            use = json.loads(line)
            if use["script"].startswith("tmp"):  # tmp123.train_baseline.py
                used[use["script"].split(".", 1)[1]].add(known[path.read_text()])
                foreign |= set(use["foreign"])
    assert used == {job.script.name: {job.environment} for job in rules() if job.script}
    pinned = {MODULES.get(name, name) for path in ENVIRONMENTS for name in dependencies(path.stem)}
    tops = {path: path.rsplit("site-packages/")[1].split("/")[0] for path in foreign}
    assert not pinned & set(tops.values())  # what is left, packages import if it is there
    own = [path for path, top in tops.items() if top.startswith("snakemake")]
    assert own and all(path.endswith(".py") for path in own), "pure Python serves every version"


@pytest.mark.slow
def test_switching_conda_off_reruns_nothing(finished: Path, snakemake) -> None:
    config = str(finished / "cut.yaml")
    off = snakemake(finished, "--cores", "1", "-n", "--configfile", config)
    assert "Nothing to be done" in off.stdout + off.stderr


def test_switching_conda_on_reruns_nothing(tmp_path: Path) -> None:
    small(tmp_path)
    run(tmp_path, sdm=())
    prefix, _, _ = json.loads((tmp_path / "seen.json").read_text())
    assert Path(prefix) == Path(sys.prefix)
    assert "Nothing to be done" in run(tmp_path, "-n", "--rerun-triggers", *TRIGGERS).stdout
    every = run(tmp_path, "-n", "--rerun-triggers", *TRIGGERS, "software-env")
    assert "Software environment definition has changed" in every.stdout


def test_profiles_leave_the_environment_out_of_the_triggers() -> None:
    for path in (PROJECT / "profiles").glob("*/config.yaml"):
        triggers = yaml.safe_load(path.read_text())["rerun-triggers"]
        assert triggers == TRIGGERS, path


def test_a_changed_pin_makes_a_new_environment(tmp_path: Path) -> None:
    file = small(tmp_path)
    run(tmp_path)
    [first] = environments(tmp_path)
    prefix, pandas, conda_prefix = json.loads((tmp_path / "seen.json").read_text())
    assert Path(prefix) == Path(conda_prefix) == first.with_suffix("")
    assert Path(pandas).name == "__init__.py"
    file.write_text(re.sub(r"pandas=.*", "pandas=3.0.9", file.read_text()))
    run(tmp_path, "--forceall")
    [second] = set(environments(tmp_path)) - {first}
    prefix, pandas, _ = json.loads((tmp_path / "seen.json").read_text())
    assert Path(prefix) == second.with_suffix("")
    assert Path(pandas) == second.with_suffix("") / SITE / "pandas.py"


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("pandas=9.9.9", "No candidates were found for pandas 9.9.9"),
        ("panda=3.1.1", "No candidates were found for panda 3.1.1"),
    ],
)
def test_a_pin_that_cannot_be_had_is_named(tmp_path: Path, pin: str, said: str) -> None:
    file = small(tmp_path)
    file.write_text(re.sub(r"pandas=.*", pin, file.read_text()))
    done = run(tmp_path, check=False)
    assert done.returncode != 0
    assert "Could not create conda environment" in done.stdout
    assert said in re.sub(r"\s+", " ", done.stdout)
    assert not (tmp_path / "seen.json").exists()


def test_the_dockerfile_is_up_to_date() -> None:
    command = [sys.executable, "-m", "snakemake", "--containerize"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (PROJECT / "Dockerfile").read_text() == done.stdout, "run `make container`"


def environments(directory: Path) -> list[Path]:
    """Snakemake's copies of the environment files; beside each lies the environment."""
    return sorted((directory / ".snakemake" / "conda").glob("*.yaml"))


def small(directory: Path) -> Path:
    """Write a workflow of one shell job with the project's data environment."""
    (directory / "Snakefile").write_text(SMALL)
    file = directory / "envs" / "data.yaml"
    file.parent.mkdir()
    file.write_text((PROJECT / "envs" / "data.yaml").read_text())
    return file


def run(
    directory: Path, *arguments: str, sdm: tuple[str, ...] = ("--sdm", "conda"), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the small workflow."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *sdm, *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=directory, timeout=120, **options)
    assert not check or done.returncode == 0, done.stdout
    return done
