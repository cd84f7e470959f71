"""What happened, in a few sentences made from the numbers: the first lines of report and verdict.

A result is one method on one test set of one setup. It counts where a table shows it and nothing is
implausible about it or the Baseline's: what is compared, and what is more than chance, is decided
as in the verdict (against.py). A fall of EOdds is one of something where the Baseline's exceeds its
noise floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from ..evaluation.cells import KEYS
from ..evaluation.plausibility import Marks
from ..evaluation.ranks import LEVEL, Ranking
from ..evaluation.thresholds import EXTERNAL
from ..evaluation.words import HIGHER_IS_BETTER, title
from . import against, evidence

PLACE = [key for key in KEYS if key not in ("method", "metric")]
SETUP = PLACE[:3]
MOST_NAMES = 4  # of methods in a sentence


class Changes(NamedTuple):
    """What became of a metric, against the Baseline; counts of results.

    compared: that are ranked and have a difference. better, worse: by sign. from_a_gap: better,
    where the Baseline's gap exceeds its noise floor; None: no floor is known. surely_better,
    surely_worse: as the verdict counts them (`against.compared`); None: there is no interval, as of
    a mean over more than two classes. not_compared: that are implausible, or the Baseline's is.
    aside, aside_baseline: mark -> how many of these bear it.
    """

    compared: int
    better: int
    worse: int
    from_a_gap: int | None
    surely_better: int | None
    surely_worse: int | None
    not_compared: int
    aside: Mapping[str, int]
    aside_baseline: Mapping[str, int]


def changes(
    intervals: pd.DataFrame,
    method: str,
    metric: str,
    baseline: str,
    marks: Marks,
    shown: Collection[tuple[str, ...]],
) -> Changes:
    """Count how a method's metric changed against the Baseline.

    Args:
        intervals: of all setups (`setup_intervals`, with task, backbone, attribute).
        method: a variant.
        metric: e.g. eodds.
        baseline: the variant that differences are taken to.
        marks: what is implausible.
        shown: the cells that count (`against.shown`).
    """
    own = _rows(intervals, method, metric)
    own = own[own["difference"].notna()]
    keys = own[KEYS].itertuples(index=False, name=None)
    own = own.loc[[key in shown for key in keys]]
    keys = own[KEYS].itertuples(index=False, name=None)
    why = [against.aside(key, marks, baseline) for key in keys]
    own = own.loc[[not any(found) for found in why]]
    ends = evidence.ends(own)
    answers = Counter(against.compared(key, ends[key], marks, baseline) for key in ends)
    gain = (1 if metric in HIGHER_IS_BETTER else -1) * own["difference"]
    known = not len(own) or bool(own["difference_low"].notna().any())
    start = _rows(intervals, baseline, metric)[[*PLACE, "below_floor"]]
    floors = own[PLACE].merge(start, on=PLACE, how="left")["below_floor"].astype("boolean")
    seen = (~floors).fillna(False).to_numpy(bool)
    return Changes(
        compared=len(own),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        from_a_gap=int(((gain > 0).to_numpy() & seen).sum()) if floors.notna().any() else None,
        surely_better=answers["better"] if known else None,
        surely_worse=answers["worse"] if known else None,
        not_compared=len(why) - len(own),
        aside=dict(Counter(mark for found, _ in why for mark in found)),
        aside_baseline=dict(Counter(mark for _, found in why for mark in found)),
    )


def _rows(intervals: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    if intervals.empty:
        return pd.DataFrame(columns=[*KEYS, *evidence.Ends._fields, "difference", "below_floor"])
    return intervals[(intervals["method"] == method) & (intervals["metric"] == metric)]


def paragraph(
    intervals: pd.DataFrame,
    marks: Marks,
    rankings: Mapping[str, Ranking],
    titles: Mapping[str, str],
    baseline: str | None,
    swift: str | None,
    shown: Collection[tuple[str, ...]],
) -> list[str]:
    """What happened, a sentence or two an item.

    Args:
        intervals: of all setups.
        marks: what is implausible.
        rankings: metric -> ranks over all test sets.
        titles: display names of the run's methods, in their order.
        baseline: the variant that is the Baseline; None: there is none.
        swift: the variant that is SWiFT; None: every method gets a line.
        shown: the cells that count (`against.shown`).
    """
    present = [m for m in titles if not intervals.empty and (intervals["method"] == m).any()]
    if baseline is None or baseline not in present:
        return ["There is no Baseline in this run, so that nothing is compared with one."] + [
            line for m in present if (line := ranked(m, rankings, titles))
        ]
    shown = set(shown)
    several = len({key[: len(SETUP)] for key in shown}) > 1
    each = " (each counted once for every network and attribute)" if several else ""
    if swift in present and swift is not None:
        return [
            *story(intervals, marks, swift, baseline, titles, shown, each),
            *filter(None, [ranked(swift, rankings, titles)]),
        ]
    others = [m for m in present if m != baseline]
    if not others:
        return ["This run has no method beside the Baseline: nothing is compared."]
    lines = [" ".join(story(intervals, marks, m, baseline, titles, shown)) for m in others]
    return [f"Test sets are counted once for every network and attribute. {lines[0]}", *lines[1:]
            ] if several else lines  # fmt: skip


def story(
    intervals: pd.DataFrame,
    marks: Marks,
    method: str,
    baseline: str,
    titles: Mapping[str, str],
    shown: Collection[tuple[str, ...]],
    each: str = "",
) -> list[str]:
    """What a method did to EOdds and AUC; what is implausible is told and not counted.

    EOdds is that at 0.5, or at the external thresholds where tables show no other.
    """
    name, there = titles.get(method, method), {key[-1] for key in shown}
    gap = "eodds" if "eodds" in there or f"eodds{EXTERNAL}" not in there else f"eodds{EXTERNAL}"
    fairness, skill = (
        changes(intervals, method, metric, baseline, marks, shown) for metric in (gap, "auc")
    )
    lines = [f"{name} {_gap(fairness, title(gap), each)}", _auc(skill)]
    if fairness.not_compared:
        marked = [f"{mark} {n}" for mark, n in fairness.aside.items()]
        other = titles.get(baseline, baseline)
        marked += [f"{other} {mark} {n}" for mark, n in fairness.aside_baseline.items()]
        count = fairness.not_compared
        lines.append(f"Not counted, since implausible: {count} ({', '.join(marked)}).")
    return [line for line in lines if line]


def _gap(found: Changes, metric: str, each: str) -> str:
    if not found.compared:
        return f"has no {metric} that can be compared with the Baseline's."
    text = f"lowered {metric} on {_of(found.better, found.compared)}{each}"
    if found.better and found.from_a_gap is not None:
        text += f", on {_number(found.from_a_gap)} from a gap beyond the noise floor"
    if found.better:
        text += f", {_sure(found.surely_better)}"
    if found.worse:
        text += f". It raised {metric} on {found.worse}, {_sure(found.surely_worse)}"
    return f"{text}."


def _auc(found: Changes) -> str:
    if not found.compared:
        return ""
    text = f"AUC fell on {_of(found.worse, found.compared)}"
    return f"{text}, {_sure(found.surely_worse)}." if found.worse else f"{text}."


def _sure(count: int | None) -> str:
    if count is None:
        return "without an interval, which a mean over classes does not have"
    return f"on {_number(count)} with a 95 % interval that excludes 0"


def ranked(method: str, rankings: Mapping[str, Ranking], titles: Mapping[str, str]) -> str:
    """Where a method stands by mean rank, and from which methods it is not told apart."""
    parts = []
    for metric, found in rankings.items():
        if not found.enough or method not in found.ranks:
            continue
        place = 1 + int((found.means < found.means[method] - 1e-12).sum())
        alike = [titles.get(other, other) for other in found.alike(method)]
        told = f"not distinguishable from {_names(alike)}" if alike else "distinguishable from all"
        parts.append(
            f"By mean rank of {title(metric)} {titles.get(method, method)} is number {place} "
            f"of {found.ranks.shape[1]} ({found.means[method]:.1f}), {told} (Nemenyi, 5 %)."
        )
    return " ".join(parts)


def rank_sentence(found: Ranking, titles: Mapping[str, str]) -> str:
    """A ranking in words; where there is nothing to rank, why."""
    name, (n, k) = title(found.metric), found.ranks.shape
    if k < 2:
        return f"{name}: fewer than two methods are in every case, so that there are no ranks."
    if n < 2:
        return f"{name}: {_cases(n)} with a value of every method, too few for ranks."
    best = str(found.means.index[0])
    text = (
        f"{name}: {titles.get(best, best)} has the lowest mean rank of {k} methods over {n} cases "
        f"({found.means[best]:.2f}). Mean ranks further apart than {found.critical_difference:.2f} "
        "differ (Nemenyi, 5 %)"
    )
    if not pd.isna(found.p):
        whether = "sees no difference" if found.p > LEVEL else "sees differences"
        text += f"; Friedman's test {whether} (p = {found.p:.2g})"
    if found.left_out:
        text += f". Left out, since a value is missing: {_cases(found.left_out)}"
    if found.left_aside:
        named = _names([titles.get(m, m) for m in found.left_aside])
        text += f". Not ranked, since they are not in every case: {named}"
    return text + "."


def _cases(n: int) -> str:
    return f"{_number(n)} case{'s' * (n != 1)}"


def _number(n: int) -> str:
    return "none" if n == 0 else str(n)


def _of(count: int, whole: int) -> str:
    """'6 of 8 test sets', 'none of 8 test sets', 'the only test set'."""
    if whole == 1:
        return "the only test set" if count else "none (there is one test set)"
    return f"{_number(count)} of {whole} test sets"


def _names(names: Sequence[str]) -> str:
    """'A', 'A and B', 'A, B, C, D and 3 more'."""
    shown = [*names[:MOST_NAMES]]
    if len(names) > MOST_NAMES:
        shown.append(f"{len(names) - MOST_NAMES} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def markdown(lines: Iterable[str]) -> str:
    """The sentences as one paragraph."""
    return " ".join(lines)
