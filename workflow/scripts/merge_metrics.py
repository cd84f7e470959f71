"""One tidy table of every metric."""

import pandas as pd

from swift_debias.files import atomic_path
from swift_debias.run.job import logged

with logged(snakemake):
    frames = [pd.read_parquet(path) for path in snakemake.input]
    with atomic_path(snakemake.output[0]) as partial:
        pd.concat(frames, ignore_index=True).to_parquet(partial, index=False)
