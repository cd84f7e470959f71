"""How a method is run: on which external set, with which importances, and what it cost.

The front door's `fit` and rule `debias` both come through `debias` here: one road.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from ..config.schema import Augmentation, Compute, Finetuning, Method, Pretraining, Selection
from ..errors import UserError, of_job
from ..files import read_parquet
from . import epochs, first_half, keeps_extractor, load, read_importances
from ._choice import Choice
from ._external import choose_rows

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from ..data.image_cache import CachedImages
    from ..data.normalization import Normalization
    from ..evaluation.decision_rule import Rule
    from ..learning.checkpoints import Checkpoints
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples


@dataclass(frozen=True)
class Training:
    """What all methods of a task share: the task's settings and how the arithmetic is done.

    selection: how a method that chooses something itself holds samples out.
    """

    pretraining: Pretraining
    finetuning: Finetuning
    augmentation: Augmentation
    compute: Compute
    selection: Selection = field(default_factory=Selection)

    @classmethod
    def of(
        cls,
        task: Mapping[str, Mapping[str, Any]],
        compute: Compute,
        selection: Mapping[str, Any] | None = None,
    ) -> Training:
        """From a task's slice of the settings, as rules hand it on: section -> plain values."""
        return cls(
            Pretraining(**task["pretraining"]),
            Finetuning(**task["finetuning"]),
            Augmentation(**task["augmentation"]),
            compute,
            Selection(**(selection or {})),
        )

    def epochs(self, variant: Method) -> int:
        """Epochs of each fine-tuning step of a variant."""
        percent = variant.epochs_percent or self.finetuning.epochs_percent
        return epochs(percent, self.pretraining.epochs)

    def finetuning_of(self, variant: Method) -> Finetuning:
        """The task's settings of fine-tuning, with what a variant overrides."""
        shared = self.finetuning
        return shared.model_copy(
            update={
                "batchnorm": variant.batchnorm or shared.batchnorm,
                "batches": variant.batches or shared.batches,
                "lr_extractor": shared.lr_extractor * variant.lr_factor,
                "lr_head": shared.lr_head * variant.lr_factor,
            }
        )


class First(NamedTuple):
    """A first step that was done before, for several variants together.

    state: the classifier after it. history, cost: of the step.
    """

    state: dict[str, Tensor]
    history: list[dict[str, Any]]
    cost: dict[str, Any]


class Outcome(NamedTuple):
    """What a method made: the classifier, a row an epoch or step, and what it cost.

    masks: those that it worked with, see `Context`. importance: what it read, objective ->
    parameter name -> tensor. Both are empty where the method has none. rule: how it decides, by the
    attribute's own groups; None: by a threshold of the scores.
    """

    classifier: Classifier
    history: list[dict[str, Any]]
    cost: dict[str, Any]
    masks: dict[str, Tensor]
    importance: Mapping[str, dict[str, Tensor]]
    rule: Rule | None = None


def debias(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    groups: int,
    variant: Method,
    training: Training,
    choose: Callable[[], Choice],
    *,
    seed: int,
    set_seed: int,
    stored: Callable[[], Mapping[str, dict[str, Tensor]]] | None = None,
    first: First | None = None,
    patients: np.ndarray | None = None,
    checkpoints: Checkpoints | None = None,
    log: TextIO | None = None,
    name: str = "",
) -> Outcome:
    """Debias a classifier with one variant of a method.

    Args:
        classifier: the Baseline, on its device; changed in place.
        samples, balanced: see `external_set`.
        groups: how many groups the attribute has.
        variant: algorithm and its settings.
        training: see there.
        choose: () -> the groups that are compared; asked where there are more than two, or where
            the method wants to know which one is unprivileged.
        seed: of the method's own draws.
        set_seed: of the draws of the external set (`seeds.external_seed`).
        stored: () -> importances measured before, on the whole external set; None: measure now.
        first: the variant's first step, where it is done already (`methods.first_half`).
        patients: (n,), whose image each sample is, for methods that hold some out; null: somebody
            of their own. None: all are.
        checkpoints: where a killed job carries on.
        log: for the progress; default: the standard error.
        name: of the job (method, task, fold), on the progress bar and in messages.

    Raises:
        UserError: the external set cannot be used by this method, the network leaves it nothing to
            train, or it returns another network.
        NotFiniteError: it diverged, or its network's scores are not finite.
    """
    from ..importance.shared import shared_importance
    from ..learning.checkpoints import Checkpoints
    from ..learning.context import Context
    from ..learning.cost import Cost
    from ..learning.finite import refuse_not_finite
    from ..learning.forward import refuse_without_gradient
    from ..learning.samples import few

    log = sys.stderr if log is None else log
    method = load(variant.algorithm)
    settings = method.Settings(**variant.settings)
    if samples.classes > 2 and (why := settings.two_classes()):
        raise UserError(f"{why}; here are {samples.classes} classes")
    finetuning = training.finetuning_of(variant)

    chosen = functools.cache(choose)
    with of_job(name or variant.algorithm):
        external = external_set(
            samples,
            balanced,
            pair=chosen().pair if groups > 2 else None,
            fraction=variant.external_fraction,
            finetuning=finetuning,
            seed=set_seed,
            info=lambda text: print(text, file=log),
            patients=patients,
        )
    if not keeps_extractor(variant.algorithm, settings):
        refuse_without_gradient(classifier.extractor, few(external.full))

    measure = functools.partial(
        shared_importance,
        classifier,
        external,
        finetuning,
        training.pretraining.batch_size,
        set_seed,
        read_importances(variant.algorithm, settings),
    )
    # a part of the external set needs its own
    importance = _Importance(
        stored if stored is not None and variant.external_fraction == 1 else measure
    )
    context = Context(
        seed=seed,
        epochs=training.epochs(variant),
        batch_size=training.pretraining.batch_size,
        optimizer=training.pretraining.optimizer,
        finetuning=finetuning,
        augmentation=training.augmentation,
        compute=training.compute,
        importance=importance,
        measure=measure,
        selection=training.selection,
        unprivileged=lambda: chosen().unprivileged,
        checkpoints=Checkpoints(None) if checkpoints is None else checkpoints,
        log=log,
        name=name,
    )
    context.decide_precision(external.full)
    cost = Cost(classifier, classifier.device)
    if first is not None:
        _, settings = first_half(variant.algorithm, settings)
        classifier.load_state_dict(first.state)
        context.history.extend(first.history)
    with of_job(name or variant.algorithm):
        debiased = method.debias(classifier, external, settings, context)
        _refuse_other_network(debiased, cost.before, variant.algorithm)
        refuse_not_finite(debiased.state_dict(), variant.algorithm)
    spent = cost.measure(debiased, samples.seen[0], context.compute.precision)
    return Outcome(
        debiased,
        context.history,
        spent if first is None else _together(first.cost, spent),
        context.masks,
        importance.found,
        context.rule and context.rule.of_groups(chosen().pair if groups > 2 else None),
    )


