"""Runs with little in them: each ends in a report, or in one line within the first seconds.

One run has a model of every algorithm (tests/tiny.py). Each entry of `REPORTS` copies it and asks
for other views of it, so only what it does differently runs again; each of `REFUSED` is a dry run,
or the check of the data in process. A few of the reports are in `make test`, all of them in
`make test-all`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import tiny, warm

from swift_debias.config import load
from swift_debias.data import adapters, check
from swift_debias.report import figures

PROJECT = Path(__file__).resolve().parents[2]
Settings = dict[str, Any]
Change = Callable[[Settings], Any]

WIDE = {
    "table1": tiny.table(*tiny.ALGORITHMS),
    "pareto": tiny.figure("pareto", *tiny.ALGORITHMS),
}


def views(**experiments: Any) -> Change:
    """Other tables and figures."""
    return lambda config: config.update(experiments=experiments)


def on(attribute: str, *test_sets: str, methods: tuple[str, ...] = ("baseline", "swift")) -> Change:
    """A table of another attribute, or of other test sets."""

    def change(config: Settings) -> None:
        config["tasks"]["lesion"]["tests"] = {attribute: list(test_sets)}
        panel = tiny.PANEL | {"attribute": attribute}
        shown = {"panels": [panel]}
        config["experiments"] = {
            "table1": tiny.table(*methods, **shown),
            "intervals": tiny.figure("intervals", *methods, **shown),
            "groups": tiny.figure("groups", *methods, **shown),
        }
        for name in test_sets:
            config["datasets"][name] = tiny.dataset(
                Path(config["datasets"]["test"]["root"]).with_name(name)
            )

    return change


def drawn(plot: str) -> Change:
    """One figure, and no table."""
    methods = ("baseline", "swift")
    facts = figures.facts(plot)
    if "methods" in facts.first or plot in ("masks", "estimators"):
        methods = ("baseline",) if plot == "bias" else ("swift",)

    def change(config: Settings) -> None:
        views(only=tiny.figure(plot, *methods))(config)
        if "tie" in facts.task_sets:
            config["tasks"]["lesion"]["tie"] = {"attribute": "sex", "strength": 0.3}

    return change


def one_fold_more(config: Settings) -> None:
    config["folds"] = 3
    views(table1=tiny.table("baseline", "llft"))(config)


REPORTS: dict[str, Change] = {
    **{
        f"only {name}": views(table1=tiny.table(name), pareto=tiny.figure("pareto", name))
        for name in tiny.ALGORITHMS
    },
    "one table": views(table1=tiny.table("baseline", "swift")),
    "one table of one metric": views(table1=tiny.table("swift", metrics=["auc_min"])),
    **{f"one figure: {plot}": drawn(plot) for plot in figures.available()},
    "two methods, none the Baseline": views(
        table1=tiny.table("llft", "fullft"), pareto=tiny.figure("pareto", "llft", "fullft")
    ),
    "figures of sweeps with one point": views(
        epochs=tiny.figure("epochs", "swift"),
        external=tiny.figure("external", "swift"),
        reinit=tiny.figure("reinit", "swift"),
        estimators=tiny.figure("estimators", "swift"),
    ),
    "three groups": on("age", "test"),
    "three folds": one_fold_more,
    "two test sets": on("sex", "test", "few"),
    "a test set of two images": on("sex", "few"),
    "a test set without a group": on("sex", "no_men"),
    "three groups, one absent": on("age", "no_old"),
}

TESTS: dict[str, Callable[[Any], bool]] = {
    "no_men": lambda row: row["sex"] == "female",
    "no_nevi": lambda row: row["dx"] == "mel",
    "no_old": lambda row: row["age"] < 60,
    "few": lambda row: row["file"] in ("few000.png", "few003.png"),
    "single": lambda row: row["file"] == "single000.png",
    "no_sex": lambda row: True,
    "empty": lambda row: False,
    "unread": lambda row: True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets: a training set, a whole test set, and those that lack something."""
    folder = tmp_path_factory.mktemp("minimal") / "data"
    tiny.write_data(folder)
    for name, keeps in TESTS.items():
        rows = [row for row in tiny.rows(name, 24) if keeps(row)]
        if name == "no_sex":
            rows = [row | {"sex": "unknown"} for row in rows]
        if name == "unread":
            rows = [row | {"dx": "other"} for row in rows]
        tiny.write_set(folder / name, rows)
    return folder


@pytest.fixture(scope="module")
def jobs() -> Iterator[Path]:
    with warm.serve_jobs() as place:
        yield place


