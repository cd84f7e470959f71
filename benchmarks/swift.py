"""SWiFT end to end, mask and both steps: the library against plain_swift.py, same images, network,
epochs, batch size and one thread.

    python -m benchmarks.swift

Ours is what the jobs do: the uint8 cache is opened and read, the external set is made, the
mini-batch importances of the balanced set are measured, and `methods.swift` runs both steps. The
cache itself is made once for all jobs of all methods; its cost is given beside. What differs from
the plain way, at the same arithmetic precision, losses and numbers of epochs and views:

- no image is decoded or resized again; flips and normalization are batched;
- both importances share a forward pass;
- step 2 computes the frozen features of each (image, view) that its epochs will draw once, in eval
  mode, and trains the head on those;
- channels-last memory format; freed memory is kept for the next step.

The plain side runs in a process of its own, so that nothing that the library sets up (memory,
determinism, precision) reaches it. On a GPU (`--device cuda`) it decodes in as many worker
processes as there are cores and computes with PyTorch's defaults (fp32, TF32 in convolutions), ours
in bf16 where the workflow does; its cases have the paper's pixels and batch.

The times of the stages also give the ratio at the paper's numbers of epochs (`projected`). Step 1
is the same arithmetic on both sides, so the ratio is bounded; `bound` is the ratio that an
implementation would reach whose convolutions of step 1 run at the speed of a matrix product
(measured in the run), all else being free.
"""

from __future__ import annotations

import atexit
import copy
import io
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from benchmarks import plain_swift
from benchmarks.common import (
    Clock,
    clock_of,
    draw_pictures,
    expected_views,
    isic_sizes,
    parser,
    prepare,
    ratio,
    seconds,
    write,
)
from benchmarks.importance import calibrate
from benchmarks.training_step import flops, peak_flops
from torch import Tensor
from torch.utils.data import DataLoader

from swift_debias import methods
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Images,
    Optimizer,
)
from swift_debias.data.cache_building import build_cache
from swift_debias.data.image_cache import CachedImages
from swift_debias.data.normalization import IMAGENET
from swift_debias.files import write_parquet
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import devices
from swift_debias.learning.context import Context
from swift_debias.learning.networks import build, import_torchvision
from swift_debias.learning.samples import ExternalSet, make_samples
from swift_debias.methods import swift
from swift_debias.methods.base import external_set, read_external


class Pictures(NamedTuple):
    """What the raw files of an external set look like.

    sizes: of n pictures, (width, height). grain: see `draw_pictures`.
    """

    sizes: Callable[[int], list[tuple[int, int]]]
    grey: bool
    grain: float


PICTURES = {
    # the skin task's own: a quarter of ISIC's images have 24 megapixels
    "ISIC's sizes": Pictures(isic_sizes, False, 2),
    "X-rays": Pictures(lambda n: [(2544, 3056)] * n, True, 6),  # MIMIC-CXR-JPG
    "photographs": Pictures(lambda n: [(1024, 768)] * n, False, 6),
    # as if somebody had cut and resized all images before, outside of the released code
    "256 px files": Pictures(lambda n: [(256, 256)] * n, False, 6),
}


class Work(NamedTuple):
    """A network and what it is fine-tuned on."""

    network: str
    pixels: int
    pictures: str
    images: int
    batch: int
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.network}, {self.pixels} px, {self.pictures}"


NETWORKS = ("resnet50", "densenet121", "efficientnet_b3")  # the paper's
WORKS = (
    Work("resnet50", 64, "ISIC's sizes", 64, 32, 5),
    Work("resnet50", 64, "X-rays", 64, 32, 5),
    Work("resnet50", 64, "photographs", 64, 32, 5),
    Work("resnet50", 64, "256 px files", 64, 32, 5),
    Work("densenet121", 64, "ISIC's sizes", 64, 32, 5),
    Work("efficientnet_b3", 64, "ISIC's sizes", 64, 32, 5),
    Work("resnet50", 224, "ISIC's sizes", 32, 16, 3),
    Work("resnet50", 224, "X-rays", 32, 16, 3),
    Work("efficientnet_b3", 224, "ISIC's sizes", 32, 16, 3),
    Work("densenet121", 224, "ISIC's sizes", 32, 16, 3),
    # the demo's network
    Work("small_resnet", 64, "photographs", 256, 64, 5),
    Work("small_resnet", 224, "ISIC's sizes", 64, 32, 5),
    Work("small_resnet", 224, "X-rays", 64, 32, 5),
    Work("small_resnet", 224, "photographs", 128, 64, 5),
)
# At the paper's size and batch; without a GPU it would take hours. With 512 images and 5 epochs one
# network took more than 105 seconds of an H100, most of them the plain side's, image by image.
GPU_WORKS = tuple(Work(network, 256, "photographs", 256, 128, 3) for network in NETWORKS)
CASES = {work.name: work for work in (*WORKS, *GPU_WORKS)}
# Measured where nothing else is asked for: the paper's networks at its size, and two others.
BRIEF = (
    *(f"{network}, 224 px, ISIC's sizes" for network in NETWORKS),
    "resnet50, 64 px, ISIC's sizes",
    "small_resnet, 224 px, ISIC's sizes",
)
PAPER_EPOCHS = {"skin": 20, "CXR": 10}


