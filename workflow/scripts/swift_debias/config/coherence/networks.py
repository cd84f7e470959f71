"""Networks: whether there is one, and something that it is trained for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ...errors import nearest
from ..base import Model, explain, place, shown
from ..plan import setups
from ..schema import Settings
from .known import Known


def problems(settings: Settings, known: Known) -> Iterator[str]:
    """Networks that do not exist, that nobody shows, or that nothing is trained for."""
    yield from _backbones(settings, known)
    yield from _untrained(settings)


def _backbones(settings: Settings, known: Known) -> Iterator[str]:
    shown = {panel.backbone for one in settings.experiments.values() for panel in one.panels}
    for name, backbone in settings.backbones.items():
        path = place("backbones", name)
        if backbone.baseline is not None and name not in shown:
            yield (
                f"{path}.baseline: no experiment shows it, so your classifier would not be "
                f"debiased; name it in a panel (backbone: {name})"
            )
        yield from _channels(path, name, settings)
        if known.networks is not None:
            yield from network_problems(
                f"{path}.", backbone.architecture, backbone.options, known.networks
            )


def network_problems(
    path: str, architecture: str, options: Mapping[str, Any], networks: Mapping[str, type[Model]]
) -> Iterator[str]:
    """Why there is no such network, or why it has no such options.

    Args:
        path: what stands before the key in a message.
        architecture: `timm:` and `xrv:` are left to these libraries, functions to `named_files`.
        options: its arguments.
        networks: architecture -> model of its options.
    """
    if ":" in architecture:
        return
    if architecture not in networks:
        names = list(networks)
        near = nearest(architecture, names)
        if "did you mean" not in near:  # the list would be a page
            near = f"; known: {', '.join(names[:3])} ... of torchvision, small_resnet"
        yield (
            f"{path}architecture: no network {shown(architecture)}{near}, timm:NAME, xrv:NAME, "
            "or module:function"
        )
        return
    try:
        networks[architecture].model_validate(dict(options))
    except ValidationError as error:
        yield explain(error, f"{path}options.")


def _untrained(settings: Settings) -> Iterator[str]:
    """Networks that nothing would be trained for, and which bring no classifier either."""
    for task, backbone in dict.fromkeys((task, backbone) for task, backbone, _ in setups(settings)):
        if not settings.tasks[task].train and settings.backbones[backbone].baseline is None:
            yield (
                f"tasks.{task}.train: names no data set, so backbones.{backbone} needs a trained "
                "classifier of yours (baseline:)"
            )


def _channels(path: str, name: str, settings: Settings) -> Iterator[str]:
    """A library's network that is made for other pictures than a task has."""
    backbone = settings.backbones[name]
    library, colon, _ = backbone.architecture.partition(":")
    if colon and library not in ("timm", "xrv"):
        return
    for task in dict.fromkeys(t for t, used, _ in setups(settings) if used == name):
        given = len(settings.tasks[task].images.mean)
        if given != backbone.channels:
            yield (
                f"{path}.channels: {backbone.channels}, but tasks.{task}.images.mean has {given} "
                "numbers, one for each channel that the network is given"
            )
