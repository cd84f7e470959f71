"""Bootstrap intervals over test images of all methods of one (task, backbone, attribute)."""

import pandas as pd

from swift_debias import statistics
from swift_debias.job import logged, whole

with logged(snakemake):
    params = snakemake.params
    runs = [(method, fold) for method in params.methods for fold in params.folds]
    frames = [
        pd.read_parquet(path).assign(method=method, fold=fold)
        for (method, fold), path in zip(runs, snakemake.input, strict=True)
    ]
    found = statistics.bootstrap(
        pd.concat(frames, ignore_index=True),
        groups=params.groups,
        seed=params.seed,
        resamples=params.resamples,
        min_group=params.min_group,
    )
    keys = dict(zip(("task", "backbone", "attribute"), params.cell, strict=True))
    with whole(snakemake.output[0]) as partial:
        found.assign(**keys)[[*keys, *found.columns]].to_parquet(partial, index=False)