def _refuse_other_network(returned: object, weights: Collection[str], algorithm: str) -> None:
    """Refuse what a method's `debias` returned where it is not the classifier of these weights."""
    from ..learning.networks import Classifier

    if not isinstance(returned, Classifier):
        kind = type(returned).__name__
        raise UserError(f"{algorithm}: debias must return the classifier, not {kind}")
    more = [name for name, _ in returned.named_parameters() if name not in weights]
    if more:
        raise UserError(
            f"{algorithm}: debias must return the classifier with the weights that it has; "
            f"{more[0]!r} is none of them"
        )


class _Importance:
    """Gives the importances when a method asks: those measured before, else measured then."""

    def __init__(self, get: Callable[[], Mapping[str, dict[str, Tensor]]]) -> None:
        self._get = get
        self.found: Mapping[str, dict[str, Tensor]] = {}  # what it gave last

    def __call__(self) -> Mapping[str, dict[str, Tensor]]:
        self.found = self._get()
        return self.found


def read_external(
    path: Path,
    images: CachedImages,
    device: torch.device,
    resident: str,
    normalization: Normalization,
    classes: int = 2,
) -> tuple[Samples, np.ndarray]:
    """The samples of an external set file, and which of them are balanced."""
    rows = read_parquet(path)
    samples = external_samples(rows, images, device, resident, normalization, classes)
    return samples, rows.balanced.to_numpy()


def external_samples(
    rows: pd.DataFrame,
    images: CachedImages,
    device: torch.device,
    resident: str,
    normalization: Normalization,
    classes: int = 2,
) -> Samples:
    """The samples of rows of external sets: dataset, image_id, label, attribute."""
    from ..learning.samples import make_samples

    return make_samples(
        images,
        images.rows(rows.dataset.tolist(), rows.image_id.tolist()),
        rows.label.to_numpy(),
        rows.attribute.to_numpy(),
        device,
        resident,
        normalization,
        classes,
    )


def _together(first: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """What two halves cost; `rest` counts the changes since before the first."""
    of_first, of_rest = first.get("precision", "fp32"), rest["precision"]
    return {
        **rest,
        "precision": of_rest if of_first == of_rest else f"{of_first} then {of_rest}",
        "seconds": round(first["seconds"] + rest["seconds"], 3),
        "peak_memory_mb": max(first["peak_memory_mb"], rest["peak_memory_mb"]),
        "images_seen": first["images_seen"] + rest["images_seen"],
    }


def external_set(
    samples: Samples,
    balanced: np.ndarray,
    *,
    pair: tuple[int, int] | None,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    info: Callable[[str], None],
    patients: np.ndarray | None = None,
) -> ExternalSet:
    """Keep the pair of groups, thin the set, and split off its balanced part.

    Args:
        samples: all external samples, attributes 0, 1, ...
        balanced: bool (n,), as rule `make_external` wrote it.
        pair: the two groups to compare, of more than two (`Choice.pair`).
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell`.
        seed: for the draws (`seeds.external_seed`).
        info: where to report what was chosen.
        patients: (n,), whose image each is; None: not known.
    """
    from ..learning.samples import ExternalSet

    labels, indices = (
        values.cpu().numpy().astype(np.int64) for values in (samples.labels, samples.attributes)
    )
    chosen = choose_rows(
        labels, indices, balanced, pair, fraction, finetuning, seed, samples.classes
    )
    info(chosen.note)
    if pair is not None:
        recoded = samples.attributes.clone()
        recoded[chosen.rows] = recoded.new_tensor(chosen.groups)
        samples = samples.with_attributes(recoded)
    full = samples.subset(chosen.rows) if len(chosen.rows) < len(samples) else samples
    kept = None if patients is None else patients[chosen.rows]
    return ExternalSet(full=full, balanced=full.subset(chosen.balanced), patients=kept)
