"""Decisions that are not "score at or above a threshold": a rule that looks at the group too.

Post-processing (Hardt et al. 2016) leaves a network as it is, and decides each group at its own
threshold; to reach a rate that all groups can have, some decisions are drawn between two
thresholds. Such a rule needs the group when it is used, so it cannot be a part of the network: it
lies beside it (`threshold.json`, which has a digest), and predictions carry a column `decision`.
Metrics of decisions are of that column, at both rules of a table, fixed and external: the method
has no other decisions. AUC and calibration are of the scores, which are the network's own.

A draw belongs to an image: it is made of the rule's seed and the image's id. So an image is decided
alike whenever it is looked at, in any order and on any machine. Rounding the draw away would be
simpler, but the rates that the rule promises are those of the draws.

A rule's thresholds lie between scores of 64 bits and are compared in them, unlike one that somebody
writes down (`thresholds.reached`): rounded to 32 bits, one just below 1 would be 1, and no score
above it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import UserError

UNKNOWN = 0.5  # where an image is decided whose group the rule does not know


class Part(NamedTuple):
    """With probability `share` a score above (or below) a threshold is a decision for class 1."""

    share: float
    side: Literal[">", "<"]
    threshold: float

    def holds(self, scores: np.ndarray) -> np.ndarray:
        """Where it does."""
        return scores > self.threshold if self.side == ">" else scores < self.threshold


class OfGroup(NamedTuple):
    """How a group is decided: by one of `parts`; or, with probability `ignore`, as `constant`.

    constant: the probability of a decision for class 1 that does not look at the score.
    """

    parts: tuple[Part, ...]
    ignore: float = 0.0
    constant: float = 0.0

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Of a decision for class 1, float64 (n,)."""
        by_score = sum(part.share * part.holds(scores) for part in self.parts)
        return self.ignore * self.constant + (1 - self.ignore) * np.asarray(by_score, np.float64)


class Rule(NamedTuple):
    """A rule of decisions. groups: index -> how it is decided. seed: of the draws."""

    groups: Mapping[int, OfGroup]
    seed: int

    def probability(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Of a decision for class 1, float64 (n,); of other groups 0 or 1, by `UNKNOWN`.

        Args:
            scores: P(class 1), (n,).
            groups: int (n,).
        """
        scores = np.asarray(scores, dtype=np.float64)
        found = (scores >= UNKNOWN).astype(np.float64)
        for group, rule in self.groups.items():
            rows = np.asarray(groups) == group
            found[rows] = rule.probability(scores[rows])
        return found

    def decide(
        self, scores: np.ndarray, groups: np.ndarray, ids: Sequence[Any] | np.ndarray
    ) -> np.ndarray:
        """Decisions, int8 (n,); `ids`: what the images are called, whatever prints alike."""
        if not len(scores) == len(groups) == len(ids):
            raise UserError(f"{len(scores)} scores, {len(groups)} groups and {len(ids)} ids")
        return (draws(self.seed, ids) < self.probability(scores, groups)).astype(np.int8)

    def of_groups(self, pair: tuple[int, int] | None) -> Rule:
        """The rule of groups 0 and 1 as that of the attribute's own groups; None: the same."""
        if pair is None:
            return self
        return self._replace(groups={pair[group]: rule for group, rule in self.groups.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        groups = {
            str(group): {
                "parts": [part._asdict() for part in rule.parts],
                "ignore": rule.ignore,
                "constant": rule.constant,
            }
            for group, rule in self.groups.items()
        }
        return {"groups": groups, "seed": self.seed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Rule:
        """What `to_json` made."""
        groups = {
            int(group): OfGroup(
                tuple(Part(**part) for part in rule["parts"]), rule["ignore"], rule["constant"]
            )
            for group, rule in values["groups"].items()
        }
        return cls(groups, values["seed"])


def draws(seed: int, ids: Iterable[Any]) -> np.ndarray:
    """A number of [0, 1) for each id, float64 (n,): the same seed and id, the same number."""
    digests = (hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in ids)
    return np.array([int.from_bytes(digest[:8], "big") >> 11 for digest in digests]) / 2.0**53


def image_names(datasets: Iterable[Any], ids: Iterable[Any]) -> list[str]:
    """What a run calls its images: ids are unique within a data set."""
    return [f"{dataset}/{name}" for dataset, name in zip(datasets, ids, strict=True)]
