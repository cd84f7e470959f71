"""What the benchmarks share: clocks, interleaved rounds, pictures to decode, results as JSON.

A ratio is taken within one round, in which every contestant runs once, so that a drift of the
machine hits all alike; the medians of the ratios are reported. On one CPU thread the clock is the
process's CPU time (system time included), which other jobs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Clock = Callable[[], float]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    out = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    out.add_argument("--repeats", type=int, default=3, help="interleaved rounds")
    out.add_argument("--threads", type=int, default=1)
    out.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return out


def prepare(options: argparse.Namespace) -> tuple[Any, Clock]:
    """The device, set up as a job of the workflow sets it up, and the clock to use on it."""
    from swift_debias.config.schema import Compute
    from swift_debias.learning.devices import prepare_device

    device = prepare_device(Compute(device=options.device, threads=options.threads))
    return device, clock_of(device, options.threads)


def clock_of(device: Any, threads: int) -> Clock:
    """CPU time on one CPU thread, else the time of day; a GPU's work is waited for."""
    if device.type == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    import torch

    def synchronized() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronized


def seconds(work: Callable[[], object], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start


def rounds(
    ways: Mapping[str, Callable[[], object]], repeats: int, clock: Clock
) -> dict[str, list[float]]:
    """Seconds of every way in every round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds(way, clock))
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of the ratios of the same rounds."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    return {
        "median": round(statistics.median(values), 3),
        "lowest": round(min(values), 3),
        "highest": round(max(values), 3),
    }


VIEWS = 8  # of a square image: flips and transpose


def expected_views(epochs: int) -> float:
    """How many of a sample's views so many epochs draw, in the mean."""
    return VIEWS * (1 - (1 - 1 / VIEWS) ** epochs)


def write(name: str, options: argparse.Namespace, results: Any) -> Path:
    """Print the results and write them to results/<name>.json."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    report = {
        "benchmark": name,
        "settings": vars(options),
        "machine": machine() | {"torch": torch.__version__, "gpu": gpu},
        "results": results,
    }
    text = json.dumps(report, indent=1, default=str)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(text + "\n")
    return path


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it is by now."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    """The processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    names = [
        row.partition(":")[2].strip()
        for row in (info.read_text().splitlines() if info.is_file() else [])
        if row.startswith("model name")
    ]
    return names[0] if names else platform.machine()


# Width and height of the training images of ISIC 2019 and 2020 (the union that the paper trains on,
# 58,457 images by id) -> how many have it; counted in the width and height columns of the tables
# that circulate with the challenges' JPEGs. Only those of more than 600 images: 97.7 % of all.
ISIC_SIZES = {
    (6000, 4000): 14703,
    (1024, 1024): 12414,
    (600, 450): 10015,
    (1872, 1053): 7534,
    (640, 480): 4147,
    (5184, 3456): 3418,
    (3264, 2448): 1483,
    (1024, 680): 1121,
    (1024, 768): 774,
    (4288, 2848): 729,
    (2592, 1936): 674,
}


def isic_sizes(n: int) -> list[tuple[int, int]]:
    """n sizes (width, height) in the proportions of ISIC: evenly spaced ranks, smallest first."""
    ordered = sorted(ISIC_SIZES, key=lambda size: size[0] * size[1])
    up_to = np.cumsum([ISIC_SIZES[size] for size in ordered])
    ranks = (np.arange(n) + 0.5) / n * up_to[-1]
    return [ordered[place] for place in np.searchsorted(up_to, ranks)]


def draw_pictures(
    folder: Path, sizes: Sequence[tuple[int, int]], *, grey: bool, grain: float = 6
) -> list[Path]:
    """JPEGs of quality 90 of these sizes (width, height), smooth with noise.

    Noise of `grain` 6 makes files of about 2.3 bits a pixel, 2 of about 1 bit.
    """
    rng = np.random.default_rng(0)
    noises: dict[tuple[int, int], np.ndarray] = {}
    paths = []
    for i, (width, height) in enumerate(sizes):
        shape = (height, width) if grey else (height, width, 3)
        if (width, height) not in noises:
            noises = {(width, height): rng.normal(0, grain, shape).astype(np.float32)}
        noise = noises[width, height]
        coarse = rng.integers(0, 200, (12, 12, *shape[2:]), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, np.float32) + np.roll(noise, i, axis=1)
        paths.append(folder / f"{i:05d}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths
