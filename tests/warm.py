"""Python programs in processes that are forked from one with Snakemake loaded.

A dry run is a second of work after three of imports. Apart from those, the process is as clean as a
new one: nothing of this project is loaded, and folder, arguments and output are its own.

A whole run's jobs are short too, and each imports torch, pandas or matplotlib. `Jobs` is a process
with those loaded; the jobs of a run that is given it are forked from there. Rules, scripts, files
and what Snakemake does with them are the same.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["snakemake.cli", "pydantic", "yaml"])
_OF_JOBS = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "PIL.Image", "safetensors.torch")
_OF_JOBS += ("sklearn.metrics", "matplotlib.pyplot", "torch")


class Fault(NamedTuple):
    """What happens to the jobs of a script.

    kind: "killed": when its first file is written and has not got its name yet; "full": there is
    no space for a file of more than `size` bytes.
    """

    script: str
    kind: str
    size: int = 0


def run(
    program: str | Path,
    *arguments: str,
    cwd: Path,
    timeout: float = 120,
    path: Path | None = None,
    jobs: Path | None = None,
    fault: Fault | None = None,
) -> subprocess.CompletedProcess[str]:
    """What `python program arguments` does, started in `cwd`; `program` is a file or a module.

    Args:
        program: a file or a module.
        arguments: its own.
        cwd: where it starts.
        timeout: seconds; then it is killed.
        path: a folder where modules are looked for first, as PYTHONPATH would say.
        jobs: what `serve_jobs` gave, where Snakemake is to run jobs.
        fault: what happens to one of these.
    """
    words = [str(program), *arguments]
    with tempfile.TemporaryDirectory() as name:
        said = [Path(name) / "stdout", Path(name) / "stderr"]
        process = _CONTEXT.Process(target=_main, args=(words, cwd, said, path, jobs, fault))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        texts = [path.read_text() for path in said]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _main(
    words: list[str],
    cwd: Path,
    said: list[Path],
    path: Path | None,
    jobs: Path | None,
    fault: Fault | None,
) -> None:
    """In the forked process."""
    os.chdir(cwd)
    for descriptor, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = list(words)
    if path is not None:
        sys.path.insert(0, str(path))
    sys.dont_write_bytecode = True  # the tests change files faster than their times tell
    if jobs is not None:
        _send_jobs_to(jobs, fault)
    if Path(words[0]).suffix == ".py":
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


# --- jobs -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve_jobs() -> Iterator[Path]:
    """A process that forks jobs, while the block lasts; its socket."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "jobs"
        process = _CONTEXT.Process(target=_serve, args=(place,), daemon=True)
        process.start()
        until = time.monotonic() + 120
        while not place.exists():
            assert process.is_alive(), "what should fork jobs has ended"
            assert time.monotonic() < until, "what should fork jobs does not listen"
            time.sleep(0.05)
        try:
            yield place
        finally:
            process.kill()
            process.join()


def _serve(place: Path) -> None:
    """Fork a process for every job that is asked for; never a second thread in this one."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    sys.dont_write_bytecode = True
    for name in _OF_JOBS:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.with_name("jobs.new")))
        server.listen()
        place.with_name("jobs.new").rename(place)
        while True:
            connection = server.accept()[0]
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(connection)
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run one job; say which process it is, and how it ended."""
    said, descriptors, *_ = socket.recv_fds(connection, 1 << 16, 2)
    asked = json.loads(said)
    if (job := os.fork()) == 0:
        os._exit(_job(asked, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{job}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{code}\n".encode())


def _job(asked: dict[str, Any], descriptors: list[int]) -> int:
    """A job's own process: what `python script` would do; its exit code."""
    os.chdir(asked["cwd"])
    for place, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, place)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)
    sys.argv = [asked["script"]]
    if asked["fault"]:
        _break(*asked["fault"])
    sys.path.insert(0, str(Path(asked["script"]).resolve().parent))
    code = 0
    try:
        runpy.run_path(asked["script"], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _break(script: str, kind: str, size: int) -> None:
    """In a job's process, before it begins: see `Fault`."""
    assert kind in ("killed", "full"), f"{script}: no fault {kind}"
    if kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    else:
        os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)


def _send_jobs_to(place: Path, fault: Fault | None) -> None:
    """In Snakemake's process: its scripts are run by the process that listens there."""
    from snakemake.benchmark import benchmarked
    from snakemake.script import PythonScript

    def execute_script(self: PythonScript, fname: str, edit: bool = False) -> None:
        hit = fault if fault and fname.endswith(f".{fault.script}") else None
        asked = json.dumps({"script": fname, "cwd": str(Path.cwd()), "fault": hit}).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place))
            socket.send_fds(connection, [asked], [1, 2])
            answers = connection.makefile()
            job = int(answers.readline())
            with benchmarked(job, self.bench_record):
                code = int(answers.readline())
        if code != 0:
            raise subprocess.CalledProcessError(code, fname)

    PythonScript.execute_script = execute_script
    os.environ["SWIFT_FORK"] = "0"  # the project's own server would start for every run
