"""Equal tuning in the rules: who is searched, who takes over what was found, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dag import jobs_of
from tests import cut

from swift_debias import errors, methods
from swift_debias.config import load as reading
from swift_debias.data import adapters

PROJECT = Path(__file__).resolve().parents[2]
PANEL = {"task": "cxr", "backbone": "small_resnet", "attribute": "age"}
SHOWN = ["baseline", "swift", "swift_no_reinit", "swift_zscore", "swift_epochs_15", "llft", "bmft"]
SHOWN += ["swift_learned", "dfr"]
GRID = {"prediction_weight_1": [0.1, 0.5], "prediction_weight_2": [0.6, 0.9]}


def config(**changes: Any) -> dict[str, Any]:
    """The demo with one table, whose SWiFT and LLFT are searched; BMFT is not."""
    demo = yaml.safe_load((PROJECT / "config/config.yaml").read_text())
    table = {"kind": "table", "title": "One", "methods": SHOWN, "panels": [PANEL]}
    return {
        "extends": "config/demo.yaml",
        "experiments": {**dict.fromkeys(demo["experiments"]), "one": table},
        "methods": {
            **cut.UNSEARCHED,
            "swift": {"search": GRID},
            "llft": {"search": {"alpha": [0.1, 1, 2, 3]}},
            "swift_learned": {"like": "swift", "title": "Learned", "threshold": "learned"},
            "dfr": {"algorithm": "dfr"},
            **changes.pop("methods", {}),
        },
        **changes,
    }


def load(raw: dict[str, Any]) -> Any:
    return reading.load(
        copy.deepcopy(raw),
        PROJECT,
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
    )


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    folder = tmp_path_factory.mktemp("search")
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(config(selection={"trials": 4, "share": 0.4})))
    with jobs_of(folder, path) as (found, _):
        yield found


def of(job: Any) -> str:
    return job.wildcards.get("method") or "first step"


@pytest.mark.key("method.search", "selection.trials")
def test_searched_methods_have_a_search_and_wait_for_it(jobs: dict[str, list[Any]]) -> None:
    searches = {of(job): job for job in jobs["search"]}
    assert set(searches) == {"swift", "llft"}
    assert searches["swift"].params.method["search"] == GRID
    assert dict(searches["swift"].params.selection) | {"trials": 4, "share": 0.4} == dict(
        searches["swift"].params.selection
    )
    waits = {of(job): [str(f) for f in job.input if "search/" in str(f)] for job in jobs["debias"]}
    setup = "results/demo/search/cxr/small_resnet/age"
    for name in ("swift", "swift_no_reinit", "swift_zscore", "swift_epochs_15"):
        assert waits[name] == [f"{setup}/swift.json"], name
    assert waits["llft"] == [f"{setup}/llft.json"] and waits["bmft"] == []
    keys = {of(job): list(job.params.searched) for job in jobs["debias"]}
    assert keys["swift"] == keys["swift_zscore"] == list(GRID)
    assert (keys["llft"], keys["bmft"]) == (["alpha"], [])
    assert all("search" not in job.params.method for job in jobs["debias"])


@pytest.mark.key("method.search")
def test_a_method_s_own_grid() -> None:
    """`search: default`, of the algorithm or of the one that a variant is like; six points."""
    dro = {"algorithm": "groupdro", "search": "default"}
    names = {"dro": dro, "faster": {"like": "dro", "eta": 5}, "own": {"like": "faster"}}
    names["again"] = {"like": "dro", "balanced": True, "search": "default"}
    free = {"trials": None}
    read = load(config(methods=names, selection=free)).methods
    grid = {"eta": (0.01, 0.1, 1), "lr_factor": (1, 3)}
    assert read["dro"].search == read["again"].search == grid
    assert methods.searched(read, "own") == ("dro", ("lr_factor",))
    for change, message in (
        ({"dro": {"algorithm": "baseline", "search": "default"}}, "baseline has no default grid"),
        ({"dro": dro, "default": {"algorithm": "jtt"}}, "methods.default: a variant may not be"),
        ({"dro": {"algorithm": "dro", "search": "default"}}, "no algorithm 'dro'"),
        ({"dro": {"like": "nobody", "search": "default"}}, "no method 'nobody'"),
    ):
        with pytest.raises(errors.UserError, match=message):
            load(config(methods=change, selection=free))


@pytest.mark.parametrize(
    "algorithm", [name for name, model in methods.settings_models().items() if model.grid]
)
def test_default_grids_are_of_equal_size_and_valid(algorithm: str) -> None:
    entry = {"algorithm": algorithm, "search": "default"}
    selection = {"trials": 6}
    searched = {name: {"search": None} for name in ("swift", "llft")}
    load(config(selection=selection, methods={"it": entry, **searched}))


@pytest.mark.key("selection.share")
def test_methods_that_hold_out_wait_for_the_cohort(jobs: dict[str, list[Any]]) -> None:
    """It says whose the images are; and they hold out what a search does."""
    found = {
        of(job): (
            [str(f) for f in job.input if "cohorts/" in str(f)],
            job.params.selection and job.params.selection["share"],
        )
        for job in jobs["debias"]
    }
    held = {"swift_learned", "dfr"}
    assert held < set(found)
    for name, what in found.items():
        cohort = "results/demo/cohorts/cxr.parquet"
        assert what == (([cohort], 0.4) if name in held else ([], None)), name


@pytest.mark.key("selection.on_folds")
@pytest.mark.parametrize(("on_folds", "folds"), [(None, [0, 1]), (1, [0]), (2, [0, 1])])
def test_trials_are_made_on_the_first_folds(
    tmp_path: Path, on_folds: int | None, folds: list[int]
) -> None:
    """The search has fewer; every fold is debiased with what it found, and tables say so."""
    path = tmp_path / "search.yaml"
    selection = {"trials": None, "on_folds": on_folds}
    path.write_text(yaml.safe_dump(config(selection=selection)))
    with jobs_of(tmp_path, path) as (jobs, _):
        assert [list(job.params.folds) for job in jobs["search"]] == [folds] * len(jobs["search"])
        assert [list(job.params.folds) for job in jobs["debias"]] == [[0, 1]] * len(jobs["debias"])
        (table,) = jobs["table"]
        assert table.params.folds == len(folds)


def test_a_shared_first_step_waits_for_the_search_too(jobs: dict[str, list[Any]]) -> None:
    """It takes what was found for step 1 alone."""
    (first,) = jobs["first_step"]
    assert list(first.params.searched) == ["prediction_weight_1"]
    assert [str(f) for f in first.input if "search/" in str(f)] != []
    shared = {of(job) for job in jobs["debias"] if any("first_steps" in str(f) for f in job.input)}
    assert shared == {"swift", "swift_no_reinit"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"bmft": {"search": {"rtae": [0.1]}}}}, "bmft has no setting 'rtae'.*'rate'"),
        ({"methods": {"bmft": {"search": {"rate": [0.1, 2]}}}}, r"methods\.bmft\.search"),
        ({"methods": {"bmft": {"search": "swfit"}}}, "no method 'swfit'.*'swift'"),
        ({"methods": {"bmft": {"search": "baseline"}}}, "'baseline' has no search of its own"),
        ({"methods": {"bmft": {"search": "bmft"}}}, "in the end what it searches itself"),
        ({"methods": {"bmft": {"search": {"rate": [0.1, 0.1]}}}}, "stands there twice"),
        ({"methods": {"llft": {"search": {"alpha": [1, 1.0]}}}}, r"alpha: 1\.0 stands there twice"),
        ({"methods": {"llft": {"search": {"alpha": [1, "1e0"]}}}}, "alpha: 1.0 stands there twice"),
        ({"methods": {"own": {"algorithm": "llft", "search": {}}}}, "own.search: is empty"),
        (
            {"methods": {"swift": {"search": {"percentile": [90, 95]}}}},
            r"swift\.search\.percentile: would be ignored with normalization: minmax; it goes with",
        ),
        (
            {"methods": {"swift": {"reinit": "none", "search": {"threshold": [0.1, 0.9]}}}},
            r"swift\.search\.threshold: would be ignored with reinit: none",
        ),
        (
            {"methods": {"swift": {"search": {"threshold": [0, 1], "reinit": ["none", "full"]}}}},
            r"search\.threshold: would be ignored with reinit: none, full; it goes with",
        ),
        ({"selection": {"trials": 6}}, r"search has 4 points, but selection\.trials says 6"),
        ({"selection": {"share": 1}}, r"selection\.share"),
        ({"selection": {"on_folds": 3}}, r"selection\.on_folds: there are 2 folds"),
    ],
)
def test_mistakes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UserError, match=message):
        load(config(**change))


def test_a_setting_may_be_searched_beside_what_it_goes_with() -> None:
    """With `normalization: minmax` alone a percentile would be read by no trial."""
    grid = {"normalization": ["minmax", "percentile"], "percentile": [90, 95]}
    found = load(config(methods={"swift": {"search": grid}}, selection={"trials": None}))
    assert found.methods["swift"].search["percentile"] == (90, 95)


def test_a_searched_method_may_be_called_by_any_name(tmp_path: Path) -> None:
    """`+` and `.` mean something in a regular expression, and a rule's wildcards are such."""
    names = ("swift+1", "ll.ft", "a.b+c-d_e")
    table = {"kind": "table", "title": "One", "methods": list(names), "panels": [PANEL]}
    own = {name: {"algorithm": "llft", "search": {"alpha": [1, 2, 3, 4]}} for name in names}
    raw = config(methods=own, selection={"trials": 4})
    raw["experiments"]["one"] = table
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(raw))
    with jobs_of(tmp_path, path) as (jobs, _):
        assert {of(job) for job in jobs["search"]} == set(names)


def test_every_job_that_is_given_a_network_is_given_its_module(tmp_path: Path) -> None:
    """A user's module that has changed makes another network, in searches and first steps too."""
    (tmp_path / "net_of_a_search.py").write_text("def made(width=8, pool=True): ...\n")
    network = {"small_resnet": {"architecture": "net_of_a_search:made"}}
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(config(selection={"trials": 4}, backbones=network)))
    with jobs_of(tmp_path, path) as (jobs, names):
        module = names["module_of"]("small_resnet")
        given = [job for of_rule in jobs.values() for job in of_rule if job.params.get("backbone")]
        assert {job.rule.name for job in given} >= {"search", "first_step", "debias", "predict"}
        assert module and {job.params.get("module") for job in given} == {module}
