"""Nothing corrupt is taken for finished. A few kills here; `python tests/chaos.py` does many."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import chaos

TARGETS = ["results/cut/tables/table1.csv"]
Reference = tuple[Path, dict[str, bytes], float]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The project's copy and what an unbroken run gives."""
    with chaos.unbroken(tmp_path_factory.mktemp("chaos"), TARGETS) as found:
        yield found


def started(project: Path, folder: Path) -> subprocess.Popen[str]:
    """A run that has taken its lock."""
    run = chaos.start(project, folder, "--", *TARGETS)
    while not (folder / ".snakemake/locks/0.output.lock").exists():
        assert run.poll() is None, chaos.said(folder).read_text()
        time.sleep(0.05)
    return run


@pytest.mark.slow
def test_a_killed_run_carries_on_and_two_runs_do_not_mix(reference: Reference) -> None:
    project, whole, seconds = reference
    folder, rng, finished = project.parent / "broken", random.Random(0), 0
    for kind in ("node", "job"):
        hit, _ = chaos.one_kill(project, folder, kind, seconds / 3, rng, TARGETS)
        assert hit, "the run was over before it was killed"
        finished = max(finished, chaos.check_finished(folder, whole))
    assert finished, "no kill came after the first result"

    chaos.unlock(project, folder)
    run = started(project, folder)
    assert chaos.kill(run, folder, "main", rng)
    run = chaos.start(project, folder, "--", *TARGETS)
    assert run.wait(timeout=120) != 0
    assert "It can be removed with the --unlock argument" in chaos.said(folder).read_text()
    chaos.unlock(project, folder)

    run = started(project, folder)
    second = chaos.command(project, folder, "--", *TARGETS)
    done = subprocess.run(second, capture_output=True, text=True, timeout=120)
    assert run.poll() is None, "the first run was over too soon"
    assert done.returncode != 0
    assert "cannot be locked" in done.stdout + done.stderr
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


@pytest.mark.slow
def test_a_full_and_a_read_only_disk_stop_a_run_that_carries_on_later(
    reference: Reference, disk: Callable[[str], Path]
) -> None:
    project, whole, _ = reference
    needed = sum(map(len, whole.values()))
    folder = disk(f"size={needed * 6 // 10}")

    def fails(words: str) -> None:
        run = chaos.start(project, folder, "--", *TARGETS)
        assert run.wait(timeout=300) != 0
        assert words in chaos.said(folder).read_text()
        assert chaos.check_finished(folder, whole) > 0

    fails("No space left on device")
    before = chaos.digests(folder)
    disk(f"size={needed * 20},ro")
    fails("Read-only file system")
    assert chaos.digests(folder) == before
    disk(f"size={needed * 20},rw")
    chaos.unlock(project, folder)
    chaos.finish(chaos.start(project, folder, "--", *TARGETS), folder)
    chaos.check_whole(folder, whole)
