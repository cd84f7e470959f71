"""what-changed: how reasons are put into words; what is planned is tested on real reruns."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swift_debias import cli
from swift_debias.errors import UserError
from swift_debias.run import what_changed


def unknown(old: str, new: str) -> list[str]:
    """Nothing is known of what changed in the files of a data set."""
    return []


def test_values_are_told_by_their_key() -> None:
    old = {"lr": 1, "gone": [1], "deep": {"a": 1, "same": 0}}
    new = {"lr": 2, "deep": {"a": "x" * 90, "same": 0}, "more": None}
    assert list(what_changed.differences("task", old, new)) == [
        "task.lr: 1 -> 2",
        "task.gone: [1] -> taken out",
        "task.deep.a: 1 -> '" + "x" * 56 + "...",
        "task.more: new, None",
    ]
    assert list(what_changed.differences("seed", 0, 0)) == []
    assert list(what_changed.differences("seed", {"a": 1}, 3)) == ["seed: {'a': 1} -> 3"]
    assert what_changed.literal("{'a': (1, 2)}") == {"a": (1, 2)}
    assert what_changed.literal("f(x)") == "f(x)"


def test_params_are_paired_with_what_they_were() -> None:
    """Snakemake gives the old values without names: the likeliest of the same type is taken."""
    old = {"3", "{'epochs': 22, 'lr': 0.1}", "'abc'", "[1]"}
    new = {"{'epochs': 23, 'lr': 0.1}": "task", "4": "seed", "'abd'": "code"}
    assert list(what_changed.changed_params(old, set(new), new, unknown)) == [
        "the code that it runs has changed",
        "seed: 3 -> 4",
        "task.epochs: 22 -> 23",
        "no longer used: [1]",
    ]
    assert list(what_changed.changed_params(set(), {"7"}, {"7": "folds"}, unknown)) == [
        "folds is new"
    ]
    assert list(what_changed.changed_params({"1"}, {"2"}, {}, unknown)) == ["param: 1 -> 2"]


def test_changed_files_are_told_by_name() -> None:
    """Of one data set, of several by name, and where nothing is known of them."""
    known = {("'files 1'", "'files 2'"): ["1 table edited: t.csv", "1 image removed: a.png"]}

    def explain(old: str, new: str) -> list[str]:
        return known.get((repr(old), repr(new)), [])

    one = what_changed.changed_params({"'files 1'"}, {"'files 2'"}, {"'files 2'": "data"}, explain)
    said = "1 table edited: t.csv; 1 image removed: a.png"
    assert list(one) == [f"the files have changed: {said}"]
    old = "{'a': 'files 1', 'b': 'files 1', 'c': 'files 0'}"
    new = "{'a': 'files 2', 'b': 'files 1', 'c': 'files 3'}"
    assert list(what_changed.changed_params({old}, {new}, {new: "data"}, explain)) == [
        f"the files of a have changed: {said}",
        "the files of c have changed",
    ]


def test_long_lists_are_cut() -> None:
    assert what_changed.listed(["b", "a"]) == "a, b"
    many = [f"f{place}" for place in range(10)]
    assert what_changed.listed(many) == "f0, f1, f2, f3, f4, f5, f6, f7 and 2 more"


def reason(**changes: Any) -> SimpleNamespace:
    none = dict.fromkeys(("forced", "incomplete_output", "missing_output", "input_changed"))
    empty: dict[str, Any] = {"updated_input": [], "updated_input_run": [], "params_changed": None}
    return SimpleNamespace(**none | empty | changes)


def test_reasons_in_plain_words() -> None:
    job = SimpleNamespace(params={"seed": 4})

    def told(**changes: Any) -> list[str]:
        return list(what_changed.reasons(reason(**changes), job, unknown))

    assert told() == []
    assert told(forced=True, missing_output=["x"]) == ["asked for", "not made yet"]
    assert told(incomplete_output=["x"], missing_output=["x"]) == ["it was cut short"]
    # a file that a job of this very run writes anew is no reason of its own
    assert told(updated_input=["a", "b"], updated_input_run=["b"]) == [
        "read files that have changed: a"
    ]
    assert told(input_changed=True) == ["it reads more, fewer or other files than before"]
    change = SimpleNamespace(only_old={"3"}, only_new={"4"})
    assert told(params_changed=change) == ["seed: 3 -> 4"]


def test_the_plan_is_told_by_rule() -> None:
    def jobs(rule: str, *reasons: list[str]) -> list[dict[str, Any]]:
        return [{"rule": rule, "wildcards": {}, "reasons": one} for one in reasons]

    plan = [
        *jobs("cache_images", ["x"], ["x", "y"], []),
        *jobs("table", [], []),
        *jobs("report", []),
        *jobs("debias", [str(number) for number in range(10)]),
        *jobs("all", []),
    ]
    text = what_changed.told(plan)
    assert text.splitlines()[:6] == [
        "7 jobs would run: 3 for a reason of their own, 4 because they read what those write.",
        "",
        "cache_images: 3 jobs (1 follow from others)",
        "    x  (2 jobs)",
        "    y",
        "table: 2 jobs (follow from others)",
    ]
    assert "report: 1 job (follows from others)\n" in text
    assert text.endswith(
        "debias: 1 job\n" + "".join(f"    {n}\n" for n in range(8)) + "    and 2 more\n"
    )
    assert what_changed.told(jobs("all", [])).startswith("Nothing would run")


@pytest.mark.parametrize("arguments", [["--profile", "p"], ["--configfile", "mine.yaml"]], ids=str)
def test_the_profiles_configuration_is_taken_unless_another_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    asked = []

    def planned(configfiles: list[Path], targets: set[str], _: Any) -> list[dict[str, Any]]:
        asked.append((configfiles, targets))
        return [{"rule": "table", "wildcards": {"table": "t"}, "reasons": ["r"]}]

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/config.yaml").write_text("configfile: [theirs.yaml]\n")
    for one in ("mine.yaml", "theirs.yaml"):
        (tmp_path / one).write_text("run: mine\n")
    monkeypatch.setattr(what_changed, "planned", planned)
    name = "mine.yaml" if "mine.yaml" in arguments else "theirs.yaml"
    for more in ([], ["--json"]):
        assert cli.main(["what-changed", *more, *arguments]) == 0
        said = capsys.readouterr().out
        if more:
            assert json.loads(said)[0]["wildcards"] == {"table": "t"}
        else:
            first, _, rest = said.partition("\n\n")
            assert first == f"Configuration: {name}"
            assert rest.startswith("1 jobs would run: 1 for a reason of their own")
    assert asked == [([tmp_path / name], set())] * 2


@pytest.mark.parametrize(
    ("profile", "files"),
    [
        ("configfile: mine.yaml\n", ["mine.yaml"]),
        ("configfile: [a.yaml, b.yaml]\n", ["a.yaml", "b.yaml"]),
        ("cores: 2\n", []),
        ("configfile:\n", []),
        ("# nothing\n", []),
        ("", []),
        ("- a list\n", None),
        ("text\n", None),
        ("configfile: {a: b}\n", None),
        ("configfile: [1]\n", None),
        ("cores: [\n", None),
    ],
)
def test_a_profile_names_configurations_in_any_way(
    tmp_path: Path, profile: str, files: list[str] | None
) -> None:
    (tmp_path / "config.yaml").write_text(profile)
    if files is None:
        with pytest.raises(UserError, match=r"config\.yaml: "):
            what_changed.profile_configfiles(tmp_path)
    else:
        assert what_changed.profile_configfiles(tmp_path) == list(map(Path, files))


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["--profile", "p"], "no profile p: p/config.yaml is not there"),
        (["--configfile", "mine.yaml"], "no file mine.yaml"),
    ],
    ids=str,
)
def test_a_file_that_is_not_there_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    mistake: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(what_changed, "planned", lambda *_: pytest.fail("there is nothing to plan"))
    assert cli.main(["what-changed", *arguments]) == 2
    assert mistake in capsys.readouterr().err


def test_a_plan_that_cannot_be_made_is_told_as_snakemake_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing data, say: it ended with exit status 1 and not a word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text('rule all:\n    input: "is/not/there.txt"\n')
    (tmp_path / "mine.yaml").write_text("run: mine\n")
    assert cli.main(["what-changed", "--configfile", "mine.yaml"]) == 2
    said = capsys.readouterr().err
    assert "is/not/there.txt" in said
    assert "Traceback" not in said


def test_data_that_are_not_there_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By the workflow itself; its message came within a stack of the Snakefile."""
    project = Path(__file__).resolve().parents[2]
    for name in ("Snakefile", "workflow", "resources", "envs", "config", "requirements.txt"):
        (tmp_path / name).symlink_to(project / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["what-changed", "--configfile", "config/config.yaml"]) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith("swift-debias: error: data sets that are needed are not there: isic2017")
    assert "ddi: no folder data/ddi;" in told
    assert "Put each where it is expected, or change datasets.<name>.root" in told
    assert not any(word in told for word in ("Traceback", "prepare.smk", "Wildcards", "get it"))
