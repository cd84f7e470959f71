"""What training and debiasing cost, as a table, and what each stage of the workflow took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..evaluation.cells import KEYS, Block, lookup
from ..files import damaged, read_json
from ..run import layout
from .tables import Table, assemble

COSTS = ("seconds", "peak_memory_mb", "images_seen", "parameters_changed", "buffers_changed")
SEARCH_COSTS = ("search_seconds", "search_images_seen")  # of a fold; 0 where nothing is searched
PRETRAINING = "pretraining"


def read_costs(files: Iterable[Path]) -> pd.DataFrame:
    """What training and debiasing cost, as metrics rows without a data set.

    Args:
        files: `baseline_cost` and `cost` of `run.layout`; each an object with some of seconds,
            peak_memory_mb, images_seen, parameters_changed, buffers_changed, and of the search.

    Returns:
        KEYS, fold, value, n, reason. The Baseline's training has the method `pretraining` and no
        attribute ('').
    """
    rows = []
    for path in sorted(files):
        debiased = "debiased" in path.parts
        found = layout.keys("cost" if debiased else "baseline_cost", path)
        own = {"attribute": "", "method": PRETRAINING, "dataset": ""} | found
        keys, fold = [own[key] for key in KEYS[:-1]], int(found["fold"])
        cost = read_json(path)
        for name in COSTS:
            value = cost.get(name)
            rows.append((*keys, name, fold, value, 1, "not recorded" if value is None else None))
        rows += [(*keys, name, fold, cost.get(name, 0), 1, None) for name in SEARCH_COSTS]
    frame = pd.DataFrame(rows, columns=[*KEYS, "fold", "value", "n", "reason"])
    return frame.astype({"value": "float64"})


def trained_in(files: Iterable[Path]) -> tuple[str, ...]:
    """Sentences about the precisions of the trainings: all of them, and where they are mixed.

    Jobs of one task train in one precision unless different kinds of machines took part.

    Args:
        files: as of `read_costs`.
    """
    found: dict[str, Counter[str]] = {}
    for path in sorted(files):
        name = "cost" if "debiased" in path.parts else "baseline_cost"
        precision = read_json(path).get("precision", "not recorded")
        found.setdefault(layout.keys(name, path)["task"], Counter())[precision] += 1
    said = []
    for task, counts in found.items():
        each = ", ".join(f"{precision} ({n} jobs)" for precision, n in sorted(counts.items()))
        mixed = len(counts) > 1
        said.append(
            f"Precision of the trainings of {task}: {each}."
            + " They are mixed: set compute.precision to have one." * mixed
        )
    return tuple(said)


def cost_table(
    costs: pd.DataFrame,
    titles: Mapping[str, str],
    synthetic: bool,
    remarks: tuple[str, ...] = (),
) -> Table:
    """Cost of each method beside the Baseline's training, a block a (task, backbone, attribute).

    What a search cost has columns of its own where a method of the run was searched.

    Args:
        costs: as `read_costs` gives them.
        titles: display names of the methods; their order is the rows' order.
        synthetic: the data are made up; the caption says so.
        remarks: sentences below it (`trained_in`).
    """
    training = costs[costs["method"] == PRETRAINING]
    debiasing = costs[costs["method"] != PRETRAINING]
    searched = debiasing[debiasing["metric"].isin(SEARCH_COSTS)]["value"].gt(0).any()
    shown = (*COSTS, *(SEARCH_COSTS if searched else ()))
    parts, rows = [], [debiasing]
    for key, group in debiasing.groupby(["task", "backbone", "attribute"]):
        task, backbone, attribute = map(str, key)
        used = set(group["method"])
        methods = (PRETRAINING, *(m for m in titles if m in used))
        parts.append(Block(task, backbone, attribute, ("",), methods, shown))
        same = (training["task"] == task) & (training["backbone"] == backbone)
        rows.append(training[same].assign(attribute=attribute))
    table = assemble(
        "cost",
        "What training and debiasing cost, a fold",
        parts,
        lookup(pd.concat(rows, ignore_index=True)),
        {},
        {**titles, PRETRAINING: "Baseline (training)"},
        synthetic,
        best=False,
    )
    return replace(table, remarks=(*table.remarks, *remarks))


def stage_times(folder: Path) -> pd.DataFrame:
    """What each stage of the run cost, from Snakemake's benchmark files, the longest first.

    Args:
        folder: `benchmarks/`, with `{rule}.tsv` or `{rule}/.../*.tsv`.

    Returns:
        stage, jobs, seconds (summed over jobs), longest job (s), peak memory (MB) of a job.
    """
    jobs = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = layout.rule_of(path, folder)
        try:
            record = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
            jobs += [(rule, row.s, row.max_rss) for row in record.itertuples()]
        except (ValueError, AttributeError):  # Snakemake's own file; it has no digest
            raise damaged(path, "it is no benchmark of Snakemake's") from None
    frame = pd.DataFrame(jobs, columns=["stage", "s", "max_rss"])
    stages = frame.groupby("stage", as_index=False).agg(
        jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), peak=("max_rss", "max")
    )
    names = {"longest": "longest job (s)", "peak": "peak memory (MB)"}
    return stages.sort_values("seconds", ascending=False, ignore_index=True).rename(columns=names)
