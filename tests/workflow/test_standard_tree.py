"""The workflow in its standard place: entered through workflow/Snakefile, and used as a module."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests import warm

PROJECT = Path(__file__).resolve().parents[2]
MANIFEST = "results/demo/manifests/ddi.parquet"
MODULE = f"""
configfile: "config/demo.yaml"

module swift:
    snakefile: "{PROJECT / "workflow" / "Snakefile"}"
    config: config

use rule * from swift as swift_*
"""


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Rule -> jobs of a dry run."""
    done = warm.run(
        "snakemake", "--dry-run", "--scheduler", "greedy", *arguments, cwd=folder, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    jobs = re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)
    return {rule: int(count) for rule, count in jobs}


@pytest.mark.slow
def test_through_the_standard_place_everything_is_planned(tmp_path: Path) -> None:
    """Its default target is that of the Snakefile above: an included file cannot set one."""
    config = ("--configfile", str(PROJECT / "config" / "demo.yaml"))
    jobs, above = (
        planned(tmp_path, "--snakefile", str(PROJECT / snakefile), *config)
        for snakefile in ("workflow/Snakefile", "Snakefile")
    )
    assert jobs.pop("default") == above.pop("all") == 1
    assert jobs == above


@pytest.mark.slow
def test_as_a_module_of_another_workflow(tmp_path: Path) -> None:
    """Scripts, environments and the base of `extends` are found from where this workflow lies."""
    (tmp_path / "Snakefile").write_text(MODULE)
    (tmp_path / "config").mkdir()
    shutil.copy(PROJECT / "config" / "demo.yaml", tmp_path / "config")
    jobs = planned(tmp_path, "--", MANIFEST)
    assert jobs == {"swift_synthesize": 1, "swift_build_manifest": 1, "total": 2}
