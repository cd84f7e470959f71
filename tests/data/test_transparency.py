"""Pictures with alpha: how many are transparent is told, and they lie on black; odd modes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import swift_debias as sd
from swift_debias.config.schema import Images
from swift_debias.data import cache_building
from swift_debias.errors import Note, UserError

SIDE = 16
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(1, 255, (SIDE, SIDE, 3), np.uint8)
ALPHA = {
    "opaque": np.full((SIDE, SIDE), 255, np.uint8),
    "clear": np.zeros((SIDE, SIDE), np.uint8),
    "half": np.full((SIDE, SIDE), 128, np.uint8),
    "one pixel": np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) == 77, 254, 255),
    "drawn": RNG.integers(0, 256, (SIDE, SIDE)),
}
MODES = ("RGBA", "LA", "PNG palette", "PNG colour", "WEBP", "TIFF")


def save(path: Path, mode: str, alpha: np.ndarray) -> Path:
    """A picture with this alpha, in one of the forms that files have it in."""
    picture = Image.fromarray(np.dstack([COLOURS, alpha.astype(np.uint8)]), "RGBA")
    path = path.with_suffix({"WEBP": ".webp", "TIFF": ".tif"}.get(mode, ".png"))
    if mode == "LA":
        picture = picture.convert("LA")
    if mode == "PNG palette":
        one = picture.convert("RGB").quantize(16)
        one.save(path, **({} if alpha.min() == 255 else {"transparency": 3}))
    elif mode == "PNG colour":
        colour = {} if alpha.min() == 255 else {"transparency": tuple(map(int, COLOURS[4, 5]))}
        picture.convert("RGB").save(path, **colour)
    else:
        picture.save(path, **({"lossless": True} if mode == "WEBP" else {}))
    return path


def by_numpy(path: Path) -> tuple[np.ndarray, bool]:
    """The picture on black, and whether it is transparent somewhere."""
    with Image.open(path) as file:
        four = np.asarray(file.convert("RGBA")).astype(float)
    on_black = four[..., :3] * four[..., 3:] / 255
    return on_black, bool((four[..., 3] < 255).any())


def table(folder: Path) -> tuple[pd.DataFrame, list[Path]]:
    paths = [
        save(folder / f"{place}{number}", mode, alpha)
        for place, mode in enumerate(MODES)
        for number, alpha in enumerate(ALPHA.values())
    ]
    n = len(paths)
    rows = {"f": [p.name for p in paths], "y": np.arange(n) % 2, "g": np.arange(n) // 2 % 2}
    return pd.DataFrame(rows), paths


def test_transparent_images_are_counted_and_lie_on_black(tmp_path: Path) -> None:
    frame, paths = table(tmp_path)
    seen = [by_numpy(path) for path in paths]
    count = sum(clear for _, clear in seen)
    assert len(MODES) < count < len(paths)
    first = next(path for path, (_, clear) in zip(paths, seen, strict=True) if clear)
    said = f"{count} of {len(paths)} images have transparent pixels, which lie on black (the first"
    with pytest.warns(Note) as told:
        images = sd.ImageSet.from_frame(frame, "f", "y", "g", size=SIDE, root=tmp_path)
    assert [str(one.message)[: len(said)] for one in told] == [said]
    assert f"the first is {first})" in str(told[0].message)
    for row, (on_black, _) in enumerate(seen):
        found = images.source.gather(images.rows[[row]])[0]
        assert np.abs(found - on_black).max() <= 1, paths[row]
    # the workflow's log, from its index
    manifest = pd.DataFrame({"image_id": frame["f"], "path": frame["f"]})
    out = [tmp_path / "set.npy", tmp_path / "set.parquet"]
    index = cache_building.build_cache(manifest, tmp_path, *out, Images(size=SIDE))
    assert index["transparent"].tolist() == [clear for _, clear in seen]
    lines = cache_building.summary(index, manifest["path"].tolist())
    assert next(line for line in lines if "transparent" in line).startswith(said)
    # items of a data set
    opened: list[Any] = [Image.open(path) for path in paths]
    with pytest.warns(Note, match=re.escape(said)):
        items = sd.ImageSet.from_dataset(list(zip(opened, frame["y"], frame["g"], strict=True)))
    np.testing.assert_array_equal(items.source.pixels, images.source.pixels)  # type: ignore[attr-defined]


def test_opaque_images_say_nothing(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}", mode, ALPHA["opaque"]) for n, mode in enumerate(MODES)]
    frame = pd.DataFrame({"f": [p.name for p in paths], "y": [0, 1] * 3, "g": [0, 0, 0, 1, 1, 1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = sd.ImageSet.from_frame(frame, "f", "y", "g", size=SIDE, root=tmp_path)
    for row, path in enumerate(paths):
        with Image.open(path) as file:
            dropped = np.asarray(file.convert("RGB"))
        np.testing.assert_array_equal(images.source.gather(images.rows[[row]])[0], dropped)


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("a.tif", np.ones((9, 9), np.float32), "colour mode F .*choose a window.*8 or 16 bits"),
        ("a.tif", np.ones((9, 9), np.int32), "colour mode I .*choose a window.*8 or 16 bits"),
        ("a.tif", "LAB", "colour mode LAB .*save it in RGB or grey"),
    ],
)
def test_what_has_no_8_bit_colours_says_what_to_do(
    name: str, array: Any, said: str, tmp_path: Path
) -> None:
    picture = (
        Image.fromarray(COLOURS).convert("RGB")
        if isinstance(array, str)
        else Image.fromarray(array)
    )
    if isinstance(array, str):
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        turned = ImageCms.profileToProfile(picture, *profiles, outputMode=array)
        assert turned is not None
        picture = turned
    picture.save(tmp_path / name)
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    frame = pd.DataFrame({"f": [name, "b.png"], "y": [0, 1], "g": [0, 1]})
    with pytest.raises(UserError, match=said) as error:
        sd.ImageSet.from_frame(frame, "f", "y", "g", size=SIDE, root=tmp_path)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
