"""Metrics of all methods of one (task, backbone, attribute)."""

import itertools

import pandas as pd

from swift_debias.evaluation import metrics
from swift_debias.files import atomic_path
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    task, backbone, attribute = params.cell
    frames = []
    for method, fold in itertools.product(params.methods, params.folds):
        predictions = pd.read_parquet(f"{snakemake.input[0]}/{method}/fold{fold}.parquet")
        frame = metrics.score(predictions, groups=len(params.groups), min_group=params.min_group)
        keys = {"task": task, "backbone": backbone, "attribute": attribute}
        keys |= {"method": method, "fold": fold}
        frames.append(frame.assign(**keys)[[*keys, *frame.columns]])
    with atomic_path(snakemake.output[0]) as partial:
        pd.concat(frames, ignore_index=True).to_parquet(partial, index=False)
