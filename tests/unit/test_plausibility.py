"""plausibility.py: every fault planted, every mark's letter and rank; errors by simulation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swift_debias.evaluation import metrics, plausibility
from swift_debias.evaluation.cells import Block, lookup
from swift_debias.evaluation.plausibility import CHECKS, judge
from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.report import marks_table, render, tables, unranked

SETUP = {"task": "skin", "backbone": "net", "attribute": "sex"}
NAMES = {"sex": ["female", "male"]}
TITLES = {"baseline": "Baseline", "swift": "SWiFT", "llft": "LLFT"}
METHODS = ("baseline", "swift", "llft")


def scores(
    skill: float = 1.5, shift: float = 0.0, sizes: tuple[int, int] = (200, 200), seed: int = 0
) -> pd.DataFrame:
    """Predictions on a test set: half of each group is of class 1; `shift` moves all logits."""
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1], sizes)
    label = np.concatenate([np.arange(n) % 2 for n in sizes])
    logit = skill * (2 * label - 1) + rng.normal(size=len(label)) + shift
    frame = pd.DataFrame({"dataset": "ddi", "label": label, "group": group})
    return frame.assign(score=1 / (1 + np.exp(-logit)))


def tidy(folds: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """The metrics of each method's folds."""
    return pd.concat(
        [
            metrics.score(predictions, groups=2).assign(**SETUP, method=method, fold=fold)
            for method, parts in folds.items()
            for fold, predictions in enumerate(parts)
        ],
        ignore_index=True,
    )


def found(method: str, **folds: list[pd.DataFrame]) -> dict[str, str]:
    """Mark -> text of a method."""
    judged = judge(tidy(folds), NAMES, {"skin": 20})
    assert list(judged.columns) == plausibility.COLUMNS
    return judged[judged["method"] == method].set_index("mark")["text"].to_dict()


GOOD = [scores(seed=1), scores(seed=2)]


def turned(predictions: pd.DataFrame, group: int | None = None) -> pd.DataFrame:
    """The classes swapped, of everybody or of one group."""
    where = predictions["group"] == group if group is not None else predictions["group"] >= 0
    return predictions.assign(label=predictions["label"].mask(where, 1 - predictions["label"]))


def test_a_good_classifier_has_no_mark() -> None:
    assert found("swift", swift=GOOD, baseline=GOOD) == {}


@pytest.mark.parametrize(
    ("mark", "folds", "text"),
    [
        ("implausible", [turned(part) for part in GOOD], "AUC is 0.0"),
        ("implausible", [turned(part, 1) for part in GOOD], "AUC of group male is 0.0"),
        ("small group", [scores(sizes=(4, 200))], "female has 2 images of class 1 and 2"),
        ("constant decisions", [scores(shift=-99)], "decided for class 0 in 1 of 1 folds"),
        ("constant decisions", [*GOOD, scores(shift=99)], "decided for class 1 in 1 of 3 folds"),
        ("collapsed", [scores(skill=0.02)], "below 0.55"),
        ("collapsed", [scores(skill=0.3, sizes=(20, 20), seed=6)], "interval starts at 0.4"),
        ("levelled down", [scores(skill=0.4)], "EOdds fell from 0.5"),
    ],
)
def test_a_planted_fault_is_found(mark: str, folds: list[pd.DataFrame], text: str) -> None:
    baseline = GOOD
    if mark == "levelled down":  # right about men, and calls every woman positive
        unfair = scores(3.0, seed=9)
        baseline = [unfair.assign(score=unfair.score.mask(unfair.group == 0, 0.9))]
    marks = found("swift", swift=folds, baseline=baseline)
    assert mark in marks, marks
    assert text in marks[mark]


