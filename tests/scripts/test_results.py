"""The scripts between predictions and tables, against scikit-learn, scipy and plain numpy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prepared import write_json, write_parquet
from results_world import (
    BLOCK,
    CELL,
    FOLDS,
    GROUPS,
    METHODS,
    SETS,
    TITLES,
    auc,
    draw_metrics,
    known,
    value_of,
    write_costs,
    write_predictions,
)
from scipy import stats

from swift_debias.evaluation import plausibility
from swift_debias.report import tables
from swift_debias.report.costs import COSTS, read_costs

PLACE = "predictions/skin/net/tone"
NO_MARKS = pd.DataFrame(columns=plausibility.COLUMNS)


@pytest.mark.parametrize("min_group", [8, 9])
def test_evaluate(run: Callable[..., str], tmp_path: Path, min_group: int) -> None:
    written = write_predictions(tmp_path / PLACE)
    methods, folds = ["llft", "swift"], [2, 0]
    predictions = {key: written[key] for key in itertools.product(methods, folds)}
    run(
        "evaluate.py",
        input=[PLACE],
        output={"metrics": "metrics/skin.parquet"},
        params={
            "repeats": {},
            "methods": methods,
            "folds": folds,
            "groups": ["a", "b", "c"],
            "min_group": min_group,
            "disease": None,
        },
    )
    found = pd.read_parquet(tmp_path / "metrics/skin.parquet")
    assert [*found.columns[:5]] == ["task", "backbone", "attribute", "method", "fold"]
    for column, value in CELL.items():
        assert (found[column] == value).all()
    assert found[["method", "fold"]].drop_duplicates().apply(tuple, axis=1).tolist() == [
        *predictions
    ]
    counted = [group for group, size in enumerate(GROUPS) if size >= min_group]
    for (method, fold), dataset in itertools.product(predictions, SETS):
        rows = predictions[method, fold]
        place = {"method": method, "fold": fold, "dataset": dataset}
        assert value_of(found, metric="auc", **place) == pytest.approx([auc(known(rows, dataset))])
        by_group = [auc(known(rows, dataset, group)) for group in range(3)]
        for group, value in enumerate(by_group):
            assert value_of(found, metric=f"auc[{group}]", **place) == pytest.approx([value])
        compared = [by_group[group] for group in counted]
        [gap], [least] = (value_of(found, metric=name, **place) for name in ("auc_gap", "auc_min"))
        assert gap == pytest.approx(max(compared) - min(compared))
        assert least == pytest.approx(min(compared))


def test_evaluate_takes_the_mean_over_repeats(run: Callable[..., str], tmp_path: Path) -> None:
    written = write_predictions(tmp_path / PLACE)
    again = {
        fold: written["llft", fold].assign(score=written["swift", fold]["score"]) for fold in FOLDS
    }
    for fold, rows in again.items():
        write_parquet(tmp_path / PLACE / f"llft/fold{fold}.repeat1.parquet", rows)
    run(
        "evaluate.py",
        input=[PLACE],
        output={"metrics": "m.parquet", "repeats": "r.parquet"},
        params={
            "repeats": {"llft": 2, "baseline": 1},
            "methods": ["baseline", "llft"],
            "folds": FOLDS,
            "groups": ["a", "b", "c"],
            "min_group": 8,
            "disease": None,
        },
    )
    found, each = pd.read_parquet(tmp_path / "m.parquet"), pd.read_parquet(tmp_path / "r.parquet")
    for fold, dataset in itertools.product(FOLDS, SETS):
        place = {"fold": fold, "dataset": dataset, "metric": "auc"}
        both = [auc(known(rows, dataset)) for rows in (written["llft", fold], again[fold])]
        assert value_of(found, method="llft", **place) == pytest.approx([sum(both) / 2])
        for repeat, value in enumerate(both):
            one = value_of(each, method="llft", repeat=repeat, **place)
            assert one == pytest.approx([value])
        [alone] = value_of(found, method="baseline", **place)
        assert alone == pytest.approx(auc(known(written["baseline", fold], dataset)))
    assert set(each.loc[each["method"] == "baseline", "repeat"]) == {0}


def test_plausibility(run: Callable[..., str], tmp_path: Path) -> None:
    """Of what rule evaluate writes: SWiFT calls nobody positive, and group c has eight images."""
    written = write_predictions(tmp_path / PLACE)
    for fold in FOLDS:
        low = written["swift", fold].assign(score=0.1)
        write_parquet(tmp_path / PLACE / f"swift/fold{fold}.parquet", low)
    names = ["a", "b", "c"]
    given = {"methods": METHODS, "folds": FOLDS, "groups": names, "min_group": 8, "disease": None}
    metrics = {"metrics": "metrics/skin.parquet"}
    run("evaluate.py", input=[PLACE], output=metrics, params=given | {"repeats": {}})
    said = run(
        "plausibility.py",
        input={
            "metrics": ["metrics/skin.parquet"],
            "intervals": [write_parquet(tmp_path / "intervals.parquet", pd.DataFrame())],
        },
        output=["plausibility.parquet"],
        params={"groups": {"tone": names}, "min_group": {"skin": 8}, "baseline": "baseline"},
    )
    found = pd.read_parquet(tmp_path / "plausibility.parquet")
    assert list(found.columns) == plausibility.COLUMNS
    assert "constant decisions" in said
    constant = found[found["mark"] == "constant decisions"]
    assert constant[["method", "dataset"]].values.tolist() == [["swift", s] for s in sorted(SETS)]
    assert (constant["text"] == "every image is decided for class 0 in 3 of 3 folds").all()
    small = found[found["mark"] == "small group"]
    assert len(small) == len(METHODS) * len(SETS)
    assert small["text"].str.contains("group c has 4 images of class 1 and 4 of class 0").all()


def test_merge_metrics(run: Callable[..., str], tmp_path: Path) -> None:
    parts = {
        "metrics": [draw_metrics(), draw_metrics(task="cxr")],
        "plausibility": [pd.DataFrame({"mark": [mark]}) for mark in ("collapsed", "small group")],
    }
    paths = {
        name: [write_parquet(tmp_path / f"{name}{i}.parquet", f) for i, f in enumerate(frames)]
        for name, frames in parts.items()
    }
    run("merge_metrics.py", input=paths, output={name: f"{name}.parquet" for name in parts})
    for name, frames in parts.items():
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / f"{name}.parquet"), pd.concat(frames, ignore_index=True)
        )


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_no_prediction_is_missing_without_a_word(
    damage: Callable[[Path], Any], run: Callable[..., str], tmp_path: Path, capsys: Any
) -> None:
    """The folder is one output: a file that is deleted in it would not be made again."""
    write_predictions(tmp_path / PLACE)
    damage(tmp_path / PLACE / "llft" / "fold1.parquet")
    both = {"methods": METHODS, "folds": FOLDS, "min_group": 12, "repeats": {}}
    more = {"groups": 3, "permutations": 60, "seed": 1, "baseline": "baseline"}
    scripts = {
        "intervals.py": both | more,
        "evaluate.py": both | {"groups": ["a", "b", "c"], "disease": None},
    }
    for script, params in scripts.items():
        with pytest.raises(SystemExit):
            run(script, input=[PLACE], output={"metrics": "out.parquet"}, params=params)
        said = capsys.readouterr().err.strip()
        assert "llft/fold1.parquet" in said
        assert said.endswith(f"delete the folder {PLACE} and run again")
        assert not (tmp_path / "out.parquet").exists()


def test_intervals(run: Callable[..., str], tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / PLACE)

    def measure(**params: Any) -> pd.DataFrame:
        given = {
            "methods": METHODS,
            "folds": FOLDS,
            "repeats": {},
            "groups": 3,
            "min_group": 12,
            "permutations": 60,
            "seed": 1,
            "baseline": "baseline",
        }
        run(
            "intervals.py",
            input=[PLACE],
            output=["intervals.parquet"],
            params=given | params,
        )
        return pd.read_parquet(tmp_path / "intervals.parquet")

    found = measure()
    for column, value in CELL.items():
        assert (found[column] == value).all()
    assert set(found["n_folds"]) == {len(FOLDS)}
    rows = found.set_index(["dataset", "method", "metric"]).sort_index()
    for dataset, method in itertools.product(SETS, METHODS):
        means, gaps = {}, {}
        for one in {method, "baseline"}:
            parts = [predictions[one, fold] for fold in FOLDS]
            means[one] = np.mean([auc(known(part, dataset)) for part in parts])
            gaps[one] = np.mean(  # the third group is too small to count
                [
                    abs(np.subtract(*(auc(known(part, dataset, g)) for g in (0, 1))))
                    for part in parts
                ]
            )
        row = rows.loc[dataset, method, "auc"]
        assert row["value"] == pytest.approx(means[method])
        assert row["n_images"] == sum(GROUPS)
        assert row["low"] < row["value"] < row["high"]
        assert rows.loc[dataset, method, "auc_gap"]["value"] == pytest.approx(gaps[method])
        if method != "baseline":
            assert row["difference"] == pytest.approx(means[method] - means["baseline"])
    assert found.equals(measure())
    other = measure(seed=2)
    assert (other["value"] == found["value"]).all() and (other["low"] == found["low"]).all()
    floors = found["floor_95"].notna()
    assert floors.any() and (other["floor_95"] != found["floor_95"])[floors].any()
    fewer = measure(permutations=20)
    assert (fewer["floor_95"] != found["floor_95"])[floors].any()
    to_another = measure(baseline="llft").set_index(["dataset", "method", "metric"])
    values = rows["value"]
    assert to_another.loc["ddi", "swift", "auc"]["difference"] == pytest.approx(
        values["ddi", "swift", "auc"] - values["ddi", "llft", "auc"]
    )
    all_groups = measure(min_group=8).set_index(["dataset", "method", "metric"])["value"]
    smallest = [
        min(auc(known(predictions["swift", fold], "ddi", group)) for group in range(3))
        for fold in FOLDS
    ]
    assert all_groups["ddi", "swift", "auc_min"] == pytest.approx(np.mean(smallest))


def ends_of(cells: list[tuple[str, str, str]]) -> pd.DataFrame:
    """Intervals of these cells, each with numbers of its own."""
    frame = pd.DataFrame(cells, columns=["method", "dataset", "metric"]).assign(**CELL)
    own = np.arange(len(frame)) / 99
    frame = frame.assign(value=own, low=own - 1, high=own + 1, variance_test=own)
    frame = frame.assign(floor_mean=own / 2, floor_95=own * 2, below_floor=own > 0.05)
    return frame.assign(difference=own, difference_low=own - 3, difference_high=1.0)


@pytest.mark.parametrize("baseline", ["baseline", "llft"])
def test_compare(run: Callable[..., str], tmp_path: Path, baseline: str) -> None:
    metrics = draw_metrics()
    one = {**BLOCK, "metrics": ["spd"], "datasets": ["ddi"]}
    cells = [*itertools.product(METHODS, SETS, ["auc", "spd"])]
    ends = ends_of(cells)
    run(
        "compare.py",
        input={
            "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
            "plausibility": write_parquet(tmp_path / "marks.parquet", NO_MARKS),
            "intervals": [write_parquet(tmp_path / "intervals.parquet", ends)],
        },
        output=["statistics.parquet"],
        params={"tables": {"table2": [BLOCK], "table1": [one]}, "baseline": baseline},
    )
    found = pd.read_parquet(tmp_path / "statistics.parquet")
    assert found["table"].drop_duplicates().tolist() == ["table2", "table1"]
    assert len(found[found.table == "table1"]) == 4  # two methods, against two
    for row in found.itertuples():
        place = {"dataset": row.dataset, "metric": row.metric}
        own = value_of(metrics, method=row.method, **place)
        means = {m: value_of(metrics, method=m, **place).mean() for m in METHODS}
        if row.against == "baseline":
            assert row.other == baseline
        else:
            assert row.other not in (baseline, row.method)
        other = value_of(metrics, method=row.other, **place)
        assert row.difference == pytest.approx(means[row.method] - means[row.other])
        test = stats.permutation_test(
            (own - other,),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=False,
        )
        assert row.p_permutation == pytest.approx(test.pvalue)
        assert row.p_floor == 2 / 2 ** len(FOLDS)
        if row.against == "baseline":
            own_place = cells.index((row.method, row.dataset, row.metric))
            assert [row.low, row.high] == [own_place / 99 - 3, 1.0]
        else:
            assert np.isnan([row.low, row.high]).all()


AUC_OF_GROUP = {"auc": 0.7, "low": 0.6, "high": 0.8, "n": 9, "patients": 9}
CHOICE = {"pair": [0, 2], "unprivileged": 1, "groups": {str(g): AUC_OF_GROUP for g in range(3)}}
TRIALS = [
    {"settings": {"alpha": alpha}, "eodds": alpha, "auc": 0.7, "auc_change": 0.01, "auc_se": 0.01}
    for alpha in (0.25, 0.5)
]
SEARCH = {"trials": TRIALS, "chosen": {"alpha": 0.25}, "underpowered": False, "seconds": 3.5}
SEARCH |= {"rule": "dto", "reason": "nearest", "select_images": 70, "images_seen": 1234}


@pytest.mark.parametrize("synthetic", [False, True])
def test_table(run: Callable[..., str], tmp_path: Path, synthetic: bool) -> None:
    metrics = draw_metrics()
    published = pd.DataFrame({"table": 1, **CELL, "method": ["swift", "llft"]}).assign(
        dataset="ddi", metric="auc", mean=[0.9, 0.8], std=[0.02, 0.03]
    )
    published.to_csv(tmp_path / "published.csv", index=False)
    files = {suffix: f"tables/mine.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")}
    files["recipe"] = "tables/mine.json"
    marked = {**CELL, "method": "llft", "dataset": "ddi", "mark": "collapsed", "text": "why"}
    measured = ends_of([*itertools.product(METHODS[:2], SETS, ["auc", "spd"])])
    said = run(
        "table.py",
        input={
            "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
            "intervals": [write_parquet(tmp_path / "intervals.parquet", measured)],
            "plausibility": [write_parquet(tmp_path / "marks.parquet", pd.DataFrame([marked]))],
            "published": tmp_path / "published.csv",
            "groups": [write_json(tmp_path / "groups/skin/net/tone.json", CHOICE)],
            "searches": [write_json(tmp_path / "search/skin/net/tone/llft.json", SEARCH)],
        },
        output=files,
        params={
            "title": "A table of mine",
            "blocks": [BLOCK],
            "titles": TITLES,
            "synthetic": synthetic,
            "groups": {"tone": ["light", "middle", "dark"]},
            "prune_by_group": ["LLFT"],
            "searched": {"llft": {"title": "Long LLFT", "epochs": [4]}},
            "folds": 2,
        },
        wildcards={"table": "mine"},
    )
    found = pd.read_csv(tmp_path / "tables/mine.csv")
    assert set(found["table"]) == {"mine"}
    keys = list(zip(found["method"], found["dataset"], found["metric"], strict=True))
    assert keys == [*itertools.product(METHODS, SETS, ["auc", "spd"])]
    for row in found.itertuples():
        values = value_of(metrics, method=row.method, dataset=row.dataset, metric=row.metric)
        assert (row.mean, row.std) == pytest.approx((values.mean(), values.std(ddof=1)))
        assert row.n_folds == len(FOLDS)
    bears = found[found["marks"] == "collapsed"][["method", "dataset", "metric"]]
    assert bears.apply(tuple, axis=1).tolist() == [("llft", "ddi", m) for m in ("auc", "spd")]
    assert found["marks"].isna().sum() == len(found) - 2
    beside_ours = found.set_index(["method", "dataset", "metric"])
    for row in measured.itertuples():
        one = beside_ours.loc[row.method, row.dataset, row.metric]
        assert (one["low"], one["high"]) == pytest.approx((row.low, row.high))
        assert (one["floor_mean"], one["floor_95"]) == pytest.approx((row.floor_mean, row.floor_95))
        assert str(one["below_floor"]) == str(row.below_floor)
    assert beside_ours.loc[METHODS[2]][tables.INTERVALS].isna().all(axis=None)
    beside = found[found["published_mean"].notna()]
    if synthetic:
        assert beside.empty
    else:
        assert beside["method"].tolist() == ["swift", "llft"]
        assert beside["published_mean"].tolist() == [0.9, 0.8]
        assert beside["published_std"].tolist() == [0.02, 0.03]
    texts = [(tmp_path / files[suffix]).read_text() for suffix in ("md", "tex", "html", "txt")]
    for text in texts:
        assert "A table of mine" in text
        assert all(TITLES[method] in text for method in METHODS)
        assert ("synthetic data" in text.lower()) == synthetic
        assert "compare light and dark; for LLFT, dark is the unprivileged group" in text
        assert (
            "over 2 folds of a setup: Long LLFT 2 trials of 4 epochs a step, 1,234 images seen"
            in text
        )
    assert texts[-1].strip() in said


def test_search_table(run: Callable[..., str], tmp_path: Path) -> None:
    files = [f"tables/search.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")]
    run(
        "search_table.py",
        input=[write_json(tmp_path / "search/skin/net/tone/llft.json", SEARCH)],
        output=files,
        params={"titles": TITLES},
    )
    found = pd.read_csv(tmp_path / files[0])
    assert found["settings"].tolist() == ["alpha 0.25", "alpha 0.5"]
    assert found["eodds"].tolist() == [0.25, 0.5] and found["chosen"].tolist() == [True, False]
    for name in files[1:]:
        text = (tmp_path / name).read_text()
        assert "Searches: every trial" in text and "LLFT" in text and "alpha 0.25" in text


def drawn_intervals(metrics: pd.DataFrame) -> pd.DataFrame:
    """Means over folds and differences to the Baseline, with intervals of +- 0.1."""
    keys = [*CELL, "method", "dataset", "metric"]
    means = metrics.groupby(keys)["value"].mean().reset_index()
    base = means[means["method"] == "baseline"].drop(columns="method")
    both = means.merge(base, on=[*CELL, "dataset", "metric"], suffixes=("", "_base"))
    change = (both["value"] - both["value_base"]).where(both["method"] != "baseline")
    both = both.assign(difference=change, difference_low=change - 0.1, difference_high=change + 0.1)
    both = both.assign(low=both["value"] - 0.1, high=both["value"] + 0.1)
    below = pd.array(both["metric"] == "eodds", dtype="boolean") & (both["dataset"] == "ddi")
    return both.assign(below_floor=below)


def test_ranks_and_words(run: Callable[..., str], tmp_path: Path) -> None:
    metrics = draw_metrics()
    intervals = drawn_intervals(metrics)
    marked = pd.DataFrame({**CELL, "method": METHODS}).assign(
        dataset="ddi", metric="eodds", mark="below floor", text="why"
    )
    given = {
        "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
        "plausibility": write_parquet(tmp_path / "plausibility.parquet", marked),
        "intervals": [write_parquet(tmp_path / "intervals.parquet", intervals)],
    }
    files = [f"tables/ranks.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")]
    params = {"blocks": [BLOCK], "titles": TITLES}
    run("ranks.py", input=given, output=files, params=params)
    found = pd.read_csv(tmp_path / files[0]).set_index(["metric", "method"])["mean_rank"]
    for metric, sign in (("auc", -1), ("eodds", 1)):
        wide = intervals[intervals["metric"] == metric].pivot_table(
            index="dataset", columns="method", values="value"
        )
        placed = (sign * wide.round(3)).rank(axis=1)
        if metric == "eodds":
            placed.loc["ddi"] = 2.0  # all are below the floor there
        for method in METHODS:
            assert found[metric, method] == pytest.approx(placed[method].mean())
    for name in files[1:]:
        text = (tmp_path / name).read_text()
        assert "Mean ranks of the methods" in text and "SWiFT" in text
    said = run(
        "in_words.py",
        input=given,
        output=["in_words.json"],
        params=params
        | {"baseline": "baseline", "swift": "swift", "shown": [BLOCK | {"metrics": ["eodds"]}]},
    )
    told = json.loads((tmp_path / "in_words.json").read_text())["sentences"]
    own = intervals[(intervals["method"] == "swift") & (intervals["metric"] == "eodds")]
    lower = int((own["difference"] < 0).sum())
    assert told[0].startswith(f"SWiFT lowered EOdds on {lower or 'none'} of 2 test sets")
    assert "By mean rank of EOdds" in told[-1] and told[0] in said


def test_cost_table(run: Callable[..., str], tmp_path: Path) -> None:
    costs = write_costs(tmp_path)
    tables = [f"tables/cost.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")]
    said = run(
        "cost_table.py",
        input=list(costs.values()),
        output={"costs": "costs.parquet", "table": tables},
        params={"titles": TITLES, "synthetic": True},
    )
    found = pd.read_csv(tmp_path / "tables/cost.csv")
    seconds = found[found["metric"] == "seconds"]
    assert dict(zip(seconds["method"], seconds["mean"], strict=True)) == {
        "pretraining": 100.5,
        "llft": 10.5,
        "swift": 30.5,
        "swift_40": 45.5,
    }
    assert set(found["n_folds"]) == {2}
    text = (tmp_path / "tables/cost.md").read_text()
    assert text.index("Baseline (training)") < text.index("LLFT") < text.index("SWiFT")
    assert "Synthetic data" in text
    assert (tmp_path / "tables/cost.txt").read_text().strip() in said
    rows = pd.read_parquet(tmp_path / "costs.parquet")
    for path, file in costs.items():  # each fold's number, where it was written down
        *_, method, fold = Path(path).parent.parts
        own = (rows["method"] == method if "debiased" in path else rows["attribute"] == "") & (
            rows["fold"] == int(fold.removeprefix("fold"))
        )
        shown = rows[own].set_index("metric")["value"]
        for name, value in json.loads(Path(file).read_text()).items():
            if name in COSTS:
                assert shown[name] == value, (path, name)
    assert set(rows.loc[rows["attribute"] == "", "method"]) == {"pretraining"}


@pytest.mark.parametrize("failed", [False, True])
def test_summary(run: Callable[..., str], tmp_path: Path, failed: bool) -> None:
    for number in (2, 1):
        (tmp_path / f"table{number}.txt").write_text(f"This is table {number}.\n", encoding="utf-8")
    for place, seconds in {"evaluate/a": 3.0, "evaluate/b": 4.5, "report": 20.0}.items():
        path = tmp_path / f"results/mine/benchmarks/{place}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n{seconds}\t100\n")
    run(
        "summary.py",
        input={
            "tables": ["table2.txt", "table1.txt"],
            "in_words": write_json(tmp_path / "in_words.json", {"sentences": ["One.", "Two."]}),
        },
        output=["results/mine/summary.txt"],
        params={
            "run": "results/mine",
            "missing": {
                "failed": [["debias a, b", "it diverged", "a.log"]],
                "left_out": [["t1", "a, c", "SSD, LLFT"], ["f2", "", "not made"]],
            }
            if failed
            else {"failed": (), "left_out": []},
        },
    )
    text = (tmp_path / "results/mine/summary.txt").read_text()
    gone = ["What is missing", "- failed: debias a, b: it diverged"]
    gone += ["- t1 without SSD, LLFT of a, c", "- f2: not made", "", ""]
    first, _, rest = text.partition("In short")
    assert first == ("\n".join(gone) if failed else "")
    text = f"In short{rest}"
    assert text.startswith(
        "In short\n- One.\n- Two.\n\nThis is table 2.\n\nThis is table 1.\n\nWhat each"
    )
    stages = [line.split("|")[1:5] for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in stages]
    assert ["report", "1", "20.0", "20.0"] in cells
    assert ["evaluate", "2", "7.5", "4.5"] in cells
    assert text.endswith("Tables in four formats: results/mine/tables/\n")


def test_verdict(run: Callable[..., str], tmp_path: Path) -> None:
    metrics = draw_metrics()
    published = pd.DataFrame({"table": 1, **CELL, "method": ["swift", "baseline"]}).assign(
        backbone="big", dataset="ddi", metric="auc", mean=[0.9, 0.8], std=[0.02, 0.03]
    )
    published.to_csv(tmp_path / "published.csv", index=False)
    where = {"task": "skin", "backbone": "big", "attribute": "tone"}
    on_ddi = where | {"dataset": "ddi"}
    claims = [
        {"type": "better", "better": ["swift"], "than": ["baseline"], "metrics": ["auc"]},
        {"type": "sweep", "setting": "epochs_percent", "test": "beats_baseline", "at": 25}
        | {"metrics": ["auc"], "where": on_ddi},
        {"type": "sweep", "setting": "epochs_percent", "test": "linear", "metrics": ["seconds"]}
        | {"where": on_ddi},
        {"type": "peak", "layers": ["early"], "among": ["early", "late"], "where": where},
    ]
    claims[0]["where"] = {"tables": [1]}
    told = {"section": "4", "claim": "C", "quote": "Q"}
    listed = [{"id": f"c{i}", **told, "check": check} for i, check in enumerate(claims)]
    (tmp_path / "claims.yaml").write_text(json.dumps(listed))
    summaries = []
    for fold, early in enumerate((0.9, 0.3)):
        frame = pd.DataFrame({"layer": ["a", "b", "c"], "group": ["early", "early", "late"]})
        frame = frame.assign(n=[10, 30, 50], mean=[early, early, 0.5])
        name = f"importance/skin/net/tone/fold{fold}.mask_summary.parquet"
        summaries.append(write_parquet(tmp_path / name, frame))

    measured = ends_of([*itertools.product(METHODS, SETS, ["auc", "spd"])])
    costs = read_costs(write_costs(tmp_path).values())
    measured["difference_low"] = 0.5  # AUC is better than the Baseline everywhere, SPD worse

    def reach(synthetic: bool) -> tuple[str, pd.DataFrame, pd.DataFrame]:
        said = run(
            "verdict.py",
            input={
                "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
                "plausibility": write_parquet(
                    tmp_path / "plausibility.parquet", pd.DataFrame(columns=plausibility.COLUMNS)
                ),
                "intervals": [write_parquet(tmp_path / "intervals.parquet", measured)],
                "published": tmp_path / "published.csv",
                "claims": tmp_path / "claims.yaml",
                "costs": [write_parquet(tmp_path / "costs.parquet", costs)],
                "summaries": summaries,
                "in_words": write_json(tmp_path / "in_words.json", {"sentences": ["It fell."]}),
            },
            output={
                "cells": "verdict_cells.csv",
                "claims": "verdict_claims.csv",
                "instances": "verdict_instances.csv",
                "md": "verdict.md",
                "html": "verdict.html",
            },
            params={
                "tables": {"table1": [BLOCK]},
                "methods": {
                    "baseline": {"algorithm": "baseline", "title": "Baseline"},
                    "swift": {"algorithm": "swift", "title": "SWiFT"},
                    "llft": {"algorithm": "swift", "epochs_percent": 5},
                    "swift_40": {"algorithm": "swift", "epochs_percent": 40},
                },
                "epochs_percent": {"skin": 25},
                "synthetic": synthetic,
            },
        )
        assert (tmp_path / "verdict.md").is_file() and (tmp_path / "verdict.html").is_file()
        names = ("verdict_cells.csv", "verdict_claims.csv")
        return said, *(pd.read_csv(tmp_path / name) for name in names)

    said, cells, found = reach(synthetic=False)
    assert set(cells["network"]) == {"net"}  # in the place of the paper's `big`
    means = {m: value_of(metrics, method=m, dataset="ddi", metric="auc").mean() for m in METHODS}
    assert cells["mean"].tolist() == pytest.approx([means["swift"], means["baseline"]])
    assert cells["difference"].tolist() == pytest.approx(
        [means["swift"] - 0.9, means["baseline"] - 0.8]
    )
    holds = found.set_index("id")["holds_ours"].astype(str)
    assert holds["c0"] == holds["c1"] == str(means["swift"] > means["baseline"])
    assert found.set_index("id")["holds_published"].astype(str)["c0"] == "True"
    assert holds["c2"] == "True"  # 10.5 s at 5 %, 30.5 s at the task's 25 %, 45.5 s at 40 %
    assert holds["c3"] == "True"  # early: (0.9 + 0.3) / 2, late: 0.5
    assert "Of 4 claims of the paper's text" in said
    rivals = len(METHODS) * len(SETS)  # the intervals here have one of the Baseline, too
    assert f"AUC better {rivals}, worse 0, not distinguishable 0" in said
    assert f"SPD better 0, worse {rivals}, not distinguishable 0" in said
    ours = found.set_index("id")["ours"]["c0"]
    assert "distinguishable: 95 % interval of the difference +0.500 to +1.000" in ours
    assert said.startswith("It fell.\n")
    assert (tmp_path / "verdict.md").read_text().split("\n")[2] == "- It fell."
    _, cells, _ = reach(synthetic=True)
    assert cells["difference"].isna().all()
