"""Draw the synthetic raw folder of one data set."""

from pathlib import Path

from swift_debias.config.schema import Synthetic
from swift_debias.data import synthetic
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    drawn = Synthetic(**params.drawn["settings"])
    synthetic.write(params.drawn["name"], drawn, params.seed, Path(snakemake.output[0]))
