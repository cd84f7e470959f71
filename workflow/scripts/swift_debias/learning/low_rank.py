"""Low-rank updates of weight matrices (LoRA; Hu et al., ICLR 2022), merged back when training ends.

A weight W of a linear layer, or of a convolution of 1 x 1, is used as W + s B A with A (r, in) and
B (out, r); only these two are trained. B is 0 at the start, so that the network is what it was.
torch's parametrizations do the bookkeeping: `merge` leaves W + s B A as a plain weight under its
old name, so that a saved model has the architecture's own state-dict keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import UserError, setting

Place = tuple[nn.Module, str]  # a layer, and which of its weights


class LowRank(nn.Module):
    """The parametrization W -> W + scale * up @ down."""

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        """Draw `down` as torch draws a linear layer; `up` is 0.

        Args:
            weight: (out, in) or (out, in, 1, 1).
            rank: at most the smaller side is used, which is all that a matrix can have.
            scale: alpha / r of Hu et al.
            generator: on the CPU.
        """
        super().__init__()
        rows, columns = weight.flatten(1).shape
        rank = min(rank, rows, columns)
        down = torch.empty(rank, columns)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses, of the same shape."""
        return weight + self.scale * (self.up @ self.down).view(weight.shape)


def places(module: nn.Module) -> list[Place]:
    """The weights of a single layer that are matrices: linear, 1 x 1 convolution, attention.

    Those that are made of others (weight norm) are left out.
    """
    name = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
    small = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    matrix = small or isinstance(module, nn.Linear | nn.MultiheadAttention)
    return [(module, name)] if matrix and module._parameters.get(name) is not None else []


def refuse_tied(network: nn.Module, found: Iterable[Place]) -> None:
    """Refuse weights that two layers share: each would become another one's when merged."""
    owners = [
        (f"{at}.{name}", parameter)
        for at, module in network.named_modules()
        for name, parameter in module._parameters.items()
    ]
    for layer, name in found:
        weight = getattr(layer, name)
        shared = [full for full, parameter in owners if parameter is weight]
        if len(shared) > 1:
            raise UserError(
                f"peft: {shared[0]} and {shared[1]} are one weight, of which low-rank updates "
                f"would make two: take norm or bitfit ({setting('adapt')}), or give each a weight "
                "of its own"
            )


def attach(
    found: Iterable[Place], rank: int, scale: float, generator: torch.Generator
) -> list[nn.Parameter]:
    """Give weights a low-rank update; the weights are frozen. Returns what is to be trained."""
    trained: list[nn.Parameter] = []
    for layer, name in found:
        weight = getattr(layer, name).requires_grad_(False)
        update = LowRank(weight, rank, scale, generator)
        parametrize.register_parametrization(layer, name, update)
        trained += [update.down, update.up]
    return trained


def merge(found: Iterable[Place]) -> None:
    """Make the updated weights plain ones again, under their own names."""
    for layer, name in found:
        parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
