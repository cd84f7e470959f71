"""What a report goes without after a run in which jobs failed: run/unfinished.py."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swift_debias.run import layout, unfinished
from swift_debias.run.unfinished import LeftOut, find, went_on

SEX, AGE = ("skin", "net", "sex"), ("skin", "net", "age")
METHODS = {SEX: ("baseline", "llft", "swift"), AGE: ("baseline", "swift")}


class Job:
    """As much of Snakemake's jobs as is looked at."""

    def __init__(self, name: str, kind: str, log: Path | None = None, **wildcards: Any) -> None:
        self.rule = SimpleNamespace(name=name)
        self.wildcards = self.wildcards_dict = wildcards
        self.output = [f"results/a/{layout.path(kind, **wildcards)}"]
        self.log = [str(log)] if log else []

    def is_group(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.rule.name} {self.wildcards}"


class Dag:
    """Jobs, what each waits for, and which have ended well."""

    def __init__(self) -> None:
        self.dependencies: dict[Job, dict[Job, set[str]]] = {}
        self.done: set[Job] = set()

    def add(self, job: Job, *needs: Job) -> Job:
        self.dependencies[job] = {need: set() for need in needs}
        return job

    def needrun_jobs(self, exclude_finished: bool = True) -> list[Job]:
        return [each for each in self.dependencies if each not in self.done or not exclude_finished]

    def run(self, failing: set[Job]) -> set[Job]:
        """As with --keep-going: what waits for nothing that failed is made. Who failed."""
        for each, needs in self.dependencies.items():  # in the order of the road
            if each not in failing and self.done.issuperset(needs):
                self.done.add(each)
        return {each for each in failing if self.done.issuperset(self.dependencies[each])}


def setup(keys: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("task", "backbone", "attribute"), keys, strict=True))


def road() -> tuple[Dag, dict[str, Job]]:
    """A run of two setups; view `both` shows both, `one` the first, `map` draws importances."""
    dag, jobs = Dag(), {}

    def add(name: str, kind: str, *needs: str, **wildcards: Any) -> None:
        jobs[name] = dag.add(Job(name.split()[0], kind, **wildcards), *(jobs[n] for n in needs))

    add("pixels", "pixels", dataset="train")
    add("tests", "pixels", dataset="test")
    add("train", "baseline_model", "pixels", task="skin", backbone="net", fold=0)
    for keys, methods in METHODS.items():
        own = setup(keys)
        a = keys[2]
        add(f"groups {a}", "groups", "train", **own)
        add(f"importance {a}", "importance", "train", f"groups {a}", **own, fold=0)
        for method in methods:
            needs = {"baseline": ["train"], "llft": ["train"], "swift": [f"importance {a}"]}[method]
            if method == "swift":
                add(f"search {a}", "search", f"importance {a}", **own, method="swift")
                needs.append(f"search {a}")
            add(f"{method} {a}", "model", *needs, **own, method=method, fold=0)
        models = [f"{method} {a}" for method in methods]
        add(f"predict {a}", "setup_predictions", *models, "tests", **own)
        add(f"evaluate {a}", "setup_metrics", f"predict {a}", **own)
        add(f"intervals {a}", "intervals", f"predict {a}", **own)
    merged = ["evaluate sex", "evaluate age"]
    add("table both", "table", *merged, "groups age", "search sex", table="both", format="csv")
    add("table one", "table", "evaluate sex", "search sex", table="one", format="csv")
    add("arrays map", "arrays", "importance sex", "predict sex", figure="map")
    add("figure map", "figure", "arrays map", "evaluate sex", figure="map", format="png")
    add("merge", "metrics", *merged)
    jobs["ranks"] = dag.add(Job("ranks", "table"), jobs["merge"])
    jobs["ranks"].output = ["results/a/tables/ranks.csv"]
    add("report", "report", "merge", "ranks", "table both", "table one", "figure map")
    add("summary", "summary", "merge")
    return dag, jobs


VIEWS = {"both": (SEX, AGE), "one": (SEX,), "map": (SEX,)}


def blocks(name: str) -> list[dict[str, Any]]:
    return [{**setup(keys), "methods": METHODS[keys]} for keys in VIEWS[name]]


