"""verdict.py and claims.py: hand checks on the published numbers, planted truths on others."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.real import PAPER

from swift_debias.config.schema import Method
from swift_debias.errors import UserError
from swift_debias.evaluation import plausibility
from swift_debias.evaluation.cells import KEYS, Block, lookup
from swift_debias.report import claim_checks, claim_sweeps, claims, published, verdict
from swift_debias.report.claims import decide, judge
from swift_debias.report.evidence import Evidence, Scope, Where

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = published.read_published(ROOT / "resources" / "published_results.csv")
CLAIMS = claims.read_claims(ROOT / "resources" / "claims.yaml")
BY_ID = {claim.id: claim for claim in CLAIMS}

SKIN = ("skin", "resnet50", "skin_tone", "fitzpatrick17k")
AGE = ("cxr", "resnet50", "age", "chexpert")

# The method variants of a run: those of the tables, and sweeps over one setting.
VARIANTS = {
    "baseline": {"algorithm": "baseline", "title": "Baseline"},
    "swift": {"algorithm": "swift", "title": "SWiFT"},
    "swift_epochs_05": {"algorithm": "swift", "epochs_percent": 5},
    "swift_epochs_20": {"algorithm": "swift", "epochs_percent": 20},
    "swift_epochs_40": {"algorithm": "swift", "epochs_percent": 40},
    "swift_external_20": {"algorithm": "swift", "external_fraction": 0.2},
    "swift_external_40": {"algorithm": "swift", "external_fraction": 0.4},
    "swift_reinit_30": {"algorithm": "swift", "threshold": 0.3},
    "swift_reinit_70": {"algorithm": "swift", "threshold": 0.7},
    "swift_random_mask": {"algorithm": "swift", "mask": "random", "epochs_percent": 5},
    "llft": {"algorithm": "llft"},
}
METHODS = {name: Method(**settings) for name, settings in VARIANTS.items()}


def as_metrics(cells: pd.DataFrame, folds: int = 5) -> pd.DataFrame:
    """Metrics rows whose mean and sample standard deviation over folds are those given."""
    z = np.arange(folds) - (folds - 1) / 2
    z = z / z.std(ddof=1)
    unique = cells.drop_duplicates(KEYS)
    rows = [
        unique[KEYS].assign(fold=k, value=unique["mean"] + unique["std"] * z[k], n=9, reason=None)
        for k in range(folds)
    ]
    return pd.concat(rows, ignore_index=True)


def panels(rename: dict[str, str] | None = None) -> dict[str, list[Block]]:
    """The run's tables, on the paper's networks or on others."""
    found: dict[str, list[Block]] = {}
    for (table, *key), _ in PUBLISHED.groupby(["table", "task", "backbone", "attribute"]):
        task, backbone, attribute = key
        network = (rename or {}).get(backbone, backbone)
        found.setdefault(f"table{table}", []).append(Block(task, network, attribute, (), (), ()))
    return found


def run(metrics: pd.DataFrame, synthetic: bool = False, **kwargs: object) -> verdict.Verdict:
    arguments = {"panels": panels(), "methods": METHODS, "epochs_percent": {"skin": 10, "cxr": 10}}
    return verdict.reach_verdict(
        metrics, PUBLISHED, CLAIMS, synthetic=synthetic, **{**arguments, **kwargs}
    )


@pytest.fixture(scope="module")
def same() -> verdict.Verdict:
    """A run that got exactly the published numbers."""
    return run(as_metrics(PUBLISHED))


# --- what is implausible --------------------------------------------------------------------------


def marked(method: str, backbone: str = "resnet50") -> pd.DataFrame:
    """A method that is collapsed on Fitzpatrick-17k."""
    row = {"task": "skin", "backbone": backbone, "attribute": "skin_tone", "method": method}
    return pd.DataFrame([{**row, "dataset": "fitzpatrick17k", "mark": "collapsed", "text": "x"}])


def mock_evidence(judged: pd.DataFrame | None = None) -> Evidence:
    """A run that got the published numbers."""
    pairs = PUBLISHED[["task", "backbone"]].drop_duplicates().itertuples(index=False, name=None)
    return Evidence(
        published=PUBLISHED,
        cells=lookup(as_metrics(PUBLISHED)),
        backbones={pair: pair[1] for pair in pairs},
        sweeps={},
        titles={},
        absent="",
        is_paper=False,
        marks=plausibility.NO_MARKS if judged is None else plausibility.marks(judged),
    )


def test_a_win_that_is_implausible_does_not_count(same: verdict.Verdict) -> None:
    """Of every claim that SWiFT wins on Fitzpatrick-17k; elsewhere nothing changes."""
    found = run(as_metrics(PUBLISHED), judged=marked("swift"))
    mine, theirs = (
        one.instances[one.instances["source"] == "ours"].reset_index(drop=True)
        for one in (found, same)
    )
    changed = mine["text"] != theirs["text"]
    assert changed.sum() >= 4
    assert mine[changed]["text"].str.contains("is collapsed").all()
    assert mine[changed]["label"].str.contains("Fitzpatrick").all()
    won = changed & (theirs["holds"] == True)  # noqa: E712
    assert won.any()
    assert not (mine[won]["holds"] == True).any()  # noqa: E712
    assert (mine[~changed]["holds"].isna() == theirs[~changed]["holds"].isna()).all()
    paper = [one.instances[one.instances["source"] == "published"] for one in (found, same)]
    pd.testing.assert_frame_equal(*paper)


def test_a_rival_that_is_implausible_is_not_the_best_other(same: verdict.Verdict) -> None:
    """SPD of Fitzpatrick-17k: SWiFT .092, LLFT .097, FairPrune .101, BMFT .119."""
    found = run(as_metrics(PUBLISHED), judged=marked("llft"))
    where = Where(tables=(1,), dataset="fitzpatrick17k", attribute="skin_tone")
    reduced = claim_checks.Reduction(
        type="reduction", from_method="best_other", to_method="swift", metric="spd", percent=0,
        where=where,
    )  # fmt: skip
    best = claim_checks.Best(type="best", method="bmft", metrics=("spd",), where=where)
    evidence = mock_evidence(marked("llft"))
    for ranked, other in ((mock_evidence(), "llft"), (evidence, "")):
        [one] = reduced.instances(ranked)
        assert ("llft" in one.text) == bool(other)
    [one] = best.instances(dataclasses.replace(evidence))
    assert "not counted, though better: llft is collapsed" in one.text
    assert len(found.claims) == len(same.claims)


SEX = ("cxr", "resnet50", "sex", "chexpert")
DENSE = ("cxr", "densenet121", "age", "chexpert")


def with_marks(evidence: Evidence, *marked: tuple[tuple, str], mark: str = "collapsed") -> Evidence:
    """The evidence with a mark on (scope, method)."""
    of = {}
    for (task, backbone, attribute, dataset), method in marked:
        of[task, backbone, attribute, method, dataset, ""] = (mark,)
    return dataclasses.replace(evidence, marks=plausibility.Marks(of))


def swapped(name: str) -> claims.Claim:
    """A claim of two places, the other way round: it does not hold where the claim does."""
    claim = BY_ID[name]
    one, two = {"reductions": ("greater", "smaller"), "order": ("low", "high")}[claim.check.type]
    sides = {one: getattr(claim.check, two), two: getattr(claim.check, one)}
    return claim.model_copy(update={"check": claim.check.model_copy(update=sides)})


def closer(name: str) -> claims.Claim:
    """`not_much_worse` by nothing: .879 against .880 does not hold."""
    check = BY_ID[name].check.model_copy(update={"within": 0.0})
    return BY_ID[name].model_copy(update={"check": check})


IMPROVES, WORSE = BY_ID["chexpert-age-improves-more"], BY_ID["chexpert-densenet-age-auc-quoted"]
ORDER = BY_ID["chexpert-gender-less-biased-spd"]


@pytest.mark.parametrize(
    ("claim", "marked", "holds"),
    [
        (IMPROVES, (AGE, "swift"), False),
        (IMPROVES, (SEX, "swift"), True),
        (IMPROVES, (SEX, "baseline"), False),  # a low start makes the other reduction smaller
        (IMPROVES, (AGE, "baseline"), True),
        (swapped(IMPROVES.id), (AGE, "swift"), None),
        (swapped(IMPROVES.id), (SEX, "baseline"), None),
        (swapped(IMPROVES.id), (SEX, "swift"), False),
        (WORSE, (DENSE, "swift"), False),
        (WORSE, (DENSE, "baseline"), True),
        (closer(WORSE.id), (DENSE, "swift"), False),
        (closer(WORSE.id), (DENSE, "baseline"), None),
        # of two places none wins
        (ORDER, (SEX, "baseline"), None),
        (ORDER, (AGE, "baseline"), None),
        (swapped(ORDER.id), (AGE, "baseline"), None),
        (ORDER, (AGE, "swift"), True),
    ],
)
def test_no_kind_of_claim_rests_on_what_is_implausible(
    claim: claims.Claim, marked: tuple, holds: bool | None
) -> None:
    """It wins nothing (False), and what it would refute is not known (None)."""
    found = judge(claim, with_marks(mock_evidence(), marked))
    assert found.holds is holds
    plain = judge(claim, mock_evidence()).holds
    assert ("is collapsed" in found.detail) == (plain is not holds)


def test_where_all_is_implausible_nothing_holds() -> None:
    """Every claim that has numbers, with every number of the published tables marked."""
    rows = PUBLISHED.drop_duplicates(KEYS)
    places = rows[["task", "backbone", "attribute", "dataset", "method"]].drop_duplicates()
    every = [(tuple(place[:4]), place[4]) for place in places.itertuples(index=False, name=None)]
    evidence = mock_evidence()
    told = {claim.id: judge(claim, with_marks(evidence, *every)) for claim in CLAIMS}
    assert sum(judge(claim, evidence).holds is True for claim in CLAIMS) > 10
    assert [name for name, outcome in told.items() if outcome.holds is True] == []


def test_reductions_below_the_noise_floor_are_not_known() -> None:
    """Of either place: nothing is known to have fallen there."""
    for scope in (AGE, SEX):
        of = {(*scope[:3], m, scope[3], "eodds"): ("below floor",) for m in ("swift", "baseline")}
        evidence = dataclasses.replace(mock_evidence(), marks=plausibility.Marks(of))
        found = judge(IMPROVES, evidence)
        assert found.holds is None
        assert "both below the noise floor" in found.detail


def test_one_fold_has_no_spread_to_be_judged() -> None:
    """Not False: nothing is known of it."""
    spread = [claim for claim in CLAIMS if getattr(claim.check, "of", "mean") == "std"]
    assert spread
    evidence = dataclasses.replace(
        mock_evidence(), cells=lookup(as_metrics(PUBLISHED).query("fold == 2"))
    )
    for claim in spread:
        found = judge(claim, evidence)
        assert found.holds is None
        assert {one.holds for one in found.instances} == {None}
        assert "fewer than two folds" in found.detail


# --- the one interval -----------------------------------------------------------------------------


def drawn_intervals(seed: int = 0) -> pd.DataFrame:
    """An interval for every cell of the published tables, and one of its difference."""
    rng = np.random.default_rng(seed)
    frame = PUBLISHED.drop_duplicates(KEYS)[[*KEYS, "mean"]]
    low, high = np.sort(rng.normal(0, 0.02, (2, len(frame))), axis=0)
    half = rng.uniform(0, 0.05, len(frame))
    frame = frame.assign(low=frame["mean"] - half, high=frame["mean"] + half)
    frame = frame.assign(difference_low=low, difference_high=high)
    frame.loc[frame["method"] == "baseline", ["difference_low", "difference_high"]] = np.nan
    return frame


def test_comparisons_tell_the_one_interval(same: verdict.Verdict) -> None:
    """Beside the Baseline its difference's; beside others whether both overlap. No answer turns."""
    intervals = drawn_intervals()
    found = run(as_metrics(PUBLISHED), intervals=intervals)
    mine, theirs = (
        one.instances[one.instances["source"] == "ours"].reset_index(drop=True)
        for one in (found, same)
    )
    pd.testing.assert_frame_equal(mine[["id", "label", "holds"]], theirs[["id", "label", "holds"]])
    paper = [one.instances[one.instances["source"] == "published"] for one in (found, same)]
    pd.testing.assert_frame_equal(*paper)
    row = intervals.set_index(KEYS).sort_index().loc[(*SKIN[:3], "swift", SKIN[3], "auc")]
    [text] = mine[
        (mine["id"] == "auc-above-baseline-everywhere")
        & mine["label"].str.contains("Fitzpatrick-17k \\(skin tone, ResNet-50")
    ]["text"]
    word = "not distinguishable" if row.difference_low <= 0 <= row.difference_high else "disting"
    assert f", {word}" in text
    assert text.endswith(f"difference {row.difference_low:+.3f} to {row.difference_high:+.3f}")
    rivals = mine[mine["id"] == "swift-auc-above-bmft"]["text"]
    ends = intervals[intervals["metric"] == "auc"].set_index(["method", *KEYS[:3], "dataset"])
    places = PUBLISHED[(PUBLISHED.table <= 4)].drop_duplicates([*KEYS[:3], "dataset"])
    count = 0
    for place in places[[*KEYS[:3], "dataset"]].itertuples(index=False, name=None):
        one, two = ends.loc[("swift", *place)], ends.loc[("bmft", *place)]
        count += one.high < two.low or two.high < one.low
    assert rivals.str.contains("intervals apart").sum() == count > 0


