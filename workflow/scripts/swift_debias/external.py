"""The external set of a fold, as samples on the device, and the importances measured on it.

Reads what rule `make_external` wrote. For an attribute of more than two groups it picks the two
with the highest and the lowest AUC (Section 5.1.3) and recodes them as a binary attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from . import fisher, splits
from .fisher import Importance
from .images import CachedImages
from .losses import class_weights
from .networks import Classifier
from .samples import Samples, make_samples
from .seeds import derive_seed
from .settings import Finetuning, UserError
from .training import ExternalSet, auc, predict


def read_external(
    path: Path, images: CachedImages, device: torch.device, resident: str
) -> tuple[Samples, np.ndarray]:
    """The samples of an external set file, and which of them are balanced."""
    rows = pd.read_parquet(path)
    samples = make_samples(
        images,
        images.rows(rows.dataset.tolist(), rows.image_id.tolist()),
        rows.label.to_numpy(),
        rows.attribute.to_numpy(),
        device,
        resident,
    )
    return samples, rows.balanced.to_numpy()


def best_and_worst_group(
    logits: torch.Tensor, samples: Samples, groups: int, min_group: int
) -> tuple[int, int]:
    """The groups with the highest and the lowest AUC, in the order of their indices.

    Groups with fewer than `min_group` samples or with one class only do not take part.
    """
    aucs: dict[int, float] = {}
    for group in range(groups):
        rows = samples.attributes == group
        value = auc(logits[rows], samples.labels[rows])
        if int(rows.sum()) >= min_group and value == value:
            aucs[group] = value
    if len(aucs) < 2:
        raise UserError(
            f"fewer than two of the {groups} groups have both classes and at least {min_group} "
            "external samples: lower finetuning.min_group or merge groups of the attribute"
        )
    best, worst = max(aucs, key=aucs.__getitem__), min(aucs, key=aucs.__getitem__)
    return min(best, worst), max(best, worst)


def external_set(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    *,
    groups: int,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    say: Callable[[str], None],
) -> ExternalSet:
    """Choose the pair of groups, thin the set, and split off its balanced part.

    Args:
        classifier: the Baseline, whose AUC by group decides where there are more than two.
        samples: all external samples, attributes 0..groups-1.
        balanced: bool (n,), as written by `make_external`; only meaningful for two groups.
        groups: how many groups the attribute has.
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell` and `min_group`.
        seed: for the draws.
        say: where to report what was chosen.
    """
    if groups > 2:
        pair = best_and_worst_group(
            predict(classifier, samples), samples, groups, finetuning.min_group
        )
        say(f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1")
        chosen = (samples.attributes == pair[0]) | (samples.attributes == pair[1])
        recoded = (samples.attributes == pair[1]).long()
        samples = samples.with_attributes(recoded).subset(chosen)
        balanced = _balance(samples, finetuning.min_cell, seed)
    if fraction < 1:
        kept = splits.subsample(
            _numpy(samples.labels),
            _numpy(samples.attributes),
            fraction,
            np.random.default_rng(derive_seed(seed, "fraction")),
        )
        samples = samples.subset(kept)
        # The fraction is drawn first and balanced after: what a user with less data would have. A
        # small set may leave few samples in a cell, which is what Figure 7 is about: no minimum.
        balanced = _balance(samples, 1, seed)
    external = ExternalSet(full=samples, balanced=samples.subset(balanced))
    say(f"external set: {len(external.full)} images, {len(external.balanced)} balanced")
    return external


def _balance(samples: Samples, min_cell: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(derive_seed(seed, "balance"))
    return splits.balance(_numpy(samples.labels), _numpy(samples.attributes), rng, min_cell)


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.int64)


# What the methods read and rule `importance` measures once for all of them:
# "<estimator>.<part of the external set>.<objective>". One more objective of a pass that is made
# anyway costs little time, but as much memory as the weights. A method that needs another adds it.
SHARED = (
    "minibatch.balanced.prediction",  # SWiFT
    "minibatch.balanced.bias",
    "minibatch.full.prediction",  # BMFT
    "minibatch.full.bias",
    "per_sample.balanced.prediction",  # SWiFT with the other estimator
    "per_sample.balanced.bias",
    "per_sample.full.group0",  # FairPrune
    "per_sample.full.group1",
)


def shared_importance(
    classifier: Classifier,
    external: ExternalSet,
    finetuning: Finetuning,
    batch_size: int,
    seed: int,
    wanted: Collection[str] = SHARED,
) -> Importance:
    """The importances that methods read, in at most one pass over each part of the external set.

    Args:
        classifier: the Baseline.
        external: the external set.
        finetuning: class weights and fairness proxy.
        batch_size: of the mini-batches.
        seed: for their order.
        wanted: which of them to measure.
    """
    importance: Importance = {}
    # In a fixed random order: the rows are sorted by data set, and a batch without one of the
    # groups would have no bias.
    full, balanced = (
        samples.subset(torch.randperm(len(samples), generator=_generator(seed, part)))
        for part, samples in (("full", external.full), ("balanced", external.balanced))
    )
    # The balanced samples are a part of the full set: one by one, they are measured on the way.
    member = torch.isin(full.rows, balanced.rows).to(full.device)
    passes = {
        "full": (full, {"full": torch.ones_like(member), "balanced": member}),
        "balanced": (balanced, {"balanced": torch.ones_like(balanced.labels, dtype=torch.bool)}),
    }
    for part, (samples, subsets) in passes.items():
        missing = [name.split(".") for name in wanted if name not in importance]
        if not any(name[1] == part for name in missing):
            continue
        one_by_one = {f"{name[1]}.{name[2]}" for name in missing if name[0] == "per_sample"}
        dataset_weights = finetuning.class_weights == "dataset"
        weights = class_weights(samples.labels) if dataset_weights else None
        by_sample, by_batch = fisher.estimate(
            classifier,
            lambda samples=samples: samples.batches(batch_size),  # type: ignore[misc]
            fisher.PerSample(samples.labels, samples.attributes, subsets=subsets, wanted=one_by_one)
            if one_by_one
            else None,
            fisher.Minibatch(finetuning.eodds, weights)
            if ["minibatch", part] in [name[:2] for name in missing]
            else None,
        )
        importance |= {f"per_sample.{name}": value for name, value in by_sample.items()}
        importance |= {f"minibatch.{part}.{name}": value for name, value in by_batch.items()}
    return {name: importance[name] for name in wanted}


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, part))
