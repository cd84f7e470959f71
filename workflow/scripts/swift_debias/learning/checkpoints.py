"""Epoch-end states of a training, so that a killed job carries on."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import tensor_files
from .masked_optimizer import MaskedOptimizer

AnyOptimizer: TypeAlias = torch.optim.Optimizer | MaskedOptimizer


History: TypeAlias = list[dict[str, Any]]


class Checkpoints:
    """Epoch-end states of a job's training stages, so that a killed job carries on.

    A checkpoint is used only if its key and its precision equal the job's: the key stands for all
    the settings, code and inputs of the job; a machine of another kind may train in another
    precision. Everything is stored as safetensors with a JSON header. One that does not fit its
    digest is set aside as `<stage>.damaged`, and the stage begins anew.

    Attributes:
        precision: in which the job trains ("" where nobody said), see precision.py.
    """

    def __init__(self, folder: Path | None, key: str = "", every_seconds: float = 60.0) -> None:
        self.folder, self.key, self.every_seconds = folder, key, every_seconds
        self.precision = ""
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
        header = {"key": self.key, "precision": self.precision, "epoch": epoch}
        header |= {"history": history, "plain": plain}
        self.folder.mkdir(parents=True, exist_ok=True)
        tensor_files.write(self.folder / f"{stage}.safetensors", tensors, json.dumps(header))
        self._last = time.monotonic()

    def load(self, stage: str, module: nn.Module, optimizer: AnyOptimizer) -> tuple[int, History]:
        """Restore a stage; returns the epochs done and its history, (0, []) if there is none."""
        path = self.folder / f"{stage}.safetensors" if self.folder is not None else None
        if path is None or not path.is_file():
            return 0, []
        try:
            tensors = tensor_files.read(path)
            header = json.loads(tensor_files.read_note(path) or "")
        except UserError as error:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            print(
                f"{stage}: begins anew, since its checkpoint is damaged; it is kept as {aside} "
                f"({error})",
                file=sys.stderr,
                flush=True,
            )
            return 0, []
        if (header["key"], header.get("precision", "")) != (self.key, self.precision):
            return 0, []
        own = {k.removeprefix("module/"): v for k, v in tensors.items() if k.startswith("module/")}
        module.load_state_dict(own)
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                index, _, key = rest.partition("/")
                state.setdefault(int(index), {})[key] = value
        for name, plain in header["plain"].items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = plain
        # In the layout of the parameters, as it was: fused optimizers go through memory in order.
        inner = optimizer.optimizer if isinstance(optimizer, MaskedOptimizer) else optimizer
        parameters = [p for group in inner.param_groups for p in group["params"]]
        for number, entries in state.items():
            for name, entry in entries.items():
                if isinstance(entry, Tensor) and entry.shape == parameters[number].shape:
                    entries[name] = torch.empty_like(parameters[number].detach()).copy_(entry)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return header["epoch"], header["history"]

    def clear(self) -> None:
        """Remove them: the job's results are written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
