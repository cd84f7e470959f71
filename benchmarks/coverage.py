"""How often the intervals hold the truth, and what other intervals would: docs/statistics.md.

    python -m benchmarks.coverage --runs 300

Test sets of `tests/clustered.py`: 300 and 2,000 patients, patient effects with an intraclass
correlation of .3 and .5, two to ten folds. Every run draws patients, images and models anew; a
cell is the share of runs whose nominal 95 % interval holds the expected value. Beside the interval
of `intervals.py`, from the same influences:

- images: images as if of a person each, the folds' models fixed (the bootstrap over images);
- patients: whole patients, the folds' models fixed (the bootstrap over patients);
- folds: Student's t over the folds (the paper's standard deviations, or a paired t test).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from benchmarks.common import RESULTS
from scipy import stats
from tests.clustered import Model, World, draw, truth

from swift_debias.evaluation import intervals as iv
from swift_debias.evaluation.influence import Part

MODELS = (Model(gaps=(0.3, 0.4)), Model(1.5, (0.1, -0.1)))
LINEAR = {"auc": "auc", "dtpr": "tpr", "dfpr": "fpr"}


def cells() -> list[World]:
    """Every combination of the study."""
    return [
        World(patients, icc, folds, MODELS)
        for patients, icc, folds in product((300, 2000), (0.3, 0.5), (2, 5, 10))
    ]


def coverage(world: World, runs: int, seed: int = 0, others: bool = False) -> dict[str, float]:
    """Metric -> share of runs whose interval holds the truth; 'Δ' is the change of a metric.

    Args:
        others: also the other intervals of `auc`, `dtpr`, `dfpr` and their changes.
    """
    size = [seed, world.patients, int(100 * world.icc), world.folds]
    rng = np.random.default_rng(size)
    base_truth, truth_ = (truth(world, model) for model in world.models)
    held = defaultdict(list)
    for _ in range(runs):
        drawn = draw(world, rng)
        test = iv.TestSet.of(drawn.labels, drawn.groups, drawn.patients, 2)
        base, model = (iv.rates(test, scores) for scores in drawn.scores)
        for metric in iv.METRICS:
            change = truth_[metric] - base_truth[metric]
            found = iv.of_method(base, metric), iv.of_difference(model, base, metric)
            held[metric].append(_holds(found[0][1:3], base_truth[metric]))
            held[f"Δ{metric}"].append(_holds(found[1][1:3], change))
        if others:
            single = replace(test, patients=np.arange(len(test.labels)))
            apart = [iv.rates(single, scores) for scores in drawn.scores]
            for metric, rate in LINEAR.items():
                whole = [_part(rates, rate) for rates in (base, model)]
                alone = [_part(rates, rate) for rates in apart]
                change = truth_[metric] - base_truth[metric]
                for name, parts in (("patients", whole), ("images", alone), ("folds", whole)):
                    held[f"{metric} ({name})"].append(
                        _holds(_other(parts[0], name), base_truth[metric])
                    )
                    change_of = parts[1].paired(parts[0])
                    held[f"Δ{metric} ({name})"].append(_holds(_other(change_of, name), change))
    return {name: float(np.mean(values)) for name, values in held.items()}


def _part(rates: iv.Rates, rate: str) -> Part:
    part = rates.overall["auc"] if rate == "auc" else rates.gaps[rate][0, 1]
    assert part is not None
    return part


def _other(part: Part, name: str) -> tuple[float, float]:
    """The normal interval of fixed models, or the t interval over folds."""
    k = len(part.values)
    error = np.std(part.values, ddof=1) / k**0.5 if name == "folds" else part.variance**0.5
    half = error * (stats.t.ppf(0.975, k - 1) if name == "folds" else stats.norm.ppf(0.975))
    return (part.value - half, part.value + half)


def _holds(bounds: tuple[float, ...], value: float) -> bool:
    return bounds[0] - 1e-12 <= value <= bounds[1] + 1e-12


def main() -> None:
    """Print the coverage of every cell, and write it beside the other benchmarks' results."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=300)
    runs = options.parse_args().runs
    rows = []
    for world in cells():
        place = {"patients": world.patients, "icc": world.icc, "folds": world.folds}
        rows.append(place | coverage(world, runs, others=True))
        print(place, flush=True)
    frame = pd.DataFrame(rows)
    print(frame.drop(columns=["patients", "icc", "folds"]).agg(["mean", "min", "max"]).T.round(3))
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / "coverage.csv", index=False)


if __name__ == "__main__":
    main()
