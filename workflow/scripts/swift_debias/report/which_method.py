"""Which method, for which kind of bias: a page made from a run of the benchmark, by a stated rule.

Nothing is judged by hand. `evidence` puts beside each other what the run measured, a row a case and
method; `decide` takes a method by `RULE`; the page shows both, and each of its lines names the rows
of which_method.csv that it was made from.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from ..errors import UserError
from ..evaluation import plausibility, words
from ..files import read_parquet, write_text
from ..run import layout
from . import escaping

if TYPE_CHECKING:
    from .which_method_figures import Picture

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
BIAS = ["kind", "strength", "external", "external_biased"]
PLACE = {"dataset": "test set", "backbone": "network", "attribute": "attribute"}  # and its heading
CASE = [*BIAS, "task", *PLACE]


class Run(NamedTuple):
    """What a run of the benchmark left.

    settings: plain values of settings.yaml. intervals: task, backbone, attribute and the columns of
    `setup_intervals`. marks: what is implausible. repeats: metrics of each repeat; may be empty.
    """

    settings: Mapping[str, Any]
    intervals: pd.DataFrame
    marks: plausibility.Marks
    repeats: pd.DataFrame


def read(run: Path) -> Run:
    """The results of a run, of whatever cells are finished.

    Raises:
        UserError: it is no finished run, or not of drawn populations.
    """
    path = run / layout.path("settings")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the folder of a finished run")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not (settings.get("synthetic") or {}).get("populations"):
        raise UserError(f"{path}: synthetic.populations: nothing is drawn; give a benchmark's run")

    def all_of(name: str) -> pd.DataFrame:
        pattern = layout.path(name, task="*", backbone="*", attribute="*")
        frames = [read_parquet(file) for file in sorted(run.glob(pattern))]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    intervals = all_of("intervals")
    if intervals.empty:
        raise UserError(f"{run}: there are no intervals; let the run end first")
    marks = plausibility.marks(all_of("setup_plausibility"))
    return Run(settings, intervals, marks, all_of("setup_repeats"))


def case_of(settings: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Kind and strength of a task's bias, and how many external images it has, biased or not."""
    drawn = settings["synthetic"]["populations"]
    pools, external = (
        [drawn[name] for name in settings["tasks"][task][key]] for key in ("train", "external")
    )
    bias = next((pool["bias"] for pool in pools if pool.get("bias")), None)
    strength = 0.0 if bias is None else float(bias["strength"])
    kind = "none" if not strength or bias is None else str(bias["kind"])
    if (kind, strength) == ("imbalance", 1.0):
        kind = "absence"
    return {
        "kind": kind,
        "strength": strength,
        "external": sum(int(one["images"]) for one in external),
        "external_biased": any(one.get("bias") for one in external),
    }


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
    facts = {task: case_of(run.settings, task) for task in rows["task"].unique()}
    for name in ("kind", "strength", "external", "external_biased"):
        rows[name] = [facts[task][name] for task in rows["task"]]
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
    rows = _beside_oracle(rows)
    rows["biased"] = rows["kind"] != "none"  # those without a bias first
    rows = rows.sort_values(["biased", *CASE], kind="stable").drop(columns="biased")
    return rows.reset_index(drop=True)


def _beside_oracle(rows: pd.DataFrame) -> pd.DataFrame:
    """With the oracle's numbers, the regret, and what is inside the noise."""
    same = list(PLACE)
    base = rows[rows["method"] == "baseline"]
    clean = base[(base["kind"] == "none") & ~base["external_biased"].astype(bool)]
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


def decide(rows: pd.DataFrame) -> pd.DataFrame:
    """By `RULE`, a row a case: CASE, taken (or `NOTHING`, `NONE`), as_good, rows (of the CSV)."""
    found = []
    for case, part in rows.groupby(CASE, sort=False):
        base = part[part["method"] == "baseline"]
        others = part[part["method"] != "baseline"]
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


def stability(repeats: pd.DataFrame) -> float:
    """Kendall's tau of the methods' mean ranks by EOdds, between two halves of the repeats.

    The mean over all pairs of repeats where halves are of one repeat each; nan where there is one.
    """
    from scipy.stats import kendalltau

    if repeats.empty or repeats["repeat"].nunique() < 2:
        return float("nan")
    part = repeats[(repeats["metric"] == "eodds") & (repeats["method"] != "baseline")]
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


def write(run: Path, out: Path) -> list[Path]:
    """which_method.md, which_method.csv, and the pictures; their paths."""
    from . import which_method_figures

    found = read(run)
    rows = evidence(found)
    titles = {name: of.get("title") or name for name, of in found.settings["methods"].items()}
    out.mkdir(parents=True, exist_ok=True)
    pictures = which_method_figures.write(places(rows), titles, out)
    text = page(found, rows, titles, pictures)
    write_text(out / "which_method.md", text)
    table = rows.assign(row=rows.index + 1)[["row", *rows.columns]]
    write_text(out / "which_method.csv", escaping.csv(table, float_format=None))
    drawn = [path for picture in pictures for path in picture.paths]
    return [out / "which_method.md", out / "which_method.csv", *drawn]


