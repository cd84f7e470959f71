"""The image cache: right pixels, clear refusals, resumable, the same bytes whatever the workers."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.real import SAMPLES

from swift_debias.config.schema import Images
from swift_debias.data import cache_building
from swift_debias.data.cache_building import build_cache
from swift_debias.data.decode import UnreadableError, decode
from swift_debias.data.image_cache import CachedImages, read_index
from swift_debias.errors import UserError

OPTIONS = Images(size=32, channels=3)
EXACT = Images(size=64, channels=3)


def encode(array: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def png(array: np.ndarray, bits: int, colour_type: int) -> bytes:
    """A PNG written by hand: Pillow writes neither 16-bit colour nor absurd sizes."""
    height, width = array.shape[:2]
    raw = array.astype(">u2" if bits == 16 else np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in raw)
    return png_chunks(width, height, bits, colour_type, zlib.compress(lines))


def png_chunks(width: int, height: int, bits: int, colour_type: int, data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 100), (101, 64), (64, 64)])
def test_the_largest_centred_square_is_kept(height: int, width: int) -> None:
    array = picture(0, height, width)
    top, left = (height - 64) // 2, (width - 64) // 2
    got = decode(encode(array), EXACT)
    np.testing.assert_array_equal(got.pixels, array[top : top + 64, left : left + 64])
    assert (got.width, got.height) == (width, height)


def test_resizing_is_antialiased() -> None:
    checkers = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)
    got = decode(encode(checkers.astype(np.uint8)), OPTIONS).pixels.astype(int)
    assert abs(got - 127.5).max() < 4  # picking single pixels would give 0 or 255


@pytest.mark.parametrize("height", [256, 1024])
def test_large_jpegs_decoded_at_reduced_scale_look_the_same(height: int) -> None:
    """Reduced to twice the cache's size at least: less would be blurred by enlarging it."""
    width = height + 376
    data = encode(picture(1, height, width), "JPEG", quality=95)
    reduced = decode(data, EXACT).pixels
    with Image.open(io.BytesIO(data)) as whole:
        box = (188, 0, 188 + height, height)
        full = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR, box=box))
    error = np.mean((reduced.astype(float) - full.astype(float)) ** 2)
    assert 10 * np.log10(255**2 / error) > 40  # dB


# How a stored picture is shown, EXIF 2.3, tag 0x0112, in NumPy's words.
ORIENTATIONS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


SMALLER = re.compile(r"^\| (under 4|[\d.]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs" / "own_classifier.md"
SIZES = {"under 4": (224, 65), "4": (64,), "8": (32,)}  # of photographs of 256 pixels


def plainly(path: Path, options: Images) -> np.ndarray:
    """What Pillow's crop and resize make of a file, without any short cut."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if options.fit == "crop":
        image = image.crop((left, top, left + side, top + side))
    filter_ = Image.Resampling[options.interpolation.upper()]
    return np.asarray(image.resize((options.size, options.size), filter_))


@pytest.mark.parametrize("share", SIZES)
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_pixels_differ_from_a_plain_resize_as_the_page_says(share: str, fit: str) -> None:
    """The bundled photographs: equal below four times the size, and near a row's numbers above."""
    photographs = sorted((SAMPLES / "pad_ufes_20" / "images").iterdir())[::10]
    photographs = [p for p in photographs if Image.open(p).size == (256, 256)]
    [said] = [row[1:] for row in SMALLER.findall(PAGE.read_text("utf-8")) if row[0] == share]
    most, mean, score = 0, [], []
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(16, 1),
    )  # fmt: skip
    for size in SIZES[share]:
        options = Images(size=size, fit=fit)
        both = [
            (decode(path.read_bytes(), options).pixels, plainly(path, options))
            for path in photographs
        ]
        gaps = [np.abs(a.astype(int) - b.astype(int)) for a, b in both]
        most = max(most, *(int(gap.max()) for gap in gaps))
        mean += [gap.mean() for gap in gaps]
        logits = [
            network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1).detach()
            for images in zip(*both, strict=True)
        ]
        score.append(float((logits[0] - logits[1]).abs().max() / logits[1].std()))
    print(share, fit, most, np.mean(mean), max(score))
    for found, number in zip((most, np.mean(mean), max(score)), said, strict=True):
        assert float(number) / 2 <= found <= float(number)


