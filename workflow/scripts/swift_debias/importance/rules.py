"""How per-sample gradients of a function's parameters are formed of its input and output gradient.

One class a function of torch (or a kind of them). It takes the function's own arguments, so that
binding them is Python's work, and says which of them are parameters. A new kind is a class here and
its entry in `RULES`; functions without an entry are served too where their parameters can be given
a batch axis (see watching.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

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

# Where the samples are among a tensor's rows: each one's rows follow one another ("first"), or
# neighbours are of different samples ("last", as in sequences of shape (T, B, D)).
Place: TypeAlias = Literal["first", "last"]
# Numbers that stay in a core's cache while they are added to.
IN_CACHE = 1 << 17
Parameters: TypeAlias = dict[str, Tensor | None]
Sinks: TypeAlias = Mapping[str, Sink]


class Rule:
    """A call of a function with parameters.

    Attributes:
        x: its input, without its graph.
        parameters: argument's name -> tensor.
        features: number of last dimensions that are one row's features; None: all but the first.
    """

    features: int | None = None
    channels_fastest = False  # the order of a weight's elements: see convolutions.py

    def __init__(self, x: Tensor, **parameters: Tensor | None) -> None:
        """Called by each rule's own, whose arguments are the function's."""
        self.x, self.parameters = x.detach(), parameters

    @property
    def serves(self) -> bool:
        """Whether it can serve this call at all."""
        return True

    def place(self, g: Tensor, samples: int, seen: int) -> Place | None:
        """Where the samples are, shown by the gradient of the logit of one of them alone.

        Args:
            g: that gradient of the output.
            samples: how many there are.
            seen: which one's logit it is.
        """
        rows = g.shape[:1] if self.features is None else g.shape[: g.dim() - self.features]
        touched = (g.abs() > 0).flatten(len(rows)).any(-1).flatten()
        others = [i for i in range(samples) if i != seen]
        if rows[0] % samples == 0 and not touched.view(samples, -1)[others].any():
            return "first"
        if self.features is None or rows[-1] % samples:
            return None
        return None if touched.view(-1, samples)[:, others].any() else "last"

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Add gradients of the samples' logits.

        Args:
            g: gradient of the output.
            samples: B.
            place: where they are.
            sinks: parameter's argument name -> where its gradients go; not all are wanted.
            work: memory.
        """
        raise NotImplementedError

    def by_sample(self, t: Tensor, samples: int, place: Place) -> Tensor:
        """(B, rows of a sample, features)."""
        if self.features is None:  # (R, C, ...)
            return _channel_sums(t).view(samples, -1, t.shape[1])
        flat = t.flatten(-self.features)
        if place == "first":
            return flat.reshape(samples, -1, flat.shape[-1])
        return flat.reshape(-1, samples, flat.shape[-1]).transpose(0, 1)


class Linear(Rule):
    """y = x W^T + b."""

    features = 1

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

    def place(self, g: Tensor, samples: int, seen: int) -> Place | None:
        """One image a sample: of several the sum would have to be squared."""
        return super().place(g, samples, seen) if len(g) == samples else None

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Patches times gradients, in the way that is fastest for the layer; sums for the bias."""
        if sink := sinks.get("weight"):
            self._add_weight(sink, g, work)
        if sink := sinks.get("bias"):
            add_rows(sink, _channel_sums(g))

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


class BatchNorm(Rule):
    """y = gamma (x - mean) / sqrt(var + eps) + beta with fixed mean and variance."""

    def __init__(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        """The arguments of `F.batch_norm`."""
        super().__init__(input, weight=weight, bias=bias)
        self.mean, self.variance, self.eps = running_mean, running_var, eps
        self.training = training

    @property
    def serves(self) -> bool:
        """Statistics of the batch would make a sample's logit depend on the others."""
        return not self.training and self.mean is not None and self.variance is not None

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Sums over the positions of a channel."""
        assert self.mean is not None and self.variance is not None
        beta = _channel_sums(g)
        if sink := sinks.get("weight"):
            product = _channel_sums(g * self.x)
            gamma = (product - self.mean * beta) * (self.variance + self.eps).rsqrt()
            add_rows(sink, _folded(gamma, samples))
        if sink := sinks.get("bias"):
            add_rows(sink, _folded(beta, samples))


class Norm(Rule):
    """y = w normalized(x) + b, normalized within a sample."""

    normalized: Callable[[Tensor], Tensor]

    def add(self, g: Tensor, samples: int, place: Place, sinks: Sinks, work: Workspace) -> None:
        """Sums over the positions that share a weight."""
        if sink := sinks.get("weight"):
            product = self.normalized(self.x).mul_(g)
            add_rows(sink, self.by_sample(product, samples, place).sum(1))
        if sink := sinks.get("bias"):
            add_rows(sink, self.by_sample(g, samples, place).sum(1))


class LayerNorm(Norm):
    """Over the last dimensions."""

    def __init__(
        self,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        cudnn_enable: bool = True,
    ) -> None:
        """The arguments of `F.layer_norm` and `torch.layer_norm`."""
        super().__init__(input, weight=weight, bias=bias)
        self.features = len(normalized_shape)
        self.normalized = lambda x: F.layer_norm(x, list(normalized_shape), eps=eps)

    @property
    def serves(self) -> bool:
        """A batch."""
        return self.features is not None and self.x.dim() > self.features


class RmsNorm(LayerNorm):
    """Over the last dimensions, by the root of the mean square."""

    def __init__(
        self,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        eps: float | None = None,
    ) -> None:
        """The arguments of `F.rms_norm`."""
        super().__init__(input, normalized_shape, weight)
        self.normalized = lambda x: F.rms_norm(x, list(normalized_shape), eps=eps)


class GroupNorm(Norm):
    """Over groups of channels."""

    def __init__(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        cudnn_enabled: bool = True,
    ) -> None:
        """The arguments of `F.group_norm` and `torch.group_norm`."""
        super().__init__(input, weight=weight, bias=bias)
        self.normalized = lambda x: F.group_norm(x, num_groups, eps=eps)


class InstanceNorm(Norm):
    """Over the positions of each channel, or with fixed statistics."""

    def __init__(
        self,
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        """The arguments of `F.instance_norm`."""
        super().__init__(input, weight=weight, bias=bias)
        # With the input's own statistics the running ones are only updated.
        mean, variance = (None, None) if use_input_stats else (running_mean, running_var)
        self.normalized = lambda x: F.instance_norm(
            x, mean, variance, use_input_stats=use_input_stats, eps=eps
        )


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
            rows = _folded(_channel_sums(self.x.clamp(max=0) * g), samples)
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


def _channel_sums(t: Tensor) -> Tensor:
    """Sums over the positions: (R, C, ...) -> (R, C)."""
    return t.sum(tuple(range(2, t.dim()))) if t.dim() > 2 else t


def _folded(rows: Tensor, samples: int) -> Tensor:
    """Sums over the rows of each sample: (R, N) -> (B, N)."""
    return rows if len(rows) == samples else rows.view(samples, -1, rows.shape[1]).sum(1)
