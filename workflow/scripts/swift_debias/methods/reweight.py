"""Reweight: each label of each group weighs alike, and nothing else is asked for.

The plainest control (Idrissi et al., CLeaR 2022: "RWG"): no fairness term, only a set in which
group and label say nothing of each other. FullFT-RW gets there by leaving images out; this keeps
all of them, and the rare ones weigh more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ._whole import Length, length, train_whole

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "Reweight"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Length):
    """Its length; whether the loss or the batches are balanced is the shared key `batches`."""

    grid: ClassVar = {"lr_factor": (0.3, 1, 3), "batches": ("shuffled", "cells")}


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Fine-tune everything on the un-balanced set with L_pred in which cells weigh alike.

    `batches: shuffled`: each image weighs 1 / (size of its cell), in the place of Eq. 1's class
    weights; `cells`: batches have equally many of each cell. Both minimize the same on average; the
    second with less noise in the rare cells' gradients, the first with each image once an epoch.

    Raises:
        UserError: the external set has no sample of some label and group.
    """
    from ..learning import batches
    from ..learning.context import Combined

    samples, weights = external.full, None
    objective = context.objective(samples, prediction=1, bias=0)
    if context.finetuning.batches == "shuffled":
        weights = batches.cell_weights(samples)
        objective = Combined(1, 0, (1.0,) * samples.classes, context.finetuning.eodds)
    epochs = length(settings, context)
    train_whole(classifier, samples, objective, context, "reweight", epochs, weights=weights)
    return classifier
