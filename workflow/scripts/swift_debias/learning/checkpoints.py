"""Epoch-end states of a training, so that a killed job carries on."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .masked_optimizer import MaskedOptimizer

AnyOptimizer: TypeAlias = torch.optim.Optimizer | MaskedOptimizer


History: TypeAlias = list[dict[str, Any]]


class Checkpoints:
    """Epoch-end states of a job's training stages, so that a killed job carries on.

    A checkpoint is used only if its key equals the job's: the key stands for all the settings, code
    and inputs of the job. Everything is stored as safetensors with a JSON header.
    """

    def __init__(self, folder: Path | None, key: str = "", every_seconds: float = 60.0) -> None:
        self.folder, self.key, self.every_seconds = folder, key, every_seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save again."""
        return self.folder is not None and time.monotonic() - self._last >= self.every_seconds

    def save(
        self, stage: str, epoch: int, module: nn.Module, optimizer: AnyOptimizer, history: History
    ) -> None:
        """Store a stage's state after `epoch` epochs, whole or not at all."""
        assert self.folder is not None
        tensors = {f"module/{name}": value for name, value in module.state_dict().items()}
        plain: dict[str, Any] = {}
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{name}"] = value
                else:
                    plain[f"{index}/{name}"] = value
        header = {"key": self.key, "epoch": epoch, "history": history, "plain": plain}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{stage}.safetensors"
        partial = path.with_suffix(".partial")
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(contiguous, partial, metadata={"state": json.dumps(header)})
        partial.replace(path)
        self._last = time.monotonic()

    def load(self, stage: str, module: nn.Module, optimizer: AnyOptimizer) -> tuple[int, History]:
        """Restore a stage; returns the epochs done and its history, (0, []) if there is none."""
        path = self.folder / f"{stage}.safetensors" if self.folder is not None else None
        if path is None or not path.is_file():
            return 0, []
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception:  # a damaged checkpoint is no checkpoint
            return 0, []
        if header["key"] != self.key:
            return 0, []
        own = {k.removeprefix("module/"): v for k, v in tensors.items() if k.startswith("module/")}
        module.load_state_dict(own)
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                index, _, entry = rest.partition("/")
                state.setdefault(int(index), {})[entry] = value
        for name, value in header["plain"].items():
            index, _, entry = name.partition("/")
            state.setdefault(int(index), {})[entry] = value
        # In the layout of the parameters, as it was: fused optimizers go through memory in order.
        inner = optimizer.optimizer if isinstance(optimizer, MaskedOptimizer) else optimizer
        parameters = [p for group in inner.param_groups for p in group["params"]]
        for index, entries in state.items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameters[index].shape:
                    entries[name] = torch.empty_like(parameters[index].detach()).copy_(value)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return header["epoch"], header["history"]

    def clear(self) -> None:
        """Remove them: the job's results are written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
