"""How a script of the workflow runs: its log, its errors, and what its checkpoints stand for."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError, of_disk

MOST_TOLD = 600  # characters of what a log ends with


@contextlib.contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Send everything printed to the rule's log; a user's mistake is shown without a traceback."""
    _end_with_parent()
    terminal = sys.stderr
    try:
        with (
            Path(snakemake.log[0]).open("w", buffering=1, encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            try:
                yield
            except BaseException as error:
                told = error if isinstance(error, UserError) else of_disk(error)
                if not told:
                    traceback.print_exc(file=log)
                    raise
                with contextlib.suppress(OSError):  # the log may be on the same full disk
                    print(f"error: {told}", file=log)
                    if in_short := getattr(told, "in_short", ""):
                        print(f"error: {in_short}", file=log)
                raise UserError(str(told)) from error
    except (UserError, OSError) as error:  # or that the log itself could not be written
        told = error if isinstance(error, UserError) else of_disk(error)
        if not told:
            raise
        with contextlib.suppress(OSError):
            print(f"\nerror in {snakemake.rule}: {told}\n", file=terminal, flush=True)
        sys.exit(1)
    _end_at_once(snakemake)


def last_error(log: Path) -> str:
    """What a job's log (`logged`) ends with where the job failed, in a line; else nothing.

    A message of several lines is told as one, and cut where it is long.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[places[-1] :] if places else []
    if not said and any(line.startswith("Traceback (most recent call last)") for line in lines):
        said = [line for line in lines if line.strip()][-1:]
    told = " ".join(" ".join(said).split())
    return told if len(told) <= MOST_TOLD else f"{told[: MOST_TOLD - 3]}..."


def classes_of(params: Any) -> int:
    """How many classes a job's task has; params say it where they are more than two."""
    given = params.get("classes")
    return given["classes"] if given else 2


def _end_at_once(snakemake: Any) -> None:
    """End a job's process whose files are written: torch takes most of a second to tidy up.

    Nothing where a script runs inside of another program, as in tests.
    """
    main = vars(sys.modules["__main__"])
    # Snakemake starts a copy of the script and puts the script's own place in `__file__`
    file = main.get("__real_file__") or main.get("__file__") or ""
    started = Path(file).absolute() == Path(sys.argv[0]).absolute()
    if not started or main.get("snakemake") is not snakemake:
        return
    atexit._run_exitfuncs()  # what others asked for at the end: that takes no time
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """Linux: a job ends when Snakemake is killed; else it would write beside the next run's job."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # prctl(2)
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getsid(os.getppid()) != os.getsid(0):  # a stranger: it was killed before this line
            sys.exit("the run that started this job is no more")


def key(snakemake: Any, small: int = 1 << 24) -> str:
    """What a job's checkpoint stands for: its params and the content of its inputs.

    Inputs above `small` bytes (image caches) are taken by size and time of change.
    """
    digest = hashlib.sha256(repr(sorted(snakemake.params.items())).encode())
    for name in sorted(map(str, snakemake.input)):
        path = Path(name)
        stat = path.stat()
        content = path.read_bytes() if stat.st_size <= small else str(stat.st_mtime_ns).encode()
        digest.update(f"{name} {stat.st_size} ".encode() + content)
    return digest.hexdigest()
