"""Metrics of all methods of one (task, backbone, attribute)."""

import pandas as pd

from swift_debias import metrics
from swift_debias.job import logged, whole

with logged(snakemake):
    params = snakemake.params
    task, backbone, attribute = params.cell
    runs = [(method, fold) for method in params.methods for fold in params.folds]
    frames = []
    for (method, fold), path in zip(runs, snakemake.input, strict=True):
        frame = metrics.score(
            pd.read_parquet(path), groups=len(params.groups), min_group=params.min_group
        )
        keys = {"task": task, "backbone": backbone, "attribute": attribute}
        keys |= {"method": method, "fold": fold}
        frames.append(frame.assign(**keys)[[*keys, *frame.columns]])
    with whole(snakemake.output[0]) as partial:
        pd.concat(frames, ignore_index=True).to_parquet(partial, index=False)
