"""Peak memory of importance, training, debiasing and evaluation, and a formula for it.

    python -m benchmarks.memory

Every measurement is a fresh process that does one job's work on a cache of random pixels, and
reports its peak resident memory and, on a GPU, the most that torch allocated there (MiB). Images,
batch size and pixels are varied one at a time from a base case, and

    MiB = base + image_bytes x images + batch x activations(backbone, job) x pixels / 64^2

is fitted: `base` holds interpreter, libraries and weights; `image_bytes` counts how often the
uint8 pixels of the set lie in memory (1: held once, 0: read from the memory map); activations are
those of 64 x 64 pixels (an activation map grows with the pixels).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import parser, write

PROJECT = Path(__file__).parents[1]
JOBS = ("train_baseline", "importance", "debias", "evaluate")


def work(job: str, architecture: str, n: int, batch: int, size: int, device_name: str) -> None:
    """Do one job's work in this process and print its peak memory as JSON."""
    import torch
    from benchmarks.scaling import take
    from benchmarks.training_step import make_context, write_cache

    from swift_debias import training
    from swift_debias.external import shared_importance
    from swift_debias.methods import swift
    from swift_debias.networks import build
    from swift_debias.settings import Backbone, Compute, Finetuning

    compute = Compute(device=device_name)
    device = training.prepare_device(compute)
    with tempfile.TemporaryDirectory() as folder:
        images = write_cache(Path(folder), n, size)
        classifier = build(Backbone(architecture=architecture), seed=0)
        classifier = training.place(classifier, device, compute)
        samples = take(images, n, device)
        external = training.ExternalSet(samples, samples)
        context = make_context(batch, compute)
        if job == "train_baseline":
            training.set_trainable(classifier, extractor=True, head=True)
            optimizer = context.make_optimizer(classifier.parameters(), 1e-4)
            objective = context.objective(samples, prediction=1, bias=0)
            training.fit(classifier, samples, objective, optimizer, context, "train")
        elif job == "importance":
            classifier.head.linear.weight.data.mul_(1e-3)  # scores of an untrained net saturate
            shared_importance(classifier, external, Finetuning(), batch, 0)
        elif job == "debias":
            ones = {name: torch.ones_like(p) for name, p in classifier.named_parameters()}
            kinds = ("minibatch.balanced.bias", "minibatch.balanced.prediction")
            context.importance = lambda: {kind: ones for kind in kinds}
            swift.debias(classifier, external, swift.Settings(), context)
        else:
            training.predict(classifier, samples)
    peak = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(peak))


def measure_one(job: str, architecture: str, n: int, batch: int, size: int, device: str) -> Any:
    code = f"from benchmarks.memory import work; work{(job, architecture, n, batch, size, device)}"
    paths = f"{PROJECT}{os.pathsep}{PROJECT / 'workflow' / 'scripts'}"
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def cases(quick: bool, job: str) -> list[tuple[int, int, int]]:
    """(images, batch, pixels): a base case, then one thing changed at a time."""
    if quick:
        return [(32, 8, 32), (512, 8, 32), (32, 16, 32), (32, 8, 64)]
    more = [(32, 32, 64), (32, 8, 128)] if job != "evaluate" else [(128, 8, 64), (32, 8, 128)]
    return [(32, 8, 64), (4096 if job == "evaluate" else 256, 8, 64), *more]


def fit(measured: list[dict[str, Any]], job: str) -> dict[str, float]:
    """Least squares of the formula; images a batch of `evaluate` are 256 at most, always."""
    rows = []
    for m in measured:
        batch = min(m["images"], 256 if job == "evaluate" else m["batch"])
        pixels = m["images"] * m["size"] ** 2 * 3 / 2**20
        rows.append([1, pixels, batch * m["size"] ** 2 / 64**2])
    peaks = np.array([m["rss"] for m in measured])
    solution, *_ = np.linalg.lstsq(np.array(rows, float), peaks, rcond=None)
    error = np.abs(np.array(rows) @ solution - peaks) / peaks
    return {
        "base_mib": round(float(solution[0])),
        "image_bytes": round(float(solution[1]), 2),
        "mib_per_image_of_a_batch_at_64_px": round(float(solution[2]), 2),
        "largest_relative_error": round(float(error.max()), 3),
    }


def main(arguments: list[str] | None = None) -> None:
    options_of: argparse.ArgumentParser = parser(__doc__)
    backbones = ["resnet50", "densenet121", "efficientnet_b3", "small_resnet"]
    options_of.add_argument("--architectures", nargs="+", default=backbones)
    options_of.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    options = options_of.parse_args(arguments)
    results: dict[str, Any] = {}
    for architecture in options.architectures[: 1 if options.quick else None]:
        for job in options.jobs:
            measured = [
                {"images": n, "batch": batch, "size": size}
                | measure_one(job, architecture, n, batch, size, options.device)
                for n, batch, size in cases(options.quick, job)
            ]
            results.setdefault(architecture, {})[job] = fit(measured, job) | {"measured": measured}
    write("memory", options, results)


if __name__ == "__main__":
    main()
