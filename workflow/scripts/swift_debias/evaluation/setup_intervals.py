"""Intervals, noise floors and power of all methods of a setup, one row a metric and method."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pandas as pd

from . import intervals, noise_floor
from .intervals import Found, Pair, Rates, TestSet, UndefinedError
from .metrics import is_decided
from .power import power
from .stacked import Scores, stack
from .thresholds import EXTERNAL, in_type_of

COLUMNS = [
    *("dataset", "metric", "method", "value", "low", "high"),
    *("variance_test", "variance_folds", "df"),
    *("difference", "difference_low", "difference_high"),
    *("difference_variance_test", "difference_variance_folds", "difference_df"),
    *("floor_mean", "floor_95", "below_floor", "power", "smallest_cell"),
    *("n_images", "n_patients", "n_folds", "reason"),
]
NUMBERS = [*COLUMNS[3:17], "power", "smallest_cell"]


def setup_intervals(
    predictions: pd.DataFrame,
    groups: int,
    seed: int,
    permutations: int = noise_floor.PERMUTATIONS,
    level: float = intervals.LEVEL,
    threshold: float = 0.5,
    min_group: int = 20,
    baseline: str | None = "baseline",
) -> pd.DataFrame:
    """The interval of every metric and of its difference to the Baseline (intervals.py).

    Args:
        predictions: columns method, fold, dataset, image_id, patient_id, label, group, score, of
            one (task, backbone, attribute); threshold, the models' external ones, where known;
            decision, of methods that a rule decides for (decision_rule.py); repeat, where folds
            were debiased several times.
        groups: number of attribute groups.
        seed: of the noise floor. The data set's name is mixed in, so data sets do not depend on
            each other's order.
        permutations: of the noise floor; 0: none.
        level: coverage.
        threshold, min_group: as in `metrics.score`.
        baseline: the method that differences are taken to, over the folds that both have; None: no
            differences.

    Returns:
        Rows of `COLUMNS`; metrics of decisions also at the external threshold (`eodds@external`).
        `value` is the mean over folds of what metrics.py computes. Signed gaps
        (`dtpr`, `dfpr`, `dspd`, `dauc`) are group 1 minus group 0; with more groups the pair that
        makes the Baseline's gap, named in `reason`. `floor_*` and `below_floor` stand beside
        absolute gaps; `power` beside EOdds is the chance that this test set shows a fall from .2 to
        .05, and `smallest_cell` the effective patients of the label and group that has the fewest.
        Differences are null for the Baseline itself.
    """
    arguments = (groups, seed, permutations, level)
    found = _at_threshold(predictions, threshold, *arguments, min_group, baseline)
    if "decision" in predictions:
        ruled = by_rule(predictions, threshold)
        decided = _at_threshold(ruled, threshold, *arguments, min_group, baseline)
        of_decisions = found["metric"].map(is_decided).astype(bool)  # the rows are the same ones
        found = pd.concat([found[~of_decisions], decided[of_decisions]]).sort_index()
    if "threshold" not in predictions:
        return found
    moved = by_rule(moved_to_zero(predictions), 0.0)
    own = _at_threshold(moved, 0.0, *arguments, min_group, baseline)
    own = own[own["metric"].map(is_decided).astype(bool)]
    return pd.concat([found, own.assign(metric=own["metric"] + EXTERNAL)], ignore_index=True)


def moved_to_zero(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of models with a threshold each, moved so that 0 decides them all alike.

    A score reaches its threshold exactly if their difference, in the type of both, reaches 0.
    """
    scores = predictions["score"].to_numpy()
    own = in_type_of(scores, predictions["threshold"].to_numpy(np.float64))
    return predictions.assign(score=scores - own)


