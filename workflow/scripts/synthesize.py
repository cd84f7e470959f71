"""Draw the synthetic raw folder of one data set (demo only)."""

from pathlib import Path

from swift_debias.config.schema import Synthetic
from swift_debias.data import synthetic
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    synthetic.write(
        params.adapter, Synthetic(**params.synthetic), params.seed, Path(snakemake.output[0])
    )
