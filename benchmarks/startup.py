"""What a job costs before it works: the interpreter and the imports of each rule's script.

    python -m benchmarks.startup [--run results/demo]

Each script's own top-level imports are run in a fresh interpreter (CPU seconds and seconds; the
files are in the page cache), beside an empty interpreter. `heaviest` are the modules with the
largest cumulative import time of `python -X importtime`. torchvision is left out: it is imported
where a network is built, not at the top of a script. Where the run is finished, its folder holds
Snakemake's own measurements, and the share of the fixed cost in the CPU time of each rule's jobs is
given (Snakemake's own fixed cost of 0.2 s for each job comes on top).
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.common import parser, write

PROJECT = Path(__file__).parents[1]
SCRIPTS = PROJECT / "workflow" / "scripts"


def imports(script: Path) -> str:
    """The import statements of a script, wherever in it they are."""
    tree = ast.parse(script.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in found)


def run(code: str, *flags: str) -> tuple[float, float, str]:
    """CPU seconds, seconds and standard error of a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *flags, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, seconds, done.stderr


def heaviest(code: str, count: int = 4) -> dict[str, float]:
    """Top packages by cumulative import time, seconds."""
    rows = [line.split("|") for line in run(code, "-X", "importtime")[2].splitlines()]
    times = {
        parts[2].strip(): int(parts[1]) / 1e6
        for parts in rows
        if len(parts) == 3 and parts[1].strip().isdigit() and "." not in parts[2]
    }
    largest = sorted(times, key=times.__getitem__, reverse=True)[:count]
    return {name: round(times[name], 2) for name in largest}


def of_a_run(folder: Path) -> dict[str, dict[str, float]]:
    """Rule -> jobs, seconds and CPU seconds in all, from the tables that Snakemake wrote."""
    out = {}
    for rule in sorted(p for p in folder.glob("*") if p.exists()):
        files = sorted(rule.rglob("*.tsv")) if rule.is_dir() else [rule]
        tables = [pd.read_csv(file, sep="\t", na_values="-") for file in files]
        if tables:
            table = pd.concat(tables)
            out[rule.name.removesuffix(".tsv")] = {
                "jobs": len(table),
                "seconds": round(float(table["s"].sum()), 1),
                "cpu_seconds": round(float(table["cpu_time"].sum()), 1),
                "peak_rss_mib": round(float(table["max_rss"].max()), 0),
            }
    return out


def measure(options: argparse.Namespace) -> dict[str, Any]:
    scripts = sorted(SCRIPTS.glob("*.py"))
    codes = {"(empty)": "pass"} | {script.stem: imports(script) for script in scripts}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    for _ in range(1 + options.repeats):  # the first fills the page cache
        for name, code in codes.items():
            times[name].append(run(code)[:2])
    jobs = of_a_run(options.run / "benchmarks")
    out: dict[str, Any] = {}
    for name, code in codes.items():
        cpu, seconds = (statistics.median(column) for column in zip(*times[name][1:], strict=True))
        out[name] = {"cpu_seconds": round(cpu, 3), "seconds": round(seconds, 3)}
        if cpu > 1:
            out[name]["heaviest"] = heaviest(code)
        if name in jobs:
            fixed = jobs[name]["jobs"] * cpu
            out[name] |= {
                "run": jobs[name],
                "share_of_the_run": round(fixed / max(jobs[name]["cpu_seconds"], fixed), 3),
            }
    return out


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    finished = PROJECT / "results" / "demo"
    options_of.add_argument("--run", type=Path, default=finished, help="folder of a finished run")
    options = options_of.parse_args(arguments)
    options.repeats = 1 if options.quick else options.repeats
    write("startup", options, measure(options))


if __name__ == "__main__":
    main()