def needed(jobs: dict[str, Job], left_out: LeftOut) -> set[Job]:
    """Jobs that the second run plans, up to the models: written down once more, by hand."""
    shown = left_out.shown(METHODS)
    found = []
    for (_, _, a), methods in shown.items():
        found += ["tests", f"groups {a}", *(f"{method} {a}" for method in methods)]
        found += [f"search {a}"] if "swift" in methods else []
    if left_out.blocks("map", blocks("map")):
        found += ["importance sex", "arrays map", "figure map"]
    found += [f"table {name}" for name in ("both", "one") if left_out.blocks(name, blocks(name))]
    found += [f"{rule} {a}" for rule in ("evaluate", "intervals") for _, _, a in shown]
    return {jobs[name] for name in found}


RERUN = ("predict", "evaluate", "intervals", "table", "figure", "arrays")
_, ROAD = road()
UPSTREAM = [name for name in ROAD if name not in ("merge", "ranks", "report", "summary")]


def check(failing: tuple[str, ...]) -> LeftOut:
    """One run: the second one asks for nothing that is missing, and for all that is there."""
    dag, jobs = road()
    failed = dag.run({jobs[name] for name in failing})
    left_out = find(dag, failed)
    again = needed(jobs, left_out)
    missing = set(dag.needrun_jobs())
    for each in again & missing:
        # what is scored and drawn anew, without what is left out: it must not have failed itself
        assert each.rule.name in RERUN, f"{failing}: {each} is asked for again"
        assert each not in failed, f"{failing}: {each} failed and is tried again"
    for keys, methods in METHODS.items():  # and nothing is left out without need
        for method in methods:
            if method in left_out.shown(METHODS).get(keys, ()):
                continue
            a = keys[2]
            waits = [f"{method} {a}", "tests", f"predict {a}", f"evaluate {a}", f"intervals {a}"]
            own = [jobs[name] in missing for name in (waits[0], "tests", f"groups {a}")]
            own += [jobs[name] in failed for name in waits[2:]]
            assert any(own), f"{failing}: {method} of {a} is there"
    for name in left_out.views:
        own = {"map": ["figure map", "arrays map", "importance sex"]}.get(name, [f"table {name}"])
        assert {jobs[n] for n in own} & missing, f"{failing}: {name}"
    return left_out


@pytest.mark.parametrize("name", UPSTREAM)
def test_whatever_fails(name: str) -> None:
    left_out = check((name,))
    assert left_out != LeftOut()


def test_several_fail() -> None:
    rng = random.Random(7)
    pairs = list(itertools.combinations(UPSTREAM, 2))
    for failing in [*pairs, *(tuple(rng.sample(UPSTREAM, 4)) for _ in range(300))]:
        check(failing)


def test_what_is_left_out_of_each() -> None:
    def of(*failing: str) -> tuple[list[str], list[str], list[str]]:
        left_out = check(failing)
        methods = [f"{m} {a}" for _, _, a, m in sorted(left_out.methods)]
        return methods, [keys[2] for keys in sorted(left_out.setups)], sorted(left_out.views)

    assert of("llft sex") == (["llft sex"], [], [])
    assert of("search age") == (["swift age"], [], [])
    assert of("importance sex") == (["swift sex"], [], ["map"])
    assert of("evaluate age") == ([], ["age"], [])
    assert of("groups age") == (["swift age"], ["age"], [])
    assert of("tests") == ([], ["age", "sex"], [])
    assert of("arrays map") == of("figure map") == ([], [], ["map"])
    assert of("table one", "llft sex") == (["llft sex"], [], [])  # it was never tried
    assert of("table one") == ([], [], ["one"])
    every = [f"{m} {keys[2]}" for keys in (AGE, SEX) for m in METHODS[keys]]
    assert of("train")[0] == every


def test_told() -> None:
    left_out = LeftOut(
        methods=frozenset({(*SEX, "llft")}), setups=frozenset({AGE}), views=frozenset({"map"})
    )
    views = {name: blocks(name) for name in VIEWS}
    assert left_out.told(views, {"llft": "LLFT"}) == [
        ["both", "skin, net, sex", "LLFT"],
        ["both", "skin, net, age", "all methods"],
        ["one", "skin, net, sex", "LLFT"],
        ["map", "", "not made"],
    ]
    assert LeftOut().told(views, {}) == []
    assert LeftOut().shown(METHODS) == METHODS
    every = LeftOut(methods=frozenset((*AGE, method) for method in METHODS[AGE]))
    assert every.shown(METHODS) == {SEX: METHODS[SEX]}


