"""Paired tests over folds of every table's methods, against Baseline and the best other one."""

import pandas as pd

from swift_debias import statistics, tables
from swift_debias.job import logged, whole

with logged(snakemake):
    params = snakemake.params
    metrics = pd.read_parquet(str(snakemake.input.metrics))
    frames = [
        statistics.compare(name, [tables.Block(**block) for block in blocks], metrics)
        for name, blocks in params.tables.items()
    ]
    with whole(snakemake.output[0]) as partial:
        pd.concat(frames, ignore_index=True).to_parquet(partial, index=False)
