"""What each setting of a method is worth: the effects of a factorial design, with their intervals.

Every variant is scored on the same images, from the same Baselines and with the same draws, so an
effect is a difference of paired models. Its interval is that of all other numbers (intervals.py):
other test patients, and other trainings on the same pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..config.crossing import Crossing
from . import intervals
from .fold_tests import holm
from .influence import Part
from .intervals import GAPS, Rates, TestSet, UndefinedError
from .metrics import is_decided
from .setup_intervals import by_rule, moved_to_zero
from .stacked import Scores, stack
from .thresholds import EXTERNAL

METRICS = ("auc", "balanced_accuracy", *GAPS)
COLUMNS = [
    *("dataset", "metric", "effect", "interaction", "value", "low", "high"),
    *("variance_test", "variance_folds", "df", "p", "p_holm", "n_folds", "n_images"),
]


def effects(
    predictions: pd.DataFrame,
    crossing: Crossing,
    metrics: Sequence[str],
    groups: int,
    threshold: float = 0.5,
    min_group: int = 20,
    level: float = intervals.LEVEL,
) -> pd.DataFrame:
    """Main effects and interactions of two, one row each, on every test set.

    Args:
        predictions: columns method, fold, dataset, image_id, label, group, score of one setup, of
            the crossing's variants; patient_id and repeat where they are known, and threshold and
            decision as of `setup_intervals`.
        crossing: of the variants.
        metrics: some of `METRICS`; those of decisions also at the external threshold
            (`eodds@external`).
        groups: number of attribute groups.
        threshold, min_group: as in `metrics.score`.
        level: coverage.

    Returns:
        Rows of `COLUMNS`. effect: settings, joined by " x ". An absolute gap is linear near its
        value, which is what its interval rests on: close to a gap of 0 it is only about right.
        p: one minus the level of the interval that ends at 0. p_holm: corrected over the
        effects of a metric and test set. Folds that lack a variant are left out.
    """
    rows: list[dict[str, Any]] = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        known: dict[tuple[bool, bool], tuple[TestSet, dict[str, Rates]]] = {}
        for metric in metrics:
            plain, external = metric.removesuffix(EXTERNAL), metric.endswith(EXTERNAL)
            key = is_decided(plain), external
            if key not in known:
                scored, cut = _scored(part, threshold, *key)
                data = stack(scored)
                test = TestSet.of(data.labels, data.groups, data.patients, groups, min_group)
                known[key] = test, _rates(data, test, cut)
            test, rates = known[key]
            family = list(_of_metric(rates, crossing, plain, level))
            corrected = holm([row["p"] for row in family])
            rows += [
                row
                | {"dataset": str(dataset), "metric": metric, "n_images": len(test.labels)}
                | {"p_holm": np.nan if p is None else p}
                for row, p in zip(family, corrected, strict=True)
            ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _scored(
    part: pd.DataFrame, threshold: float, decided: bool, external: bool
) -> tuple[pd.DataFrame, float]:
    """The predictions with the scores that a metric looks at, and where they are cut."""
    if not decided:
        return part, threshold
    if external:
        part, threshold = moved_to_zero(part), 0.0
    return by_rule(part, threshold), threshold


def _rates(data: Scores, test: TestSet, threshold: float) -> dict[str, Rates]:
    """The rates of every variant, over the folds that all have."""
    finite = np.isfinite(data.scores).all(axis=(0, 2)).reshape(-1, data.repeats).all(axis=1)
    whole = np.repeat(finite, data.repeats)
    if not whole.any():
        raise UndefinedError("no fold has all variants")
    return {
        method: intervals.rates(test, scores[whole], threshold, data.repeats)
        for method, scores in zip(data.methods, data.scores, strict=True)
    }


def _of_metric(
    rates: Mapping[str, Rates], crossing: Crossing, metric: str, level: float
) -> Iterator[dict[str, Any]]:
    """The effects on one metric."""
    parts = {variant: intervals.part_of(rates[variant], metric) for variant in crossing.levels}
    for names, weights in crossing.effects().items():
        part = _weighted(parts, weights)
        estimate = intervals.estimate(part)
        low, high = estimate.bounds(level)
        yield {
            "effect": " x ".join(names),
            "interaction": len(names) > 1,
            **{"value": estimate.value, "low": low, "high": high},
            "variance_test": estimate.variance_test,
            "variance_folds": estimate.variance_folds,
            "df": estimate.df,
            "p": estimate.p(),
            "n_folds": estimate.models,
        }


def _weighted(parts: Mapping[str, Part], weights: Mapping[str, float]) -> Part:
    """The weighted sum of a statistic of several methods on the same images: pairing included.

    What is left of equal decisions by rounding is not taken for an effect.
    """
    first = next(iter(parts.values()))
    values = np.sum([w * parts[name].values for name, w in weights.items()], axis=0)
    influence = np.sum([w * parts[name].influence for name, w in weights.items()], axis=0)
    return replace(
        first,
        values=values.round(12),
        influence=influence.round(15),
        patients=min(part.patients for part in parts.values()),
        # of two methods that of `Part.paired`
        uniform=min(p.uniform for p in parts.values())
        * (np.abs([*weights.values()]).sum() / 2) ** 2,
    )
