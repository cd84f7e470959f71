"""SWiFT end to end on a CPU in fp32 and in bf16, against the plain implementation in both.

    python -m benchmarks.precision
    python -m benchmarks.precision --networks resnet50 --repeats 2
    python -m benchmarks.precision --accuracy

The sides are swift.py's: `ours` in the precision that `compute.precision: auto` takes ("auto"), and
with bf16 switched off ("fp32"); `plain` in fp32, and under torch's autocast ("bf16"). All four run
in every round, each in a process of its own, so that nothing that one sets up reaches another. The
processor time of every stage of every round is kept in results/precision.json, and later runs add
rounds to it. From a round's stages follow the ratios at three epochs and at the paper's 20 and 10
(`tables.precision`; the stages' times grow with the epochs, step 2's features with the views seen).

`--accuracy` is the paired check: a small network is trained on made-up images of `ENOUGH_PIXELS`
pixels with a group that shows, then debiased, in fp32 and in bf16 of the same seeds, and in fp32
from weights that were moved by a part in a million, which says how far rounding alone leads.

The section of docs/performance.md is made of resources/precision/, where copies of such files lie,
one a machine (page.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import swift as ends
from benchmarks.common import RESULTS, parser, prepare, write
from benchmarks.importance import calibrate
from benchmarks.training_step import flops, peak_flops
from sklearn.metrics import roc_auc_score

from swift_debias import FullFT, ImageSet
from swift_debias.config.schema import Backbone, Compute
from swift_debias.learning.augment import normalize
from swift_debias.learning.networks import build, import_torchvision
from swift_debias.learning.precision import ENOUGH_PIXELS, decide

NETWORKS = ("resnet50", "densenet121", "efficientnet_b3")
SIDES = ("plain fp32", "plain bf16", "ours fp32", "ours auto")
SEEDS = 6


def side(case: ends.Case, name: str) -> dict[str, float]:
    """Seconds of each stage of one side; called in a process of its own."""
    whose, _, precision = name.partition(" ")
    if whose == "plain":
        return ends.plain(case, "cpu", precision)
    options = argparse.Namespace(device="cpu", threads=1)
    device, clock = prepare(options)
    return ends.ours(case, device, clock, precision)


def one_round(case: ends.Case) -> dict[str, dict[str, float]]:
    """Every side once."""
    apart = multiprocessing.get_context("spawn")
    found = {}
    for name in SIDES:
        with ProcessPoolExecutor(1, apart, import_torchvision) as process:
            found[name] = process.submit(side, case, name).result()
    return found


def measure(network: str, options: argparse.Namespace, rounds: list[Any]) -> dict[str, Any]:
    """More rounds of a network."""
    work = ends.Work(network, options.size, "ISIC's sizes", options.images, 16, options.epochs)
    ends.CASES["case"] = work
    with tempfile.TemporaryDirectory() as folder:
        case = ends.Case(Path(folder), "case", argparse.Namespace(quick=False))
        case.build_cache()
        images = case.open_images()
        rows = images.rows("cache", case.frame.image_id.tolist()[:16])
        seen = torch.from_numpy(images.gather(rows)).permute(0, 3, 1, 2)
        calibrate(case.network, normalize(seen))
        for _ in range(options.repeats):
            rounds.append({"epochs": case.epochs, "sides": one_round(case)})
        operations = 3 * flops(case.network.extractor, options.size)
    device = torch.device("cpu")
    decided = decide(Compute(device="cpu"), device, options.size).precision
    return {
        "images": options.images,
        "batch": 16,
        "size": options.size,
        "auto": decided,
        "flop_per_image": operations,
        "rounds": rounds,
    }


# --- accuracy ------------------------------------------------------------------------------------


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n noisy images whose brightness tells the label, and whose tint the group.

    The label and the group go together in three of four.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    groups = np.where(rng.random(n) < 0.75, labels, 1 - labels)
    noise = rng.normal(110, 50, (n, 16, 16, 3))
    noise += 2 * labels[:, None, None, None]
    noise[..., 0] += 8 * groups[:, None, None]
    repeat = ENOUGH_PIXELS // 16
    images = noise.clip(0, 255).astype(np.uint8).repeat(repeat, 1).repeat(repeat, 2)
    return images, labels, groups


def accuracy(seed: int) -> dict[str, dict[str, float]]:
    """AUC and EOdds of a test set after FullFT: fp32, bf16, fp32 from weights moved a little."""
    network = build(Backbone(architecture="small_resnet"), seed=seed)
    images, labels, _ = pictures(256, 3 * seed)
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225)
    optimizer = torch.optim.SGD(network.parameters(), 0.02, 0.9)
    network.train()
    for at in (
        torch.randperm(256, generator=torch.Generator().manual_seed(seed)).repeat(6).split(32)
    ):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(seen[at]), torch.from_numpy(labels).float()[at]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    external = ImageSet.from_arrays(*pictures(192, 3 * seed + 1))
    test, truth, group = pictures(512, 3 * seed + 2)
    test_set = ImageSet.from_arrays(test, truth, group)
    found = {}
    for name, precision, moved in (("fp32", "fp32", 0), ("bf16", "bf16", 0), ("1e-6", "fp32", 1)):
        start = {k: v.clone() for k, v in network.state_dict().items()}
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + 1e-6 * moved)
        # of all methods it moves the weights the most: SWiFT's mask holds most of them
        method = FullFT(epochs=8, lr_extractor=0.02, lr_head=0.1, precision=precision)
        scores = method.fit(network.eval(), external).predict_proba(test_set)
        network.load_state_dict(start)
        scores = np.asarray(scores).reshape(len(truth), -1)[:, -1]
        found[name] = {
            "auc": float(roc_auc_score(truth, scores)),
            "eodds": eodds(truth, scores, group),
        }
    return found


def eodds(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    """Half the sum of the gaps in true and false positive rates at the median score."""
    positive = scores > np.median(scores)
    gaps = [
        abs(np.subtract(*(positive[(labels == y) & (groups == g)].mean() for g in (0, 1))))
        for y in (0, 1)
    ]
    return float(sum(gaps) / 2)


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options_of.add_argument("--size", type=int, default=224)
    options_of.add_argument("--images", type=int, default=16)
    options_of.add_argument("--epochs", type=int, default=2, help="that are run")
    options_of.add_argument("--accuracy", action="store_true", help="the paired check alone")
    options_of.set_defaults(device="cpu")
    options = options_of.parse_args(arguments)
    device, clock = prepare(options)
    path = RESULTS / "precision.json"
    results: dict[str, Any] = {"networks": {}}
    if path.is_file():
        results = json.loads(path.read_text())["results"]
    if options.quick:
        options.networks, options.images, options.repeats = ["small_resnet"], 8, 1
    if options.accuracy:
        results["accuracy"] = [accuracy(seed) for seed in range(2 if options.quick else SEEDS)]
        write("precision", options, results)
        return
    results["gflops"] = {
        name: round(peak_flops(device, clock, dtype) / 1e9)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    for network in options.networks:
        rounds = results["networks"].get(network, {}).get("rounds", [])
        results["networks"][network] = measure(network, options, rounds)
        write("precision", options, results)


if __name__ == "__main__":
    main()
