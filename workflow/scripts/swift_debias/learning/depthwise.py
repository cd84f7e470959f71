"""Depthwise convolutions in bf16 on a CPU, with gradients that do not leave oneDNN's fast kernels.

Its bf16 backward of a depthwise convolution takes 2 to 100 times as long as a forward pass of the
same size, where it has no kernel of its own: for the gradient of the weights if a filter is wider
than three columns, and for that of the images if the stride is above 1. Both are put otherwise
here, as the same sums: so a training step of EfficientNet-B3 at 224 pixels takes a quarter less.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

WIDTH = 3  # columns of a filter for which there is a fast kernel

Pair = tuple[int, int]


class _Depthwise(torch.autograd.Function):
    """One filter of each channel; see `convolve`."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(images, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            _of_images(images, weight, gradient, ctx.stride, ctx.padding) if of_images else None,
            _of_weight(images, weight, gradient, ctx.stride, ctx.padding) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def is_known(images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any = 1) -> bool:
    """Whether `convolve` does a convolution; arguments as of `torch.conv2d`."""
    if isinstance(padding, str) or images.dim() != 4 or _pair(dilation) != (1, 1):
        return False
    pads = zip(_pair(padding), weight.shape[2:], strict=True)
    return len(weight) == images.shape[1] and all(pad < long for pad, long in pads)


def convolve(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any
) -> Tensor:
    """`torch.conv2d` with one filter a channel, (C, 1, kh, kw), of images (B, C, H, W).

    All are of one type. For speed the images' channels are last.
    """
    out: Tensor = _Depthwise.apply(images, weight, bias, _pair(stride), _pair(padding))
    return out


def _pair(value: Any) -> Pair:
    """Of rows and of columns."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _of_images(
    images: Tensor, weight: Tensor, gradient: Tensor, stride: Pair, padding: Pair
) -> Tensor:
    """A convolution of the gradient, its pixels `stride` apart, with the turned filters."""
    height, width = (
        side + 2 * pad - long + 1
        for side, pad, long in zip(images.shape[2:], padding, weight.shape[2:], strict=True)
    )
    if stride != (1, 1):
        apart = torch.empty(
            (*gradient.shape[:2], height, width),
            dtype=gradient.dtype,
            memory_format=torch.channels_last,
        ).zero_()
        apart[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = apart
    around = [long - 1 - pad for long, pad in zip(weight.shape[2:], padding, strict=True)]
    return torch.conv2d(gradient, weight.flip(2, 3), padding=around, groups=len(weight))


def _of_weight(
    images: Tensor, weight: Tensor, gradient: Tensor, stride: Pair, padding: Pair
) -> Tensor:
    """The gradient of some columns of the filters at a time, as of filters that have no others."""
    wide = weight.shape[3]
    if wide <= WIDTH:
        return _of_filters(images, weight, gradient, stride, padding)
    padded = functional.pad(images, (padding[1], padding[1]))
    covered = (gradient.shape[3] - 1) * stride[1]
    found = torch.empty_like(weight)
    for first in (*range(0, wide - WIDTH, WIDTH), wide - WIDTH):
        some = slice(first, first + WIDTH)
        seen = padded[:, :, :, first : first + covered + WIDTH]
        seen = seen.contiguous(memory_format=torch.channels_last)
        found[..., some] = _of_filters(seen, weight[..., some], gradient, stride, (padding[0], 0))
    return found


def _of_filters(
    images: Tensor, weight: Tensor, gradient: Tensor, stride: Pair, padding: Pair
) -> Tensor:
    """torch's own gradient of the weights."""
    _, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient,
        images,
        weight.contiguous(),
        None,
        stride,
        padding,
        (1, 1),
        False,
        (0, 0),
        len(weight),
        (False, True, False),
    )
    found: Tensor = of_weight
    return found
