"""Depthwise convolutions by other sums than torch's: the same values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from swift_debias.config.schema import Compute
from swift_debias.learning import depthwise
from swift_debias.learning.precision import autocast

CHANNELS = 5
SHAPES = [
    (kernel, stride, padding)
    for kernel in ((3, 3), (5, 5), (7, 7), (4, 4), (3, 5), (5, 3), (1, 6), (6, 1), (1, 1))
    for stride in (1, 2, (2, 1), 3)
    for padding in {0, tuple(side // 2 for side in kernel), tuple(side - 1 for side in kernel)}
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), SHAPES)
def test_values_and_gradients_are_torchs(kernel: Any, stride: Any, padding: Any) -> None:
    """In float64, of images whose sides a stride does not divide."""
    torch.manual_seed(0)
    shapes = (2, CHANNELS, 12, 11), (CHANNELS, 1, *kernel), (CHANNELS,)
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    right = torch.conv2d(*given, stride, padding, groups=CHANNELS)
    found = depthwise.convolve(*given, stride, padding)
    assert depthwise.is_known(*given[:2], stride, padding)
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(right)
    for ours, torchs in zip(
        torch.autograd.grad(found, given, direction),
        torch.autograd.grad(right, given, direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", range(3))
def test_only_what_is_trained_gets_a_gradient(frozen: int) -> None:
    torch.manual_seed(0)
    shapes = (2, CHANNELS, 9, 9), (CHANNELS, 1, 5, 5), (CHANNELS,)
    given = [torch.randn(shape).requires_grad_(at != frozen) for at, shape in enumerate(shapes)]
    depthwise.convolve(*given, 1, 2).sum().backward()
    assert [value.grad is None for value in given] == [at == frozen for at in range(3)]


@pytest.mark.parametrize(
    "odd",
    [
        {"dilation": 2},
        {"padding": "same"},
        {"padding": 3},  # as wide as the filters: all that is seen at an edge is padding
        {"out_channels": 2 * CHANNELS},
    ],
)
def test_others_are_left_to_torch_in_fp32(odd: dict[str, Any]) -> None:
    torch.manual_seed(0)
    shape = {"in_channels": CHANNELS, "out_channels": CHANNELS, "kernel_size": 3}
    layer = nn.Conv2d(**{**shape, "groups": CHANNELS, **odd})
    images = torch.randn(2, CHANNELS, 9, 9)
    assert not depthwise.is_known(images, layer.weight, layer.stride, layer.padding, layer.dilation)
    with autocast(torch.device("cpu"), Compute(precision="bf16")):
        found = layer(images)
    torch.testing.assert_close(found, layer(images).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_under_autocast_it_is_as_near_as_bf16_is(kernel: int, stride: int) -> None:
    """Beside float64, with the weights' gradients in the type of the weights."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8)
    images = torch.randn(4, 8, 15, 15)
    with autocast(torch.device("cpu"), Compute(precision="bf16")):
        out = layer(images)
    out.float().square().mean().backward()
    found = {name: value.grad for name, value in layer.named_parameters()}
    layer.zero_grad()
    layer.double()(images.double()).square().mean().backward()
    assert out.dtype == torch.bfloat16
    for name, value in layer.named_parameters():
        assert found[name] is not None and found[name].dtype == torch.float32
        torch.testing.assert_close(
            found[name].double(), value.grad, rtol=0.03, atol=0.02 * float(value.grad.abs().max())
        )
