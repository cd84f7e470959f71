"""Image files of every kind of oddness: each is cached right, or counted with a one-line reason.

The oracle is Pillow used plainly, and the arrays that the files were made of.
"""

from __future__ import annotations

import collections
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swift_debias.config.schema import Images
from swift_debias.data import cache_building, greys, image_set
from swift_debias.data.cache_building import build_cache
from swift_debias.data.image_cache import CachedImages
from swift_debias.errors import UserError

SIDE = 24
OPTIONS = Images(size=SIDE, max_broken=1, max_pixels=200_000, max_bytes=2_000_000)


class Odd(NamedTuple):
    """A file: its bytes, and what is right: an array, a word of the reason, or None for either."""

    kind: str
    data: bytes
    right: np.ndarray | str | None


def picture(rng: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(levels: np.ndarray, bits: int, *more: bytes) -> bytes:
    """A grey (H, W) or coloured (H, W, 3) PNG by hand; `more` chunks stand before the pixels."""
    kind = 0 if levels.ndim == 2 else 2
    raw = levels.astype(">u2" if bits == 16 else np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in raw)
    head = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def grey(array: np.ndarray) -> np.ndarray:
    return np.repeat(array[..., None], 3, axis=-1)


FORMS = {"PNG": {}, "BMP": {}, "TIFF": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


def sound(rng: np.random.Generator) -> Iterator[Odd]:
    """Files that are as they should be, in forms that programs write."""
    array = picture(rng)
    image = Image.fromarray(array)
    for form, options in FORMS.items():
        yield Odd(f"plain {form}", encode(image, form, **options), array)
    wrong = encode(image, "PNG")  # its name says .jpg
    yield Odd("wrong extension", wrong, array)
    # 8 levels of freedom: an orientation, undone by the reader
    exif = Image.Exif()
    exif[0x0112] = 6
    yield Odd("EXIF rotation", encode(image, "PNG", exif=exif), np.rot90(array, -1))
    palette = image.quantize(16)
    yield Odd("palette", encode(palette, "PNG"), np.asarray(palette.convert("RGB")))
    half = np.concatenate([array, np.full((SIDE, SIDE, 1), 255, np.uint8)], axis=-1)
    half[:, :7, 3] = 0
    shown = array * (half[..., 3:] > 0)
    yield Odd("transparent", encode(Image.fromarray(half), "PNG"), shown)
    clear = image.quantize(8)
    shown = np.asarray(clear.convert("RGB")) * (np.asarray(clear) != 2)[..., None]
    yield Odd("palette with alpha", encode(clear, "PNG", transparency=2), shown)
    yield Odd("CMYK with Adobe marker", encode(image.convert("CMYK"), "JPEG", quality=98), array)
    yield Odd("one bit", encode(image.convert("1"), "PNG"), grey(np.asarray(image.convert("L"))))
    yield Odd(
        "trailing bytes", encode(image, "PNG") + bytes(rng.integers(0, 256, 50, np.uint8)), array
    )


def refused(rng: np.random.Generator) -> Iterator[Odd]:
    """Files that no reading makes a picture of, and what the reason says."""
    image = Image.fromarray(picture(rng))
    yield Odd("no bytes", b"", "empty")
    yield Odd("zero bytes", bytes(int(rng.integers(1, 5000))), "not an image")
    yield Odd("random bytes", rng.bytes(int(rng.integers(1, 5000))), "not an image")
    yield Odd("web page", b"<!DOCTYPE html><title>404</title>", "HTML")
    yield Odd("archive", b"PK\x03\x04" + rng.bytes(200), "not an image")
    frames = [Image.fromarray(picture(rng)) for _ in range(3)]
    more = {"save_all": True, "append_images": frames[1:]}
    yield Odd("animated GIF", encode(frames[0], "GIF", **more), "several frames")
    yield Odd("pages of TIFF", encode(frames[0], "TIFF", **more), "several frames")
    cmyk = encode(image.convert("CMYK"), "JPEG")
    start = cmyk.index(b"\xff\xee")
    (length,) = struct.unpack(">H", cmyk[start + 2 : start + 4])
    yield Odd("CMYK of unknown inks", cmyk[:start] + cmyk[start + 2 + length :], "Adobe")
    wide, high = (int(n) for n in rng.integers(1000, 1 << 28, 2))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0))
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
    yield Odd("bomb", bomb, "max_pixels")
    yield Odd("float TIFF", encode(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "mode F")
    dark = rng.integers(0, 4096, (SIDE, SIDE, 3))
    yield Odd("12-bit colours in 16", png(dark, 16), "16 bits")


def damaged(rng: np.random.Generator) -> Iterator[Odd]:
    """Files with random damage: whatever comes of it concerns that file alone."""
    for form, options in (*FORMS.items(), ("GIF", {})):
        data = bytearray(encode(Image.fromarray(picture(rng)), form, **options))
        cut = bytes(data[: int(rng.integers(1, len(data)))])
        yield Odd(f"cut {form}", cut, None)
        for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
            data[place] ^= int(rng.integers(1, 256))
        yield Odd(f"flipped {form}", bytes(data), None)


def files() -> list[Odd]:
    found = []
    for seed in range(10):
        rng = np.random.default_rng([15, seed])
        found += [*sound(rng), *refused(rng), *damaged(rng)]
    return found


def cache(root: Path, names: list[str], options: Images = OPTIONS) -> pd.DataFrame:
    manifest = pd.DataFrame({"image_id": [f"id-{name}" for name in names], "path": names})
    return build_cache(manifest, root, root / "set.npy", root / "set.parquet", options, 2)


def test_every_file_is_right_or_refused_in_one_line(tmp_path: Path) -> None:
    odd = files()
    names = []
    for number, (kind, data, _) in enumerate(odd):
        names.append(f"{number}.{'jpg' if kind == 'wrong extension' else 'bin'}")
        (tmp_path / names[-1]).write_bytes(data)
    index = cache(tmp_path, names)
    images = CachedImages([(tmp_path / "set.npy", tmp_path / "set.parquet")])
    counts: collections.Counter[str] = collections.Counter()
    for row, (kind, _, right) in enumerate(odd):
        error = index["error"].iloc[row]
        if pd.notna(error):
            assert "\n" not in error and "0x" not in error, (kind, error)
            assert not isinstance(right, np.ndarray), (kind, error)
            if isinstance(right, str):
                assert right in error, (kind, error)
            with pytest.raises(UserError, match=f"id-{names[row]}"):
                images.rows("set", [f"id-{names[row]}"])
            counts["refused"] += 1
            continue
        assert not isinstance(right, str), f"{kind} was taken"
        found = images.gather(images.rows("set", [f"id-{names[row]}"]))[0].astype(int)
        assert found.shape == (SIDE, SIDE, 3)
        if right is not None:
            lossy = "JPEG" in kind or "CMYK" in kind or kind == "one bit"
            limit = {"one bit": 128}.get(kind, 12) if lossy else 0
            assert np.abs(found - right).mean() <= limit, kind
        counts["right" if right is not None else "read in spite of damage"] += 1
    print(len(odd), dict(counts))
    assert len(odd) >= 300
    said = "\n".join(cache_building.summary(index, names))
    assert f"{len(odd)} images, {counts['refused']} of them cannot be used" in said
    assert len(said.splitlines()) <= cache_building.NAMED + 5


@pytest.mark.key("images.max_bytes")
def test_a_huge_file_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(
        encode(Image.fromarray(picture(np.random.default_rng(0))), "PNG")
    )
    with (tmp_path / "slide.jpg").open("wb") as file:
        os.truncate(file.fileno(), 20 << 30)  # sparse: 20 GiB of nothing
    index = cache(tmp_path, ["good.png", "slide.jpg"])
    assert pd.isna(index["error"][0])
    assert index["error"][1] == "21,474,836,480 bytes, more than images.max_bytes"
    size = (tmp_path / "good.png").stat().st_size
    for limit, fits in ((size, True), (size - 1, False)):
        options = OPTIONS.model_copy(update={"max_bytes": limit, "max_broken": 1.0})
        assert pd.isna(cache(tmp_path, ["good.png"], options)["error"][0]) == fits


@pytest.mark.parametrize("where", ["decode", "read_bytes"])
def test_a_picture_that_memory_does_not_hold_is_counted(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(Image.fromarray(picture(np.random.default_rng(0))), "PNG")
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(data if name != "b.png" else data + b"large")
    if where == "read_bytes":
        real = Path.read_bytes

        def read(path: Path) -> bytes:
            if path.name == "b.png":
                raise MemoryError
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", read)
    else:
        real_open = Image.open

        def open_image(stream: io.BytesIO, **options: object) -> Image.Image:
            if stream.getvalue().endswith(b"large"):
                raise MemoryError
            return real_open(stream, **options)

        monkeypatch.setattr(Image, "open", open_image)
    index = cache(tmp_path, ["a.png", "b.png", "c.png"])
    assert index["error"].isna().tolist() == [True, False, True]
    assert "memory" in index["error"][1]


# --- depth ----------------------------------------------------------------------------------------


def films(rng: np.random.Generator, bits: int, n: int = 6) -> list[np.ndarray]:
    """X-rays of this depth; one uses all of it, the others are darker."""
    tops = [(1 << bits) - 1, *rng.integers(1 << (bits - 3), 1 << bits, n - 1)]
    made = [rng.integers(0, top, (SIDE, SIDE)) for top in tops]
    for film, top in zip(made, tops, strict=True):
        film[0, 0] = top
    return [made[place] for place in rng.permutation(n)]


FILM: dict[str, Callable[[np.ndarray], bytes]] = {
    "PNG": lambda film: png(film, 16),
    "TIFF": lambda film: encode(Image.fromarray(film.astype(np.uint16)), "TIFF"),
}


@pytest.mark.parametrize("form", FILM)
@pytest.mark.parametrize("bits", range(9, 17))
def test_films_keep_their_grey_levels_and_are_scaled_alike(
    bits: int, form: str, tmp_path: Path
) -> None:
    made = films(np.random.default_rng([bits]), bits)
    names = [f"{place}.png" for place in range(len(made))]
    for name, film in zip(names, made, strict=True):
        (tmp_path / name).write_bytes(FILM[form](film))
    index = cache(tmp_path, names, Images(size=SIDE, channels=1))
    pixels = np.load(tmp_path / "set.npy")[..., 0]
    for film, found in zip(made, pixels, strict=True):
        np.testing.assert_array_equal(found, np.floor(film * 255 / ((1 << bits) - 1) + 0.5))
    assert index["bits"].max() == bits
    assert f"has {bits} bits" in "\n".join(cache_building.summary(index, names))


def shadows(kind: str) -> list[np.ndarray]:
    """Ten films of which some, or all, keep few grey levels: the first is 0, the brightest is 7."""
    made = [np.random.default_rng(n).integers(0, 1024, (SIDE, SIDE)) for n in range(10)]
    made[7][0, :2] = [0, 1023]
    if kind == "one bright pixel":
        made[7][0, 0] = 65535
    elif kind == "half of eight bits":
        made = [film // (1 if n > 4 else 4) for n, film in enumerate(made)]
    elif kind == "one of eight bits":
        made[0] //= 4
    elif kind == "an offset":
        made = [film + 32768 for film in made]
    return made


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        ("one bright pixel", 9),
        ("half of eight bits", 5),
        ("one of eight bits", 1),
        ("an offset", 10),
        ("nothing", 0),
    ],
)
def test_films_that_keep_few_grey_levels_are_told(kind: str, few: int, tmp_path: Path) -> None:
    """By the library as by the workflow, with the file that makes them so."""
    names = [f"{place}.png" for place in range(10)]
    for name, film in zip(names, shadows(kind), strict=True):
        (tmp_path / name).write_bytes(png(film, 16))
    options = Images(size=SIDE, channels=1)
    index = cache(tmp_path, names, options)
    said = [line for line in cache_building.summary(index, names) if "few grey levels" in line]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = image_set.read_files([tmp_path / name for name in names], options).pixels
    np.testing.assert_array_equal(pixels, np.load(tmp_path / "set.npy"))
    whole = greys.remarks(index["bits"], index["contrast"], [tmp_path / name for name in names])
    assert [str(one.message) for one in caught] == whole
    assert len(said) == len(whole) == bool(few)
    for line in said:
        start = f"{few} of 10 16-bit images keep few grey levels (the first is 0.png): "
        assert line.startswith(start) and "images.bits" in line
        assert kind != "one bright pixel" or "level of 16 bits that 7.png needs" in line
    bright = kind == "one bright pixel"  # which has few levels too, and the highest
    assert sum(len(np.unique(picture)) < 70 for picture in pixels) == few + bright


def test_data_sets_of_other_scales_are_told() -> None:
    def index(*bits: int | None) -> pd.DataFrame:
        contrast = [0 if of is None else 255 for of in bits]
        return pd.DataFrame({"bits": pd.Series(bits, dtype="Int8"), "contrast": contrast})

    told = greys.scales({"a": index(16, 10, None), "b": index(10, 10), "c": index(None)})
    assert told.log == {
        "bits_of_16_bit_images": {"a": 16, "b": 10},
        "16_bit_images_that_keep_few_grey_levels": {"a": 1, "b": 0},
    }
    (line,) = told.lines
    assert "(a 16, b 10)" in line and "images.bits" in line
    assert greys.scales({"a": index(12), "b": index(12, 11)}).lines == []
    assert greys.scales({"c": index(None)}) == ({}, [])


@pytest.mark.key("images.bits")
def test_a_declared_depth_is_taken(tmp_path: Path) -> None:
    film = np.minimum(films(np.random.default_rng(0), 10)[0], 1000)
    (tmp_path / "a.png").write_bytes(png(film, 16))
    (tmp_path / "b.png").write_bytes(png(film + 4000, 16))  # too bright for 12 bits
    index = cache(
        tmp_path, ["a.png", "b.png"], Images(size=SIDE, channels=1, bits=12, max_broken=1)
    )
    found = np.load(tmp_path / "set.npy")[0, ..., 0]
    np.testing.assert_array_equal(found, np.floor(film * 255 / 4095 + 0.5))
    assert "images.bits" in index["error"][1]


@pytest.mark.parametrize("shifted", [False, True])
def test_what_a_png_says_of_its_depth(shifted: bool, tmp_path: Path) -> None:
    """sBIT 12: PNG asks to scale levels up to 16 bits; some programs leave them as they are."""
    film = np.minimum(films(np.random.default_rng(0), 12)[0], 2000)
    said = chunk(b"sBIT", bytes([12]))
    (tmp_path / "a.png").write_bytes(png(film << 4 if shifted else film, 16, said))
    cache(tmp_path, ["a.png"], Images(size=SIDE, channels=1))
    found = np.load(tmp_path / "set.npy")[0, ..., 0]
    assert np.abs(found - film * 255 / 4095).max() <= 0.6


def test_flat_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(Image.new("RGB", (40, 40), (90, 90, 90)), "PNG"))
    (tmp_path / "b.png").write_bytes(
        encode(Image.fromarray(picture(np.random.default_rng(1))), "PNG")
    )
    index = cache(tmp_path, ["a.png", "b.png"])
    said = cache_building.summary(index, ["a.png", "b.png"])
    assert [line for line in said if "contrast" in line] == [
        "1 images have almost no contrast (fewer than 8 of 256 levels), such as a.png"
    ]


def test_a_stopped_job_of_films_ends_in_the_bytes_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_building, "BLOCK", 4)
    made = films(np.random.default_rng(3), 12, n=14)
    names = [f"{place}.png" for place in range(len(made))]
    for name, film in zip(names, made, strict=True):
        (tmp_path / name).write_bytes(png(film, 16))
    manifest = pd.DataFrame({"image_id": names, "path": names})
    out = [tmp_path / "whole.npy", tmp_path / "whole.parquet"]
    build_cache(manifest, tmp_path, *out, Images(size=SIDE, channels=1))
    for stop in range(1, 6):
        paths = [tmp_path / f"{stop}.npy", tmp_path / f"{stop}.parquet"]
        blocks = iter(range(1, 100))

        def halt(done: int, total: int, blocks: Iterator[int] = blocks, stop: int = stop) -> None:
            if next(blocks) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_cache(manifest, tmp_path, *paths, Images(size=SIDE, channels=1), progress=halt)
        build_cache(manifest, tmp_path, *paths, Images(size=SIDE, channels=1))
        assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in out], stop
