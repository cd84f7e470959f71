"""The picture of a DICOM file in 8 bits, through pydicom, which is optional.

Grey pixels go the way of the standard (PS3.3, C.11): rescale slope and intercept or the modality
table; then the file's VOI table or first window; where it has neither, the fewest bits that hold
the brightest pixel of the data set (or `images.bits`), as for 16-bit PNG, so that all films are
scaled alike; then MONOCHROME1 is inverted. A tag without a value counts as absent, and padding
(PixelPaddingValue) says nothing of a film's levels. Colours are RGB of 8 bits, whatever they are
stored as. Several frames in a file are refused, for which of them is the picture is not for us to
say.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from ..config.schema import Images
from .dicom_tags import INSTALL, import_pydicom, is_installed
from .unreadable import UnreadableError

GREY = ("MONOCHROME1", "MONOCHROME2")
MOST_BITS = 16
_HIGHEST = 1e12  # above any level
# What shapes the grey levels; anonymizers leave tags without a value, which pydicom trips on.
_SHAPING = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
            "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
            "PixelPaddingRangeLimit")  # fmt: skip
# (0002,0000), or (0008,0000), (0008,0005), (0008,0008), (0008,0016), of files without a preamble
_FIRST_TAGS = (b"\x02\0\0\0", *(bytes((8, 0, element, 0)) for element in (0, 5, 8, 0x16)))


def is_dicom(data: bytes) -> bool:
    """Whether bytes are DICOM: the mark behind its preamble, or one of the first tags without."""
    return data[128:132] == b"DICM" or data[:4] in _FIRST_TAGS


def picture(data: bytes, options: Images, bits: int | None) -> tuple[Image.Image, int | None]:
    """The picture of a DICOM file, 8 bits, grey or RGB.

    Args:
        data: the file's bytes.
        options: bounds, and `bits` of films without a window.
        bits: of the data set's films without a window, where `options` does not say.

    Returns:
        The picture, and how many bits its levels need where it has no window and more than 8.

    Raises:
        UnreadableError: with a reason.
    """
    if not is_installed():
        raise UnreadableError(f"a DICOM file: {INSTALL}")
    header = import_pydicom("pydicom").dcmread(io.BytesIO(data), force=True)
    _complete(header)
    _refuse(header, options)
    levels = _levels(header)
    kind = header.PhotometricInterpretation
    if kind in GREY:
        needed = _bits_needed(levels, header)
        needed = needed and (options.bits or needed)
        scaled = options.bits or bits or needed
        return Image.fromarray(grey(levels, header, scaled)), needed
    if kind == "PALETTE COLOR":
        levels = import_pydicom("pydicom.pixels").apply_color_lut(levels, header)
        levels = (levels >> 8 if levels.dtype == np.uint16 else levels).astype(np.uint8)
    if levels.dtype != np.uint8 or levels.ndim != 3:
        raise UnreadableError(f"colours ({kind}) of {header.BitsStored} bits: save it with 8")
    return Image.fromarray(np.ascontiguousarray(levels[..., :3])), None


def _complete(header: Any) -> None:
    """Take out shaping tags that have no value; half of a rescaling gets its neutral other half."""
    for name in _SHAPING:
        if name in header and header[name].is_empty:
            del header[name]
    if "RescaleSlope" in header or "RescaleIntercept" in header:
        header.RescaleSlope = header.get("RescaleSlope", 1)
        header.RescaleIntercept = header.get("RescaleIntercept", 0)


def _levels(header: Any) -> np.ndarray:
    """The pixels as stored, (rows, columns) or (rows, columns, 3); YBR is made RGB."""
    try:
        return header.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        syntax = header.file_meta.TransferSyntaxUID.name
        if "missing dependencies" in str(error):
            raise UnreadableError(f"no decoder for {syntax}: {INSTALL}") from error
        raise UnreadableError(f"{syntax}: {' '.join(str(error).split())}") from error


def _has_window(header: Any) -> bool:
    """Whether the file says itself which of its levels are black and white."""
    window = "WindowCenter" in header and "WindowWidth" in header
    return bool(window or header.get("VOILUTSequence") or header.get("ModalityLUTSequence"))


def _bits_needed(levels: np.ndarray, header: Any) -> int | None:
    """How many bits a film's levels need, 8 to 16; None where the file says what is white."""
    if _has_window(header) or header.BitsStored <= 8:
        return None
    signed = int(header.PixelRepresentation == 1)
    levels = levels[_inside(levels, header)]
    extreme = max(int(levels.max()), -int(levels.min()) - 1)
    return min(max(8, extreme.bit_length() + signed), MOST_BITS)


