"""Cells of tables: mean and standard deviation over folds of a metric.

Everything is read from the tidy metrics table (task, backbone, attribute, method, fold, dataset,
metric, value, n, reason); nothing is recomputed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

KEYS = ["task", "backbone", "attribute", "method", "dataset", "metric"]


class Cell(NamedTuple):
    """One table cell: mean and sample standard deviation over the folds that have a value."""

    mean: float  # NaN where no fold has a value
    std: float  # NaN with fewer than two folds
    n_folds: int  # folds that have a value
    n_null: int  # folds that have none
    reason: str | None  # why not, or what the value leaves out; the first fold's that has one


EMPTY = Cell(float("nan"), float("nan"), 0, 0, "not computed in this run")


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation (n - 1) over folds of every cell [paper's format].

    Args:
        metrics: columns of KEYS, fold, value, reason.

    Returns:
        One row a cell: KEYS, mean, std, n_folds, n_null, reason.
    """
    plain = metrics.astype(dict.fromkeys(KEYS, "object"))
    groups = plain.groupby(KEYS, sort=True)["value"]
    cells = groups.agg(mean="mean", std="std", n_folds="count", rows="size").reset_index()
    cells["n_null"] = cells.pop("rows") - cells["n_folds"]
    reasons = plain[plain["reason"].notna()].groupby(KEYS)["reason"].first().reset_index()
    return cells.merge(reasons, on=KEYS, how="left")


def lookup(metrics: pd.DataFrame) -> dict[tuple[str, ...], Cell]:
    """Every cell by its key (task, backbone, attribute, method, dataset, metric)."""
    frame = summarize(metrics)
    frame["reason"] = frame["reason"].astype("object").where(frame["reason"].notna(), None)
    values = frame[["mean", "std", "n_folds", "n_null", "reason"]].itertuples(index=False)
    keys = frame[KEYS].itertuples(index=False, name=None)
    return {key: Cell(*row) for key, row in zip(keys, values, strict=True)}


def cell(cells: Mapping[tuple[str, ...], Cell], *key: str) -> Cell:
    """The cell of (task, backbone, attribute, method, dataset, metric), or `EMPTY`."""
    return cells.get(key, EMPTY)


class Block(NamedTuple):
    """One part of an experiment: the rows (methods) and columns (test sets x metrics).

    `Block(**panel) for panel in plan.blocks(settings, experiment)` makes them.
    """

    task: str
    backbone: str
    attribute: str
    datasets: Sequence[str]
    methods: Sequence[str]
    metrics: Sequence[str]

    def cell_keys(self) -> list[tuple[str, ...]]:
        """Keys of the block's cells, row by row."""
        return [
            (self.task, self.backbone, self.attribute, method, dataset, metric)
            for method in self.methods
            for dataset in self.datasets
            for metric in self.metrics
        ]
