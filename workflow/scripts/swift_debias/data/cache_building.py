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
    crc            int64   CRC-32 of its pixels in the array, looked at when it is read
    bits           int8    of 16-bit grey: how many bits its levels need, or null
    contrast       int16   brightest minus darkest pixel in the array
    transparent    bool    some of its pixels are, and lie on black; or null

No torch here.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import mmap
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL
import pyarrow as pa

from ..config.schema import Images
from ..errors import UserError
from ..files import read_parquet, write_parquet
from . import greys
from .decode import (
    BACKGROUND,
    CACHE_GAP,
    FILTER,
    HASH_GAP,
    HASH_SIZE,
    UnreadableError,
    decode,
    no_pillow_limit,
    on_background,
    read_bytes,
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
        "crc": pa.int64(),
        "bits": pa.int8(),
        "contrast": pa.int16(),
        "transparent": pa.bool_(),
    }
)
FLAT = 8  # levels of 256: with less contrast a picture shows next to nothing


class _Record(NamedTuple):
    """A line of the index on its way through the journal.

    crc: of the pixels in the array. stamp: size and time of change of the file that was read.
    scaled: bits that became white.
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
    bits: int | None
    contrast: int
    scaled: int | None
    transparent: bool | None


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
    number. Memory: one decoded image a worker, and a block of the array.

    16-bit grey pictures whose depth nobody declares are scaled by the brightest of the data set:
    those that were decoded with fewer bits are decoded again at the end.

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

        def cache(rows: Sequence[int], bits: int | None = None) -> None:
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                records = list(
                    pool.map(lambda row: _cache_one(row, paths[row], pixels, options, bits), block)
                )
                journal.append(records)
                done.update((record.row, record) for record in records)
                _let_go(pixels)
                if progress is not None:
                    progress(len(done), len(paths))

        cache([row for row in range(len(paths)) if row not in done])
        deep = {row: record for row, record in done.items() if record.bits is not None}
        most = max((record.bits or 0 for record in deep.values()), default=None)
        cache(sorted(row for row, record in deep.items() if record.scaled != most), most)
        pixels.flush()
    _refuse_broken(manifest, done, options, out_npy.stem)
    return _finish(manifest, done, partial, out_npy, out_parquet, journal)


def _cache_one(
    row: int, path: Path, pixels: np.ndarray, options: Images, bits: int | None
) -> _Record:
    """Decode one file into its row of the array."""
    digest, stamp = None, _stamp(path)
    try:
        data = read_bytes(path, options)
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data, options, bits)
    except UnreadableError as error:
        pixels[row] = 0
        crc = zlib.crc32(pixels[row])
        return _Record(
            row, digest, None, None, None, None, str(error), crc, stamp, None, 0, None, None
        )
    pixels[row] = image.pixels
    return _Record(
        row=row,
        sha256=digest,
        phash=image.phash.hex(),
        quality=image.quality,
        width=image.width,
        height=image.height,
        error=None,
        crc=zlib.crc32(pixels[row]),
        stamp=stamp,
        bits=image.bits,
        contrast=int(pixels[row].max()) - int(pixels[row].min()),
        scaled=None if image.bits is None else options.bits or bits or image.bits,
        transparent=image.transparent,
    )


def _stamp(path: Path) -> str:
    """Size and time of change; empty where there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def summary(index: pd.DataFrame, paths: Sequence[str]) -> list[str]:
    """What is to be known of a cache, for the job's log: broken, deep, transparent, flat images.

    Args:
        index: as `build_cache` returns it.
        paths: of its images, in the same order.
    """
    broken = index.index[index["error"].notna()]
    lines = [f"{len(index)} images, {len(broken)} of them cannot be used"]
    lines += [f"  {paths[row]}: {index['error'].iloc[row]}" for row in broken[:NAMED]]
    lines += [f"  and {len(broken) - NAMED} more"] * (len(broken) > NAMED)
    bits = index["bits"].dropna()
    if len(bits):
        lines.append(
            f"{len(bits)} images have 16 bits a pixel; the level that became white has "
            f"{int(bits.max())} bits (images.bits)"
        )
        lines += greys.remarks(index["bits"], index["contrast"], paths)
    seen_through = index.index[index["transparent"].eq(True)]
    if len(seen_through):
        lines.append(on_background(len(seen_through), len(index), paths[seen_through[0]]))
    flat = index.index[index["error"].isna() & (index["contrast"] < FLAT)]
    if len(flat):
        lines.append(
            f"{len(flat)} images have almost no contrast (fewer than {FLAT} of 256 levels), such "
            f"as {paths[flat[0]]}"
        )
    return lines


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
    pixels = _open_partial(partial, shape)
    records = [] if pixels is None else journal.read()
    if pixels is None or not records:
        journal.start([])
        pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # on a full disk an error now, not a crash while writing
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
        return pixels, {}
    held = pixels

    def is_intact(record: _Record) -> bool:
        same_file = record.error is None and record.stamp == _stamp(paths[record.row])
        return same_file and zlib.crc32(held[record.row]) == record.crc

    good = []
    for start in range(0, len(records), BLOCK):
        block = records[start : start + BLOCK]
        intact = pool.map(is_intact, block)
        good += [record for record, is_good in zip(block, intact, strict=True) if is_good]
        _let_go(pixels)
    journal.start(good)
    return pixels, {record.row: record for record in good}


