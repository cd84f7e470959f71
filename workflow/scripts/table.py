"""Write one table in four formats."""

from pathlib import Path

from swift_debias.evaluation import cells, plausibility
from swift_debias.report import compared_groups, render, search_table, tables
from swift_debias.report.published import published_lookup, read_published
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    ours = cells.lookup(results.joined(snakemake.input.metrics))
    published = read_published(Path(snakemake.input.published))
    groups = map(Path, snakemake.input.get("groups", []))
    _, budgets = search_table.read(map(Path, snakemake.input.get("searches", [])))
    table = tables.assemble(
        snakemake.wildcards.table,
        params.title,
        [cells.Block(**block) for block in params.blocks],
        ours,
        {} if params.synthetic else published_lookup(published),
        params.titles,
        params.synthetic,
        marks=plausibility.marks(results.joined(snakemake.input.plausibility)),
        intervals=results.joined(snakemake.input.intervals),
        remarks=[
            *compared_groups.remarks(groups, params.groups, params.prune_by_group),
            *search_table.budget(
                budgets,
                {name: own["epochs"] for name, own in params.searched.items()},
                {name: own["title"] for name, own in params.searched.items()},
                params.folds,
            ),
        ],
    )
    render.write(table, Path(snakemake.output[0]).parent)
    print(render.terminal(table))