@pytest.mark.parametrize("size", [20, 32, 64, 100])
def test_nearest_takes_pixels_that_the_file_has(size: int) -> None:
    """No short cut averages them, of a JPEG neither."""
    for path in sorted((SAMPLES / "pad_ufes_20" / "images").iterdir())[::100]:
        options = Images(size=size, interpolation="nearest")
        assert np.array_equal(decode(path.read_bytes(), options).pixels, plainly(path, options))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation: int) -> None:
    stored = picture(2, 64, 90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = ORIENTATIONS[orientation](stored)
    got = decode(encode(stored, exif=exif), EXACT)
    left, top = (shown.shape[1] - 64) // 2, (shown.shape[0] - 64) // 2
    np.testing.assert_array_equal(got.pixels, shown[top : top + 64, left : left + 64])
    assert (got.height, got.width) == shown.shape[:2]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    got = decode(png(levels, 16, colour_type=0), EXACT).pixels[..., 0]
    np.testing.assert_array_equal(got, np.rint(levels / 257))


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_tiff_whose_zero_is_white_is_no_negative(white: int) -> None:
    """By hand, in 8 and 16 bits: level 0 is white, the highest is black."""
    levels = np.linspace(0, white, 64 * 64).astype(np.uint16).reshape(64, 64)
    got = [decode(tiff(levels, zero), EXACT).pixels[..., 0] for zero in (0, 1)]
    np.testing.assert_array_equal(got[1], np.rint(levels / (white / 255)))
    np.testing.assert_array_equal(got[0], 255 - got[1])


def tiff(levels: np.ndarray, photometric: int) -> bytes:
    """An uncompressed grey TIFF; photometric 0: WhiteIsZero, 1: BlackIsZero."""
    bits = 8 if levels.max() < 256 else 16
    data = levels.astype(f"<u{bits // 8}").tobytes()
    height, width = levels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1,
            278: height, 279: len(data)}  # fmt: skip
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags.items())
    head = b"II" + struct.pack("<HI", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + fields + bytes(4)


def test_sixteen_bit_colour() -> None:
    array = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    got = decode(png(array, 16, colour_type=2), EXACT).pixels
    assert np.abs(got - array / 257).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "PA"])
def test_grey_palette_and_opaque_alpha_have_their_colours(mode: str) -> None:
    image = Image.fromarray(picture(3)).quantize(16).convert("RGB").convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "PA" else "PNG")
    got = decode(stream.getvalue(), EXACT).pixels
    grey = Image.fromarray(picture(3)).quantize(16).convert("RGB")
    expected = grey.convert({"LA": "L", "PA": "P", "RGBA": "RGB"}.get(mode, mode)).convert("RGB")
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_transparent_pixels_lie_on_black() -> None:
    array = np.full((64, 64, 4), 200, np.uint8)
    array[:, :32, 3], array[:, 32:, 3] = 0, 255
    got = decode(encode(array), EXACT).pixels
    assert (got[:, :32] == 0).all()
    assert (got[:, 32:] == 200).all()


def test_transparent_palette_entry_lies_on_black() -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([10, 20, 30, 200, 150, 100])
    image.paste(0, (0, 0, 32, 64))
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=0)
    got = decode(stream.getvalue(), EXACT).pixels
    assert (got[:, :32] == 0).all()
    assert (got[:, 32:] == (200, 150, 100)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_of_jpeg(mode: str) -> None:
    array = picture(4)
    stream = io.BytesIO()
    Image.fromarray(array).convert(mode).save(stream, "JPEG", quality=100, subsampling=0)
    got = decode(stream.getvalue(), EXACT).pixels
    assert np.abs(got.astype(int) - array).mean() < 2


def test_one_channel_is_luma() -> None:
    array = picture(5)
    got = decode(encode(array), Images(size=64, channels=1)).pixels
    assert got.shape == (64, 64, 1)
    luma = array @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    assert np.abs(got[..., 0] - luma).max() <= 1


# --- what cannot be used --------------------------------------------------------------------------


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    (length,) = struct.unpack(">H", data[start + 2 : start + 4])
    return data[:start] + data[start + 2 + length :]


def cmyk_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(0)).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def animated_gif() -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(picture(seed)) for seed in (0, 1)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


