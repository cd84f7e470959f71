"""Mutation check: plant one small fault after another and see that a test notices each.

    python tests/mutants/run.py [--jobs 3] [pattern ...]

A mutant is an entry of a YAML file in this folder:

    - what: lambda and 1 - lambda swapped in step 1 # default: old -> new
      old: "prediction=weight, bias=1 - weight"     # found by its text, which occurs exactly once
      new: "prediction=1 - weight, bias=weight"
      tests: [tests/unit/test_one_step.py]          # files or node ids, the quickest first
      file: workflow/scripts/x.py                   # only where the text alone is not unique
      equivalent: why no test can notice it         # only where that is so

The heavy packages are imported once; then every mutant is a forked process in a copy of the
project, so that it costs its tests and little more. Each test file is first run without a mutant.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import multiprocessing
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).parent
SOURCES = ("Snakefile", "workflow/Snakefile", "workflow/**/*.smk", "workflow/**/*.py")
LIMIT = 600  # seconds for the tests of one mutant, which may make a loop endless
HEAVY = """
    torch numpy pandas pyarrow.parquet scipy.stats sklearn.metrics sklearn.model_selection
    fairlearn.metrics safetensors.torch PIL.Image faiss pdqhash matplotlib.pyplot seaborn
    great_tables pydantic hypothesis snakemake.api _pytest.debugging
"""


@dataclass(frozen=True)
class Mutant:
    """A fault, and the tests that are to notice it."""

    what: str
    old: str
    new: str
    tests: tuple[str, ...]
    file: str = ""
    equivalent: str = ""
    list: str = ""


@dataclass(frozen=True)
class Outcome:
    """How the tests of one process ended."""

    code: int
    seconds: float
    noticed: str  # the first test that failed, or what else ended the process


def read_mutants() -> Iterator[Mutant]:
    """The mutants of all lists."""
    for path in sorted(LISTS.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            fields = {"what": " ".join(f"{entry['old']} -> {entry['new']}".split())[:100]} | entry
            yield Mutant(**fields | {"tests": tuple(entry["tests"]), "list": path.stem})


@cache
def sources() -> dict[str, str]:
    """File -> text of all code that can be mutated."""
    paths = (path for pattern in SOURCES for path in PROJECT.glob(pattern))
    return {str(p.relative_to(PROJECT)): p.read_text(encoding="utf-8") for p in sorted(paths)}


def planted(mutant: Mutant) -> tuple[str, str]:
    """The file that the mutant changes, and its new text."""
    texts = {mutant.file: sources().get(mutant.file, "")} if mutant.file else sources()
    places = {name: text.count(mutant.old) for name, text in texts.items() if mutant.old in text}
    if sum(places.values()) != 1:
        raise LookupError(f"its text is found {sum(places.values())} times ({', '.join(places)})")
    name = next(iter(places))
    text = texts[name].replace(mutant.old, mutant.new)
    if name.endswith(".py"):
        compile(text, name, "exec")  # a fault of spelling would be noticed by anything
    return name, text


def copy_project(folder: Path) -> None:
    """The project as it is now, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    # Compiled once; by the source's hash, so that a mutated file is never taken for the old one.
    by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "workflow", quiet=2, invalidation_mode=by_hash)


