"""What training and debiasing cost, as a table."""

from pathlib import Path

from swift_debias.report import render
from swift_debias.report.costs import cost_table, read_costs
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    costs = read_costs(map(Path, snakemake.input))
    table = cost_table(costs, params.titles, params.synthetic)
    render.write(table, Path(snakemake.output[0]).parent)
    print(render.terminal(table))