def test_only_a_run_that_went_on_has_such_a_report() -> None:
    dag, jobs = road()
    failed = dag.run({jobs["llft sex"]})
    assert went_on(dag, failed)
    dag.done.remove(jobs["evaluate age"])  # interrupted: nothing hinders it
    assert not went_on(dag, failed)
    dag, jobs = road()
    dag.run({jobs["llft sex"]})
    assert not went_on(dag, [])


class Started(list[list[str]]):
    """Stands for subprocess.Popen."""

    returncode = 0

    def __call__(self, command: list[str], env: dict[str, str], cwd: Path) -> Started:
        self.append(command)
        self.env = env
        return self


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    calls = Started()
    monkeypatch.setattr(unfinished.subprocess, "Popen", calls)
    monkeypatch.setattr(sys, "argv", ["/bin/snakemake", "--cores", "2", "-k"])
    monkeypatch.delenv(unfinished.NOTE, raising=False)
    return calls


def ended(dag: Dag, failed: set[Any]) -> Any:
    return SimpleNamespace(dag=dag, scheduler=SimpleNamespace(failed=failed))


def test_the_second_run(started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dag, jobs = road()
    log = tmp_path / "llft.log"
    log.write_text("epoch 1\nerror: the loss is not finite\n")
    jobs["llft sex"].log = [str(log)]
    failed = dag.run({jobs["llft sex"], jobs["arrays map"]})
    said: list[str] = []
    unfinished.make_report(ended(dag, failed), tmp_path, METHODS, said.append)
    [command] = started
    assert command[1:3] == ["-m", "swift_debias.run.unfinished"]
    targets = ["results/a/report.html", "results/a/summary.txt"]
    assert command[3:] == [*targets, "--", "--cores", "2", "-k"]
    assert "it says what it goes without" in "".join(said)
    # what the second run reads, from the environment
    monkeypatch.setenv(unfinished.NOTE, started.env[unfinished.NOTE])
    why = "the loss is not finite"
    # predict did not run, so nobody tried to draw the map
    assert unfinished.read() == LeftOut(
        methods=frozenset({(*SEX, "llft")}),
        failed=(("llft skin, net, sex, llft, 0", why, str(log)),),
    )
    # in that run the same fails: no third
    unfinished.make_report(ended(dag, failed), tmp_path, METHODS)
    dag, jobs = road()  # and where the report's own part fails: it would without end
    unfinished.make_report(ended(dag, dag.run({jobs["ranks"]})), tmp_path, METHODS)
    assert len(started) == 1
    # something else does: a third goes without both
    dag, jobs = road()
    unfinished.make_report(ended(dag, dag.run({jobs["table one"]})), tmp_path, METHODS)
    assert len(started) == 2
    note = json.loads((tmp_path / "unfinished.json").read_text())
    assert (note["methods"], note["views"]) == ([[*SEX, "llft"]], ["one"])
    assert [job for job, *_ in note["failed"]] == ["llft skin, net, sex, llft, 0", "table one, csv"]


@pytest.mark.parametrize(
    ("failing", "of"),
    [
        (["train"], "nothing is left to be shown"),
        (["tests"], "nothing is left to be shown"),
        (["report", "summary"], "the report itself failed"),
    ],
)
def test_no_second_run(started: Started, tmp_path: Path, failing: list[str], of: str) -> None:
    dag, jobs = road()
    failed = dag.run({jobs[name] for name in failing})
    unfinished.make_report(ended(dag, failed), tmp_path, METHODS)
    assert not started, of
    assert not list(tmp_path.iterdir())


def test_called_by_another_program(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/my_program.py", "--of-its-own"])
    dag, jobs = road()
    unfinished.make_report(ended(dag, dag.run({jobs["llft sex"]})), tmp_path, METHODS)
    assert not started


def test_a_group_of_jobs(tmp_path: Path, started: Started) -> None:
    """A cluster runs several jobs as one: the one that says why has failed."""

    class Group:
        def __init__(self, *members: Job) -> None:
            self.jobs = set(members)

        def is_group(self) -> bool:
            return True

    dag, jobs = road()
    dag.run({jobs["llft sex"], jobs["swift sex"]})
    for name, text in {"llft sex": "fine\n", "swift sex": "error: out of memory\n"}.items():
        log = tmp_path / f"{name}.log"
        log.write_text(text)
        jobs[name].log = [str(log)]
    group = Group(jobs["llft sex"], jobs["swift sex"])
    unfinished.make_report(ended(dag, {group}), tmp_path, METHODS)
    note = json.loads((tmp_path / "unfinished.json").read_text())
    assert [(job, why) for job, why, _ in note["failed"]] == [
        ("swift skin, net, sex, swift, 0", "out of memory")
    ]
    assert {m for *_, m in note["methods"]} == {"llft", "swift"}
    silent = tmp_path / "silent.log"
    silent.write_text("")
    jobs["swift sex"].log = [str(silent)]
    unfinished.make_report(ended(dag, {group}), tmp_path, METHODS)
    note = json.loads((tmp_path / "unfinished.json").read_text())
    assert len(note["failed"]) == 2
    assert all("it may have been killed" in why for _, why, _ in note["failed"])


def test_where_relative_paths_are_seen_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p" / "deep" / "run").mkdir(parents=True)
    (tmp_path / "p" / "a.yaml").touch()
    (tmp_path / "elsewhere").mkdir()
    typed = ["--configfile=p/a.yaml", "--directory", "p/deep/run", "--cores", "2", "all"]
    monkeypatch.delenv("PWD", raising=False)
    monkeypatch.chdir(tmp_path / "p" / "deep" / "run")  # where --directory is
    assert unfinished._where_typed(typed) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert unfinished._where_typed(typed) == tmp_path
    monkeypatch.chdir(tmp_path / "elsewhere")  # --directory was a whole path: the shell knows
    monkeypatch.setenv("PWD", str(tmp_path))
    assert unfinished._where_typed(["--configfile", "p/a.yaml", "--cores", "2"]) == tmp_path
    assert unfinished._where_typed(["--cores", "2"]) == tmp_path / "elsewhere"


def test_ctrl_c_ends_the_second_run_in_its_own_time(tmp_path: Path) -> None:
    """The terminal tells both; the one that waits does not kill the other."""
    second = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(1); open('ended', 'w').close(); sys.exit(1)\n"
        "signal.signal(signal.SIGINT, end); signal.signal(signal.SIGTERM, end)\n"
        "open('ready', 'w').close(); time.sleep(60)"
    )
    first = (
        "import subprocess, sys\nfrom swift_debias.run import unfinished\n"
        f"unfinished._wait(subprocess.Popen([sys.executable, '-c', {second!r}]))\n"
        "open('waited', 'w').close()"
    )
    for number, whole_group in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        folder = tmp_path / number.name
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", first],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(unfinished.__file__).parents[2])},
            start_new_session=True,
        )
        while not (folder / "ready").exists():
            time.sleep(0.05)
            assert process.poll() is None
        (os.killpg if whole_group else os.kill)(process.pid, number)
        assert process.wait(20) == 0
        assert (folder / "ended").exists()
        assert (folder / "waited").exists()


