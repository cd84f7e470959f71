"""JTT: just train twice (Liu et al., ICML 2021), which needs no groups.

What a first model gets wrong is where its shortcut fails. A second one is trained with these images
weighing more. Groups take no part, so it is what can be done where they are not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..config.base import Number
from ._whole import Length, length, train_whole

if TYPE_CHECKING:
    from torch import Tensor

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "JTT"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Length):
    """Whose errors count, and how much."""

    only_with: ClassVar = {"epochs_of": {"first": ("baseline",)}}
    grid: ClassVar = {"upweight": (2, 6, 20), "lr_factor": (1, 3)}

    first: Literal["baseline", "erm"] = Field(
        "baseline",
        description="Whose errors are the error set. baseline: the Baseline's, which has learned "
        "the shortcut and has not seen these images [ours]; erm: those of a copy of it that is "
        "first fine-tuned on them for E epochs, as published; together E + E, as SWiFT.",
    )
    upweight: Number = Field(
        2.0,
        ge=1,
        le=1e6,
        description="What an image of the error set weighs; the others weigh 1. A Baseline is "
        "wrong on many images it has not seen, so the default counts them twice [ours]; the "
        "released commands add 4 to 100 copies of them [code].",
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Find the errors on the un-balanced set, and fine-tune everything from the Baseline's weights.

    The loss is Eq. 1 with each image's weight, which are divided by their mean, so that the
    learning rate keeps its meaning; plain cross-entropy, as published, would move the threshold of
    a classifier that was trained with class weights [ours]. `batches: cells` brings groups in.
    """
    import copy

    samples = external.full
    objective = context.objective(samples, prediction=1, bias=0)
    first = classifier
    if settings.first == "erm":
        first = copy.deepcopy(classifier)
        train_whole(first, samples, objective, context, "jtt_first", context.epochs)
    wrong = errors(first, samples)
    context.info(f"jtt: the first model is wrong on {int(wrong.sum())} of {len(samples)} images")
    weights = 1 + (settings.upweight - 1) * wrong.to(samples.labels)
    epochs = length(settings, context) if settings.first == "baseline" else context.epochs
    train_whole(
        classifier, samples, objective, context, "jtt", epochs, weights=weights / weights.mean()
    )
    return classifier


def errors(classifier: Classifier, samples: Samples) -> Tensor:
    """Which samples a classifier decides wrongly at a score of 0.5; of C classes by the largest."""
    from ..learning.inference import predict

    logits = predict(classifier, samples)
    decided = (logits >= 0).long() if logits.dim() == 1 else logits.argmax(dim=1)
    return decided != samples.labels.long()
