"""A user's checkpoint as a classifier of the workflow, and the way back.

`import_classifier` finds the network's tensors among the checkpoint's (`names.py`) and folds two
outputs into one logit. It notes what it did, so that `export_classifier` can give debiased weights
back under the user's own names, in the user's own format. What was not trained keeps its bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.schema import Backbone
from ..errors import UserError
from . import checkpoint_files, networks, states
from .checkpoint_files import Checkpoint
from .last_layer import unfolded_rows
from .names import HEAD, Match, as_classifier
from .weight_files import digest


def architecture_of(checkpoint: Checkpoint) -> str:
    """The network that a folder's `config.json` names.

    Raises:
        UserError: it names none that this project builds.
    """
    if name := checkpoint.config.get("architecture"):
        return f"timm:{name}"
    if found := checkpoint.config.get("architectures"):
        raise UserError(
            f"{checkpoint.path.parent} is a folder of transformers ({found[0]}): give "
            "--architecture module:function, a function of yours that returns this network and "
            "whose forward gives the logits"
        )
    raise UserError("--architecture: which network is it? A name, or module:function")


def preprocessing_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Keys of `images` that a timm folder's `config.json` knows."""
    known = checkpoint.config.get("pretrained_cfg") or {}
    found: dict[str, Any] = {}
    if known.get("input_size"):
        found["size"] = known["input_size"][-1]
    found |= {key: known[key] for key in ("mean", "std", "interpolation") if known.get(key)}
    if known.get("crop_pct"):
        found["crop_share"] = known["crop_pct"]
    return found


def import_classifier(
    checkpoint: Checkpoint, backbone: Backbone, *, swap_classes: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint as the state dictionary of a `Classifier`.

    Args:
        checkpoint: as `checkpoint_files.read` gave it.
        backbone: the network that it is of; `head` is the checkpoint's name of the last layer.
        swap_classes: its class 0 is the workflow's class 1.

    Returns:
        The state dictionary, float32; and what `export_classifier` needs to know.

    Raises:
        UserError: the checkpoint is of another network; see `names.match`.
    """
    classifier = networks.build(backbone.model_copy(update={"weights": None}), seed=0)
    wanted = classifier.extractor.state_dict()
    found = networks.match_classifier(
        checkpoint.tensors, classifier, checkpoint.path, backbone.head
    )
    state = _imported(checkpoint.tensors, wanted, found, swap_classes, checkpoint.path)
    note = {
        "checkpoint": checkpoint.path.name,
        "sha256": digest(checkpoint.path),
        "place": list(map(str, checkpoint.place)),
        "backbone": backbone.model_dump(mode="json", exclude={"weights", "baseline"}),
        "names": found.names,
        "last_layer": found.head,
        "outputs": found.outputs,
        "unused": list(found.unused),
        "swap_classes": swap_classes,
    }
    return state, note


def _imported(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    found: Match,
    swap_classes: bool,
    path: Path,
) -> dict[str, Tensor]:
    real = {
        n: value.float() if value.is_floating_point() else value for n, value in tensors.items()
    }
    state = as_classifier(real, wanted, found, path, classes=None)
    if swap_classes and found.outputs > 2:
        raise UserError(
            f"--swap-classes: is for two classes, and {path} has {found.outputs} outputs; name the "
            "task's classes in their order"
        )
    if swap_classes:
        state |= {n: -value for n, value in state.items() if n.startswith(f"{HEAD}.")}
    return state


def export_classifier(
    note: Mapping[str, Any], original: Checkpoint, weights: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Debiased weights under the names and types that the user's checkpoint has.

    Args:
        note: what `import_classifier` noted.
        original: the user's checkpoint, unchanged since.
        weights: a classifier of the workflow, `model.safetensors`.

    Returns:
        All tensors of the checkpoint, and the names of those that have changed.

    Raises:
        UserError: the checkpoint is another one, or the weights are of another network.
    """
    if digest(original.path) != note["sha256"]:
        raise UserError(f"{original.path} is not the file that was imported: its SHA-256 differs")
    trained = _trained(note, weights)
    tensors, layer, swap = dict(original.tensors), note["last_layer"], note["swap_classes"]
    changed = []
    for name, theirs in note["names"].items():
        before, now = tensors[theirs], trained[f"extractor.{name}"]
        if before.shape != now.shape:
            raise UserError(f"{weights} is of another network: {name} is {tuple(now.shape)}")
        if not torch.equal(before.to(now.dtype), now):
            tensors[theirs] = now.to(before.dtype)
            changed.append(theirs)
    for part in ("weight", "bias"):
        theirs, now = f"{layer}.{part}", trained[f"{HEAD}.{part}"]
        now = -now if swap else now
        if theirs not in tensors and not now.any():
            continue  # a last layer without a bias, and none was trained
        weight = tensors[f"{layer}.weight"]
        before = tensors.get(theirs, weight.new_zeros(len(weight)))
        after = unfolded_rows(before, now)
        if theirs not in tensors or not torch.equal(before, after):
            tensors[theirs] = after
            changed.append(theirs)
    return tensors, changed


def _trained(note: Mapping[str, Any], weights: Path) -> dict[str, Tensor]:
    """A run's classifier without pruning masks; only for those its network is built.

    Raises:
        UserError: it is of another network than was imported.
    """
    state = states.read_state(weights)
    if any(name.endswith(f".{networks.UNIT_MASK}") for name in state):
        classifier = networks.load(weights, Backbone(**note["backbone"]))
        state = networks.without_masks(dict(classifier.state_dict()), classifier)
    wanted = {f"extractor.{name}" for name in note["names"]} | {f"{HEAD}.weight", f"{HEAD}.bias"}
    if missing := sorted(wanted - set(state)):
        raise UserError(f"{weights} is of another network: it has no {missing[:3]}")
    return state


def write_exported(
    note: Mapping[str, Any], checkpoint: Path, weights: Path, out: Path
) -> list[str]:
    """Export a classifier into a file, or folder, of the checkpoint's form; what has changed."""
    original = checkpoint_files.read(checkpoint)
    tensors, changed = export_classifier(note, original, weights)
    checkpoint_files.write(original, tensors, out)
    return changed
