"""Which two groups of an attribute are compared: what was chosen. _groups.py chooses.

Apart from it, so that a method's job does not depend on the code of the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class GroupAuc(NamedTuple):
    """AUC of one group over all folds.

    auc: share of the pairs of a positive and a negative image *of one fold* that are ranked right
        (ties half); nan with one class only. low, high: 95 % interval. n: images. patients: people.
    """

    auc: float
    low: float
    high: float
    n: int
    patients: int


class Choice(NamedTuple):
    """What was chosen. pair: two groups, lower index first; None: there are two, or none can be.

    unprivileged: which of the pair, or of the two groups, has the lower AUC: 0 or 1; None: one of
        them has one class only. groups: group -> what it was chosen by.
    """

    pair: tuple[int, int] | None
    unprivileged: int | None
    groups: dict[int, GroupAuc]

    def note(self, names: Mapping[int, str] | None = None) -> str:
        """The choice in words, with the intervals."""
        shown = self.groups if self.pair is None else {g: self.groups[g] for g in self.pair}
        parts = [
            f"{(names or {}).get(group, f'group {group}')} {found.auc:.3f} "
            f"[{found.low:.3f}, {found.high:.3f}]"
            for group, found in shown.items()
        ]
        return "AUC of the Baseline on held-out images of all folds: " + ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan is null."""
        return {
            "pair": self.pair,
            "unprivileged": self.unprivileged,
            "groups": {
                str(group): {k: None if v != v else v for k, v in found._asdict().items()}
                for group, found in self.groups.items()
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Choice:
        """What `to_json` made."""
        pair = values["pair"]
        return cls(
            None if pair is None else (pair[0], pair[1]),
            values["unprivileged"],
            {int(group): GroupAuc(**_numbers(found)) for group, found in values["groups"].items()},
        )


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """null is nan."""
    return {key: np.nan if value is None else value for key, value in found.items()}