def test_gaps_below_the_floor_are_not_ranked_against_each_other(same: verdict.Verdict) -> None:
    """SPD of Fitzpatrick-17k: SWiFT .092, LLFT .097, FairPrune .101, BMFT .119."""

    def evidence(*methods: str) -> Evidence:
        rows = pd.concat([marked(method) for method in methods], ignore_index=True)
        return mock_evidence(rows.assign(mark="below floor", metric="spd"))

    where = Where(tables=(1,), dataset="fitzpatrick17k", attribute="skin_tone")
    kinds = {"where": where, "metrics": ("spd",)}
    better = claim_checks.Better(type="better", better=("swift",), than=("bmft",), **kinds)
    best = claim_checks.Best(type="best", method="llft", **kinds)
    reduced = claim_checks.Reduction(
        type="reduction", from_method="bmft", to_method="swift", metric="spd", percent=1,
        where=where,
    )  # fmt: skip
    for below, holds in (
        (("swift",), (True, False, True)),
        (("swift", "bmft"), (None, False, None)),
        (("swift", "llft"), (True, True, True)),  # these two share the first place
        (("swift", "llft", "bmft"), (None, True, None)),
    ):
        given = evidence(*below)
        answers = [check.instances(given)[0] for check in (better, best, reduced)]
        assert tuple(answer.holds for answer in answers) == holds, below
    assert "both below the noise floor" in answers[0].text


