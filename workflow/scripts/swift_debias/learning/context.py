"""What a training is handed besides network and samples: settings, objectives, optimizer, log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import torch
from torch import Tensor, nn

from ..config.schema import Augmentation, Compute, EoddsKind, Finetuning, Optimizer, Selection
from ..errors import setting
from . import batches, batchnorm, objectives, precision
from .checkpoints import Checkpoints, History
from .networks import Classifier
from .samples import Drawable, Samples

if TYPE_CHECKING:
    from ..evaluation.decision_rule import Rule

# (logits, labels, attributes) -> (what is minimized, prediction loss, bias); where samples have
# weights of their own, these are the fourth argument
Objective: TypeAlias = Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Combined:
    """Weighted sum of prediction loss (Eq. 1) and fairness proxy (Eq. 2); Eq. 10 is (l, 1 - l).

    class_weights: (positive, negative) of Eq. 1, or None to count each batch; of more classes see
        `objectives.class_weights`.
    """

    prediction: float
    bias: float
    class_weights: objectives.ClassWeights | None
    eodds: EoddsKind

    def __call__(
        self, logits: Tensor, labels: Tensor, attributes: Tensor, each: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, prediction loss and bias; a part that has no weight is only watched.

        `each`: what a sample weighs in the prediction loss besides its class, (B,).
        """
        with contextlib.nullcontext() if self.prediction else torch.no_grad():
            prediction = objectives.prediction_loss(logits, labels, self.class_weights, each)
        with contextlib.nullcontext() if self.bias else torch.no_grad():
            bias = objectives.eodds_gap(logits, labels, attributes, self.eodds)
        return self.prediction * prediction + self.bias * bias, prediction, bias


@dataclass
class Context:
    """Everything a method may use besides the classifier, the external set and its settings.

    Attributes:
        seed: derived from (seed, task, backbone, attribute, fold, repeat), so that all methods meet
            the same draws and their differences are paired; methods derive theirs from it.
        epochs: E, epochs of each fine-tuning step.
        batch_size: images a batch, as in pre-training.
        optimizer: the task's optimizer; its learning rate is replaced step by step.
        importance: () -> the shared diagonal importances, objective (a method's `IMPORTANCES`) ->
            parameter name -> tensor.
        measure: () -> the same of the classifier as it is now.
        selection: how much a method holds out that chooses something itself, and by which rule.
        masks: a method's masks, for whoever asks afterwards: parameter (or pruned layer) -> mask.
        rule: how a method decides, where it is not by a threshold of the scores; groups 0 and 1.
        name: of the job, on the progress bar.
        unprivileged: () -> the group with the lower AUC, 0 or 1; None: a group has one class only.
    """

    seed: int
    epochs: int
    batch_size: int
    optimizer: Optimizer
    finetuning: Finetuning
    augmentation: Augmentation
    compute: Compute
    importance: Callable[[], Mapping[str, dict[str, Tensor]]] = dict
    measure: Callable[[], Mapping[str, dict[str, Tensor]]] = dict
    selection: Selection = field(default_factory=Selection)
    checkpoints: Checkpoints = field(default_factory=lambda: Checkpoints(None))
    log: TextIO = field(default_factory=lambda: sys.stderr)
    history: History = field(default_factory=list)
    masks: dict[str, Tensor] = field(default_factory=dict)
    rule: Rule | None = None
    name: str = ""
    unprivileged: Callable[[], int | None] = lambda: None

    def make_optimizer(
        self, parameters: Iterable[nn.Parameter] | list[dict[str, Any]], lr: float | None = None
    ) -> torch.optim.Optimizer:
        """The task's optimizer on these parameters, at this learning rate.

        `parameters` may be torch's parameter groups with a learning rate each.
        """
        return make_optimizer(self.optimizer, parameters, lr)

    def decide_precision(self, samples: Samples) -> None:
        """Settle what precision "auto" means for a job on these images; see precision.py.

        A checkpoint of another precision, left by another kind of machine, is not carried on.
        """
        self.compute = precision.decide(self.compute, samples.device, samples.side)
        self.checkpoints.precision = self.compute.precision
        key = setting("compute.precision")
        self.info(f"trains in {self.compute.precision} on {samples.device} ({key})")

    def objective(self, samples: Drawable, prediction: float, bias: float) -> Combined:
        """`prediction` x Eq. 1 + `bias` x Eq. 2, with the class weights of these samples."""
        dataset = self.finetuning.class_weights == "dataset"
        weights = objectives.class_weights(samples.labels, samples.classes) if dataset else None
        if dataset and self.finetuning.batches == "cells":
            weights = (batches.weight(samples),) * samples.classes
        return Combined(prediction, bias, weights, self.finetuning.eodds)

    def moving_batchnorm(
        self, classifier: Classifier, masks: Mapping[str, Tensor] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """While its extractor is trained: BatchNorm's statistics do as `finetuning.batchnorm` says.

        `masks`: parameter name -> mask, where the training has any.
        """
        return batchnorm.moving(classifier, self.finetuning.batchnorm, masks)

    def info(self, text: str) -> None:
        """A line in the job's log."""
        print(text, file=self.log, flush=True)


def make_optimizer(
    settings: Optimizer,
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    lr: float | None = None,
) -> torch.optim.Optimizer:
    """SGD or Adam with L2 weight decay, as the paper pre-trains (Section 4.2).

    `lr` defaults to the settings' learning rate. Fused: a pass over the weights instead of several.
    """
    lr, decay = settings.lr if lr is None else lr, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=settings.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)


def set_trainable(classifier: Classifier, *, extractor: bool, head: bool) -> None:
    """Choose what is trained. A frozen part is in eval mode too.

    A frozen network in train mode would still move its BatchNorm statistics and drop features.
    """
    for part, on in ((classifier.extractor, extractor), (classifier.head, head)):
        part.requires_grad_(on)
        part.train(on)