@cache
def drawn(pictures: str, n: int) -> Path:
    """A folder with n pictures of a kind, drawn once for all networks."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    sizes, grey, grain = PICTURES[pictures]
    draw_pictures(Path(folder.name), sizes(n), grey=grey, grain=grain)
    return Path(folder.name)


class Case:
    """The files of one case: pictures, their cache, the external set's table."""

    def __init__(self, root: Path, name: str, options: Any) -> None:
        work, quick = CASES[name], options.quick
        self.size, self.batch = work.pixels, work.batch
        self.n, self.epochs = (16, 1) if quick else (work.images, work.epochs)
        self.pictures = drawn(work.pictures, self.n)
        self.paths = sorted(self.pictures.iterdir())
        self.labels = np.arange(self.n) % 2
        self.attributes = np.arange(self.n) // 2 % 2
        ids = [path.stem for path in self.paths]
        self.frame = pd.DataFrame({"image_id": ids, "path": [path.name for path in self.paths]})
        self.table = root / "external.parquet"
        external = pd.DataFrame(
            {
                "image_id": ids,
                "dataset": "cache",
                "label": self.labels,
                "attribute": self.attributes,
                "balanced": True,
            }
        )
        write_parquet(external, self.table)
        self.cache = root / "cache.npy", root / "cache.parquet"
        self.network = build(Backbone(architecture=work.network), seed=0)

    def build_cache(self) -> None:
        build_cache(self.frame, self.pictures, *self.cache, Images(size=self.size), 1)

    def open_images(self) -> CachedImages:
        return CachedImages([self.cache])