def test_differences_to_the_baseline_are_counted() -> None:
    """Every method and metric, against a loop over all cells."""
    intervals = drawn_intervals(1)
    blocks = {
        f"table{table}": [
            Block(*key, *(tuple(part[name].unique()) for name in ("dataset", "method", "metric")))
            for key, part in rows.groupby(KEYS[:3])
        ]
        for table, rows in PUBLISHED[PUBLISHED.table <= 4].groupby("table")
    }
    floor = marked("swift").assign(mark="below floor", metric="spd")
    floor = pd.concat([floor, floor.assign(method="baseline"), marked("llft").assign(metric="")])
    found = run(as_metrics(PUBLISHED), panels=blocks, intervals=intervals, judged=floor).against
    counted: dict[tuple[str, str], dict[str, int]] = {}
    cells = PUBLISHED[PUBLISHED.table <= 4].drop_duplicates(KEYS)[KEYS]
    for row in cells.merge(intervals, on=KEYS).itertuples():
        if row.method == "baseline":
            continue
        place = (row.task, row.backbone, row.attribute, row.dataset)
        answers = counted.setdefault((row.method, row.metric), {})
        if place == SKIN and row.method == "llft":
            name = "not ranked"
        elif row.difference_low <= 0 <= row.difference_high or (
            (place, row.method, row.metric) == (SKIN, "swift", "spd")
        ):
            name = "not distinguishable"
        else:
            up = row.difference_low > 0
            name = "better" if up == (row.metric == "auc") else "worse"
        answers[name] = answers.get(name, 0) + 1
    titles = {"auc": "AUC", "spd": "SPD", "eodds": "EOdds"}
    assert len(found) == len(counted) == 9 * 3
    for (method, metric), answers in counted.items():
        shown = {"swift": "SWiFT"}.get(method, method)
        row = found[(found["method"] == shown) & (found["metric"] == titles[metric])].iloc[0]
        assert {k: row[k] for k in answers} == answers
        assert row["test sets"] == sum(answers.values()) == 16
    text = verdict.markdown(run(as_metrics(PUBLISHED), panels=blocks, intervals=intervals))
    assert "## Against the Baseline" in text and "Differences to the Baseline" in text


