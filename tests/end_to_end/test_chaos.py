"""Nothing corrupt is taken for finished. A few kills here; `python tests/chaos.py` does many."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import chaos, cut, warm

# Made again from the folds on: Baselines, importance, SWiFT, scores and metrics of one cell.
CELL = "skin/small_resnet/skin_tone"
TARGET = f"{cut.RESULTS}/metrics/{CELL}.parquet"
MADE_AGAIN = ("baseline/skin", f"groups/{CELL}.json")
MADE_AGAIN += (*(f"{kind}/{CELL}" for kind in ("importance", "first_steps", "debiased")),)
MADE_AGAIN += (f"predictions/{CELL}", f"metrics/{CELL}.parquet")
TRAININGS = f"{cut.RESULTS}/checkpoints/baseline/skin/small_resnet"
LOGS = f"{cut.RESULTS}/logs/train_baseline/skin/small_resnet"


def remove(folder: Path, *names: str) -> None:
    """Take results away."""
    for name in names:
        path = folder / cut.RESULTS / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def refused(folder: Path) -> str:
    """What a start says that must not run."""
    words = chaos.command(folder, "--", TARGET)[3:]
    done = warm.run("snakemake", *words, cwd=folder.parent)
    assert done.returncode != 0
    return done.stdout + done.stderr


def unlock(folder: Path) -> None:
    done = warm.run("snakemake", *chaos.command(folder, "--unlock")[3:], cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def jobs(folder: Path, rule: str) -> bool:
    """Whether a job of this rule is running."""
    return any(f".{rule}.py" in line for line in chaos.processes(folder).values())


def hit_debias(folder: Path, kind: str, rng: random.Random) -> None:
    """Kill while a job of rule debias runs; again where a busy machine saw it too late."""
    for _ in range(5):
        hit, _ = chaos.one_kill(folder, kind, lambda: jobs(folder, "debias"), rng, [TARGET])
        if hit == "debias":
            return
        unlock(folder)
        shutil.rmtree(folder / cut.RESULTS / "debiased" / CELL, ignore_errors=True)
    raise AssertionError("no job of rule debias was hit")


@pytest.mark.ci
def test_a_killed_run_carries_on_and_two_runs_do_not_mix(
    cut_run: Path, copy_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder, rng = copy_run(tmp_path / "broken"), random.Random(0)
    whole = chaos.digests(cut_run)
    remove(folder, *MADE_AGAIN)

    def halfway() -> bool:
        return any((folder / TRAININGS).rglob("*.safetensors"))

    # the node goes down in the middle of a training
    hit, _ = chaos.one_kill(folder, "node", halfway, rng, [TARGET])
    assert hit == "train_baseline"
    assert halfway(), "the training was over before it was killed"
    assert chaos.check_finished(folder, whole) > 0
    assert "It can be removed with the --unlock argument" in refused(folder)
    unlock(folder)

    # a job is killed, and the run says so; the training had carried on
    hit_debias(folder, "job", rng)
    assert chaos.check_finished(folder, whole) > 0
    logs = [path.read_text() for path in (folder / LOGS).iterdir()]
    assert any("resumed after epoch" in log for log in logs)

    # the main process is killed, and its job ends with it
    hit_debias(folder, "main", rng)
    until = time.monotonic() + 60  # a job looks for its run when its imports are done
    while jobs(folder, "debias"):
        assert time.monotonic() < until, "a job outlived its run"
    unlock(folder)

    # while a run is at work another one is refused
    run = chaos.start(folder, "--", TARGET)
    while not (folder / ".snakemake/locks/0.output.lock").exists():
        assert run.poll() is None, chaos.said(folder).read_text()
        time.sleep(0.05)
    assert "cannot be locked" in refused(folder)
    assert run.poll() is None, "the first run was over too soon"
    chaos.finish(run, folder)
    chaos.check_whole(folder, whole)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts, or mounts anew, a small disk with the given options."""
    place, mounted = tmp_path / "disk", False
    place.mkdir()

    def mount(options: str) -> Path:
        nonlocal mounted
        options = f"remount,{options}" if mounted else options
        call = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0 and not mounted:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted = True
        return place

    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.ci
def test_a_full_and_a_read_only_disk_stop_a_run_that_carries_on_later(
    cut_run: Path, copy_run: Callable[[Path], Path], disk: Callable[[str], Path]
) -> None:
    """The disk is full in the middle of a training: of its checkpoints, then of its model."""
    whole, target = chaos.digests(cut_run), f"{cut.RESULTS}/baseline/cxr/small_resnet"
    folder = copy_run(disk("size=1g"))
    remove(folder, "baseline/cxr")
    used = shutil.disk_usage(folder).used
    targets = [f"{target}/fold0/model.safetensors"]

    def fails(words: str) -> None:
        run = chaos.start(folder, "--", *targets)
        assert run.wait(timeout=300) != 0
        assert words in chaos.said(folder).read_text()
        assert chaos.check_finished(folder, whole) > 0

    disk(f"size={used + 2**19}")  # a checkpoint has 600 kB
    fails("No space left on device")
    before = chaos.digests(folder)
    disk("size=1g,ro")
    fails("Read-only file system")
    assert chaos.digests(folder) == before
    disk("size=1g,rw")
    chaos.unlock(folder)
    targets += [f"{target}/fold1/model.safetensors"]
    chaos.finish(chaos.start(folder, "--", *targets), folder)
    chaos.check_whole(folder, whole)


@pytest.mark.long
def test_many_kills_at_random_moments() -> None:
    words = [sys.executable, chaos.__file__, "--kills", "12"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 kills" in done.stdout
