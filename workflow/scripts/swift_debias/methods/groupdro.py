"""Group DRO: distributionally robust optimization over groups (Sagawa et al., ICLR 2020).

The loss is a weighted sum of the mean losses of the cells (label and group). The weights are
learned too: after each batch that of a cell grows by exp(eta x its loss), so that what is learned
worst counts most. There is no fairness term: a worst cell that is as good as the others is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..config.base import Flag, Positive
from ._whole import Length, length, train_whole

if TYPE_CHECKING:
    from torch import Tensor

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "GroupDRO"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Length):
    """How fast the cells' weights move, and on which set."""

    grid: ClassVar = {"eta": (0.01, 0.1, 1), "lr_factor": (1, 3)}

    eta: Positive = Field(
        0.01,
        description="Step size of the cells' weights [code]. A fine-tuning is a few hundred steps, "
        "so larger ones are worth a try [ours].",
    )
    balanced: Flag = Field(
        False,
        description="Train on the group-balanced part. false: on all images, as published; the "
        "released code draws batches by cells (`batches: cells`) [code].",
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Fine-tune everything; the cells' weights after each epoch are in the history.

    Raises:
        UserError: the set has no sample of some label and group.
    """
    samples = external.balanced if settings.balanced else external.full
    online = OnlineWeights(samples, settings.eta, context)
    train_whole(
        classifier,
        samples,
        online,
        context,
        "groupdro",
        length(settings, context),
        watch=online.row,
        resume=online.resume,
    )
    return classifier


class OnlineWeights:
    """The objective, and the weights that it moves: float64 (2 C,), cell = label * 2 + group.

    The sum is multiplied by what an image weighs in Eq. 1 on average (`batches.weight`), so that
    learning rates mean here what they mean in the other methods [ours].
    """

    def __init__(self, samples: Samples, eta: float, context: Context) -> None:
        """Start with equal weights; refuses a set in which a cell is empty."""
        import torch

        from ..learning import batches

        self.eta, self.scale = eta, batches.weight(samples)
        self.names = [f"weight_y{y}_a{a}" for y in range(samples.classes) for a in (0, 1)]
        self.weights = torch.ones(len(self.names), dtype=torch.float64, device=samples.device)
        self.weights /= len(self.names)
        self.cells = torch.arange(len(self.names), device=samples.device)
        self.watched = context.objective(samples, prediction=0, bias=0)

    def __call__(
        self, logits: Tensor, labels: Tensor, attributes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, Eq. 1 and the bias; a cell that the batch lacks keeps its share of the rest."""
        import torch

        from ..learning import objectives

        cells = labels.long() * 2 + attributes
        # compared, not counted: a GPU is not waited for
        members = (cells[:, None] == self.cells).to(logits.dtype)
        sums = objectives.cross_entropies(logits, labels) @ members
        means = sums / members.sum(dim=0).clamp(min=1)
        with torch.no_grad():
            self.weights = self.weights * (self.eta * means.double()).exp()
            self.weights = self.weights / self.weights.sum()
        _, prediction, bias = self.watched(logits, labels, attributes)
        return self.scale * (self.weights.to(means) @ means), prediction, bias

    def row(self) -> dict[str, float]:
        """The weights, for the history."""
        return dict(zip(self.names, self.weights.tolist(), strict=True))

    def resume(self, rows: list[dict[str, Any]]) -> None:
        """Go on with the weights of the last epoch's row, which has all their digits."""
        self.weights = self.weights.new_tensor([rows[-1][name] for name in self.names])
