"""How a method is run: on which external set, with which importances, and what it cost.

The front door's `fit` and rule `debias` both come through `debias` here: one road.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from ..config.schema import Augmentation, Compute, Finetuning, Method, Pretraining
from . import load, read_importances
from ._external import best_and_worst_group, choose_rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data.image_cache import CachedImages
    from ..data.normalization import Normalization
    from ..learning.checkpoints import Checkpoints
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples


@dataclass(frozen=True)
class Training:
    """What all methods of a task share: the task's settings and how the arithmetic is done."""

    pretraining: Pretraining
    finetuning: Finetuning
    augmentation: Augmentation
    compute: Compute

    def epochs(self, variant: Method) -> int:
        """Epochs of each fine-tuning step of a variant."""
        percent = variant.epochs_percent or self.finetuning.epochs_percent
        return max(1, round(self.pretraining.epochs * percent / 100))

    def finetuning_of(self, variant: Method) -> Finetuning:
        """The task's settings of fine-tuning, with what a variant overrides."""
        own = {} if variant.batchnorm is None else {"batchnorm": variant.batchnorm}
        return self.finetuning.model_copy(update=own)


class Outcome(NamedTuple):
    """What a method made: the classifier, a row an epoch or step, and what it cost.

    masks: those that it worked with, see `Context`. importance: what it read, objective ->
    parameter name -> tensor. Both are empty where the method has none.
    """

    classifier: Classifier
    history: list[dict[str, Any]]
    cost: dict[str, Any]
    masks: dict[str, Tensor]
    importance: Mapping[str, dict[str, Tensor]]


def debias(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    groups: int,
    variant: Method,
    training: Training,
    *,
    seed: int,
    set_seed: int,
    stored: Callable[[], Mapping[str, dict[str, Tensor]]] | None = None,
    checkpoints: Checkpoints | None = None,
    log: TextIO | None = None,
    name: str = "",
) -> Outcome:
    """Debias a classifier with one variant of a method.

    Args:
        classifier: the Baseline, on its device; changed in place.
        samples, balanced, groups: see `external_set`.
        variant: algorithm and its settings.
        training: see there.
        seed: of the method's own draws.
        set_seed: of the draws of the external set (`seeds.external_seed`).
        stored: () -> importances measured before, on the whole external set; None: measure now.
        checkpoints: where a killed job carries on.
        log: for the progress; default: the standard error.
        name: of the job, on the progress bar.
    """
    from ..importance.shared import shared_importance
    from ..learning.checkpoints import Checkpoints
    from ..learning.context import Context
    from ..learning.cost import Cost

    log = sys.stderr if log is None else log
    method = load(variant.algorithm)
    settings = method.Settings(**variant.settings)
    finetuning = training.finetuning_of(variant)
    external = external_set(
        classifier,
        samples,
        balanced,
        groups=groups,
        fraction=variant.external_fraction,
        finetuning=finetuning,
        seed=set_seed,
        info=lambda text: print(text, file=log),
    )

    found: list[Mapping[str, dict[str, Tensor]]] = []

    def importance() -> Mapping[str, dict[str, Tensor]]:
        """Those measured before; a part of the external set needs its own."""
        if stored is not None and variant.external_fraction == 1:
            found.append(stored())
        else:
            measured = shared_importance(
                classifier,
                external,
                finetuning,
                training.pretraining.batch_size,
                set_seed,
                read_importances(variant.algorithm, settings),
            )
            found.append(measured)
        return found[-1]

    context = Context(
        seed=seed,
        epochs=training.epochs(variant),
        batch_size=training.pretraining.batch_size,
        optimizer=training.pretraining.optimizer,
        finetuning=finetuning,
        augmentation=training.augmentation,
        compute=training.compute,
        importance=importance,
        checkpoints=Checkpoints(None) if checkpoints is None else checkpoints,
        log=log,
        name=name,
    )
    cost = Cost(classifier, classifier.device)
    debiased = method.debias(classifier, external, settings, context)
    return Outcome(
        debiased,
        context.history,
        cost.measure(debiased, samples.seen[0]),
        context.masks,
        found[-1] if found else {},
    )


def read_external(
    path: Path,
    images: CachedImages,
    device: torch.device,
    resident: str,
    normalization: Normalization,
) -> tuple[Samples, np.ndarray]:
    """The samples of an external set file, and which of them are balanced."""
    from ..learning.samples import make_samples

    rows = pd.read_parquet(path)
    samples = make_samples(
        images,
        images.rows(rows.dataset.tolist(), rows.image_id.tolist()),
        rows.label.to_numpy(),
        rows.attribute.to_numpy(),
        device,
        resident,
        normalization,
    )
    return samples, rows.balanced.to_numpy()


def external_set(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    *,
    groups: int,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    info: Callable[[str], None],
) -> ExternalSet:
    """Choose the pair of groups, thin the set, and split off its balanced part.

    Args:
        classifier: the Baseline, whose AUC by group decides where there are more than two.
        samples: all external samples, attributes 0..groups-1.
        balanced: bool (n,), as rule `make_external` wrote it.
        groups: how many groups the attribute has.
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell` and `min_group`.
        seed: for the draws (`seeds.external_seed`).
        info: where to report what was chosen.
    """
    from ..learning.inference import auc, predict
    from ..learning.samples import ExternalSet

    pair = None
    if groups > 2:
        logits = predict(classifier, samples)
        members = {group: samples.attributes == group for group in range(groups)}
        pair = best_and_worst_group(
            {group: auc(logits[rows], samples.labels[rows]) for group, rows in members.items()},
            {group: int(rows.sum()) for group, rows in members.items()},
            finetuning.min_group,
        )
    labels, indices = (
        values.cpu().numpy().astype(np.int64) for values in (samples.labels, samples.attributes)
    )
    chosen = choose_rows(labels, indices, balanced, pair, fraction, finetuning, seed)
    info(chosen.note)
    if pair is not None:
        recoded = samples.attributes.clone()
        recoded[chosen.rows] = recoded.new_tensor(chosen.groups)
        samples = samples.with_attributes(recoded)
    full = samples.subset(chosen.rows) if len(chosen.rows) < len(samples) else samples
    return ExternalSet(full=full, balanced=full.subset(chosen.balanced))
