"""One table from its files: what rule `table` makes, and `swift-debias verify` makes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation import cells, plausibility
from ..run import results
from . import compared_groups, search_table, tables
from .published import published_lookup, read_published

FILES = ("metrics", "plausibility", "intervals", "groups", "searches")


def made(
    name: str, params: Mapping[str, Any], files: Mapping[str, Sequence[Path]], published: Path
) -> tables.Table:
    """Read and arrange.

    Args:
        name: of the experiment.
        params: `title`, `blocks`, `titles`, `groups`, `prune_by_group`, `searched`, `folds` and
            `synthetic` of rule `table`, as plain values.
        files: those of `FILES`.
        published: resources/published_results.csv.
    """
    _, budgets = search_table.read(files["searches"])
    searched = params["searched"]
    return tables.assemble(
        name,
        params["title"],
        [cells.Block(**block) for block in params["blocks"]],
        cells.lookup(results.joined(files["metrics"])),
        {} if params["synthetic"] else published_lookup(read_published(published)),
        params["titles"],
        params["synthetic"],
        marks=plausibility.marks(results.joined(files["plausibility"])),
        intervals=results.joined(files["intervals"]),
        remarks=[
            *compared_groups.remarks(files["groups"], params["groups"], params["prune_by_group"]),
            *search_table.budget(
                budgets,
                {owner: own["epochs"] for owner, own in searched.items()},
                {owner: own["title"] for owner, own in searched.items()},
                params["folds"],
            ),
        ],
    )
