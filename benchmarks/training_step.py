"""A training step against the same step on a resident random batch, and against a matrix product.

    python -m benchmarks.training_step

- `epoch`: `training.fit` as the job `train_baseline` calls it, images read from the uint8 cache
  (in memory, or memory-mapped with `resident: off`), augmented and normalized on the device
- `compiled`: the same, resident, with torch.compile (`compute.compile_from`); the seconds of
  compiling beside it (only with `--compile`: they are minutes)
- `floor`: forward, backward and optimizer step on one random batch that lies on the device
- peak: the arithmetic of a product of two square matrices, measured in the same rounds; floating
  point operations of the network counted by `torch.utils.flop_counter`

- `evaluation`: `training.predict`, as the job `evaluate` calls it, always fp32

On a GPU the sizes are the paper's (256 pixels, batch 128), in bf16 as the workflow trains there;
gpu_hours.py projects the GPU hours of the whole paper from the images a second.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.common import Clock, parser, prepare, ratio, rounds, seconds, write
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swift_debias.config.schema import Augmentation, Backbone, Compute, Finetuning, Optimizer
from swift_debias.data.image_cache import CachedImages
from swift_debias.files import write_parquet
from swift_debias.learning import devices, inference, loop
from swift_debias.learning.context import Context, set_trainable
from swift_debias.learning.networks import build
from swift_debias.learning.precision import autocast
from swift_debias.learning.samples import make_samples


def flops(module: nn.Module, size: int) -> int:
    """Floating point operations of one image's forward pass (a multiply-add is two)."""
    module = module.eval()
    counter = FlopCounterMode(display=False)
    device = next(module.parameters()).device
    with counter, torch.no_grad():
        module(torch.zeros(1, 3, size, size, device=device))
    return counter.get_total_flops()


def peak_flops(device: torch.device, clock: Clock, dtype: torch.dtype = torch.float32) -> float:
    """Operations a second of a large matrix product or convolution, the better; each best of five.

    On a CPU the two go to different libraries: MKL's products run at half speed on an AMD.
    """
    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=dtype)
    out = torch.empty_like(a)
    x = torch.randn(16, 256, 28, 28, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype)
    w = w.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        ways = {
            2 * n**3: lambda: torch.mm(a, a, out=out),
            2 * x[:, 0].numel() * w.numel(): lambda: torch.conv2d(x, w, padding=1),
        }
        for way in ways.values():
            way()
        return max(work / min(seconds(way, clock) for _ in range(5)) for work, way in ways.items())


def write_cache(folder: Path, n: int, size: int) -> CachedImages:
    """A cache of random pixels, as `build_cache` lays it out."""
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(folder / "cache.npy", "w+", np.uint8, (n, size, size, 3))
    for start in range(0, n, 256):
        block = pixels[start : start + 256]
        block[:] = rng.integers(0, 256, block.shape, dtype=np.uint8)
    pixels.flush()
    index = pd.DataFrame({"image_id": [str(i) for i in range(n)], "row": np.arange(n)})
    index["crc"] = [zlib.crc32(image.tobytes()) for image in pixels]
    write_parquet(index.assign(error=None), folder / "cache.parquet")
    return CachedImages([(folder / "cache.npy", folder / "cache.parquet")])


def make_context(batch: int, compute: Compute, epochs: int = 1) -> Context:
    return Context(
        seed=0,
        epochs=epochs,
        batch_size=batch,
        optimizer=Optimizer(name="sgd", lr=1e-4),
        finetuning=Finetuning(),
        augmentation=Augmentation(),
        compute=compute,
        log=io.StringIO(),
        unprivileged=lambda: 0,  # scores of random pictures would not say
    )


