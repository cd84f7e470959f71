"""A module beside the configuration makes a network: it is found, checked and tracked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import tiny, warm

PROJECT = Path(__file__).resolve().parents[2]
NETS = """
from torch import nn

def tiny(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2),
    )
"""
TARGET = "results/tiny/model_check/lesion/small.txt"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """run(function, target, ...) -> what the run said; PYTHONPATH knows nothing of the module."""
    tiny.write_data(tmp_path / "data", 24, 12)
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "nets_beside.py").write_text(NETS)

    def run(function: str, *words: str) -> subprocess.CompletedProcess[str]:
        settings = tiny.config(tmp_path / "data", {"table1": tiny.table("baseline", "swift")})
        settings["backbones"]["small"] = {"architecture": f"nets_beside:{function}"}
        file = tiny.write_config(folder / "mine.yaml", settings)
        options = ["--snakefile", str(PROJECT / "Snakefile"), "--configfile", str(file)]
        options += ["--cores", "1", "--scheduler", "greedy"]
        options += ["--rerun-triggers", "mtime", "params", "input"]
        return warm.run("snakemake", *options, *words, cwd=tmp_path)

    assert str(folder) not in os.environ.get("PYTHONPATH", "") and str(folder) not in sys.path
    yield run


@pytest.mark.slow
@pytest.mark.ci
def test_a_module_beside_the_configuration(run: Run, tmp_path: Path) -> None:
    done = run("tiny", "--", TARGET)
    assert done.returncode == 0, done.stderr[-3000:]
    said = (tmp_path / TARGET).read_text()
    assert "nets_beside:tiny, a picture of 16 x 16 pixels and 3 channels" in said
    assert "last layer: 5, 8 features" in said
    assert "Nothing to be done" in (again := run("tiny", "--", TARGET)).stdout + again.stderr
    # an edit of the module is an edit of the network
    module = tmp_path / "settings" / "nets_beside.py"
    module.write_text(NETS.replace("ReLU", "GELU"))
    assert "check_models" in (planned := run("tiny", "-n", "--", TARGET)).stdout + planned.stderr
    done = run("tyny", "-n", "--", TARGET)
    assert done.returncode == 1
    assert "did you mean 'tiny'" in done.stdout + done.stderr