def _let_go(pixels: np.memmap) -> None:
    """Give back the memory of what was written: it is the kernel's to bring to disk, as of a file.

    Otherwise a job's memory grows with the array, 15 GiB for 80,000 images of 256 pixels.
    """
    mapped = pixels.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _open_partial(partial: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The array of an earlier job; None where there is none, or where it is damaged."""
    if not partial.exists():
        return None
    header = io.BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    with partial.open("rb") as file:
        begins_right = file.read(header.tell()) == header.getvalue()
    if begins_right and partial.stat().st_size == header.tell() + math.prod(shape):
        return np.load(partial, mmap_mode="r+")
    print(f"{partial} is damaged: the cache begins anew", file=sys.stderr)
    return None


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
        "crc": [record.crc for record in records],
        "bits": [record.bits for record in records],
        "contrast": [record.contrast for record in records],
        "transparent": [record.transparent for record in records],
    }
    table = pa.table(columns, schema=INDEX)
    write_parquet(table, out_parquet, compression="zstd")
    partial.replace(out_npy)
    journal.path.unlink()
    return read_parquet(out_parquet)


class _Journal:
    """Which rows of a partial cache are done: a header line with the key, then a line a block."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def start(self, records: Sequence[_Record]) -> None:
        temporary = self.path.with_name(self.path.name + ".partial")
        temporary.write_bytes(_line({"key": self.key}) + _line(records))
        temporary.replace(self.path)

    def append(self, records: Sequence[_Record]) -> None:
        with self.path.open("ab") as stream:
            stream.write(_line(records))

    def read(self) -> list[_Record]:
        """The last record of each row; none where the journal belongs to other work.

        From the first line on that does not fit its checksum nothing counts: the job was killed
        while it wrote it, or the file is damaged.
        """
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = list(itertools.takewhile(_is_whole, lines))
        if not whole or whole[0] != _line({"key": self.key}):
            return []
        blocks = [json.loads(line[CHECKSUM:]) for line in whole[1:]]
        records = [_Record(*fields) for block in blocks for fields in block]
        return list({record.row: record for record in records}.values())


CHECKSUM = 9  # bytes of a line's checksum and the blank after it


def _line(content: Any) -> bytes:
    """A line of the journal: checksum, JSON."""
    text = json.dumps(content).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _is_whole(line: bytes) -> bool:
    """Whether a line is as it was written."""
    return line == b"%08x %b\n" % (zlib.crc32(line[CHECKSUM:-1]), line[CHECKSUM:-1])


def _key(manifest: pd.DataFrame, options: Images) -> str:
    """What a partial cache's pixels depend on, besides the files."""
    parts = (
        PIL.__version__,
        _Record._fields,
        [FILTER.name, CACHE_GAP, HASH_SIZE, HASH_GAP, BACKGROUND],
        [options.size, options.channels, options.max_pixels, options.max_bytes, options.bits],
        [options.fit, options.crop_share, options.interpolation],
        manifest[["image_id", "path"]].to_numpy().tolist(),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
