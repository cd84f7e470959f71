"""The image cache against plain Pillow and OpenCV (where installed), as ratios within one run.

python -m benchmarks.images
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from swift_debias.image_cache import build_cache
from swift_debias.images import CachedImages
from swift_debias.settings import Images

SIZE = 256
ROUNDS = 3
KINDS = {"photograph": ((768, 1024, 3), 60), "x-ray": ((3056, 2544), 15)}  # shape, images


def draw(shape: tuple[int, ...], folder: Path, n: int) -> list[Path]:
    """Write JPEGs of about the entropy of real ones."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        coarse = rng.integers(0, 200, (12, 12, *shape[2:]), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(shape[1::-1], Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 6, shape)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def pillow(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def opencv(paths: list[Path]) -> None:
    import cv2

    cv2.setNumThreads(1)
    for path in paths:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        side = min(image.shape[:2])
        left, top = (image.shape[1] - side) // 2, (image.shape[0] - side) // 2
        square = image[top : top + side, left : left + side]
        cv2.cvtColor(cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA), 4)


def cache(paths: list[Path], workers: int) -> CachedImages:
    out = paths[0].parent / "cache.npy"
    frame = pd.DataFrame({"image_id": [p.stem for p in paths], "path": [p.name for p in paths]})
    build_cache(
        frame, paths[0].parent, out, out.with_suffix(".parquet"), Images(size=SIZE), workers
    )
    return CachedImages([(out, out.with_suffix(".parquet"))])


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    for kind, (shape, n) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = draw(shape, Path(folder), n)
            ways: dict[str, Callable[[], object]] = {
                "plain Pillow": lambda paths=paths: pillow(paths),
                "cache, 1 worker": lambda paths=paths: cache(paths, 1),
                "cache, 2 workers": lambda paths=paths: cache(paths, 2),
            }
            if importlib.util.find_spec("cv2"):
                ways["OpenCV"] = lambda paths=paths: opencv(paths)
            rate = {name: n / best(way) for name, way in ways.items()}
            print(f"{kind} of {' x '.join(map(str, shape))} to {SIZE} x {SIZE}:")
            for name, value in rate.items():
                print(f"  {name:17s} {value:7.1f} images/s {value / rate['plain Pillow']:5.2f}")
            images = cache(paths, 2)
            rows = np.random.default_rng(0).integers(0, n, 128)
            memory, out = images.gather(np.arange(n)), np.empty((128, SIZE, SIZE, 3), np.uint8)
            read = best(lambda images=images, rows=rows, out=out: images.gather(rows, out))
            plain = best(
                lambda memory=memory, rows=rows, out=out: np.take(
                    memory, rows, axis=0, out=out, mode="clip"
                )
            )
            print(f"  a batch of 128 from the cache takes {read / plain:.2f} of one from memory")


if __name__ == "__main__":
    main()
