"""What jobs ask for, without a cluster: the profiles beside the rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
RULES = "\n".join(path.read_text() for path in (PROJECT / "workflow" / "rules").glob("*.smk"))
SLURM = yaml.safe_load((PROJECT / "profiles" / "slurm" / "config.yaml").read_text())
TOY = """
rule all:
    input: expand("{n}.txt", n=range(3))
rule job:
    output: "{n}.txt"
    resources: gpu=1
    shell: "date +%s.%N > {output}; sleep 1; date +%s.%N >> {output}"
"""


def blocks() -> dict[str, str]:
    """The text of each rule."""
    parts = re.split(r"^ *rule (\w+):$", RULES, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run(*arguments: str, **options) -> str:
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_who_uses_a_gpu_asks_for_one() -> None:
    users = set()
    for path in (PROJECT / "workflow/scripts").rglob("*.py"):
        drawing = path.parent.name == "figures"  # computed by a rule's script for all drawings
        script = path.parent.name == "scripts"  # of a rule, not of the library
        if (drawing or script) and "prepare_device(" in path.read_text():
            users.add("figure_arrays" if drawing else path.stem)
    given = {"train_baseline", "importance", "search", "debias", "predict", "figure_arrays"}
    assert users == given
    users.add("first_step")  # by the script of rule debias
    assert {name for name, text in blocks().items() if "gpu=1," in text} == users
    users.add("debias_again")  # which has all of debias that it does not say itself
    assert not users & {entry.split("=")[0] for entry in SLURM["groups"]}


def test_a_rule_with_threads_asks_for_cpus() -> None:
    """`--cores all` cuts threads to the submitting machine's cores, and leaves resources alone."""
    threads = {
        name: found[1]
        for name, text in blocks().items()
        if (found := re.search(r"^    threads: (.+)$", text, flags=re.MULTILINE))
    }
    assert "cache_images" in threads
    for name, number in threads.items():
        assert f"        cpus_per_task={number}," in blocks()[name], name


def test_each_job_fits_one_of_two_partitions() -> None:
    partitions = yaml.safe_load((PROJECT / "profiles/slurm/partitions.yaml").read_text())
    with_cards = [name for name, own in partitions["partitions"].items() if own.get("max_gpu")]
    assert (list(partitions["partitions"]), with_cards) == (["cpu", "gpu"], ["gpu"])
    node = dict(entry.split("=") for entry in SLURM["resources"])
    for own in partitions["partitions"].values():  # what a job may ask for it is given
        for limit, name in (("runtime", "runtime"), ("mem_mb", "mem_mb")):
            assert own[f"max_{limit}"] >= int(node[name])
        assert own["max_cpus_per_task"] >= int(node["cpus_per_task"])
    assert "slurm_partition" not in (PROJECT / "profiles/slurm/config.yaml").read_text()


def test_no_rule_retries_inside_its_allocation() -> None:
    assert "retries:" not in RULES
    assert SLURM["retries"] > 0


def planned(directory: Path, attempt: int) -> dict[str, str]:
    """What decoding the paper's images would ask for, submitted from a machine of one core."""
    cores = os.sched_getaffinity(0)
    said = run(
        *("--profile", "profiles/slurm", "--cores", "all", "--directory", str(directory)),
        *("-n", "--attempt", str(attempt), "--", "results/paper/images/isic2017.npy"),
        preexec_fn=lambda: os.sched_setaffinity(0, {min(cores)}),
    )
    block = said[said.index("rule cache_images:") :]
    resources = re.search(r"resources: (.+)", block)
    assert resources
    return dict(part.split("=") for part in resources[1].split(", "))


def test_the_owners_command_asks_for_all_cpus_and_more_at_each_attempt(tmp_path: Path) -> None:
    for name in yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())["datasets"]:
        (tmp_path / "data" / name).mkdir(parents=True)
    first, second, tenth = (planned(tmp_path, attempt) for attempt in (1, 2, 10))
    assert first["cpus_per_task"] == "8"
    for name in ("mem_mb", "runtime"):
        assert int(second[name]) == 2 * int(first[name])
    node = dict(entry.split("=") for entry in SLURM["resources"])
    assert tenth["mem_mb"] == node["mem_mb"]  # never more than a node has


@pytest.mark.parametrize(("cards", "together"), [(1, False), (2, True)])
def test_no_two_jobs_share_a_card_unless_asked(tmp_path: Path, cards: int, together: bool) -> None:
    (tmp_path / "Snakefile").write_text(TOY)
    asked = [] if cards == 1 else ["--resources", f"gpu={cards}"]
    run(
        *("--snakefile", str(tmp_path / "Snakefile"), "--directory", str(tmp_path)),
        *("--profile", "profiles/local", "--cores", "3", *asked),
    )
    times = [[float(t) for t in (tmp_path / f"{n}.txt").read_text().split()] for n in range(3)]
    overlaps = [a[0] < b[1] and b[0] < a[1] for a, b in combinations(times, 2)]
    assert any(overlaps) == together
    assert not all(overlaps)
