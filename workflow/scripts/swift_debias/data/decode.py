"""One image file to one uint8 square: orientation, colour, crop, size. DICOM goes by dicom.py."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pdqhash
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from ..config.schema import Images
from . import dicom
from .unreadable import UnreadableError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # what Pillow may try to decode


FILTER = Image.Resampling.BILINEAR  # Pillow widens it when it shrinks: antialiased
CACHE_GAP = 3.0  # reducing_gap: very large frames are halved first, without a visible difference
HASH_SIZE = 128  # pixels a side from which the hash is taken; the hash itself looks at 64 x 64
HASH_GAP = 2.0


# Behind transparent pixels. What colour they have beneath is not defined: one program writes zeros
# there and the next what was cut away, so that dropping alpha shows what nobody was meant to see.
BACKGROUND = (0, 0, 0)

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height


_PHOTOMETRIC = 0x0106  # TIFF tag; 0: the lowest level is white, which Pillow heeds in 8 bits only


_SWAPPED = frozenset((5, 6, 7, 8))


_SIXTEEN_BIT = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))


USUAL_BITS = 8  # of a picture's levels
_EIGHT_BIT = frozenset(("1", "L", "P", "RGB", "CMYK", "YCbCr"))


class Decoded(NamedTuple):
    """What the cache keeps of one image.

    pixels: uint8 (size, size, channels). phash: 32 bytes. quality: 0 to 100. width, height: of the
    upright picture in the file. bits: of a 16-bit grey picture, how many its levels need; else
    None. transparent: some of its pixels are, in part or whole, and lie on `BACKGROUND`.
    """

    pixels: np.ndarray
    phash: bytes
    quality: int
    width: int
    height: int
    bits: int | None
    transparent: bool = False


def read_bytes(path: Path, options: Images) -> bytes:
    """The content of an image file; its size is looked at first.

    Raises:
        UnreadableError: it is no plain file, too large, or cannot be read.
    """
    try:
        if not path.is_file():  # also a loop of links; a pipe would block for ever
            raise UnreadableError("no such file")
        size = path.stat().st_size
        if size > options.max_bytes:
            raise UnreadableError(f"{size:,} bytes, more than images.max_bytes")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    except MemoryError:
        raise UnreadableError(f"{size:,} bytes do not fit in memory") from None


def decode(data: bytes, options: Images, bits: int | None = None) -> Decoded:
    """Decode the content of an image file.

    JPEGs from four times the cache's size are decoded at a reduced scale that is still at least
    twice that size, and pictures from six times are halved before they are resized (CACHE_GAP):
    pixels then differ by a few levels from a plain resize. `interpolation: nearest` does neither.

    Args:
        data: the file's bytes.
        options: size, channels, bounds, `bits` of 16-bit films.
        bits: of the data set's 16-bit grey pictures, where `options` does not say; None: as many
            as this picture needs (`Decoded.bits`).

    Raises:
        UnreadableError: with a reason that depends on the bytes alone.
    """
    if not data:
        raise UnreadableError("empty file")
    try:
        return _decode(data, options, bits)
    except UnreadableError:
        raise
    except Image.UnidentifiedImageError:
        start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
        what = "HTML or XML" if start.startswith(b"<") else "unknown format"
        raise UnreadableError(f"not an image ({what})") from None
    except MemoryError:
        raise UnreadableError("the picture does not fit in memory") from None
    except Exception as error:  # whatever a damaged file provokes concerns that file alone
        text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        raise UnreadableError(f"cannot be decoded: {type(error).__name__}: {text}") from error


def _decode(data: bytes, options: Images, bits: int | None) -> Decoded:
    if dicom.is_dicom(data):
        image, needed = dicom.picture(data, options, bits)
        (width, height), frame, seen_through = image.size, to_rgb(image), False
    else:
        frame, (width, height), needed, seen_through = _by_pillow(data, options, bits)
    small = frame.resize((HASH_SIZE, HASH_SIZE), FILTER, reducing_gap=HASH_GAP)
    square = crop_square(frame if options.channels == 3 else frame.convert("L"), options)
    hashed, quality = pdqhash.compute(np.asarray(small))
    pixels = np.asarray(square).reshape(options.size, options.size, options.channels)
    return Decoded(
        pixels,
        np.packbits(hashed).tobytes(),
        int(quality),
        width,
        height,
        needed,
        seen_through,
    )


def _by_pillow(
    data: bytes, options: Images, bits: int | None
) -> tuple[Image.Image, tuple[int, int], int | None, bool]:
    """The upright picture in RGB, its width and height in the file, and the bits it needs.

    Last, whether it is transparent somewhere.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        image: Image.Image = file
        width, height = image.size
        deep = _sixteen_bits_a_colour(file)  # Pillow forgets it when it loads the pixels
        if width * height > options.max_pixels:
            raise UnreadableError(f"{width} x {height} pixels, more than images.max_pixels")
        if getattr(file, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a phone's JPEG
            raise UnreadableError("several frames in one file")
        if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
            raise UnreadableError("CMYK JPEG without Adobe marker: its inks may be inverted")
        if image.getexif().get(_ORIENTATION) in _SWAPPED:
            width, height = height, width
        white_is_zero = (
            isinstance(file, TiffImagePlugin.TiffImageFile) and file.tag_v2.get(_PHOTOMETRIC) == 0
        )
        if options.interpolation != "nearest":  # which takes no pixel that the file does not have
            file.draft(None, (2 * options.size, 2 * options.size))
        ImageOps.exif_transpose(image, in_place=True)
        needed = None
        if image.mode in _SIXTEEN_BIT:
            needed = options.bits or bits_needed(np.asarray(image), significant_bits(data))
            image = eight_bits(np.asarray(image), options.bits or bits or needed)
            image = ImageOps.invert(image) if white_is_zero else image
        elif deep and not _is_bright(image):
            raise UnreadableError("16 bits a colour of which few are used: save it with 8 bits")
        frame = to_rgb(image)
        frame.load()  # while its file is open
        seen_through = is_transparent(image)
    return frame, (width, height), needed, seen_through


def bits_needed(levels: np.ndarray, significant: int | None) -> int:
    """How many bits the levels of a 16-bit grey picture have, 8 to 16.

    Args:
        levels: the picture.
        significant: what the file says (sBIT). PNG asks to scale such levels up to 16 bits, which
            not every program does: it is believed where the levels lie below it.
    """
    found = max(8, int(levels.max()).bit_length())
    if significant is None:
        return found
    return max(significant, 8) if found <= significant else 16


def eight_bits(levels: np.ndarray, bits: int) -> Image.Image:
    """A 16-bit grey picture in 8 bits: the highest level of `bits` bits is white.

    Raises:
        UnreadableError: a level is above it.
    """
    white = (1 << bits) - 1
    if levels.max() > white:
        raise UnreadableError(f"levels up to {levels.max()}, more than {bits} bits (images.bits)")
    scaled = (levels.astype(np.uint32) * 255 + white // 2) // white
    return Image.fromarray(scaled.astype(np.uint8))


def significant_bits(data: bytes) -> int | None:
    """sBIT of a grey PNG file: how many bits of its levels mean something; None: not said."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    place = 8
    while place + 12 <= len(data):
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if name == b"sBIT" and length:
            return data[place + 8] if 0 < data[place + 8] <= 16 else None
        if name in (b"PLTE", b"IDAT", b"IEND"):  # sBIT stands before them
            return None
        place += 12 + length
    return None


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB; transparent pixels lie on black.

    Raises:
        UnreadableError: the colours of this mode are not defined.
    """
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        behind = Image.new("RGB", image.size, BACKGROUND)
        behind.paste(picture, mask=picture.getchannel("A"))
        return behind
    if image.mode not in _EIGHT_BIT:
        numbers = image.mode in ("F", "I") or image.mode in _SIXTEEN_BIT
        how = (
            "choose a window (which level is black and which is white) and save it with 8 or "
            "16 bits a pixel"
            if numbers
            else "save it in RGB or grey"
        )
        raise UnreadableError(f"colour mode {image.mode} has no defined 8-bit colours: {how}")
    return image if image.mode == "RGB" else image.convert("RGB")


def is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of a picture is not opaque; an alpha channel alone says nothing."""
    if not image.has_transparency_data:
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def on_background(number: int, total: int, first: object) -> str:
    """What is said of images that are transparent somewhere."""
    return (
        f"{number} of {total} images have transparent pixels, which lie on black (the first is "
        f"{first}); where your own program drops alpha, as Pillow's convert('RGB') does, save them "
        "without it as it sees them"
    )


def _sixteen_bits_a_colour(file: ImageFile.ImageFile) -> bool:
    """Whether Pillow will cut 16-bit colours to their high bytes."""
    raw = [
        part.args if isinstance(part.args, str) else (part.args or ("",))[0] for part in file.tile
    ]
    return any(isinstance(mode, str) and ";16" in mode for mode in raw)


def _is_bright(image: Image.Image) -> bool:
    """Whether colours cut to their high bytes reach a quarter of the range.

    Colours of fewer than 14 bits that were never scaled up end below it, in a few dark levels.
    """
    bands = image.getbands()
    colours = bands[:-1] if bands[-1] == "A" else bands
    return any(np.asarray(image.getchannel(band)).max() >= 64 for band in colours)


def crop_square(image: Image.Image, options: Images) -> Image.Image:
    """A square of `size` pixels a side: the picture's centre, or all of it, resized."""
    filter_ = Image.Resampling[options.interpolation.upper()]
    size = (options.size, options.size)
    if options.fit == "crop":
        side = max(1, round(min(image.size) * options.crop_share))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if filter_ == Image.Resampling.NEAREST:  # which takes no halved frames
        return image.resize(size, filter_)
    return image.resize(size, filter_, reducing_gap=CACHE_GAP)


@contextlib.contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Leave the refusal of huge images to `max_pixels` alone."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
