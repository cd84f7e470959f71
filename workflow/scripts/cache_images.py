"""Decode every image of a data set once, into a memory-mapped uint8 array."""

from pathlib import Path

from swift_debias import image_cache, manifest
from swift_debias.job import logged
from swift_debias.settings import Images

with logged(snakemake):
    params = snakemake.params
    image_cache.build_cache(
        manifest.read(Path(snakemake.input.manifest)),
        Path(params.root),
        Path(snakemake.output.pixels),
        Path(snakemake.output.index),
        Images(**params.images),
        workers=snakemake.threads,
    )
