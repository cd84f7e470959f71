"""SSD: selective synaptic dampening (Foster et al., AAAI 2024), of the weights that carry bias.

Nothing is trained. The original dampens weights that matter more to the data to be forgotten than
to the rest. Here what is to be forgotten is the bias [ours]: a weight whose importance to the bias
is more than alpha times its importance to the prediction is multiplied by

    min(lambda * F_pred / F_bias, 1).

Both importances are shares of their sum over all weights [ours]: the two objectives have different
scales, and alpha would mean another thing for each network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..config.base import Model, Positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "SSD"
IMPORTANCES: tuple[str, ...] = (
    "minibatch.balanced.prediction",
    "minibatch.balanced.bias",
    "per_sample.balanced.prediction",
    "per_sample.balanced.bias",
)


class Settings(Model):
    """Which weights are dampened, and how much."""

    ignores: ClassVar = ("epochs_percent", "batches")  # nothing is trained
    grid: ClassVar = {"alpha": (3.0, 10.0, 30.0), "dampening": (0.3, 1.0)}

    alpha: Positive = Field(
        10.0,
        description="A weight is selected if its share of the bias importance is more than this "
        "many times its share of the prediction importance [SSD].",
    )
    dampening: Positive = Field(
        1.0,
        description="lambda: a selected weight is multiplied by this times the ratio of its "
        "shares, prediction by bias, and by 1 at most [SSD].",
    )
    estimator: Literal["minibatch", "per_sample"] = Field(
        "minibatch", description="Of the importances, Eq. 7-8 [SSD's code: minibatch]."
    )


def reads(settings: Settings) -> tuple[str, ...]:
    """The two importances of the estimator in use."""
    return tuple(name for name in IMPORTANCES if name.startswith(settings.estimator))


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Dampen all parameters, biases and normalization included [SSD]."""
    from ..learning.context import set_trainable

    set_trainable(classifier, extractor=False, head=False)
    importance = context.importance()
    bias, prediction = (
        importance[f"{settings.estimator}.balanced.{of}"] for of in ("bias", "prediction")
    )
    parameters = dict(classifier.named_parameters())
    dampened = dampen(parameters, bias, prediction, settings.alpha, settings.dampening)
    total = sum(parameter.numel() for parameter in parameters.values())
    context.history.append({"stage": "ssd", "step": 1, "dampened": dampened})
    context.info(f"ssd  {dampened} of {total} weights are dampened")
    return classifier


def dampen(
    parameters: Mapping[str, nn.Parameter],
    bias: Mapping[str, Tensor],
    prediction: Mapping[str, Tensor],
    alpha: float,
    dampening: float,
) -> int:
    """Multiply the selected weights by what they keep, in place; returns how many were selected.

    Args:
        parameters: name -> parameter.
        bias, prediction: the same names -> importance, not negative.
        alpha, dampening: see `Settings`.
    """
    import torch

    sums = [sum(float(of[name].double().sum()) for name in parameters) for of in (bias, prediction)]
    count = 0
    with torch.no_grad():
        for name, parameter in parameters.items():
            of_bias = bias[name].to(parameter).double() / sums[0]
            of_prediction = prediction[name].to(parameter).double() / sums[1]
            selected = of_bias > alpha * of_prediction
            kept = (dampening * of_prediction / of_bias).clamp(max=1)
            parameter.mul_(torch.where(selected, kept, 1).to(parameter))
            count += int(selected.sum())
    return count
