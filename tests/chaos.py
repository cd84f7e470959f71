"""Kill a run at random moments, again and again; what comes out is what an unbroken run gives.

python tests/chaos.py --kills 20 --seed 0

The shared cut of the demo (cut.py) is run once unbroken, and then in other folders where it is
killed (kill -9) at random moments: the main process, one job, or all processes at once as when a
node goes down. After every kill each result that Snakemake takes for finished must have the bytes
of the unbroken run, and the next start has to carry on. A run that comes through is compared file
by file. Each folder is a copy of the project, and what is run in it is its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests import cut  # noqa: E402

KINDS = ("main", "job", "node")
# What differs from run to run: times and memory, and what shows them.
EXCLUDED = {
    "logs/*": "times of day",
    "benchmarks/*": "seconds and memory of every job",
    "*/cost.json": "seconds and memory of training",
    "tables/cost.*": "shows them",
    "summary.txt": "shows them",
    "verdict*": "claims of the paper about time",
    "report.html": "shows all of these",
}


class CorruptError(Exception):
    """A result that passes for finished differs from the unbroken run's, or is missing."""


def command(folder: Path, *arguments: str) -> list[str]:
    """Snakemake with the options of profiles/demo."""
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile")]
    words += ["--configfile", str(folder / "cut.yaml"), "--directory", str(folder)]
    words += ["--cores", "2", "--scheduler", "greedy", "--rerun-incomplete"]
    words += ["--show-failed-logs", "--rerun-triggers", "mtime", "params", "input"]
    return [*words, *arguments]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start it in a session of its own; what it says goes to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with said(folder).open("w") as log:
        return subprocess.Popen(
            command(folder, *arguments),
            stdout=log,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )


def said(folder: Path) -> Path:
    """Where a run's terminal output goes: beside its folder, which may be full or read-only."""
    return folder.with_name(folder.name + ".out")


def finish(run: subprocess.Popen[str], folder: Path) -> None:
    """Wait for a run that nobody disturbs."""
    if run.wait(timeout=900) != 0:
        raise CorruptError(f"a run that was left alone failed:\n{said(folder).read_text()[-6000:]}")


def digests(folder: Path) -> dict[str, bytes]:
    """Every result file that is to be the same, and its content."""
    results = folder / cut.RESULTS
    files = (path for path in sorted(results.rglob("*")) if path.is_file())
    names = {str(path.relative_to(results)): path for path in files}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not any(fnmatch(name, pattern) for pattern in EXCLUDED)
    }


def unfinished(folder: Path) -> set[str]:
    """Encoded names of the outputs that Snakemake takes for incomplete."""
    return {path.name for path in (folder / ".snakemake" / "incomplete").rglob("*")}


def check_finished(folder: Path, whole: dict[str, bytes]) -> int:
    """All that passes for finished has the bytes of the unbroken run; returns how many files."""
    # Names first, then marks: a job that is just ending takes its mark away after it has written.
    marks, checked = unfinished(folder), 0
    for name, content in digests(folder).items():
        outputs = [cut.RESULTS / name, *(cut.RESULTS / name).parents]
        encoded = {urlsafe_b64encode(str(output).encode()).decode() for output in outputs}
        beside = name.endswith((".partial", ".journal")) or name.startswith("checkpoints/")
        if beside or encoded & marks:
            continue
        if content != whole.get(name):
            raise CorruptError(f"{folder}: {name} passes for finished and is not what it should be")
        checked += 1
    return checked


def check_whole(folder: Path, whole: dict[str, bytes]) -> None:
    """The run is over: the same files with the same bytes, and nothing else."""
    found = digests(folder)
    if wrong := [name for name in {*found, *whole} if found.get(name) != whole.get(name)]:
        raise CorruptError(f"{folder}: differ from the unbroken run: {sorted(wrong)}")


