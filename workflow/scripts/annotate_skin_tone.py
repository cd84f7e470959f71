"""Measure the skin tone of a data set's images by the individual typology angle."""

from pathlib import Path

from swift_debias import skin_tone
from swift_debias.images import CachedImages
from swift_debias.job import logged, whole
from swift_debias.settings import SkinTone

with logged(snakemake):
    options = SkinTone(**snakemake.params.skin_tone)
    images = CachedImages([(Path(snakemake.input.pixels), Path(snakemake.input.index))])
    tones = skin_tone.annotate(images, options)
    with whole(snakemake.output[0]) as partial:
        tones.to_parquet(partial, index=False)
    print(tones["fitzpatrick"].value_counts(dropna=False).sort_index().to_string())
