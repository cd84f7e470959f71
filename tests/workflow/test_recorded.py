"""Files of which Snakemake has no record: it takes them for up to date, so it is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from swift_debias.run import recorded

PROJECT = Path(__file__).resolve().parents[2]
LONG = "/".join(["results/long", *("a" * 100 for _ in range(5)), "made.txt"])
FILES = ("results/x/manifests/atlas.parquet", "results/x/ü b.txt", LONG)
NAMES = (*FILES, "results/x/folder")
SNAKEFILE = f"""
import os

NAMES = {NAMES!r}

rule all:
    input: NAMES

rule files:
    output: {FILES!r}, directory("results/x/folder")
    run:
        os.mkdir(output[-1])
        for name in output[:-1]:
            open(name, "w").close()
"""


def test_what_snakemake_itself_has_made_has_a_record(
    tmp_path: Path,
    snakemake: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names of any length, folders too; every one lost is named, and none that was cut short."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    snakemake(tmp_path, "--cores", "1", project=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert recorded.unrecorded([*NAMES, "results/x/not_there"]) == []
    assert recorded.told("results/x", NAMES) == ""
    shutil.move(".snakemake", "elsewhere")
    assert recorded.unrecorded([*NAMES, "results/x/not_there"]) == list(NAMES)
    assert NAMES[0] in recorded.told("results/x", NAMES)
    assert recorded.unrecorded(NAMES, Path("elsewhere")) == []
    snakemake(tmp_path, "--cores", "1", "--touch", "--forceall", project=tmp_path)  # the way out
    assert recorded.unrecorded(NAMES) == []
    shutil.rmtree(".snakemake/incomplete", ignore_errors=True)
    shutil.move(".snakemake/metadata", ".snakemake/incomplete")  # Snakemake makes them anew
    assert recorded.unrecorded(NAMES) == []
    shutil.rmtree(".snakemake/incomplete")
    Path(".snakemake", recorded.DATABASE).touch()  # whose records are not looked at
    assert recorded.unrecorded(NAMES) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_plan_says_so(
    there: bool, tmp_path: Path, snakemake: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    made = tmp_path / "results" / "demo" / "manifests" / "isic2017.parquet"
    if there:
        made.parent.mkdir(parents=True)
        made.touch()
    config = str(PROJECT / "config" / "demo.yaml")
    done = snakemake(tmp_path, "-n", "--configfile", config, "--config", "only=[table1]")
    assert ("Snakemake has no record" in done.stderr) == there
    assert (str(made.relative_to(tmp_path)) in done.stderr) == there
    assert ("--touch --forceall" in done.stderr) == there
