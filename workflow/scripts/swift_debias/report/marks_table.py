"""What is implausible, as a chapter of report.html."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..evaluation.plausibility import CASE, CHECKS
from ..evaluation.thresholds import EXTERNAL
from ..evaluation.words import title
from .html import bullets, grid


def section(judged: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """A sentence a mark, and every row of `plausibility.judge` below them."""
    told = sentences(judged, titles)
    if not told:
        return "<p>No number is implausible.</p>\n"
    table = grid(for_readers(judged, titles), "marks", "Where, and what was found")
    return bullets(told) + table


def sentences(judged: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """How often each mark was given, to which methods, and what follows."""
    found = []
    for mark, check in CHECKS.items():
        rows = judged[judged["mark"] == mark]
        if rows.empty:
            continue
        often = (
            rows.drop_duplicates(CASE)["method"]
            .map(lambda name: titles.get(name, name))
            .value_counts()
        )
        who = ", ".join(f"{name} {count}" for name, count in often.items())
        ranked = "" if check.ranked else " Such a number is never the best of its column."
        ranked += " Such gaps are not ranked against each other." if check.shared else ""
        found.append(
            f"{mark[:1].upper()}{mark[1:]} ({check.letter}): {check.meaning}. "
            f"{often.sum()} of the methods' results on a test set ({who}).{ranked}"
        )
    return found


def for_readers(judged: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The rows, with the names of things."""
    names = {key: judged[key].map(title) for key in CASE if key != "method"}
    return pd.DataFrame(
        {
            **names,
            "method": judged["method"].map(lambda name: titles.get(name, name)),
            "of": judged["metric"].map(_whose),
            "mark": judged["mark"],
            "what was found": judged["text"],
        }
    )


def _whose(metric: str) -> str:
    """The metrics that a mark is of."""
    of_all = {"": "all", EXTERNAL: "all at the external thresholds"}
    return of_all.get(metric) or title(metric)
