"""In which precision a training computes: bf16 autocast where it pays, else fp32.

Weights, updates, losses, importances and scores are fp32 always; a head on precomputed features is
trained in fp32 too. `auto` is decided once for a job, from facts alone: the device, the CPU's flags
and the images' size. A timed probe could say one thing in one job and another in the next. What was
decided stands in cost.json, and a checkpoint of another precision is not carried on.

On a GPU: bf16 where the card has it. On a CPU: bf16 where it has the units (without them bf16 is
half as fast) and the images have at least `ENOUGH_PIXELS` a side. Measured, a training step in fp32
over one in bf16: at 224 pixels 2.4 (ResNet-50) and 2.2 (DenseNet-121) on a Xeon with AMX; 1.8, 1.7
and 1.9 (EfficientNet-B3) on an EPYC without; on that Xeon, before `depthwise.py`, at 128 pixels 1.3
to 2.3, at 64 pixels 1.7 and 1.0 (EfficientNets), at 32 pixels 0.7 to 1.25, a loss for half of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..config.schema import Compute
from . import depthwise

ENOUGH_PIXELS = 128  # a side
UNITS = ("avx512_bf16", "amx_bf16")  # flags of a CPU that multiplies bf16 fast


def decide(compute: Compute, device: torch.device, side: int) -> Compute:
    """The settings with "auto" replaced by what it means for images of so many pixels a side."""
    if compute.precision != "auto":
        return compute
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = side >= ENOUGH_PIXELS and has_units()
    return compute.model_copy(update={"precision": "bf16" if fast else "fp32"})


def has_units() -> bool:
    """Whether this CPU multiplies bf16 numbers faster than fp32 ones."""
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(flags.get(unit, False) for unit in UNITS)


@contextlib.contextmanager
def autocast(device: torch.device, compute: Compute) -> Iterator[None]:
    """The arithmetic of a training's forward pass; undecided, it is that of small images."""
    if decide(compute, device, side=0).precision == "fp32":
        yield
        return
    detours = Detours() if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16), detours:
        yield


class Detours(TorchFunctionMode):
    """Ways around what is slow under a CPU's autocast while gradients are recorded.

    *Depthwise convolutions* have gradients of their own (`depthwise.py`); those that are not known
    there stay fp32, which is less slow than bf16. What comes out is bf16 as of any other
    convolution: else all up to the next one, which moves memory more than it computes, would be
    fp32.

    *The mean of all pixels* is taken by `avg_pool2d`, not by `adaptive_avg_pool2d`, whose gradient
    has its channels first: to add that to another gradient takes 7 % of a step of EfficientNet-B3.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each call of its functions."""
        kwargs = kwargs or {}
        if torch.is_grad_enabled():
            if function is torch.conv2d:
                return _convolve(*args, **kwargs)
            if function is functional.adaptive_avg_pool2d and _is_mean(args, kwargs):
                images = args[0] if args else kwargs["input"]
                return functional.avg_pool2d(images, images.shape[-2:])
        return function(*args, **kwargs)


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`, with detours for a filter of each channel."""
    if groups == 1 or weight.shape[1] > 1:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if depthwise.is_known(input, weight, stride, padding, dilation):
        half = None if bias is None else bias.bfloat16()
        return depthwise.convolve(input.bfloat16(), weight.bfloat16(), half, stride, padding)
    with torch.autocast("cpu", enabled=False):
        single = None if bias is None else bias.float()
        full = input.float(), weight.float(), single
        return torch.conv2d(*full, stride, padding, dilation, groups).bfloat16()


def _is_mean(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of `adaptive_avg_pool2d` leaves one pixel."""
    side = args[1] if len(args) > 1 else kwargs["output_size"]
    return side in (1, (1, 1), [1, 1])
