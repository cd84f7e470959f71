"""Classifiers: an extractor (images -> pooled features) and a head (features -> logits).

Of two classes the head gives one logit, that of class 1; of C > 2 classes it gives C.

`makers.py` makes the extractor of any architecture. Weights are safetensors. A user's file may hold
a whole classifier in the user's own names, with one output or two: `names.py` finds what is what.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..config.schema import Backbone
from ..errors import UserError, of_job, setting
from . import tensor_files
from .finite import refuse_not_finite
from .last_layer import modules_of
from .makers import import_torchvision, make
from .names import HEAD, Match, as_classifier, is_classifier, match
from .states import fill, read_state
from .weight_files import PUBLISHED

UNIT_MASK = "unit_mask"


class Head(nn.Sequential):
    """Dropout and one linear layer: (B, D) features -> (B,) logits, or (B, C). No sigmoid."""

    def __init__(self, features: int, dropout: float, classes: int = 2) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(features, outputs_of(classes)))

    @property
    def linear(self) -> nn.Linear:
        """The last layer: weight (1, D) or (C, D), bias (1,) or (C,)."""
        return cast(nn.Linear, self[1])

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B,); of more than two classes (B, C)."""
        logits = super().forward(features)
        return logits.squeeze(-1) if self.linear.out_features == 1 else logits


