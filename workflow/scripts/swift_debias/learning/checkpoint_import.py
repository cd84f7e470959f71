"""A user's checkpoint as a classifier of the workflow, and the way back.

`import_classifier` finds the network's tensors among the checkpoint's (`names.py`) and folds two
outputs into one logit. It notes what it did, so that `export_classifier` can give debiased weights
back under the user's own names, in the user's own format. What was not trained keeps its bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.schema import Backbone
from ..errors import UserError
from . import checkpoint_files, hub_folders, networks, states
from .checkpoint_files import Checkpoint
from .last_layer import unfolded_rows
from .names import HEAD, Match, UnclearError, as_classifier
from .networks import Classifier
from .weight_files import digest


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
        UserError: the checkpoint is of another network, or has it in several places; see
            `names.match` and `hub_folders.check_pool`.
    """
    classifier = networks.build(backbone.model_copy(update={"weights": None}), seed=0)
    hub_folders.check_pool(checkpoint, classifier.extractor)
    wanted = classifier.extractor.state_dict()
    checkpoint = _of_network(checkpoint, classifier, backbone.head)
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


def _of_network(checkpoint: Checkpoint, classifier: Classifier, head: str | None) -> Checkpoint:
    """The place of a file where this network lies; where none is, the likely one.

    Raises:
        UserError: it lies in several, with other numbers; or holds numbers that are not finite.
    """
    if not checkpoint.others:
        return checkpoint
    every = [place._replace(others=()) for place in (checkpoint, *checkpoint.others)]
    fitting = [place for place in every if _holds(place, classifier, head)] or every[:1]
    if any(not _same(fitting[0].tensors, other.tensors) for other in fitting[1:]):
        places = [checkpoint_files.shown(place.place) for place in fitting]
        raise UserError(
            f"{checkpoint.path}: whole copies of this network lie under {', '.join(places)}: "
            f"choose one, such as --place {places[0]}"
        )
    checkpoint_files.refuse_odd(fitting[0])
    return fitting[0]


def _holds(checkpoint: Checkpoint, classifier: Classifier, head: str | None) -> bool:
    """Whether tensors are this network's, or several's of its kind."""
    if any(value.is_meta or value.is_nested for value in checkpoint.tensors.values()):
        return False  # no weights that can be looked at
    try:
        networks.match_classifier(checkpoint.tensors, classifier, checkpoint.path, head)
    except UnclearError:
        return True
    except UserError:
        return False
    return True


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two places hold the same tensors: one network is often saved under two keys."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name])
        for name, value in one.items()
    )


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


def new_tensors(
    note: Mapping[str, Any], original: Checkpoint, changed: Iterable[str], out: Path
) -> Iterator[str]:
    """What to tell of tensors that the file before has not: the network must be made for them."""
    for name in changed:
        if name not in original.tensors:
            yield (
                f"WARNING: your last layer {note['last_layer']} has no bias, and the debiased one "
                f"needs it: {name} is new; make that layer with bias=True before you load {out}"
            )


def write_exported(
    note: Mapping[str, Any], checkpoint: Path, weights: Path, out: Path
) -> Iterator[str]:
    """Export a classifier into a file, or folder, of the checkpoint's form; yields what to tell."""
    original = checkpoint_files.read(checkpoint, note["place"])
    tensors, changed = export_classifier(note, original, weights)
    checkpoint_files.write(original, tensors, out)
    yield f"{out}\n{len(changed)} tensors have changed"
    yield from new_tensors(note, original, changed, out)
