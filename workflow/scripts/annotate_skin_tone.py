"""Measure the skin tone of a data set's images by the individual typology angle."""

from pathlib import Path

from swift_debias.config.schema import SkinTone
from swift_debias.data import skin_tone
from swift_debias.data.image_cache import CachedImages
from swift_debias.files import write_parquet
from swift_debias.run.job import logged

with logged(snakemake):
    options = SkinTone(**snakemake.params.skin_tone)
    images = CachedImages([(Path(snakemake.input.pixels), Path(snakemake.input.index))])
    tones = skin_tone.annotate(images, options)
    write_parquet(tones, snakemake.output[0])
    print(tones["fitzpatrick"].value_counts(dropna=False).sort_index().to_string())
