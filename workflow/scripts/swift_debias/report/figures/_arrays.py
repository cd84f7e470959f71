"""What a drawing's `arrays` are computed from: files of a run, in a job that may use a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...run import layout

Arrays: TypeAlias = dict[str, np.ndarray]
Key: TypeAlias = tuple[str, str, str]  # task, backbone, attribute


@dataclass(frozen=True)
class Given:
    """Files and settings of a figure's first block; what a drawing did not ask for is empty.

    Attributes:
        options: of the experiment.
        dataset: the first test set.
        methods: in the experiment's order.
        fold: the first fold.
        groups: how many groups the attribute has.
        backbone, compute, normalization: settings as plain values.
        variants: the experiment's SWiFT variants -> their settings.
        predictions, pixels, index, models, importance, importances, summaries: files of
            `run.layout`; predictions are folders, the others files.
    """

    options: Mapping[str, Any]
    dataset: str
    methods: Sequence[str]
    fold: int
    groups: int
    backbone: Mapping[str, Any]
    compute: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    normalization: Mapping[str, Any]
    predictions: Sequence[Path] = field(default=())
    pixels: Sequence[Path] = field(default=())
    index: Sequence[Path] = field(default=())
    models: Sequence[Path] = field(default=())
    importance: Sequence[Path] = field(default=())
    importances: Sequence[Path] = field(default=())
    summaries: Sequence[Path] = field(default=())

    def importances_by_key(self) -> dict[tuple[Key, int], Path]:
        """(task, backbone, attribute), fold -> importances."""
        found = {}
        for path in self.importances:
            keys = layout.keys("importance", path)
            key = (keys["task"], keys["backbone"], keys["attribute"])
            found[key, int(keys["fold"])] = path
        return found
