"""Prediction loss and differentiable fairness proxies, on logits.

Equations are those of Yan et al., MELBA 2025. Everywhere z is the logit, p = sigmoid(z), y the
label (0 or 1) and a the binary attribute. Rows whose attribute is neither 0 nor 1 (-1 = unknown)
take no part in any gap; they do take part in the prediction loss.

A gap compares the mean p of the two groups inside a *cell set*: all rows (statistical parity), the
rows of label 1 (true positive rate) or of label 0 (false positive rate). Where one of the two
cells is empty the comparison is impossible, and its term is dropped: it counts 0 and has no
gradient. An empty cell is never taken as rate 0, which would invent a gap, and never gives NaN. The
factor 1/2 of equalized odds stays when one of its two terms is dropped. Nothing here waits for the
device: cells are counted with masks, not with indexing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.schema import EoddsKind

ClassWeights: TypeAlias = tuple[float, float]
GapKind: TypeAlias = Literal["spd", "eopp", "eodds"]


def class_weights(labels: Tensor) -> ClassWeights:
    """Weights of the positive and the negative class in Eq. 1: (n_n / N, n_p / N).

    Args:
        labels: (N,), 0 or 1.

    Raises:
        ValueError: no labels.
    """
    if not len(labels):
        raise ValueError("class weights of an empty set")
    positive = float(labels.double().mean())
    return 1 - positive, positive


def weighted_bce(
    logits: Tensor,
    labels: Tensor,
    weights: ClassWeights | None = None,
    each: Tensor | None = None,
) -> Tensor:
    """Weighted binary cross-entropy, Eq. 1: mean of -w_p y log p - w_n (1 - y) log(1 - p).

    Args:
        logits: (B,).
        labels: (B,), 0 or 1, same floating type.
        weights: (w_p, w_n) of `class_weights`; None counts this batch, as the released code does.
            Then a batch of one class has loss 0, since the weight of the class it has is 0.
        each: (B,), what a sample weighs besides its class; None: 1.

    Returns:
        A scalar.
    """
    positive = labels.mean()
    w_p, w_n = (1 - positive, positive) if weights is None else weights
    weight = labels * w_p + (1 - labels) * w_n
    weight = weight if each is None else weight * each
    return F.binary_cross_entropy_with_logits(logits, labels, weight)


def eodds_gap(
    logits: Tensor, labels: Tensor, attributes: Tensor, kind: EoddsKind = "mean_abs"
) -> Tensor:
    """Equalized-odds proxy, Eq. 2 to 4, in [0, 1].

    With d_tpr and d_fpr the differences of the groups' mean p at label 1 and label 0:
    `mean_abs` is (|d_tpr| + |d_fpr|) / 2; `signed_mean` is |d_tpr + d_fpr| / 2, in which opposite
    gaps cancel (the predecessor's code; only for comparison with published tables).

    Args:
        logits: (B,).
        labels: (B,), 0 or 1.
        attributes: int (B,), groups 0 and 1; other rows are left out.
    """
    d_tpr = _difference(logits, attributes, labels > 0.5)
    d_fpr = _difference(logits, attributes, labels <= 0.5)
    if kind == "mean_abs":
        return (d_tpr.abs() + d_fpr.abs()) / 2
    if kind == "signed_mean":
        return (d_tpr + d_fpr).abs() / 2
    raise ValueError(f"unknown equalized-odds proxy {kind!r}")


def signed_gap(kind: GapKind, logits: Tensor, labels: Tensor, attributes: Tensor) -> Tensor:
    """A gap with its sign, group 0 minus group 1, as DiffGda and DiffPrune need it.

    Positive: group 0 gets the higher scores. `spd`: mean p_0 - mean p_1; `eopp`: tpr_0 - tpr_1;
    `eodds`: ((fpr_0 - fpr_1) + (tpr_0 - tpr_1)) / 2 (Marcinkevics et al. 2022, who call equal
    opportunity EOD). Arguments as in `eodds_gap`.
    """
    if kind == "spd":
        return _difference(logits, attributes, torch.ones_like(labels, dtype=torch.bool))
    d_tpr = _difference(logits, attributes, labels > 0.5)
    if kind == "eopp":
        return d_tpr
    if kind == "eodds":
        return (_difference(logits, attributes, labels <= 0.5) + d_tpr) / 2
    raise ValueError(f"unknown gap {kind!r}")


def usable_terms(labels: Tensor, attributes: Tensor) -> tuple[bool, bool]:
    """Whether the true- and the false-positive-rate gap exist: both groups have that label."""
    return tuple(  # type: ignore[return-value]
        all(bool(((labels > 0.5) == positive)[attributes == group].any()) for group in (0, 1))
        for positive in (True, False)
    )


def _difference(logits: Tensor, attributes: Tensor, rows: Tensor) -> Tensor:
    """Mean p of group 0 minus mean p of group 1 among `rows`; 0 if either has none."""
    p = torch.sigmoid(logits)
    means, usable = [], torch.ones((), dtype=torch.bool, device=logits.device)
    for group in (0, 1):
        cell = rows & (attributes == group)
        n = cell.sum()
        means.append((p * cell).sum() / n.clamp(min=1))
        usable = usable & (n > 0)
    return (means[0] - means[1]) * usable
