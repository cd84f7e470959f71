"""Time against the number of images, of methods and of folds; the cache against memory and disk.

    python -m benchmarks.scaling

Each amount (1, 2, 4, 8 times the smallest) is timed in every round; the exponent b of seconds =
a amount^b is fitted by least squares to the medians' logarithms: 1 is linear, below 1 there is
a fixed cost. The network is the demo's small ResNet, so that what is not arithmetic shows.
Methods and folds are counted as the jobs `debias` and `importance` take them: one after another
in one process, on the same images; the fixed cost of starting a job is in startup.py.

`gather`: a random batch from the memory-mapped cache against NumPy's own copy of as many bytes
(memory), with the pages in memory, and with the pages dropped against a sequential read of the
file (disk).
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.common import Clock, parser, prepare, ratio, rounds, seconds, write
from benchmarks.importance import calibrate
from benchmarks.training_step import make_context, write_cache

from swift_debias import methods
from swift_debias.config.schema import Backbone, Compute, Finetuning
from swift_debias.data.image_cache import CachedImages
from swift_debias.importance import estimators, store
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import devices, inference, loop
from swift_debias.learning.context import set_trainable
from swift_debias.learning.networks import Classifier, build
from swift_debias.learning.samples import ExternalSet, Samples, make_samples

AMOUNTS = (1, 2, 4, 8)
METHODS = ("fullft", "swift", "bmft", "llft", "fairprune", "diffgda", "diffprune", "baseline")
SIZE, BATCH = 64, 64


def network(device: torch.device) -> Classifier:
    classifier = build(Backbone(architecture="small_resnet"), seed=0)
    calibrate(classifier, torch.randn(64, 3, SIZE, SIZE))
    return devices.place(classifier, device, Compute(device=device.type))


def take(images: CachedImages, n: int, device: torch.device) -> Samples:
    """The first n images, in equal cells."""
    rows = np.arange(n)
    return make_samples(images, rows, rows % 2, rows // 2 % 2, device, "on")


def train(samples: Samples, start: Classifier) -> None:
    classifier = copy.deepcopy(start)
    set_trainable(classifier, extractor=True, head=True)
    context = make_context(BATCH, Compute(device=samples.device.type))
    optimizer = context.make_optimizer(classifier.parameters(), 1e-4)
    loop.fit(classifier, samples, context.objective(samples, 1, 0), optimizer, context, "train")


def run_method(name: str, samples: Samples, start: Classifier) -> None:
    """One method on its own copy of the Baseline, its importance measured as it needs it."""
    method, classifier = methods.load(name), copy.deepcopy(start)
    external = ExternalSet(samples, samples)
    context = make_context(BATCH, Compute(device=samples.device.type))

    def importance() -> store.Importance:
        return shared_importance(
            classifier, external, Finetuning(min_cell=1), BATCH, 0, methods.importances()
        )

    context.importance = importance
    method.debias(classifier, external, method.Settings(), context)


def by_images(
    images: CachedImages, smallest: int, device: torch.device
) -> dict[str, dict[int, Callable[[], object]]]:
    """Task -> number of images -> work."""
    start = network(device)
    sets = {amount: take(images, amount * smallest, device) for amount in AMOUNTS}
    tasks: dict[str, Callable[[Samples], object]] = {
        "training": lambda samples: train(samples, start),
        "importance, minibatch": lambda s: estimators.minibatch(start, lambda: s.batches(BATCH)),
        "importance, per sample": lambda s: estimators.per_sample(start, lambda: s.batches(BATCH)),
        "SWiFT": lambda samples: run_method("swift", samples, start),
        "evaluation": lambda samples: inference.predict(start, samples),
        "reading the cache": lambda s: take(images, len(s), device),
    }
    return {
        name: {a: lambda task=task, s=s: task(s) for a, s in sets.items()}  # type: ignore[misc]
        for name, task in tasks.items()
    }


def by_jobs(
    images: CachedImages, smallest: int, device: torch.device
) -> dict[str, dict[int, Callable[[], object]]]:
    """Methods: several kinds of the same cost, so that twice as many is twice the work; folds."""
    start, samples = network(device), take(images, smallest, device)

    def variants(count: int) -> None:
        for _ in range(count):
            run_method("fullft", samples, start)

    def folds(count: int) -> None:
        for _ in range(count):
            again = take(images, smallest, device)  # every fold reads its own external set
            run_method("swift", again, start)

    return {
        name: {amount: lambda work=work, a=amount: work(a) for amount in AMOUNTS}  # type: ignore[misc]
        for name, work in (("methods (FullFT variants)", variants), ("folds (SWiFT)", folds))
    }


def fit_exponents(
    tasks: dict[str, dict[int, Callable[[], object]]], repeats: int, clock: Clock
) -> dict[str, Any]:
    out = {}
    for name, ways in tasks.items():
        ways[1]()  # warm up
        times = rounds({str(amount): way for amount, way in ways.items()}, repeats, clock)
        medians = [statistics.median(times[str(amount)]) for amount in AMOUNTS]
        exponent = np.polyfit(np.log(AMOUNTS), np.log(medians), 1)[0]
        out[name] = {
            "seconds": dict(zip(AMOUNTS, (round(m, 4) for m in medians), strict=True)),
            "exponent": round(float(exponent), 3),
            "eight_times_over_once": round(medians[-1] / medians[0], 2),
            "within_a_round": ratio(times[str(AMOUNTS[-1])], times[str(AMOUNTS[0])]),
        }
    return out


def cost_of_methods(
    images: CachedImages, n: int, device: torch.device, repeats: int, clock: Clock
) -> dict[str, float]:
    """Seconds of each method alone over FullFT, both from the same start."""
    start, samples = network(device), take(images, n, device)
    ways = {name: lambda name=name: run_method(name, samples, start) for name in METHODS}
    times = rounds(ways, repeats, clock)  # type: ignore[arg-type]
    return {name: ratio(times[name], times["fullft"])["median"] for name in METHODS}


def drop_pages(path: Path) -> None:
    """Have the kernel forget a file's pages in memory; it keeps those that a process has mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def gathering(folder: Path, n: int, repeats: int) -> dict[str, Any]:
    """The cache's own speed at 256 pixels, by the time of day: a disk takes no CPU time."""
    write_cache(folder, n, 256)
    cache = folder / "cache.npy", folder / "cache.parquet"
    rng = np.random.default_rng(0)
    out = np.empty((128, 256, 256, 3), np.uint8)

    def gather_all(images: CachedImages) -> None:
        order = rng.permutation(n)
        for start in range(0, n - 127, 128):
            images.gather(order[start : start + 128], out)

    def copy_memory(memory: np.ndarray) -> None:
        for start in range(0, n - 127, 128):
            np.copyto(out, memory[start : start + 128])

    def read_file() -> None:
        with cache[0].open("rb", buffering=0) as file:
            view = memoryview(out).cast("B")
            while file.readinto(view):
                pass

    def in_memory() -> dict[str, list[float]]:
        images, memory = CachedImages([cache]), np.load(cache[0])
        gather_all(images)
        ways = {"gather": lambda: gather_all(images), "copy": lambda: copy_memory(memory)}
        return rounds(ways, repeats, time.perf_counter)

    def cold(work: Callable[[], object]) -> float:
        drop_pages(cache[0])
        return seconds(work, time.perf_counter)

    warm = in_memory()  # its map of the file is gone when the pages are dropped
    pairs = [
        (cold(lambda: gather_all(CachedImages([cache]))), cold(read_file)) for _ in range(repeats)
    ]
    used, size = n // 128 * 128 * out[0].nbytes, cache[0].stat().st_size
    from_disk, disk = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "images": n,
        "images_per_second": round(n / statistics.median(warm["gather"])),
        "gather_gib_per_second": round(used / statistics.median(warm["gather"]) / 2**30, 2),
        "memory_copy_gib_per_second": round(used / statistics.median(warm["copy"]) / 2**30, 2),
        "share_of_memory_copy": ratio(warm["copy"], warm["gather"])["median"],
        "cold_gather_gib_per_second": round(used / from_disk / 2**30, 2),
        "cold_images_per_second": round(n / from_disk),
        "disk_gib_per_second": round(size / disk / 2**30, 2),
        "share_of_disk": round(disk / size / (from_disk / used), 2),
    }


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__).parse_args(arguments)
    device, clock = prepare(options)
    smallest = 64 if options.quick else 128
    repeats = 1 if options.quick else options.repeats
    with tempfile.TemporaryDirectory() as folder:
        images = write_cache(Path(folder), smallest * AMOUNTS[-1], SIZE)
        results = {
            "images": fit_exponents(by_images(images, smallest, device), repeats, clock),
            "jobs": fit_exponents(by_jobs(images, smallest // 2, device), repeats, clock),
            "seconds_over_fullft": cost_of_methods(images, smallest, device, repeats, clock),
        }
    with tempfile.TemporaryDirectory() as folder:
        results["cache"] = gathering(Path(folder), 512 if options.quick else 4096, repeats)
    write("scaling", options, results)


if __name__ == "__main__":
    main()
