"""BMFT: bias-based weight masking fine-tuning (Xue et al., MICCAI FAIMI 2024), SWiFT's predecessor.

Step 1 fine-tunes on the bias alone the half of the extractor's weights whose ratio of bias to
prediction importance is highest. Step 2 sets the whole head to zero and trains it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..config.base import Model, NotNegative, Number

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "BMFT"
IMPORTANCES: tuple[str, ...] = ("minibatch.full.prediction", "minibatch.full.bias")


class Settings(Model):
    """Mask and weights of BMFT."""

    rate: Number = Field(
        0.5, gt=0, lt=1, description="Share of the extractor's weights that is fine-tuned [code]."
    )
    bias_weight: NotNegative = Field(
        0.1, description="Weight of the bias beside the prediction loss in step 2 [code]."
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Step 1 on the un-balanced set, step 2 on the balanced one, E epochs each.

    The original trains 10 epochs a step; here E, like SWiFT, so the comparison is at equal cost.
    """
    from ..importance import masks
    from ..learning import masked_optimizer
    from ..learning.context import set_trainable
    from ..learning.inference import extract_features
    from ..learning.loop import drawn_views, fit

    importance, finetuning = context.importance(), context.finetuning
    names = [f"extractor.{name}" for name, _ in classifier.extractor.named_parameters()]
    bias, prediction = (
        {name: importance[f"minibatch.full.{kind}"][name] for name in names}
        for kind in ("bias", "prediction")
    )
    mask = context.masks = masks.hard_mask(bias, prediction, 100 * (1 - settings.rate))

    set_trainable(classifier, extractor=True, head=False)
    optimizer = masked_optimizer.MaskedOptimizer(
        context.make_optimizer(classifier.extractor.parameters(), finetuning.lr_extractor),
        dict(classifier.named_parameters()),
        mask,
    )
    objective = context.objective(external.full, prediction=0, bias=1)
    with context.moving_batchnorm(classifier, mask):
        fit(classifier, external.full, objective, optimizer, context, "step1")

    samples = external.balanced
    head = dict(classifier.head.named_parameters())
    masks.reinitialize(head, {}, "full")
    drawn = drawn_views(samples, context, "step2")
    features = extract_features(classifier, samples, drawn, context.compute)
    set_trainable(classifier, extractor=False, head=True)
    objective = context.objective(samples, prediction=1, bias=settings.bias_weight)
    head_optimizer = context.make_optimizer(classifier.head.parameters(), finetuning.lr_head)
    fit(classifier.head, features, objective, head_optimizer, context, "step2")
    return classifier
