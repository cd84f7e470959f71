"""A contact sheet: random images of each skin type, so that eyes can judge what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from .decode import FILTER
from .image_cache import CachedImages

ACROSS = 10  # images of a type
SIDE = 64  # pixels a side of an image on the sheet
MARGIN = 150  # pixels at the left, for the name
UNKNOWN = "unknown"
NAMES = ("I", "II", "III", "IV", "V", "VI")


def contact_sheet(images: CachedImages, tones: pd.DataFrame, seed: int) -> Image.Image:
    """A row of random images for each skin type, with how many there are.

    Args:
        images: the cache that was measured.
        tones: what `skin_tone.annotate` made of it.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    index = images.index.set_index("image_id")["row"]
    types = tones["fitzpatrick"]
    groups = {f"type {name}": types == number for number, name in enumerate(NAMES, start=1)}
    groups |= {UNKNOWN: types.isna()} if types.isna().any() else {}
    sheet = Image.new("RGB", (MARGIN + ACROSS * SIDE, len(groups) * SIDE), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (name, inside) in enumerate(groups.items()):
        ids = tones.loc[inside, "image_id"].to_numpy()
        pen.text((8, line * SIDE + 16), name, fill="black", font_size=16)
        pen.text((8, line * SIDE + 36), f"{len(ids):,} images", fill="black", font_size=13)
        chosen = rng.permutation(ids)[:ACROSS]
        rows = index[chosen].to_numpy() if len(chosen) else np.empty(0, np.int64)
        for place, pixels in enumerate(images.gather(rows) if len(rows) else ()):
            small = Image.fromarray(pixels).resize((SIDE, SIDE), FILTER)
            sheet.paste(small, (MARGIN + place * SIDE, line * SIDE))
    return sheet
