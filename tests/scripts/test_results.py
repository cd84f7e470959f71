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
from prepared import write_parquet
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

PLACE = "predictions/skin/net/tone"


@pytest.mark.parametrize("min_group", [8, 9])
def test_evaluate(run: Callable[..., str], tmp_path: Path, min_group: int) -> None:
    written = write_predictions(tmp_path / PLACE)
    methods, folds = ["llft", "swift"], [2, 0]
    predictions = {key: written[key] for key in itertools.product(methods, folds)}
    run(
        "evaluate.py",
        input=[PLACE],
        output=["metrics/skin.parquet"],
        params={
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


def test_plausibility(run: Callable[..., str], tmp_path: Path) -> None:
    """Of what rule evaluate writes: SWiFT calls nobody positive, and group c has eight images."""
    written = write_predictions(tmp_path / PLACE)
    for fold in FOLDS:
        low = written["swift", fold].assign(score=0.1)
        write_parquet(tmp_path / PLACE / f"swift/fold{fold}.parquet", low)
    names = ["a", "b", "c"]
    given = {"methods": METHODS, "folds": FOLDS, "groups": names, "min_group": 8, "disease": None}
    run("evaluate.py", input=[PLACE], output=["metrics/skin.parquet"], params=given)
    said = run(
        "plausibility.py",
        input={"metrics": ["metrics/skin.parquet"]},
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
    parts = [draw_metrics(), draw_metrics(task="cxr")]
    paths = [write_parquet(tmp_path / f"{i}.parquet", part) for i, part in enumerate(parts)]
    run("merge_metrics.py", input=paths, output=["metrics.parquet"])
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "metrics.parquet"), pd.concat(parts, ignore_index=True)
    )


def test_intervals(run: Callable[..., str], tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / PLACE)

    def measure(**params: Any) -> pd.DataFrame:
        given = {
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


@pytest.mark.parametrize("baseline", ["baseline", "llft"])
def test_compare(run: Callable[..., str], tmp_path: Path, baseline: str) -> None:
    metrics = draw_metrics()
    one = {**BLOCK, "metrics": ["spd"], "datasets": ["ddi"]}
    run(
        "compare.py",
        input={"metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)]},
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
        test = stats.ttest_rel(own, other)
        assert row.difference == pytest.approx(means[row.method] - means[row.other])
        assert row.p_t == pytest.approx(test.pvalue)
        interval = test.confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("synthetic", [False, True])
def test_table(run: Callable[..., str], tmp_path: Path, synthetic: bool) -> None:
    metrics = draw_metrics()
    published = pd.DataFrame({"table": 1, **CELL, "method": ["swift", "llft"]}).assign(
        dataset="ddi", metric="auc", mean=[0.9, 0.8], std=[0.02, 0.03]
    )
    published.to_csv(tmp_path / "published.csv", index=False)
    files = [f"tables/mine.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")]
    marked = {**CELL, "method": "llft", "dataset": "ddi", "mark": "collapsed", "text": "why"}
    said = run(
        "table.py",
        input={
            "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
            "plausibility": write_parquet(tmp_path / "plausible.parquet", pd.DataFrame([marked])),
            "published": tmp_path / "published.csv",
        },
        output=files,
        params={
            "title": "A table of mine",
            "blocks": [BLOCK],
            "titles": TITLES,
            "synthetic": synthetic,
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
    beside = found[found["published_mean"].notna()]
    if synthetic:
        assert beside.empty
    else:
        assert beside["method"].tolist() == ["swift", "llft"]
        assert beside["published_mean"].tolist() == [0.9, 0.8]
        assert beside["published_std"].tolist() == [0.02, 0.03]
    texts = [(tmp_path / name).read_text() for name in files[1:]]
    for text in texts:
        assert "A table of mine" in text
        assert all(TITLES[method] in text for method in METHODS)
        assert ("synthetic data" in text.lower()) == synthetic
    assert texts[-1].strip() in said


def test_cost_table(run: Callable[..., str], tmp_path: Path) -> None:
    costs = write_costs(tmp_path)
    outputs = [f"tables/cost.{suffix}" for suffix in ("csv", "md", "tex", "html", "txt")]
    said = run(
        "cost_table.py",
        input=list(costs.values()),
        output=outputs,
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


def test_summary(run: Callable[..., str], tmp_path: Path) -> None:
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
            "costs": list(write_costs(tmp_path).values()),
        },
        output=["results/mine/summary.txt"],
        params={"run": "results/mine"},
    )
    text = (tmp_path / "results/mine/summary.txt").read_text()
    assert text.startswith("This is table 2.\n\nThis is table 1.\n\nWhat each stage cost\n")
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

    def reach(synthetic: bool) -> tuple[str, pd.DataFrame, pd.DataFrame]:
        said = run(
            "verdict.py",
            input={
                "metrics": [write_parquet(tmp_path / "metrics.parquet", metrics)],
                "plausibility": write_parquet(
                    tmp_path / "plausibility.parquet", pd.DataFrame(columns=plausibility.COLUMNS)
                ),
                "published": tmp_path / "published.csv",
                "claims": tmp_path / "claims.yaml",
                "costs": list(write_costs(tmp_path).values()),
                "summaries": summaries,
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
    _, cells, _ = reach(synthetic=True)
    assert cells["difference"].isna().all()
