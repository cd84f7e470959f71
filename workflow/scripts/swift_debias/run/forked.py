"""Jobs that share their imports: each is forked from one process that has made them.

A job of the demo works for tenths of a second and imports torch, pandas or matplotlib for three.
So where Snakemake itself runs a script on this machine, with the Python that runs Snakemake, the
script's process is forked from a server that has imported the libraries, and what most jobs need of
this project as it was when the first job started. It is a process of its own with the arguments,
folder, environment and memory of a new one: what a job changes or leaks ends with it, and it is
measured, killed and repeated as any other.

    forked.use(workflow)    in the Snakefile

Nothing of this is an input of a job, and without it only the time is another. Jobs are started as
Snakemake starts them:

- under `--sdm`, in containers and on a cluster, where a job has a Python or a machine of its own;
- where a job has several threads: libraries count them when they are imported;
- on systems other than Linux, whose libraries do not all survive a fork;
- with SWIFT_FORK=0 in the environment, or when the server cannot start.

The server ends with Snakemake, and its jobs with it. The one thing of Snakemake that is replaced is
`PythonScript.execute_script`, which starts a script's process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SWITCH = "SWIFT_FORK"  # 0: every job imports for itself
LIBRARIES = (
    "numpy", "pandas", "pyarrow.parquet", "scipy.stats", "PIL.Image", "sklearn.metrics", "torch",
    "torch._inductor", "safetensors.torch", "matplotlib.pyplot", "pydantic", "yaml",
    "snakemake.logging", "snakemake.iocontainers",
)  # fmt: skip
OWN = (  # what the jobs of training, debiasing and prediction import
    "config.schema", "data.image_cache", "data.labelled", "evaluation.thresholds",
    "importance.shared", "importance.store", "learning.checkpoints", "learning.cost",
    "learning.loop", "methods.base", "run.job",
)  # fmt: skip
# as Snakemake sets them for each job, to its number of threads (snakemake/shell.py)
THREADS = (
    "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # prctl(2)
TEMPORARY = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")
SURVIVE = {"jemalloc_bg_thd"}  # threads that libraries start again after a fork


# --- in Snakemake's process -----------------------------------------------------------------------


def use(workflow: Any) -> bool:
    """Let the scripts of a run on this machine be forked from a server; whether they will be."""
    from snakemake_interface_executor_plugins.settings import ExecMode

    here = sys.platform == "linux" and os.environ.get(SWITCH) != "0"
    if not here or workflow.exec_mode != ExecMode.DEFAULT:
        return False
    from snakemake.script import PythonScript

    PythonScript.execute_script = _instead_of(PythonScript.execute_script)
    return True


def _instead_of(usual: Any) -> Any:
    """What starts a script's process, where `usual` did."""
    usual = getattr(usual, "usual", usual)  # a Snakefile may be read twice
    server = Server()

    def execute_script(self: Any, fname: str, edit: bool = False) -> None:
        own = (self.conda_env, self.container_img, self.env_modules)
        if edit or any(own) or int(self.threads) != 1:
            return usual(self, fname, edit)
        code = server.run(fname, _environment(self.resources), self.bench_record)
        if code is None:
            return usual(self, fname, edit)
        if code != 0:
            raise subprocess.CalledProcessError(code, f"{sys.executable} {fname}")

    execute_script.usual = usual  # type: ignore[attr-defined]
    return execute_script


def _environment(resources: Any) -> dict[str, str]:
    """A job's environment, as Snakemake makes it (snakemake/shell.py)."""
    folder = resources.get("tmpdir")
    return {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        **(dict.fromkeys(TEMPORARY, str(folder)) if folder else {}),
    }