# --- claims on the published tables ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "holds", "detail"),
    [
        # Table 1, Fitzpatrick-17k: 0.144 -> 0.092 is 36.1 %; EOdds 0.159 -> 0.096 is 39.6 %
        ("fitzpatrick-spd-quoted", True, "text 36.1 %, table 36.1 %"),
        ("fitzpatrick-eodds-quoted", False, "text 37.6 %, table 39.6 %"),
        ("fitzpatrick-eodds-quoted", False, "0.101 is SPD of Baseline on DDI"),
        ("fitzpatrick-eodds-quoted", False, "0.064 is EOdds of SWiFT on DDI"),
        ("fitzpatrick-eodds-quoted", False, "the quoted values give 36.6 %"),
        ("fitzpatrick-eodds-quoted", False, "37.6 % is the reduction in SPD on DDI"),
        ("fitzpatrick-spd-reduction", True, "0.144 to 0.092: 36.1 %"),
        ("fitzpatrick-eodds-reduction", True, "0.159 to 0.096: 39.6 %"),
        # best other on Fitzpatrick-17k: LLFT, SPD 0.097 and EOdds 0.113; on DDI EOdds 0.088
        ("fitzpatrick-spd-best-other-quoted", False, "text 15.1 %, table 5.2 %"),
        ("fitzpatrick-eodds-best-other-quoted", False, "27.3 % is the reduction in EOdds on DDI"),
        ("cxr-age-spd-best-other-quoted", True, "table 34.4 %"),  # FairPrune 0.090 -> 0.059
        ("cxr-age-eodds-best-other-quoted", True, "table 34.2 %"),  # BMFT 0.038 -> 0.025
        ("chexpert-age-eodds-quoted", False, "45.9 % is the reduction in SPD on CheXpert"),
        ("chexpert-gender-eodds-quoted", False, "text 23.1 %, table 46.2 %"),
        ("diffprune-atlas-best-spd", False, "0.006, best other bmft 0.005"),
        ("diffprune-atlas-auc-falls", True, "0.788 against 0.768"),
        # 0.879 < 0.880 on CheXpert (Table 4), 0.785 = 0.785 on Atlas (Table 2)
        ("auc-above-baseline-everywhere", False, "14 of 16 hold"),
        ("auc-above-baseline-nearly-everywhere", True, "14 of 16 hold"),
        ("auc-above-baseline-one-exception", False, "14 of 16 hold"),
        ("chexpert-densenet-age-auc-quoted", True, "0.879 against 0.880"),
        ("multi-baseline-lowest-not-above-overall", False, "0.589, 0.586"),
        ("multi-baseline-lowest-not-above-overall-age", True, "0.813, 0.871"),
        ("multi-auc-gap", True, "0.030 against 0.048"),
        ("hard-mask-beats-random", False, "4 of 6 hold"),  # Atlas: SPD, EOdds 0.023 > 0.017
        ("soft-mask-beats-random", True, "6 of 6 hold"),
        ("minmax-auc-above-zscore", False, "0.873 against 0.880"),
        ("first-step-alone-beats-baseline", False, "0.787 against 0.788"),
        ("second-step-alone-beats-baseline", False, "3 of 6 hold"),
        ("partial-reinit-beats-none", False, "5 of 6 hold"),  # CheXpert AUC 0.873 = 0.873
        ("partial-reinit-auc-above-full", False, "0.873 against 0.876"),
        ("chexpert-age-improves-more", True, "0.051 to 0.025: 51.0 %"),
        ("fullft-rw-inconsistent", True, "hold"),
    ],
)
def test_hand_checked_claims(same: verdict.Verdict, name: str, holds: bool, detail: str) -> None:
    row = same.claims.set_index("id").loc[name]
    assert row.holds_published is holds
    assert detail in row.published


def test_counted_claims_by_brute_force(same: verdict.Verdict) -> None:
    """Best of ten, counted with a pivot over Tables 1-4."""
    part = PUBLISHED[PUBLISHED.table <= 4]
    index = ["task", "backbone", "attribute", "dataset"]
    for metric, name in (("auc", "auc"), ("spd", "spd"), ("eodds", "eodds")):
        wide = part[part.metric == metric].pivot_table(index=index, columns="method", values="mean")
        assert wide.shape == (16, 10)
        best = wide.max(axis=1) if metric == "auc" else wide.min(axis=1)
        count = int((wide.swift == best).sum())
        row = same.claims.set_index("id").loc[f"swift-best-{name}-most"]
        assert row.published.startswith(f"{count} of 16 hold")
        assert row.holds_published is (count > 8)


def test_only_figures_and_pictures_cannot_be_checked_on_the_tables(same: verdict.Verdict) -> None:
    open_claims = same.claims[[holds is None for holds in same.claims.holds_published]]
    checks = {name: BY_ID[name].check.type for name in open_claims.id}
    assert set(checks.values()) == {"sweep", "sweep_pair", "peak", "manual"}
    assert open_claims.published.str.startswith("not computed: ").all()


def test_a_run_with_the_published_numbers_is_judged_like_them(same: verdict.Verdict) -> None:
    assert np.allclose(same.cells.difference, 0)
    assert all(value is True for value in same.cells.overlap)
    for row in same.claims.itertuples():
        if BY_ID[row.id].check.type == "quotation":
            assert row.holds_ours is None
            assert "about the paper's own text" in row.ours
        else:
            assert row.holds_ours is row.holds_published, row.id


def test_quotes_are_the_papers_words() -> None:
    if not PAPER.is_file():
        pytest.skip("the paper's text is not beside this checkout")

    def plain(text: str) -> str:
        return re.sub(r"\s+", " ", text.replace("’", "'").replace("–", "-"))

    paper = plain(PAPER.read_text(encoding="utf-8"))
    for claim in CLAIMS:
        for part in re.split(r"\[[^\]]*\]", plain(claim.quote)):
            assert part.strip() in paper, claim.id


