"""Which file of weights a classifier was made of, by its SHA-256: what a report can be held to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ..config.schema import Backbone
from .networks import IMAGENET_WEIGHTS, import_torchvision


def source(backbone: Backbone, own: str | Path | None) -> dict[str, str | None]:
    """What a Baseline was made of; ask in the job that has just read the file.

    Args:
        backbone: the network.
        own: the file of the whole classifier, where the config names one.

    Returns:
        kind: "baseline" (a whole classifier), "weights" (an extractor), "imagenet" or "random".
        file: its path as the config has it; of torchvision's own files the name. sha256: of the
        file. Both are null where there is no file.
    """
    if own is not None:
        return {"kind": "baseline", "file": str(own), "sha256": digest(Path(own))}
    if backbone.weights == "imagenet":
        found = imagenet_file(backbone.architecture)
        known = digest(found) if found.is_file() else None
        return {"kind": "imagenet", "file": found.name, "sha256": known}
    if backbone.weights is not None:
        path = Path(backbone.weights)
        return {"kind": "weights", "file": backbone.weights, "sha256": digest(path)}
    return {"kind": "random", "file": None, "sha256": None}


def imagenet_file(architecture: str) -> Path:
    """Where torchvision keeps the weights that it has downloaded."""
    weights = import_torchvision().models.get_model_weights(architecture)
    url = weights[IMAGENET_WEIGHTS[architecture]].url
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
