"""The image cache: every image is decoded once, into one memory-mapped uint8 array.

`build_cache` writes the cache of one data set; image_cache.py reads it. The
pixels are those of Pillow: upright (EXIF), in RGB or grey, the largest centred square, resized with
an antialiased bilinear filter. Colours are taken as sRGB; embedded profiles are ignored, as the
code that the field shares does.

The index beside the array (Parquet, row i = row i of the manifest and of the array):

    row            int64
    image_id       str
    sha256         str     of the file's bytes, or null where it cannot be read
    phash          binary  32 bytes, PDQ hash of the whole upright picture, or null
    phash_quality  int16   0 (flat) to 100, or null
    width, height  int32   of the upright picture in the file, in pixels, or null
    error          str     why the image cannot be used (its pixels are zeros), or null

No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from ..config.schema import Images
from ..errors import UserError
from .decode import (
    BACKGROUND,
    CACHE_GAP,
    FILTER,
    HASH_GAP,
    HASH_SIZE,
    UnreadableError,
    decode,
    no_pillow_limit,
)

BLOCK = 512  # images between two entries of the journal


NAMED = 100  # broken files that a message lists


INDEX = pa.schema(
    {
        "row": pa.int64(),
        "image_id": pa.string(),
        "sha256": pa.string(),
        "phash": pa.binary(32),
        "phash_quality": pa.int16(),
        "width": pa.int32(),
        "height": pa.int32(),
        "error": pa.string(),
    }
)


class _Record(NamedTuple):
    """A line of the index on its way through the journal.

    crc: of the pixels in the array. stamp: size and time of change of the file that was read.
    """

    row: int
    sha256: str | None
    phash: str | None
    quality: int | None
    width: int | None
    height: int | None
    error: str | None
    crc: int
    stamp: str


def build_cache(
    manifest: pd.DataFrame,
    root: Path,
    out_npy: Path,
    out_parquet: Path,
    options: Images,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Decode a data set's images into `out_npy` and their index into `out_parquet`.

    The work lies in `<out_npy>.partial` with a journal beside it until it is whole: a killed job
    continues where it was, and after a failure only broken files are read again. Threads share the
    work (Pillow decodes without the interpreter's lock); the files written do not depend on their
    number. Memory: one decoded image a worker.

    Args:
        manifest: columns image_id and path.
        root: the data set's folder.
        workers: threads.
        progress: called with (images done, images in all).

    Returns:
        The index as written.

    Raises:
        UserError: more than `max_broken` of the images cannot be used; lists them.
    """
    if manifest.empty:
        raise UserError(f"{out_npy.stem}: the manifest has no images")
    partial = out_npy.with_name(out_npy.name + ".partial")
    journal = _Journal(out_npy.with_name(out_npy.name + ".journal"), _key(manifest, options))
    shape = (len(manifest), options.size, options.size, options.channels)
    paths = [root / path for path in manifest["path"]]
    with no_pillow_limit(), ThreadPoolExecutor(workers) as pool:
        pixels, done = _resume(partial, shape, journal, pool, paths)

        def cache_one(row: int) -> _Record:
            return _cache_one(row, paths[row], pixels, options)

        todo = [row for row in range(len(paths)) if row not in done]
        for start in range(0, len(todo), BLOCK):
            block = todo[start : start + BLOCK]
            records = list(pool.map(cache_one, block))
            journal.append(records)
            done.update((record.row, record) for record in records)
            if progress is not None:
                progress(len(done), len(paths))
        pixels.flush()
    _refuse_broken(manifest, done, options, out_npy.stem)
    return _finish(manifest, done, partial, out_npy, out_parquet, journal)


def _cache_one(row: int, path: Path, pixels: np.ndarray, options: Images) -> _Record:
    """Decode one file into its row of the array."""
    digest, stamp = None, _stamp(path)
    try:
        data = _read(path)
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data, options)
    except UnreadableError as error:
        pixels[row] = 0
        crc = zlib.crc32(pixels[row])
        return _Record(row, digest, None, None, None, None, str(error), crc, stamp)
    pixels[row] = image.pixels
    crc = zlib.crc32(pixels[row])
    size = (image.width, image.height)
    return _Record(row, digest, image.phash.hex(), image.quality, *size, None, crc, stamp)


