"""Every table's methods against the Baseline and the best other one: tests and intervals."""

import pandas as pd

from swift_debias.evaluation import cells, fold_tests, plausibility
from swift_debias.files import read_parquet, write_parquet
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    metrics = read_parquet(str(given.metrics))
    marks = plausibility.marks(read_parquet(str(given.plausibility)))
    intervals = results.joined(given.intervals)
    tables = params.tables or {"": []}  # without tables a frame of the columns alone
    frames = [
        fold_tests.compare(
            name,
            [cells.Block(**block) for block in blocks],
            metrics,
            params.baseline,
            intervals,
            marks,
        )
        for name, blocks in tables.items()
    ]
    write_parquet(pd.concat(frames, ignore_index=True), snakemake.output[0])
