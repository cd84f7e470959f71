"""Reading image caches, which image_cache.py writes: memory-mapped pixels and an index beside them.

No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from .settings import UserError


def read_index(path: Path) -> pd.DataFrame:
    """The index of a cache, as `build_cache` wrote it."""
    return pq.read_table(path).to_pandas()


def cache_pairs(
    arrays: Sequence[str | Path], indexes: Sequence[str | Path]
) -> list[tuple[Path, Path]]:
    """Arrays and indexes of several caches, as `CachedImages` takes them."""
    return [(Path(npy), Path(parquet)) for npy, parquet in zip(arrays, indexes, strict=True)]


class CachedImages:
    """The images of one or several caches under one numbering; pixels stay on disk until asked for.

    Attributes:
        shape: (height, width, channels) of every image.
        index: one row an image: dataset, image_id, row (its number here), error (or null).
    """

    def __init__(self, caches: Sequence[tuple[Path, Path]]) -> None:
        """Open caches.

        Args:
            caches: (array, index) of each data set, named after the array's file.

        Raises:
            UserError: the caches differ in image size or channels, or a pair does not match.
        """
        # asarray: the plain view of a memory map indexes faster, and is still read on demand.
        self._arrays = [np.asarray(np.load(npy, mmap_mode="r")) for npy, _ in caches]
        self._starts = np.cumsum([0] + [len(array) for array in self._arrays])
        shapes = {
            str(npy): array.shape[1:] for (npy, _), array in zip(caches, self._arrays, strict=True)
        }
        if len(set(shapes.values())) != 1:
            raise UserError(f"image caches of different sizes cannot be used together: {shapes}")
        self.shape: tuple[int, int, int] = self._arrays[0].shape[1:]
        frames = []
        for (npy, parquet), array, start in zip(
            caches, self._arrays, self._starts[:-1], strict=True
        ):
            frame = read_index(parquet)[["image_id", "row", "error"]]
            if len(frame) != len(array):
                raise UserError(f"{npy} has {len(array)} images, but {parquet} has {len(frame)}")
            frame.insert(0, "dataset", npy.stem)
            frame["row"] += start
            frames.append(frame)
        self.index = pd.concat(frames, ignore_index=True)
        self._numbers = self.index.set_index(["dataset", "image_id"])["row"]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, dataset: str | Sequence[str], image_ids: Sequence[str]) -> np.ndarray:
        """Numbers of images.

        Args:
            dataset: of all of them, or of each.
            image_ids: any number of ids, repeats allowed.

        Returns:
            int64 (n,).

        Raises:
            UserError: an image is not in the caches, or was unreadable.
        """
        names = [dataset] * len(image_ids) if isinstance(dataset, str) else dataset
        keys = pd.MultiIndex.from_arrays([list(names), list(image_ids)])
        rows = self._numbers.reindex(keys).to_numpy(np.float64)
        if np.isnan(rows).any():
            missing = keys[int(np.isnan(rows).argmax())]
            raise UserError(f"no image {missing[1]!r} in the cache of data set {missing[0]!r}")
        numbers = rows.astype(np.int64)
        broken = self.index["error"].iloc[numbers].notna().to_numpy()
        if broken.any():
            dataset_name, image_id, _, error = self.index.iloc[numbers[int(broken.argmax())]]
            raise UserError(f"image {image_id!r} of data set {dataset_name!r}: {error}")
        return numbers

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of these rows, read in the order in which they lie on disk.

        Args:
            rows: int64 (B,).
            out: uint8 (B, H, W, C) to fill; None: a new array.

        Returns:
            uint8 (B, H, W, C), image i is row i.
        """
        if out is None:
            out = np.empty((len(rows), *self.shape), np.uint8)
        order = np.argsort(rows, kind="stable")
        caches = np.searchsorted(self._starts, rows, side="right") - 1
        for position in order:
            cache = caches[position]
            out[position] = self._arrays[cache][rows[position] - self._starts[cache]]
        return out
