"""How images lie in memory when a user's own network gets them.

Jobs hand over images, and place weights, in channels_last. Code that relies on rows, such as
`x.view(len(x), -1)` after a convolution, runs for its owner and fails so. Such a network gets its
images and weights in rows instead; every other one gets what it always got.

`watch` is called once where a user's network is taken (makers.py, wrapped.py). What is decided is
decided at the first pass after the weights were placed, on a copy: the pass itself sees nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Layout:
    """Forward pre-hook of a network: hands it images as it can take them.

    An object, so that a deep copy of the network has what was decided.

    Attributes:
        in_rows: whether images and weights have to lie in rows; None: not decided.
    """

    def __init__(self) -> None:
        self.in_rows: bool | None = None

    def __call__(self, network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The inputs as the network can take them."""
        if not inputs or not isinstance(inputs[0], Tensor):
            return None
        if self.in_rows is None:
            self.decide(network, inputs[0])
        return (as_rows(inputs[0]), *inputs[1:]) if self.in_rows else None

    def decide(self, network: nn.Module, images: Tensor) -> None:
        """Try the network; where it needs rows, its weights are laid so, in place."""
        self.in_rows = _needs_rows(network, images)
        if self.in_rows:
            _lay_in_rows(network)


def watch(network: nn.Module) -> RemovableHandle | None:
    """Have a network get its images as it can take them; None: it does, or it takes no hook."""
    if _layout_of(network) is not None or isinstance(network, torch.jit.ScriptModule):
        return None
    return network.register_forward_pre_hook(Layout(), prepend=True)


def placed(module: nn.Module) -> None:
    """To be called where weights were laid anew: networks that need rows have theirs again.

    What was found of others is forgotten, for it was found with weights that lay otherwise.
    """
    for network, layout in _watched(module):
        if layout.in_rows:
            _lay_in_rows(network)
        else:
            layout.in_rows = None


def settle(module: nn.Module, images: Callable[[], Tensor]) -> None:
    """Decide now what is not decided yet; `images` makes a few, and is called only then."""
    for network, layout in _watched(module):
        if layout.in_rows is None:
            layout.decide(network, images())


def as_rows(tensor: Tensor) -> Tensor:
    """The tensor with the last dimension's elements side by side, and no stride of another kind.

    `contiguous` leaves one of a single channel as it is, which a convolution takes for
    channels_last all the same.
    """
    if tensor.stride() == torch.empty(tensor.shape, device="meta").stride():
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _watched(module: nn.Module) -> Iterator[tuple[nn.Module, Layout]]:
    """The networks in a module that `watch` was called for."""
    for network in module.modules():
        if (layout := _layout_of(network)) is not None:
            yield network, layout


def _layout_of(network: nn.Module) -> Layout | None:
    hooks = network._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, Layout)), None)


@torch.no_grad()  # so that nobody who watches a network's parameters sees it (watching.py)
def _lay_in_rows(network: nn.Module) -> None:
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = as_rows(tensor.data)


def _needs_rows(network: nn.Module, images: Tensor) -> bool:
    """Whether it fails with images and weights as they lie, and runs with both in rows."""
    few = images[:2].detach().clone()  # a network may change what it is given
    cards = [images.device] if images.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cards):
        for training in (False, True):
            if not _runs(network, few, training) and _runs(network, few, training, in_rows=True):
                return True
    return False


def _runs(network: nn.Module, images: Tensor, training: bool, in_rows: bool = False) -> bool:
    """Whether a copy of the network takes images; its hooks are somebody's, and are left out."""
    try:
        tried = copy.deepcopy(network).train(training)
        for part in tried.modules():
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        if in_rows:
            _lay_in_rows(tried)
            images = as_rows(images)
        tried(images)
    except Exception:  # anybody's code
        return False
    return True
