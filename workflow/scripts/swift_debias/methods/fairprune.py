"""FairPrune: pruning by the difference of the groups' saliencies (Wu et al., MICCAI 2022).

What a weight is worth to a group is the loss that setting it to zero would cost that group, to
second order: 1/2 h theta^2, with h the diagonal Fisher of the prediction loss on the group. The
weights that the privileged group needs more than the unprivileged one are set to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ..config.base import Count, Flag, Model, Number, Share
from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..importance.store import Importance
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "FairPrune"
IMPORTANCES: tuple[str, ...] = ("per_sample.full.group0", "per_sample.full.group1")


class Settings(Model):
    """How much is pruned, and in favour of whom."""

    ignores: ClassVar = ("epochs_percent", "batches")  # nothing is trained

    ratio: Number = Field(
        0.35, gt=0, lt=1, description="Share of the weights set to zero [FairPrune]."
    )
    beta: Share = Field(0.33, description="Weight of the privileged saliency [FairPrune].")
    iterations: Count = Field(
        1,
        description="The ratio is pruned in this many equal parts, with the importances computed "
        "anew in between [ours: 1, so that the shared importances serve].",
    )
    prune_all: Flag = Field(
        False,
        description="Prune biases and normalization parameters too; a zero scale silences a whole "
        "channel [ours].",
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Set the lowest-ranked weights to zero; nothing is trained.

    Raises:
        UserError: a group lacks one of the labels, so the groups' AUCs cannot be compared.
    """
    from ..learning.context import set_trainable

    set_trainable(classifier, extractor=False, head=False)
    unprivileged = context.unprivileged()
    if unprivileged is None:
        raise UserError("fairprune: a group of the external set has only one label, so no AUC")
    context.info(f"fairprune  group {unprivileged} is the unprivileged one")
    parameters = {
        name: parameter
        for name, parameter in classifier.named_parameters()
        if settings.prune_all or parameter.dim() > 1  # all vectors are biases or normalization
    }
    alive = sum(int((parameter != 0).sum()) for parameter in parameters.values())
    pruned = 0
    for iteration in range(1, settings.iterations + 1):
        groups = _group_importance(classifier, external.full, context, shared=iteration == 1)
        target = round(settings.ratio * alive * iteration / settings.iterations)
        h_unprivileged, h_privileged = groups[unprivileged], groups[1 - unprivileged]
        prune_lowest(parameters, h_unprivileged, h_privileged, settings.beta, target - pruned)
        pruned = target
        context.history.append({"stage": "fairprune", "step": iteration, "pruned": pruned})
        context.info(f"fairprune  iteration {iteration}: {pruned} of {alive} weights are zero")
    return classifier


def prune_lowest(
    parameters: dict[str, nn.Parameter],
    unprivileged: dict[str, Tensor],
    privileged: dict[str, Tensor],
    beta: float,
    count: int,
) -> None:
    """Set the `count` non-zero weights of the lowest score to zero, ranked over all tensors.

    The score is 1/2 theta^2 (h_unprivileged - beta h_privileged). Of equal scores the first goes.

    Args:
        parameters: name -> parameter, changed in place.
        unprivileged: name -> diagonal Fisher of L_pred on that group. privileged: likewise.
        beta: weight of the privileged group.
        count: at most the number of non-zero weights.
    """
    import torch

    with torch.no_grad():
        weights = torch.cat([parameter.flatten() for parameter in parameters.values()])
        h_0, h_1 = (
            torch.cat([h[name].flatten() for name in parameters]).to(weights)
            for h in (unprivileged, privileged)
        )
        score = weights.square() / 2 * (h_0 - beta * h_1)
        score[weights == 0] = torch.inf  # already zero: not in the ranking
        weights[score.sort(stable=True).indices[:count]] = 0
        pieces = weights.split([parameter.numel() for parameter in parameters.values()])
        for parameter, piece in zip(parameters.values(), pieces, strict=True):
            parameter.copy_(piece.view(parameter.shape))


def _group_importance(
    classifier: Classifier, samples: Samples, context: Context, shared: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Diagonal Fisher of L_pred on group 0 and on group 1, of the classifier as it is now."""
    if shared:
        importance = context.importance()
        return importance["per_sample.full.group0"], importance["per_sample.full.group1"]
    from ..importance import estimators

    now: Importance = estimators.per_sample(classifier, lambda: samples.batches(context.batch_size))
    return now["group0"], now["group1"]
