"""Which method, for which kind of bias: decided from a run of the benchmark, by a stated rule.

Nothing is judged by hand. `evidence` puts beside each other what the run measured, a row a case and
method; `decide` takes a method by `RULE`. which_method_page.py shows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from ..config import drawn_biases
from ..config.drawn_biases import NO_BIAS, DrawnBias
from ..errors import UserError
from ..evaluation import plausibility, words
from ..run import layout, results

LOSS = 0.01  # of AUC that is borne whatever its interval
RULE = (
    "A method is a candidate where nothing about it is implausible, the 95 % interval of its "
    "change of EOdds lies below 0, and its AUC falls by at most .01, or by nothing that is sure "
    "(the interval of that change reaches 0). Of the candidates the one with the lowest EOdds is "
    "taken. As good within noise: the candidates whose change of EOdds has an interval that "
    "contains the change of the one taken. Where the Baseline's gap is below its noise floor there "
    "is nothing to mend, and where there is no candidate no method is taken."
)
NOTHING, NONE = "nothing to mend", "none"
BIAS = [*DrawnBias._fields]
PLACE = {"dataset": "test set", "backbone": "network", "attribute": "attribute"}  # and its heading
CASE = [*BIAS, "task", *PLACE]


class Run(NamedTuple):
    """What a run of the benchmark knew and measured.

    name, folds, repeats: as in its configuration. titles: method -> its display name. baseline: the
    method that is the Baseline. biases: of the tasks that are drawn. intervals: task, backbone,
    attribute and the columns of `setup_intervals`. marks: what is implausible. scores: metrics of
    each repeat; may be empty.
    """

    name: str
    folds: int
    repeats: int
    titles: Mapping[str, str]
    baseline: str
    biases: Mapping[str, DrawnBias]
    intervals: pd.DataFrame
    marks: plausibility.Marks
    scores: pd.DataFrame

    def title(self, method: str) -> str:
        """A method's display name; its own where the configuration has it no longer."""
        return self.titles.get(method, method)


def read(run: Path) -> Run:
    """The results of a run, of whatever cells are finished.

    Raises:
        UserError: it is no finished run, or not of drawn populations, or it has no Baseline.
    """
    path = run / layout.path("settings")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the folder of a finished run")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        populations = (settings.get("synthetic") or {}).get("populations") or {}
        biases = drawn_biases.of_tasks(populations, settings["tasks"])
        if not biases:
            raise UserError(
                f"{path}: synthetic.populations: nothing is drawn; give a benchmark's run"
            )
        methods = settings["methods"]
        baselines = [name for name, of in methods.items() if of["algorithm"] == "baseline"]
        of_run = (settings["run"], settings["folds"], settings["repeats"])
        # not all that lies there: other settings may have made it
        panels = [panel for view in settings["experiments"].values() for panel in view["panels"]]
        setups = sorted({(p["task"], p["backbone"], p["attribute"]) for p in panels})
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise UserError(f"{path} is not as a run writes it ({why}): run again") from error
    if not baselines:
        raise UserError(f"{path}: methods: none has algorithm: baseline; add it and run again")

    def all_of(name: str) -> pd.DataFrame:
        keys = (
            dict(zip(("task", "backbone", "attribute"), setup, strict=True)) for setup in setups
        )
        files = (run / layout.path(name, **of) for of in keys)
        return results.joined([file for file in files if file.is_file()])

    intervals = all_of("intervals")
    if intervals.empty:
        raise UserError(f"{run}: there are no intervals; let the run end first")
    return Run(
        *of_run,
        {name: of.get("title") or name for name, of in methods.items()},
        baselines[0],
        biases,
        intervals,
        plausibility.marks(all_of("setup_plausibility")),
        all_of("setup_repeats"),
    )


def evidence(run: Run) -> pd.DataFrame:
    """A row a case and method.

    Columns: CASE, method, eodds, eodds_change, eodds_low, eodds_high (to the Baseline, and its 95 %
    interval), auc, auc_change, auc_low, auc_high, floor_95, oracle_eodds, oracle_auc, regret_eodds,
    regret_auc (what it lacks to the oracle), ranked, inside_noise (the interval of the change
    contains 0, or it is a fall from a gap below the noise floor). The index counts the rows of the
    CSV, less 1.

    Raises:
        UserError: the run has no task without bias, whose Baseline is the oracle.
    """
    keys = ["task", "backbone", "attribute", "dataset", "method"]
    columns = ["value", "difference", "difference_low", "difference_high", "below_floor"]
    of = {
        metric: run.intervals[run.intervals["metric"] == metric].set_index(keys)
        for metric in ("eodds", "auc")
    }
    beside = of["auc"][columns[:4]].rename(columns="{}_auc".format)
    rows = of["eodds"][[*columns, "floor_95"]].join(beside).reset_index()
    rows = rows[rows["task"].isin(run.biases.keys())]
    for name in BIAS:
        rows[name] = [getattr(run.biases[task], name) for task in rows["task"]]
    names = ("change", "low", "high")
    rows = rows.rename(
        columns={"value": "eodds", "value_auc": "auc"}
        | {old: f"eodds_{new}" for old, new in zip(columns[1:4], names, strict=True)}
        | {f"{old}_auc": f"auc_{new}" for old, new in zip(columns[1:4], names, strict=True)}
    )
    rows["ranked"] = [
        run.marks.ranked((*row[:3], row[4], row[3], "eodds"))
        for row in rows[keys].itertuples(index=False, name=None)
    ]
    rows = _beside_oracle(rows, run.baseline)
    rows["biased"] = rows["kind"] != NO_BIAS  # those without a bias first
    rows = rows.sort_values(["biased", *CASE], kind="stable").drop(columns="biased")
    return rows.reset_index(drop=True)