class FirstFailure:
    """A pytest plugin that keeps the name of the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.name = self.name or f"{report.nodeid} (not imported)"


def run_tests(folder: Path, tests: Iterable[str], answer: Connection) -> None:
    """In a process of its own: the tests, in a copy of the project."""
    os.setsid()  # with all that the tests start, so that it can be ended as a whole
    os.chdir(folder)
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.insert(0, str(folder / "workflow" / "scripts"))
    library = importlib.import_module("swift_debias")
    assert Path(str(library.__file__)).is_relative_to(folder), library.__file__
    first = FirstFailure()
    temporary = f"--basetemp={folder.with_suffix('.tmp')}"
    options = ["-x", "-q", "-m", "not long", "-p", "no:cacheprovider", temporary]
    code = pytest.main([*options, *tests], plugins=[first])
    answer.send((int(code), first.name))


@dataclass
class Job:
    """Tests in a copy of the project; the process once it runs."""

    tests: tuple[str, ...]
    mutant: Mutant | None = None

    def start(self, folder: Path) -> None:
        """Plant the mutant and fork."""
        self.folder, self.started = folder, time.monotonic()
        if self.mutant:
            self.file, text = planted(self.mutant)
            (folder / self.file).write_text(text, encoding="utf-8")
        context = multiprocessing.get_context("fork")
        self.answer, child = context.Pipe(duplex=False)
        self.process = context.Process(target=run_tests, args=(folder, self.tests, child))
        self.process.start()
        child.close()

    @property
    def late(self) -> bool:
        """Has it run for too long?"""
        return time.monotonic() - self.started > LIMIT

    def end(self) -> Outcome:
        """What the tests said; the copy is as it was."""
        code, noticed = 1, f"no end in {LIMIT} s" if self.late else "the process died"
        if self.answer.poll():
            code, noticed = self.answer.recv()
        else:
            self.process.kill()
        self.process.join()
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError):  # often nothing is left of what they started
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.mutant:
            text = sources()[self.file]
            (self.folder / self.file).write_text(text, encoding="utf-8")
        return Outcome(code, time.monotonic() - self.started, noticed)


def run_all(jobs: list[Job], folders: list[Path]) -> Iterator[tuple[Job, Outcome]]:
    """As many jobs at a time as there are copies, in their order; yields what has ended."""
    todo, free = jobs[::-1], list(folders)
    running: list[Job] = []
    try:
        while todo or running:
            while todo and free:
                running.append(todo.pop())
                running[-1].start(free.pop())
            wait([job.process.sentinel for job in running], timeout=5)
            for job in [job for job in running if job.late or not job.process.is_alive()]:
                running.remove(job)
                yield job, job.end()
                free.append(job.folder)
    finally:
        for job in running:  # where this process is interrupted
            job.end()


def by_file(mutants: list[Mutant]) -> list[Job]:
    """A job a test file that runs, without a mutant, all its tests that mutants name."""
    named = sorted({test for mutant in mutants for test in mutant.tests})
    files = {test.partition("::")[0] for test in named}
    return [
        Job((file,) if file in named else tuple(t for t in named if t.startswith(file + "::")))
        for file in sorted(files)
    ]


def progress(text: str) -> None:
    """A line that is seen at once."""
    print(text, flush=True)


def check(mutants: list[Mutant], folders: list[Path]) -> bool:
    """Run everything and print it; is each mutant noticed?"""
    fine, broken = True, set()
    unmutated = by_file(mutants)
    progress(f"{len(mutants)} mutants; first {len(unmutated)} test files without any")
    for job, outcome in run_all(unmutated, folders):
        if outcome.code:
            fine, name = False, job.tests[0].partition("::")[0]
            broken.add(name)
            progress(f"FAILS WITHOUT A MUTANT  {name}  {outcome.noticed or 'no such test'}")
    jobs = []
    for mutant in mutants:
        try:
            planted(mutant)
        except (LookupError, SyntaxError) as error:
            fine = False
            progress(f"CANNOT BE PLANTED  {mutant.list}: {mutant.what}: {error}")
        else:
            # tests that fail anyway would notice everything
            tests = tuple(t for t in mutant.tests if t.partition("::")[0] not in broken)
            jobs += [Job(tests, mutant)] if tests else []
    lines = []
    for job, outcome in run_all(jobs, folders):
        assert job.mutant
        mutant, survived = job.mutant, outcome.code == 0
        fine &= not survived or bool(mutant.equivalent)
        state = ("equivalent" if mutant.equivalent else "SURVIVED") if survived else "killed"
        noticed = mutant.equivalent if survived else outcome.noticed
        line = f"{state:10} {outcome.seconds:4.0f} s  {mutant.list:8} {mutant.what}  | {noticed}"
        progress(line)
        lines.append(line)
    counts = [sum(line.startswith(state) for line in lines) for state in ("killed", "SURVIVED")]
    progress(f"{len(mutants)} mutants: {counts[0]} killed, {counts[1]} survived")
    for line in lines:
        if line.startswith("SURVIVED"):
            progress(line)
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cores = len(os.sched_getaffinity(0))
    # one more than there are cores: whole runs wait now and then
    parser.add_argument("--jobs", type=int, default=cores + 1, help="processes at a time")
    parser.add_argument("patterns", nargs="*", help="only mutants with one of these texts in them")
    options = parser.parse_args()
    mutants = [
        mutant
        for mutant in read_mutants()
        if not options.patterns
        or any(p in f"{mutant.list} {mutant.what} {mutant.file}" for p in options.patterns)
    ]
    started = time.monotonic()
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and each costs its import
    sys.dont_write_bytecode = True
    for name in HEAVY.split():
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, f"copy{number}") for number in range(options.jobs)]
        for folder in folders:
            copy_project(folder)
        fine = check(mutants, folders)
    used = sum(os.times()[:4])  # of this process and all others
    progress(f"{time.monotonic() - started:.0f} s, {used:.0f} s of processor time")
    sys.exit(not fine)


if __name__ == "__main__":
    main()