# --- cells ----------------------------------------------------------------------------------------


def test_cells_state_difference_overlap_and_what_is_missing() -> None:
    shifted = PUBLISHED.copy()
    shifted["mean"] += 0.02
    shifted = shifted[shifted.task == "skin"]
    cells = run(as_metrics(shifted)).cells
    assert len(cells) == 558
    skin = cells[cells.task == "skin"]
    assert np.allclose(skin.difference, 0.02)
    assert [value is True for value in skin.overlap] == list(skin.published_std * 2 >= 0.02 - 1e-9)
    cxr = cells[cells.task == "cxr"]
    assert cxr.difference.isna().all()
    assert all(value is None for value in cxr.overlap)
    assert set(cxr.reason) == {"not computed in this run"}


def test_one_fold_has_no_interval() -> None:
    single = as_metrics(PUBLISHED).query("fold == 2")
    cells = run(single).cells
    assert np.allclose(cells.difference, 0)
    assert set(cells.reason) == {"fewer than two folds: no interval"}


def test_synthetic_runs_on_other_networks_are_judged_but_not_compared() -> None:
    rename = {"resnet50": "small", "efficientnet_b3": "small2", "densenet121": "small2"}
    metrics = as_metrics(PUBLISHED).replace({"backbone": rename})
    answer = run(metrics, synthetic=True, panels=panels(rename))
    assert answer.cells["mean"].notna().all()
    assert answer.cells.difference.isna().all()
    assert set(answer.cells.reason) == {"synthetic data: not comparable"}
    assert set(answer.cells[answer.cells.backbone == "resnet50"].network) == {"small"}
    row = answer.claims.set_index("id").loc["swift-best-eodds-most"]
    assert row.holds_ours is True
    assert "PAD-UFES-20 (sex, Small)" in row.ours
    assert "PAD-UFES-20 (sex, ResNet-50)" in row.published
    assert verdict.summary(answer)[0].startswith("Synthetic data")


def test_a_run_without_a_cell_of_the_paper_is_not_judged_by_it(same: verdict.Verdict) -> None:
    """Its own data sets and networks: no claim, no contradiction, no published number is shown."""
    own = as_metrics(PUBLISHED).replace({"dataset": {d: f"my_{d}" for d in PUBLISHED.dataset}})
    answer = run(own, panels={}, in_words=["SWiFT lowered EOdds on 3 of 4 test sets."])
    assert not answer.of_the_paper and same.of_the_paper
    assert verdict.summary(answer) == [answer.in_words[0], verdict.NOT_THE_PAPER]
    for text, other in (
        (verdict.markdown(answer), verdict.markdown(same)),
        (verdict.html(answer), verdict.html(same)),
    ):
        for heading in ("Claims", "disagree", "Published numbers"):
            assert heading not in text and heading in other
        assert answer.in_words[0] in text


def test_the_first_sentences_are_what_happened() -> None:
    told = ["SWiFT lowered EOdds on 6 of 8 test sets.", "AUC fell on none of 8 test sets."]
    answer = run(as_metrics(PUBLISHED), in_words=told)
    assert verdict.summary(answer)[:2] == told
    assert verdict.markdown(answer).split("\n")[2:4] == [f"- {line}" for line in told]


def test_names_in_the_sentences_are_text() -> None:
    answer = run(as_metrics(PUBLISHED), in_words=["<b>Mine</b> lowered *EOdds*."])
    assert r"- &lt;b&gt;Mine&lt;/b&gt; lowered \*EOdds\*." in verdict.markdown(answer)
    assert "<li>&lt;b&gt;Mine&lt;/b&gt; lowered *EOdds*.</li>" in verdict.html(answer)


def test_part_of_a_run_decides_what_it_can() -> None:
    """One failing case refutes 'everywhere'; 'most' stays open until enough is known."""
    metrics = as_metrics(PUBLISHED[PUBLISHED.backbone == "densenet121"])
    found = run(metrics).claims.set_index("id")
    assert found.loc["auc-above-baseline-everywhere"].holds_ours is False
    assert found.loc["auc-best-in-most"].holds_ours is None
    assert "not computed" in found.loc["auc-best-in-most"].ours


# --- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("need", ["all", "any", "mixed", 0.5, 0.8])
def test_decide_against_every_completion(need: claims.Need) -> None:
    def rule(answers: tuple[bool, ...]) -> bool:
        if need == "all":
            return all(answers)
        if need == "any":
            return any(answers)
        if need == "mixed":
            return any(answers) and not all(answers)
        return sum(answers) / len(answers) > float(need)

    for size in range(1, 5):
        for holds in product([True, False, None], repeat=size):
            options = [[True, False] if h is None else [h] for h in holds]
            outcomes = {rule(answers) for answers in product(*options)}
            expected = outcomes.pop() if len(outcomes) == 1 else None
            assert decide(holds, need) is expected
    assert decide([], need) is None


def test_variants_differ_in_one_setting_alone() -> None:
    assert verdict.variants(METHODS, "epochs_percent", 10) == [
        (0, "baseline"),
        (5, "swift_epochs_05"),
        (10, "swift"),
        (20, "swift_epochs_20"),
        (40, "swift_epochs_40"),
    ]
    assert verdict.variants(METHODS, "external_fraction", 1.0) == [
        (0, "baseline"),
        (0.2, "swift_external_20"),
        (0.4, "swift_external_40"),
        (1, "swift"),
    ]
    names = [name for _, name in verdict.variants(METHODS, "threshold", float("nan"))]
    assert sorted(names) == ["swift", "swift_reinit_30", "swift_reinit_70"]
    assert verdict.variants({"llft": METHODS["llft"]}, "threshold", 0) == []


