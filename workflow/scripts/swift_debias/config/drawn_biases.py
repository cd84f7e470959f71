"""The biases of drawn populations: what a run knows of its tasks, since it made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

NO_BIAS = "none"


class DrawnBias(NamedTuple):
    """What a task's pool is drawn with, and how many external images it has.

    kind: of `schema.BiasKind`; 'absence', an imbalance of strength 1; `NO_BIAS`.
    external_biased: whether the external set is drawn with a bias too.
    """

    kind: str
    strength: float
    external: int
    external_biased: bool


def of_tasks(
    populations: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Any]]
) -> dict[str, DrawnBias]:
    """Of each task whose pool and external sets are all drawn populations.

    Args:
        populations: `synthetic.populations`, as plain values.
        tasks: task -> `train` and `external`, names of data sets.
    """
    return {
        task: _of(*([populations[name] for name in names[key]] for key in ("train", "external")))
        for task, names in tasks.items()
        if names["external"] and {*names["train"], *names["external"]} <= {*populations}
    }


def _of(pools: list[Mapping[str, Any]], external: list[Mapping[str, Any]]) -> DrawnBias:
    """Of pools and external sets; the first bias of the pools is the task's."""
    biased = [one["bias"] for one in pools if _is_biased(one)]
    kind, strength = (biased[0]["kind"], float(biased[0]["strength"])) if biased else (NO_BIAS, 0.0)
    return DrawnBias(
        "absence" if (kind, strength) == ("imbalance", 1.0) else kind,
        strength,
        sum(int(one["images"]) for one in external),
        any(map(_is_biased, external)),
    )


def _is_biased(population: Mapping[str, Any]) -> bool:
    return bool(population.get("bias")) and float(population["bias"]["strength"]) > 0
