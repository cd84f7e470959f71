"""How per-sample gradients of a function's parameters are formed of its input and output gradient.

One class a function of torch (or a kind of them). It takes the function's own arguments, so that
binding them is Python's work, and says which of them are parameters. A new kind is a class here and
its entry in `RULES`; functions without an entry are served too where their parameters can be given
a batch axis (see watching.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolutions import (
    FEW_PATCHES,
    FEW_POSITIONS,
    MANY_POSITIONS,
    Geometry,
    depthwise_gradients,
    grouped_gradients,
    image_patches,
    single_gradients,
    weight_gradient,
)
from .norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm
from .products import (
    Sink,
    Workspace,
    add_batch_products,
    add_blocks,
    add_outer_products,
    add_parts,
    add_products,
    add_rows,
    slices,
)
from .rule import Place, Rule, Sinks, channel_sums, folded

# Numbers that stay in a core's cache while they are added to.
IN_CACHE = 1 << 17


class Linear(Rule):
    """y = x W^T + b.

    Of an input in pieces, such as a sequence (T, B, D) that is a view of (B, T, D), torch makes T
    products, each with a copy of a weight that requires no gradient: ViT-B/16 at 64 pixels took 2.3
    forward-backward passes instead of 1.4.
    """

    features = 1
    contiguous = True

    def __init__(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        """The arguments of `F.linear`."""
        super().__init__(input, weight=weight, bias=bias)

    @property
    def serves(self) -> bool:
        """A batch of rows, and a matrix."""
        weight = self.parameters["weight"]
        return self.x.dim() > 1 and weight is not None and weight.dim() == 2

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Outer products, summed over the rows of a sample."""
        g = self.by_sample(g, samples, place)
        if sink := sinks.get("weight"):
            add_products(sink, work, self.by_sample(self.x, samples, place), g)
        if sink := sinks.get("bias"):
            add_rows(sink, g.sum(1))


