"""`swift-debias import-classifier`: from a checkpoint to what the configuration takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from ..config.base import explain
from ..config.schema import Backbone, Compute, Images
from ..errors import UserError
from ..files import remove, write_json, write_text
from . import (
    checkpoint_files,
    checkpoint_import,
    devices,
    makers,
    model_check,
    networks,
    reference_check,
    states,
    tensor_files,
)
from .checkpoint_files import Checkpoint
from .names import some
from .networks import Classifier


def run(
    checkpoint: Checkpoint,
    entry: Mapping[str, Any],
    images: Mapping[str, Any],
    out: Path,
    *,
    name: str = "mine",
    swap_classes: bool = False,
    paths: Sequence[Path] = (),
    scores: np.ndarray | None = None,
) -> Iterator[str]:
    """Import a checkpoint, compare its scores with the owner's, write; yields what to tell.

    Args:
        checkpoint: of the classifier.
        entry: keys of its backbone; without `dropout` it is the network's own.
        images: keys of `images`.
        out: folder to write into.
        name: of the backbone.
        swap_classes: its class 0 is class 1 here.
        paths, scores: images and what the owner's own program says of them, (n,).

    Raises:
        UserError: it does not fit its network, or scores otherwise; nothing is written.
    """
    try:
        known = {key: value for key, value in entry.items() if value is not None}
        backbone, pixels = Backbone(**known), Images(**_grey(entry, images))
    except ValidationError as error:
        raise UserError(explain(error)) from error
    loaded = load(
        checkpoint, backbone, own_dropout="dropout" not in known, swap_classes=swap_classes
    )
    refuse_other_end(loaded, len(pixels.mean), pixels.size)
    backbone, classifier, state, note = loaded
    yield from described(checkpoint, note)
    if scores is not None and classifier.classes > 2:
        raise UserError(
            f"--reference: compares the score of class 1, and {checkpoint.path} tells "
            f"{classifier.classes} classes apart: leave it out, and compare logits yourself"
        )
    if scores is None:
        yield "WARNING: without --reference nothing shows that images are prepared as in training"
    else:
        with model_check.told("--reference"):
            pixels = reference_check.with_bits(paths, pixels)
            reference = reference_check.Reference.of(scores)
            found = reference_check.check(classifier, paths, reference, pixels)
        yield f"{found.number} scores agree with the reference's, to {found.worst:.2g} at the most"
        if pixels.bits is not None:
            yield f"its 16-bit images are read as of {pixels.bits} bits (--bits)"
        yield from (f"WARNING: --reference: {weak}" for weak in reference.weakness())
    out.mkdir(parents=True, exist_ok=True)
    written = [out / file for file in ("classifier.safetensors", "import.json", "backbone.yaml")]
    remove(written)
    tensor_files.write(written[0], state)
    write_json(written[1], note)
    write_text(written[2], snippet(backbone, pixels, out, name, swap_classes))
    yield ", ".join(map(str, written))


class Loaded(NamedTuple):
    """A checkpoint's classifier.

    backbone: its entry, with the dropout that it has. classifier: in eval mode. state: its state
    dictionary. note: what the way back needs (`checkpoint_import`).
    """

    backbone: Backbone
    classifier: Classifier
    state: dict[str, Tensor]
    note: dict[str, Any]


def load(
    checkpoint: Checkpoint, backbone: Backbone, *, own_dropout: bool, swap_classes: bool = False
) -> Loaded:
    """A checkpoint as a classifier on the CPU.

    Args:
        checkpoint: of the classifier.
        backbone: its network.
        own_dropout: the dropout is the network's own, and not the entry's.
        swap_classes: its class 0 is class 1 here.

    Raises:
        UserError: it does not fit its network.
    """
    with model_check.told("the network"):
        if own_dropout:
            dropout = makers.make(backbone).dropout
            backbone = backbone.model_copy(update={"dropout": dropout})
        state, note = checkpoint_import.import_classifier(
            checkpoint, backbone, swap_classes=swap_classes
        )
        classifier = networks.build(backbone, 0, max(2, note["outputs"])).eval()
    states.fill(classifier, state, checkpoint.path, "does not fit")
    return Loaded(backbone, classifier, state, note)


def refuse_other_end(loaded: Loaded, channels: int, size: int) -> None:
    """Refuse a classifier that is another function than the network that its file is of.

    A network of one's own may do something with what its last layer gives, by the numbers of the
    file too, or return another layer's.

    Args:
        loaded: what `load` made of the file; its classifier is placed as in a job.
        channels, size: of the pictures that it is given.

    Raises:
        UserError: says what to do.
    """
    pictures = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    pictures = model_check.as_in_jobs(pictures)
    classifier = devices.place(loaded.classifier, pictures.device, Compute())
    with model_check.told(f"the network, {size} x {size} pixels"):
        model_check.last_layer(loaded.backbone, pictures, "the network", loaded.state)
        with torch.no_grad():
            classifier(pictures)


def described(checkpoint: Checkpoint, note: Mapping[str, Any]) -> Iterator[str]:
    """What was found in a checkpoint, and which of its tensors are not used."""
    place = f", {checkpoint_files.shown(note['place'])}" if checkpoint.others else ""
    yield (
        f"{checkpoint.path}{place}: {len(note['names'])} tensors of the extractor; last layer "
        f"{note['last_layer']} with {note['outputs']} output{'s' * (note['outputs'] > 1)}"
    )
    if note["unused"]:
        yield f"not used: {some(note['unused'])}"


def snippet(
    backbone: Backbone, images: Images, out: Path, name: str, swap_classes: bool = False
) -> str:
    """What a configuration takes, as YAML; `my_task` stands for the task's name."""
    entry = backbone.model_dump(mode="json", exclude_defaults=True) | {
        "baseline": str(out / "classifier.safetensors"),
        "dropout": backbone.dropout,
    }
    kept = images.model_dump(mode="json", exclude_defaults=True)
    kept |= {"size": images.size, "mean": list(images.mean), "std": list(images.std)}
    parts = {"backbones": {name: entry}, "tasks": {"my_task": {"images": kept}}}
    head = "# Made by swift-debias import-classifier: lay it on your configuration.\n"
    if swap_classes:
        head += "# The network's class 0 is class 1 here (--swap-classes).\n"
    return head + yaml.safe_dump(parts, sort_keys=False, default_flow_style=None)


def _grey(entry: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels of a network that takes one channel are grey, and have one mean."""
    if entry.get("channels", 3) == 3:
        return dict(images)
    for key in ("mean", "std"):
        if len(images.get(key, ())) != 1:
            raise UserError(f"--{key}: a network of one channel needs one number")
    return {**images, "channels": 1}
