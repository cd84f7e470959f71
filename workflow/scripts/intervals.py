"""Bootstrap intervals over test images of all methods of one (task, backbone, attribute)."""

from pathlib import Path

from swift_debias.evaluation import bootstrap
from swift_debias.files import atomic_path
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    predictions = results.read_predictions(sorted(Path(snakemake.input[0]).glob("*/fold*.parquet")))
    # within one cell the task, network and attribute are the same for all
    predictions = predictions.drop(columns="attribute").rename(columns={"group": "attribute"})
    found = bootstrap.bootstrap(
        predictions,
        groups=params.groups,
        seed=params.seed,
        resamples=params.resamples,
        min_group=params.min_group,
    )
    keys = dict(zip(("task", "backbone", "attribute"), params.cell, strict=True))
    with atomic_path(snakemake.output[0]) as partial:
        found.assign(**keys)[[*keys, *found.columns]].to_parquet(partial, index=False)