def test_networks_stand_in_by_their_tables() -> None:
    rename = {"resnet50": "small", "efficientnet_b3": "small2", "densenet121": "small2"}
    assert verdict.stand_ins(PUBLISHED, panels(rename)) == {
        ("skin", "resnet50"): "small",
        ("skin", "efficientnet_b3"): "small2",
        ("cxr", "resnet50"): "small",
        ("cxr", "densenet121"): "small2",
    }
    only = {"table3": [Block("cxr", "mine", "age", (), (), ())]}
    found = verdict.stand_ins(PUBLISHED, only)
    assert found["cxr", "resnet50"] == "mine"
    assert found["skin", "resnet50"] == "resnet50"


def sweep_evidence(values: dict[str, tuple[float, float]], metric: str, *scopes: tuple) -> Evidence:
    """A run with the given mean and standard deviation of each variant."""
    rows = []
    for task, backbone, attribute, dataset in scopes or (SKIN,):
        place = "" if metric == "seconds" else dataset
        for method, (mean, std) in values.items():
            rows.append((task, backbone, attribute, method, place, metric, mean, std))
    cells = pd.DataFrame(rows, columns=[*KEYS, "mean", "std"])
    sweeps = {
        (task, setting): verdict.variants(METHODS, setting, default)
        for task in ("skin", "cxr")
        for setting, default in (
            ("epochs_percent", 10),
            ("external_fraction", 1.0),
            ("threshold", float("nan")),
        )
    }
    backbones = {("skin", "resnet50"): "resnet50", ("cxr", "resnet50"): "resnet50"}
    found = lookup(as_metrics(cells))
    return Evidence(PUBLISHED, found, backbones, sweeps, {}, "not computed in this run", False)


EPOCHS = ("baseline", "swift_epochs_05", "swift", "swift_epochs_20", "swift_epochs_40")
EXTERNAL = ("baseline", "swift_external_20", "swift_external_40", "swift")


def series(names: tuple[str, ...], *means: float, std: float = 0.01) -> dict:
    return dict(zip(names, ((mean, std) for mean in means), strict=True))


@pytest.mark.parametrize(
    ("check", "metric", "values", "holds"),
    [
        ("epochs_percent beats_baseline 5", "auc", series(EPOCHS, 0.6, 0.61, 0.7, 0.7, 0.7), True),
        ("epochs_percent beats_baseline 5", "spd", series(EPOCHS, 0.6, 0.61, 0.7, 0.7, 0.7), False),
        ("epochs_percent beats_baseline 7", "auc", series(EPOCHS, 0.6, 0.61, 0.7, 0.7, 0.7), None),
        ("epochs_percent steady 10", "spd", series(EPOCHS, 0.9, 0.5, 0.2, 0.21, 0.215), True),
        ("epochs_percent steady 10", "spd", series(EPOCHS, 0.9, 0.5, 0.2, 0.21, 0.23), False),
        ("epochs_percent worsens 10", "auc", series(EPOCHS, 0.6, 0.9, 0.8, 0.79, 0.75), True),
        ("epochs_percent worsens 10", "auc", series(EPOCHS, 0.6, 0.7, 0.8, 0.81, 0.83), False),
        ("epochs_percent improves 0", "eodds", series(EPOCHS, 0.9, 0.7, 0.6, 0.6, 0.3), True),
        ("epochs_percent linear 0", "seconds", series(EPOCHS, 1, 6, 11, 21, 41), True),
        ("epochs_percent linear 0", "seconds", series(EPOCHS, 1, 30, 11, 9, 41), False),
        ("external_fraction steady 0.4", "auc", series(EXTERNAL, 0.5, 0.6, 0.7, 0.72), True),
        (
            "external_fraction close_to_baseline 0.2",
            "auc",
            series(EXTERNAL, 0.5, 0.505, 1, 1),
            True,
        ),
        (
            "external_fraction close_to_baseline 0.2",
            "auc",
            series(EXTERNAL, 0.5, 0.52, 1, 1),
            False,
        ),
        (
            "threshold near_best 0",
            "auc",
            series(("swift", "swift_reinit_30", "swift_reinit_70"), 0.7, 0.715, 0.6),
            True,
        ),
        (
            "threshold near_best 0",
            "auc",
            series(("swift", "swift_reinit_30", "swift_reinit_70"), 0.7, 0.73, 0.6),
            False,
        ),
        ("threshold near_best 0", "auc", series(("swift",), 0.7), None),
    ],
)
def test_sweeps_with_planted_answers(
    check: str, metric: str, values: dict, holds: bool | None
) -> None:
    setting, test, at = check.split()
    claim = claim_sweeps.Sweep(
        type="sweep",
        setting=setting,
        test=test,
        at=float(at),
        within=0.01,
        metrics=(metric,),
        where=Where(**Scope(*SKIN)._asdict()),
    )
    instances = claim.instances(sweep_evidence(values, metric))
    assert decide([instance.holds for instance in instances], "all") is holds
    assert all(instance.text for instance in instances)


def swept(check: str, metric: str) -> claim_sweeps.Sweep:
    """'epochs_percent steady 10' on Fitzpatrick-17k."""
    setting, test, at = check.split()
    return claim_sweeps.Sweep(
        type="sweep", setting=setting, test=test, at=float(at), within=0.15, metrics=(metric,),
        where=Where(**Scope(*SKIN)._asdict()),
    )  # fmt: skip


