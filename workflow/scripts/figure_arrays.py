"""Compute what a figure shows that needs pixels, models or importances."""

from pathlib import Path

from swift_debias.files import write_arrays
from swift_debias.report import figures
from swift_debias.report.figures._arrays import Given
from swift_debias.run.job import logged

FILES = ("predictions", "pixels", "index", "models", "importance", "importances", "summaries")

with logged(snakemake):
    params = snakemake.params
    given = Given(
        options=params.options,
        dataset=params.dataset,
        methods=params.methods,
        fold=params.fold,
        groups=params.groups,
        backbone=params.backbone,
        normalization=params.normalization,
        compute=params.compute,
        variants=params.variants,
        **{name: [Path(p) for p in snakemake.input.get(name, [])] for name in FILES},
    )
    arrays = figures.load(params.plot).arrays(given)
    write_arrays(snakemake.output[0], arrays)
    print({name: array.shape for name, array in arrays.items()})
