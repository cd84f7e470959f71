"""What has to be computed: the union of what the tables and figures of a config show."""

from __future__ import annotations

from typing import Any, TypeAlias

from .schema import Settings, View

Setup: TypeAlias = tuple[str, str, str]  # (task, backbone, attribute)


def setups(settings: Settings) -> dict[Setup, tuple[str, ...]]:
    """What the views ask for: (task, backbone, attribute) -> its methods, sorted."""
    wanted: dict[Setup, set[str]] = {}
    for view in settings.experiments.values():
        for panel in view.panels:
            methods = wanted.setdefault((panel.task, panel.backbone, panel.attribute), set())
            methods |= {*(panel.methods or view.methods)}
    return {setup: tuple(sorted(methods)) for setup, methods in sorted(wanted.items())}


def blocks(settings: Settings, view: View) -> list[dict[str, Any]]:
    """The panels of a view as plain values, with the defaults filled in."""
    return [
        {
            "task": panel.task,
            "backbone": panel.backbone,
            "attribute": panel.attribute,
            "datasets": panel.datasets or settings.tasks[panel.task].tests[panel.attribute],
            "methods": panel.methods or view.methods,
            "metrics": view.metrics,
        }
        for panel in view.panels
    ]


def used_datasets(settings: Settings) -> tuple[str, ...]:
    """Data sets that some view needs, in the order of the config."""
    used: set[str] = set()
    for task, _, attribute in setups(settings):
        used |= {*settings.tasks[task].train, *settings.tasks[task].tests[attribute]}
    return tuple(name for name in settings.datasets if name in used)