def plain(case: Case, kind: str, precision: str = "fp32") -> dict[str, float]:
    """Seconds of each stage of the plain implementation: on one CPU thread, or on a GPU.

    In bf16 all its passes are under torch's autocast, as somebody would write it.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(kind)
    clock = clock_of(device, threads=1)
    network = copy.deepcopy(case.network).to(device)
    workers = (os.cpu_count() or 1) if kind == "cuda" else 0

    def loader(train: bool) -> DataLoader:
        transform = plain_swift.transforms(case.size, train=train)
        labels, attributes = case.labels.astype(float).tolist(), case.attributes.tolist()
        folder = plain_swift.Folder(case.paths, labels, attributes, transform)
        return DataLoader(folder, case.batch, shuffle=True, num_workers=workers)

    masks: list[dict[str, Tensor]] = []
    stages = {
        "importance": lambda: masks.append(plain_swift.make_mask(network, loader(False))),
        "step1": lambda: plain_swift.step1(network, loader(True), masks[0], case.epochs),
        "step2": lambda: plain_swift.step2(network, loader(True), masks[0], case.epochs),
        "reading": lambda: [None for _ in loader(True)],  # one pass; part of the above, not added
    }
    if kind == "cuda":  # start CUDA and choose kernels outside of the clock
        network(torch.zeros(2, 3, case.size, case.size, device=device)).sum().backward()
        network.zero_grad()
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return {name: seconds(stage, clock) for name, stage in stages.items()}


class Stamps(io.StringIO):
    """A log that remembers when a line with a given beginning was written."""

    def __init__(self, clock: Clock, beginning: str) -> None:
        super().__init__()
        self.clock, self.beginning, self.at = clock, beginning, 0.0

    def write(self, text: str) -> int:
        if text.startswith(self.beginning):
            self.at = self.clock()
        return super().write(text)


def ours(
    case: Case, device: torch.device, clock: Clock, precision: str = "auto"
) -> dict[str, float]:
    """Seconds of each stage of the library, called as the jobs call it."""
    compute = Compute(device=device.type, precision=precision)
    times, start = {}, clock()
    classifier = devices.place(copy.deepcopy(case.network).eval(), device, compute)
    samples, balanced = read_external(
        case.table, case.open_images(), device, compute.resident, IMAGENET
    )
    finetuning = Finetuning(min_cell=1)
    external = external_set(
        samples,
        balanced,
        pair=None,
        fraction=1,
        finetuning=finetuning,
        seed=0,
        info=lambda text: None,
    )
    times["reading"] = clock() - start

    start = clock()
    importance = shared_importance(
        classifier,
        external,
        finetuning,
        case.batch,
        0,
        ("minibatch.balanced.bias", "minibatch.balanced.prediction"),
    )
    times["importance"] = clock() - start

    log = Stamps(clock, "step2: ")
    context = Context(
        seed=0,
        epochs=case.epochs,
        batch_size=case.batch,
        optimizer=Optimizer(name="sgd", lr=1e-4),
        finetuning=finetuning,
        augmentation=Augmentation(),
        compute=compute,
        importance=lambda: importance,
        log=log,
    )
    start = clock()
    context.decide_precision(external.full)
    swift.debias(classifier, external, swift.Settings(), context)
    times["step1"], times["step2"] = log.at - start, clock() - log.at
    return times


def importance_of_all_methods(case: Case, device: torch.device) -> None:
    """What the job `importance` computes for every method and ablation at once."""
    classifier = devices.place(copy.deepcopy(case.network).eval(), device, Compute())
    samples, balanced = read_external(case.table, case.open_images(), device, "auto", IMAGENET)
    external = ExternalSet(samples, samples.subset(balanced))
    shared_importance(classifier, external, Finetuning(), case.batch, 0, methods.importances())


def total(times: dict[str, float], *, reading: bool) -> float:
    return sum(v for k, v in times.items() if reading or k != "reading")


def projected(
    case: Case, plainly: dict[str, float], our: dict[str, float], step1_at_peak: float
) -> dict[str, float]:
    """The ratio at the paper's epochs, from the stages' times and the expected number of views."""
    out = {"bound": total(plainly, reading=False) / step1_at_peak}
    seen = expected_views(case.epochs)
    for task, epochs in PAPER_EPOCHS.items():
        longer = epochs / case.epochs
        views = expected_views(epochs)
        above = plainly["importance"] + longer * (plainly["step1"] + plainly["step2"])
        below = our["reading"] + our["importance"] + longer * our["step1"]
        out[f"{task}, {epochs} epochs"] = above / (below + our["step2"] * views / seen)
        out[f"{task}, {epochs} epochs, bound"] = above / (longer * step1_at_peak)
    return out


def measure(name: str, options: Any, device: torch.device, clock: Clock) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder), name, options)
        cached = seconds(case.build_cache, clock) / case.n
        numbers = case.open_images().rows("cache", case.frame.image_id.tolist())
        first = make_samples(
            case.open_images(), numbers, case.labels, case.attributes, device, "auto"
        ).draw(torch.arange(min(case.n, case.batch)))
        calibrate(case.network, first[:32].cpu())
        pairs = []
        apart = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, apart, import_torchvision) as process:
            for _ in range(1 if options.quick else options.repeats):
                plainly = process.submit(plain, case, device.type).result()
                pairs.append((plainly, ours(case, device, clock)))
        all_methods = seconds(lambda: importance_of_all_methods(case, device), clock)
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        peak = peak_flops(device, clock, half)
        at_peak = 3 * flops(case.network.extractor, case.size) * case.n * case.epochs / peak
    plains = [total(p, reading=False) for p, _ in pairs]
    projections = [projected(case, p, o, at_peak) for p, o in pairs]
    return {
        "images": case.n,
        "batch": case.batch,
        "epochs": case.epochs,
        "ratio": ratio(plains, [total(o, reading=True) for _, o in pairs]),
        "ratio_with_cache_building": ratio(
            plains, [total(o, reading=True) + case.n * cached for _, o in pairs]
        ),
        "projected": {
            key: round(statistics.median(p[key] for p in projections), 2) for key in projections[0]
        },
        "seconds_per_image": {
            side: {
                stage: round(statistics.median(pair[i][stage] for pair in pairs) / case.n, 4)
                for stage in pairs[0][i]
            }
            for i, side in enumerate(("plain", "ours"))
        },
        "seconds_per_image_to_build_the_cache": round(cached, 4),
        "seconds_per_image_importance_of_all_methods": round(all_methods / case.n, 4),
    }


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    options_of.add_argument(
        "--cases",
        nargs="+",
        choices=[*CASES, "all"],
        help="default: five, which take half an hour; quick: two; GPU: its own",
    )
    options_of.set_defaults(repeats=2)
    options_of.set_defaults(device="cpu")
    options = options_of.parse_args(arguments)
    device, clock = prepare(options)
    results = {}
    default = [work.name for work in GPU_WORKS] if device.type == "cuda" else BRIEF
    default = [work.name for work in WORKS[2:4]] if options.quick else default
    every = [work.name for work in (GPU_WORKS if device.type == "cuda" else WORKS)]
    for name in every if options.cases == ["all"] else options.cases or default:
        results[name] = measure(name, options, device, clock)
        write("swift", options, results)  # after each case: they take minutes


if __name__ == "__main__":
    main()