def make_ways(
    images: CachedImages, options: argparse.Namespace, architecture: str, device: torch.device
) -> dict[str, Callable[[], object]]:
    """An epoch of `fit` with images in memory and memory-mapped, and the floor."""
    classifier = build(Backbone(architecture=architecture), seed=0)
    compute = Compute(device=device.type)
    classifier = devices.place(classifier, device, compute)
    set_trainable(classifier, extractor=True, head=True)
    optimizer = make_context(options.batch, compute).make_optimizer(classifier.parameters(), 1e-4)
    n = len(images)
    labels, attributes = np.arange(n) % 2, np.full(n, -1)

    def epoch(resident: str, compiled: bool = False) -> Callable[[], object]:
        enough = {"compile_from": 0 if compiled else None}
        context = make_context(options.batch, compute.model_copy(update=enough))
        samples = make_samples(images, np.arange(n), labels, attributes, device, resident)
        objective = context.objective(samples, prediction=1, bias=0)
        return lambda: loop.fit(classifier, samples, objective, optimizer, context, "epoch")

    batch = torch.randn(options.batch, 3, options.size, options.size, device=device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    target: Tensor = (torch.arange(options.batch, device=device) % 2).float()

    def floor() -> None:
        for _ in range(n // options.batch):
            with autocast(device, compute):
                logits = classifier(batch)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    evaluated = make_samples(images, np.arange(n), labels, attributes, device, "on")
    ways: dict[str, Callable[[], object]] = {
        "floor": floor,
        "resident": epoch("on"),
        "memory_mapped": epoch("off"),
        "evaluation": lambda: inference.predict(classifier, evaluated),
    }
    return ways | {"compiled": epoch("on", compiled=True)} if options.compile else ways


def measure(
    architecture: str, options: argparse.Namespace, device: torch.device, clock: Clock
) -> dict[str, Any]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        images = write_cache(Path(folder), options.batch * options.steps, options.size)
        ways = make_ways(images, options, architecture, device)
        first = {name: seconds(way, time.perf_counter) for name, way in ways.items()}  # warm up
        peaks: list[float] = []
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        times = rounds(
            {"peak": lambda: peaks.append(peak_flops(device, clock, half)), **ways},
            options.repeats,
            clock,
        )
        network = build(Backbone(architecture=architecture), seed=0).to(device)
        work = 3 * flops(network, options.size) * len(images)
        rates = {name: len(images) / statistics.median(times[name]) for name in ways}
        memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    return {
        "images_per_second": round(rates["resident"], 1),
        "floor_images_per_second": round(rates["floor"], 1),
        "evaluation_images_per_second": round(rates["evaluation"], 1),
        "share_of_floor": {
            name: ratio(times["floor"], times[name])
            for name in ways
            if name not in ("floor", "evaluation")
        },
        "first_epoch_seconds": {name: round(value, 1) for name, value in first.items()},
        "gflop_per_image": round(work / len(images) / 1e9, 2),
        "peak_gflops": round(statistics.median(peaks) / 1e9, 1),
        "share_of_peak": round(
            statistics.median(
                work / second / peak for second, peak in zip(times["resident"], peaks, strict=True)
            ),
            3,
        ),
        "gpu_memory_mib": memory and round(memory),  # images on the card included
    }


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    backbones = ["resnet50", "densenet121", "efficientnet_b3"]
    options_of.add_argument("--architectures", nargs="+", default=backbones)
    options_of.add_argument("--compile", action="store_true", help="torch.compile too")
    options_of.add_argument("--size", type=int, help="pixels; default: 64, on a GPU 256")
    options_of.add_argument("--batch", type=int, help="default: 32, on a GPU 128")
    options_of.add_argument("--steps", type=int, help="batches an epoch; default: 2, on a GPU 30")
    options = options_of.parse_args(arguments)
    device, clock = prepare(options)
    gpu = device.type == "cuda"
    options.size = options.size or (256 if gpu else 64)
    options.batch = options.batch or (128 if gpu else 32)
    options.steps = options.steps or (30 if gpu else 2)
    if options.quick:
        options.size, options.batch, options.repeats = 32, 8, 1
    results = {}
    for name in options.architectures:
        results[name] = measure(name, options, device, clock)
        write("training_step", options, results)  # after each network: compiling takes minutes


if __name__ == "__main__":
    main()
