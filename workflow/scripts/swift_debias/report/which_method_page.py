"""The page that says which method to take, as Markdown and as a chapter of the report.

Each of its lines names the rows of which_method.csv that it was made from.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ..config.drawn_biases import NO_BIAS
from ..evaluation import words
from ..files import remove, write_text
from . import escaping, html, render, which_method_figures
from .which_method import BIAS, CASE, PLACE, RULE, Run, decide, evidence, places, several, stability
from .which_method_figures import Picture

REGRET = (
    "What a method lacks to the oracle, a Baseline of an unbiased pool of the same size; mean over "
    "the cases with a bias and a clean external set, without what is implausible. Below 0 it beats "
    "the oracle. Methods with fewer cases are not comparable."
)
ENDINGS = ("md", "html", "csv")


def earlier_pictures(out: Path) -> list[Path]:
    """The pictures that an earlier call wrote into a folder; there may be none of it."""
    names = "|".join(which_method_figures.TITLES)
    known = re.compile(rf"which_method_({names})(_\d+)?\.(pdf|png|csv)")
    return [path for path in sorted(out.glob("which_method_*")) if known.fullmatch(path.name)]


def write(run: Run, out: Path) -> list[Path]:
    """which_method.md, .html and .csv, and the pictures; their paths.

    What an earlier call wrote into the folder is removed.

    Raises:
        UserError: the run has no oracle.
    """
    rows = evidence(run)
    out.mkdir(parents=True, exist_ok=True)
    remove([*(out / f"which_method.{ending}" for ending in ENDINGS), *earlier_pictures(out)])
    pictures = which_method_figures.write(places(rows), run.titles, run.baseline, out)
    table = rows.assign(row=rows.index + 1)[["row", *rows.columns]]
    texts = {
        "md": page(run, rows, pictures),
        "html": render.page("Which method?", chapter(run, rows, pictures)),
        "csv": escaping.csv(table, float_format=None),
    }
    written = [out / f"which_method.{ending}" for ending in ENDINGS]
    for path, ending in zip(written, ENDINGS, strict=True):
        write_text(path, texts[ending])
    return [*written, *(path for picture in pictures for path in picture.paths)]


def page(run: Run, rows: pd.DataFrame, pictures: Sequence[Picture]) -> str:
    """The page: decisions, rule, pictures, regret, and whether it can be trusted."""
    lines = [
        "# Which method?",
        "",
        f"Made by `swift-debias which-method` from the run `{run.name}`: **synthetic** "
        f"images, {run.folds} folds, {run.repeats} repeats, {len(rows)} rows of "
        "`which_method.csv`. Each line names the rows that it was made from.",
        "",
        "## In short",
        "",
        *_markdown(_decisions(run, rows)),
        "",
        f"**The rule.** {RULE}",
        "",
        *(line for picture in pictures for line in (_shown(picture), "")),
        "## Regret",
        "",
        REGRET,
        "",
        *_markdown(_regret(run, rows)),
        "",
        "## Can it be trusted?",
        "",
        *(f"- {escaping.markdown(line)}" for line in _trust(run, rows)),
    ]
    return "\n".join(lines) + "\n"


def chapter(run: Run, rows: pd.DataFrame, pictures: Sequence[Picture]) -> str:
    """The same as HTML without a frame, its pictures inside."""
    drawn = [
        html.Shown(
            picture.name,
            picture.title,
            picture.caption,
            picture.file("png"),
            files=tuple(f"which_method/{path.name}" for path in picture.paths),
        )
        for picture in pictures
    ]
    rows_of = "Each line names the rows of which_method/which_method.csv that it was made from."
    return "".join(
        [
            html.grid(_decisions(run, rows), "which", "Which method to take"),
            f"<p>{escape(rows_of)}</p>\n<p><strong>The rule.</strong> {escape(RULE)}</p>\n",
            html.figure_gallery(drawn) if drawn else "",
            html.grid(_regret(run, rows), "regret", "Regret"),
            f"<p>{escape(REGRET)}</p>\n<h3>Can it be trusted?</h3>\n",
            html.bullets(_trust(run, rows)),
        ]
    )


def _shown(picture: Picture) -> str:
    return f"![{escaping.markdown(picture.caption)}]({picture.file('png').name})"


def _decisions(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """The decisions, for readers; the bias-free case is told of elsewhere."""
    parts = dict(list(rows.groupby(CASE)))
    named = several(rows)
    if rows.groupby([*BIAS, *PLACE])["task"].nunique().max() > 1:
        named = ["task", *named]
    found = []
    for one in decide(rows, run.baseline).to_dict("records"):
        if one["kind"] == NO_BIAS:
            continue
        part = parts[tuple(one[name] for name in CASE)]
        base, best = (
            part[part["method"] == name].iloc[:1].to_dict("records")
            for name in (run.baseline, one["taken"])
        )
        found.append(
            {
                "bias": one["kind"].replace("_", " "),
                "strength": f"{one['strength']:g}",
                "external images": f"{one['external']}{', biased' * one['external_biased']}",
            }
            | {PLACE.get(name, name): words.title(str(one[name])) for name in named}
            | {
                "take": run.title(one["taken"]),
                "EOdds": _from_to(base, best, "eodds"),
                "AUC": _from_to(base, best, "auc"),
                "oracle": f"{part['oracle_eodds'].iloc[0]:.3f} / {part['oracle_auc'].iloc[0]:.3f}",
                "as good within noise": ", ".join(run.title(m) for m in one["as_good"]),
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


def _regret(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean regret of each method in each place, the least of EOdds first."""
    part = rows[(rows["kind"] != NO_BIAS) & ~rows["external_biased"].astype(bool) & rows["ranked"]]
    named = several(rows)
    means = part.groupby([*named, "method"], sort=False).agg(
        eodds=("regret_eodds", "mean"), auc=("regret_auc", "mean"), cases=("task", "size")
    )
    means = means.sort_values([*named, "eodds"], kind="stable").reset_index()
    return pd.DataFrame(
        {PLACE[name]: means[name].map(words.title) for name in named}
        | {
            "method": means["method"].map(run.title),
            "EOdds": means["eodds"].map("{:+.3f}".format),
            "AUC": means["auc"].map("{:+.3f}".format),
            "cases": means["cases"].astype(str),
        }
    )