class Classifier(nn.Module):
    """Extractor and head; `forward`: float32 images (B, C, H, W) -> logits (B,) or (B, classes)."""

    def __init__(
        self, extractor: nn.Module, features: int, dropout: float, classes: int = 2
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = Head(features, dropout, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of class 1, shape (B,); of more than two classes those of all, (B, C)."""
        return self.head(self.extractor(images))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.linear.weight.device

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return max(2, self.head.linear.out_features)


def outputs_of(classes: int) -> int:
    """Outputs of a head: one logit for two classes, which is all that a softmax of two sees."""
    return 1 if classes == 2 else classes


def build(backbone: Backbone, seed: int, classes: int = 2) -> Classifier:
    """A new classifier; everything that is not loaded is drawn from `seed`.

    Raises:
        UserError: unknown architecture or option, or weights that do not fit it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = make(backbone)
        classifier = Classifier(made.extractor, made.features, backbone.dropout, classes)
    if backbone.weights is not None and backbone.weights not in PUBLISHED:
        _load_extractor(classifier, Path(backbone.weights))
    return classifier


def _load_extractor(classifier: Classifier, path: Path) -> None:
    """Extractor weights from a safetensors file, with or without the prefix `extractor.`."""
    state = {n.removeprefix("extractor."): v for n, v in read_state(path, own=True).items()}
    left = _of_heads(state, classifier)
    kept = {name: value for name, value in state.items() if name not in left}
    fill(classifier.extractor, kept, path, "the weights do not fit the architecture")


def _of_heads(state: Mapping[str, Tensor], classifier: Classifier) -> list[str]:
    """The tensors of an extractor's file that are of the layers behind it."""
    wanted = classifier.extractor.state_dict()
    heads = ("head.", "heads.", "fc.", "classifier.")
    return [name for name in state if name not in wanted and name.startswith(heads)]


def left_of_weights(path: Path, classifier: Classifier) -> tuple[str, ...]:
    """Which tensors of `weights:`, a user's file, the extractor does not take."""
    state = {n.removeprefix("extractor."): v for n, v in read_state(path, own=True).items()}
    return tuple(_of_heads(state, classifier))


def _outputs(state: dict[str, Tensor]) -> int:
    """Outputs of the head in a state dictionary of a `Classifier`; 0 where it is of another net."""
    return len(state[f"{HEAD}.weight"]) if is_classifier(state) else 0


def _is_of(state: dict[str, Tensor], classifier: Classifier) -> bool:
    """Whether a user's file holds a `Classifier` of this network.

    The user's own parts may be called `extractor` and `head` too: then the names go on otherwise
    than the network's do, or the head has the two outputs of a softmax, which none here has.
    """
    names = {f"extractor.{name}" for name in classifier.extractor.state_dict()}
    named = is_classifier(state) and (not names or not names.isdisjoint(state))
    return named and _outputs(state) != 2


def match_classifier(
    state: Mapping[str, Tensor], classifier: Classifier, what: str | Path, head: str | None
) -> Match:
    """Find a classifier's tensors among a checkpoint's; see `names.match`."""
    extractor = classifier.extractor
    features = classifier.head.linear.in_features
    return match(state, extractor.state_dict(), features, what, head, modules_of(extractor))


def attach_unit_mask(classifier: Classifier, layer: str, mask: Tensor) -> None:
    """Multiply a layer's output by `mask` from now on; the mask is saved with the weights.

    The mask is a buffer of the layer, so that it is part of the state dictionary, and acts in a
    forward hook, so that the names of all other weights stay.

    Args:
        classifier: changed in place.
        layer: name of a module, e.g. `extractor.bn1`.
        mask: float, broadcastable to the layer's output without its batch dimension.
    """
    module = classifier.get_submodule(layer)
    if UNIT_MASK not in dict(module.named_buffers(recurse=False)):
        module.register_buffer(UNIT_MASK, mask)
        module.register_forward_hook(lambda m, _, output: output * getattr(m, UNIT_MASK))
    else:
        setattr(module, UNIT_MASK, mask)


def without_masks(state: dict[str, Tensor], classifier: Classifier) -> dict[str, Tensor]:
    """Pruning masks of whole channels, multiplied into the weights that make the channels."""
    masks = {name: mask for name, mask in state.items() if name.endswith(f".{UNIT_MASK}")}
    state = {name: value for name, value in state.items() if name not in masks}
    for name, mask in masks.items():
        layer = name.removesuffix(f".{UNIT_MASK}")
        if reason := no_place(classifier, layer, whole=mask.numel() == len(mask)):
            raise UserError(reason)
        for key in ("weight", "bias"):
            if (value := state.get(f"{layer}.{key}")) is not None:
                state[f"{layer}.{key}"] = value * mask.view(-1, *[1] * (value.dim() - 1))
    return state


def no_place(classifier: Classifier, layer: str, *, whole: bool) -> str | None:
    """Why a network's own weights cannot hold a pruning mask of a layer; None: they can.

    Args:
        classifier: with the layer.
        layer: the module's name.
        whole: the mask is of whole channels, not of single positions.
    """
    module = classifier.get_submodule(layer)
    makes = isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d)
    if whole and makes and module.weight is not None:
        return None
    return (
        f"a pruning mask of {layer.removeprefix('extractor.')!r} has no place in the network's own "
        f"weights; prune whole channels ({setting('unit', 'channel')}) of a normalization with a "
        "scale, a convolution or a linear layer"
    )


def save(classifier: nn.Module, path: Path) -> None:
    """Write all weights and buffers; the file appears whole or not at all.

    Raises:
        NotFiniteError: one of them is not finite; nothing is written.
    """
    state = classifier.state_dict()
    with of_job(f"{path} is not written"):
        refuse_not_finite(state)
    tensor_files.write(path, state)


def load(
    path: Path, backbone: Backbone, *, own: bool = False, classes: int | None = None
) -> Classifier:
    """A classifier as it was saved, pruning masks included, on the CPU and in eval mode.

    Arguments and errors as of `load_all`.
    """
    return load_all(path, backbone, own=own, classes=classes).classifier


class Loaded(NamedTuple):
    """A file's classifier, and the file's tensors that are no part of it."""

    classifier: Classifier
    unused: tuple[str, ...]


def load_all(
    path: Path, backbone: Backbone, *, own: bool = False, classes: int | None = None
) -> Loaded:
    """As `load`, with what of the file is not used.

    Args:
        path: its file.
        backbone: its architecture.
        own: it is a user's, which need not have a digest and may have the user's own names.
        classes: of the task; None: as many as the file has.

    Raises:
        UserError: the file is missing, damaged, or of another architecture, or holds numbers that
            are not finite, or tells other classes apart.
    """
    state = read_state(path, own=own)
    rows = _outputs(state)
    known = max(2, rows) if classes is None else classes
    classifier = build(backbone.model_copy(update={"weights": None}), seed=0, classes=known)
    unused: tuple[str, ...] = ()
    if own and not _is_of(state, classifier):
        found = match_classifier(state, classifier, path, backbone.head)
        state = as_classifier(state, classifier.extractor.state_dict(), found, path, known)
        unused = found.unused
    elif rows and rows != outputs_of(known):
        raise UserError(f"{path}: its head has {rows} outputs, but the task has {known} classes")
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        if last == UNIT_MASK and layer in dict(classifier.named_modules()):
            attach_unit_mask(classifier, layer, torch.ones_like(value, dtype=torch.float32))
    fill(classifier, state, path, f"not the weights of {backbone.architecture}")
    return Loaded(classifier.eval(), unused)


__all__ = [
    "UNIT_MASK",
    "Classifier",
    "Head",
    "attach_unit_mask",
    "build",
    "fill",
    "import_torchvision",
    "left_of_weights",
    "load",
    "load_all",
    "match_classifier",
    "read_state",
    "save",
    "without_masks",
]
