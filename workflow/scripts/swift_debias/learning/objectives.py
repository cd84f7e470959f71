"""Prediction loss and fairness proxies of two classes or more, each under one name.

Two classes: logits (B,), and the functions of `losses.py` as they are. C classes: logits (B, C),
labels 0 to C - 1 (floating, like those of two classes), and

- L_pred is class-weighted cross-entropy. A class weighs w_c = s / p_c with p_c its share of the
  labels, so that all classes weigh alike in sum, and s = (1 - sum p_c^2) / C, so that an image
  weighs as much on average as in Eq. 1. Of two classes this is Eq. 1, w_c = 1 - p_c.
- L_bias is the mean over classes of the one-against-rest gaps: of each class the proxy of two
  classes, with the labels y == c and the log-odds l_c = z_c - log sum_{k != c} exp z_k as logit.
  sigmoid(l_c) is the softmax's probability of the class, so that a gap compares mean probabilities
  as that of two classes does; a logit z_c by itself would mean nothing, since the softmax does not
  see what is added to all. Of two classes, with logits (0, z), both gaps are the gap of z.

A class of which a cell is empty drops its term, which counts 0; the factor 1 / C stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.schema import EoddsKind
from . import losses
from .losses import GapKind

# of two classes (positive, negative), as Eq. 1 names them; of more in the classes' order
ClassWeights: TypeAlias = tuple[float, ...]


def class_weights(labels: Tensor, classes: int = 2) -> ClassWeights:
    """Weights of the classes in the prediction loss, by the labels' counts.

    Args:
        labels: (N,), 0 to classes - 1.
        classes: how many there are.

    Raises:
        ValueError: no labels.
    """
    if classes == 2:
        return losses.class_weights(labels)
    if not len(labels):
        raise ValueError("class weights of an empty set")
    return tuple(_balanced(labels.double(), classes).tolist())


def prediction_loss(
    logits: Tensor,
    labels: Tensor,
    weights: ClassWeights | None = None,
    each: Tensor | None = None,
) -> Tensor:
    """Class-weighted cross-entropy, a scalar; of two classes Eq. 1.

    Args:
        logits: (B,), or (B, C).
        labels: (B,).
        weights: of `class_weights`; None counts this batch: one of a single class has loss 0.
        each: (B,), what a sample weighs besides its class; None: 1.
    """
    if logits.dim() == 1:
        assert weights is None or len(weights) == 2
        return losses.weighted_bce(logits, labels, weights, each)
    counted = weights is None
    weight = _balanced(labels, logits.shape[1]) if counted else logits.new_tensor(weights)
    of_each = cross_entropies(logits, labels) * weight[labels.long()]
    return (of_each if each is None else of_each * each).mean()


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Plain cross-entropy of each sample, (B,)."""
    if logits.dim() == 1:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return F.cross_entropy(logits, labels.long(), reduction="none")


def eodds_gap(
    logits: Tensor, labels: Tensor, attributes: Tensor, kind: EoddsKind = "mean_abs"
) -> Tensor:
    """Equalized-odds proxy in [0, 1], a scalar; see `losses.eodds_gap`."""
    if logits.dim() == 1:
        return losses.eodds_gap(logits, labels, attributes, kind)
    return over_classes(lambda z, y: losses.eodds_gap(z, y, attributes, kind), logits, labels)


def signed_gaps(kind: GapKind, logits: Tensor, labels: Tensor, attributes: Tensor) -> Tensor:
    """Each class's signed gap, (C,); see `losses.signed_gap`. Of logits (B,): (1,)."""
    problems = [(logits, labels)] if logits.dim() == 1 else one_against_rest(logits, labels)
    return torch.stack([losses.signed_gap(kind, z, y, attributes) for z, y in problems])


def over_classes(
    of_two: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor
) -> Tensor:
    """The mean over classes of a function (logits, labels) of two classes; (B,): its value."""
    if logits.dim() == 1:
        return of_two(logits, labels)
    return torch.stack([of_two(z, y) for z, y in one_against_rest(logits, labels)]).mean()


def one_against_rest(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each class the log-odds against the rest, (B,), and its labels, (B,), 0 or 1."""
    for c, odds in enumerate(log_odds(logits).unbind(1)):
        yield odds, (labels == c).to(odds.dtype)


def log_odds(logits: Tensor) -> Tensor:
    """log p_c - log(1 - p_c) of the softmax's probabilities, (B, C); exact where p_c is near 1."""
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    rest = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(dim=2)
    return logits - rest


def probabilities(logits: Tensor) -> Tensor:
    """P(class 1), (n,), of logits (n,); of logits (n, C) the softmax, (n, C). float64."""
    return logits.double().sigmoid() if logits.dim() == 1 else logits.double().softmax(dim=1)


def _balanced(labels: Tensor, classes: int) -> Tensor:
    """The module's w_c, (C,); 0 of a class without labels, C being the classes that have some."""
    shares = F.one_hot(labels.long(), classes).to(labels.dtype).mean(dim=0)
    scale = (1 - shares.square().sum()) / (shares > 0).sum()
    return torch.where(shares > 0, scale / shares.clamp(min=1e-12), 0)
