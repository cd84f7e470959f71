"""What training and debiasing cost, as a table."""

from pathlib import Path

from swift_debias import tables
from swift_debias.job import logged

with logged(snakemake):
    params = snakemake.params
    costs = tables.read_costs(map(Path, snakemake.input))
    table = tables.cost_table(costs, params.titles, params.synthetic)
    tables.write(table, Path(snakemake.output[0]).parent)
    print(tables.terminal(table))
