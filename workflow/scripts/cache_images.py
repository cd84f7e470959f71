"""Decode every image of a data set once, into a memory-mapped uint8 array."""

from pathlib import Path

from swift_debias.config.schema import Images
from swift_debias.data import cache_building, manifest
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    rows = manifest.read(Path(snakemake.input.manifest))
    index = cache_building.build_cache(
        rows,
        Path(params.root),
        Path(snakemake.output.pixels),
        Path(snakemake.output.index),
        Images(**params.images),
        workers=snakemake.threads,
    )
    print("\n".join(cache_building.summary(index, rows["path"].tolist())))
