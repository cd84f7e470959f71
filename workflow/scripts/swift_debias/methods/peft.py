"""PEFT: few weights of the extractor are fine-tuned, the others stay (Dutt et al., ICLR 2024).

What is adapted: all biases (BitFit; Ben Zaken et al. 2022), scales and shifts of normalization
layers, or low-rank updates of linear layers and 1 x 1 convolutions (LoRA; Hu et al. 2022). FairTune
chooses by fairness on held-out images which blocks of the network are adapted at all: here
`search:` over `blocks`, which judges its trials on the select part of the external sets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from ..config.base import Count, Integer, Positive, Share
from ..errors import UserError, setting
from ._whole import Length, both_optimizer, length

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "PEFT"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Length):
    """What is adapted, where, and by which loss."""

    only_with: ClassVar = {"rank": {"adapt": ("lora",)}, "scale": {"adapt": ("lora",)}}
    grid: ClassVar = {"rank": (1, 4, 16), "lr_factor": (1, 10)}

    adapt: Literal["bitfit", "norm", "lora"] = Field(
        "lora",
        description="bitfit: all biases; norm: scales and shifts of normalization layers; lora: "
        "low-rank updates of linear layers and 1 x 1 convolutions, merged into them at the end. "
        "The head is trained in any case.",
    )
    rank: Count = Field(4, description="Of the low-rank updates [LoRA].")
    scale: Positive = Field(
        1.0, description="Multiplies the low-rank update: alpha / rank of LoRA [LoRA]."
    )
    blocks: tuple[Annotated[Integer, Field(ge=0, le=1)], ...] = Field(
        (1,),
        min_length=1,
        max_length=64,
        description="Mask over the extractor's depth: its layers are cut into so many blocks of "
        "equally many layers, of which those with 1 are adapted. [0, 0, 1, 1]: the deeper half. "
        "FairTune searches it: `search: { blocks: [[1, 1], [0, 1], [1, 0]] }` [FairTune].",
    )
    prediction_weight: Share = Field(
        1.0,
        description="lambda of Eq. 10; 1 = prediction loss only, so that fairness comes from the "
        "search alone [FairTune].",
    )

    @field_validator("blocks")
    @classmethod
    def _some_block(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if not any(blocks):
            raise ValueError("has no 1, so nothing of the extractor would be adapted")
        return blocks


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Fine-tune what is adapted, and the head, on the balanced set.

    BatchNorm's statistics do as `finetuning.batchnorm` says; with `masked` those of a layer follow
    only where its scale is adapted.

    Raises:
        UserError: the extractor has nothing of this kind in these blocks, or fewer layers than
            blocks; or layers that would be updated share a weight.
    """
    from ..learning import low_rank
    from ..learning.context import set_trainable
    from ..learning.loop import fit

    samples, weight = external.balanced, settings.prediction_weight
    set_trainable(classifier, extractor=True, head=True)
    classifier.extractor.requires_grad_(False)
    layers = chosen_layers(classifier.extractor, settings.blocks)
    updated = [place for layer in layers for place in low_rank.places(layer)]
    updated = updated if settings.adapt == "lora" else []
    adapted = _adapt(classifier.extractor, layers, updated, settings, context)
    if not adapted:
        kind = {"bitfit": "biases", "norm": "normalization layers"}.get(
            settings.adapt, "linear layers and no 1 x 1 convolutions"
        )
        raise UserError(
            f"peft: the extractor has no {kind} in blocks {list(settings.blocks)}; adapt something "
            f"else ({setting('adapt')}: lora, norm or bitfit), or other blocks"
        )
    context.info(f"peft: {sum(p.numel() for p in adapted)} numbers of the extractor are trained")
    masks = {
        name: parameter.new_full(parameter.shape, float(parameter.requires_grad))
        for name, parameter in classifier.named_parameters()
    }
    objective = context.objective(samples, prediction=weight, bias=1 - weight)
    optimizer = both_optimizer(classifier, adapted, context)
    epochs = length(settings, context)
    with context.moving_batchnorm(classifier, masks), _safe_group_norms(layers):
        fit(classifier, samples, objective, optimizer, context, "peft", epochs=epochs)
    low_rank.merge(updated)
    return classifier


def chosen_layers(extractor: nn.Module, blocks: tuple[int, ...]) -> list[nn.Module]:
    """The layers with weights of their own in the blocks that are adapted, in their order."""
    layers = [m for m in extractor.modules() if any(True for _ in m.parameters(recurse=False))]
    if len(layers) < len(blocks):
        raise UserError(f"peft: {len(blocks)} blocks, but the extractor has {len(layers)} layers")
    return [m for i, m in enumerate(layers) if blocks[i * len(blocks) // len(layers)]]


def _adapt(
    extractor: nn.Module,
    layers: list[nn.Module],
    updated: list[tuple[nn.Module, str]],
    settings: Settings,
    context: Context,
) -> list[nn.Parameter]:
    """Make what is adapted trainable, and return it."""
    import torch

    from ..learning import low_rank
    from ..seeds import derive_seed

    if settings.adapt == "lora":
        low_rank.refuse_tied(extractor, updated)
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "peft"))
        return low_rank.attach(updated, settings.rank, settings.scale, generator)
    if settings.adapt == "norm":
        found = [p for m in layers if _is_norm(m) for p in m.parameters(recurse=False)]
    else:
        found = [
            p for m in layers for n, p in m.named_parameters(recurse=False) if n.endswith("bias")
        ]
    for parameter in found:
        parameter.requires_grad_(True)
    return found


@contextlib.contextmanager
def _safe_group_norms(layers: list[nn.Module]) -> Iterator[None]:
    """Let the inputs of GroupNorm have a gradient, whatever is frozen below.

    torch 2.13 crashes in its backward pass if they have none (CPU, channels_last).
    """
    import torch
    from torch import nn

    def with_gradient(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not torch.is_grad_enabled() or inputs[0].requires_grad:
            return inputs
        return (inputs[0].detach().requires_grad_(), *inputs[1:])

    norms = [layer for layer in layers if isinstance(layer, nn.GroupNorm)]
    handles = [norm.register_forward_pre_hook(with_gradient) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_norm(layer: nn.Module) -> bool:
    """Whether a layer normalizes; networks' own such layers mostly derive from torch's."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    return isinstance(layer, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)