class Convolution(Rule):
    """One, two or three spatial dimensions; grouped and depthwise too."""

    channels_fastest = True

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> None:
        """The arguments of `F.conv1d` to `F.conv3d`."""
        kernel = tuple(weight.shape[2:])
        n = len(kernel)
        stride, dilation = _each(stride, n), _each(dilation, n)
        super().__init__(input, weight=weight, bias=bias)
        self.weight = weight.detach()
        if padding == "same":  # of an even kernel: one more zero behind than before
            lacking = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
            sides = [side for p in reversed(lacking) for side in (p // 2, p - p // 2)]
            self.x = F.pad(self.x, sides)
        sizes = _each(0 if isinstance(padding, str) else padding, n)
        self.geometry = Geometry(kernel, stride, sizes, dilation, groups)

    @property
    def serves(self) -> bool:
        """A batch of images."""
        return self.x.dim() == self.weight.dim()

    def places(self, g: Tensor, samples: int, seen: int) -> set[Place]:
        """One image a sample: of several the sum would have to be squared."""
        return super().places(g, samples, seen) if len(g) == samples else set()

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Patches times gradients, in the way that is fastest for the layer; sums for the bias."""
        if sink := sinks.get("weight"):
            self._add_weight(sink, g, work)
        if sink := sinks.get("bias"):
            add_rows(sink, channel_sums(g))

    def _add_weight(self, sink: Sink, g: Tensor, work: Workspace) -> None:
        x, how = self.x, self.geometry
        positions, kernel = g[0, 0].numel(), math.prod(how.kernel_size)
        if how.groups > 1 or x.shape[1] == g.shape[1] == 1:
            self._add_grouped(sink, g, work)
        elif positions == 1 and not sink.apart:
            add_outer_products(sink, image_patches(how, x).flatten(1), g.flatten(1))
        elif kernel > 1 and positions >= MANY_POSITIONS and not work.on_gpu:
            add_parts(sink, self._parts(single_gradients, g, work.samples))
        elif sink.one_by_one or work.on_gpu or (kernel == 1 and positions > FEW_PATCHES):
            parts = slices(len(x), work.step(positions, self.weight[0].numel()))
            add_blocks(
                sink, work, ((at, image_patches(how, x[at]), g[at].flatten(2)) for at in parts)
            )
        elif positions * kernel <= FEW_PATCHES:
            add_batch_products(sink, image_patches(how, x), g.flatten(2).transpose(1, 2))
        else:
            self._add_batch(sink, g)

    def _add_grouped(self, sink: Sink, g: Tensor, work: Workspace) -> None:
        """Grouped and depthwise.

        For 32 images of 28 x 28, 192 channels, a kernel of 7 x 7: image by image by the library 132
        ms, as one large convolution 344 ms, the whole batch at once 88 ms.
        """
        depthwise = self.geometry.groups == self.x.shape[1] == g.shape[1]
        positions = g[0, 0].numel()
        if work.on_gpu:
            # It reads as much as for the whole batch's gradient, which is in every backward pass.
            # Reasoned; its time was not measured.
            step = work.step(positions, self.weight[0].numel())
            add_parts(sink, self._parts(grouped_gradients, g, step))
        elif depthwise and positions <= FEW_POSITIONS:
            step = min(max(IN_CACHE // self.weight.numel(), 1), work.samples)
            add_parts(sink, self._parts(depthwise_gradients, g, step))
        elif sink.one_by_one or positions > FEW_POSITIONS:
            add_parts(sink, self._parts(single_gradients, g, work.samples))
        else:
            self._add_batch(sink, g)

    def _add_batch(self, sink: Sink, g: Tensor) -> None:
        """The library's weight gradient, for the mini-batch alone."""
        each = [factors.view(-1, *[1] * (g.dim() - 1)) for factors in sink.factors]
        shape, how = self.weight.shape, self.geometry
        rows = [weight_gradient(how, shape, self.x, g * factors) for factors in each]
        sink.take(torch.stack([row.movedim(1, -1).flatten() for row in rows]))

    def _parts(
        self,
        gradients: Callable[[Geometry, Tensor, Tensor, Tensor], Tensor],
        g: Tensor,
        step: int,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Per-sample gradients (b, number of elements), of a few samples at a time."""
        for at in slices(len(g), step):
            yield at, gradients(self.geometry, self.weight, self.x[at], g[at])


class Embedding(Rule):
    """Rows of a table, chosen by the samples' own numbers."""

    features = 1

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        """The arguments of `F.embedding`."""
        super().__init__(input, weight=weight)
        self.shape, self.padding = weight.shape, padding_idx
        self.plain = max_norm is None and not scale_grad_by_freq

    @property
    def serves(self) -> bool:
        """What it does to its table besides reading is left to torch."""
        return self.plain

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Output gradients, added up in the rows that were read."""
        if sink := sinks.get("weight"):
            rows = self.by_sample(self.x[..., None], samples, place)[..., 0]
            rows = rows + torch.arange(samples, device=rows.device)[:, None] * self.shape[0]
            g = self.by_sample(g, samples, place)
            found = g.new_zeros(samples * self.shape[0], self.shape[1])
            found.index_add_(0, rows.flatten(), g.flatten(0, 1))
            found = found.view(samples, *self.shape)
            if self.padding is not None:
                found[:, self.padding] = 0
            add_rows(sink, found.flatten(1))


class PRelu(Rule):
    """x where it is positive, else a x."""

    def __init__(self, input: Tensor, weight: Tensor) -> None:
        """The arguments of `F.prelu`."""
        super().__init__(input, weight=weight)
        self.shared = weight.numel() == 1

    @property
    def serves(self) -> bool:
        """A batch."""
        return self.x.dim() > 1

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Sums over the positions of a channel, or over all."""
        if sink := sinks.get("weight"):
            rows = folded(channel_sums(self.x.clamp(max=0) * g), samples)
            add_rows(sink, rows.sum(1, keepdim=True) if self.shared else rows)


RULES: dict[Callable[..., Any], Callable[..., Rule]] = {
    F.linear: Linear,
    torch.conv1d: Convolution,
    torch.conv2d: Convolution,
    torch.conv3d: Convolution,
    F.batch_norm: BatchNorm,
    F.layer_norm: LayerNorm,
    torch.layer_norm: LayerNorm,
    F.rms_norm: RmsNorm,
    F.group_norm: GroupNorm,
    torch.group_norm: GroupNorm,
    F.instance_norm: InstanceNorm,
    F.embedding: Embedding,
    torch.prelu: PRelu,
}


def bind(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Rule | None:
    """The rule of a call; None if there is none."""
    make = RULES.get(function)
    if make is None:
        return None
    try:
        rule = make(*args, **kwargs)
    except TypeError:  # arguments that the rule does not know
        return None
    return rule if rule.serves else None


def _each(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """One number a spatial dimension."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values
