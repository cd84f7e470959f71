"""How metrics, data sets, networks and attributes are called, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from .metrics import BETWEEN_GROUPS, OF_DISEASE, OF_ROWS, at_threshold
from .thresholds import EXTERNAL, OF_CLASS, plain


class _Metrics(frozenset[str]):
    """Names of metrics; that of a class, `auc@mel`, is meant with its metric."""

    def __contains__(self, metric: object) -> bool:
        return super().__contains__(metric) or (
            isinstance(metric, str)
            and OF_CLASS in metric
            and not metric.endswith(EXTERNAL)
            and super().__contains__(plain(metric))
        )

    def __or__(self, other: Set[object]) -> _Metrics:
        return _Metrics([*self, *map(str, other)])


_METRICS = OF_ROWS | OF_DISEASE | BETWEEN_GROUPS
HIGHER_IS_BETTER = _Metrics(
    at_threshold(name, rule)
    for name, known in _METRICS.items()
    for rule in ("fixed", "external")
    if known.better == "higher"
)
LOWER_IS_BETTER = _Metrics(
    (
        *(
            at_threshold(name, rule)
            for name, known in _METRICS.items()
            for rule in ("fixed", "external")
            if known.better == "lower"
        ),
        *("seconds", "peak_memory_mb", "images_seen", "search_seconds", "search_images_seen"),
    )
)

_TITLES = {name: known.title for name, known in _METRICS.items()} | {
    "n": "Images",
    "seconds": "Seconds",
    "peak_memory_mb": "Peak memory (MB)",
    "images_seen": "Images seen",
    "search_seconds": "Its search, seconds",
    "search_images_seen": "Its search, images seen",
    "parameters_changed": "Parameters changed",
    "buffers_changed": "BatchNorm statistics changed",
    "resnet50": "ResNet-50",
    "efficientnet_b3": "EfficientNet-B3",
    "densenet121": "DenseNet-121",
    "small_resnet": "small ResNet",
    "small_densenet": "small DenseNet",
    "skin_tone_6": "Skin tone, six types",
    "age_5": "Age, five bands",
    "skin": "Skin lesions",
    "cxr": "Chest X-rays",
}
COUNTS = ("images_seen", "search_images_seen", "parameters_changed", "buffers_changed", "n")
DECIMALS = {"seconds": 1, "search_seconds": 1, "peak_memory_mb": 0} | dict.fromkeys(COUNTS, 0)
MISSING = "–"


def add_titles(titles: Mapping[str, str]) -> None:
    """Make further display names known; report/ adds those of the data sets' adapters."""
    _TITLES.update(titles)


def title(key: str) -> str:
    """Display name of a metric, data set, backbone, attribute or task."""
    name, bracket, group = plain(key).partition("[")
    shown = _TITLES.get(name) or name.replace("_", " ").capitalize()
    shown = f"{shown} [{group}" if bracket else shown
    if key.endswith(EXTERNAL):
        return f"{shown}, ext. threshold"
    _, of_class, name = key.partition(OF_CLASS)
    return f"{shown}, {name}" if of_class else shown


def arrow(metric: str) -> str:
    """Which way is better: ↑, ↓ or nothing."""
    if metric in HIGHER_IS_BETTER:
        return "↑"
    return "↓" if metric in LOWER_IS_BETTER else ""


def number(value: float, metric: str) -> str:
    """A value at the precision of its metric."""
    return MISSING if np.isnan(value) else f"{value:,.{DECIMALS.get(plain(metric), 3)}f}"
