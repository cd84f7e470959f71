"""One tidy table of every metric."""

from swift_debias.files import write_parquet
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    write_parquet(results.joined(snakemake.input), snakemake.output[0])
