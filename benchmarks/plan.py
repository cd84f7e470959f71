"""How long planning takes: dry runs at 1, 3 and 10 times the paper's experiments.

python -m benchmarks.plan [--scales 1 3 10] [--rounds 3] [--profile]

Every network and every view of config/config.yaml is there once, three or ten times (under other
names), so that there are as many times as many cells, tables and figures, over folders that exist
and are empty. CPU seconds of a fresh `snakemake -n -q`, its peak memory, the same without any job
(imports and parsing), and what share of the time is spent in this project's own code. One plan goes
before that is not measured: it parses the library, whose identities are kept then. Medians of the
rounds.

`bare` is a workflow that does nothing, of as many jobs, files and params: what Snakemake takes.
"""

from __future__ import annotations

import argparse
import json
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from benchmarks.common import machine

PROJECT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def scaled(scale: int) -> dict[str, Any]:
    """The paper's configuration with every network and view `scale` times."""
    config = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    backbones, views = config["backbones"], config["experiments"]
    config["backbones"], config["experiments"] = {}, {}
    for copy in range(scale):
        suffix = f"_{copy}" if copy else ""
        config["backbones"] |= {name + suffix: backbone for name, backbone in backbones.items()}
        for name, view in views.items():
            panels = [p | {"backbone": p["backbone"] + suffix} for p in view["panels"]]
            config["experiments"][name + suffix] = view | {"panels": panels}
    return config


# 25 inputs, 10 outputs and 11 params a job in the mean, as those of the paper's workflow have
BARE = """
ROWS = range(%d)
PARTS = range(10)
VALUES = {f"value{i}": i for i in range(11)}

rule all:
    input: expand("second/{row}/0", row=ROWS)

rule first:
    output: expand("first/{{row}}/{part}", part=PARTS)
    log: "logs/first/{row}"
    benchmark: "benchmarks/first/{row}"
    params: **VALUES
    shell: "touch {output}"

rule second:
    input:
        lambda wildcards: [
            f"first/{(int(wildcards.row) + step) %% len(ROWS)}/{part}"
            for step in range(5) for part in PARTS
        ]
    output: expand("second/{{row}}/{part}", part=PARTS)
    log: "logs/second/{row}"
    benchmark: "benchmarks/second/{row}"
    params: **VALUES
    shell: "touch {output}"
"""


def snakemake(folder: Path, file: Path, *arguments: str, flags: list[str]) -> dict[str, Any]:
    """Seconds and memory of one call, and what it printed; `file` is a Snakefile or a config."""
    command = [sys.executable, *flags, "-m", "snakemake", "--directory", str(folder)]
    if file.suffix == ".yaml":
        command += ["--snakefile", str(PROJECT / "Snakefile"), "--configfile", str(file)]
    else:
        command += ["--snakefile", str(file)]
    command += ["--cores", "1", "--scheduler", "greedy"]
    command += ["--rerun-triggers", "mtime", "params", "input", *arguments]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "seconds": seconds, "said": done.stdout, "memory": after.ru_maxrss}


def jobs_in(said: str) -> int:
    """The total of the table of jobs."""
    rows = [row.split() for row in said.splitlines()]
    return next((int(row[1]) for row in rows if row[:1] == ["total"] and len(row) == 2), 0)


def own_share(profile: Path) -> dict[str, float]:
    """Share of the profiled time in this project's functions, with all they call."""
    stats: dict[Any, Any] = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    shares: dict[str, float] = {}
    for (file, _, function), (_, _, _, cumulative, callers) in stats.items():
        inside = any("/workflow/" in caller[0] for caller in callers)
        if file.startswith(str(PROJECT / "workflow")) and not inside:
            name = f"{Path(file).name}: {function}"
            shares[name] = shares.get(name, 0) + cumulative / total
    largest = sorted(shares, key=shares.__getitem__, reverse=True)[:6]
    return {name: round(shares[name], 3) for name in largest}


def bare(folder: Path, jobs: int) -> float:
    """Milliseconds a job of a workflow of as many jobs that does nothing, without its start."""
    file, empty = folder / f"Snakefile{jobs}", folder / f"bare{jobs}"
    file.write_text(BARE % (jobs // 2))
    empty.mkdir(exist_ok=True)
    done = snakemake(empty, file, "-n", "-q", "rules", flags=[])
    parsed = snakemake(empty, file, "--list-rules", flags=[])
    return round(1000 * (done["cpu"] - parsed["cpu"]) / jobs, 1)


def ends(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    found = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def measure(folder: Path, scale: int, rounds: int, profile: bool) -> dict[str, Any]:
    """One scale."""
    config = folder / f"scale{scale}.yaml"
    config.write_text(json.dumps(scaled(scale)))
    planned, parsed = [], []
    for _ in range(rounds):
        planned.append(snakemake(folder, config, "-n", "-q", "rules", flags=[]))
        parsed.append(snakemake(folder, config, "--list-rules", flags=[])["cpu"])
    jobs, cpu = jobs_in(planned[0]["said"]), [done["cpu"] for done in planned]
    each = [1000 * (all_ - none) / jobs for all_, none in zip(cpu, parsed, strict=True)]
    report = {
        "jobs": jobs,
        "cpu seconds": ends(cpu),
        "seconds": round(statistics.median(done["seconds"] for done in planned), 1),
        "of which imports and parsing": round(statistics.median(parsed), 1),
        "milliseconds a job": round(statistics.median(each), 1),
        "peak memory (MB)": round(planned[0]["memory"] / 1024),
        "bare: milliseconds a job": bare(folder, jobs),
    }
    if profile:
        path = folder / "profile"
        snakemake(folder, config, "-n", "-q", "rules", flags=["-m", "cProfile", "-o", str(path)])
        report["share of own functions"] = own_share(path)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="own share as well (slow)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dataset in yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())["datasets"]:
            (folder / "data" / dataset).mkdir(parents=True)
        measure(folder, 1, 1, profile=False)
        results = {
            str(scale): measure(folder, scale, options.rounds, options.profile)
            for scale in options.scales
        }
    report = {
        "benchmark": "plan",
        "settings": vars(options),
        "machine": machine() | {"snakemake": version("snakemake")},
        "results": results,
    }
    text = json.dumps(report, indent=1)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plan.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