def processes(folder: Path) -> dict[int, str]:
    """Processes that work for this folder: id -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                name = (entry / "comm").read_text().strip()
                if "/run/forked.py " in line and not name.startswith("python"):
                    # a forked job is called after its rule, and stands where its run does
                    place = (entry / "cwd").readlink()
                    line = f"{place}/.snakemake/scripts/forked.{name}.py"
                if f"{folder}/" in line or f"{folder} " in line:
                    found[int(entry.name)] = line
    return found


def kill(run: subprocess.Popen[str], folder: Path, kind: str, rng: random.Random) -> str | None:
    """Kill as `kind` says; returns what was hit, or None if there was nothing."""
    jobs = {pid: line for pid, line in processes(folder).items() if "/.snakemake/scripts/" in line}
    running = sorted(
        {line.split("/.snakemake/scripts/")[1].split(".")[1] for line in jobs.values()}
    )
    if run.poll() is not None or (kind == "job" and not jobs):
        return None
    with contextlib.suppress(ProcessLookupError):
        if kind == "main":
            run.kill()
        elif kind == "job":
            victim = rng.choice(sorted(jobs))
            running = [jobs[victim].split("/.snakemake/scripts/")[1].split(".")[1]]
            os.kill(victim, signal.SIGKILL)
        else:
            os.killpg(run.pid, signal.SIGKILL)
    return ", ".join(running) or "no job yet"


def unlock(folder: Path) -> None:
    """What Snakemake asks for after it was killed."""
    done = subprocess.run(command(folder, "--unlock"), capture_output=True, text=True)
    if done.returncode != 0:
        raise CorruptError(f"--unlock failed:\n{done.stdout}{done.stderr}")


def one_kill(
    folder: Path,
    kind: str,
    ready: Callable[[], bool],
    rng: random.Random,
    targets: Sequence[str] = (),
) -> tuple[str | None, int]:
    """Start the run, kill it when it is `ready`; what was hit, and how many jobs outlived it."""
    run = start(folder, "--", *targets)
    while not ready() and run.poll() is None:
        time.sleep(0.005)
    while (hit := kill(run, folder, kind, rng)) is None and run.poll() is None:
        time.sleep(0.05)
    run.wait(timeout=300)  # after the death of a job the others end and Snakemake reports it
    if hit and kind == "job" and run.returncode == 0:
        raise CorruptError(f"{folder}: a job ({hit}) was killed and the run says that all is well")
    time.sleep(0.1)
    left = [line for line in processes(folder).values() if "/.snakemake/scripts/" in line]
    if hit is None:  # the run was over before
        finish(run, folder)
    return hit, len(left)


def at_random(longest: float, rng: random.Random) -> Callable[[], bool]:
    """Ready at a moment within so many seconds from now."""
    moment = time.monotonic() + rng.uniform(1.0, longest)
    return lambda: time.monotonic() >= moment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=20, help="seconds until a kill, at most")
    parser.add_argument("targets", nargs="*", help="default: everything")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kinds = itertools.cycle(KINDS)
    kills: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="chaos") as name:
        unbroken, started = Path(name) / "unbroken", time.monotonic()
        cut.copy_project(unbroken)
        finish(start(unbroken, "--", *options.targets), unbroken)
        whole, seconds = digests(unbroken), time.monotonic() - started
        print(f"unbroken: {seconds:.0f} s, {len(whole)} files are compared")
        print(f"not compared: {EXCLUDED}", flush=True)
        for number in itertools.count():
            folder, hit = Path(name) / f"broken{number}", "started"
            cut.copy_project(folder)
            while hit and kills.total() < options.kills:
                kind = next(kinds)
                moment = at_random(options.longest, rng)
                unlock(folder)
                hit, left = one_kill(folder, kind, moment, rng, options.targets)
                checked = check_finished(folder, whole)
                if hit:
                    kills[kind] += 1
                    print(
                        f"{kills.total():3d} run {number}: {kind} killed during {hit}; "
                        f"{left} jobs outlived it; {checked} finished files are whole",
                        flush=True,
                    )
            unlock(folder)
            finish(start(folder, "--", *options.targets), folder)
            check_whole(folder, whole)
            print(f"run {number} came through: {len(whole)} files as unbroken", flush=True)
            if kills.total() >= options.kills:
                break
            shutil.rmtree(folder)
    print(f"{kills.total()} kills: {dict(kills)}; nothing corrupt, every run ended the same")


if __name__ == "__main__":
    main()
