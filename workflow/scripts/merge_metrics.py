"""One tidy table of every metric."""

import pandas as pd

from swift_debias.job import logged, whole

with logged(snakemake):
    frames = [pd.read_parquet(path) for path in snakemake.input]
    with whole(snakemake.output[0]) as partial:
        pd.concat(frames, ignore_index=True).to_parquet(partial, index=False)
