"""BN recalibration: BatchNorm's statistics anew from the external set, and nothing else.

A control [ours]. Fine-tuning in train mode adapts the statistics on the way; this row shows how
much of a method's gain is that adaptation, which needs no method (Li et al. 2017, AdaBN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..config.base import Model
from ..errors import UserError

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "BNRecalibrate"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Model):
    """It has none."""

    ignores: ClassVar = ("batches",)  # one pass over the set as it is


def keeps_extractor(settings: Settings) -> bool:
    """It sets statistics, and no weight."""
    return True


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Reset the statistics; one pass over the balanced external set makes their mean over batches.

    Raises:
        UserError: the network has no BatchNorm.
    """
    import torch

    from ..learning import batchnorm
    from ..seeds import derive_seed

    layers = list(batchnorm.layers(classifier).values())
    if not layers:
        raise UserError(
            "bn_recalibrate: the network has no BatchNorm whose statistics it could set"
        )
    momenta = [layer.momentum for layer in layers]
    samples = external.balanced
    classifier.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average over batches
        layer.train()
    # in random order: the rows are sorted by data set
    generator = torch.Generator().manual_seed(derive_seed(context.seed, "bn_recalibrate"))
    shuffled = samples.subset(torch.randperm(len(samples), generator=generator))
    with torch.no_grad():
        for batch in shuffled.batches(context.batch_size):
            if len(batch.images) > 1:  # one image has no variance
                classifier(batch.images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    classifier.eval()
    context.history.append({"stage": "bn_recalibrate", "step": 1, "layers": len(layers)})
    context.info(f"bn_recalibrate  {len(layers)} layers on {len(samples)} images")
    return classifier
