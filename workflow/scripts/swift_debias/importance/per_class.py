"""Per-sample importances of more than two classes: coefficients (K, N, C) of every logit.

The gradient of a sample's own loss is sum_k c_ik g_ik over its C logits, which is squared after the
sum, so the signs of the coefficients matter, other than those of one logit. The sign of a class's
gap depends on the scores of the whole set. So these are known before the pass: the coefficients are
the derivatives of each objective of the whole set by each logit, as automatic differentiation gives
them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config.schema import EoddsKind
from ..errors import UserError
from ..learning import objectives
from ..learning.objectives import ClassWeights
from .names import OBJECTIVES

if TYPE_CHECKING:
    from ..learning.samples import Batch


class PerClass:
    """`estimators.PerSample` of logits (N, C): the same objectives, subsets and scales.

    Attributes:
        names: of the objectives. scaled: (K, N, C), n c_i over the root of n for each of them, n
            being the rows that the objective uses.
    """

    def __init__(
        self,
        logits: Tensor,
        labels: Tensor,
        attributes: Tensor,
        weights: ClassWeights | None = None,
        subsets: Mapping[str, Tensor] | None = None,
        wanted: Collection[str] | None = None,
        eodds: EoddsKind = "mean_abs",
    ) -> None:
        """Differentiate every objective.

        Args:
            logits: (N, C), of the whole set in the order of its batches.
            labels, attributes, weights, subsets, wanted: as of `estimators.PerSample`.
            eodds: fairness proxy; here its kinds differ.

        Raises:
            UserError: an objective has no rows.
        """
        every = {"": torch.ones_like(labels, dtype=torch.bool)}
        rows = every if subsets is None else {f"{name}.": some for name, some in subsets.items()}
        found = {
            prefix + objective: (objective, some)
            for prefix, some in rows.items()
            for objective in OBJECTIVES
            if wanted is None or prefix + objective in wanted
        }
        self.names = list(found)
        parts = []
        for objective, some in found.values():
            counted = weights
            if counted is None:
                counted = objectives.class_weights(labels[some], logits.shape[1])
            parts.append(_scaled(objective, logits, labels, attributes, some, counted, eodds))
        self.scaled = torch.stack(parts) if parts else logits.new_empty(0, *logits.shape)

    def coefficients(self, _logits: Tensor, _batch: Batch, at: slice) -> Tensor:
        """Those of a batch, (K, B, C)."""
        return self.scaled[:, at]


def _scaled(
    objective: str,
    logits: Tensor,
    labels: Tensor,
    attributes: Tensor,
    rows: Tensor,
    weights: ClassWeights,
    eodds: EoddsKind,
) -> Tensor:
    """d L / d z times the root of n, (N, C); 0 outside of the rows."""
    groups = [rows & (attributes == group) for group in (0, 1)]
    for group, members in enumerate(groups):
        if not members.any():
            raise UserError(f"importance: no sample of attribute group {group}")
    used = {"prediction": rows, "bias": groups[0] | groups[1]} | {
        f"group{group}": members for group, members in enumerate(groups)
    }
    some = used[objective]
    with torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        if objective == "bias":
            loss = objectives.eodds_gap(leaf[some], labels[some], attributes[some], eodds)
        else:
            loss = objectives.prediction_loss(leaf[some], labels[some], weights)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient * math.sqrt(int(some.sum()))