def _inside(levels: np.ndarray, header: Any) -> np.ndarray:
    """Which pixels are no padding, bool; all of them where nothing else is there."""
    if "PixelPaddingValue" not in header:
        return np.ones(levels.shape, bool)
    padding = int(header.PixelPaddingValue)
    ends = sorted((padding, int(header.get("PixelPaddingRangeLimit", padding))))
    inside = (levels < ends[0]) | (levels > ends[1])
    return inside if inside.any() else ~inside


def _refuse(header: Any, options: Images) -> None:
    """Refuse what the header alone shows to be no picture of ours; nothing is decoded yet."""
    missing = [
        name
        for name in ("Rows", "Columns", "PhotometricInterpretation", "BitsStored", "PixelData")
        if name not in header
    ]
    if missing:
        raise UnreadableError(f"a DICOM file without a picture (no {missing[0]})")
    if "TransferSyntaxUID" not in header.file_meta:
        raise UnreadableError("a DICOM file that does not say how its pixels are stored")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnreadableError(f"{frames} frames in one DICOM file: export the one that is meant")
    width, height = int(header.Columns), int(header.Rows)
    if width * height > options.max_pixels:
        raise UnreadableError(f"{width} x {height} pixels, more than images.max_pixels")
    if header.BitsStored > MOST_BITS:
        raise UnreadableError(f"{header.BitsStored} bits a pixel; {MOST_BITS} are the most")


def grey(levels: np.ndarray, header: Any, bits: int | None = None) -> np.ndarray:
    """Grey levels as they are to be shown, uint8; 0 is black.

    Args:
        levels: as stored, (rows, columns).
        header: pydicom's data set, with what is to be done to them.
        bits: that the levels have, for files without a window; None: their stored bits.

    Raises:
        UnreadableError: a level needs more bits.
    """
    pixels = import_pydicom("pydicom.pixels")
    values = pixels.apply_modality_lut(levels, header)
    if header.get("VOILUTSequence"):
        values = pixels.apply_voi(values, header)
        black, white = 0.0, float(2 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1)
    elif "WindowCenter" in header and "WindowWidth" in header:
        values = pixels.apply_windowing(values, header)
        with np.errstate(over="ignore"):
            ends = pixels.apply_windowing(np.array([-_HIGHEST, _HIGHEST]), header)
        black, white = float(ends[0]), float(ends[1])
    else:
        black, white = _stored_range(header, bits)
        film = values[_inside(levels, header)]
        if film.min() < black or film.max() > white:
            raise UnreadableError(f"levels of more than {bits} bits (images.bits)")
    shades = (values.astype(np.float64) - black) / (white - black)
    shown = np.rint(255 * shades.clip(0, 1)).astype(np.uint8)
    return 255 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown


def _stored_range(header: Any, bits: int | None) -> tuple[float, float]:
    """The least and the greatest value that a pixel can have after the modality's rescaling."""
    if header.get("ModalityLUTSequence"):
        return 0.0, float(2 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1)
    bits = int(header.BitsStored) if bits is None or header.BitsStored <= 8 else bits
    least, most = 0, 2**bits - 1
    if header.PixelRepresentation == 1:
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    slope = float(header.get("RescaleSlope") or 1)
    intercept = float(header.get("RescaleIntercept") or 0)
    low, high = sorted((least * slope + intercept, most * slope + intercept))
    return low, high