def snakemake(folder: Path, config: Settings, *arguments: str, jobs: Path | None = None) -> Any:
    """Snakemake in a folder, as a user starts it."""
    path = tiny.write_config(folder / "config.yaml", config)
    words = ["--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    words += ["--cores", "2", "--scheduler", "greedy", "--configfile", str(path)]
    words += ["--rerun-triggers", "mtime", "params", "input", *arguments]
    return warm.run("snakemake", *words, cwd=folder, jobs=jobs, timeout=600)


@pytest.fixture(scope="module")
def finished(data: Path, jobs: Path) -> Path:
    """A run with a model of every algorithm."""
    folder = data.with_name("finished")
    folder.mkdir()
    done = snakemake(folder, tiny.config(data, WIDE), jobs=jobs)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", REPORTS)
def test_little_is_enough_for_a_report(
    name: str, finished: Path, data: Path, jobs: Path, tmp_path: Path
) -> None:
    config = tiny.config(data, WIDE)
    REPORTS[name](config)
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    results = folder / tiny.RUN
    before = (results / "report.html").stat().st_mtime_ns
    done = snakemake(folder, config, jobs=jobs)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-6000:]
    assert (results / "report.html").stat().st_mtime_ns > before
    page = (results / "report.html").read_text()
    # the page shows each view of this run and none of the run before
    kinds = {"table": set(), "figure": set()}
    for view, experiment in config["experiments"].items():
        kinds[experiment["kind"]].add(view)
    assert all(f"figures/{view}.png" in page for view in kinds["figure"])
    assert ("figures/pareto.png" in page) == ("pareto" in kinds["figure"])
    scored = pd.read_parquet(results / "metrics.parquet")
    shown = {m for view in config["experiments"].values() for m in view["methods"]}
    assert set(scored["method"]) == shown
    assert (results / "summary.txt").read_text().strip()
    for view in kinds["table"]:
        told = pd.read_csv(results / "tables" / f"{view}.csv")
        assert set(told["method"]) == set(config["experiments"][view]["methods"])


# --- refused --------------------------------------------------------------------------------------


def cut(**changes: Any) -> Change:
    """Other values of the only task's keys."""
    return lambda config: config["tasks"]["lesion"].update(changes)


REFUSED_CONFIG: dict[str, tuple[Change, str]] = {
    "no view": (views(), "experiments: there is none"),
    "a view without methods": (views(table1=tiny.table()), "experiments.table1"),
    "a view without panels": (views(table1=tiny.table("swift", panels=[])), "table1.panels"),
    "no drawing": (views(one={**tiny.figure("pareto", "swift"), "plot": None}), "one.plot"),
    "no test set": (cut(tests={"sex": []}), "tests"),
    "no attribute": (cut(tests={}), "tests"),
    "no training set": (cut(train=[]), "train"),
    "one fold": (lambda config: config.update(folds=1), "folds"),
    "a group alone": (
        lambda config: config["attributes"]["sex"].update(groups={"female": ["female"]}),
        "attributes.sex: an attribute needs",
    ),
    "no method": (lambda config: config.update(methods={}), "methods"),
    "no network": (lambda config: config.update(backbones={}), "no backbone 'small'; valid: none"),
    "no task": (lambda config: config.update(tasks={}), "no task 'lesion'; valid: none"),
    "no data set": (lambda config: config.update(datasets={}), "no data set 'train'; valid: none"),
    "more folds than there can be": (lambda config: config.update(folds=145), "folds: "),
    "one set for both": (cut(tests={"sex": ["train"]}), "'train' is also a training set"),
    "no epoch": (
        lambda config: config["tasks"]["lesion"]["pretraining"].update(epochs=0),
        "tasks.lesion.pretraining.epochs",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CONFIG)
def test_too_little_in_a_configuration_is_refused_when_it_is_read(
    name: str, data: Path, tmp_path: Path
) -> None:
    change, words = REFUSED_CONFIG[name]
    config = copy.deepcopy(tiny.config(data, WIDE))
    change(config)
    done = snakemake(tmp_path, config, "-n")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said[-2000:]
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if words in line]
    assert lines, said
    assert all(len(line) < 400 for line in lines)


REFUSED_DATA: dict[str, tuple[Change, str]] = {
    "too few images for the folds": (lambda config: config.update(folds=40), "40 folds"),
    "one fold more than patients": (
        lambda config: (
            config["datasets"]["train"].update(only={"patient": ["train_0", "train_1"]})
            or config.update(folds=3)
        ),
        "3 folds need as many groups of images, there are 2",
    ),
    "a test set without a class that it names": (
        on("sex", "no_nevi"),
        "no_nevi: label.negative: no row has nev",
    ),
    "a test set with one image": (on("sex", "single"), "single: label.negative: no row has nev"),
    "an empty test set": (on("sex", "empty"), "empty: "),
    "no row of a known class": (on("sex", "unread"), "unread: "),
    "a test set of unknown groups": (on("sex", "no_sex"), "no_sex: no image has a known sex"),
    "a training set of one class": (
        lambda config: config["datasets"]["train"].update(only={"dx": ["mel"]}),
        "train: label.negative: no row has nev",
    ),
    "a training set of one group": (
        lambda config: config["datasets"]["train"].update(only={"sex": ["male"]}),
        "group female",
    ),
    "attribute unknown everywhere": (
        lambda config: config["attributes"]["sex"].update(groups={"a": ["A"], "b": ["B"]}),
        "no image has a known sex",
    ),
    "three groups, two of them empty": (
        lambda config: (
            on("age", "test")(config),
            config["attributes"]["age"].update(cuts=[200, 300]),
        ),
        "fewer than two of the 3 groups",
    ),
    "cells smaller than wanted": (
        lambda config: config["tasks"]["lesion"]["finetuning"].update(min_cell=100),
        "finetuning.min_cell",
    ),
}


@pytest.mark.parametrize("name", REFUSED_DATA)
def test_too_little_in_the_data_is_said_by_the_check(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, words = REFUSED_DATA[name]
    config = copy.deepcopy(tiny.config(data, WIDE))
    change(config)
    settings = load.typed(config, adapters.options_models())
    expected = check.load_expected(PROJECT / "resources" / "expected_counts.yaml")
    report = check.check(settings, data, expected)
    assert not report.ok
    reasons = [reason for view in report.experiments for reason in view.reasons]
    assert any(words in reason for reason in reasons), reasons
    assert all("\n" not in reason for reason in reasons)
