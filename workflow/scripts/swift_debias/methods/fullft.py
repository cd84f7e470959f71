"""Full fine-tuning of all weights, in the paper's three forms.

FullFT-RW (Zhang et al. 2022): balanced set, prediction loss only.
FullFT-Reg (Cherepanova et al. 2021): un-balanced set, prediction loss and fairness constraint.
FullFT-FDR (Le et al. 2023): balanced set, prediction loss and fairness constraint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..config.base import Flag, Share
from ._whole import Length, length, train_whole

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "FullFT"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Length):
    """Which set, and lambda of Eq. 10."""

    balanced: Flag = Field(True, description="Train on the group-balanced part [paper].")
    prediction_weight: Share = Field(
        0.5,
        description="lambda of Eq. 10; 1 = prediction loss only. Published nowhere [ours: 0.5].",
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Fine-tune everything for E epochs; extractor and head have their own learning rates."""
    samples = external.balanced if settings.balanced else external.full
    weight = settings.prediction_weight
    objective = context.objective(samples, prediction=weight, bias=1 - weight)
    train_whole(classifier, samples, objective, context, "fullft", length(settings, context))
    return classifier