def test_the_legend_names_the_limits_that_are_used() -> None:
    """Of two and of three classes, each found by trying which balanced accuracy is marked."""
    found = []
    for classes in range(2, 8):
        tried = np.arange(1, 1000) / 1000
        marked = [bool(plausibility.hardly_better(value, float("nan"), classes)) for value in tried]
        assert marked == sorted(marked, reverse=True)
        found.append(tried[marked.index(False)])
        tenth = 1 / classes + 0.1 * (1 - 1 / classes)
        assert found[-1] == pytest.approx(tenth, abs=0.00101)
    meaning = plausibility.CHECKS["collapsed"].meaning
    assert (
        f"below {found[0]:g} of two classes, {found[1]:g} of three (a tenth of the way" in meaning
    )


def test_nobody_is_levelled_down_against_oneself_or_without_a_baseline() -> None:
    weak = [scores(skill=0.6)]
    assert "levelled down" not in found("baseline", baseline=weak, swift=GOOD)
    assert "levelled down" not in found("swift", swift=weak)
    worse_and_less_fair = [weak[0].assign(score=weak[0].score.mask(weak[0].group == 1, 0.9))]
    marks = found("swift", swift=worse_and_less_fair, baseline=GOOD)
    assert "levelled down" not in marks


def test_a_group_that_does_not_count_is_not_small() -> None:
    """Of three groups one is left out of the differences, which the notes say."""
    three = scores(sizes=(200, 210))
    three.loc[three.index[-10:], "group"] = 2
    tidied = metrics.score(three, groups=3, min_group=20).assign(**SETUP, method="swift", fold=0)
    names = {"sex": ["a", "b", "c"]}
    assert judge(tidied, names, {"skin": 20}).empty
    tidied = metrics.score(three, groups=3, min_group=5).assign(**SETUP, method="swift", fold=0)
    assert judge(tidied, names, {"skin": 5})["text"].tolist() == [
        "group c has 5 images of class 1 and 5 of class 0"
    ]


@pytest.mark.parametrize(("positives", "negatives"), [(30, 30), (10, 80), (200, 50)])
def test_the_error_of_an_auc_is_that_of_scores_without_skill(
    positives: int, negatives: int
) -> None:
    """At least 1 % and at most 4 % of coins are below the limit that 2.5 % are to be below."""
    rng = np.random.default_rng(3)
    ranks = rng.random((4000, positives + negatives)).argsort(axis=1).argsort(axis=1)
    above = ranks[:, :positives].sum(axis=1) - positives * (positives - 1) / 2
    aucs = above / (positives * negatives)
    share = np.mean([plausibility.below_chance(a, positives, negatives) for a in aucs])
    assert 0.01 < share < 0.04


