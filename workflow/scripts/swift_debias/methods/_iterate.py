"""Which iterate of a bias-driven search is kept: shared by DiffGda and DiffPrune.

The rule of Marcinkevics et al. (MLHC 2022): walk in one direction, fixed by the sign of the start
model's bias; after each step measure balanced accuracy and the bias of the hard decisions on the
external set, at the threshold that is best for this iterate; keep the least biased iterate that is
still accurate enough; stop when accuracy is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pydantic import Field

from ..config.base import Model, Share

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLDS = 101  # candidates in [0, 1]
Proxy: TypeAlias = Literal["spd", "eopp", "eodds"]  # see losses.signed_gap


class SelectionSettings(Model):
    """What is minimized and which iterate is kept."""

    proxy: Proxy = Field(
        "eodds",
        description="Signed gap, group 0 minus group 1: statistical parity, equal opportunity "
        "(the original's 'EOD'), or equalized odds, which the other methods optimize [ours].",
    )
    min_balanced_accuracy: Share = Field(
        0.95,
        description="An iterate qualifies above this share of the start model's balanced accuracy "
        "[ours; code: absolute numbers chosen by data set].",
    )


class Evaluation(NamedTuple):
    """A classifier's hard decisions on the external set, at its best threshold.

    balanced_accuracy: mean recall of the classes that occur. bias: signed gap of the decisions; of
    C classes, which are decided by the highest score and without a threshold (nan), the mean over
    classes of the absolute gaps. signs: of C classes, those of each class's gap; () of two.
    """

    balanced_accuracy: float
    bias: float
    threshold: float
    signs: tuple[float, ...] = ()


def evaluate(logits: Tensor, labels: Tensor, attributes: Tensor, proxy: Proxy) -> Evaluation:
    """Balanced accuracy and signed bias at the best of 101 thresholds (the first, if tied).

    Args:
        logits: (n,), or (n, C). labels: (n,). attributes: int64 (n,); groups 0 and 1 are compared.
        proxy: see `losses.signed_gap`; a rate that a group lacks drops its term.
    """
    import torch

    from ..learning import losses

    if logits.dim() == 2:
        return _evaluate_classes(logits, labels, attributes, proxy)
    scores, positive = torch.sigmoid(logits.double()), labels > 0.5
    thresholds = torch.linspace(0, 1, THRESHOLDS, dtype=torch.float64, device=logits.device)
    decisions = scores > thresholds[:, None]
    recalls = [
        (decisions[:, is_class] == of_class).double().mean(dim=1)
        for of_class, is_class in ((True, positive), (False, ~positive))
        if is_class.any()
    ]
    accuracy = torch.stack(recalls).mean(dim=0)
    best = int(accuracy.argmax())
    # a decision is a score of 1 or 0, a logit of + or - infinity: hard and soft gap are one formula
    infinity = torch.full_like(scores, torch.inf)
    hard = torch.where(decisions[best], infinity, -infinity)
    bias = losses.signed_gap(proxy, hard, labels, attributes)
    return Evaluation(float(accuracy[best]), float(bias), float(thresholds[best]))


def _evaluate_classes(
    logits: Tensor, labels: Tensor, attributes: Tensor, proxy: Proxy
) -> Evaluation:
    """`evaluate` of logits (n, C)."""
    import torch

    from ..learning import losses

    decided = logits.argmax(dim=1)
    recalls, gaps = [], []
    for c in range(logits.shape[1]):
        label = labels == c
        if label.any():
            recalls.append((decided[label] == c).double().mean())
        hard = torch.full_like(labels, torch.inf, dtype=torch.float64)
        hard = torch.where(decided == c, hard, -hard)
        gaps.append(losses.signed_gap(proxy, hard, label.to(hard.dtype), attributes))
    found = torch.stack(gaps)
    return Evaluation(
        float(torch.stack(recalls).mean()),
        float(found.abs().mean()),
        float("nan"),
        tuple(torch.where(found < 0, -1.0, 1.0).tolist()),
    )


def directed_gap(
    proxy: Proxy, logits: Tensor, labels: Tensor, attributes: Tensor, signs: tuple[float, ...]
) -> Tensor:
    """What a search lowers, or raises where the start model's bias is negative: the signed gap.

    Of C classes the mean over classes of the one-against-rest gaps, each times the start model's
    sign: so each class has a direction of its own, fixed at the start. Without the signs the gaps
    of the classes would cancel; of statistical parity their sum is always 0.
    """
    from ..learning import objectives

    gaps = objectives.signed_gaps(proxy, logits, labels, attributes)
    return gaps[0] if logits.dim() == 1 else (gaps * gaps.new_tensor(signs)).mean()


class Selection:
    """The least biased iterate so far; the start model is iterate 0 and has to be beaten [code].

    Attributes:
        ascend: whether the signed proxy is to be raised: the start model's bias is negative.
        best: what was measured of the iterate that is kept.
        signs: of each class's gap in the start model; () of two classes.
        found: whether that is another than the start model.
    """

    def __init__(self, start: Evaluation, settings: SelectionSettings, stop: float) -> None:
        """Args: stop: balanced accuracy at or below which the search ends."""
        self.ascend, self.best, self.found = start.bias < 0, start, False
        self.signs = start.signs
        self._floor = settings.min_balanced_accuracy * start.balanced_accuracy
        self._stop = stop

    def offer(self, now: Evaluation) -> bool:
        """Whether this iterate is the best so far; if so it is remembered."""
        better = abs(now.bias) < abs(self.best.bias) and now.balanced_accuracy >= self._floor
        if better:
            self.best, self.found = now, True
        return better

    def over(self, now: Evaluation) -> bool:
        """Whether so little accuracy is left that the search ends."""
        return now.balanced_accuracy <= self._stop

    def verdict(self) -> str:
        """The outcome, for the job's log."""
        if not self.found:
            return "no iterate is less biased and accurate enough: the start model is returned"
        return (
            f"kept the iterate of hard bias {self.best.bias:+.4f}, "
            f"balanced accuracy {self.best.balanced_accuracy:.4f}"
        )
