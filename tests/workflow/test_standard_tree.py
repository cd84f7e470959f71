"""The workflow in its standard place: entered from anywhere, and used as a module of another."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import cut, tiny, warm
from tests.workflow import dag
from tests.workflow.test_code import pythons

PROJECT = Path(__file__).resolve().parents[2]
TRIGGERS = ("--rerun-triggers", "mtime", "params", "input")
MODULE = """
configfile: "{config}"

module swift:
    snakefile: "{snakefile}"
    config: config
    prefix: "{prefix}"

use rule * from swift as swift_*
"""


def run(folder: Path, *arguments: str, jobs: Path | None = None) -> str:
    """What Snakemake says, started in a folder."""
    words = ("--cores", "1", "--scheduler", "greedy", *TRIGGERS, *arguments)
    done = warm.run("snakemake", *words, cwd=folder, timeout=900, jobs=jobs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def counted(said: str) -> dict[str, int]:
    """Rule -> jobs of a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)}


@pytest.mark.slow
def test_from_elsewhere_values_alone_change_the_demo(tmp_path: Path) -> None:
    """In a folder without a configuration: the demo's lies beside the workflow."""
    with dag.jobs_of(tmp_path, None, {"seed": 3}) as (jobs, names):
        assert names["settings"].run == "demo"
        seeds = {job.params.get("seed") for job in jobs["train_baseline"] + jobs["debias"]}
        assert seeds == {3}
        assert len(jobs["all"]) == 1


@pytest.mark.slow
def test_a_prefix_moves_what_a_module_writes(tmp_path: Path) -> None:
    """And leaves what the workflow brings along where it is."""
    text = MODULE.format(
        config=PROJECT / "config" / "demo.yaml",
        snakefile=PROJECT / "workflow" / "Snakefile",
        prefix="below/here",
    )
    (tmp_path / "Snakefile").write_text(text)
    size = "below/here/results/demo/folds/cxr.sizes.csv"
    said = run(tmp_path, "-n", "--", size)
    jobs = counted(said)
    assert jobs["swift_make_external"] > 0
    assert all(rule == "total" or rule.startswith("swift_") for rule in jobs)
    for path in ", ".join(re.findall(r"^ *output: (.+)$", said, re.MULTILINE)).split(", "):
        assert path.startswith("below/here/results/demo/"), path
    read = ", ".join(re.findall(r"^ *input: (.+)$", said, re.MULTILINE)).split(", ")
    assert {path for path in read if not path.startswith("below/here/results/demo/")} == {
        ".snakemake/from-workflow/resources/expected_counts.yaml"
    }


class Module:
    """A tiny run through a module, in a folder of its own."""

    def __init__(self, folder: Path, snakefile: str, prefix: str) -> None:
        self.folder, self.results = folder, folder / prefix / tiny.RUN
        folder.mkdir()
        tiny.write_data(folder / "data")
        experiments = {"table1": tiny.table("baseline", "llft")}
        tiny.write_config(folder / "tiny.json", tiny.config(Path("data"), experiments))
        text = MODULE.format(config="tiny.json", snakefile=snakefile, prefix=prefix)
        (folder / "Snakefile").write_text(text)


def tagged(folder: Path) -> str:
    """The workflow as a tagged commit of a repository, and nothing of it beside."""
    cut.copy_project(folder)
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "x"), ("tag", "v1")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"git+file://{folder}/workflow/Snakefile@v1"