@pytest.mark.parametrize(("tpr", "fpr", "n"), [(0.6, 0.4, (50, 80)), (0.9, 0.2, (200, 30))])
def test_the_error_of_balanced_accuracy(tpr: float, fpr: float, n: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    draws = [rng.binomial(size, p, 20000) / size for size, p in zip(n, (tpr, fpr), strict=True)]
    measured = np.std((draws[0] + 1 - draws[1]) / 2)
    assert plausibility.balanced_accuracy_error(tpr, fpr, *n) == pytest.approx(measured, rel=0.06)
    assert np.isnan(plausibility.balanced_accuracy_error(tpr, fpr, 0, 3))


def with_patients(folds: dict[str, list[pd.DataFrame]], images: int) -> pd.DataFrame:
    """Predictions as `setup_intervals` takes them; so many images in a row are of one patient."""
    parts = []
    for method, of_folds in folds.items():
        for fold, part in enumerate(of_folds):
            ids = np.arange(len(part))
            names = {"image_id": ids.astype(str), "patient_id": (ids // images).astype(str)}
            parts.append(part.assign(method=method, fold=fold, **names))
    return pd.concat(parts, ignore_index=True)


def test_images_of_one_patient_are_no_independent_images() -> None:
    """Each of 26 images seen ten times: as uncertain as 26, where 260 images would be certain."""
    few = scores(skill=0.35, sizes=(14, 12), seed=5)
    many = few.loc[few.index.repeat(10)].reset_index(drop=True)
    assert "collapsed" not in found("swift", swift=[many])
    intervals = setup_intervals(with_patients({"swift": [many]}, 10), 2, 0, 0).assign(**SETUP)
    judged = judge(tidy({"swift": [many]}), NAMES, {"skin": 20}, intervals=intervals)
    [text] = judged[judged["mark"] == "collapsed"]["text"]
    decided = (few["score"] >= 0.5).to_numpy()
    right = np.where(few["label"] == 1, decided, ~decided)
    # by hand: mean of two shares; n - 1 since a share of n patients follows each of them
    shares = [right[few["label"] == y] for y in (0, 1)]
    value = np.mean([share.mean() for share in shares])
    error = np.sqrt(sum(share.var(ddof=1) / len(share) for share in shares)) / 2
    assert text == (
        f"balanced accuracy is {value:.3f} and its 95 % interval starts at "
        f"{value - 1.96 * error:.3f}"
    )


@pytest.fixture(scope="module")
def floors() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Of five methods two are fair, one is not, one a little, and one decides alike for all."""
    shifts = {"baseline": 0.9, "swift": 0.0, "llft": 0.0, "bmft": 0.25, "diffgda": 0.0}
    folds: dict[str, list[pd.DataFrame]] = {}
    for place, (method, shift) in enumerate(shifts.items()):
        parts = [scores(1.0, seed=10 * place + fold) for fold in (1, 2)]
        for part in parts:
            logit = np.log(part["score"] / (1 - part["score"]))
            logit += np.where(part["group"] == 1, shift, -shift) - 99 * (method == "diffgda")
            part["score"] = 1 / (1 + np.exp(-logit))
        folds[method] = parts
    intervals = setup_intervals(with_patients(folds, 1), 2, 0, 200).assign(**SETUP)
    tidied = tidy(folds)
    return tidied, intervals, judge(tidied, NAMES, {"skin": 20}, intervals=intervals)


def test_gaps_below_their_noise_floor_are_marked(floors: Any) -> None:
    tidied, intervals, judged = floors
    marked = judged[judged["mark"] == "below floor"].set_index(["method", "metric"])["text"]
    means = tidied.groupby(["method", "metric"])["value"].mean()
    known = intervals[intervals["floor_95"].notna()]
    expected = {
        (row.method, row.metric)
        for row in known.itertuples()
        if means[row.method, row.metric] <= row.floor_95
    }
    assert {*marked.index} == expected
    assert ("swift", "eodds") in expected and ("baseline", "eodds") not in expected
    floor = known.set_index(["method", "metric"])["floor_95"]["swift", "spd"]
    assert marked["swift", "spd"] == (
        f"spd is {means['swift', 'spd']:.3f}, and its noise floor is {floor:.3f}"
    )
    assert (judged[judged["mark"] != "below floor"]["metric"] == "").all()


def test_gaps_below_their_noise_floor_are_not_ranked_against_each_other(floors: Any) -> None:
    tidied, _, judged = floors
    methods = ("baseline", "swift", "llft", "bmft", "diffgda")
    marks = plausibility.marks(judged)
    block = Block("skin", "net", "sex", ("ddi",), methods, ("auc", "spd", "eodds"))
    table = tables.assemble("t", "T", [block], lookup(tidied), {}, {}, False, marks=marks)
    ranks = [[entry.rank for entry in row] for row in render.entries(table, block)]
    below = {
        metric: {*judged[(judged["mark"] == "below floor") & (judged["metric"] == metric)].method}
        for metric in block.metrics
    }
    assert {"swift", "llft", "diffgda"} <= below["eodds"] and not below["auc"]
    for column, metric in enumerate(block.metrics):
        means = tidied[tidied["metric"] == metric].groupby("method")["value"].mean()
        means = means.drop("diffgda")  # collapsed: it neither has a place nor takes one
        order = [
            *means.drop([*below[metric] - {"diffgda"}]).sort_values(ascending=metric != "auc").index
        ]
        places = dict.fromkeys(methods, 0)
        if not below[metric]:
            places |= {order[0]: 1, order[1]: 2}
        elif order:
            places |= {order[0]: 2}
        assert {m: row[column] for m, row in zip(methods, ranks, strict=True)} == places
    assert "Those marked f share the first place; none of them is bold." in table.caption
    assert "noise floor" in dict(render.legend(table))["f"]
    won = unranked.would_have_won({"t": [block]}, lookup(tidied), marks, {}, {})
    best = won.set_index("metric")["best"]["eodds"].split(" and ")
    assert {*best} == below["eodds"] - {"diffgda"}
    text = marks_table.section(judged, {})
    assert f"(f): {CHECKS['below floor'].meaning}. " in text
    assert "Such gaps are not ranked against each other." in text


# --- ranks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> tuple[pd.DataFrame, pd.DataFrame]:
    """LLFT calls nobody positive, so that its gaps are 0; the others decide."""
    tidied = tidy(
        {
            "baseline": [scores(1.2, seed=1), scores(1.2, seed=2)],
            "swift": [scores(1.4, seed=3), scores(1.4, seed=4)],
            "llft": [scores(2.0, shift=-99, seed=5), scores(2.0, shift=-99, seed=6)],
        }
    )
    return tidied, judge(tidied, NAMES, {"skin": 20})


def make(tidied: pd.DataFrame, judged: pd.DataFrame) -> tables.Table:
    block = Block("skin", "net", "sex", ("ddi",), METHODS, ("auc", "spd", "eodds"))
    marks = plausibility.marks(judged)
    return tables.assemble("t", "T", [block], lookup(tidied), {}, TITLES, False, marks=marks)


def test_what_is_implausible_is_neither_best_nor_second(run: Any, tmp_path: Path) -> None:
    plain, table = make(run[0], run[1].iloc[:0]), make(*run)
    before, after = (
        [[e.rank for e in row] for row in render.entries(t, t.blocks[0])] for t in (plain, table)
    )
    assert before[2] == [1, 1, 1]  # the constant one would have won everything
    assert after[2] == [0, 0, 0]
    assert sorted(row[0] for row in after) == [0, 1, 2]
    llft = table.cells[table.cells["method"] == "llft"][:3]  # then the signed gaps
    assert llft["marks"].tolist() == [
        "constant decisions; collapsed",
        *["constant decisions; collapsed; levelled down"] * 2,
    ]
    assert (table.cells[table.cells["method"] != "llft"]["marks"] == "").all()
    assert "Numbers marked k, c, l are neither." in table.caption
    paths = {path.suffix: path.read_text() for path in render.write(table, tmp_path)}
    assert "<sup>k,c</sup>" in paths[".md"] and "<sup>k,c</sup>" in paths[".html"]
    assert "\\textsuperscript{k,c}" in paths[".tex"] and "0.000^k,c" in paths[".txt"]
    for suffix in (".md", ".html", ".txt"):
        for mark in ("constant decisions", "collapsed"):
            assert (
                CHECKS[mark].meaning.replace("'", "&#x27;" if suffix == ".html" else "'")
                in (paths[suffix])
            )
        assert CHECKS["implausible"].meaning not in paths[suffix]
    row = next(line for line in paths[".md"].splitlines() if line.startswith("| LLFT"))
    assert "**" not in row and "<u>" not in row


def test_the_verdict_names_what_would_have_won(run: Any) -> None:
    block = Block("skin", "net", "sex", ("ddi",), METHODS, ("auc", "spd", "tpr"))
    marks = plausibility.marks(run[1])
    won = unranked.would_have_won({"t": [block, block]}, lookup(run[0]), marks, {}, TITLES)
    assert won["method"].tolist() == ["LLFT", "LLFT"]  # tpr has no better way
    assert won["metric"].tolist() == ["auc", "spd"]
    assert won["because"][0] == "constant decisions, collapsed"
    means = run[0][run[0].metric == "auc"].groupby("method")["value"].mean()
    assert won["best"][0] == TITLES[means.drop("llft").idxmax()]
    assert "2 numbers would have been the best" in unranked.sentences(won)[0]
    assert unranked.sentences(won[:0]) == []


def test_the_report_says_how_often_and_of_whom(run: Any) -> None:
    text = marks_table.section(run[1], TITLES)
    assert re.search(r"Constant decisions \(k\): .*1 of the methods&#x27; .*\(LLFT 1\)", text)
    assert marks_table.section(run[1][:0], TITLES) == "<p>No number is implausible.</p>\n"


@pytest.mark.parametrize("where", ["at 0.5", "at the external threshold"])
@pytest.mark.parametrize(
    ("mark", "threshold"),
    [("constant decisions", 1 - 1e-9), ("collapsed", 0.999), ("levelled down", 0.98)],
)
def test_each_threshold_is_judged_by_itself(where: str, mark: str, threshold: float) -> None:
    good, unfair = scores(seed=3), scores(3.0, seed=9)
    unfair = unfair.assign(score=unfair.score.mask(unfair.group == 0, 0.9), threshold=0.5)
    if where == "at 0.5":  # logits moved so that what was decided there is decided at 0.5
        move = np.log(threshold / (1 - threshold))
        odds = good.score / (1 - good.score) * np.exp(-move)
        good, bad, sound = good.assign(score=odds / (1 + odds)), "eodds", "eodds@external"
        threshold = 1 - threshold
    else:
        bad, sound = "eodds@external", "eodds"
    swift = good.assign(threshold=threshold)
    marks = plausibility.marks(
        judge(tidy({"swift": [swift], "baseline": [unfair]}), NAMES, {"skin": 20})
    )
    keys = [("skin", "net", "sex", "swift", "ddi", metric) for metric in (bad, sound)]
    assert mark in [one.mark for one in marks.about(keys[0])]
    assert [marks.ranked(key) for key in keys] == [False, True]


def test_one_repeat_of_a_fold_that_decides_alike_is_found() -> None:
    parts = [scores(seed=1), scores(shift=-99, seed=2)]  # the mean selection rate is no 0
    of_repeats = [metrics.score(one, groups=2) for one in parts]
    mean = metrics.mean_of_repeats(of_repeats).assign(**SETUP, method="swift", fold=0)
    each = pd.concat([one.assign(**SETUP, method="swift", fold=0) for one in of_repeats])
    assert "constant decisions" not in set(judge(mean, NAMES, {"skin": 20})["mark"])
    judged = judge(mean, NAMES, {"skin": 20}, repeats=each).set_index("mark")["text"]
    assert "class 0 in 1 of 2 models" in judged["constant decisions"]


def test_which_metrics_a_mark_concerns() -> None:
    about = {
        mark: [m for m in ("auc", "tpr[0]", "spd", "auc_min") if check.about(m)]
        for mark, check in CHECKS.items()
    }
    assert about.pop("small group") == ["tpr[0]", "spd", "auc_min"]
    assert about.pop("levelled down") == ["spd"]
    assert about.pop("below floor") == []  # only those that it was found of
    assert all(metrics == ["auc", "tpr[0]", "spd", "auc_min"] for metrics in about.values())
    decided = {"constant decisions", "collapsed", "levelled down"}  # at each threshold by itself
    at_another = {mark for mark, check in CHECKS.items() if check.about("eodds@external")}
    assert at_another == {*CHECKS} - decided - {"below floor"}
    there = {mark for mark, check in CHECKS.items() if check.about("eodds@external", True)}
    assert there == {*CHECKS} - {"below floor"}
    assert not any(CHECKS[mark].about("eodds", True) for mark in decided)
    letters = [check.letter for check in CHECKS.values()]
    assert len(set(letters)) == len(letters)
