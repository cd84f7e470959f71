"""The jobs of a dry run as Snakemake's own objects, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    SchedulingSettings,
)

PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def jobs_of(
    folder: Path,
    config: Path | None,
    values: Mapping[str, Any] | None = None,
    targets: Collection[str] = (),
) -> Iterator[tuple[dict[str, list[Any]], dict[str, Any]]]:
    """Rule -> its jobs, and the names that the rules define, for a run in a folder.

    `values` are those of `--config`; without `targets` everything is planned.
    """
    with contextlib.chdir(folder), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(
                config=dict(values or {}), configfiles=[config] if config else []
            ),
            snakefile=PROJECT / "Snakefile",
        )
        dag = workflow.dag(DAGSettings(targets=set(targets)))
        greedy = SchedulingSettings(scheduler="greedy")
        dag.execute_workflow(executor="dryrun", scheduling_settings=greedy)
        jobs: dict[str, list[Any]] = {}
        for job in workflow._workflow.dag.jobs:
            jobs.setdefault(job.rule.name, []).append(job)
        yield jobs, workflow._workflow.globals