def _stamp(path: Path) -> str:
    """Size and time of change; empty where there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # also a loop of links; a pipe would block for ever
            raise UnreadableError("no such file")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def _resume(
    partial: Path,
    shape: tuple[int, ...],
    journal: _Journal,
    pool: ThreadPoolExecutor,
    paths: Sequence[Path],
) -> tuple[np.memmap, dict[int, _Record]]:
    """The array to write to, and the rows in it that an earlier job finished.

    A row counts as finished where its pixels have the checksum that the journal noted and its file
    is as it was; broken files are tried again.
    """
    records = journal.read() if partial.exists() else []
    if not records:
        journal.start([])
        pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # on a full disk an error now, not a crash while writing
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
        return pixels, {}
    pixels = np.load(partial, mmap_mode="r+")

    def is_intact(record: _Record) -> bool:
        same_file = record.error is None and record.stamp == _stamp(paths[record.row])
        return same_file and zlib.crc32(pixels[record.row]) == record.crc

    intact = pool.map(is_intact, records)
    good = [record for record, is_good in zip(records, intact, strict=True) if is_good]
    journal.start(good)
    return pixels, {record.row: record for record in good}


def _refuse_broken(
    manifest: pd.DataFrame, done: dict[int, _Record], options: Images, name: str
) -> None:
    broken = [done[row] for row in sorted(done) if done[row].error is not None]
    if len(broken) <= options.max_broken * len(manifest):
        return
    paths = manifest["path"].tolist()
    listed = [f"  {paths[record.row]}: {record.error}" for record in broken[:NAMED]]
    more = [f"  and {len(broken) - NAMED} more"] * (len(broken) > NAMED)
    raise UserError(
        f"{name}: {len(broken)} of {len(manifest)} images cannot be used, more than the fraction "
        f"{options.max_broken:g} that images.max_broken allows. Replace them or raise it:\n"
        + "\n".join(listed + more)
    )


def _finish(
    manifest: pd.DataFrame,
    done: dict[int, _Record],
    partial: Path,
    out_npy: Path,
    out_parquet: Path,
    journal: _Journal,
) -> pd.DataFrame:
    """Write the index and give both files their names; killed in between, a rerun ends the same."""
    records = [done[row] for row in range(len(manifest))]
    columns = {
        "row": [record.row for record in records],
        "image_id": manifest["image_id"].tolist(),
        "sha256": [record.sha256 for record in records],
        "phash": [record.phash and bytes.fromhex(record.phash) for record in records],
        "phash_quality": [record.quality for record in records],
        "width": [record.width for record in records],
        "height": [record.height for record in records],
        "error": [record.error for record in records],
    }
    table = pa.table(columns, schema=INDEX)
    temporary = out_parquet.with_name(out_parquet.name + ".partial")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(out_parquet)
    partial.replace(out_npy)
    journal.path.unlink()
    return table.to_pandas()


class _Journal:
    """Which rows of a partial cache are done: a header line with the key, then a line a block."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def start(self, records: Sequence[_Record]) -> None:
        temporary = self.path.with_name(self.path.name + ".partial")
        temporary.write_text(json.dumps({"key": self.key}) + "\n" + json.dumps(records) + "\n")
        temporary.replace(self.path)

    def append(self, records: Sequence[_Record]) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(records) + "\n")

    def read(self) -> list[_Record]:
        """The last record of each row; none where the journal belongs to other work."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:  # the job was killed while it wrote this line
                break
        if not entries or entries[0] != {"key": self.key}:
            return []
        records = [_Record(*fields) for block in entries[1:] for fields in block]
        return list({record.row: record for record in records}.values())


def _key(manifest: pd.DataFrame, options: Images) -> str:
    """What a partial cache's pixels depend on, besides the files."""
    parts = (
        PIL.__version__,
        _Record._fields,
        [FILTER.name, CACHE_GAP, HASH_SIZE, HASH_GAP, BACKGROUND],
        [options.size, options.channels, options.max_pixels],
        manifest[["image_id", "path"]].to_numpy().tolist(),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
