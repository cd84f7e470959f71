"""What one debiasing job does: all folds of a setup, or one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dag import PROJECT, jobs_of

RULES = ("first_step", "debias", "debias_again")
CHANGES = {"repeats": 2, "only": ["table5"]}


def plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list | tuple) else str(value)


def planned(folder: Path, job: str) -> dict[str, list[dict[str, Any]]]:
    """Of each debiasing rule, what its jobs read, are told and make."""
    with jobs_of(
        folder, PROJECT / "config/demo.yaml", CHANGES | {"compute": {"debias_job": job}}
    ) as (
        jobs,
        _,
    ):
        return {
            rule: [
                {
                    "output": sorted(map(str, each.output)),
                    "input": sorted(map(str, each.input)),
                    "params": {k: str(v) for k, v in each.params.items() if k != "compute"},
                    "runtime": each.resources["runtime"],
                    "files": (str(each.log), str(each.benchmark)),
                }
                for each in jobs[rule]
            ]
            for rule in RULES
        }


@pytest.mark.key("compute.debias_job")
def test_a_job_a_fold_makes_what_a_job_of_all_makes_from_the_same(
    tmp_path: Path,
) -> None:
    whole, single = (planned(tmp_path, job) for job in ("setup", "fold"))
    for rule in RULES:
        assert len(single[rule]) == 2 * len(whole[rule])  # the demo has two folds
        owner = {name: job for job in whole[rule] for name in job["output"]}
        for job in single[rule]:
            folds = {
                next(p for p in name.split("/") if p.startswith("fold")) for name in job["output"]
            }
            assert len(folds) == 1
            all_folds = owner[job["output"][0]]
            # equal inputs and params: Snakemake reruns nothing that the other way has made
            assert (job["input"], job["params"]) == (all_folds["input"], all_folds["params"])
            assert set(job["output"]) < set(all_folds["output"])
            assert job["runtime"] <= all_folds["runtime"]
        made = [name for job in single[rule] for name in job["output"]]
        assert sorted(made) == sorted(owner)
        beside = [name for job in single[rule] for name in job["files"]]
        assert len(set(beside)) == len(beside)
