"""Every number of the first paragraph, recomputed from planted frames with pandas."""

from __future__ import annotations

import itertools
import re
from math import nan

import numpy as np
import pandas as pd
import pytest

from swift_debias.evaluation import ranks
from swift_debias.evaluation.cells import KEYS, Block, Cell
from swift_debias.evaluation.plausibility import NO_MARKS, Marks
from swift_debias.report import against, evidence, in_words, rank_table

METHODS = ("baseline", "fdr", "swift")
TITLES = {"baseline": "Baseline", "fdr": "FullFT-FDR", "swift": "SWiFT"}
COLUMNS = ["task", "backbone", "attribute", "dataset", "metric", "method", "value"]
COLUMNS += ["difference", "difference_low", "difference_high", "below_floor", "low", "high"]
Keys = set[tuple[str, ...]]


def planted(seed: int, setups: int = 2, datasets: int = 4) -> pd.DataFrame:
    """Intervals as rule `intervals` writes them, with every sign, floor and gap of values."""
    rng = np.random.default_rng(seed)
    rows = []
    for setup, dataset in itertools.product(range(setups), range(datasets)):
        for metric, method in itertools.product(("eodds", "auc"), METHODS):
            place = ("skin", f"net{setup}", "sex", f"d{dataset}", metric, method, rng.random())
            change = np.full(3, nan)
            if method != "baseline":
                middle = rng.choice([-0.1, -0.02, 0.0, 0.02, 0.1]) + rng.normal(0, 1e-4)
                change = np.array([middle, middle - 0.05, middle + 0.05])
            below = bool(rng.random() < 0.4) if metric == "eodds" else None
            rows.append((*place, *change, below, 0.0, 1.0))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"below_floor": "boolean"})


def numbers(text: str) -> list[int]:
    """The numbers of a sentence, 'none' as 0, those of '95 %' and names left out."""
    plain = text.replace("95 % interval that excludes 0", "")
    return [0 if n == "none" else int(n) for n in re.findall(r"\b(?:none|\d+)\b", plain)]


def cells(intervals: pd.DataFrame) -> Keys:
    """All cells."""
    return {*intervals[KEYS].itertuples(index=False, name=None)} if len(intervals) else set()


def told(
    intervals: pd.DataFrame,
    marks: Marks = NO_MARKS,
    swift: str | None = "swift",
    shown: Keys | None = None,
) -> list[str]:
    shown = cells(intervals) if shown is None else shown
    return in_words.paragraph(intervals, marks, {}, TITLES, "baseline", swift, shown)


@pytest.mark.parametrize("seed", range(40))
def test_every_number_is_that_of_pandas(seed: int) -> None:
    intervals = planted(seed)
    rng = np.random.default_rng(seed)
    cases = intervals[intervals["method"] == "swift"][COLUMNS[:4]].drop_duplicates()
    cases = [tuple(case) for case in cases.itertuples(index=False)]
    unseen = [case for case in cases if rng.random() < 0.2]
    its, bases = ([case for case in cases if rng.random() < 0.15] for _ in range(2))
    marks = Marks(
        {(*case[:3], "swift", case[3], ""): ("collapsed",) for case in its}
        | {(*case[:3], "baseline", case[3], ""): ("constant decisions",) for case in bases}
    )
    shown = {key for key in cells(intervals) if (*key[:3], key[4]) not in unseen}

    own = intervals[intervals["method"] == "swift"].set_index(COLUMNS[:4])
    own = own[[case not in unseen + its + bases for case in own.index]]
    base = intervals[(intervals["method"] == "baseline") & (intervals["metric"] == "eodds")]
    seen = ~base.set_index(COLUMNS[:4])["below_floor"].astype(bool)
    fair, skill = own[own["metric"] == "eodds"], own[own["metric"] == "auc"]
    lower = fair[fair["difference"] < 0]
    expected = [len(lower), len(fair)]
    if len(lower):
        expected += [int(seen[lower.index].sum()), int((lower["difference_high"] < 0).sum())]
    higher = fair[fair["difference"] > 0]
    if len(higher):
        expected += [len(higher), int((higher["difference_low"] > 0).sum())]
    fell = skill[skill["difference"] < 0]
    of_auc = [len(fell), len(skill)]
    if len(fell):
        of_auc.append(int((fell["difference_high"] < 0).sum()))

    lines = told(intervals, marks, shown=shown)
    if not len(fair):
        assert lines[0] == "SWiFT has no EOdds that can be compared with the Baseline's."
        return
    assert lines[0].startswith("SWiFT lowered EOdds on ")
    assert numbers(lines[0]) == expected
    assert lines[1].startswith("AUC fell on ") and numbers(lines[1]) == of_auc
    its, bases = ([case for case in part if case not in unseen] for part in (its, bases))
    out = {*its, *bases}
    assert len(lines) == 2 + bool(out)
    if out:
        why = [f"collapsed {len(its)}"] * bool(its)
        why += [f"Baseline constant decisions {len(bases)}"] * bool(bases)
        assert lines[2] == f"Not counted, since implausible: {len(out)} ({', '.join(why)})."


