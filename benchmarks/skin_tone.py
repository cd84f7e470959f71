"""What the rules of `skin_tone.angle` make of a folder of real images, and on how many they agree.

    python benchmarks/skin_tone.py FOLDER [--table t.csv --image COLUMN --melanoma COLUMN]

Every image below the folder is measured as the workflow does. With a table whose column MELANOMA is
1 for melanoma, its share among light and dark images is counted too. docs/verified.md has the
numbers of HAM10000, ISIC 2017 and PAD-UFES-20.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import pandas as pd

from swift_debias.config.schema import ANGLE_RULES, Images, SkinTone
from swift_debias.data import listing, skin_tone
from swift_debias.data.cache_building import build_cache
from swift_debias.data.image_cache import CachedImages


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--image", default="image_id", help="column of the file's name")
    parser.add_argument("--melanoma", default="melanoma", help="column that is 1 for melanoma")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    options = parser.parse_args()
    root = options.folder.resolve()
    paths = sorted(
        path for path, _, why in listing.walk(root) if not why and listing.is_image(path)
    )
    frame = pd.DataFrame({"image_id": [Path(path).stem for path in paths], "path": paths})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "images.npy", Path(folder) / "images.parquet"
        build_cache(frame, root, *out, Images(size=options.size))
        tones = skin_tone.annotate(CachedImages([out]), SkinTone(size=options.size))
    show(tones)
    if options.table is not None:
        table = pd.read_csv(options.table)
        table["image_id"] = [Path(str(name)).stem for name in table[options.image]]
        show_melanoma(tones.merge(table, on="image_id"), options.melanoma)


def show(tones: pd.DataFrame) -> None:
    """Types by each rule, and agreement on light against dark."""
    blue = skin_tone.bluish(tones["b_star"])
    print(f"{len(tones)} images, {blue.sum()} ({blue.mean():.1%}) with median b* not above 0")
    for rule in ANGLE_RULES:
        types = tones[f"fitzpatrick_{rule}"]
        counts = [int((types == number).sum()) for number in range(1, 7)]
        dark = types > 3
        share = dark.sum() / types.notna().sum()
        print(
            f"  {rule}: types I-VI {counts}, unknown {types.isna().sum()}, dark {dark.sum()} "
            f"({share:.1%}), {(dark & blue).sum()} of them bluish"
        )
    for one, other in itertools.combinations(ANGLE_RULES, 2):
        a, b = tones[f"fitzpatrick_{one}"], tones[f"fitzpatrick_{other}"]
        both = a.notna() & b.notna()
        side = ((a > 3) == (b > 3))[both].mean()
        same = (a == b)[both].mean()
        print(f"  {one} / {other}: same type {same:.1%}, same side {side:.1%} of {both.sum()}")


def show_melanoma(joined: pd.DataFrame, column: str) -> None:
    """Share of melanoma among light and dark images by each rule."""
    disease = joined[column].astype(float) == 1
    for rule in ANGLE_RULES:
        types = joined[f"fitzpatrick_{rule}"]
        light, dark = disease[types <= 3], disease[types > 3]
        print(f"  {rule}: melanoma {light.mean():.1%} of light, {dark.mean():.1%} of dark images")


if __name__ == "__main__":
    main()
