"""Outputs appear whole or not at all, and a job does not outlive the run that started it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from swift_debias.errors import UserError
from swift_debias.files import atomic_path, write_arrays, write_json, write_parquet, write_text
from swift_debias.learning import tensor_files
from swift_debias.run import job as job_module
from swift_debias.run.job import _end_with_parent, key, logged

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "x.csv"
    with atomic_path(final) as partial:
        partial.write_text("1")
        assert not final.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    final = tmp_path / "x.csv"
    final.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_path(final) as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert final.read_text() == "old"


WRITERS: dict[str, Any] = {
    "x.json": lambda path: write_json(path, {"a": "b" * 5000}),
    "x.parquet": lambda path: write_parquet(pd.DataFrame({"a": np.arange(5000)}), path),
    "x.npz": lambda path: write_arrays(path, {"a": np.random.default_rng(0).random(5000)}),
    "x.safetensors": lambda path: tensor_files.write(path, {"a": torch.rand(5000)}),
    "x.html": lambda path: write_text(path, "a" * 5000),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("said", [0, 5000], ids=["its file", "its log too"])
def test_a_full_disk_is_told_in_one_line(
    name: str, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Whoever writes the file, in whichever language; the log may not take a word any more."""
    monkeypatch.setattr(job_module, "_end_with_parent", lambda: None)
    job = SimpleNamespace(log=[str(tmp_path / "job.log")], rule="mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SystemExit) as end, logged(job):
            if said:
                print("x" * said)
            WRITERS[name](tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.value.code == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("error in mine: ")
    assert "File too large; make room" in told
    assert "\n" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"job.log"}
    if not said:
        assert "make room" in (tmp_path / "job.log").read_text()
        assert "Traceback" not in (tmp_path / "job.log").read_text()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("no such file"), "error: no such file"),
        (UserError("the cells are\n  3\n\n  in all"), "error: the cells are 3 in all"),
        (UserError("mine: mine\n  a page\n", in_short="x: cannot"), "error: x: cannot"),
        (UserError("a " * 999), f"error: {'a ' * 999}"[:597] + "..."),
        (UserError("one\nerror: two\nthree"), "error: two three"),
        (ValueError("is not\n3"), "3"),
    ],
)
@pytest.mark.parametrize("before", ["", "error: of a library, and it went on\n"])
def test_what_a_log_ends_with_is_the_reason(
    error: Exception, told: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "_end_with_parent", lambda: None)
    log = tmp_path / "job.log"
    job = SimpleNamespace(log=[str(log)], rule="mine")
    whole = str(error)
    with pytest.raises(SystemExit if isinstance(error, UserError) else ValueError), logged(job):
        if isinstance(error, UserError):
            print(before, end="")
        print("reading")
        raise error
    assert job_module.last_error(log) == told
    assert whole in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("session_of_parent", [7, 8], ids=["its run", "a stranger"])
def test_a_job_asks_to_end_with_its_parent_and_ends_if_that_is_a_stranger(
    session_of_parent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    libc = SimpleNamespace(prctl=lambda option, value: asked.append((option, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(os, "getsid", lambda process: 7 if process == 0 else session_of_parent)
    if session_of_parent == 7:
        _end_with_parent()
    else:
        with pytest.raises(SystemExit, match="is no more"):
            _end_with_parent()
    assert asked == [(1, signal.SIGKILL)]  # PR_SET_PDEATHSIG


def test_a_key_stands_for_settings_and_content(tmp_path: Path) -> None:
    small, large = tmp_path / "a.parquet", tmp_path / "b.npy"
    small.write_bytes(b"1234")
    large.write_bytes(b"12345678")

    def found(**params: Any) -> str:
        job = SimpleNamespace(params={"seed": 0, "epochs": 2} | params, input=[small, large])
        return key(job, small=4)

    first = found()
    assert found(epochs=2, seed=0) == first
    assert found(seed=1) != first
    os.utime(small, (1, 1))
    assert found() == first  # a copy of a small file is the same file
    small.write_bytes(b"1235")
    assert found() != first
    small.write_bytes(b"1234")
    assert found() == first
    os.utime(large, (1, 1))
    assert found() != first


JOB = """
import sys, time
sys.path.insert(0, {scripts!r})
from swift_debias.run.job import _end_with_parent
time.sleep({imports})
_end_with_parent()
print("working", flush=True)
time.sleep(60)
"""
RUN = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); p.wait()"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("imports", [0.0, 1.0], ids=["while it works", "while it imports"])
def test_a_job_ends_with_its_run(imports: float) -> None:
    job = JOB.format(scripts=str(SCRIPTS), imports=imports)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, job],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    if imports:
        time.sleep(0.5)
    else:
        assert run.stdout.readline() == "working\n"
    run.kill()
    started = time.monotonic()
    rest = run.stdout.read()  # ends when the last process that could write has ended
    assert time.monotonic() - started < 30
    assert rest == ""
    run.wait()


ENDS = """
import atexit, sys
from types import SimpleNamespace
from swift_debias.run import job
job._end_with_parent = lambda: None  # the test is no run of its own
atexit.register(lambda: print("asked for"))
class Held:
    def __del__(self, say=print):
        say("tidied up")
held = Held()
print("before")
snakemake = SimpleNamespace(log=["log"], rule="x")
with job.logged(snakemake):
    print("inside")
    {last}
"""


# what Snakemake writes at the top of the copy that it starts
PREAMBLE = "__real_file__ = __file__; __file__ = '/scripts/job.py'"


@pytest.mark.parametrize("preamble", ["", PREAMBLE], ids=["by hand", "by Snakemake"])
@pytest.mark.parametrize(("last", "code"), [("pass", 0), ("raise KeyError('a')", 1)])
def test_a_job_ends_as_soon_as_its_files_are_written(
    preamble: str, last: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(preamble + ENDS.format(last=last))
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    words = [sys.executable, "job.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout.startswith("before\n") and "asked for" in done.stdout
    assert ("tidied up" in done.stdout) == (code != 0)
    assert (tmp_path / "log").read_text().startswith("inside\n")


def test_a_script_inside_of_another_program_leaves_it_alive(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "_end_with_parent", lambda: None)
        with logged(SimpleNamespace(log=[tmp_path / "log"], rule="x")):
            print("inside")
    assert (tmp_path / "log").read_text() == "inside\n"