def _beside_oracle(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """With the oracle's numbers, the regret, and what is inside the noise."""
    same = list(PLACE)
    base = rows[rows["method"] == baseline]
    clean = base[(base["kind"] == NO_BIAS) & ~base["external_biased"].astype(bool)]
    if clean.empty:
        raise UserError(
            "there is no oracle: the run has no finished task whose pool is without bias, with the "
            "Baseline among its methods"
        )
    oracle = clean.drop_duplicates(same)[[*same, "eodds", "auc"]]
    oracle = oracle.rename(columns={"eodds": "oracle_eodds", "auc": "oracle_auc"})
    quiet = base[["task", *same, "below_floor"]].rename(columns={"below_floor": "quiet"})
    rows = rows.merge(oracle, on=same, how="left").merge(quiet, on=["task", *same], how="left")
    rows["regret_eodds"] = rows["eodds"] - rows["oracle_eodds"]
    rows["regret_auc"] = rows["oracle_auc"] - rows["auc"]
    # of a gap that is no gap nothing can be removed; but one can be made
    fallen = rows.pop("quiet").fillna(False).astype(bool) & (rows["eodds_low"] <= 0)
    rows["inside_noise"] = fallen | ((rows["eodds_low"] <= 0) & (rows["eodds_high"] >= 0))
    kept = ["method", "eodds", "eodds_change", "eodds_low", "eodds_high", "auc", "auc_change"]
    kept += ["auc_low", "auc_high", "floor_95", "oracle_eodds", "oracle_auc", "regret_eodds"]
    kept += ["regret_auc", "ranked", "inside_noise", "below_floor"]
    return rows[[*CASE, *kept]]


def decide(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """By `RULE`, a row a case: CASE, taken (or `NOTHING`, `NONE`), as_good, rows (of the CSV)."""
    found = []
    for case, part in rows.groupby(CASE, sort=False):
        base = part[part["method"] == baseline]
        others = part[part["method"] != baseline]
        bearable = (others["auc_change"] >= -LOSS) | (others["auc_high"] >= 0)
        good = others[others["ranked"] & (others["eodds_high"] < 0) & bearable]
        good = good.sort_values("eodds", kind="stable")
        taken, as_good, evidence_rows = NONE, [], base.index.tolist()
        if len(base) and base["below_floor"].fillna(False).iloc[0]:
            taken = NOTHING
        elif len(good):
            best, rest = good.iloc[0], good.iloc[1:]
            change = best["eodds_change"]
            alike = rest[(rest["eodds_low"] <= change) & (rest["eodds_high"] >= change)]
            taken, as_good = str(best["method"]), alike["method"].tolist()
            evidence_rows = [*evidence_rows, good.index[0], *alike.index]
        numbers = [int(row) + 1 for row in evidence_rows]
        facts = dict(zip(CASE, case, strict=True))
        found.append(facts | {"taken": taken, "as_good": as_good, "rows": numbers})
    return pd.DataFrame(found)


def several(rows: pd.DataFrame) -> list[str]:
    """What of `PLACE` there are several of: a reader has to be told which one a number is of."""
    return [name for name in PLACE if len(set(rows[name])) > 1]


def places(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of every network, attribute and test set apart, with its name; '' of the only one.

    Numbers of two places are no cases of one bias: neither their mean nor one line shows anything.
    """
    named = several(rows)
    found = rows.groupby(list(PLACE), sort=False)
    return [
        (", ".join(words.title(str(part[name].iloc[0])) for name in named), part)
        for _, part in found
    ]


def stability(repeats: pd.DataFrame, baseline: str) -> float:
    """Kendall's tau of the methods' mean ranks by EOdds, between two halves of the repeats.

    The mean over all pairs of repeats where halves are of one repeat each; nan where there is one.
    """
    from scipy.stats import kendalltau

    if repeats.empty or repeats["repeat"].nunique() < 2:
        return float("nan")
    part = repeats[(repeats["metric"] == "eodds") & (repeats["method"] != baseline)]
    case = ["task", *PLACE]
    means = part.groupby(["repeat", *case, "method"])["value"].mean().reset_index()
    every = means.groupby(case)["method"].transform("nunique") == means["method"].nunique()
    ranked = means[every].assign(rank=lambda rows: rows.groupby(["repeat", *case])["value"].rank())
    scores = ranked.pivot_table("rank", "method", "repeat", aggfunc="mean")
    if len(scores) < 2:
        return float("nan")
    half = len(scores.columns) // 2
    parts = [list(one) for one in combinations(scores.columns, half)]
    taus = [
        kendalltau(scores[one].mean(axis=1), scores.drop(columns=one).mean(axis=1)).statistic
        for one in parts
    ]
    return float(np.mean(taus))
