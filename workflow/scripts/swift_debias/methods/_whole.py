"""Fine-tuning of all weights: what FullFT shares with the methods that only weigh samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..config.base import Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..learning.context import Context, Objective
    from ..learning.networks import Classifier
    from ..learning.samples import Samples


class Length(Model):
    """How long a method of one step trains."""

    epochs_of: Literal["step", "both"] = Field(
        "step",
        description="step: as many as one step of SWiFT; both: as many as its two steps together, "
        "which is equal cost [code: 20 against 10 + 10].",
    )


def length(settings: Length, context: Context) -> int:
    """Epochs of a method of one step."""
    return context.epochs * (2 if settings.epochs_of == "both" else 1)


def train_whole(
    classifier: Classifier,
    samples: Samples,
    objective: Objective,
    context: Context,
    stage: str,
    epochs: int,
    *,
    weights: Tensor | None = None,
    watch: Callable[[], dict[str, float]] | None = None,
    resume: Callable[[list[dict[str, Any]]], None] | None = None,
) -> None:
    """Train all weights, in place; extractor and head have their own learning rates.

    Args: as of `learning.loop.fit`.
    """
    from ..learning.context import set_trainable
    from ..learning.loop import fit

    set_trainable(classifier, extractor=True, head=True)
    optimizer = both_optimizer(classifier, classifier.extractor.parameters(), context)
    with context.moving_batchnorm(classifier):
        fit(
            classifier,
            samples,
            objective,
            optimizer,
            context,
            stage,
            epochs=epochs,
            watch=watch,
            weights=weights,
            resume=resume,
        )


def both_optimizer(
    classifier: Classifier, of_extractor: Iterable[nn.Parameter], context: Context
) -> torch.optim.Optimizer:
    """The task's optimizer on weights of the extractor and on the whole head, each at its rate."""
    return context.make_optimizer(
        [
            {"params": list(of_extractor), "lr": context.finetuning.lr_extractor},
            {"params": list(classifier.head.parameters()), "lr": context.finetuning.lr_head},
        ]
    )
