"""What a rule is: how per-sample gradients of one function's parameters are formed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from torch import Tensor

from .products import Sink, Workspace

# Where the samples are among a tensor's rows: each one's rows follow one another ("first"), or
# neighbours are of different samples ("last", as in sequences of shape (T, B, D)).
Place: TypeAlias = Literal["first", "last"]
Parameters: TypeAlias = dict[str, Tensor | None]
Sinks: TypeAlias = Mapping[str, Sink]


class Rule:
    """A call of a function with parameters.

    Attributes:
        x: its input, without its graph.
        parameters: argument's name -> tensor.
        features: number of last dimensions that are one row's features; None: all but the first.
        channels_fastest: the order of a weight's elements is that of convolutions.py.
        contiguous: whether the call is to be given its input in one piece.
    """

    features: int | None = None
    channels_fastest = False
    contiguous = False

    def __init__(self, x: Tensor, **parameters: Tensor | None) -> None:
        """Called by each rule's own, whose arguments are the function's."""
        self.x, self.parameters = x.detach(), parameters

    @property
    def serves(self) -> bool:
        """Whether it can serve this call at all."""
        return True

    def places(self, g: Tensor, samples: int, seen: int) -> set[Place]:
        """Where the samples can be, by the gradient of the logit of one of them alone.

        Args:
            g: that gradient of the output.
            samples: how many there are.
            seen: which one's logit it is.
        """
        rows = g.shape[:1] if self.features is None else g.shape[: g.dim() - self.features]
        touched = (g.abs() > 0).flatten(len(rows)).any(-1).flatten()
        others = [i for i in range(samples) if i != seen]
        found: set[Place] = set()
        if rows[0] % samples == 0 and not touched.view(samples, -1)[others].any():
            found.add("first")
        if self.features is None or rows[-1] % samples or len(touched) == samples:
            return found  # with one row a sample first and last are the same
        if not touched.view(-1, samples)[:, others].any():
            found.add("last")
        return found

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
            return channel_sums(t).view(samples, -1, t.shape[1])
        flat = t.flatten(-self.features)
        if place == "first":
            return flat.reshape(samples, -1, flat.shape[-1])
        return flat.reshape(-1, samples, flat.shape[-1]).transpose(0, 1)


def channel_sums(t: Tensor) -> Tensor:
    """Sums over the positions: (R, C, ...) -> (R, C)."""
    return t.sum(tuple(range(2, t.dim()))) if t.dim() > 2 else t


def folded(rows: Tensor, samples: int) -> Tensor:
    """Sums over the rows of each sample: (R, N) -> (B, N)."""
    return rows if len(rows) == samples else rows.view(samples, -1, rows.shape[1]).sum(1)