@pytest.mark.parametrize("seed", range(20))
def test_it_counts_as_the_verdict_does(seed: int) -> None:
    """Of drawn marks, floors and tables: the same rows, the same answers."""
    intervals, rng = planted(seed, 3), np.random.default_rng(seed)
    names = ("collapsed", "constant decisions", "levelled down", "small group")
    of: dict[tuple[str, ...], tuple[str, ...]] = {}
    for key in cells(intervals):
        if rng.random() < 0.1:
            of[(*key[:-1], "")] = (str(rng.choice(names)),)
        if key[-1] == "eodds" and rng.random() < 0.5:
            of[key] = ("below floor",)
    metrics = (("eodds",), ("auc", "eodds"), ("auc",))
    blocks = [
        Block("skin", f"net{i}", "sex", ("d0", "d1", "d3")[: 1 + i], METHODS, metrics[i])
        for i in range(3)
    ]
    marks = Marks(of)
    table = against.against_baseline({"t": blocks}, evidence.ends(intervals), marks, {}, {})
    for metric, name in (("eodds", "EOdds"), ("auc", "AUC")):
        found = in_words.changes(
            intervals, "swift", metric, "baseline", marks, against.shown(blocks)
        )
        [row] = table[(table["method"] == "swift") & (table["metric"] == name)].to_dict("records")
        assert (found.surely_better, found.surely_worse) == (row["better"], row["worse"])
        assert found.not_compared == row["not ranked"]
        assert found.compared + found.not_compared == row["test sets"]


def test_where_tables_show_the_external_thresholds_alone_their_gap_is_told() -> None:
    intervals = planted(1)
    other = intervals.assign(metric=intervals["metric"] + "@external", difference=-0.5)
    both = pd.concat([intervals, other[other["metric"] == "eodds@external"]])
    text = told(both, shown={key for key in cells(both) if key[-1] != "eodds"})[0]
    assert text.startswith("SWiFT lowered EOdds, ext. threshold on 8 of 8 test sets")
    assert told(both)[0] == told(intervals)[0]


def test_one_test_set_and_none() -> None:
    intervals = planted(0, 1, 1)
    intervals.loc[intervals["method"] == "swift", COLUMNS[7:10]] = [-0.1, -0.15, -0.05]
    intervals.loc[intervals["metric"] == "eodds", "below_floor"] = False
    assert told(intervals) == [
        "SWiFT lowered EOdds on the only test set, on 1 from a gap beyond the noise floor, on 1 "
        "with a 95 % interval that excludes 0.",
        "AUC fell on the only test set, on 1 with a 95 % interval that excludes 0.",
    ]
    intervals.loc[intervals["method"] == "swift", COLUMNS[7:10]] = [0.0, -0.05, 0.05]
    assert told(intervals) == [
        "SWiFT lowered EOdds on none (there is one test set).",
        "AUC fell on none (there is one test set).",
    ]


def test_several_setups_are_told_once() -> None:
    assert "(each counted once for every network and attribute)" in told(planted(1))[0]
    assert "counted" not in told(planted(1, setups=1))[0]


