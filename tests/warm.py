"""Python programs in processes that are forked from one with Snakemake loaded.

A dry run is a second of work after three of imports. Apart from those, the process is as clean as a
new one: nothing of this project is loaded, and folder, arguments and output are its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["snakemake.cli", "pydantic", "yaml"])


def run(
    program: str | Path,
    *arguments: str,
    cwd: Path,
    timeout: float = 120,
    path: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """What `python program arguments` does, started in `cwd`; `program` is a file or a module.

    `path` is a folder where modules are looked for first, as PYTHONPATH would say.
    """
    words = [str(program), *arguments]
    with tempfile.TemporaryDirectory() as name:
        said = [Path(name) / "stdout", Path(name) / "stderr"]
        process = _CONTEXT.Process(target=_main, args=(words, cwd, said, path))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        texts = [path.read_text() for path in said]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _main(words: list[str], cwd: Path, said: list[Path], path: Path | None) -> None:
    """In the forked process."""
    os.chdir(cwd)
    for descriptor, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = list(words)
    if path is not None:
        sys.path.insert(0, str(path))
    sys.dont_write_bytecode = True  # the tests change files faster than their times tell
    if Path(words[0]).suffix == ".py":
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
