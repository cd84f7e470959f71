"""Tensors in a call's arguments, and functions of torch that call others."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors_in(given: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for value in given:
            yield from tensors_in(value)
    elif isinstance(given, dict):
        yield from tensors_in(list(given.values()))


def replaced(given: Any, tensors: Mapping[int, Tensor]) -> Any:
    """Arguments with other tensors in place of those with these ids."""
    if isinstance(given, Tensor):
        return tensors.get(id(given), given)
    if type(given) in (list, tuple):
        return type(given)(replaced(value, tensors) for value in given)
    if type(given) is dict:
        return {name: replaced(value, tensors) for name, value in given.items()}
    return given


def same_memory(view: Tensor) -> bool:
    """Whether a view is its base in another shape, element by element."""
    base = view._base
    return (
        base is not None
        and base.numel() == view.numel()
        and base.is_contiguous()
        and view.is_contiguous()
    )


def is_close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are the same up to rounding."""
    if not isinstance(one, Tensor) or one.shape != other.shape:
        return False
    if not other.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().mean()))


def is_openable(function: Callable[..., Any]) -> bool:
    """Whether it is Python code of torch that first asks who watches."""
    return (
        isinstance(function, types.FunctionType)
        and function.__module__ == "torch.nn.functional"
        and "handle_torch_function" in function.__code__.co_names
    )


def opened(function: types.FunctionType) -> types.FunctionType:
    """A copy that does not hand itself to the mode, so that the mode sees what it calls."""
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**function.__globals__, **{ask: lambda *_: False for ask in asks}}
    copy = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
