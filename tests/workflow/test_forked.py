"""Jobs that are forked from a server are as clean, as killable and as exact as others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swift_debias.run import forked

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone"),
]

SNAKEFILE = """
import sys
sys.path.insert(0, {scripts!r})
from swift_debias.run import forked
forked.use(workflow)

rule all:
    default_target: True
    input: expand("{{name}}.txt", name=["first", "second", "many"])

BEFORE = {{"second": ["first.txt"], "many": ["second.txt"]}}

rule one:
    output: "{{name}}.txt"
    input: lambda wildcards: BEFORE.get(wildcards.name, [])
    log: "{{name}}.log"
    benchmark: "{{name}}.tsv"
    params: value=3
    threads: lambda wildcards: 2 if wildcards.name == "many" else 1
    script: "job.py"

rule bad:
    output: "bad.txt"
    log: "bad.log"
    params: value=3
    script: "bad.py"

rule long:
    output: "long.txt"
    log: "long.log"
    params: value=3
    script: "long.py"
"""

# What a job might leave behind: settings of libraries, the environment, the folder, random state.
JOB = """
import hashlib, json, os, random, sys
from pathlib import Path
import matplotlib, numpy, torch
found = {
    "line": matplotlib.rcParams["lines.linewidth"], "threads": torch.get_num_threads(),
    "seeded": torch.initial_seed() == 7, "dtype": str(torch.get_default_dtype()),
    "left": os.environ.get("LEFT"), "module": "left_behind" in sys.modules,
    "argv": [Path(word).name.split(".", 1)[1] for word in sys.argv],
    "omp": os.environ["OMP_NUM_THREADS"],
    "main": sys.modules["__main__"].__dict__["snakemake"] is snakemake,
    "value": snakemake.params.value, "default": os.environ.get("GIVEN"),
    "weights": hashlib.sha256(torch.nn.functional.conv2d(
        torch.arange(3072.0).reshape(1, 3, 32, 32).sin(),
        torch.arange(216.0).reshape(8, 3, 3, 3).cos(),
    ).numpy().tobytes()).hexdigest(),
}
matplotlib.rcParams["lines.linewidth"] = 9
torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
os.environ["LEFT"] = "x"
sys.modules["left_behind"] = sys
with open(snakemake.output[0], "w") as file:
    json.dump(found, file, sort_keys=True)
with open(snakemake.log[0], "w") as log:
    log.write(f"{os.getppid()} {' '.join(sys.orig_argv)}")
os.chdir("/")
"""

BAD = """
import sys
print("told to whoever watches", file=sys.stderr)
raise KeyError("a mistake")
"""

LONG = """
import os, sys, time
sys.path.insert(0, {scripts!r})
from swift_debias.run.job import logged
with logged(snakemake):
    print(os.getpid(), flush=True)
    time.sleep(120)
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small workflow that forks its jobs as the project's does."""
    folder = tmp_path_factory.mktemp("forked")
    scripts = str(PROJECT / "workflow" / "scripts")
    for name, text in (
        ("Snakefile", SNAKEFILE),
        ("job.py", JOB),
        ("bad.py", BAD),
        ("long.py", LONG),
    ):
        (folder / name).write_text(text.format(scripts=scripts) if "{scripts" in text else text)
    return folder


def started(
    workflow: Path, *targets: str, fork: str = "1", place: str = "."
) -> subprocess.Popen[str]:
    """Snakemake, as a user starts it."""
    environment = {**os.environ, "SWIFT_FORK": fork, "GIVEN": "by the user"}
    words = ["-m", "snakemake", "--snakefile", str(workflow / "Snakefile"), "--cores", "2"]
    words += ["--directory", str(workflow / place), "--nolock", *targets]
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def both(workflow: Path) -> Iterator[dict[str, Path]]:
    """The folders of a run whose jobs are forked and of one whose jobs are not."""
    for name, fork in (("forked", "1"), ("usual", "0")):
        run = started(workflow, fork=fork, place=name)
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said
    yield {name: workflow / name for name in ("forked", "usual")}


