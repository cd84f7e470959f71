"""Caches on a node's disk: same pixels, gone at the end; read in place where there is no room."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swift_debias.config.schema import Images
from swift_debias.data import staging
from swift_debias.data.cache_building import build_cache
from swift_debias.data.image_cache import CachedImages

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
Usage = namedtuple("Usage", "total used free")  # of shutil.disk_usage


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's own disk."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv(staging.SWITCH, "1")
    staging._copy.cache_clear()
    staging._folder.cache_clear()
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "shared" / "a.npy"
    path.parent.mkdir()
    np.save(path, np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8))
    return path


def test_without_being_asked_nothing_is_copied(
    cache: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(staging.SWITCH)
    assert staging.staged(cache) == cache
    assert not any(node.iterdir())


def test_a_copy_is_made_once_and_names_may_repeat(
    cache: Path, node: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cache.parent / "other" / cache.name
    other.parent.mkdir()
    other.write_bytes(b"x")
    copies = [staging.staged(path) for path in (cache, other, cache)]
    assert copies[0] == copies[2] != copies[1]
    for path, copy in zip((cache, other), copies, strict=False):
        assert copy.is_relative_to(node)
        assert copy.read_bytes() == path.read_bytes()
    assert capsys.readouterr().out.count("copied to") == 2


@pytest.mark.parametrize("how", ["small", "full"])
def test_where_there_is_no_room_it_is_read_in_place(
    cache: Path, node: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(*_: object) -> None:
        Path(next(node.iterdir()), "0-a.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    if how == "small":
        free = cache.stat().st_size + staging.SPARE - 1
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    else:
        monkeypatch.setattr(shutil, "copyfile", full)
    assert staging.staged(cache) == cache.resolve()
    assert not [path for path in node.rglob("*") if path.is_file()]
    assert "read in place" in capsys.readouterr().out


def test_images_are_those_of_the_cache(tmp_path: Path, node: Path) -> None:
    """Also where the original is gone meanwhile: it is the copy that is read."""
    rng = np.random.default_rng(1)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
            pictures / f"{name}.png"
        )
    npy, index = tmp_path / "set.npy", tmp_path / "set.parquet"
    manifest = pd.DataFrame({"image_id": ["a", "b"], "path": ["a.png", "b.png"]})
    build_cache(manifest, pictures, npy, index, Images(size=8))
    images = CachedImages([(npy, index)])
    kept = np.load(npy)
    npy.write_bytes(b"")
    assert np.array_equal(images.gather(images.rows("set", ["b", "a"])), kept[::-1])


def test_copies_end_with_the_process(cache: Path, node: Path) -> None:
    program = (
        "from pathlib import Path; from swift_debias.data.staging import staged;"
        f"copy = staged(Path({str(cache)!r})); assert copy.is_file(); print(copy)"
    )
    environment = {"PYTHONPATH": str(SCRIPTS), staging.SWITCH: "1", "TMPDIR": str(node)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(node))
    assert not any(node.iterdir())
