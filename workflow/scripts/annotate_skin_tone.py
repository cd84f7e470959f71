"""Measure the skin tone of a data set's images by the individual typology angle."""

from pathlib import Path

from swift_debias.config.schema import ANGLE_RULES, SkinTone
from swift_debias.data import skin_tone
from swift_debias.data.contact_sheet import contact_sheet
from swift_debias.data.image_cache import CachedImages
from swift_debias.files import atomic_path, write_parquet
from swift_debias.run.job import logged
from swift_debias.seeds import derive_seed

with logged(snakemake):
    options = SkinTone(**snakemake.params.skin_tone)
    images = CachedImages([(Path(snakemake.input.pixels), Path(snakemake.input.index))])
    tones = skin_tone.annotate(images, options)
    write_parquet(tones, snakemake.output.tones)
    sheet = contact_sheet(images, tones, derive_seed("contact sheet", snakemake.wildcards.dataset))
    with atomic_path(snakemake.output.sheet) as partial:
        sheet.save(partial, format="PNG")
    print(tones["fitzpatrick"].value_counts(dropna=False).sort_index().to_string())
    blue = int(skin_tone.bluish(tones["b_star"]).sum())
    print(f"{blue} of {len(tones)} images have b* not above 0; dark (types IV to VI) by each rule:")
    for rule in ANGLE_RULES:
        print(f"  {rule}: {int((tones[f'fitzpatrick_{rule}'] > 3).sum())}")