class Server:
    """The process that jobs are forked from; it starts with the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Snakemake starts its jobs in threads
        self._control: socket.socket | None = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | dict.fromkeys(THREADS, "1"),
            )
        return ours

    def run(self, script: str, environment: dict[str, str], bench_record: Any) -> int | None:
        """Run a script in a process forked from the server.

        Returns:
            its exit code, negative where a signal ended it; None: it was not started.
        """
        ours, theirs = socket.socketpair()
        with ours, ours.makefile() as line:
            with theirs, self._lock, contextlib.suppress(OSError):  # it may have ended
                if self._control is None:
                    self._control = self._start()
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            asked = {"script": script, "cwd": str(Path.cwd()), "environment": environment}
            with contextlib.suppress(OSError):
                ours.sendall(json.dumps(asked).encode() + b"\n")
            if not _read(line):
                return None
            started = time.monotonic()
            ended = _read(line)
            if not ended:  # the server was killed
                return -signal.SIGKILL
            code, kilobytes, seconds = ended.split()
            if bench_record is not None:
                _fill(bench_record, time.monotonic() - started, int(kilobytes), float(seconds))
            return int(code)


def _read(line: Any) -> str:
    """The next line; empty where the other side is no more."""
    try:
        return str(line.readline())
    except OSError:
        return ""


def _fill(record: Any, seconds: float, kilobytes: int, cpu_seconds: float) -> None:
    """A job's benchmark, of what the kernel counted for the process and its children.

    Snakemake would look at the process twice a second. Each look walks over all memory that it
    shares with the server: together they took as much time as a tenth of the demo's jobs.
    """
    record.running_time = seconds
    record.max_rss = kilobytes / 1024
    record.cpu_time = cpu_seconds
    record.cpu_usage = 100 * cpu_seconds  # percent, times seconds
    record.data_collected = True  # of the rest nothing is known: "-"


# --- in the server --------------------------------------------------------------------------------


def serve(control: socket.socket) -> None:
    """Import the libraries; then fork a process for every connection that is sent, until the end.

    One thread alone: a fork takes over no other, nor what that one held.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for Snakemake and the jobs
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # a job that needs it says so
            importlib.import_module(name)
    _import_own()
    if others := set(_threads()) - SURVIVE:
        print(f"jobs import for themselves: there are threads {sorted(others)}", file=sys.stderr)
        return
    gc.collect()
    gc.freeze()  # so that a job's collector does not copy what all share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        sign, descriptors, *_ = socket.recv_fds(control, 1, 1)
        if not sign:  # Snakemake is no more
            return
        if os.fork() == 0:
            control.close()
            _keep(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _import_own() -> None:
    """Import what most jobs need of this project, and torchvision as the project does."""
    package = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(package.parent))
    with contextlib.suppress(Exception):  # a job that needs it says so
        for name in OWN:
            importlib.import_module(f"{package.name}.{name}")
        importlib.import_module(f"{package.name}.learning.makers").import_torchvision()
        importlib.import_module("torchvision.models")
    sys.path.remove(str(package.parent))  # a job finds its script's folder by itself


def _threads() -> Iterator[str]:
    """Names of this process' threads, without the main one."""
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            yield (task / "comm").read_text().strip()


def _keep(connection: socket.socket) -> None:
    """In a process of its own: fork the job, say that it runs, how it ended and what it took."""
    _end_with(os.getppid())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw") as line:
        asked = json.loads(line.readline())
        keeper = os.getpid()
        if (job := os.fork()) == 0:
            connection.close()
            _end_with(keeper)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os._exit(_job(**asked))
        with contextlib.suppress(BrokenPipeError):
            line.write("started\n")
            line.flush()
            _, status, used = os.wait4(job, 0)
            code = os.waitstatus_to_exitcode(status)
            line.write(f"{code} {used.ru_maxrss} {used.ru_utime + used.ru_stime:.2f}\n")
    os._exit(0)


def _end_with(parent: int) -> None:
    """This process ends when its parent does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # before this line
        os._exit(1)


def _job(script: str, cwd: str, environment: dict[str, str]) -> int:
    """In the job's process: what `python script` does in this folder and environment."""
    rule = Path(script).stem.rpartition(".")[2]  # Snakemake's copy is called tmp123.RULE.py
    ctypes.CDLL(None).prctl(PR_SET_NAME, rule.encode())  # for `top` and `ps -o comm`
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script]
    sys.path.insert(0, str(Path(script).resolve().parent))
    code = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()  # of libraries, and of what the job put away for its end
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # at once: torch would take a second to tidy up, and the jobs end with this process
