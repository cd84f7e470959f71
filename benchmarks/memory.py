"""Peak memory of importance, training, debiasing and evaluation, and a formula for it.

    python -m benchmarks.memory

On a CPU every measurement is a process of its own, forked from one that has imported the libraries:
it does one job's work on a cache of random pixels and reports its peak resident memory (MiB). On a
GPU it is the most that torch allocated there. Batch size and pixels are varied one at a time, and

    MiB = base + image_bytes x pixels of the set / 2^20 + batch x activations x (pixels / 64)^2

is fitted: `base` holds interpreter, libraries, weights and what is as large as them (gradients,
momenta, importances); `image_bytes` says how many bytes of memory a byte of the set's uint8 pixels
takes, from reading a small and a large set alone (the pages of the memory map are counted as long
as the kernel keeps them); activations are MiB for each image of a batch at 64 x 64 pixels. The
batch of `evaluate` is 256 or the set, whichever is less.

On a CPU the freed memory is kept (`devices.prepare_device`), so large maps leave gaps: at 256
pixels and batch 16, ResNet-50 took 3,713 MiB to train where the formula says 2,969, and 1,164 to
evaluate 32 images where it says 856. Ask for 1.4 times what it says. On a GPU the images of the set
lie on the card and are in `measured`, a few MiB here.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.common import parser, write
from benchmarks.importance import calibrate
from benchmarks.scaling import take
from benchmarks.training_step import make_context, write_cache

from swift_debias import methods
from swift_debias.config.schema import Backbone, Compute, Finetuning
from swift_debias.data.image_cache import CachedImages
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import devices, inference, loop
from swift_debias.learning.context import set_trainable
from swift_debias.learning.networks import build
from swift_debias.learning.samples import ExternalSet
from swift_debias.methods import swift

JOBS = ("train_baseline", "importance", "debias", "evaluate")


def do_job(
    job: str,
    architecture: str,
    batch: int,
    images: CachedImages,
    compute: Compute,
    device: torch.device,
) -> None:
    classifier = build(Backbone(architecture=architecture), seed=0)
    classifier = devices.place(classifier, device, compute)
    samples = take(images, len(images), device)
    external = ExternalSet(samples, samples)
    context = make_context(batch, compute)
    if job == "train_baseline":
        set_trainable(classifier, extractor=True, head=True)
        optimizer = context.make_optimizer(classifier.parameters(), 1e-4)
        objective = context.objective(samples, prediction=1, bias=0)
        loop.fit(classifier, samples, objective, optimizer, context, "train")
    elif job == "importance":
        calibrate(classifier, samples.draw(torch.arange(4)))  # an untrained EfficientNet's vanish
        classifier.head.linear.weight.data.mul_(1e-3)  # and other untrained networks' saturate
        shared_importance(classifier, external, Finetuning(), batch, 0, methods.importances())
    elif job == "debias":
        ones = {name: torch.ones_like(p) for name, p in classifier.named_parameters()}
        kinds = ("minibatch.balanced.bias", "minibatch.balanced.prediction")
        context.importance = lambda: dict.fromkeys(kinds, ones)
        swift.debias(classifier, external, swift.Settings(), context)
    else:
        inference.predict(classifier, samples)


def peak_of(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Peak memory in MiB of this work: of the card, or of a forked process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return {"gpu": torch.cuda.max_memory_allocated(device) / 2**20}
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run() -> None:
        work()
        theirs.send({"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10})

    process = context.Process(target=run)
    process.start()
    theirs.close()  # so that a process that dies is noticed
    peak = ours.recv()
    process.join()
    return peak


def measure(
    job: str,
    architecture: str,
    folder: Path,
    compute: Compute,
    device: torch.device,
    *,
    quick: bool,
) -> dict[str, Any]:
    """Vary batch and pixels one at a time, and fit."""
    few, many, small, large = (4, 8, 32, 64) if quick else (8, 32, 64, 128)
    if device.type == "cuda" and not quick:
        few, many, small, large = 32, 128, 128, 256
    rows, peaks, measured = [], [], []
    for batch, size in ((few, small), (many, small), (few, large)):
        # a second step meets the momenta that the first has made; the others have no steps
        n = 2 * batch if job in ("train_baseline", "debias") else batch
        images = write_cache(folder, n, size)
        peak = peak_of(
            lambda b=batch, i=images: do_job(job, architecture, b, i, compute, device),  # type: ignore[misc]
            device,
        )
        measured.append({"batch": batch, "pixels": size} | peak)
        rows.append([1, batch * (size / 64) ** 2])
        peaks.append(next(iter(peak.values())))
    solution, *_ = np.linalg.lstsq(np.array(rows, float), np.array(peaks), rcond=None)
    error = np.abs(np.array(rows) @ solution - peaks) / peaks
    return {
        "base_mib": round(float(solution[0])),
        "mib_per_image_of_a_batch_at_64_px": round(float(solution[1]), 2),
        "largest_relative_error": round(float(error.max()), 3),
        "measured": measured,
    }


def image_bytes(folder: Path, compute: Compute) -> float:
    """Bytes of memory for each byte of pixels that is held."""
    device, peaks, counts = torch.device("cpu"), [], (1024, 16384)
    for n in counts:
        images = write_cache(folder, n, 64)
        peaks.append(peak_of(lambda i=images, n=n: take(i, n, device), device)["rss"])  # type: ignore[misc]
    return (peaks[1] - peaks[0]) * 2**20 / ((counts[1] - counts[0]) * 64 * 64 * 3)


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    backbones = ["resnet50", "densenet121", "efficientnet_b3", "small_resnet"]
    options_of.add_argument("--architectures", nargs="+", default=backbones)
    options_of.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    options = options_of.parse_args(arguments)
    compute = Compute(device=options.device, threads=options.threads)
    device = devices.prepare_device(compute)
    backbones = ["small_resnet"] if options.quick else options.architectures
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {"image_bytes": round(image_bytes(Path(folder), compute), 2)}
        for name in backbones:
            results[name] = {
                job: measure(job, name, Path(folder), compute, device, quick=options.quick)
                for job in options.jobs
            }
            write("memory", options, results)


if __name__ == "__main__":
    main()
