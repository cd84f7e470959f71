"""Write one table in four formats."""

from pathlib import Path

import pandas as pd

from swift_debias import tables
from swift_debias.job import logged

with logged(snakemake):
    params = snakemake.params
    ours = tables.lookup(pd.read_parquet(str(snakemake.input.metrics)))
    published = tables.read_published(Path(snakemake.input.published))
    table = tables.assemble(
        snakemake.wildcards.table,
        params.title,
        [tables.Block(**block) for block in params.blocks],
        ours,
        {} if params.synthetic else tables.published_lookup(published),
        params.titles,
        params.synthetic,
    )
    tables.write(table, Path(snakemake.output[0]).parent)
    print(tables.terminal(table))