MALFORMED = {
    "zero bytes": (b"", "empty file"),
    "web page saved as .jpg": (b"\n<!DOCTYPE html><html>404</html>", "not an image (HTML or XML)"),
    "text": (b"not found", "not an image (unknown format)"),
    "truncated JPEG": (encode(picture(0), "JPEG")[:-300], "truncated"),
    "truncated PNG": (encode(picture(0))[:-600], "cannot be decoded"),
    "damaged PNG": (png_chunks(64, 64, 8, 2, b"no zlib stream"), "cannot be decoded"),
    "20,000 x 20,000 bomb": (png_chunks(20_000, 20_000, 8, 0, b""), "20000 x 20000 pixels"),
    "floating-point TIFF": (encode(np.ones((64, 64), np.float32), "TIFF"), "colour mode F"),
    "32-bit TIFF": (encode(np.ones((64, 64), np.int32), "TIFF"), "colour mode I"),
    "animation": (animated_gif(), "several frames"),
    "CMYK of unknown polarity": (without_adobe_marker(cmyk_jpeg()), "Adobe marker"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_recorded_with_the_reason(name: str, tmp_path: Path) -> None:
    data, reason = MALFORMED[name]
    (tmp_path / "bad.jpg").write_bytes(data)
    (tmp_path / "good.png").write_bytes(encode(picture(0)))
    index = cache(tmp_path, ["bad.jpg", "good.png"], Images(size=32, max_broken=0.5))
    assert reason in index["error"][0]
    assert "0x" not in index["error"][0]  # the same words in every run
    assert index["error"][1] is None or pd.isna(index["error"][1])
    pixels = np.load(tmp_path / "out" / "set.npy")
    assert not pixels[0].any()
    assert pixels[1].any()


def test_what_is_no_plain_file_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    names = ["loop.jpg", "folder.jpg", "pipe.jpg", "absent.jpg"]
    index = cache(tmp_path, names, Images(size=32, max_broken=1))
    assert index["error"].tolist() == ["no such file"] * 4


@pytest.mark.key("images.fit", "images.crop_share", "images.interpolation")
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
@pytest.mark.parametrize(("fit", "share"), [("crop", 1.0), ("crop", 0.875), ("stretch", 1.0)])
def test_a_square_is_made_as_a_classifier_was_trained(name: str, fit: str, share: float) -> None:
    """torchvision's transforms on the same picture: Resize, CenterCrop, or Resize to a square."""
    from swift_debias.learning.makers import import_torchvision

    import_torchvision()
    from torchvision.transforms import v2

    filters = v2.InterpolationMode
    mode = {"box": filters.BOX, "lanczos": filters.LANCZOS}.get(name, filters(name))
    image = Image.fromarray(picture(0, 64, 96))
    whole = round(28 / share)
    if fit == "stretch":
        steps = [v2.Resize((28, 28), mode)]
    else:
        steps = [v2.Resize(whole, mode), v2.CenterCrop(28)]
    expected = np.asarray(v2.Compose(steps)(image)).astype(float)
    found = decode(
        encode(picture(0, 64, 96)), Images(size=28, fit=fit, crop_share=share, interpolation=name)
    ).pixels.astype(float)
    others = [f for f in ("crop", "stretch") if f != fit]
    wrong = decode(
        encode(picture(0, 64, 96)), Images(size=28, fit=others[0], interpolation=name)
    ).pixels.astype(float)
    gap, gap_of_wrong = (np.abs(pixels - expected).mean() for pixels in (found, wrong))
    # a crop before the resize or after it: the edges of pixels differ by less than one
    assert gap < 0.35 * gap_of_wrong
    if share == 1.0 and name != "nearest" and fit == "stretch":
        assert gap < 1


def test_a_share_without_a_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_share: would be ignored"):
        Images(fit="stretch", crop_share=0.9)


@pytest.mark.key("images.max_pixels")
def test_the_limit_of_pixels_is_the_setting_and_not_pillows() -> None:
    data = encode(picture(0, 200, 200))
    with pytest.raises(UnreadableError, match=r"200 x 200 pixels, more than images\.max_pixels"):
        decode(data, Images(size=32, max_pixels=39_999))
    assert decode(data, Images(size=32, max_pixels=40_000)).width == 200


def test_pillows_own_limit_is_restored(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    folder(tmp_path, 2)
    cache(tmp_path, ["0.png", "1.png"])
    assert before == Image.MAX_IMAGE_PIXELS is not None


# --- the cache of a data set ----------------------------------------------------------------------


def folder(root: Path, n: int) -> list[str]:
    for i in range(n):
        (root / f"{i}.png").write_bytes(encode(picture(i)))
    return [f"{i}.png" for i in range(n)]


def cache(
    root: Path, names: list[str], options: Images = OPTIONS, out: str = "out", **more: object
) -> pd.DataFrame:
    (root / out).mkdir(exist_ok=True)
    manifest = pd.DataFrame({"image_id": [f"id-{name}" for name in names], "path": names})
    return build_cache(
        manifest, root, root / out / "set.npy", root / out / "set.parquet", options, **more
    )


def files(root: Path, out: str = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / out).iterdir())}


def test_index_and_array(tmp_path: Path) -> None:
    names = folder(tmp_path, 5)
    index = cache(tmp_path, names)
    assert sorted(files(tmp_path)) == ["set.npy", "set.parquet"]  # nothing else is left
    pixels = np.load(tmp_path / "out" / "set.npy")
    assert (pixels.shape, pixels.dtype) == ((5, 32, 32, 3), np.uint8)
    pd.testing.assert_frame_equal(index, read_index(tmp_path / "out" / "set.parquet"))
    assert index["row"].tolist() == list(range(5))
    assert index["image_id"].tolist() == [f"id-{name}" for name in names]
    assert [len(one) for one in index["phash"]] == [32] * 5
    for i, name in enumerate(names):
        np.testing.assert_array_equal(
            pixels[i], decode((tmp_path / name).read_bytes(), OPTIONS).pixels
        )
    shell = subprocess.run(["sha256sum", tmp_path / "3.png"], capture_output=True, check=True)
    assert index["sha256"][3] == shell.stdout.decode().split()[0].lstrip("\\")


def test_same_bytes_whatever_the_number_of_workers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache_building, "BLOCK", 7)
    names = folder(tmp_path, 30)
    for workers in (1, 2, 5):
        cache(tmp_path, names, out=f"out{workers}", workers=workers)
    assert files(tmp_path, "out1") == files(tmp_path, "out2") == files(tmp_path, "out5")


