"""Jobs of a run with --keep-going fail: a report of what there is, that names what is missing.

A tiny run (tests/tiny.py) in a copy of the project: in one setup a method diverges, of another the
metrics cannot be computed, a figure cannot be drawn. All is mended then, and the same command ends
in the results of a run that nothing happened to.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import cut, tiny

RUN = tiny.RUN
AGE = {**tiny.PANEL, "attribute": "age", "methods": ["baseline", "swift"]}
BROKEN = {
    "evaluate.py": 'if snakemake.wildcards.attribute == "age": raise RuntimeError("no metrics")',
    "figure.py": 'if snakemake.wildcards.figure == "bias": raise RuntimeError("no drawing")',
}


def settings(data: Path, lr: float) -> dict[str, Any]:
    """Two setups; table 2 shows the method that diverges alone, table 3 the other setup alone."""
    both = tiny.table("baseline", "swift", "llft")
    found = tiny.config(
        data,
        {
            "table1": both | {"panels": [tiny.PANEL, AGE]},
            "table2": tiny.table("llft"),
            "table3": both | {"panels": [AGE]},
            "pareto": tiny.figure("pareto", "baseline", "swift", "llft"),
            "bias": tiny.figure("bias", "baseline"),
        },
    )
    found["tasks"]["lesion"]["tests"]["age"] = ["test"]
    found["methods"] = {name: {"algorithm": name} for name in ("baseline", "swift", "llft")}
    found["methods"]["llft"]["lr"] = lr
    return found


def run(project: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """As a user types it, in the folder above: the second run has to find what he named."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy"]
    command += ["--keep-going", "--rerun-triggers", "mtime", "params", "input"]
    command += ["--snakefile", f"{project.name}/Snakefile", "--directory", project.name]
    command += ["--configfile", f"{project.name}/tiny.yaml", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=project.parent, capture_output=True, text=True, timeout=300, env=environment
    )


def rows(project: Path) -> pd.DataFrame:
    """The metrics of the run."""
    return pd.read_parquet(project / RUN / "metrics.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unfinished") / "project"
    cut.copy_project(folder)
    tiny.write_data(folder / "data", 96, 36)
    return folder


@pytest.mark.ci
def test_a_report_of_what_there_is(project: Path) -> None:
    whole = {name: (project / "workflow/scripts" / name).read_text() for name in BROKEN}
    for name, line in BROKEN.items():
        begin = "with logged(snakemake):\n"
        broken = whole[name].replace(begin, f"{begin}    {line}\n")
        (project / "workflow/scripts" / name).write_text(broken)
    tiny.write_config(project / "tiny.yaml", settings(project / "data", 1e30))
    done = run(project)
    said = done.stdout + done.stderr
    assert done.returncode == 1, "the run has not ended well, and says so"
    assert "A report of what there is follows" in said, said[-4000:]

    # What failed, once each: nothing that failed is tried again. The figure was not tried in the
    # first run, since it waits for the setup whose method diverged; it fails in the second.
    note = json.loads((project / RUN / "unfinished.json").read_text())
    failed = {job: why for job, why, _ in note["failed"]}
    assert set(failed) == {
        "debias lesion, small, sex, llft",
        "evaluate lesion, small, age",
        "figure bias",
    }
    assert "not finite" in failed["debias lesion, small, sex, llft"]
    assert failed["evaluate lesion, small, age"] == "RuntimeError: no metrics"
    for rule in ("debias", "evaluate", "figure"):
        assert said.count(f"Error in rule {rule}:") == 1, rule

    # what is there, and what the report and the terminal say of the rest
    shown = rows(project)
    assert set(shown["attribute"]) == {"sex"}
    assert set(shown["method"]) == {"baseline", "swift"}
    [section] = re.findall('<section id="missing">.*?</section>', report(project), flags=re.DOTALL)
    cells = re.findall("<td>(.*?)</td>", section)
    places = ("debias/lesion/small/sex/llft", "evaluate/lesion/small/age", "figure/bias")
    logs = [f"{RUN}/logs/{place}.log" for place in places]
    assert [cells[i : i + 3] for i in range(0, len(cells), 3)] == [
        *([job, why, log] for (job, why), log in zip(failed.items(), logs, strict=True)),
        ["table1", "lesion, small, sex", "llft"],
        ["table1", "lesion, small, age", "all methods"],
        ["table2", "", "not made"],
        ["table3", "", "not made"],
        ["pareto", "lesion, small, sex", "llft"],
        ["bias", "", "not made"],
    ]
    assert "- pareto without llft of lesion, small, sex" in said
    assert "- failed: figure bias: RuntimeError: no drawing" in said
    assert {path.name for path in (project / RUN / "tables").glob("table*.csv")} == {"table1.csv"}

    # mended: the same command makes the rest and the whole report; what was shown was right
    for name, text in whole.items():
        (project / "workflow/scripts" / name).write_text(text)
    tiny.write_config(project / "tiny.yaml", settings(project / "data", 0.01))
    done = run(project)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "What is missing" not in report(project) + done.stdout
    assert not (project / RUN / "unfinished.json").exists()
    after = rows(project)
    assert len(set(map(tuple, after[["attribute", "method"]].to_numpy()))) == 5
    keys = [name for name in shown.columns if name not in ("value", "reason")]
    both = shown.merge(after, on=keys, suffixes=("", "_after"))
    assert len(both) == len(shown)
    pd.testing.assert_series_equal(both["value"], both["value_after"], check_names=False)
    assert "Nothing to be done" in run(project, "-n").stdout


def report(project: Path) -> str:
    """The page, as text."""
    return (project / RUN / "report.html").read_text()