def test_statistics_keep_what_could_not_be_drawn() -> None:
    left_out = LeftOut(methods=frozenset({(*SEX, "llft")}), views=frozenset({"both"}))
    assert left_out.blocks("both", blocks("both")) == []
    assert [(b["attribute"], b["methods"]) for b in left_out.kept(blocks("both"))] == [
        ("sex", ("baseline", "swift")),
        ("age", ("baseline", "swift")),
    ]


def test_the_command_line_of_the_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other targets, no lock, nothing forced or cut; all else as it was typed."""
    import snakemake.cli

    seen: list[Any] = []
    monkeypatch.setattr(snakemake.cli, "args_to_api", lambda args, parser: seen.append(args))
    typed = ["all", "--cores", "3", "-F", "-R", "debias", "--config", "folds=2", "-k"]
    monkeypatch.setattr(sys, "argv", ["unfinished.py"])
    with pytest.raises(SystemExit) as end:
        unfinished.main(["a/report.html", "a/summary.txt", "--", *typed])
    assert end.value.code == 1
    [args] = seen
    assert args.targets == {"a/report.html", "a/summary.txt"}
    assert args.nolock
    assert not args.forceall
    assert not args.force
    assert not args.forcerun
    assert sys.argv == ["snakemake", *typed]  # what a third run goes by
    assert (args.cores, args.keep_going, list(args.config)) == (3, True, ["folds=2"])