def test_progress_counts_to_the_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache_building, "BLOCK", 4)
    seen: list[tuple[int, int]] = []
    cache(tmp_path, folder(tmp_path, 10), progress=lambda *done: seen.append(done))
    assert seen == [(4, 10), (8, 10), (10, 10)]


class StoppedError(Exception):
    pass


def stop_after(blocks: int):
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == blocks:
            raise StoppedError

    return progress


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch) -> tuple[Path, list[str], list[bytes]]:
    """A folder of 20 images whose cache job stopped after 8, an unbroken run in 'whole', and the
    list of what is decoded from now on."""
    monkeypatch.setattr(cache_building, "BLOCK", 4)
    names = folder(tmp_path, 20)
    cache(tmp_path, names, out="whole")
    with pytest.raises(StoppedError):
        cache(tmp_path, names, progress=stop_after(2))
    decoded: list[bytes] = []
    real = decode
    recorded = lambda data, *more: (decoded.append(data), real(data, *more))[1]  # noqa: E731
    monkeypatch.setattr(cache_building, "decode", recorded)
    return tmp_path, names, decoded


def test_nothing_under_the_final_names_before_the_end(interrupted) -> None:
    root, _, _ = interrupted
    assert sorted(files(root)) == ["set.npy.journal", "set.npy.partial"]


