"""Running snakemake as a user does, and the one run that the tests of whole runs share."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import cut, warm

PROJECT = Path(__file__).resolve().parents[1]
Snakemake = Callable[..., subprocess.CompletedProcess[str]]


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test's name has no file's content: gzip writes the time, and every worker collects anew."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def warm_jobs() -> Iterator[Path]:
    """Where jobs are forked from a process that has imported what they import (warm.py)."""
    with warm.serve_jobs() as place:
        yield place


@pytest.fixture(scope="session")
def snakemake(request: pytest.FixtureRequest) -> Snakemake:
    """Run snakemake on the project's Snakefile with `directory` as its working directory.

    `arguments` start with an option: `--rerun-triggers` takes every word up to the next one. What
    is run, and its jobs, are forked from processes that have imported what they need (warm.py),
    except under `--sdm`, where a job has its environment's Python. The runs of chaos.py, which are
    started as a user does, have to end in the same bytes.
    """

    def run(
        directory: Path, *arguments: str, check: bool = True, project: Path = PROJECT
    ) -> subprocess.CompletedProcess[str]:
        words = ["--snakefile", str(project / "Snakefile"), "--directory", str(directory)]
        words += ["--scheduler", "greedy", "--rerun-triggers", "mtime", "params", "input"]
        words += arguments
        if "-n" in arguments:
            done = warm.run("snakemake", *words, cwd=Path.cwd())
        elif "--sdm" not in arguments:
            jobs = request.getfixturevalue("warm_jobs")
            done = warm.run("snakemake", *words, cwd=Path.cwd(), timeout=900, jobs=jobs)
        else:
            command = [sys.executable, "-m", "snakemake", *words]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=900, env=environment
            )
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope="session")
def cut_run(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """A copy of the project in which the shared cut (cut.py) was run; nobody changes it.

    It is made once for all workers of pytest-xdist: the first one that needs it takes the lock, and
    the others wait, since the run takes both cores anyway. The environment variable CUT_RUN names a
    finished one that is to be taken as it is.
    """
    if given := os.environ.get("CUT_RUN"):
        return Path(given)
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, finished = base / "cut_run", base / "cut_run.finished"
    with (base / "cut_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            cut.copy_project(folder)
            config = str(folder / "cut.yaml")
            snakemake(folder, "--cores", "2", "--configfile", config, project=folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def copy_run(cut_run: Path) -> Callable[[Path], Path]:
    """A function that copies the shared run to a folder where it can be changed.

    Times of change are kept, so that Snakemake takes everything for up to date there too.
    """

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(cut_run, folder, symlinks=True, dirs_exist_ok=True))

    return copy
