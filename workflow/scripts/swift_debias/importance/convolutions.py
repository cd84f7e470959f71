"""Per-sample weight gradients of convolutions, and the patches that they are made of."""

from __future__ import annotations

import itertools
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

# Below so many output positions (times elements of the kernel) a plain sum or matrix product beats
# the library's weight gradient on a CPU: measured, see `_depthwise_gradients` and `_convolution`.
FEW_POSITIONS, FEW_PATCHES = 64, 144


def grouped_gradients(module: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a grouped convolution, (B, C_out * h * w * C_in / groups).

    The samples are made groups of one large convolution, whose weight gradient is the library's.
    """
    b, c_out, c_in, h, w = len(x), *module.weight.shape
    gradients = conv2d_weight(
        x.reshape(1, -1, *x.shape[2:]),
        (b * c_out, c_in, h, w),
        g.reshape(1, -1, *g.shape[2:]),
        module.stride,
        module.padding,
        module.dilation,
        b * module.groups,
    )
    return gradients.view(b, c_out, c_in, h, w).permute(0, 1, 3, 4, 2).reshape(b, -1)


def depthwise_gradients(module: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a depthwise convolution, (B, C * h * w).

    The products are summed over whichever is fewer, positions or (nearly) elements of the kernel;
    many times faster than the library on the small maps of the deep layers.
    """
    windows, g = _windows(module, x), g.permute(0, 2, 3, 1)  # (B, y, x, h, w, C), (B, y, x, C)
    b, height, width, h, w, c = windows.shape
    out = g.new_zeros(b, h, w, c)
    if height * width <= FEW_POSITIONS:
        for i, j in itertools.product(range(height), range(width)):
            out.addcmul_(windows[:, i, j], g[:, i, j, None, None])
    else:
        for i, j in itertools.product(range(h), range(w)):
            torch.sum(windows[:, :, :, i, j] * g, (1, 2), out=out[:, i, j])
    return out.permute(0, 3, 1, 2).reshape(b, -1)


def image_patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    """What each output position sees: (B, positions, h * w * C_in), channels fastest."""
    if module.kernel_size == (1, 1) and not any(module.padding):
        return x[:, :, :: module.stride[0], :: module.stride[1]].flatten(2).transpose(1, 2)
    return _windows(module, x).flatten(3).flatten(1, 2)


def _windows(module: nn.Conv2d, x: Tensor) -> Tensor:
    """A view of what each output position sees: (B, out y, out x, h, w, C_in)."""
    (h, w), (dy, dx), (sy, sx) = module.kernel_size, module.dilation, module.stride
    py, px = cast(tuple[int, int], module.padding)  # not a string: see `_plainly_padded`
    x = F.pad(x.permute(0, 2, 3, 1).contiguous(), (0, 0, px, px, py, py))
    b, height, width, c = x.shape
    out_h = (height - dy * (h - 1) - 1) // sy + 1
    out_w = (width - dx * (w - 1) - 1) // sx + 1
    row, pixel = width * c, c
    return x.as_strided(
        (b, out_h, out_w, h, w, c),
        (height * row, sy * row, sx * pixel, dy * row, dx * pixel, 1),
    )
