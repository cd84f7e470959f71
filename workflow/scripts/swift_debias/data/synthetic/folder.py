"""A raw folder that is being written: sizes, dirt, tables and pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ...config.schema import Synthetic
from ...errors import UserError
from .drawing import Bytes
from .population import generator

FEWEST = 20
"""Fewest images that a data set can be asked for; the dirt needs room."""

_QUALITY = 92
_LOWER_QUALITY = 75


@dataclass(frozen=True)
class Folder:
    """The raw folder of a data set, and what its content depends on."""

    name: str
    settings: Synthetic
    seed: int
    root: Path

    def size(self, name: str | None = None, fewest: int = FEWEST) -> int:
        """Configured number of usable images of this data set or another.

        Raises:
            UserError: it is missing or too small.
        """
        name = name or self.name
        size = self.settings.images.get(name)
        if size is None:
            raise UserError(f"synthetic.images has no entry {name!r}; give its number of images")
        if size < fewest:
            raise UserError(f"synthetic.images.{name} is {size}; it must be at least {fewest}")
        return size

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose of this data set."""
        return generator(self.seed, self.name, purpose)

    def some(self, purpose: str, size: int, times: float = 1) -> npt.NDArray[np.bool_]:
        """A random choice of rows: exactly `times` the share `settings.unknown`; bool (size,)."""
        count = round(times * self.settings.unknown * size)
        return self.rng(purpose).permutation(np.arange(size) < count)

    def table(self, path: str, frame: pd.DataFrame, index: bool = False) -> None:
        """Write a CSV, gzipped where the name says so."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # No time stamp in the archive: the same rows are the same bytes.
        zipped: Any = {"method": "gzip", "mtime": 0} if path.endswith(".gz") else None
        frame.to_csv(target, index=index, compression=zipped, lineterminator="\n")

    def pictures(self, paths: Iterable[str], pictures: Iterable[Bytes]) -> None:
        """Write pictures under their names, in the format that the suffix says."""
        for path, picture in zip(paths, pictures, strict=True):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".png":
                Image.fromarray(picture.squeeze()).save(target, compress_level=1)
            else:
                target.write_bytes(_jpeg(picture, _QUALITY))

    def truncated(self, path: str, picture: Bytes) -> None:
        """Write a JPEG of which the end is missing, as after a broken download."""
        data = _jpeg(picture, _QUALITY)
        (self.root / path).write_bytes(data[: len(data) * 3 // 4])


def resized(picture: Bytes, factor: float) -> Bytes:
    """The picture at another size, uint8 (h, w, 3)."""
    size = (round(factor * picture.shape[1]), round(factor * picture.shape[0]))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def stored_again(picture: Bytes) -> Bytes:
    """The picture after it was stored as a JPEG of lower quality, uint8 (h, w, 3)."""
    return np.asarray(Image.open(io.BytesIO(_jpeg(picture, _LOWER_QUALITY))))


def one_more_row(frame: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """The frame with its first row once more at the end, changed: the row of one more image."""
    return pd.concat([frame, frame.iloc[[0]].assign(**changes)], ignore_index=True)


def words(
    truth: pd.Series,
    true: str,
    false: str,
    unknown: npt.ArrayLike = False,
    missing: str = "",
) -> npt.NDArray[np.object_]:
    """Truth values in a data set's words, and its word for those that are not known; (n,)."""
    return np.where(unknown, missing, np.where(truth, true, false)).astype(object)


def _jpeg(picture: Bytes, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