def test_a_stopped_job_continues(interrupted) -> None:
    root, names, decoded = interrupted
    cache(root, names)
    assert len(decoded) == 12
    assert files(root) == files(root, "whole")


def test_a_torn_line_of_the_journal_costs_its_block_only(interrupted) -> None:
    root, names, decoded = interrupted
    journal = root / "out" / "set.npy.journal"
    journal.write_bytes(journal.read_bytes()[:-40])
    with pytest.raises(StoppedError):  # and the journal is sound again after that
        cache(root, names, progress=stop_after(1))
    cache(root, names)
    assert len(decoded) == 16
    assert files(root) == files(root, "whole")


def test_pixels_that_never_reached_the_disk_are_decoded_again(interrupted) -> None:
    root, names, decoded = interrupted
    pixels = np.load(root / "out" / "set.npy.partial", mmap_mode="r+")
    pixels[[1, 6]] = 0
    pixels.flush()
    cache(root, names)
    assert len(decoded) == 14
    assert files(root) == files(root, "whole")


def test_other_settings_or_other_images_start_over(interrupted) -> None:
    root, names, decoded = interrupted
    with pytest.raises(StoppedError):
        cache(root, names, Images(size=16), progress=stop_after(2))
    assert len(decoded) == 8
    cache(root, names[::-1], Images(size=16))
    assert len(decoded) == 28
    assert np.load(root / "out" / "set.npy").shape == (20, 16, 16, 3)


