"""Metrics of all methods of one setup: task, network and attribute."""

import functools
import itertools

import pandas as pd

from swift_debias.evaluation import metrics, one_vs_rest
from swift_debias.files import write_parquet
from swift_debias.run import layout, results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    classes = params.get("classes")  # names, of more than two
    score = functools.partial(one_vs_rest.score, classes=classes) if classes else metrics.score
    frames, of_repeats = [], []
    for method, fold in itertools.product(params.methods, params.folds):
        keys = layout.keys("setup_predictions", snakemake.input[0])
        keys |= {"method": method, "fold": fold}
        predictions = results.predictions(snakemake.input[0], [method], [fold], params.repeats)
        scored = [
            score(
                part.drop(columns=["repeat", *keys]),
                groups=len(params.groups),
                min_group=params.min_group,
                disease=params.disease,
            )
            for _, part in predictions.groupby("repeat")
        ]
        frame = metrics.mean_of_repeats(scored)
        frames.append(frame.assign(**keys)[[*keys, *frame.columns]])
        for repeat, one in enumerate(scored):
            of_repeats.append(one.assign(**keys, repeat=repeat)[[*keys, "repeat", *one.columns]])
    write_parquet(pd.concat(frames, ignore_index=True), snakemake.output.metrics)
    if "repeats" in snakemake.output.keys():  # noqa: SIM118 (a Namedlist is a list)
        write_parquet(pd.concat(of_repeats, ignore_index=True), snakemake.output.repeats)