def page(
    run: Run, rows: pd.DataFrame, titles: Mapping[str, str], pictures: Sequence[Picture]
) -> str:
    """The page: decisions, rule, pictures, regret, and whether it can be trusted."""
    settings = run.settings
    lines = [
        "# Which method?",
        "",
        f"Made by `swift-debias which-method` from the run `{settings['run']}`: **synthetic** "
        f"images, {settings['folds']} folds, {settings['repeats']} repeats, {len(rows)} rows of "
        "`which_method.csv`. Each line names the rows that it was made from.",
        "",
        "## In short",
        "",
        *_markdown(_decisions(rows, titles)),
        "",
        f"**The rule.** {RULE}",
        "",
        *(line for picture in pictures for line in (_shown(picture), "")),
        "## Regret",
        "",
        "What a method lacks to the oracle, a Baseline of an unbiased pool of the same size; mean "
        "over the cases with a bias and a clean external set, without what is implausible. Below 0 "
        "it beats the oracle. Methods with fewer cases are not comparable.",
        "",
        *_markdown(_regret(rows, titles)),
        "",
        "## Can it be trusted?",
        "",
        *_trust(run, rows, titles),
    ]
    return "\n".join(lines) + "\n"


def _shown(picture: Picture) -> str:
    name = next(path.name for path in picture.paths if path.suffix == ".png")
    return f"![{escaping.markdown(picture.caption)}]({name})"


def _decisions(rows: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The decisions, for readers; the bias-free case is told of elsewhere."""
    parts = dict(list(rows.groupby(CASE)))
    named = several(rows)
    if rows.groupby([*BIAS, *PLACE])["task"].nunique().max() > 1:
        named = ["task", *named]
    found = []
    for one in decide(rows).to_dict("records"):
        if one["kind"] == "none":
            continue
        part = parts[tuple(one[name] for name in CASE)]
        base, best = (
            part[part["method"] == name].iloc[:1].to_dict("records")
            for name in ("baseline", one["taken"])
        )
        found.append(
            {
                "bias": one["kind"].replace("_", " "),
                "strength": f"{one['strength']:g}",
                "external images": f"{one['external']}{', biased' * one['external_biased']}",
            }
            | {PLACE.get(name, name): words.title(str(one[name])) for name in named}
            | {
                "take": titles.get(one["taken"], one["taken"]),
                "EOdds": _from_to(base, best, "eodds"),
                "AUC": _from_to(base, best, "auc"),
                "oracle": f"{part['oracle_eodds'].iloc[0]:.3f} / {part['oracle_auc'].iloc[0]:.3f}",
                "as good within noise": ", ".join(titles.get(m, m) for m in one["as_good"]),
                "rows": ", ".join(map(str, one["rows"])),
            }
        )
    return pd.DataFrame(found)


def _from_to(base: list[dict[Hashable, Any]], best: list[dict[Hashable, Any]], metric: str) -> str:
    """'.41 to .10 (-.35 to -.27)': before, after, and the interval of the change."""
    if not base:
        return ""
    if not best:
        return f"{base[0][metric]:.3f}"
    after = best[0]
    change = f"{after[f'{metric}_low']:+.3f} to {after[f'{metric}_high']:+.3f}"
    return f"{base[0][metric]:.3f} to {after[metric]:.3f} ({change})"


def _regret(rows: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Mean regret of each method in each place, the least of EOdds first."""
    part = rows[(rows["kind"] != "none") & ~rows["external_biased"].astype(bool) & rows["ranked"]]
    named = several(rows)
    means = part.groupby([*named, "method"], sort=False).agg(
        eodds=("regret_eodds", "mean"), auc=("regret_auc", "mean"), cases=("task", "size")
    )
    means = means.sort_values([*named, "eodds"], kind="stable").reset_index()
    return pd.DataFrame(
        {PLACE[name]: means[name].map(words.title) for name in named}
        | {
            "method": means["method"].map(lambda name: titles.get(name, name)),
            "EOdds": means["eodds"].map("{:+.3f}".format),
            "AUC": means["auc"].map("{:+.3f}".format),
            "cases": means["cases"].astype(str),
        }
    )


def _trust(run: Run, rows: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """The sanity of the benchmark itself, of each place."""
    tau = stability(run.repeats)
    return [
        *(line for place, part in places(rows) for line in _clean(place, part, titles)),
        f"- Ranks by EOdds in two halves of the repeats agree by Kendall's tau of {tau:.2f}."
        if tau == tau
        else "- There is one repeat, or too few methods: the stability of ranks is not known.",
        "- One pool of each kind is drawn; other pools, networks and real images are not covered.",
    ]


def _clean(place: str, rows: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """What is to be seen where there is no bias."""
    clean = rows[rows["kind"] == "none"]
    base, others = clean[clean["method"] == "baseline"], clean[clean["method"] != "baseline"]
    of = f"{escaping.markdown(place)}: " * bool(place)
    if base.empty:
        return [f"- {of}There is no oracle: no task without a bias."]
    sure = others[(others["eodds_low"] > 0) | (others["eodds_high"] < 0)]
    named = ", ".join(titles.get(m, m) for m in sure["method"]) or "none"
    below = bool(base["below_floor"].fillna(False).all())
    sure_of = f"those whose EOdds surely differs from the Baseline's: {named}."
    return [
        f"- {of}The oracle's EOdds is {base['eodds'].mean():.3f}, "
        f"{'below' if below else 'above'} its noise floor ({base['floor_95'].mean():.3f}).",
        f"- {of}Without a bias, {len(others)} results of other methods; {sure_of}"
        if len(others)
        else f"- {of}No other method was run without a bias (experiment `clean`).",
    ]


def _markdown(table: pd.DataFrame) -> list[str]:
    """A table in Markdown; names are the user's."""
    if table.empty:
        return ["There is no case with a bias."]

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(escaping.markdown(str(cell)) for cell in cells) + " |"

    rows = [line(row) for row in table.itertuples(index=False, name=None)]
    return [line(list(table.columns)), "|" + " --- |" * len(table.columns), *rows]
