"""LLFT: last-layer fairness fine-tuning (Mao et al. 2023).

A new linear head is trained on the frozen extractor's features, on equally many samples of each
label and group, with a constraint on the groups' error rates. It is full-batch gradient descent on
precomputed features, so a thousand steps take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ..config.base import Count, Model, NotNegative, Positive
from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Features, Samples

CLASS = "LLFT"
IMPORTANCES: tuple[str, ...] = ()
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # [code]
REPORT_EVERY = 100  # steps


class Settings(Model):
    """Length and strength of the last layer's training."""

    ignores: ClassVar = ("epochs_percent", "batches")  # `steps` is its length

    steps: Count = Field(1000, description="Full-batch steps [code].")
    lr: Positive = Field(1e-2, description="SGD, momentum 0.9, weight decay 5e-4 [code].")
    alpha: NotNegative = Field(2.0, description="Weight of the fairness constraint [code].")


def keeps_extractor(settings: Settings) -> bool:
    """A new head is all that it trains."""
    return True


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Replace the head; the extractor, its BatchNorm statistics included, stays as it is.

    Raises:
        UserError: the external set has no sample of some label and group.
    """
    import torch
    from torch import nn

    from ..learning.context import set_trainable
    from ..learning.inference import extract_features
    from ..seeds import derive_seed

    full = external.full
    samples = full.subset(draw_cells(full, derive_seed(context.seed, "draw")))
    set_trainable(classifier, extractor=False, head=False)
    features = extract_features(classifier, samples)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(context.seed, "head"))
        old = classifier.head.linear
        head = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
    # the head's dropout has no part in it: full-batch descent on fixed features is deterministic
    classifier.head[1] = head.to(classifier.device)
    _train(classifier.head.linear, features, settings, context)
    return classifier


def draw_cells(samples: Samples, seed: int, method: str = "llft") -> Tensor:
    """Positions of an equal number of samples of each (label, group), without replacement.

    `method`: who asks, for the message.

    Returns:
        int64, ascending; of every cell as many as the smallest has.
    """
    import torch

    labels, attributes = samples.labels.cpu(), samples.attributes.cpu()
    cells = {
        (label, group): torch.nonzero((labels == label) & (attributes == group)).squeeze(1)
        for label in range(samples.classes)
        for group in (0, 1)
    }
    for (label, group), cell in cells.items():
        if not len(cell):
            raise UserError(
                f"{method}: the external set has no sample of label {label}, group {group}"
            )
    size = min(len(cell) for cell in cells.values())
    generator = torch.Generator().manual_seed(seed)
    drawn = [cell[torch.randperm(len(cell), generator=generator)[:size]] for cell in cells.values()]
    return torch.cat(drawn).sort().values


def error_gaps(logits: Tensor, labels: Tensor, attributes: Tensor) -> Tensor:
    """The constraint R: |gap in mean p (1 - y)| + |gap in mean (1 - p) y|, a scalar.

    The means are over the whole group [code], not over its negatives or positives: in drawn cells
    of equal size they are half of the groups' soft false positive and false negative rates. Of C
    classes, logits (n, C), the mean over classes of R of each against the rest.
    """
    import torch

    from ..learning import objectives

    if logits.dim() == 2:
        return objectives.over_classes(lambda z, y: error_gaps(z, y, attributes), logits, labels)
    p = torch.sigmoid(logits)
    errors = torch.stack([p * (1 - labels), (1 - p) * labels])
    means = [errors[:, attributes == group].mean(dim=1) for group in (0, 1)]
    return (means[0] - means[1]).abs().sum()


def _train(linear: nn.Linear, features: Features, settings: Settings, context: Context) -> None:
    """Full-batch SGD on cross-entropy + alpha R; a row every hundred steps.

    Class weights are equal in equal cells; scaled to mean 1, weighted cross-entropy is the plain
    one.
    """
    import torch

    from ..learning import objectives
    from ..learning.finite import Watch
    from ..learning.inference import auc

    inputs, labels, attributes = features.values[0], features.labels, features.attributes
    linear.requires_grad_(True)
    optimizer = torch.optim.SGD(
        linear.parameters(), lr=settings.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    watched = Watch("llft", linear, optimizer)
    for step in range(1, settings.steps + 1):
        logits = linear(inputs).squeeze(-1) if features.classes == 2 else linear(inputs)
        prediction = objectives.prediction_loss(logits, labels, (1.0,) * features.classes)
        constraint = error_gaps(logits, labels, attributes)
        loss = prediction + settings.alpha * constraint
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        watched.step(loss)
        if step % REPORT_EVERY == 0 or step == settings.steps:
            watched.check()
            row = {
                "stage": "llft",
                "step": step,
                "loss": loss.item(),
                "prediction_loss": prediction.item(),
                "bias": constraint.item(),
                "auc": auc(logits.detach(), labels),
            }
            context.history.append(row)
            context.info(
                f"llft  step {step}/{settings.steps}  loss {row['loss']:.4f}  "
                f"prediction {row['prediction_loss']:.4f}  bias {row['bias']:.4f}  "
                f"auc {row['auc']:.3f}"
            )
