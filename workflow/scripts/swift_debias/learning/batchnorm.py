"""What BatchNorm's running statistics do while an extractor is fine-tuned.

They are buffers, not weights: no optimizer and no mask touches them, and in train mode they follow
the external set whatever a mask says. On the demo's first version that alone made four fifths of
SWiFT's gain in AUC. `finetuning.batchnorm` makes it a choice, the same for every method:

train   batches are normalized by their own statistics, and the running ones follow [code].
eval    batches are normalized by the running statistics, which stay as the Baseline has them.
masked  batches are normalized by the running statistics; those of a channel follow by the share
        that the mask of its scale allows: mask 0 keeps them, mask 1 moves them as `train` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config.schema import BatchNorm


def layers(module: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that keep running statistics, by their names in the module."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


@contextlib.contextmanager
def moving(
    module: nn.Module, mode: BatchNorm, masks: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Put a network's BatchNorm layers into a mode while it is trained; see the module.

    Every other layer keeps the train or eval mode that it has; afterwards the layers have theirs
    again.

    Args:
        module: the network.
        mode: see the module.
        masks: parameter name in `module` -> mask, for "masked". A channel without one (no masks, or
            no scale) moves freely.
    """
    found = layers(module)
    # a part that is trained is in train mode, and in eval mode while somebody looks at the network
    others = (part for part in module.modules() if not isinstance(part, _BatchNorm))
    trained = next((part for part in others if part.training), None)
    before = {layer: layer.training for layer in found.values()}
    handles = []
    for name, layer in found.items():
        layer.train(mode == "train")
        if mode == "masked":
            mask = (masks or {}).get(f"{name}.weight")
            handles.append(layer.register_forward_pre_hook(_follower(layer, mask, trained)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, training in before.items():
            layer.train(training)


def _follower(layer: _BatchNorm, mask: Tensor | None, trained: nn.Module | None) -> Any:
    """A hook that moves a layer's statistics towards each batch's, channel by channel.

    It stands still without gradients, and while `trained`, a part of the network, is in eval mode.
    """
    assert layer.running_mean is not None and layer.running_var is not None
    share = torch.ones_like(layer.running_mean) if mask is None else mask.to(layer.running_mean)

    def follow(layer: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        looking = trained is not None and not trained.training  # importances, in between
        if looking or not torch.is_grad_enabled():  # scores
            return
        assert layer.running_mean is not None and layer.running_var is not None
        assert layer.num_batches_tracked is not None
        values = inputs[0].detach()
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        channels = [dimension for dimension in range(values.dim()) if dimension != 1]
        variance, mean = torch.var_mean(values, channels)  # unbiased, as torch keeps it
        layer.num_batches_tracked += 1
        momentum = layer.momentum  # None: a cumulative average
        step = (1 / layer.num_batches_tracked if momentum is None else momentum) * share
        layer.running_mean.lerp_(mean.to(layer.running_mean), step)
        layer.running_var.lerp_(variance.to(layer.running_var), step)

    return follow
