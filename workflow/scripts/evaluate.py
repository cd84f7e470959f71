"""Metrics of all methods of one setup: task, network and attribute."""

import itertools

import pandas as pd

from swift_debias.evaluation import metrics
from swift_debias.files import write_parquet
from swift_debias.run import layout, results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    frames = []
    for method, fold in itertools.product(params.methods, params.folds):
        keys = layout.keys("setup_predictions", snakemake.input[0])
        keys |= {"method": method, "fold": fold}
        predictions = results.predictions(snakemake.input[0], [method], [fold]).drop(columns=keys)
        frame = metrics.score(
            predictions,
            groups=len(params.groups),
            min_group=params.min_group,
            disease=params.disease,
        )
        frames.append(frame.assign(**keys)[[*keys, *frame.columns]])
    write_parquet(pd.concat(frames, ignore_index=True), snakemake.output[0])