def was_forked(log: Path) -> bool:
    """Whether the job that wrote this came from the server."""
    return "forked.py" in log.read_text()


def test_only_jobs_of_one_thread_are_forked(both: dict[str, Path]) -> None:
    assert [was_forked(both["forked"] / f"{n}.log") for n in ("first", "second", "many")] == [
        True,
        True,
        False,
    ]
    assert not any(was_forked(both["usual"] / f"{n}.log") for n in ("first", "second", "many"))


@pytest.mark.parametrize("name", ["first", "second", "many"])
def test_a_forked_job_finds_what_a_new_process_finds(name: str, both: dict[str, Path]) -> None:
    """And nothing that the job before it left: `second` runs after `first`."""
    texts = [(both[run] / f"{name}.txt").read_text() for run in ("forked", "usual")]
    assert texts[0] == texts[1]
    assert '"default": "by the user"' in texts[0]
    assert '"main": true' in texts[0]


def test_a_forked_job_has_its_benchmark(both: dict[str, Path]) -> None:
    """Of time and memory as Snakemake would have measured them, under its names."""
    forked, usual = (
        dict(zip(*(line.split("\t") for line in text.splitlines()), strict=True))
        for text in ((both[run] / "first.tsv").read_text() for run in ("forked", "usual"))
    )
    assert forked.keys() == usual.keys()
    assert 0 < float(forked["cpu_time"]) <= float(forked["s"]) + 0.1 < 300
    assert float(forked["max_rss"]) == pytest.approx(float(usual["max_rss"]), rel=0.6)
    assert float(forked["mean_load"]) == pytest.approx(
        100 * float(forked["cpu_time"]) / float(forked["s"]), rel=0.1
    )


def running(log: Path) -> int:
    """The process that writes its number to this log, once it does."""
    until = time.monotonic() + 200
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert time.monotonic() < until, "the job did not start"
        time.sleep(0.1)
    return int(log.read_text())


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def gone(process: int) -> bool:
    """Whether a process ends within a while; a zombie has ended."""
    for _ in range(300):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


def test_without_a_server_a_job_is_started_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`None`: Snakemake's own way is taken. Whether Python is missing, or ends at once."""
    for program in (tmp_path / "no python", shutil.which("true")):
        monkeypatch.setattr(sys, "executable", str(program))
        assert forked.Server().run("job.py", {}, None) is None


def test_when_the_server_is_killed_its_job_has_failed(tmp_path: Path) -> None:
    """The job ends with its keeper, and that with the server."""
    server, codes = forked.Server(), []
    script = f"open({str(tmp_path / 'log')!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(120)\n"
    (tmp_path / "long.py").write_text(f"import os, time\n{script}")
    asked = (str(tmp_path / "long.py"), dict(os.environ), None)
    thread = threading.Thread(target=lambda: codes.append(server.run(*asked)))
    thread.start()
    job = running(tmp_path / "log")
    server._process.kill()
    thread.join(60)
    assert codes == [-signal.SIGKILL]
    assert gone(job)


@pytest.mark.ci
def test_what_goes_wrong_is_told(workflow: Path) -> None:
    """A job that fails and one that is killed: rule, log and what went wrong."""
    run = started(workflow, "bad.txt", "long.txt", "--keep-going")
    os.kill(running(workflow / "long.log"), signal.SIGKILL)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    for told in ("rule bad", "bad.log", "non-zero exit status 1", "KeyError: 'a mistake'"):
        assert told in said
    for told in ("told to whoever watches", "rule long", "long.log", "SIGKILL"):
        assert told in said


@pytest.mark.ci
def test_a_killed_run_ends_its_jobs(workflow: Path) -> None:
    log = workflow / "long.log"
    log.unlink(missing_ok=True)
    run = started(workflow, "long.txt")
    job = running(log)
    keeper = parent(job)
    server = parent(keeper)
    assert server != run.pid
    run.kill()
    run.communicate(timeout=60)
    left = [process for process in (job, keeper, server) if not gone(process)]
    for process in left:  # nothing else would end them
        os.kill(process, signal.SIGKILL)
    assert not left
