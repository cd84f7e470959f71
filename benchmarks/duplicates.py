"""Hashing, the neighbour search against brute force, and how far apart pictures really are.

python -m benchmarks.duplicates [folder of images]

With a folder (one image a patient is best) it also prints what the default radius rests on: by how
many bits re-encoding moves a hash, and how near the nearest other image is.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from swift_debias.duplicates import near_pairs
from swift_debias.image_cache import decode
from swift_debias.settings import Duplicates, Images

RADIUS = Duplicates().radius
SMALL, LARGE = 10_000, 130_000
OPTIONS = Images(size=64)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def brute_force(hashes: np.ndarray, radius: int) -> int:
    """Pairs within the radius, by NumPy, a row at a time."""
    words = hashes.view(np.uint64)
    found = 0
    for i in range(len(words) - 1):
        distance = np.bitwise_count(words[i + 1 :] ^ words[i]).sum(axis=1)
        found += int((distance <= radius).sum())
    return found


def search() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (LARGE, 32), dtype=np.uint8)
    copies = rng.integers(0, LARGE // 2, LARGE // 100)
    hashes[-len(copies) :] = hashes[copies]
    hashes[-len(copies) :, 0] ^= 0b101
    few = np.ascontiguousarray(hashes[-SMALL:])
    plain, ours = timed(lambda: brute_force(few, RADIUS)), timed(lambda: near_pairs(few, RADIUS))
    print(f"neighbour search of {SMALL:,} hashes: {plain / ours:.0f} times as fast as NumPy")
    seconds = timed(lambda: near_pairs(hashes, RADIUS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"neighbour search of {LARGE:,} hashes: {seconds:.0f} s, peak memory {peak:.2f} GiB")


def hashing() -> None:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    coarse.resize((1024, 768), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    data = stream.getvalue()

    def pixels_only() -> None:
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (128, 128))
            image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)

    with_hash = timed(lambda: [decode(data, OPTIONS) for _ in range(200)])
    without = timed(lambda: [pixels_only() for _ in range(200)])
    print(f"decoding and hashing: {200 / with_hash:.0f} images/s, {with_hash / without:.2f} times")
    print("  as long as decoding alone (a JPEG of 1024 x 768 at reduced scale)")


def bits(data: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(decode(data, OPTIONS).phash, np.uint8))


def distances(folder: Path) -> None:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    hashes = np.array([bits(path.read_bytes()) for path in paths])
    moved: dict[str, list[int]] = {"JPEG 75": [], "JPEG 30": [], "halved": []}
    for path, own in zip(paths[:300], hashes, strict=False):
        with Image.open(path) as image:
            picture = image.convert("RGB")
        half = picture.resize((picture.width // 2, picture.height // 2))
        for name, (changed, quality) in {
            "JPEG 75": (picture, 75),
            "JPEG 30": (picture, 30),
            "halved": (half, 85),
        }.items():
            stream = io.BytesIO()
            changed.save(stream, "JPEG", quality=quality)
            moved[name].append(int((bits(stream.getvalue()) != own).sum()))
    print(f"{folder}: {len(paths)} images, bits of 256 (median, 99 %, most):")
    for name, values in moved.items():
        print(f"  {name:8s} {np.percentile(values, [50, 99, 100]).tolist()}")
    signs = hashes.astype(np.float32) * 2 - 1
    between = np.rint((256 - signs @ signs.T) / 2)
    pairs = np.sort(between[np.triu_indices(len(between), 1)])
    print(f"  nearest pairs of different files: {pairs[:10].astype(int).tolist()}")


def main() -> None:
    hashing()
    search()
    for folder in sys.argv[1:]:
        distances(Path(folder))


if __name__ == "__main__":
    main()
