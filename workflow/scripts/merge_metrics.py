"""One tidy table of every metric, and one of what to mind about them."""

from swift_debias.files import write_parquet
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    for name, files in snakemake.input.items():
        write_parquet(results.joined(files), snakemake.output[name])
