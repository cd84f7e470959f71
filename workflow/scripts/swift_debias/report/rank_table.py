"""The methods' mean ranks over all test sets, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from ..evaluation import plausibility, ranks
from ..evaluation.cells import Block, lookup
from ..evaluation.ranks import Ranking
from ..evaluation.words import title
from . import in_words

TITLE = "Mean ranks of the methods"
CAUTION = (
    "A case is one test set of one network and attribute; rank 1 is the best. Implausible numbers "
    "share the last places, gaps below their noise floor the first. The tests take the cases for "
    "independent; they share pools and images, so that small differences are even less certain."
)


def rankings(
    blocks: Iterable[Block],
    metrics: pd.DataFrame,
    judged: pd.DataFrame,
) -> dict[str, Ranking]:
    """Metric -> the ranks of the methods that are in every case.

    Args:
        blocks: cases and methods.
        metrics: the tidy metrics.
        judged: what is implausible or below its noise floor (`plausibility.judge`).
    """
    wanted = metrics[metrics["metric"].isin(ranks.METRICS)]
    cells, marks = lookup(wanted), plausibility.marks(judged)
    parts = list(blocks)
    return {name: ranks.rank(parts, cells, name, marks) for name in ranks.METRICS}


def caption(found: Mapping[str, Ranking], titles: Mapping[str, str]) -> list[str]:
    """A sentence a metric; where there are ranks, what they are too."""
    sentences = [in_words.rank_sentence(one, titles) for one in found.values()]
    return sentences + [CAUTION] * any(one.enough for one in found.values())


def for_readers(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """`ranks.table` with the names of things."""

    def names(methods: str) -> str:
        return ", ".join(titles.get(m, m) for m in methods.split("; ") if m)

    return pd.DataFrame(
        {
            "metric": table["metric"].map(title),
            "method": table["method"].map(lambda name: titles.get(name, name)),
            "mean rank": table["mean_rank"],
            "cases": table["cases"],
            "not distinguishable from": table["alike"].map(names),
        }
    )
