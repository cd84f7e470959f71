"""Running snakemake as a user does, in a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def snakemake() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run snakemake on the project's Snakefile with `directory` as its working directory.

    `arguments` start with an option: `--rerun-triggers` takes every word up to the next one.
    """

    def run(
        directory: Path, *arguments: str, check: bool = True, project: Path = PROJECT
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "Snakefile")]
        command += ["--directory", str(directory), "--scheduler", "greedy"]
        command += ["--rerun-triggers", "mtime", "params", "input", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    return run
