"""DiffPrune: pruning units by their influence on the bias (Marcinkevics et al., MLHC 2022).

The units of one convolution whose output drives a signed, differentiable bias are silenced step by
step; the least biased iterate that is still accurate is kept (_iterate.py). The silencing mask is
part of the saved model. It acts after the convolution's BatchNorm, so that silenced means zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..config.base import Count, Fraction, Line, Share
from ..errors import UserError, nearest, of_job, setting
from ._iterate import Proxy, Selection, SelectionSettings, directed_gap, evaluate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "DiffPrune"
IMPORTANCES: tuple[str, ...] = ()
BATCH_SIZE = 256  # of the gradients; the result does not depend on it


class Settings(SelectionSettings):
    """What is pruned, in which steps, and which iterate is kept."""

    ignores: ClassVar = ("epochs_percent", "batches")  # `max_steps` is its length

    layer: Line | None = Field(
        None,
        description="Name of the module whose output is silenced, as in the state dictionary; "
        "default: the extractor's first BatchNorm2d, that of the stem convolution.",
    )
    unit: Literal["position", "channel"] = Field(
        "position", description="A spatial position of a feature map, or a whole map."
    )
    step_size: Fraction = Field(
        0.002,
        description="Share of the layer's units silenced in a step, at least one unit [code: 1500 "
        "units, about this share].",
    )
    max_steps: Count = Field(10, description="[code]")
    stop_balanced_accuracy: Share = Field(
        0.55, description="The search ends at or below this balanced accuracy [code]."
    )


def foreign(settings: Settings, classifier: Classifier) -> str | None:
    """Why a network without a place for masks cannot hold the result; None: it can."""
    from ..learning.networks import no_place

    layer = find_layer(classifier, settings.layer)
    return no_place(classifier, layer, whole=settings.unit == "channel")


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Silence units on the full external set; no weight is changed.

    Raises:
        UserError: there is no such layer.
    """
    import copy

    import torch

    from ..learning.inference import predict
    from ..learning.networks import attach_unit_mask

    samples, layer = external.full, find_layer(classifier, settings.layer)
    pruned = copy.deepcopy(classifier).eval().requires_grad_(False)
    logits = predict(pruned, samples)
    now = evaluate(logits, samples.labels, samples.attributes, settings.proxy)
    selection = Selection(now, settings, settings.stop_balanced_accuracy)
    mask, best = torch.ones(unit_shape(pruned, layer, samples, settings.unit)), None
    mask = mask.to(classifier.device)
    count = max(1, round(settings.step_size * mask.numel()))
    for step in range(1, settings.max_steps + 1):
        influence = bias_influence(pruned, layer, samples, logits, settings.proxy, selection.signs)
        mask = silence(mask, influence, count, ascend=selection.ascend)
        attach_unit_mask(pruned, layer, mask)
        with of_job(f"diffprune step {step}"):
            logits = predict(pruned, samples)
        now = evaluate(logits, samples.labels, samples.attributes, settings.proxy)
        if selection.offer(now):
            best = mask
        silenced = int((mask == 0).sum())
        row = {"stage": "diffprune", "step": step, "silenced": silenced}
        row |= {"balanced_accuracy": now.balanced_accuracy, "hard_bias": now.bias}
        context.history.append(row | {"threshold": now.threshold})
        context.info(
            f"diffprune  step {step}/{settings.max_steps}  {silenced} of {mask.numel()} units of "
            f"{layer} silenced  hard bias {now.bias:+.4f}  "
            f"balanced accuracy {now.balanced_accuracy:.4f}"
        )
        if selection.over(now) or not mask.any():
            break
    context.info(f"diffprune  {selection.verdict()}")
    if best is not None:
        attach_unit_mask(classifier, layer, best)
        context.masks = {layer: best}
    return classifier


def find_layer(classifier: Classifier, name: str | None) -> str:
    """The module of this name, or by default the extractor's first BatchNorm2d."""
    from torch import nn

    modules = dict(classifier.named_modules())
    if name is not None:
        for full in (name, f"extractor.{name}"):
            if full in modules:
                return full
        raise UserError(f"{setting('diffprune.layer')}: no module {name!r}{nearest(name, modules)}")
    for found, module in modules.items():
        if isinstance(module, nn.BatchNorm2d):
            return found
    raise UserError(
        f"diffprune: the network has no BatchNorm2d; name a module ({setting('diffprune.layer')})"
    )


def unit_shape(classifier: Classifier, layer: str, samples: Samples, unit: str) -> tuple[int, ...]:
    """Shape of the mask: (C, H, W), or (C, 1, 1) where the unit is a channel."""
    import torch

    with _watched(classifier, layer) as outputs:
        classifier(samples.draw(torch.tensor([0])))
    channels, *positions = outputs[0].shape[1:]
    return (channels, *(positions if unit == "position" else [1] * len(positions)))


def bias_influence(
    classifier: Classifier,
    layer: str,
    samples: Samples,
    logits: Tensor,
    proxy: Proxy,
    signs: tuple[float, ...] = (),
) -> Tensor:
    """d proxy / d (layer output), averaged over the set, of every output unit.

    The proxy is that of the whole set, not of a batch: what each logit contributes to it follows
    from the logits, so no batch needs every cell, and the batch size does not matter.

    Args:
        classifier: in eval mode, no parameter requires a gradient.
        layer: name of the module.
        samples: n samples.
        logits: (n,) or (n, C), the classifier's on these samples.
        proxy, signs: see `_iterate.directed_gap`.

    Returns:
        The shape of the layer's output without the batch dimension.
    """
    import torch

    z = logits.clone().requires_grad_()
    gap = directed_gap(proxy, z, samples.labels, samples.attributes, signs)
    (contribution,) = torch.autograd.grad(gap, z)
    total = torch.zeros((), device=z.device)
    with _watched(classifier, layer) as outputs:
        parts = contribution.split(BATCH_SIZE)
        for batch, part in zip(samples.batches(BATCH_SIZE), parts, strict=True):
            out = classifier(batch.images)
            (gradient,) = torch.autograd.grad(out, outputs.pop(), part)
            total = total + gradient.sum(dim=0)
    return total / len(samples)


def silence(mask: Tensor, influence: Tensor, count: int, *, ascend: bool) -> Tensor:
    """The mask with `count` more units silenced: those of the highest influence on the bias.

    If the bias is negative and has to rise, those of the lowest. Units that are silent already
    leave the ranking; of equal influences the first unit goes.

    Args:
        mask: 1 = live, 0 = silent. Of shape (C, 1, 1) the influence is summed over the positions.
        influence: the layer's output shape.
        count: at most all units that are live are silenced.
        ascend: the direction, fixed by the start model.
    """
    import torch

    per_unit = influence.sum_to_size(mask.shape).flatten()
    order = (-per_unit if ascend else per_unit).masked_fill(mask.flatten() == 0, -torch.inf)
    silenced = mask.flatten().clone()
    silenced[order.sort(descending=True, stable=True).indices[:count]] = 0
    return silenced.view(mask.shape)


@contextlib.contextmanager
def _watched(classifier: Classifier, layer: str) -> Iterator[list[Tensor]]:
    """Collect the layer's outputs, as the leaves of the graph that follows it."""
    outputs: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what follows may write into its input

    handle = classifier.get_submodule(layer).register_forward_hook(watch)
    try:
        yield outputs
    finally:
        handle.remove()
