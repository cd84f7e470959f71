"""The demo's cut through a real SLURM, with the profile that users have: same bytes as a local run.

On the way the trainings are preempted by a job of a higher priority, and one job is killed for
memory. A record of all jobs is printed (`pytest -s`) and left in `results/slurm_test.txt`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from tests import cut
from tests.slurm.cluster import Cluster, why_not

PROJECT = Path(__file__).resolve().parents[2]
METHODS = ["baseline", "swift"]
IMAGES = {"mimic_cxr": 240, "chexpert": 60, "nih": 60}
TARGET = "results/cut/tables/table1.csv"
CHECKPOINT = "results/cut/checkpoints/baseline/cxr/small_resnet/fold{}/pretraining.safetensors"
TRAINING_LOG = "results/cut/logs/train_baseline/cxr/small_resnet/fold{}.log"
EPOCHS = 100
CPUS, MORE_CPUS = 4, 3  # of the node; asked for predicting, on a submitting machine of one core
TOO_LITTLE = 250  # MB, for a job that imports torch
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def config() -> str:
    """Trainings long enough to be preempted, that save their state after every epoch."""
    panel = {"task": "cxr", "backbone": "small_resnet", "attribute": "sex"}
    return cut.config(
        "cut",
        IMAGES,
        {
            "cxr": {
                "images": {"size": 24},
                "pretraining": {"epochs": EPOCHS},
                "finetuning": {"epochs_percent": 3, "min_cell": 2},
            }
        },
        {"table1": {"kind": "table", "title": "A cut", "methods": METHODS, "panels": [panel]}},
        compute={"device": "cpu", "checkpoint_seconds": 0},
    )


def through_slurm(directory: Path) -> list[str]:
    """The owner's command, some resources of one's own, shorter waits and a small node."""
    resources = [f"predict:cpus_per_task={MORE_CPUS}"]
    resources += [f"importance:mem_mb={TOO_LITTLE}*4**(attempt-1)"]
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--cores", "all"]
    command += ["--directory", str(directory), "--configfile", str(directory / "cut.yaml")]
    command += ["--resources", f"cpus_per_task={CPUS}", "mem_mb=16000", "turn=1"]
    command += ["--set-resources", *resources]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "20"]
    return [*command, "--", TARGET]


def local(directory: Path) -> list[str]:
    """The same on this machine."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--cores", "1"]
    command += ["--directory", str(directory), "--configfile", str(directory / "cut.yaml")]
    return [*command, "--", TARGET]


@dataclass
class Record:
    """What became of the jobs.

    Attributes:
        directory: of the run, with results/cut in it.
        states: job -> the states it was seen in, in order.
        jobs: job -> what the controller says of it at the end.
        urgent: the job that preempted others.
        halfway: the folds whose trainings had saved a state and were preempted.
    """

    directory: Path
    states: dict[int, list[str]] = field(default_factory=dict)
    jobs: dict[int, dict[str, str]] = field(default_factory=dict)
    urgent: int = 0
    halfway: list[str] = field(default_factory=list)

    def see(self, jobs: dict[int, dict[str, str]]) -> None:
        """Take down what the controller says now."""
        self.jobs = jobs
        for number, job in jobs.items():
            seen = self.states.setdefault(number, [])
            if not seen or seen[-1] != job["JobState"]:
                seen.append(job["JobState"])

    def of(self, name: str) -> list[dict[str, str]]:
        """The jobs of a rule or a group; the plugin notes `rule_<name>_...` for both."""
        comment = re.compile(f"rule_{name}(_|$)")
        return [job for job in self.jobs.values() if comment.match(job.get("Comment", ""))]

    def text(self) -> str:
        """A line a job."""
        columns = "{:>5}  {:52}  {:9}  {:4}  {:>4}  {:>8}  {:>3}  {:>8}  {}"
        head = ("job", "rule or group", "partition", "CPUs", "GPUs", "memory", "min", "requeued")
        lines = [columns.format(*head, "states")]
        for number, job in sorted(self.jobs.items()):
            has = asked(job)
            hours, minutes, _ = job["TimeLimit"].split("-")[-1].split(":")
            cells = (number, job.get("Comment", "a job of a higher priority")[:52])
            cells += (job["Partition"], has["cpu"], has["gpu"], has["mem"])
            cells += (60 * int(hours) + int(minutes), job["Restarts"])
            lines.append(columns.format(*cells, " ".join(self.states[number])))
        return "\n".join(lines) + "\n"


