"""What a network's forward pass does that no method can work with, asked of a few images.

A forward that draws says something else each time; one that mixes images scores each by its
neighbours in the batch; one that cuts the gradient lets nothing but the last layer be trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

MIXES = (
    "the network's score of an image depends on the images beside it in the batch (BatchNorm "
    "without running statistics, .train() or a mean over the batch in its forward?)"
)
HEAD_ALONE = "a method that trains the last layer alone (LLFT, DFR)"


def asked(model: nn.Module, images: Tensor, seed: int = 0) -> Any:
    """What a network says of images, which it may change in place; its draws are of the seed."""
    with torch.no_grad(), torch.random.fork_rng(_cards(images)):
        torch.manual_seed(seed)
        return model(images.clone())


def draws_by_chance(model: nn.Module, images: Tensor) -> bool:
    """Whether a network in eval mode says something else when it is asked again."""
    first, again = (asked(model, images, seed) for seed in (0, 1))
    if not (isinstance(first, Tensor) and isinstance(again, Tensor)):
        return False
    return first.shape != again.shape or not _same(first, again)


def mixes_images(model: nn.Module, images: Tensor) -> bool:
    """Whether a network in eval mode says something else of an image beside another one.

    Batches are equally large and the image has the same place in them: torch then computes it by
    the same steps, of any precision, which it does not of an image alone and in a batch. Where it
    says two things of one batch, nothing is found.

    Args:
        model: in eval mode.
        images: a few; of fewer than two nothing is found.
    """
    if len(images) < 2:
        return False
    other = images.flip(-1) / 2
    beside = (torch.cat([images[:1], other[1:]]), torch.cat([other[:-1], images[-1:]]))
    outputs = [asked(model, batch) for batch in (images, images, *beside)]
    if not all(isinstance(o, Tensor) and o.dim() and len(o) == len(images) for o in outputs):
        return False
    together, again, first, last = outputs
    kept = _same(together[0], first[0]) and _same(together[-1], last[-1])
    return not kept and _same(together, again)


def refuse_mixing(model: nn.Module, images: Tensor) -> None:
    """Refuse a network in eval mode that scores an image by its neighbours.

    Raises:
        UserError: it does.
    """
    if mixes_images(model, images):
        raise UserError(f"{MIXES}: let it treat each image by itself")


def refuse_without_gradient(extractor: nn.Module, images: Tensor) -> None:
    """Refuse an extractor of which a training would change nothing.

    Args:
        extractor: images -> features; its modes and flags are restored.
        images: a few that it takes.

    Raises:
        UserError: nothing before the last layer gets a gradient; says what to do.
    """
    if not any(True for _ in extractor.parameters()):
        raise UserError(f"the network has no weights before its last layer: take {HEAD_ALONE}")
    with trainable(extractor), torch.enable_grad(), torch.random.fork_rng(_cards(images)):
        followed = extractor.eval()(images.clone()).requires_grad
        asked(extractor, images)  # what keeps something of a pass keeps no graph: it is copied
    if not followed:
        raise UserError(
            "the network's forward runs its extractor without gradients (torch.no_grad or "
            f"detach): take that out, or take {HEAD_ALONE}"
        )


@contextlib.contextmanager
def trainable(module: nn.Module) -> Iterator[None]:
    """All weights want a gradient, as in a training, whoever froze them; flags, modes restored."""
    before = [(weight, weight.requires_grad) for weight in module.parameters()]
    modes = [(part, part.training) for part in module.modules()]
    module.requires_grad_(True)
    try:
        yield
    finally:
        for weight, wanted in before:
            weight.requires_grad_(wanted)
        for part, mode in modes:
            part.training = mode


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def _cards(images: Tensor) -> list[torch.device]:
    return [images.device] if images.device.type == "cuda" else []
