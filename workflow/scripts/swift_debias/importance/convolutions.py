"""Per-sample weight gradients of convolutions, and the patches that they are made of.

Of one, two or three spatial dimensions. Elements of a gradient have the order (C_out, *kernel,
C_in): channels are fastest, as in the patches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to so many output positions (times elements of the kernel) a plain sum or matrix product beats
# the library's weight gradient on a CPU; from so many on, the library's gradients of single images
# beat products with their patches (64 channels, 56 x 56: 61 ms against 85). Measured, see
# `depthwise_gradients` and `rules.py`.
FEW_POSITIONS, FEW_PATCHES, MANY_POSITIONS = 64, 144, 784


class Geometry(NamedTuple):
    """How a convolution goes over its input; one number a spatial dimension.

    kernel_size, stride, padding (of zeros, on both sides), dilation; groups of channels.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def weight_gradient(
    geometry: Geometry, shape: Sequence[int], x: Tensor, g: Tensor, groups: int | None = None
) -> Tensor:
    """The library's weight gradient of a batch, of this shape (C_out, C_in / groups, *kernel)."""
    weight = g.new_empty(1).expand(*shape)  # its shape is all that is read
    _, stride, padding, dilation, own = geometry
    found = torch.ops.aten.convolution_backward(
        g,
        x,
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        [0],
        own if groups is None else groups,
        (False, True, False),
    )
    return found[1]


def grouped_gradients(geometry: Geometry, weight: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a grouped convolution, (B, number of elements).

    The samples are made groups of one large convolution, whose weight gradient is the library's.
    """
    b, c_out, *rest = len(x), *weight.shape
    x, g = (t.reshape(1, -1, *t.shape[2:]) for t in (x, g))
    gradients = weight_gradient(geometry, (b * c_out, *rest), x, g, b * geometry.groups)
    return gradients.view(b, c_out, *rest).movedim(2, -1).reshape(b, -1)


def single_gradients(geometry: Geometry, weight: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """The same by the library, image by image: on a CPU faster than as one large convolution."""
    pairs = zip(x.split(1), g.split(1), strict=True)
    rows = [weight_gradient(geometry, weight.shape, *pair) for pair in pairs]
    return torch.stack([row.movedim(1, -1).flatten() for row in rows])


def depthwise_gradients(geometry: Geometry, _weight: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a depthwise convolution, (B, C * kernel).

    Summed position by position: many times faster than the library on the small maps of the deep
    layers.
    """
    n = len(geometry.kernel_size)
    windows = _windows(geometry, x).movedim(0, n)  # (*out, B, *kernel, C)
    g = g.movedim(1, -1).movedim(0, n)  # (*out, B, C)
    *positions, b, c = g.shape
    out = g.new_zeros(b, *geometry.kernel_size, c)
    for at in itertools.product(*[range(size) for size in positions]):
        out.addcmul_(windows[at], g[at].view(b, *[1] * n, c))
    return out.movedim(-1, 1).reshape(b, -1)


def image_patches(geometry: Geometry, x: Tensor) -> Tensor:
    """What each output position sees: (B, positions, kernel * C_in), channels fastest."""
    if set(geometry.kernel_size) == {1} and not any(geometry.padding):
        some = (slice(None, None, step) for step in geometry.stride)
        return x[:, :, *some].flatten(2).transpose(1, 2)
    n = len(geometry.kernel_size)
    return _windows(geometry, x).flatten(n + 1).flatten(1, n)


def _windows(geometry: Geometry, x: Tensor) -> Tensor:
    """A view of what each output position sees: (B, *out, *kernel, C_in)."""
    kernel, stride, padding, dilation, _ = geometry
    sides = [side for p in reversed(padding) for side in (p, p)]
    x = F.pad(x.movedim(1, -1).contiguous(), (0, 0, *sides))
    b, *size, c = x.shape
    steps = x.stride()[1:-1]  # from one position to the next, in each dimension
    out = [
        (length - d * (k - 1) - 1) // s + 1
        for length, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    return x.as_strided(
        (b, *out, *kernel, c),
        (
            math.prod(size) * c,
            *(s * step for s, step in zip(stride, steps, strict=True)),
            *(d * step for d, step in zip(dilation, steps, strict=True)),
            1,
        ),
    )
