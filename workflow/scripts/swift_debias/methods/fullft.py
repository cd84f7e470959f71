"""Full fine-tuning of all weights, in the paper's three forms.

FullFT-RW (Zhang et al. 2022): balanced set, prediction loss only.
FullFT-Reg (Cherepanova et al. 2021): un-balanced set, prediction loss and fairness constraint.
FullFT-FDR (Le et al. 2023): balanced set, prediction loss and fairness constraint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..config.base import Flag, Model, Share

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "FullFT"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Model):
    """Which set, and lambda of Eq. 10."""

    balanced: Flag = Field(True, description="Train on the group-balanced part [paper].")
    prediction_weight: Share = Field(
        0.5,
        description="lambda of Eq. 10; 1 = prediction loss only. Published nowhere [ours: 0.5].",
    )
    epochs_of: Literal["step", "both"] = Field(
        "step",
        description="step: as many as one step of SWiFT; both: as many as its two steps together, "
        "which is equal cost [code: 20 against 10 + 10].",
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Fine-tune everything for E epochs; extractor and head have their own learning rates."""
    from ..learning.context import set_trainable
    from ..learning.loop import fit

    samples = external.balanced if settings.balanced else external.full
    weight = settings.prediction_weight
    set_trainable(classifier, extractor=True, head=True)
    optimizer = context.make_optimizer(
        [
            {"params": classifier.extractor.parameters(), "lr": context.finetuning.lr_extractor},
            {"params": classifier.head.parameters(), "lr": context.finetuning.lr_head},
        ]
    )
    objective = context.objective(samples, prediction=weight, bias=1 - weight)
    epochs = context.epochs * (2 if settings.epochs_of == "both" else 1)
    with context.moving_batchnorm(classifier):
        fit(classifier, samples, objective, optimizer, context, "fullft", epochs=epochs)
    return classifier
