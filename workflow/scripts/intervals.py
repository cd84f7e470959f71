"""Intervals and noise floors of all methods of one setup."""

import functools

from swift_debias.evaluation.class_intervals import class_intervals
from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.files import write_parquet
from swift_debias.run import layout, results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    keys = layout.keys("setup_predictions", snakemake.input[0])
    classes = params.get("classes")  # names, of more than two
    find = functools.partial(class_intervals, classes=classes) if classes else setup_intervals
    found = find(
        results.predictions(snakemake.input[0], params.methods, params.folds, params.repeats),
        groups=params.groups,
        seed=params.seed,
        permutations=params.permutations,
        min_group=params.min_group,
        baseline=params.baseline,
    )
    write_parquet(found.assign(**keys)[[*keys, *found.columns]], snakemake.output[0])
