"""Making the image cache: every image is decoded once, into one memory-mapped uint8 array.

`build_cache` writes the cache of one data set; images.py reads caches, and needs none of the
packages that decode and hash. The pixels are those of Pillow: upright (EXIF), in RGB or grey, the
largest centred square, resized with an antialiased bilinear filter. Colours are taken as sRGB;
embedded profiles are ignored, as the code that the field shares does.

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

import contextlib
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pdqhash
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from .settings import Images, UserError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # what Pillow may try to decode
FILTER = Image.Resampling.BILINEAR  # Pillow widens it when it shrinks: antialiased
CACHE_GAP = 3.0  # reducing_gap: very large frames are halved first, without a visible difference
HASH_SIZE = 128  # pixels a side from which the hash is taken; the hash itself looks at 64 x 64
HASH_GAP = 2.0
BACKGROUND = (0, 0, 0)  # behind transparent pixels
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

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
_SWAPPED = frozenset((5, 6, 7, 8))
_SIXTEEN_BIT = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
_EIGHT_BIT = frozenset(("1", "L", "P", "RGB", "CMYK", "YCbCr"))


class UnreadableError(Exception):
    """One image cannot be used; the message is the reason that the index records."""


class Decoded(NamedTuple):
    """What the cache keeps of one image.

    pixels: uint8 (size, size, channels). phash: 32 bytes. quality: 0 to 100. width, height: of the
    upright picture in the file.
    """

    pixels: np.ndarray
    phash: bytes
    quality: int
    width: int
    height: int


class _Record(NamedTuple):
    """A line of the index on its way through the journal; crc is of the pixels in the array."""

    row: int
    sha256: str | None
    phash: str | None
    quality: int | None
    width: int | None
    height: int | None
    error: str | None
    crc: int


# --- one image ------------------------------------------------------------------------------------


def decode(data: bytes, options: Images) -> Decoded:
    """Decode the content of an image file.

    Large JPEGs are decoded at a reduced scale that is still at least twice the cache's size.

    Raises:
        UnreadableError: with a reason that depends on the bytes alone.
    """
    if not data:
        raise UnreadableError("empty file")
    try:
        return _decode(data, options)
    except UnreadableError:
        raise
    except Image.UnidentifiedImageError:
        start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
        what = "HTML or XML" if start.startswith(b"<") else "unknown format"
        raise UnreadableError(f"not an image ({what})") from None
    except Exception as error:  # whatever a damaged file provokes concerns that file alone
        text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        raise UnreadableError(f"cannot be decoded: {type(error).__name__}: {text}") from error


def _decode(data: bytes, options: Images) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > options.max_pixels:
            raise UnreadableError(f"{width} x {height} pixels, more than images.max_pixels")
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a phone's JPEG
            raise UnreadableError("several frames in one file")
        if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
            raise UnreadableError("CMYK JPEG without Adobe marker: its inks may be inverted")
        if image.getexif().get(_ORIENTATION) in _SWAPPED:
            width, height = height, width
        image.draft(None, (2 * options.size, 2 * options.size))
        ImageOps.exif_transpose(image, in_place=True)
        frame = to_rgb(image)
        small = frame.resize((HASH_SIZE, HASH_SIZE), FILTER, reducing_gap=HASH_GAP)
        square = crop_square(frame if options.channels == 3 else frame.convert("L"), options.size)
    bits, quality = pdqhash.compute(np.asarray(small))
    pixels = np.asarray(square).reshape(options.size, options.size, options.channels)
    return Decoded(pixels, np.packbits(bits).tobytes(), int(quality), width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB.

    16-bit grey is scaled as PNG defines it (65535 is white). Transparent pixels lie on black.

    Raises:
        UnreadableError: the colours of this mode are not defined.
    """
    if image.mode in _SIXTEEN_BIT:
        levels = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        behind = Image.new("RGB", image.size, BACKGROUND)
        behind.paste(picture, mask=picture.getchannel("A"))
        return behind
    if image.mode not in _EIGHT_BIT:
        raise UnreadableError(f"colour mode {image.mode} has no defined 8-bit colours")
    return image if image.mode == "RGB" else image.convert("RGB")


def crop_square(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square, resized (antialiased) to `size` pixels a side."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), FILTER, reducing_gap=CACHE_GAP)


# --- the cache of a data set ----------------------------------------------------------------------


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
    with _no_pillow_limit(), ThreadPoolExecutor(workers) as pool:
        pixels, done = _resume(partial, shape, journal, pool)

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
    digest = None
    try:
        data = _read(path)
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data, options)
    except UnreadableError as error:
        pixels[row] = 0
        return _Record(row, digest, None, None, None, None, str(error), zlib.crc32(pixels[row]))
    pixels[row] = image.pixels
    crc = zlib.crc32(pixels[row])
    size = (image.width, image.height)
    return _Record(row, digest, image.phash.hex(), image.quality, *size, None, crc)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # also a loop of links; a pipe would block for ever
            raise UnreadableError("no such file")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def _resume(
    partial: Path, shape: tuple[int, ...], journal: _Journal, pool: ThreadPoolExecutor
) -> tuple[np.memmap, dict[int, _Record]]:
    """The array to write to, and the rows in it that an earlier job finished.

    A row counts as finished where its pixels have the checksum that the journal noted; broken
    files are tried again, for they may have been replaced.
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
    intact = pool.map(
        lambda record: record.error is None and zlib.crc32(pixels[record.row]) == record.crc,
        records,
    )
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
        [FILTER.name, CACHE_GAP, HASH_SIZE, HASH_GAP, BACKGROUND],
        [options.size, options.channels, options.max_pixels],
        manifest[["image_id", "path"]].to_numpy().tolist(),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextlib.contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Leave the refusal of huge images to `max_pixels` alone."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
