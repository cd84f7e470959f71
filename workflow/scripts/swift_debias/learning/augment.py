"""Augmentation and normalization, batched on the device.

The paper's augmentation is random flipping, random transpose and z-score normalization
(Section 4.2). Flips and the transpose of a square image generate the dihedral group: eight views.
A view is a number 0..7 whose bits say: 1 = flip left-right, 2 = flip up-down, 4 = transpose.
Because the set is finite, the features of a frozen extractor can be computed once for all views.

torchvision's transforms draw one flip for a whole batch; here each image has its own.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ..config.schema import Augmentation
from ..data.normalization import IMAGENET, Normalization


def views(augmentation: Augmentation) -> tuple[int, ...]:
    """The finite set of views that the augmentation can make; always contains 0, the original."""
    flips: tuple[int, ...] = (0, 1, 2, 3) if augmentation.flips else (0,)
    if augmentation.flips == "horizontal":
        flips = (0, 1)
    return flips + tuple(view + 4 for view in flips) if augmentation.transpose else flips


def draw_views(n: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """One uniformly drawn view for each of n images, int64 (n,), on the CPU."""
    choices = torch.tensor(views(augmentation))
    return choices[torch.randint(len(choices), (n,), generator=generator)]


def apply_views(images: Tensor, view: Tensor) -> Tensor:
    """Each image in its view.

    Args:
        images: (B, C, H, H), any dtype; square, since a transpose must keep the shape.
        view: int64 (B,), values 0..7, on the CPU.

    Returns:
        A new tensor of the same shape and dtype.
    """
    out = torch.empty_like(images)
    for code in torch.unique(view).tolist():
        index = torch.nonzero(view == code).squeeze(1).to(images.device, non_blocking=True)
        out[index] = apply_view(images[index], code)
    return out


def apply_view(images: Tensor, view: int) -> Tensor:
    """All images in one view: transpose first, then the flips."""
    if view & 4:
        images = images.transpose(-2, -1)
    dimensions = [d for bit, d in ((1, -1), (2, -2)) if view & bit]
    return images.flip(dimensions) if dimensions else images


def normalize(images: Tensor, normalization: Normalization = IMAGENET) -> Tensor:
    """uint8 (B, 1 or C, H, W) -> float32 (B, C, H, W), z-scored, with C means.

    A grey image is repeated in the C channels.
    """
    mean, std = _statistics(normalization, images.device)
    return (images.expand(-1, len(normalization.mean), -1, -1).float() - mean) / std


@functools.cache
def _statistics(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1, C, 1, 1) on [0, 255], sent to the device once."""
    # kept, so not of the type that happens to be the caller's default now
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1) * 255
        for values in normalization
    )
    return mean, std
