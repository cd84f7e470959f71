"""The importances that methods read, measured once for all methods of a setup and fold."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..config.schema import Finetuning
from ..learning.inference import predict
from ..learning.networks import Classifier
from ..learning.objectives import class_weights
from ..learning.samples import ExternalSet, Samples
from ..seeds import derive_seed
from . import estimators
from .per_class import PerClass
from .store import Importance


def shared_importance(
    classifier: Classifier,
    external: ExternalSet,
    finetuning: Finetuning,
    batch_size: int,
    seed: int,
    wanted: Collection[str],
) -> Importance:
    """The importances that methods read, in at most one pass over each part of the external set.

    Args:
        classifier: the Baseline.
        external: the external set.
        finetuning: class weights and fairness proxy.
        batch_size: of the mini-batches.
        seed: for their order.
        wanted: names "<estimator>.<part of the external set>.<objective>", e.g.
            "minibatch.balanced.bias"; a method's IMPORTANCES. One more objective of a pass that is
            made anyway costs little time, but as much memory as the weights.
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
        weights = class_weights(samples.labels, samples.classes) if dataset_weights else None
        by_sample, by_batch = estimators.estimate(
            classifier,
            lambda samples=samples: samples.batches(batch_size),  # type: ignore[misc]
            _per_sample(classifier, samples, subsets, one_by_one, finetuning)
            if one_by_one
            else None,
            estimators.Minibatch(finetuning.eodds, weights)
            if ["minibatch", part] in [name[:2] for name in missing]
            else None,
        )
        importance |= {f"per_sample.{name}": value for name, value in by_sample.items()}
        importance |= {f"minibatch.{part}.{name}": value for name, value in by_batch.items()}
    return {name: importance[name] for name in wanted}


def _per_sample(
    classifier: Classifier,
    samples: Samples,
    subsets: dict[str, torch.Tensor],
    wanted: Collection[str],
    finetuning: Finetuning,
) -> estimators.PerSample | PerClass:
    """Objectives of single samples, each on these parts of the set."""
    labels, groups = samples.labels, samples.attributes
    if samples.classes == 2:
        return estimators.PerSample(labels, groups, subsets=subsets, wanted=wanted)
    logits = predict(classifier, samples).clone()  # an inference tensor has no gradient
    return PerClass(logits, labels, groups, None, subsets, wanted, finetuning.eodds)


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, part))
