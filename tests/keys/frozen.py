"""Do the marks keep their promise? Every key's tests, with the key frozen: one has to fail.

    python -m tests.keys.frozen [key ...]

First all marked tests run as they are and have to pass. Then each key reads as its default
(`tests.keys.freeze`) while the tests that are marked with it run. A key that no test misses is
named, and the exit status is 1. Every run is a fork of this process, which has imported what is
slow to import.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.keys import walk

PROJECT = walk.TESTS.parent
LIMIT = 600  # seconds for the tests of one key; a frozen key may also make a loop endless


class Watch:
    """Whether a test failed in its own body: a fixture that breaks asserts nothing."""

    failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        self.failed |= report.failed and report.when == "call"


def run(key: str | None, nodes: Sequence[str]) -> tuple[int, bool, str]:
    """The exit status of pytest on these tests, whether one failed, and its last words."""
    watch = Watch()
    arguments = [
        "-q",
        "-x",
        "-m",
        "",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.keys.freeze",
    ]
    arguments += [f"--freeze={key}"] if key else []
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.txt"
        with (
            said.open("w") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            status = pytest.main([*arguments, f"--basetemp={folder}/tests", *nodes], [watch])
        return int(status), watch.failed, "\n".join(said.read_text().splitlines()[-12:])


def forked(key: str | None, nodes: Sequence[str]) -> tuple[int, bool, str]:
    """`run` in a process of its own, which may have children: some tests run the workflow."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(run(key, nodes)))
    process.start()
    theirs.close()
    found = (1, False, "it took too long, or ended without a word")
    if ours.poll(LIMIT if key else None):
        with contextlib.suppress(EOFError):
            found = ours.recv()
    process.kill()
    process.join()
    return found


def warm_up() -> None:
    """Import what nearly all tests import."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.metrics  # noqa: F401

    from swift_debias.learning import (
        loop,  # noqa: F401
        networks,
    )

    networks.import_torchvision()


def main(wanted: Sequence[str]) -> int:
    """Prove the marks of these keys, or of all."""
    os.chdir(PROJECT)
    warm_up()
    marks = walk.marks()
    nodes = {key: [mark.node() for mark in marks[key]] for key in wanted or sorted(marks)}
    together = sorted({node for tests in nodes.values() for node in tests})
    started, idle = time.monotonic(), []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        status, _, said = forked(None, together)
        if status != pytest.ExitCode.OK:
            print(f"the marked tests fail as they are:\n{said}")
            return 1
        runs = [(key, pool.submit(forked, key, tests)) for key, tests in nodes.items()]
        for key, result in runs:
            _, failed, said = result.result()
            if not failed:
                idle.append(key)
            last = said.splitlines()[-1] if said else ""
            print(f"{'noticed' if failed else 'NOT NOTICED':12} {key:32} {last}", flush=True)
    print(f"{len(nodes)} keys in {time.monotonic() - started:.0f} s; not noticed: {idle or 'none'}")
    return 1 if idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
