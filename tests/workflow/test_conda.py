"""`--sdm conda`, with a stand-in for conda that solves and links from a channel made here.

The channel has the packages of resources/conda_forge.csv and no other, at their least certain
versions. It proves that the environments can be solved by these, and the wiring: each rule runs in
the environment of its file, which has all it imports; a changed range makes a new environment. It
does not prove that the builds of conda-forge fit each other.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from conda_channel import SITE, STANDIN, USES, add_package, index, make_channel, make_wheel
from test_environments import (
    ENVIRONMENTS,
    LISTED,
    PROJECT,
    Job,
    dependencies,
    entries,
    modules,
    rules,
)

pytestmark = pytest.mark.ci
TRIGGERS = ["mtime", "params", "input"]  # of every profile: `software-env` is left out
# Every rule of the workflow, on few tiny images. The numbers mean nothing.
CUT = """
extends: config/demo.yaml
run: conda
repeats: 2
synthetic: {size: 32, images: {isic2018: 100, fitzpatrick17k: 40}}
tasks:
  skin:
    train: [isic2018]
    tests: {skin_tone: [fitzpatrick17k]}
    images: {size: 16}
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
    conda: "environment.yaml"
    shell:
        "python -c 'import json, os, sys, pandas; json.dump([sys.prefix, pandas.__file__,"
        " os.environ.get(\\"CONDA_PREFIX\\")], open(sys.argv[1], \\"w\\"))' {output}"
"""


def in_the_cut() -> list[Job]:
    """All rules but the one that answers of drawn biases, which the cut has none of.

    Its imports are compared with its environment in test_environments.py like all others'.
    """
    return [job for job in rules() if job.rule != "which_method"]


@pytest.fixture(scope="module", autouse=True)
def conda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stand-in on PATH, its channel, with one more version of pandas than is listed, and pip's
    wheels: those of the lock that an environment has pip install, and no network."""
    root = tmp_path_factory.mktemp("channel")
    make_channel(root)
    add_package(root, "pandas", "3.0.1", ["numpy"], {f"{SITE}/pandas.py": "older = True\n"})
    for name in {entry.split()[0] for path in ENVIRONMENTS for entry in entries(path.stem)[1]}:
        make_wheel(root / "wheels", name)
    path = [str(STANDIN), str(Path(sys.executable).parent), os.environ["PATH"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join(path))
        patch.setenv("CONDA_CHANNEL_ALIAS", index(root))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(root / "wheels"))
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
    # debias_again is made of debias, and is written nowhere
    assert ran == {job.rule for job in in_the_cut()} | {"all", "debias_again"}
    return directory


def test_each_file_becomes_one_environment(finished: Path) -> None:
    names = {path.read_text(): path.stem for path in ENVIRONMENTS}
    made = {names[path.read_text()]: path.with_suffix("") for path in environments(finished)}
    assert set(made) == set(names.values())
    for name, prefix in made.items():
        records = [json.loads(p.read_text()) for p in prefix.glob("conda-meta/*.json")]
        linked = {record["name"]: record["version"] for record in records}
        assert linked == {package: LISTED[package].least for package in linked}
        by_pip = {d.name: d.version for d in distributions(path=[str(prefix / SITE)])}
        versions = linked | by_pip
        assert all(versions[k] in wanted for k, wanted in dependencies(name).items())


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
    assert used == {job.script.name: {job.environment} for job in in_the_cut() if job.script}
    asked = set().union(*(modules(path.stem) for path in ENVIRONMENTS))
    tops = {path: path.rsplit("site-packages/")[1].split("/")[0] for path in foreign}
    assert not asked & set(tops.values())  # what is left, packages import if it is there
    own = [path for path, top in tops.items() if top.startswith("snakemake")]
    assert own and all(path.endswith(".py") for path in own), "pure Python serves every version"


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
    profiles = {
        path.parent.name: yaml.safe_load(path.read_text())
        for path in (PROJECT / "profiles").glob("*/config.yaml")
    }
    del profiles["slurm_large"]  # laid on profiles/slurm
    for name, profile in profiles.items():
        assert profile["rerun-triggers"] == TRIGGERS, name


def test_a_changed_range_makes_a_new_environment(tmp_path: Path) -> None:
    file = small(tmp_path)
    run(tmp_path)
    [first] = environments(tmp_path)
    prefix, pandas, conda_prefix = json.loads((tmp_path / "seen.json").read_text())
    assert Path(prefix) == Path(conda_prefix) == first.with_suffix("")
    assert Path(pandas).name == "__init__.py"
    file.write_text(file.read_text().replace(">=3.0.3", ">=3.0.1,<3.0.2"))
    run(tmp_path, "--forceall")
    [second] = set(environments(tmp_path)) - {first}
    prefix, pandas, _ = json.loads((tmp_path / "seen.json").read_text())
    assert Path(prefix) == second.with_suffix("")
    assert Path(pandas) == second.with_suffix("") / SITE / "pandas.py"


def test_snakemake_names_a_package_that_cannot_be_had(tmp_path: Path) -> None:
    file = small(tmp_path)
    file.write_text(file.read_text().replace("pandas", "panda"))
    done = run(tmp_path, check=False)
    assert done.returncode != 0
    assert "Could not create conda environment" in done.stdout
    assert "No candidates were found for panda >=3.0.3" in re.sub(r"\s+", " ", done.stdout)
    assert not (tmp_path / "seen.json").exists()


@pytest.mark.parametrize(
    ("environment", "asked", "instead", "said"),
    [
        ("report", "great_tables", "great-tables", "found for great-tables >=0.22"),  # PyPI's name
        ("data", "pillow", "pdqhash", "found for pdqhash >=12"),  # not on conda-forge
        ("data", "pandas >=3.0.3,<4", "pandas >=4,<5", "found for pandas >=4,<5"),
        ("data", "pandas", "joblib", "found for joblib >=3.0.3"),  # not asked for, not listed
        ("data", "pdqhash", "pdqhush", "No matching distribution found for pdqhush"),
        ("data", "pdqhash >=0.2.8,<0.3", "pdqhash >=0.3,<1", "found for pdqhash<1,>=0.3"),
    ],
)
def test_what_cannot_be_had_is_named(
    tmp_path: Path, environment: str, asked: str, instead: str, said: str
) -> None:
    text = (PROJECT / "envs" / f"{environment}.yaml").read_text()
    assert asked in text
    file = tmp_path / "environment.yaml"
    file.write_text(text.replace(asked, instead))
    command = [sys.executable, str(STANDIN / "conda"), "env", "create", "--quiet"]
    command += ["--no-default-packages", "--file", str(file), "--prefix", str(tmp_path / "made")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode != 0
    assert said in re.sub(r"\s+", " ", done.stderr)


def test_the_dockerfile_is_up_to_date() -> None:
    command = [sys.executable, "-m", "snakemake", "--containerize"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (PROJECT / "Dockerfile").read_text() == done.stdout, "run `make container`"


def environments(directory: Path) -> list[Path]:
    """Snakemake's copies of the environment files; beside each lies the environment."""
    return sorted((directory / ".snakemake" / "conda").glob("*.yaml"))


def small(directory: Path) -> Path:
    """Write a workflow of one shell job with an environment of pandas; returns its file."""
    (directory / "Snakefile").write_text(SMALL)
    file = directory / "environment.yaml"
    needs = ["python >=3.11,<3.13", "pandas >=3.0.3"]
    file.write_text(yaml.safe_dump({"channels": ["conda-forge"], "dependencies": needs}))
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
