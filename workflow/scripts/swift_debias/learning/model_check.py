"""A network of the configuration, built, loaded and run once on two made-up pictures.

It finds in seconds what would else stop a run after all images have been decoded: a name or an
option that a library does not know, weights that are not there or do not fit, pictures of the wrong
size or number of channels, a last layer that is not the last, parts that are never trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config.schema import Backbone, Compute
from ..errors import UserError, setting
from . import devices, forward, layouts, networks, sources, weight_files
from .architectures import library_of
from .last_layer import FollowedError, find_last_layer, last_registered, unfolded_rows
from .makers import own_function, own_network
from .names import HEAD, some
from .networks import Classifier
from .samples import Batch


class Checked(NamedTuple):
    """What was found.

    lines: for people, without anything that changes from run to run. classifier: in eval mode.
    batch: the pictures, two of each class, one of each group.
    """

    lines: list[str]
    classifier: Classifier
    batch: Batch


def check(
    backbone: Backbone,
    name: str,
    size: int,
    channels: int,
    files: Sequence[Path],
    classes: int = 2,
    extractor: bool = True,
) -> Checked:
    """Build and load a network, and run it forwards and backwards.

    Args:
        backbone: its entry.
        name: of the entry, for messages.
        size, channels: of the pictures that it is given.
        files: whole classifiers that are taken for it; none: it is trained.
        classes: that the task tells apart.
        extractor: whether a method trains it, and not the head alone.

    Raises:
        UserError: in one line, which begins with the key.
    """
    where = f"backbones.{name}"
    pictures = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))
    pictures = as_in_jobs(pictures)
    shown = f"a picture of {size} x {size} pixels and {channels} channels"
    with told(where):
        unused: dict[Path, tuple[str, ...]] = {}
        for file in files:
            classifier, unused[file] = networks.load_all(file, backbone, own=True, classes=classes)
        if not files:
            classifier = networks.build(backbone, 0, classes).eval()  # downloads published weights
        classifier = devices.place(classifier, pictures.device, Compute())
    with told(f"{where}: {shown}"):
        last = last_layer(backbone, pictures, where)
        with torch.no_grad():
            logits = classifier(pictures)
        wanted = (4,) if classes == 2 else (4, classes)
        if logits.shape != wanted or not logits.isfinite().all():
            raise UserError(f"gives logits of shape {tuple(logits.shape)}, {logits.flatten()[:2]}")
        forward.refuse_mixing(classifier, pictures)
        if extractor:
            forward.refuse_without_gradient(classifier.extractor, pictures)
        idle = _idle(classifier, pictures)
    features = classifier.head.linear.in_features
    count = sum(parameter.numel() for parameter in classifier.parameters())
    labels, groups = torch.tensor([0.0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    lines = [
        f"{backbone.architecture}, {shown}",
        *_weights(backbone, classifier),
        *(line for file in files for line in _whole(file, unused[file])),
        f"last layer: {last or ('of the file' if files else 'new')}, {features} features",
        f"{count:,} parameters; forward and backward pass: done",
    ]
    if idle:
        lines.append(f"{len(idle)} tensors get no gradient and stay as they are: {some(idle)}")
    return Checked(lines, classifier.eval(), Batch(pictures, labels, groups))


def as_in_jobs(pictures: Tensor) -> Tensor:
    """Pictures as they lie in memory where jobs draw them (samples.py)."""
    return pictures.contiguous(memory_format=torch.channels_last)


def _whole(file: Path, unused: Sequence[str]) -> list[str]:
    """Which file the whole classifier is of, and what of it is no part of the classifier."""
    lines = [f"whole classifier: {file}, SHA-256 {weight_files.digest(file)}"]
    return lines + [f"not used of it: {some(unused)}"] * bool(unused)


def _weights(backbone: Backbone, classifier: Classifier) -> list[str]:
    """Which file the network starts from, and what of a user's file it does not take."""
    if backbone.weights is None:
        return []
    published = backbone.weights in weight_files.PUBLISHED
    path = sources.file_of(backbone) if published else Path(backbone.weights)
    unused = () if published else networks.left_of_weights(path, classifier)
    lines = [f"weights: {path.name}, SHA-256 {weight_files.digest(path)}"]
    return lines + [f"not used of it: {some(unused)}"] * bool(unused)


def last_layer(
    backbone: Backbone,
    pictures: Tensor,
    where: str,
    state: Mapping[str, Tensor] | None = None,
) -> str | None:
    """The last layer of a whole network of a user's own, by a forward pass; None of others.

    Args:
        backbone: its entry.
        pictures: that it takes.
        where: its key, for messages.
        state: of the `Classifier` that a file was read as; None: the network as it is made, in
            which a factor may be 1 that a file has otherwise.

    Raises:
        UserError: it is another one than the jobs would take, which do not look.
    """
    if library_of(backbone.architecture)[0] != "own":
        return None
    make = own_function(backbone.architecture)
    network = own_network(backbone.architecture, make, backbone.options)
    layouts.watch(network)
    if isinstance(getattr(network, "out_features", None), int):
        return None
    taken = last_registered(network, backbone.head)
    if backbone.head is not None:  # whatever follows it, a sigmoid say, is left out
        return taken.name
    if state is not None:
        network.load_state_dict(_whole_state(network, taken.name, state))
    try:
        found = find_last_layer(network.eval(), pictures, outputs=None)
    except FollowedError as error:
        raise UserError(
            f"{error}; or name the layer that gives the logits: {setting(f'{where}.head', 'NAME')}"
        ) from error
    if found.name != taken.name:
        raise UserError(
            f"ends in the layer {found.name!r}: write {setting(f'{where}.head', found.name)}"
        )
    return found.name


def _whole_state(network: nn.Module, layer: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's own state dictionary, of that of the `Classifier` that it was read as."""
    head = {
        f"{layer}.{part}": unfolded_rows(value.detach(), state[f"{HEAD}.{part}"])
        for part, value in network.get_submodule(layer).named_parameters()
    }
    rest = {name: value for name, value in state.items() if not name.startswith(f"{HEAD}.")}
    return {name.removeprefix("extractor."): value for name, value in rest.items()} | head


def _idle(classifier: nn.Module, pictures: Tensor) -> list[str]:
    """Names of the tensors that get no gradient in training."""
    with forward.trainable(classifier), torch.enable_grad():
        classifier.train()(pictures).sum().backward()
    idle = [name for name, p in classifier.named_parameters() if p.grad is None]
    classifier.zero_grad(set_to_none=True)
    return idle


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Whatever a network's code raises, in one line that says which network it is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # anybody's code
        said = " ".join(str(error).split())[:300]
        raise UserError(f"{where}: {type(error).__name__}: {said}") from error
