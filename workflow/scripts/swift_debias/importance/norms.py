"""Rules of normalizations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from .products import Workspace, add_rows
from .rule import Place, Rule, Sinks, channel_sums, folded


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
        beta = channel_sums(g)
        if sink := sinks.get("weight"):
            product = channel_sums(g * self.x)
            gamma = (product - self.mean * beta) * (self.variance + self.eps).rsqrt()
            add_rows(sink, folded(gamma, samples))
        if sink := sinks.get("bias"):
            add_rows(sink, folded(beta, samples))


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