def stays_finished(folder: Module, tag: Module, elsewhere: Path) -> None:
    """Whatever a result does not depend on reruns nothing."""
    done = "Nothing to be done"
    # another folder, and the workflow in another place
    shutil.copytree(tag.folder, elsewhere)
    text = (folder.folder / "Snakefile").read_text().replace('"below"', '"other/place"')
    (elsewhere / "Snakefile").write_text(text)
    assert done in run(elsewhere, "-n")
    # without times of change: folders are compared by time, so they are set anew
    timeless = elsewhere.parent / "timeless"
    shutil.copytree(elsewhere, timeless, copy_function=shutil.copyfile)
    run(timeless, "--touch", "-q", "all")
    assert done in run(timeless, "-n")
    # a plain `snakemake` in a fresh clone, whose scripts are younger than the results
    clone = elsewhere.parent / "clone"
    shutil.copytree(PROJECT / "workflow", clone / "workflow", copy_function=shutil.copyfile)
    for name in ("profiles/default", "envs", "resources", "config"):
        shutil.copytree(PROJECT / name, clone / name)
    shutil.copy(PROJECT / "requirements.txt", clone)
    (elsewhere / "Snakefile").write_text(text.replace(str(PROJECT), str(clone)))
    plain = ("snakemake", "-n", "--cores", "1")
    assert done not in warm.run(*plain, cwd=elsewhere).stdout
    shutil.copytree(clone / "profiles", elsewhere / "profiles")
    assert done in warm.run(*plain, cwd=elsewhere).stdout
    # another Python
    for version, python in pythons("snakemake", "pydantic", "pandas", "pyarrow", "PIL").items():
        words = [python, "-m", "snakemake", "-n", "--cores", "1", *TRIGGERS]
        said = subprocess.run(words, cwd=elsewhere, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr[-3000:]
        assert done in said.stdout + said.stderr, version
    # and what it does depend on, does
    changed = (elsewhere / "tiny.json").read_text().replace('"lr_head": 0.1', '"lr_head": 0.2')
    (elsewhere / "tiny.json").write_text(changed)
    assert "swift_debias" in counted(run(elsewhere, "-n"))


@pytest.mark.ci
def test_a_module_of_a_folder_and_of_a_tag_runs_to_the_same_results(
    tmp_path: Path, warm_jobs: Path
) -> None:
    folder = Module(tmp_path / "a", str(PROJECT / "workflow" / "Snakefile"), "below")
    tag = Module(tmp_path / "b", tagged(tmp_path / "repository"), "other/place")
    for module in (folder, tag):
        run(module.folder, "-q", "all", jobs=warm_jobs)
        assert "Nothing to be done" in run(module.folder, "-n")
        names = {path.name for path in module.folder.iterdir()}
        top = module.results.relative_to(module.folder).parts[0]
        assert names == {"data", "tiny.json", "Snakefile", ".snakemake", top}
        assert (module.results / "report.html").is_file()
    stays_finished(folder, tag, tmp_path / "c")
    models = [*folder.results.glob("debiased/**/model.safetensors")]
    assert len(models) == 4
    for path in (*models, *folder.results.glob("tables/table1.*")):
        same = tag.results / path.relative_to(folder.results)
        assert path.read_bytes() == same.read_bytes(), path


# --- what the workflow catalog asks for -----------------------------------------------------------


def test_the_catalog_finds_what_it_shows() -> None:
    """As of its page "adding workflows": a standardized workflow has all of this."""
    usage: dict[str, Any] = yaml.safe_load(
        (PROJECT / ".snakemake-workflow-catalog.yml").read_text()
    )["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"]["conda"] is True
    words = usage["mandatory-flags"]["flags"].split()
    assert words[0] == "--configfile" and (PROJECT / words[1]).is_file()
    for name in ("workflow/Snakefile", "config/config.yaml", "config/README.md", "LICENSE"):
        assert (PROJECT / name).is_file()
    for rules in (PROJECT / "workflow" / "rules").glob("*.smk"):
        environments = re.findall(r'"\.\./\.\./(envs/\w+\.yaml)"', rules.read_text())
        assert all((PROJECT / name).is_file() for name in environments)


@pytest.mark.ci
def test_as_snakedeploy_lays_it(tmp_path: Path) -> None:
    """`snakedeploy deploy-workflow` copies config/ and writes a module without names of its own."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    (tmp_path / "workflow").mkdir()
    text = MODULE.format(
        config="config/config.yaml", snakefile=PROJECT / "workflow" / "Snakefile", prefix=""
    )
    text = text.replace('    prefix: ""\n', "").replace(" as swift_*", "")
    (tmp_path / "workflow" / "Snakefile").write_text(text)
    datasets = yaml.safe_load((tmp_path / "config" / "config.yaml").read_text())["datasets"]
    for name in datasets:
        (tmp_path / "data" / name).mkdir(parents=True)
    assert counted(run(tmp_path, "-n", "-q", "rules"))["all"] == 1
