"""Importances in files: one safetensors file a fold, read objective by objective.

Of a network of `HALF_FROM` weights or more their roots are stored as fp16, each tensor times the
factor that makes its largest 2^15, without an error. Masks are made of ratios to a tensor's
largest: 11 bits of each root, and 80 powers of two of the importance, are enough for masks that
differ by less than a thousandth. Importances in bf16 have 8 bits, and move masks by up to four.
"""

from __future__ import annotations

import json
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


HALF_FROM = 1 << 20  # smaller networks' files are no burden


def save(importance: Importance, path: Path) -> None:
    """Write one safetensors file, keys "<objective>/<parameter>", whole or not at all."""
    tensors: dict[str, Tensor] = {}
    factors: dict[str, float] = {}
    for objective, values in importance.items():
        large = sum(value.numel() for value in values.values()) >= HALF_FROM
        for name, value in values.items():
            key = f"{objective}/{name}"
            if large:
                tensors[key], factors[key] = halved(value)
            else:
                tensors[key] = value
    tensor_files.write(path, tensors, json.dumps(factors) if factors else None)


def halved(values: Tensor) -> tuple[Tensor, float]:
    """Roots as fp16, times a factor; and the factor."""
    roots = values.double().sqrt()  # double: the factor may be too large for fp32
    largest = float(roots.max())
    factor = 2.0**15 / largest if largest else 1.0
    return (roots * factor).half(), factor


class Stored(Mapping[str, dict[str, Tensor]]):
    """What `save` wrote. An objective is read when asked for: a method needs two of many, once.

    None is kept, since a mask is soon made of them, and a training's memory is needed after that.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Open the file; tensors will be on the device.

        Raises:
            UserError: it is missing or damaged. It is read once for that: a second a gigabyte.
        """
        check(path)
        self.path, self.device = path, str(device)
        self.factors: dict[str, float] = json.loads(tensor_files.read_note(path) or "{}")
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
        found = {}
        with safe_open(self.path, framework="pt", device=self.device) as file:
            for key in self.keys_of[objective]:
                value, name = file.get_tensor(key), key.rpartition("/")[2]
                if key in self.factors:
                    value = (value.double() / self.factors[key]).square().float()
                found[name] = value
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def __len__(self) -> int:
        return len(self.keys_of)
