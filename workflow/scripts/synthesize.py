"""Draw the synthetic raw folder of one data set (demo only)."""

from pathlib import Path

from swift_debias.datasets import synthetic
from swift_debias.job import logged
from swift_debias.settings import Synthetic

with logged(snakemake):
    params = snakemake.params
    synthetic.write(
        params.adapter, Synthetic(**params.synthetic), params.seed, Path(snakemake.output[0])
    )
