"""What training and debiasing cost, as a table."""

from pathlib import Path

from swift_debias.files import write_parquet
from swift_debias.report import render
from swift_debias.report.costs import cost_table, read_costs, trained_in
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    files = [Path(file) for file in snakemake.input]
    remarks = trained_in(files)
    costs = read_costs(files)
    table = cost_table(costs, params.titles, params.synthetic, remarks)
    write_parquet(costs, snakemake.output.costs)
    render.write(table, Path(snakemake.output.table[0]).parent)
    print(render.terminal(table))