def test_a_killed_process_continues(tmp_path: Path) -> None:
    names = folder(tmp_path, 20)
    cache(tmp_path, names, out="whole")
    (tmp_path / "out").mkdir()
    script = f"""
import os, signal
from pathlib import Path
import pandas as pd
from swift_debias.data import cache_building
from swift_debias.config.schema import Images
cache_building.BLOCK = 4
root = Path({str(tmp_path)!r})
manifest = pd.DataFrame({{"image_id": ["id-%d.png" % i for i in range(20)],
                          "path": ["%d.png" % i for i in range(20)]}})
cache_building.build_cache(
    manifest, root, root / "out" / "set.npy", root / "out" / "set.parquet", Images(size=32), 2,
    lambda done, total: done >= 12 and os.kill(os.getpid(), signal.SIGKILL))
"""
    library = str(Path(cache_building.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": library}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    seen: list[int] = []
    cache(tmp_path, names, progress=lambda done, _: seen.append(done))
    assert seen == [20]  # one block of the last eight
    assert files(tmp_path) == files(tmp_path, "whole")


def test_too_many_broken_files_fail_with_their_list_and_are_tried_again(
    tmp_path: Path, monkeypatch
) -> None:
    names = folder(tmp_path, 10)
    good = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "7.png").write_bytes(b"<html>")
    with pytest.raises(UserError) as caught:
        cache(tmp_path, names, Images(size=32, max_broken=0.1))
    message = str(caught.value)
    assert "2 of 10 images cannot be used" in message
    assert "3.png: empty file" in message
    assert "7.png: not an image (HTML or XML)" in message
    assert not (tmp_path / "out" / "set.npy").exists()

    (tmp_path / "3.png").write_bytes(good)
    monkeypatch.setattr(cache_building, "BLOCK", 100)
    index = cache(tmp_path, names, Images(size=32, max_broken=0.1))
    assert index["error"].notna().tolist() == [False] * 7 + [True] + [False] * 2
    cache(tmp_path, names, Images(size=32, max_broken=0.1), out="whole")
    assert files(tmp_path) == files(tmp_path, "whole")


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        cache(tmp_path, [])


# --- reading caches -------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[CachedImages, np.ndarray]:
    """Caches of 6 and 4 images (the last unreadable), and all their pixels."""
    names = folder(tmp_path, 6)
    (tmp_path / "5.png").rename(tmp_path / "last.png")
    cache(tmp_path, names[:5], out="a")
    (tmp_path / "5.png").write_bytes(b"")
    cache(tmp_path, [*names[2:5], "5.png"], Images(size=32, max_broken=0.5), out="b")
    pairs = []
    for name in "ab":
        for suffix in ("npy", "parquet"):
            (tmp_path / name / f"set.{suffix}").rename(tmp_path / f"{name}.{suffix}")
        pairs.append((tmp_path / f"{name}.npy", tmp_path / f"{name}.parquet"))
    pixels = np.concatenate([np.load(npy) for npy, _ in pairs])
    return CachedImages(pairs), pixels


def test_gather_returns_the_rows_in_the_order_asked_for(two) -> None:
    cached, pixels = two
    assert len(cached) == 9
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.integers(0, 9, 12)
        np.testing.assert_array_equal(cached.gather(rows), pixels[rows])
    out = np.empty((3, 32, 32, 3), np.uint8)
    assert cached.gather(np.array([8, 0, 8]), out) is out
    np.testing.assert_array_equal(out, pixels[[8, 0, 8]])


def test_rows_of_one_and_of_several_data_sets(two) -> None:
    cached, _ = two
    assert cached.rows("b", ["id-4.png", "id-2.png"]).tolist() == [7, 5]
    ids = pd.Series(["id-2.png", "id-2.png"])
    assert cached.rows(pd.Series(["b", "a"]), ids).tolist() == [5, 2]
    assert cached.rows("a", []).dtype == np.int64


def test_unknown_and_unreadable_images_are_named(two) -> None:
    cached, _ = two
    with pytest.raises(UserError, match=r"no image 'id-9.png' in the cache of data set 'a'"):
        cached.rows("a", ["id-0.png", "id-9.png"])
    with pytest.raises(UserError, match=r"'id-5.png' of data set 'b': empty file"):
        cached.rows("b", ["id-5.png"])


def test_caches_of_different_sizes_are_refused(tmp_path: Path) -> None:
    names = folder(tmp_path, 2)
    cache(tmp_path, names, out="a")
    cache(tmp_path, names, Images(size=16), out="b")
    pairs = [(tmp_path / n / "set.npy", tmp_path / n / "set.parquet") for n in "ab"]
    with pytest.raises(UserError, match="different sizes"):
        CachedImages(pairs)


def test_real_x_rays_and_photographs(tmp_path: Path) -> None:
    """Against a plain loop over Pillow, on real files, in their own size."""
    for name in ("nih", "pad_ufes_20"):
        root = SAMPLES / name / "images"
        names = sorted(path.name for path in root.iterdir())[:40]
        (tmp_path / name).mkdir()
        out = tmp_path / name / "set.npy"
        manifest = pd.DataFrame({"image_id": names, "path": names})
        index = build_cache(manifest, root, out, out.with_suffix(".parquet"), Images(size=128), 2)
        assert index["error"].isna().all()
        pixels = np.load(out)
        for i, one in enumerate(names):
            with Image.open(root / one) as image:
                whole = image.convert("RGB")
            side = min(whole.size)
            left, top = (whole.width - side) // 2, (whole.height - side) // 2
            square = whole.crop((left, top, left + side, top + side))
            expected = square.resize((128, 128), Image.Resampling.BILINEAR)
            assert np.abs(pixels[i].astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_memory_of_a_cache_does_not_grow_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped pages that are held after each image: at most two blocks, of an array of twelve."""
    n, side = 120, 256
    monkeypatch.setattr(cache_building, "BLOCK", 10)
    Image.new("RGB", (8, 8), (9, 90, 200)).save(tmp_path / "a.png")
    frame = pd.DataFrame({"image_id": [str(i) for i in range(n)], "path": ["a.png"] * n})
    out = tmp_path / "x.npy", tmp_path / "x.parquet"
    held = []

    def look(_done: int, _of: int) -> None:
        status = Path("/proc/self/status").read_text()
        held.append(int(status.partition("RssFile:")[2].split()[0]))  # kB

    look(0, 0)
    build_cache(frame, tmp_path, *out, Images(size=side), progress=look)
    whole = n * side**2 * 3 / 1024
    assert whole > 20_000
    assert max(held) - held[0] < 2 * whole / 12 + 4096
    np.testing.assert_array_equal(np.load(out[0])[[0, 60, 119], 100, 100], [[9, 90, 200]] * 3)
