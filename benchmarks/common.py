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

RESULTS = Path(__file__).parent / "results"
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
    from swift_debias.devices import prepare_device
    from swift_debias.settings import Compute

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


def write(name: str, options: argparse.Namespace, results: Any) -> Path:
    """Print the results and write them to results/<name>.json."""
    import torch

    report = {
        "benchmark": name,
        "settings": vars(options),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load_average": round(os.getloadavg()[0], 1),
        },
        "results": results,
    }
    text = json.dumps(report, indent=1, default=str)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(text + "\n")
    return path


def _processor() -> str:
    """The processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    names = [
        row.partition(":")[2].strip()
        for row in (info.read_text().splitlines() if info.is_file() else [])
        if row.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def draw_pictures(folder: Path, n: int, height: int, width: int, *, grey: bool) -> list[Path]:
    """JPEGs of about the entropy of real photographs and X-rays: 0.2 to 2 MB at full size."""
    rng = np.random.default_rng(0)
    shape = (height, width) if grey else (height, width, 3)
    noise = rng.normal(0, 6, shape).astype(np.float32)
    paths = []
    for i in range(n):
        coarse = rng.integers(0, 200, (12, 12, *shape[2:]), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, np.float32) + np.roll(noise, i, axis=1)
        paths.append(folder / f"{i:05d}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths
