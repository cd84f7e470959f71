"""Files of trained classifiers as people have them, read and written back in their own form.

.safetensors; .pth, .pt, .ckpt and .bin of torch.save, of which nothing but tensors and plain values
is unpickled (`weights_only`); and folders as timm and the Hugging Face hub have them.
"""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import tarfile
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError, of_job
from ..files import atomic_path, remove
from . import tensor_files
from .finite import refuse_not_finite

FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.bin")
CLEARED = (*FILES, "rule.json")  # what would be read beside new weights, of an earlier call
STATES = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)  # where people keep it, the likely first

Key: TypeAlias = Hashable  # of what torch.save wrote, which may be a number too
Place: TypeAlias = tuple[Key, ...]
_TOP: Place = ()


class Checkpoint(NamedTuple):
    """A file of weights.

    path: the file. tensors: by name, as they are there. place: the keys under which they lie in
    what was saved. config: `config.json` of a folder. others: what else there is in the file, the
    likely first; `checkpoint_import` chooses by the network.
    """

    path: Path
    tensors: dict[str, Tensor]
    place: Place
    config: dict[str, Any]
    others: tuple[Checkpoint, ...] = ()


def read(path: Path, place: Sequence[str] | None = None) -> Checkpoint:
    """Read a checkpoint; nothing of it is run.

    Args:
        path: a file, or a folder with one of `FILES`.
        place: the keys, as text, under which the weights lie; None: all places with tensors.

    Raises:
        UserError: it is not there, holds more than weights, has nothing in that place, or, where it
            has one place alone, numbers that are not finite.
    """
    config: dict[str, Any] = {}
    if path.is_dir():
        config = _json(path / "config.json")
        file = next((path / name for name in FILES if (path / name).is_file()), None)
        if file is None:
            raise UserError(f"{path}: none of {', '.join(FILES)} is in this folder")
        path = file
    if not path.is_file():
        raise UserError(f"no file {path}")
    if path.suffix == ".safetensors":
        if place:
            raise UserError(f"--place: {path} has no keys around its weights; leave it out")
        found = [Checkpoint(path, tensor_files.read(path, own=True), _TOP, config)]
    else:
        saved = _states(_unpickled(path), path)
        found = [
            Checkpoint(path, tensors, keys, config) for keys, tensors in _in(place, saved, path)
        ]
    if len(found) == 1:
        refuse_odd(found[0])
    return found[0]._replace(others=tuple(found[1:]))


def write(original: Checkpoint, tensors: Mapping[str, Tensor], out: Path) -> None:
    """Write other tensors in the form of a checkpoint that was read, all else as it is there.

    Weights of an earlier call in the same folder, and a rule of decisions, are removed.

    Args:
        original: what was read.
        tensors: by the same names.
        out: a file; where the original lies in a folder with `config.json`, a folder.
    """
    if original.config:
        out.mkdir(parents=True, exist_ok=True)
        remove(out / name for name in CLEARED)
        for file in original.path.parent.glob("*.json"):
            shutil.copy(file, out / file.name)
        out = out / original.path.name
    out.parent.mkdir(parents=True, exist_ok=True)
    if original.path.suffix == ".safetensors":
        with safe_open(original.path, framework="numpy") as file:
            metadata = {k: v for k, v in (file.metadata() or {}).items() if k != "swift_digest"}
        with atomic_path(out) as partial:
            save_file({n: v.contiguous() for n, v in tensors.items()}, partial, metadata or None)
        return
    saved = _unpickled(original.path)
    state = saved
    for key in original.place:
        state = state[key]
    state.update(tensors)
    with atomic_path(out) as partial:
        torch.save(saved, partial)


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, if it is tensors and plain values."""
    if not _is_of_torch(path):
        raise UserError(
            f"{path} is no PyTorch file, or its first bytes are damaged: give what torch.save("
            "model.state_dict(), 'weights.pth') writes, or a .safetensors file"
        )
    try:
        with warnings.catch_warnings():  # of TorchScript torch warns before it refuses it
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of damaged bytes almost any, from the archive or the unpickler
        text = str(error)
        if "TorchScript" in text or "torch.jit" in text:
            why = (
                "is TorchScript, a program, and none is run unasked: save "
                "torch.jit.load(file).state_dict(); or score it as it is, where you trust it: "
                "swift_debias.predict_proba(torch.jit.load(file), images)"
            )
        elif "Unsupported operand" in text:  # no opcode of protocol 2
            why = (
                "cannot be read, it is damaged or was saved with another pickle_protocol than "
                "torch.save's own, 2: save it again without"
            )
        elif isinstance(error, pickle.UnpicklingError):
            why = (
                "holds more than weights, and unpickling that would run code; in the environment "
                "that it was made in: torch.save(model.state_dict(), 'weights.pth')"
            )
        else:
            said = " ".join(text.split())[:200] or type(error).__name__
            why = f"cannot be read, it is damaged or of another kind: {said}"
        raise UserError(f"{path} {why}") from error


def _is_of_torch(path: Path) -> bool:
    """Whether a file begins as torch.save begins one: as an archive, or with its old magic number.

    torch itself takes any other bytes for a pickle, and says that it would run code.
    """
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError:
        return True  # torch.load says why
    magic = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")
    return first.startswith(b"PK") or magic in first or tarfile.is_tarfile(path)


def refuse_odd(checkpoint: Checkpoint) -> None:
    """Refuse tensors that hold no numbers, or numbers that are not finite."""
    tensors, path = checkpoint.tensors, checkpoint.path
    for name, value in tensors.items():
        if value.is_meta or value.is_nested:
            kind = "meta" if value.is_meta else "nested"
            raise UserError(f"{path}: {name} is a {kind} tensor: save weights as plain ones")
    try:
        with of_job(str(path)):
            refuse_not_finite(tensors)
    except (RuntimeError, TypeError) as error:  # of a kind that cannot be added up
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not all weights are plain tensors: {said}") from error


def _states(saved: Any, path: Path) -> dict[Place, dict[str, Tensor]]:
    """The state dictionaries in what was saved, by their keys: those with most tensors first."""
    found = dict(_mappings(saved, _TOP))
    if not found:
        raise UserError(f"{path} holds no tensors by name, but a {type(saved).__name__}")

    def rank(place: Place) -> tuple[int, int]:
        likely = STATES.index(str(place[-1])) if place and place[-1] in STATES else len(STATES)
        return -len(found[place]), likely

    return {place: found[place] for place in sorted(found, key=rank)}


def _in(
    place: Sequence[str] | None, found: Mapping[Place, dict[str, Tensor]], path: Path
) -> list[tuple[Place, dict[str, Tensor]]]:
    """All state dictionaries, or the one in a place."""
    chosen = [(p, t) for p, t in found.items() if place is None or list(map(str, p)) == [*place]]
    if not chosen:
        raise UserError(
            f"--place: {path} has no weights under {shown(place or ())}; there are some under "
            f"{', '.join(map(shown, found))}"
        )
    return chosen[:1] if place is not None else chosen


def shown(place: Sequence[Key]) -> str:
    """Keys as `--place` takes them, in words."""
    return shlex.join(map(str, place)) or "no key at all"


def _mappings(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Tensor]]]:
    """What has tensors by name, at most two keys deep: an optimizer's state has no names."""
    if not isinstance(value, Mapping):
        return
    tensors = {
        key: held
        for key, held in value.items()
        if isinstance(key, str) and isinstance(held, Tensor)
    }
    if tensors:
        yield place, tensors
    if len(place) < 2:
        for key, held in value.items():
            yield from _mappings(held, (*place, key))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {path}: the folder of a network has one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}
