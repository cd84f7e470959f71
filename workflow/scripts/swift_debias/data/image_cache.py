"""Reading image caches, which cache_building.py writes: pixels and an index beside them.

Pixels are memory-mapped. The first time that an image is read its checksum is looked at (1.5 GB/s
here, once an image and job): a cache is too large to be read whole for it. Neither torch nor what
decodes and hashes images is imported here.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import damaged, read_parquet
from .staging import staged


def read_index(path: Path) -> pd.DataFrame:
    """The index of a cache, as `build_cache` wrote it."""
    return read_parquet(path)


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
            UserError: the caches differ in image size or channels, a pair does not match, or a
                file is damaged.
        """
        # asarray: the plain view of a memory map indexes faster, and is still read on demand.
        self._arrays = [np.asarray(open_array(staged(npy))) for npy, _ in caches]
        self._paths = [npy for npy, _ in caches]
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
            frame = read_index(parquet)[["image_id", "row", "error", "crc"]]
            if len(frame) != len(array):
                raise UserError(
                    f"{npy} has {len(array)} images, but {parquet} has {len(frame)}: delete both "
                    "and run again"
                )
            frame.insert(0, "dataset", npy.stem)
            frame["row"] += start
            frames.append(frame)
        self.index = pd.concat(frames, ignore_index=True)
        self._crcs = self.index.pop("crc").to_numpy()
        self._checked = np.zeros(len(self.index), bool)
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

        Raises:
            UserError: an image is not as it was cached.
        """
        if out is None:
            out = np.empty((len(rows), *self.shape), np.uint8)
        order = np.argsort(rows, kind="stable")
        caches = np.searchsorted(self._starts, rows, side="right") - 1
        for position in order:
            cache = caches[position]
            out[position] = self._arrays[cache][rows[position] - self._starts[cache]]
            self._check(int(rows[position]), out[position])
        return out

    def _check(self, row: int, image: np.ndarray) -> None:
        """Compare an image that is read for the first time with its checksum."""
        if self._checked[row]:
            return
        if zlib.crc32(image.data) != self._crcs[row]:
            npy = self._paths[int(np.searchsorted(self._starts, row, side="right")) - 1]
            name = self.index["image_id"].iloc[row]
            raise damaged(npy, f"image {name!r} does not fit its checksum")
        self._checked[row] = True


def open_array(path: Path) -> np.memmap:
    """The pixels of a cache, memory-mapped: uint8 (N, H, W, C).

    Raises:
        UserError: it is missing, cut, or not such an array.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        array = np.load(path, mmap_mode="r")
    except Exception as error:  # of a damaged header, in many types
        raise damaged(path, f"it is no whole array: {str(error).splitlines()[0]}") from error
    if not isinstance(array, np.memmap) or array.dtype != np.uint8 or array.ndim != 4:
        raise damaged(path, "it is no array of images")
    return array