def test_without_floors_nothing_is_said_of_them() -> None:
    intervals = planted(2)
    intervals["below_floor"] = pd.array([None] * len(intervals), "boolean")
    assert "noise floor" not in " ".join(told(intervals))


def test_without_swift_every_method_has_a_line() -> None:
    lines = told(planted(3), swift=None)
    assert [line.split(" lowered")[0].split(". ")[-1] for line in lines] == ["FullFT-FDR", "SWiFT"]
    shown = cells(planted(3))
    own = in_words.story(planted(3), NO_MARKS, "fdr", "baseline", TITLES, shown)
    assert lines[0].endswith(" ".join(own))


def test_another_variant_may_be_swift() -> None:
    assert told(planted(4), swift="fdr")[0].startswith("FullFT-FDR lowered EOdds")


@pytest.mark.parametrize("baseline", [None, "gone"])
def test_without_a_baseline(baseline: str | None) -> None:
    lines = in_words.paragraph(planted(5), NO_MARKS, {}, TITLES, baseline, "swift", set())
    assert lines == ["There is no Baseline in this run, so that nothing is compared with one."]


def test_without_other_methods_and_without_intervals() -> None:
    alone = planted(6)
    alone = alone[alone["method"] == "baseline"]
    assert "no method beside the Baseline" in told(alone)[0]
    assert told(pd.DataFrame()) == [
        "There is no Baseline in this run, so that nothing is compared with one."
    ]


def test_no_value_at_all() -> None:
    intervals = planted(7)
    intervals.loc[:, COLUMNS[7:10]] = nan
    assert told(intervals) == ["SWiFT has no EOdds that can be compared with the Baseline's."]


def ranking(values: dict[str, list[float]], metric: str = "eodds") -> ranks.Ranking:
    names = tuple(values)
    n = len(next(iter(values.values())))
    cells = {
        ("skin", "net", "sex", name, f"d{i}", metric): Cell(value, nan, 1, 0, None)
        for name, own in values.items()
        for i, value in enumerate(own)
    }
    block = Block("skin", "net", "sex", tuple(f"d{i}" for i in range(n)), names, (metric,))
    return ranks.rank([block], cells, metric, NO_MARKS)


def test_who_is_not_told_apart() -> None:
    n = 30
    found = ranking({"baseline": [0.9] * n, "fdr": [0.1, 0.2] * (n // 2), "swift": [0.15] * n})
    text = in_words.ranked("swift", {"eodds": found}, TITLES)
    assert text == (
        "By mean rank of EOdds SWiFT is number 1 of 3 (1.5), not distinguishable from FullFT-FDR "
        "(Nemenyi, 5 %)."
    )
    assert "distinguishable from all" in in_words.ranked("baseline", {"eodds": found}, TITLES)


def test_a_ranking_in_words() -> None:
    found = ranking({"baseline": [0.9] * 9, "fdr": [0.5] * 9, "swift": [0.1] * 9})
    text = in_words.rank_sentence(found, TITLES)
    assert text.startswith(
        "EOdds: SWiFT has the lowest mean rank of 3 methods over 9 cases (1.00)."
    )
    assert f"further apart than {found.critical_difference:.2f} differ" in text
    assert "sees differences" in text
    assert f"p = {found.p:.2g}" in text
    mixed = ranking({"baseline": [0.1, 0.9, 0.5], "fdr": [0.9, 0.5, 0.1], "swift": [0.5, 0.1, 0.9]})
    assert "Friedman's test sees no difference (p = 1)" in in_words.rank_sentence(mixed, TITLES)
    one = ranking({"baseline": [0.9], "swift": [0.1]})
    assert in_words.rank_sentence(one, TITLES) == (
        "EOdds: 1 case with a value of every method, too few for ranks."
    )
    alone = ranking({"swift": [0.1, 0.2]})
    assert "fewer than two methods" in in_words.rank_sentence(alone, TITLES)
    assert rank_table.caption({"eodds": one}, TITLES) == [in_words.rank_sentence(one, TITLES)]
    assert rank_table.caption({"eodds": found}, TITLES)[-1] == rank_table.CAUTION
