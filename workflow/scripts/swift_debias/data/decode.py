"""One image file to one uint8 square: orientation, colour, crop, size."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pdqhash
from PIL import Image, ImageOps

from ..config.schema import Images

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # what Pillow may try to decode


FILTER = Image.Resampling.BILINEAR  # Pillow widens it when it shrinks: antialiased
CACHE_GAP = 3.0  # reducing_gap: very large frames are halved first, without a visible difference
HASH_SIZE = 128  # pixels a side from which the hash is taken; the hash itself looks at 64 x 64
HASH_GAP = 2.0


BACKGROUND = (0, 0, 0)  # behind transparent pixels

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


@contextlib.contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Leave the refusal of huge images to `max_pixels` alone."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
