"""A run whose command line says much: nothing that a job needs is lost, and time limits only delay.

`--set-resources` and `--default-resources` take away a profile's blocks of these names. Both are
given here, and a file of what the cluster wants (cluster.yaml). One training is held up until SLURM
kills it for its time; it comes back with more and carries on from its last epoch.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import cut
from tests.slurm.cluster import Cluster, why_not
from tests.slurm.test_slurm import CHECKPOINT, IMAGES, TRAINING_LOG, Record, start

EPOCHS = 40
CPUS = 4
TARGETS = [f"results/cut/importance/cxr/small_resnet/sex/fold{fold}.safetensors" for fold in (0, 1)]
HELD = 0  # the fold whose training is held up
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def config() -> str:
    """Trainings that save their state after every epoch."""
    panel = {"task": "cxr", "backbone": "small_resnet", "attribute": "sex"}
    table = {"kind": "table", "title": "A cut", "methods": ["baseline", "swift"], "panels": [panel]}
    task = {
        "images": {"size": 24},
        "pretraining": {"epochs": EPOCHS},
        "finetuning": {"epochs_percent": 5, "min_cell": 2},
    }
    compute = {"device": "cpu", "checkpoint_seconds": 0}
    return cut.config("cut", IMAGES, {"cxr": task}, {"table1": table}, compute=compute)


def command(directory: Path) -> list[str]:
    """The owner's command with both kinds of resources, shorter waits and a small node."""
    words = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--cores", "all"]
    words += ["--directory", str(directory), "--configfile", str(directory / "cut.yaml")]
    words += ["--resources", f"cpus_per_task={CPUS}", "mem_mb=16000", "turn=1"]
    words += ["--set-resources", "train_baseline:runtime=attempt", "importance:mem_mb=3000"]
    words += ["--default-resources", "nodes=1"]
    words += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "20"]
    words += ["--slurm-array-jobs", "cache_images"]
    return [*words, "--", *TARGETS]


def processes(directory: Path, script: str) -> list[int]:
    """The processes that run a script of the workflow in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").readlink() == directory
        except OSError:  # it has ended, or is not ours
            continue
        if here and any(word.endswith(f".{script}.py".encode()) for word in words[:3]):
            found.append(int(entry.name))
    return found


def hold_up(directory: Path) -> bool:
    """Stop the training of a fold whose first epoch is saved; whether there was one."""
    if not (directory / CHECKPOINT.format(HELD)).exists():
        return False
    log = str(directory / TRAINING_LOG.format(HELD))
    for process in processes(directory, "train_baseline"):
        opened = Path(f"/proc/{process}/fd").iterdir()
        if any(str(entry.readlink()) == log for entry in opened):
            os.kill(process, signal.SIGSTOP)
            return True
    return False


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    record = Record(tmp_path_factory.mktemp("slurm").resolve())
    (record.directory / "cut.yaml").write_text(config())
    wants = record.directory / "cluster.yaml"
    wants.write_text("gres: gpu:fake:1\nextra: --nice=7\nstage: true\n")
    node = record.directory / "node"
    node.mkdir()
    log, held = record.directory / "snakemake.log", False
    with Cluster(cpus=CPUS) as cluster:
        environment = cluster.environment | {"SWIFT_CLUSTER": str(wants), "TMPDIR": str(node)}
        run = start(command(record.directory), log, environment)
        deadline = time.monotonic() + 800
        try:
            while run.poll() is None:
                late = f"the run takes too long:\n{log.read_text()[-4000:]}\n{record.text()}"
                assert time.monotonic() < deadline, late
                record.see(cluster.jobs())
                held = held or hold_up(record.directory)
                time.sleep(0.2)
            record.see(cluster.jobs())
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)  # it cancels its jobs
                try:
                    run.wait(60)
                except subprocess.TimeoutExpired:
                    run.kill()
    said = record.text()
    print("\n" + said)
    assert run.returncode == 0, log.read_text()[-4000:] + said
    assert held
    yield record


def test_each_job_got_the_partition_that_it_needs(record: Record) -> None:
    rules = {job["Comment"].split("_wildcards")[0] for job in record.jobs.values()}
    assert {"rule_train_baseline", "rule_importance", "rule_cache_images"} <= {
        re.sub("_(cxr|mimic|nih|chexpert).*", "", rule) for rule in rules
    }
    for rule in ("train_baseline", "importance"):
        for job in record.of(rule):
            assert job["Partition"] == "gpu", rule
            assert "gpu:fake:1" in job["TresPerNode"], rule
    others = [
        job
        for job in record.jobs.values()
        if not re.match("rule_(train_baseline|importance)", job["Comment"])
    ]
    assert len(others) > 3
    for job in others:
        assert job["Partition"] == "cpu"
        assert "gpu" not in job.get("TresPerNode", "")


def test_what_the_command_line_does_not_name_is_kept(record: Record) -> None:
    memory = {
        rule: [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in record.of(rule)]
        for rule in ("importance", "train_baseline", "cache_images")
    }
    assert set(memory["importance"]) == {3000}  # as it was told
    # a rule asks for more at each attempt: the training that was killed for time had two
    assert [round(found / 6000) for found in sorted(memory["train_baseline"])] == [1, 1, 2]
    assert set(memory["cache_images"]) == {2001}  # in an array the plugin adds a MiB
    for job in record.jobs.values():
        assert job["TimeLimit"] != "UNLIMITED"
        assert job["NumCPUs"] == "1"
        assert job["Nice"] == "7"


def test_an_array_of_jobs(record: Record) -> None:
    """One sbatch for all data sets, and each task made its own."""
    tasks = record.of("cache_images")
    assert len({job["ArrayJobId"] for job in tasks}) == 1
    assert sorted(job["ArrayTaskId"] for job in tasks) == [str(n + 1) for n in range(len(tasks))]
    made = {path.stem for path in (record.directory / "results/cut/images").glob("*.npy")}
    assert len(made) == len(tasks) > 1
    manifests = record.directory / "results/cut/manifests"
    assert made == {path.stem for path in manifests.glob("*.parquet")}


def test_a_training_that_was_killed_for_time_carried_on(record: Record) -> None:
    jobs = [job for job in record.of("train_baseline") if job["Comment"].endswith(str(HELD))]
    first, second = (record.states[number] for number in sorted(int(j["JobId"]) for j in jobs))
    assert first[-1] == "TIMEOUT"
    assert second[-1] == "COMPLETED"
    assert [job["TimeLimit"] for job in jobs] == ["00:01:00", "00:02:00"]
    log = (record.directory / TRAINING_LOG.format(HELD)).read_text()
    resumed = re.search(rf"resumed after epoch (\d+) of {EPOCHS}", log)
    assert resumed
    assert 0 < int(resumed[1]) < EPOCHS


def test_what_slurm_says_of_the_killed_job_is_kept(record: Record) -> None:
    kept = [*(record.directory / "results" / "slurm").rglob("*.log")]
    assert any("DUE TO TIME LIMIT" in path.read_text() for path in kept)


def test_caches_were_read_from_the_node(record: Record) -> None:
    for fold in (0, 1):
        log = (record.directory / TRAINING_LOG.format(fold)).read_text()
        assert f"copied to {record.directory / 'node'}/" in log
