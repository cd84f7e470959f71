"""Intervals and noise floors of all methods of one setup."""

from pathlib import Path

from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.files import write_parquet
from swift_debias.run import layout, results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    keys = layout.keys("setup_predictions", snakemake.input[0])
    paths = sorted(Path(snakemake.input[0]).glob("*/fold*.parquet"))
    found = setup_intervals(
        results.read("predictions", paths),
        groups=params.groups,
        seed=params.seed,
        permutations=params.permutations,
        min_group=params.min_group,
        baseline=params.baseline,
    )
    write_parquet(found.assign(**keys)[[*keys, *found.columns]], snakemake.output[0])