@pytest.mark.parametrize("test", ["beats_baseline", "close_to_baseline"])
@pytest.mark.parametrize("metric", ["auc", "eodds"])
def test_sweeps_are_held_against_the_baseline_alone(test: str, metric: str) -> None:
    """Not against the variant that comes first where the run or the cell of the Baseline is not."""
    sign = 1 if metric == "auc" else -1
    means = [0.5 + sign * step for step in (-0.1, 0.1, 0.2, 0.2, 0.2)]
    whole = series(EPOCHS, *means)
    for setting, at in (("epochs_percent", 20), ("epochs_percent", 5)):
        check = swept(f"{setting} {test} {at}", metric)
        [known] = check.instances(sweep_evidence(whole, metric))
        assert known.holds is (test == "beats_baseline")
        assert f"Baseline {means[0]:.3f}" in known.text
        absent = {name: value for name, value in whole.items() if name != "baseline"}
        null = whole | {"baseline": (float("nan"), 0.01)}
        for values in (absent, null):
            [one] = check.instances(sweep_evidence(values, metric))
            assert (one.holds, one.text) == (None, "no value of the Baseline")


NEAR = ("swift", "swift_reinit_30", "swift_reinit_70")


@pytest.mark.parametrize(
    ("check", "values", "marked", "holds"),
    [
        ("epochs_percent beats_baseline 5", series(EPOCHS, 0.6, 0.7, 0.7, 0.7, 0.7), 1, False),
        ("epochs_percent beats_baseline 5", series(EPOCHS, 0.6, 0.7, 0.7, 0.7, 0.7), 0, True),
        ("epochs_percent beats_baseline 5", series(EPOCHS, 0.6, 0.5, 0.7, 0.7, 0.7), 0, None),
        ("epochs_percent beats_baseline 5", series(EPOCHS, 0.6, 0.7, 0.7, 0.7, 0.7), 4, True),
        ("epochs_percent close_to_baseline 5", series(EPOCHS, 0.6, 0.6, 0.7, 0.7, 0.7), 1, False),
        ("epochs_percent steady 10", series(EPOCHS, 0.9, 0.5, 0.7, 0.7, 0.7), 4, None),
        ("epochs_percent steady 10", series(EPOCHS, 0.9, 0.5, 0.7, 0.7, 0.7), 1, True),
        ("epochs_percent steady 10", series(EPOCHS, 0.9, 0.5, 0.7, 0.6, 0.7), 4, False),
        ("epochs_percent worsens 10", series(EPOCHS, 0.6, 0.9, 0.8, 0.79, 0.5), 4, None),
        ("epochs_percent improves 5", series(EPOCHS, 0.6, 0.6, 0.7, 0.8, 0.9), 0, True),
        ("epochs_percent linear 0", series(EPOCHS, 0.1, 0.15, 0.2, 0.3, 0.5), 2, None),
        ("threshold near_best 0", series(NEAR, 0.7, 0.9, 0.6), 1, True),
        ("threshold near_best 0", series(NEAR, 0.7, 0.7, 0.6), 0, False),
        ("threshold near_best 0", series(NEAR, 0.7, 0.9, 0.6), 0, False),
    ],
)
def test_no_sweep_rests_on_what_is_implausible(
    check: str, values: dict, marked: int, holds: bool | None
) -> None:
    """`marked`: which of the values has collapsed."""
    evidence = with_marks(sweep_evidence(values, "auc"), (SKIN, list(values)[marked]))
    instances = swept(check, "auc").instances(evidence)
    assert decide([instance.holds for instance in instances], "all") is holds
    plain = swept(check, "auc").instances(sweep_evidence(values, "auc"))
    changed = [one for one, other in zip(instances, plain, strict=True) if one != other]
    assert all("is collapsed" in one.text for one in changed)
    assert bool(changed) or decide([one.holds for one in plain], "all") is holds


def test_sweeps_without_what_they_need_are_not_computed() -> None:
    """One fold has no deviation, a run may lack the default, and all may be implausible."""
    values = series(NEAR, 0.7, 0.9, 0.6)
    near = swept("threshold near_best 0", "auc")
    lone = {name: value for name, value in values.items() if name != "swift"}
    [one] = near.instances(sweep_evidence(lone, "auc"))
    assert (one.holds, one.text) == (None, "no value of the default setting")
    both = [(SKIN, name) for name in NEAR[1:]]
    [one] = near.instances(with_marks(sweep_evidence(values, "auc"), *both))
    assert one.holds is None
    assert one.text.startswith("no other point is ranked; not counted, though better: ")
    steady = swept("epochs_percent steady 10", "auc")
    flat = {name: (mean, float("nan")) for name, (mean, _) in series(EPOCHS, *[0.5] * 5).items()}
    for check, given in (
        (near, {name: (mean, float("nan")) for name, (mean, _) in values.items()}),
        (steady, flat),
    ):
        evidence = sweep_evidence({n: (mean, 0.0) for n, (mean, _) in given.items()}, "auc")
        cells = {key: cell._replace(std=float("nan")) for key, cell in evidence.cells.items()}
        for one in check.instances(dataclasses.replace(evidence, cells=cells)):
            assert (one.holds, one.text) == (None, "fewer than two folds: no deviation")


def test_sweeps_below_the_noise_floor_are_not_ranked() -> None:
    """Such gaps share a place: which setting is best is not known, and all are steady."""
    names = ("swift_reinit_30", "swift_reinit_70", "swift")
    one = sweep_evidence(series(names, 0.03, 0.02, 0.05), "spd", SKIN)
    two = sweep_evidence(series(names, 0.03, 0.01, 0.05), "spd", AGE)
    both = dataclasses.replace(one, cells={**one.cells, **two.cells})
    pair = BY_ID["reinit-ratio-task-dependent"].check.model_copy(update={"metrics": ("spd",)})

    def below(evidence: Evidence, *methods: str) -> Evidence:
        of = {(*SKIN[:3], m, SKIN[3], "spd"): ("below floor",) for m in methods}
        return dataclasses.replace(evidence, marks=plausibility.Marks(of))

    near = swept("threshold near_best 0", "spd")
    for methods, differs, is_near in (
        ((), False, False),
        (names[:2], None, False),
        (names, None, True),
        (names[:1], False, False),
    ):
        given = below(both, *methods)
        assert [i.holds for i in pair.instances(given)] == [differs], methods
        assert [i.holds for i in near.instances(given)] == [is_near], methods
    fall = sweep_evidence(series(EPOCHS, 0.09, 0.05, 0.04, 0.02, 0.01, std=0.001), "spd")
    for check, plain, floored in (("improves", True, None), ("steady", False, True)):
        test = swept(f"epochs_percent {check} 10", "spd")
        for given, holds in ((fall, plain), (below(fall, *EPOCHS), floored)):
            assert decide([i.holds for i in test.instances(given)], "all") is holds


