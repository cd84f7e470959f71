"""Running snakemake as a user does, in a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
Snakemake = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def snakemake() -> Snakemake:
    """Run snakemake on the project's Snakefile with `directory` as its working directory."""

    def run(directory: Path, *arguments: str, check: bool = True, timeout: int = 900):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")]
        command += ["--directory", str(directory), "--scheduler", "greedy"]
        command += ["--rerun-triggers", "mtime", "params", "input", "--", *()]
        command = [*command[:-1], *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment
        )
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    return run