def asked(job: dict[str, str]) -> dict[str, str]:
    """What a job asked for: cpu, mem, gpu."""
    found = dict(part.split("=") for part in job["TRES"].split(","))
    gpus = re.fullmatch("gres:gpu:(.+)", job.get("TresPerJob", ""))
    return found | {"gpu": gpus[1] if gpus else "0"}


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start it in the project's folder, as a user would, and in a session of its own."""
    environment = environment | {"OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        return subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )


def follow(
    run: subprocess.Popen[bytes], cluster: Cluster, record: Record, seconds: float = 800
) -> None:
    """Watch the jobs until the run ends; preempt the trainings once those that run are half way."""
    deadline = time.monotonic() + seconds
    while run.poll() is None:
        assert time.monotonic() < deadline, "the run takes too long"
        record.see(cluster.jobs())
        trainings = [j for j in record.of("train_baseline") if j["JobState"] == "RUNNING"]
        folds = [job["Comment"][-1] for job in trainings]
        halfway = [(record.directory / CHECKPOINT.format(fold)).exists() for fold in folds]
        if not record.urgent and folds and all(halfway):
            command = ["sbatch", "--parsable", "--partition=urgent", "--gpus=2", "--mem=100"]
            command += ["--output=/dev/null", "--wrap=true"]
            record.urgent, record.halfway = int(cluster.call(*command)), folds
        time.sleep(0.3)
    record.see(cluster.jobs())


@pytest.fixture(scope="module")
def beside(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The local run, started beside the other, which waits most of the time."""
    directory = tmp_path_factory.mktemp("local")
    (directory / "cut.yaml").write_text(config())
    run = start(local(directory), directory / "snakemake.log", dict(os.environ))
    yield directory, run
    if run.poll() is None:
        run.send_signal(signal.SIGINT)
        run.wait(60)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, beside: object) -> Iterator[Record]:
    record = Record(tmp_path_factory.mktemp("slurm"))
    (record.directory / "cut.yaml").write_text(config())
    log = record.directory / "snakemake.log"
    with Cluster(cpus=CPUS) as cluster:
        # The submitting machine has one core, as far as Snakemake can see; a job asks for two.
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        try:
            run = start(through_slurm(record.directory), log, cluster.environment)
        finally:
            os.sched_setaffinity(0, everywhere)
        try:
            follow(run, cluster, record)
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)  # it cancels its jobs
                try:
                    run.wait(60)
                except subprocess.TimeoutExpired:
                    run.kill()
    said = record.text()
    print("\n" + said)
    results = PROJECT / "results"
    results.mkdir(exist_ok=True)
    (results / "slurm_test.txt").write_text(said)
    assert run.returncode == 0, log.read_text()[-4000:] + said
    yield record


@pytest.fixture(scope="module")
def local_run(beside: tuple[Path, subprocess.Popen[bytes]]) -> Path:
    directory, run = beside
    assert run.wait(300) == 0, (directory / "snakemake.log").read_text()[-4000:]
    return directory / "results" / "cut"


def test_results_are_those_of_a_local_run(record: Record, local_run: Path) -> None:
    here = record.directory / "results" / "cut"
    patterns = ["**/*.safetensors", "predictions/**/*.parquet", "debiased/**/history.parquet"]
    patterns += ["folds/*", "external/**/*.parquet", "metrics.parquet", "tables/table1.*"]
    files = [path.relative_to(local_run) for name in patterns for path in local_run.glob(name)]
    assert len(files) > 15
    different = [str(f) for f in files if (local_run / f).read_bytes() != (here / f).read_bytes()]
    assert not different
    assert len(pd.read_csv(here / "tables" / "table1.csv")) > 0


def test_every_job_that_needs_one_had_a_gpu(record: Record) -> None:
    for rule, count in {"train_baseline": 2, "importance": 2, "debias": 1, "predict": 1}.items():
        jobs = record.of(rule)
        assert len(jobs) == count, rule
        for job in jobs:
            assert job["Partition"] == "gpu"
            assert asked(job)["gpu"] == "1"
    others = [job for job in record.jobs.values() if job["Partition"] == "cpu"]
    assert others
    assert all(asked(job)["gpu"] == "0" for job in others)


def test_cores_all_does_not_shrink_a_job(record: Record) -> None:
    """The run was started on a machine of one core, as far as Snakemake could see."""
    (prediction,) = record.of("predict")
    assert asked(prediction)["cpu"] == str(MORE_CPUS)


def test_short_jobs_shared_an_allocation(record: Record) -> None:
    for group in ("manifests", "cohort", "scores", "results"):
        assert len(record.of(group)) == 1, group
    alone = ("build_manifest", "make_folds", "make_external", "evaluate", "merge_metrics", "table")
    assert not [job for rule in alone for job in record.of(rule)]
    assert all(int(asked(job)["cpu"]) <= CPUS for job in record.jobs.values())


def test_a_preempted_training_resumed_from_its_checkpoint(record: Record) -> None:
    assert record.states[record.urgent][-1] == "COMPLETED"
    assert record.halfway
    for number, job in record.jobs.items():
        if job.get("Comment", "").startswith("rule_train_baseline"):
            fold = job["Comment"][-1]
            assert record.states[number][-1] == "COMPLETED"
            assert (job["Restarts"] == "1") == (fold in record.halfway)
    for fold in record.halfway:
        log = (record.directory / TRAINING_LOG.format(fold)).read_text()
        resumed = re.search(rf"resumed after epoch (\d+) of {EPOCHS}", log)
        assert resumed
        assert 0 < int(resumed[1]) < EPOCHS


def test_a_job_killed_for_memory_came_back_with_more(record: Record) -> None:
    first, second = record.of("importance")
    assert (asked(first)["mem"], asked(second)["mem"]) == (f"{TOO_LITTLE}M", f"{4 * TOO_LITTLE}M")
    assert first["JobState"] in ("OUT_OF_MEMORY", "FAILED")
    assert second["JobState"] == "COMPLETED"


def test_memory_and_time_were_asked_for(record: Record) -> None:
    for job in record.jobs.values():
        assert asked(job)["mem"]
        assert job["TimeLimit"] != "UNLIMITED"
    (prediction,) = record.of("predict")
    assert 6000 < int(asked(prediction)["mem"].removesuffix("M")) < 6100  # and twice the images