def test_sweep_pairs_and_masks() -> None:
    names = ("swift_reinit_30", "swift_reinit_70", "swift")
    one = sweep_evidence(series(names, 0.7, 0.6, 0.65), "auc", SKIN)
    two = sweep_evidence(series(names, 0.80, 0.81, 0.80), "auc", AGE)
    both = Evidence(
        PUBLISHED, {**one.cells, **two.cells}, one.backbones, one.sweeps, {}, "absent", False
    )
    check = BY_ID["reinit-ratio-task-dependent"].check
    found = {instance.label.split(":")[0]: instance for instance in check.instances(both)}
    assert found["AUC"].holds is True
    assert found["AUC"].text == "best at 0.3 and 0.7"
    assert found["SPD"].holds is None
    same = sweep_evidence(
        series(names, 0.6, 0.6, 0.65), "auc", SKIN
    )  # the mean mask is best in both
    also = sweep_evidence(series(names, 0.80, 0.80, 0.81), "auc", AGE)
    both_default = dataclasses.replace(both, cells={**same.cells, **also.cells})
    found = {i.label.split(":")[0]: i for i in check.instances(both_default)}
    assert found["AUC"].holds is False
    assert found["AUC"].text == "best at the default and the default"
    smaller = check.model_copy(update={"test": "smaller_range", "metrics": ("auc",)})
    assert smaller.instances(both)[0].holds is False  # 0.1 on skin, 0.01 on age
    other_way = smaller.model_copy(update={"first": check.second, "second": check.first})
    assert other_way.instances(both)[0].holds is True
    odd = with_marks(both, (SKIN, "swift_reinit_30"))
    assert smaller.instances(odd)[0].holds is None
    [mine] = check.model_copy(update={"metrics": ("auc",)}).instances(odd)
    assert mine.text.startswith("best at the default and 0.7; not counted, though better: ")

    summary = pd.DataFrame(
        {
            "group": ["conv1", "layer1", "layer2", "layer2", "layer3", "layer4"],
            "n": [10, 100, 100, 300, 100, 100],
            "mean": [0.9, 0.3, 0.2, 0.6, 0.45, 0.4],
        }
    )
    rows = verdict.mask_rows(summary, "skin", "resnet50", "skin_tone", 0)
    assert rows.set_index("metric").value["mask[layer2]"] == pytest.approx(0.5)
    masks = Evidence(PUBLISHED, lookup(rows), one.backbones, {}, {}, "absent", False)
    early = judge(BY_ID["mask-skin-tone-early"], masks)
    assert early.holds is True
    assert early.instances[0].margin == pytest.approx(0.1)
    deep = BY_ID["mask-skin-tone-early"].check.model_copy(update={"layers": ("layer4",)})
    assert deep.instances(masks)[0].holds is False


def test_claims_file_mistakes_name_the_claim(tmp_path: Path) -> None:
    good = {
        "id": "a",
        "section": "5",
        "claim": "c",
        "quote": "q",
        "check": {"type": "better", "better": ["swift"], "than": ["baseline"], "metrics": ["auc"]},
    }
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([good]))
    assert claims.read_claims(path)[0].need == "all"
    wrong = {**good, "id": "b", "check": {**good["check"], "beter": ["x"]}}
    path.write_text(yaml.safe_dump([good, wrong]))
    with pytest.raises(UserError, match=r"(?s)claim b: .*beter"):
        claims.read_claims(path)
    path.write_text(yaml.safe_dump([good, good]))
    with pytest.raises(UserError, match="used twice: a"):
        claims.read_claims(path)


# --- text -----------------------------------------------------------------------------------------


def test_markdown_and_html_show_everything(same: verdict.Verdict, tmp_path: Path) -> None:
    paths = verdict.write(same, tmp_path)
    text = (tmp_path / "verdict.md").read_text()
    page = (tmp_path / "verdict.html").read_text()
    for claim in CLAIMS:
        assert claim.claim.replace("|", "\\|") in text
    assert page.count("<tr>") >= len(CLAIMS) + 558
    assert not re.search(r"https?://|<script|<link|<img", page)
    disagree = text.split("## ")[1]
    assert disagree.startswith("Where the paper's text and tables disagree")
    assert "SWiFT achieves an SPD and EOdds of 0.092 and 0.064" in disagree
    assert "consistently outperforms the pre-trained Baseline model" in disagree
    cells = pd.read_csv(tmp_path / "verdict_cells.csv")
    assert len(cells) == 558
    again = [path.read_bytes() for path in verdict.write(same, tmp_path / "again")]
    assert again == [path.read_bytes() for path in paths]


def test_cell_summary_counts() -> None:
    half = run(as_metrics(PUBLISHED[PUBLISHED.metric != "spd"]))
    short = verdict.cell_summary(half)
    assert short["published numbers"].sum() == 558
    assert short["compared"].sum() == (PUBLISHED.metric != "spd").sum()
    assert (short[short.metric == "SPD"]["computed here"] == 0).all()
