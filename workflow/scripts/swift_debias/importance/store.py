"""Importances in files: one safetensors file a fold, read objective by objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import UserError, nearest
from ..files import check
from ..learning import tensor_files

# objective -> parameter name -> importance, of the parameter's shape
Importance: TypeAlias = dict[str, dict[str, Tensor]]


def save(importance: Importance, path: Path) -> None:
    """Write one safetensors file, keys "<objective>/<parameter>", whole or not at all."""
    tensors = {
        f"{objective}/{name}": value
        for objective, values in importance.items()
        for name, value in values.items()
    }
    tensor_files.write(path, tensors)


class Stored(Mapping[str, dict[str, Tensor]]):
    """What `save` wrote. An objective is read when first asked for: a method needs two of many."""

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Open the file; tensors will be on the device.

        Raises:
            UserError: it is missing or damaged. It is read once for that: a second a gigabyte.
        """
        check(path)
        self.path, self.device = path, str(device)
        self.found: Importance = {}
        with safe_open(path, framework="pt") as file:
            self.keys_of: dict[str, list[str]] = {}
            for key in file.keys():  # noqa: SIM118 (no mapping)
                self.keys_of.setdefault(key.rpartition("/")[0], []).append(key)

    def __getitem__(self, objective: str) -> dict[str, Tensor]:
        """Parameter name -> importance.

        Raises:
            UserError: no such objective; says which there are.
        """
        if objective not in self.keys_of:
            raise UserError(
                f"{self.path}: no importance {objective!r}{nearest(objective, self.keys_of)}"
            )
        if objective not in self.found:
            with safe_open(self.path, framework="pt", device=self.device) as file:
                self.found[objective] = {
                    key.rpartition("/")[2]: file.get_tensor(key) for key in self.keys_of[objective]
                }
        return self.found[objective]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def __len__(self) -> int:
        return len(self.keys_of)