def by_rule(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Scores that a threshold decides as a rule did, where one did."""
    if "decision" not in predictions:
        return predictions
    decisions = predictions["decision"].astype("float64")
    scores = predictions["score"].where(decisions.isna(), threshold - 0.5 + decisions)
    return predictions.assign(score=scores)


def _at_threshold(
    predictions: pd.DataFrame,
    threshold: float,
    groups: int,
    seed: int,
    permutations: int,
    level: float,
    min_group: int,
    baseline: str | None,
) -> pd.DataFrame:
    """All rows at one threshold; arguments as of `setup_intervals`."""
    frames = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        if not (part["group"] >= 0).any():
            continue
        rng = np.random.default_rng([seed, zlib.crc32(str(dataset).encode())])
        data = stack(part)
        test = TestSet.of(data.labels, data.groups, data.patients, groups, min_group)
        rows = TestSetRows(data, test, threshold, level, baseline).rows(rng, permutations)
        frames.append(pd.DataFrame(rows).assign(dataset=str(dataset)))
    if not frames:
        return pd.DataFrame([], columns=COLUMNS)
    types = dict.fromkeys(NUMBERS, "float64") | {"below_floor": "boolean", "reason": "string"}
    return pd.concat(frames, ignore_index=True).reindex(columns=COLUMNS).astype(types)


class TestSetRows:
    """The methods' rates on one test set, each computed once for each choice of folds."""

    def __init__(
        self, data: Scores, test: TestSet, threshold: float, level: float, baseline: str | None
    ) -> None:
        self.data, self.test, self.threshold, self.level = data, test, threshold, level
        self.base = data.methods.index(baseline) if baseline in data.methods else None
        # (methods, models): a fold counts if all of its repeats do
        finite = np.isfinite(data.scores).all(axis=2)
        by_fold = finite.reshape(len(finite), -1, data.repeats).all(axis=2)
        self.finite = np.repeat(by_fold, data.repeats, axis=1)
        self.known: dict[tuple[int, bytes], Rates] = {}
        self.pairs = self._signed_pairs()

    def rates(self, method: int, folds: np.ndarray) -> Rates:
        """The rates of a method over some of its folds."""
        key = method, folds.tobytes()
        if key not in self.known:
            scores = self.data.scores[method, folds]
            self.known[key] = intervals.rates(self.test, scores, self.threshold, self.data.repeats)
        return self.known[key]

    def _signed_pairs(self) -> dict[str, Pair]:
        """The two groups of every signed gap, the same for all methods."""
        first = next(
            (m for m in (self.base, *range(len(self.data.methods)))
             if m is not None and self.finite[m].any()),
            None,
        )  # fmt: skip
        if first is None:
            return {}
        gaps = self.rates(first, self.finite[first]).gaps
        return {
            metric: intervals.widest_pair(self.rates(first, self.finite[first]), rate)
            for metric, rate in intervals.SIGNED.items()
            if gaps[rate]
        }

    def rows(self, rng: np.random.Generator, permutations: int) -> list[dict[str, Any]]:
        """A row a metric and method."""
        floors = self._floors(rng, permutations)
        size = self._test_size()
        return [
            self._row(metric, m) | floors.get((metric, m), {}) | (size if metric == "eodds" else {})
            for metric in intervals.METRICS
            for m in range(len(self.data.methods))
        ]

    def _test_size(self) -> dict[str, float]:
        """What the test set can show, the same for all methods; its power for two groups only."""
        if len(self.test.counted) < 2:
            return {}
        counts = np.array(
            [
                [self.test.effective(self.test.rows(group, label)) for group in self.test.counted]
                for label in (0, 1)
            ]
        )
        known = {"power": power(counts)} if len(self.test.counted) == 2 else {}
        return known | {"smallest_cell": float(counts.min())}

    def _row(self, metric: str, m: int) -> dict[str, Any]:
        row: dict[str, Any] = {"metric": metric, "method": self.data.methods[m]}
        row |= {"n_images": len(self.test.labels), "n_patients": self.test.n_patients}
        row |= {"n_folds": int(self.finite[m].sum()) // self.data.repeats}
        try:
            row |= self._found(metric, m)
        except UndefinedError as error:
            row["reason"] = str(error)
        return row

    def _found(self, metric: str, m: int) -> dict[str, Any]:
        folds, pair = self.finite[m], self.pairs.get(metric)
        if not folds.any():
            raise UndefinedError(intervals.UNDEFINED)
        found = intervals.of_method(self.rates(m, folds), metric, pair, self.level)
        row: dict[str, Any] = _columns(found, "value", "")
        if pair is not None and self.test.n_groups > 2:
            row["reason"] = f"group {pair[1]} minus group {pair[0]}"
        both = folds if self.base is None else folds & self.finite[self.base]
        if self.base is not None and m != self.base and both.any():
            model, base = self.rates(m, both), self.rates(self.base, both)
            change = intervals.of_difference(model, base, metric, pair, self.level)
            row |= _columns(change, "difference", "difference_")
        return row

    def _floors(
        self, rng: np.random.Generator, permutations: int
    ) -> dict[tuple[str, int], dict[str, Any]]:
        """Noise floors of the methods, those with the same folds at a time."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        if not permutations or len(self.test.counted) < 2:
            return found
        same: dict[bytes, list[int]] = {}
        for m in range(len(self.finite)):
            if self.finite[m].any():
                same.setdefault(self.finite[m].tobytes(), []).append(m)
        start = rng.bit_generator.state
        for methods in same.values():
            rng.bit_generator.state = start  # the same permutations for all methods
            scores = self.data.scores[methods][:, self.finite[methods[0]]]
            drawn = noise_floor.noise_floor(self.test, scores, rng, permutations, self.threshold)
            for metric in set(drawn) & set(intervals.GAPS):
                for m, gaps in zip(methods, drawn[metric], strict=True):
                    if np.isnan(gaps).any():
                        continue
                    mean, high = noise_floor.summary(gaps)
                    observed = intervals.of_method(
                        self.rates(m, self.finite[m]), metric, level=self.level
                    ).value
                    below = noise_floor.below_floor(observed, high)
                    found[metric, m] = {
                        "floor_mean": mean, "floor_95": high, "below_floor": below
                    }  # fmt: skip
        return found


def _columns(found: Found, value: str, prefix: str) -> dict[str, float]:
    """A metric or a difference as columns."""
    return {
        value: found.value,
        f"{prefix}low": found.low,
        f"{prefix}high": found.high,
        f"{prefix}variance_test": found.estimate.variance_test,
        f"{prefix}variance_folds": found.estimate.variance_folds,
        f"{prefix}df": found.estimate.df,
    }
