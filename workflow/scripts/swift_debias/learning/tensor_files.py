"""Tensors in safetensors files, with the digest of files.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError
from ..files import BLANK, MARK, METADATA_KEY, atomic_path, check, seal


def write(path: Path, tensors: Mapping[str, Tensor], note: str | None = None) -> None:
    """Write tensors, whole or not at all; `note` is a text that stands in the header.

    The file's permissions follow the umask, as those of all other files do: the library's own are
    for the owner alone.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode
        # one key: the order of several would change from process to process
        mark = f"{MARK}{BLANK}{'' if note is None else ' ' + note}"
        save_file(contiguous, partial, metadata={METADATA_KEY: mark})
        partial.chmod(mode)
        seal(partial)


def read(path: Path, *, own: bool = False) -> dict[str, Tensor]:
    """All tensors by name, on the CPU.

    Args:
        path: the file.
        own: a user's, which need not have a digest.

    Raises:
        UserError: the file is missing, damaged, or no safetensors file.
    """
    check(path, own=own)
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own, unexported, error type
        raise UserError(f"{path} is not a safetensors file ({error})") from error


def read_note(path: Path) -> str | None:
    """The text that was written with the tensors."""
    with safe_open(path, framework="numpy") as file:
        mark = (file.metadata() or {}).get(METADATA_KEY, "")
    return mark[len(MARK + BLANK) + 1 :] or None
