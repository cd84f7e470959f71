"""State dictionaries of networks: read, checked, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import UserError, of_job
from . import tensor_files
from .finite import refuse_not_finite


def read_state(path: Path, *, own: bool = False) -> dict[str, Tensor]:
    """The tensors of a network's file by name, on the CPU; every number in them is finite.

    Args:
        path: a safetensors file.
        own: a user's, which need not have a digest.

    Raises:
        UserError: the file is missing or damaged, or holds numbers that are not finite.
    """
    if not path.is_file():
        raise UserError(f"no weights file {path}")
    state = tensor_files.read(path, own=own)
    with of_job(str(path)):
        refuse_not_finite(state)
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load a state dictionary that has the module's own names and shapes, and real numbers.

    torch alone would turn integers into weights without a word.

    Args:
        module: changed in place.
        state: its weights and buffers by name.
        path: of the file, for messages.
        what: the beginning of a message.

    Raises:
        UserError: names the first tensor that is missing, unknown, or of another shape or kind.
    """
    for name, wanted in module.state_dict().items():
        if wanted.is_floating_point() and name in state and not state[name].is_floating_point():
            raise UserError(f"{path}: {what}: {name} holds {state[name].dtype}, not real numbers")
    try:
        missing, foreign = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(f"{path}: {what}: {lines[min(1, len(lines) - 1)]}") from error
    if missing:
        raise UserError(f"{path}: {what}: no weights for {len(missing)} tensors, {missing[:3]}")
    if foreign:
        raise UserError(f"{path}: {what}: {len(foreign)} unknown tensors, {foreign[:3]}")
