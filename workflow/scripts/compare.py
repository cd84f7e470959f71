"""Paired tests over folds of every table's methods, against Baseline and the best other one."""

import pandas as pd

from swift_debias.evaluation import cells, fold_tests
from swift_debias.files import read_parquet, write_parquet
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    metrics = read_parquet(str(snakemake.input.metrics))
    tables = params.tables or {"": []}  # without tables a frame of the columns alone
    frames = [
        fold_tests.compare(
            name, [cells.Block(**block) for block in blocks], metrics, params.baseline
        )
        for name, blocks in tables.items()
    ]
    write_parquet(pd.concat(frames, ignore_index=True), snakemake.output[0])
