"""Diagonal parameter importance (empirical Fisher), Eq. 5 to 8 of Yan et al., MELBA 2025.

Two estimators of one idea; they are different quantities, and both are offered:

`Minibatch`: mean over mini-batches of the squared gradient of each objective. It is what the
released code does, and the only one that keeps the bias objective a *difference* between groups.

`PerSample`: mean over samples of the squared gradient.

With g_i = d z_i / d theta, the gradient of sample i's logit, and c_ki the derivative of objective k
with respect to z_i, the first is the mean of (sum_i c_ki g_i)^2 over batches, the second sums
c_ki^2 g_i^2. So one forward pass and one backward pass from the logits serve every objective of
both estimators (prediction, bias, each group); see layers.py for how.

Everything runs in eval mode, without augmentation, in the precision of the weights (fp32). The
logit of a sample may not depend on the other samples of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config.schema import EoddsKind
from ..errors import UserError
from ..learning import losses, objectives
from ..learning.inference import inference
from ..learning.objectives import ClassWeights
from .layers import Batches, iterate_batches, squared_gradients
from .names import OBJECTIVES, OF_ESTIMATOR
from .per_class import PerClass
from .store import Importance

if TYPE_CHECKING:
    from ..learning.samples import Batch


@dataclass(frozen=True)
class Minibatch:
    """Mean over mini-batches of the squared gradients of L_pred (Eq. 7) and L_bias (Eq. 8).

    A batch whose rows leave no term of the proxy counts with gradient 0, so the batches should be
    shuffled. Objectives: "prediction" and "bias".

    Attributes:
        eodds: fairness proxy (`losses.eodds_gap`).
        weights: class weights of Eq. 1; None counts each batch.
    """

    eodds: EoddsKind = "mean_abs"
    weights: ClassWeights | None = None

    def coefficients(self, logits: Tensor, batch: Batch, _at: slice) -> Tensor:
        """d L_k / d z_i of a batch, (2, B); of logits (B, C): (2, B, C)."""
        leaf = logits.detach().requires_grad_()
        prediction = objectives.prediction_loss(leaf, batch.labels, self.weights)
        bias = objectives.eodds_gap(leaf, batch.labels, batch.attributes, self.eodds)
        return torch.stack([torch.autograd.grad(loss, leaf)[0] for loss in (prediction, bias)])


class PerSample:
    """Mean over samples of the squared per-sample gradients of many objectives.

    An objective is a mean over the n rows that it uses, so the gradient of a row's own loss is n
    c_i g_i, and the diagonal is 1/n sum_i (n c_i)^2 g_i^2. "prediction" uses all rows, "group0" and
    "group1" are L_pred over the rows of one group (FairPrune), "bias" uses the rows whose attribute
    is known. For the bias there is no `eodds` to choose: the kinds differ in the sign of c_i only.
    """

    def __init__(
        self,
        labels: Tensor,
        attributes: Tensor,
        weights: ClassWeights | None = None,
        subsets: Mapping[str, Tensor] | None = None,
        wanted: Collection[str] | None = None,
    ) -> None:
        """Count the rows of the whole set, on which an objective's coefficients depend.

        Args:
            labels, attributes: (N,), of all batches in their order.
            weights: class weights of Eq. 1; None counts the set, and of each subset the subset.
            subsets: name -> bool (N,). Every objective is computed on each of these subsets of the
                rows; its name is then "<subset>.<objective>".
            wanted: names of the objectives to compute; None: all.

        Raises:
            UserError: an objective has no rows.
        """
        if subsets is None:
            rows = {"": torch.ones_like(labels, dtype=torch.bool)}
        else:
            rows = {f"{name}.": chosen for name, chosen in subsets.items()}
        scales = torch.cat(
            [_row_scales(labels, attributes, some, weights) for some in rows.values()]
        )
        names = [prefix + objective for prefix in rows for objective in OBJECTIVES]
        kept = [k for k, name in enumerate(names) if wanted is None or name in wanted]
        self.names = [names[k] for k in kept]
        self.labels, self.scales = labels, scales[kept]
        self.is_bias = torch.tensor([name.endswith("bias") for name in self.names])[:, None]

    def coefficients(self, logits: Tensor, _batch: Batch, at: slice) -> Tensor:
        """n c_i over the root of n for each objective, (K, B)."""
        p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
        residual = torch.where(self.labels[at] > 0.5, -q, p)  # d BCE / d z
        derivative = torch.where(self.is_bias.to(logits.device), p * q, residual)  # d p / d z = p q
        return self.scales[:, at] * derivative


def estimate(
    classifier: nn.Module,
    batches: Batches,
    per_sample: PerSample | PerClass | None = None,
    minibatch: Minibatch | None = None,
) -> tuple[Importance, Importance]:
    """Importances by one or both estimators, in one pass over the set.

    Args:
        classifier: images -> logits (B,), or (B, C).
        batches: the external set.
        per_sample, minibatch: which estimators to use; of C logits `PerClass`.

    Returns:
        Objectives of `per_sample` and of `minibatch`; empty for an estimator that is not used.

    Raises:
        UserError: an importance is zero everywhere, or not finite.
    """
    found = squared_gradients(
        classifier,
        batches,
        per_sample.coefficients if per_sample else None,
        minibatch.coefficients if minibatch else None,
    )
    names = (per_sample.names if per_sample else [], OF_ESTIMATOR["minibatch"] if minibatch else [])
    first, second = (
        {name: {p: value[k] for p, value in values.items()} for k, name in enumerate(objectives)}
        for objectives, values in zip(names, found, strict=True)
    )
    return _checked(first), _checked(second)


def minibatch(
    classifier: nn.Module,
    batches: Batches,
    eodds: EoddsKind = "mean_abs",
    weights: ClassWeights | None = None,
) -> Importance:
    """Importances by `Minibatch` alone; see there and `estimate`."""
    return estimate(classifier, batches, minibatch=Minibatch(eodds, weights))[1]


def per_sample(
    classifier: nn.Module,
    batches: Batches,
    weights: ClassWeights | None = None,
    subsets: Mapping[str, Tensor] | None = None,
) -> Importance:
    """Importances by `PerSample` alone; goes through the batches twice, first for the labels."""
    columns = [(batch.labels, batch.attributes) for batch in iterate_batches(batches)]
    labels, attributes = (torch.cat(column) for column in zip(*columns, strict=True))
    if getattr(classifier, "classes", 2) > 2:
        with inference(classifier):
            logits = torch.cat([classifier(batch.images) for batch in iterate_batches(batches)])
        own = PerClass(logits.clone(), labels, attributes, weights, subsets)
        return estimate(classifier, batches, own)[0]
    return estimate(classifier, batches, PerSample(labels, attributes, weights, subsets))[0]


def _row_scales(
    labels: Tensor, attributes: Tensor, rows: Tensor, weights: ClassWeights | None
) -> Tensor:
    """What a row's derivative is multiplied with in each objective, (4, N); 0 outside of `rows`.

    It is n times the row's weight in the objective (see `per_sample`), divided by the root of n. Of
    the bias the absolute value: it is squared in the end. In |tpr_1 - tpr_0| a row weighs 1/2 over
    the size of its cell, whatever the two rates are, so the scores need not be known beforehand.
    """
    w_p, w_n = losses.class_weights(labels[rows]) if weights is None else weights
    class_weight = labels * w_p + (1 - labels) * w_n
    groups = [rows & (attributes == group) for group in (0, 1)]
    for group, members in enumerate(groups):
        if not members.any():
            raise UserError(f"importance: no sample of attribute group {group}")
    bias = torch.zeros_like(labels)
    for positive in (True, False):
        cells = [members & ((labels > 0.5) == positive) for members in groups]
        if all(cell.any() for cell in cells):
            for cell in cells:
                bias += cell / (2 * cell.sum())
    scales = [rows * class_weight / math.sqrt(int(rows.sum()))]
    scales.append(bias * math.sqrt(sum(int(members.sum()) for members in groups)))
    scales += [members * class_weight / math.sqrt(int(members.sum())) for members in groups]
    return torch.stack(scales)


def _checked(importance: Importance) -> Importance:
    """Refuse what no mask can be made of."""
    for objective, values in importance.items():
        sums = {name: float(value.sum()) for name, value in values.items()}  # of numbers >= 0
        broken = [name for name, total in sums.items() if not math.isfinite(total)]
        if broken:
            raise UserError(
                f"importance: {objective} of {broken[0]} is not finite; has the training diverged?"
            )
        if not any(sums.values()):
            raise UserError(
                f"importance: {objective} is zero everywhere; either the scores are all 0 or 1, or "
                "no batch holds both groups with the same label"
            )
    return importance