def _trust(run: Run, rows: pd.DataFrame) -> list[str]:
    """The sanity of the benchmark itself, of each place."""
    tau = stability(run.scores, run.baseline)
    return [
        *(line for place, part in places(rows) for line in _clean(place, part, run)),
        f"Ranks by EOdds in two halves of the repeats agree by Kendall's tau of {tau:.2f}."
        if tau == tau
        else "There is one repeat, or too few methods: the stability of ranks is not known.",
        "One pool of each kind is drawn; other pools, networks and real images are not covered.",
    ]


def _clean(place: str, rows: pd.DataFrame, run: Run) -> list[str]:
    """What is to be seen where there is no bias."""
    clean = rows[rows["kind"] == NO_BIAS]
    base, others = clean[clean["method"] == run.baseline], clean[clean["method"] != run.baseline]
    of = f"{place}: " * bool(place)
    if base.empty:
        return [f"{of}There is no oracle: no task without a bias."]
    sure = others[(others["eodds_low"] > 0) | (others["eodds_high"] < 0)]
    named = ", ".join(run.title(m) for m in sure["method"]) or "none"
    below = bool(base["below_floor"].fillna(False).all())
    sure_of = f"those whose EOdds surely differs from the Baseline's: {named}."
    return [
        f"{of}The oracle's EOdds is {base['eodds'].mean():.3f}, "
        f"{'below' if below else 'above'} its noise floor ({base['floor_95'].mean():.3f}).",
        f"{of}Without a bias, {len(others)} results of other methods; {sure_of}"
        if len(others)
        else f"{of}No other method was run without a bias (experiment clean).",
    ]


def _markdown(table: pd.DataFrame) -> list[str]:
    """A table in Markdown; names are the user's."""
    if table.empty:
        return ["There is no case with a bias."]

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(escaping.markdown(str(cell)) for cell in cells) + " |"

    rows = [line(row) for row in table.itertuples(index=False, name=None)]
    return [line(list(table.columns)), "|" + " --- |" * len(table.columns), *rows]
