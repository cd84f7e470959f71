"""Which file of weights a classifier was made of, by its SHA-256: what a report can be held to."""

from __future__ import annotations

from pathlib import Path

from ..config.schema import Backbone
from .architectures import library_of
from .makers import optional
from .torchvision_names import WEIGHTS
from .weight_files import PUBLISHED, digest, folder, lite0, present


def source(backbone: Backbone, own: str | Path | None) -> dict[str, str | None]:
    """What a Baseline was made of; ask in the job that has just read the file.

    Args:
        backbone: the network.
        own: the file of the whole classifier, where the config names one.

    Returns:
        kind: "baseline" (a whole classifier), "weights" (an extractor), "imagenet" or
        "pretrained" (published ones), or "random".
        file: its path as the config has it; of published files the name. sha256: of the
        file. Both are null where there is no file.
    """
    if own is not None:
        return {"kind": "baseline", "file": str(own), "sha256": digest(Path(own))}
    if backbone.weights in PUBLISHED:
        found = file_of(backbone)
        known = digest(found) if found.is_file() else None
        return {"kind": backbone.weights, "file": found.name, "sha256": known}
    if backbone.weights is not None:
        path = Path(backbone.weights)
        return {"kind": "weights", "file": backbone.weights, "sha256": digest(path)}
    return {"kind": "random", "file": None, "sha256": None}


def file_of(backbone: Backbone) -> Path:
    """Where the published weights of a network lie, or would lie."""
    library, name = library_of(backbone.architecture)
    if library == "lite0":
        return lite0()
    file = f"timm-{name}.safetensors"
    if library == "torchvision":
        file = WEIGHTS[name]
    elif library == "xrv":
        urls = optional("torchxrayvision", "xrv").models.model_urls
        file = Path(urls[name]["weights_url"]).name
    return present(file) or folder() / file
