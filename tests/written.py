"""Results as their jobs write them, for tests of what reads them: with digest, or checksums."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.files import write_parquet


def write_cache(
    npy: Path, ids: Sequence[str], pixels: np.ndarray, errors: Sequence[str | None] | None = None
) -> tuple[Path, Path]:
    """An image cache of these pixels and its index beside it."""
    index = pd.DataFrame(
        {
            "row": range(len(ids)),
            "image_id": list(ids),
            "error": [None] * len(ids) if errors is None else list(errors),
            "crc": [zlib.crc32(image.tobytes()) for image in pixels],
        }
    )
    npy.parent.mkdir(parents=True, exist_ok=True)
    np.save(npy, pixels)
    write_parquet(index, npy.with_suffix(".parquet"))
    return npy, npy.with_suffix(".parquet")
