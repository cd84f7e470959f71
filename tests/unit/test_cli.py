"""The command line: what its commands write, and how mistakes are told."""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser, start_browser

from swift_debias import cli
from swift_debias.cli import _numbers, debias, verify
from swift_debias.data import columns, roots
from swift_debias.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "resources" / "samples" / "pad_ufes_20"
HOSTILE = "<script>alert('no')</script>"


def make_table(path: Path, n: int = 200) -> pd.DataFrame:
    """Scores of people of two sexes; one group's name tries to break out of the page."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    frame = pd.DataFrame({"y": y, "p": np.clip(0.3 * y + 0.7 * rng.random(n), 0, 1)})
    frame["sex"] = rng.choice(np.array(["f", HOSTILE, None], object), n, p=[0.5, 0.4, 0.1])
    frame["age"] = rng.integers(20, 90, n)
    frame["id"] = rng.integers(0, 90, n)
    frame.to_csv(path, index=False)
    return frame


AUDIT = ["--label", "y", "--score", "p", "--group", "sex"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    make_table(folder / "scores.csv")
    assert cli.main(["audit", str(folder / "scores.csv"), *AUDIT, "--patient", "id"]) == 0
    return folder


def test_audit_writes_what_fairlearn_says(audited: Path) -> None:
    from fairlearn.metrics import MetricFrame, demographic_parity_difference, selection_rate
    from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

    table = pd.read_csv(audited / "scores.csv").dropna(subset=["sex"])
    decided = (table["p"] >= 0.5).astype(int)
    by = {"sensitive_features": table["sex"]}
    rows = pd.read_csv(audited / "scores.audit.csv").set_index("metric")
    functions = {"accuracy": accuracy_score, "tpr": recall_score, "selection_rate": selection_rate}
    frame = MetricFrame(metrics=functions, y_true=table["y"], y_pred=decided, **by)
    for metric in functions:
        assert rows.loc[metric, "value"] == pytest.approx(frame.overall[metric])
        assert rows.loc[f"{metric}_difference", "value"] == pytest.approx(
            frame.difference()[metric]
        )
        assert rows.loc[f"{metric}_ratio", "value"] == pytest.approx(frame.ratio()[metric])
        for group, value in frame.by_group[metric].items():
            assert rows.loc[f"{metric}[{group}]", "value"] == pytest.approx(value)
    assert rows.loc["auc", "value"] == pytest.approx(roc_auc_score(table["y"], table["p"]))
    spd = demographic_parity_difference(table["y"], decided, **by)
    assert rows.loc["spd", "value"] == pytest.approx(spd)
    assert rows.loc["auc", "low"] < rows.loc["auc", "value"] < rows.loc["auc", "high"]
    assert rows.loc["n_unknown", "value"] == 200 - len(table)


def test_audit_prints_the_main_numbers_and_where_the_page_is(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from swift_debias.evaluation.audit import in_short

    out = tmp_path / "found"
    command = ["audit", str(audited / "scores.csv"), *AUDIT, "--patient", "id", "--out", str(out)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert in_short(pd.read_csv(f"{out}.csv")) in printed
    assert printed.startswith("Audit of scores.csv by sex, 95 % intervals over patients (id)\n")
    assert printed.endswith(f"\npage:  {out}.html\ntable: {out}.csv\n")


def test_audit_cuts_numbers_and_moves_the_threshold(tmp_path: Path) -> None:
    frame = make_table(tmp_path / "scores.csv")
    options = ["--label", "y", "--score", "p", "--group", "age", "--cuts", "40", "65"]
    options += ["--threshold", "0.7", "--out", str(tmp_path / "new" / "by_age")]
    assert cli.main(["audit", str(tmp_path / "scores.csv"), *options]) == 0
    rows = pd.read_csv(tmp_path / "new" / "by_age.csv").set_index("metric")
    middle = frame[(frame["age"] >= 40) & (frame["age"] < 65)]
    assert rows.loc["n[40 to 65]", "value"] == len(middle)
    rate = (middle["p"] >= 0.7).mean()
    assert rows.loc["selection_rate[40 to 65]", "value"] == pytest.approx(rate)
    assert {"n[below 40]", "n[from 65]"} <= set(rows.index)


@pytest.mark.parametrize("name", ["age", "Patient Age", "PatientAge", "lesions"])
@pytest.mark.parametrize(("code", "is_age"), [(-1, False), (999, False), (121, False), (0, True)])
def test_what_is_nobodys_age_is_unknown_and_counted(
    name: str, code: int, is_age: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the workflow; of a column of other numbers all are numbers."""
    frame = make_table(tmp_path / "t.csv").rename(columns={"age": name})
    frame.loc[:29, name] = code
    frame[name] = [f"{n:03}Y" if name == "age" and n > 50 else str(n) for n in frame[name]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    numbers = frame[name].str.removesuffix("Y").astype(int)
    known = numbers.where((numbers >= 0) & (numbers <= 120) | (name == "lesions")).dropna()
    options = ["--label", "y", "--score", "p", "--group", name, "--cuts", "40"]
    assert cli.main(["audit", str(tmp_path / "t.csv"), *options]) == 0
    found = pd.read_csv(tmp_path / "t.audit.csv").set_index("metric")["value"]
    assert found["n[below 40]"] == (known < 40).sum() and found["n[from 40]"] == (known >= 40).sum()
    told = f"30 rows of column {name!r} hold no age of 0 to 120 years: of no known group\n"
    assert (told in capsys.readouterr().out) == (not is_age and name != "lesions")


@pytest.mark.parametrize(
    ("name", "cut", "known"),
    [
        ("age_months", 240, lambda n: (n >= 0) & (n <= 1440)),
        ("Age (days)", 400, lambda n: n >= 0),
        ("PatientAge", 60, lambda n: (n >= 0) & (n <= 120)),
        ("stage", 240, lambda n: n > -9),
        ("brain_age_gap", 240, lambda n: n > -9),
        ("Age difference (years)", 240, lambda n: n > -9),
        ("dosage", 240, lambda n: n > -9),
        ("year_of_birth", 400, lambda n: n > -9),
    ],
)
def test_the_name_of_a_column_says_whether_it_holds_ages_and_of_which_unit(
    name: str, cut: int, known: Callable[[pd.Series], pd.Series], tmp_path: Path
) -> None:
    """A column of months is cut in months; of what is no age every number counts."""
    frame = make_table(tmp_path / "t.csv")
    frame[name] = np.random.default_rng(1).choice([-1, 30, 100, 300, 999, 1440, 1441], len(frame))
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ["--label", "y", "--score", "p", "--group", name, "--cuts", str(cut)]
    assert cli.main(["audit", str(tmp_path / "t.csv"), *options]) == 0
    found = pd.read_csv(tmp_path / "t.audit.csv").set_index("metric")["value"]
    numbers = frame.loc[known(frame[name]), name]
    assert found[f"n[below {cut}]"] == (numbers < cut).sum()
    assert found[f"n[from {cut}]"] == (numbers >= cut).sum()


def test_which_values_are_class_0_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = make_table(tmp_path / "t.csv")
    words = np.array(["nevus", "mel", "other", " BCC"])[np.arange(200) % 7 % 4]
    frame.assign(y=words).to_csv(tmp_path / "t.csv", index=False)
    audit_of(tmp_path / "t.csv", "--positive", "mel", "bcc")
    n = pd.Series(words).value_counts()
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"class 1 is column 'y': 'mel' ({n['mel']}), 'BCC' ({n[' BCC']})",
        f"class 0 is column 'y': 'nevus' ({n['nevus']}), 'other' ({n['other']})",
    ]
    many = pd.Series([f"v{i}" for i in range(30)] + ["mel"], name="y")
    said = list(columns.label_notes(many, "mel"))
    assert said[1].endswith("10 other values (10)") and said[1].count("(1)") == 20
    with pytest.raises(SystemExit):
        cli.main(["audit", "--help"])
    assert "every other value is class 0" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("positive", [["1"], ["1", "-1"], ["0"]])
def test_minus_one_beside_0_and_1_is_an_uncertain_label(
    positive: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a configuration that is proposed for such a table leaves it out."""
    frame = make_table(tmp_path / "t.csv")
    frame.loc[[3, 8], "y"] = -1
    frame.assign(y=frame["y"].astype(float)).to_csv(tmp_path / "t.csv", index=False)
    table = str(tmp_path / "t.csv")
    code = cli.main(["audit", table, *AUDIT, "--positive", *positive])
    assert code == (0 if "-1" in positive else 2)
    said = "t.csv: column 'y', row 4: -1 beside 0 and 1 is an uncertain label (2 rows); leave them"
    assert (said in capsys.readouterr().err) == ("-1" not in positive)


def test_minus_one_is_no_group_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = make_table(tmp_path / "t.csv")
    groups = np.arange(200) % 3 - 1
    frame.assign(sex=groups).to_csv(tmp_path / "t.csv", index=False)
    found = audit_of(tmp_path / "t.csv")["value"]
    assert "n[-1]" not in found and found["n_unknown"] == 67
    said = "67 rows of column 'sex' hold -1: of no known group\n"
    assert capsys.readouterr().out.startswith(said)
    named, names = columns.group_column(pd.Series(groups), {"a": [-1, 1], "b": [0]})
    assert names == ("a", "b") and (named >= 0).all()


def exit_code(arguments: list[str]) -> int | str | None:
    """Of a command, whether its arguments or its work are refused."""
    try:
        return cli.main(arguments)
    except SystemExit as end:
        return end.code


def audit_of(table: Path, *more: str) -> pd.DataFrame:
    """What the command writes of a table, by metric."""
    arguments = ["audit", str(table), *AUDIT, *more, "--out", str(table.with_suffix(".found"))]
    assert cli.main(arguments) == 0
    return pd.read_csv(table.with_suffix(".found.csv")).set_index("metric")


PERSONS = np.arange(200) // 4
# how people write whose image it is -> the persons that are meant
SPELLINGS = {
    "spaces and forms": ([f"{n}{('', ' ', '.0')[i % 3]}" for i, n in enumerate(PERSONS)], PERSONS),
    "leading zeros": (
        [f"{n:03}" if i % 2 else str(n) for i, n in enumerate(PERSONS + 1)],
        [n if i % 2 else n + 100 for i, n in enumerate(PERSONS)],
    ),
    "numbers too large for a float": ([str(10**20 + int(n)) for n in PERSONS], PERSONS),
    "half unknown": (
        [("unknown", "N/A", "", " - ")[i % 4] if n % 2 else f"P{n}" for i, n in enumerate(PERSONS)],
        [i + 1000 if n % 2 else n for i, n in enumerate(PERSONS)],
    ),
    "all unknown": (["unknown"] * 200, range(200)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_audit_counts_the_persons_that_are_meant(spelling: str, tmp_path: Path) -> None:
    written, meant = SPELLINGS[spelling]
    frame = make_table(tmp_path / "t.csv")
    frame.assign(id=written).to_csv(tmp_path / "t.csv", index=False)
    frame.assign(id=[f"person {n}" for n in meant]).to_csv(tmp_path / "plain.csv", index=False)
    found, expected = (audit_of(tmp_path / n, "--patient", "id") for n in ("t.csv", "plain.csv"))
    pd.testing.assert_frame_equal(found, expected)
    assert found.loc["accuracy", "low"] < found.loc["accuracy", "value"]


def test_of_one_patient_there_is_no_interval_and_the_reason(tmp_path: Path) -> None:
    make_table(tmp_path / "t.csv").assign(id="P1").to_csv(tmp_path / "t.csv", index=False)
    found = audit_of(tmp_path / "t.csv", "--patient", "id")
    bare = found[found["low"].isna() & ~found.index.str.match(r"n(_|\[|$)")]
    assert "accuracy" in bare.index and "eodds" in bare.index
    assert bare["reason"].str.contains("all images are of one patient").all()


@pytest.mark.parametrize("behind", ["", ",", ",,"])
@pytest.mark.parametrize("rows", ["every row", "one row"])
def test_empty_fields_behind_the_last_column_shift_nothing(
    behind: str, rows: str, tmp_path: Path
) -> None:
    from sklearn.metrics import roc_auc_score

    frame = make_table(tmp_path / "t.csv")
    frame["sex"] = np.where(frame["age"] < 50, "f", "m")
    header, *lines = frame[["id", "y", "p", "sex", "age"]].to_csv(index=False).splitlines()
    lines[1:] = [line + behind * (rows == "every row") for line in lines[1:]]
    (tmp_path / "t.csv").write_text("\n".join([header, lines[0] + behind, *lines[1:]]) + "\n")
    found = audit_of(tmp_path / "t.csv")
    assert found.loc["auc", "value"] == pytest.approx(roc_auc_score(frame["y"], frame["p"]))
    assert found.loc["n[f]", "value"] == (frame["sex"] == "f").sum()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,0.5,f,30,7,surplus", "line 202: 6 fields, but the header has 5"),
        ("1,0.5,f", "line 202: 3 fields, but the header has 5"),
        ("1,high,f,30,7", "column 'p' must hold numbers; row 201 holds 'high'"),
        ("1,,f,30,7", "column 'p' must hold numbers; row 201 holds nothing"),
        ("1,inf,f,30,7", "t.csv: column 'p' must hold numbers; row 201 holds 'inf'"),
        (",0.5,f,30,7", "t.csv: column 'y', row 201: no label (nothing); fill it or leave the row"),
        ("nan,0.5,f,30,7", "column 'y', row 201: no label ('nan'); fill it or leave the row out"),
        ("2,0.5,f,30,7", "t.csv: column 'y': labels must be 0 and 1, or --positive must say"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open("a") as file:
        file.write(line + "\n")
    assert cli.main(["audit", str(tmp_path / "t.csv"), *AUDIT]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv", *AUDIT], "missing.csv: no such file"),
        ([".", *AUDIT], ". is a folder: give the table's file"),
        (["scores.csv", *AUDIT[:-1], "sexe"], "no column 'sexe'; did you mean 'sex'?"),
        (["scores.csv", *AUDIT[:-1], "age"], "scores.csv: column 'age': 67 values ('"),
        (["scores.csv", *AUDIT[:-1], "age"], "cut numbers by --cuts, or"),
        (
            ["scores.csv", "--label", "age", *AUDIT[2:]],
            "scores.csv: column 'age': labels must be 0",
        ),
        (["scores.csv", "--label", "age", *AUDIT[2:]], "or --positive must say which"),
        (
            ["scores.csv", *AUDIT[:3], "sex", "--group", "age", "--cuts", "40"],
            "must hold numbers",
        ),
        (["scores.csv", *AUDIT[:3], "age", *AUDIT[4:]], "must be probabilities"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, audited: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(audited)
    assert cli.main(["audit", *arguments, "--force"]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and told.startswith("swift-debias: error:")


def test_every_file_is_a_command() -> None:
    files = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*.py")}
    assert files == set(cli.COMMANDS)


def test_help_lists_every_command_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "usage: swift-debias COMMAND ..."
    for name in cli.COMMANDS:
        text = str(importlib.import_module(f"{cli.__name__}.{name}").__doc__).splitlines()[0]
        words = [name.replace("_", "-"), *text.split()]
        assert [line.split() for line in lines].count(words) == 1, name


@pytest.mark.parametrize("command", [name.replace("_", "-") for name in cli.COMMANDS])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert f"  swift-debias {command}" in capsys.readouterr().out


def test_schema_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert cli.main(["schema", "--write", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == printed
    assert "prediction_weight_1" in (tmp_path / "README.md").read_text()


NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody's folder: a network, its weights, a table of real images; the command's options."""
    import torch
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    Path("mynetwork.py").write_text(NETWORK)
    scope: dict[str, object] = {}
    exec(NETWORK, scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(scope["network"]().state_dict(), "m.safetensors")  # type: ignore[operator]
    table = pd.read_csv(SAMPLE / "table.csv")
    table[table["gender"].notna()].iloc[:120].to_csv("t.csv", index=False)
    options = ["--table", "t.csv", "--image", "file", "--root", str(SAMPLE / "images")]
    options += ["--label", "diagnostic", "--positive", "BCC", "SCC", "MEL", "--group", "gender"]
    options += ["--patient", "patient_id", "--model", "m.safetensors", "--size", "24"]
    return [*options, "--architecture", "mynetwork:network", "--out", "fair"]


def test_debias_writes_weights_history_and_audits(own: list[str]) -> None:
    from safetensors.torch import load_file

    settings = ["epochs=1", "batch_size=16", "min_cell=2", "lr_extractor=0.01"]
    assert cli.main(["debias", *own, "--set", *settings]) == 0
    before, after = load_file("m.safetensors"), load_file("fair/model.safetensors")
    assert list(before) == list(after)
    assert any(not before[name].equal(after[name]) for name in before)
    assert pd.read_csv("fair/history.csv")["stage"].tolist() == ["step1", "step2"]
    assert json.loads(Path("fair/cost.json").read_text())["parameters_changed"] > 0
    audits = [pd.read_csv(f"fair/{name}.csv") for name in ("audit_before", "audit")]
    assert audits[0]["metric"].tolist() == audits[1]["metric"].tolist()
    assert not audits[0]["value"].equals(audits[1]["value"])
    assert Path("fair/audit.html").read_text().startswith("<!doctype html>")
    assert not Path("fair/rule.json").exists()
    looked_at = set(debias.writes(argparse.Namespace(out=Path("fair"))))
    assert set(Path("fair").iterdir()) == looked_at - {Path("fair/rule.json")}


def test_debias_writes_the_rule_of_a_method_that_has_one(own: list[str]) -> None:
    """The weights stay; the audit is of its decisions, and says so."""
    from swift_debias.evaluation.decision_rule import Rule
    from swift_debias.files import read_json

    more = ["--method", "ThresholdOptimizer", "--set", "min_cell=2"]
    assert cli.main(["debias", *own, *more]) == 0
    written = read_json("fair/rule.json")
    assert written["names"] == ["FEMALE", "MALE"]
    rule = Rule.from_json(written)
    assert set(rule.groups) == {0, 1}
    before, after = (
        pd.read_csv(f"fair/{name}.csv").set_index("metric")["value"]
        for name in ("audit_before", "audit")
    )
    assert before["auc"] == after["auc"]
    assert before["selection_rate"] != after["selection_rate"]
    assert "a rule for each group: rule.json" in Path("fair/audit.html").read_text()
    assert "score of at least 0.5" in Path("fair/audit_before.html").read_text()


def test_nothing_of_an_earlier_call_is_left_beside_a_new_model(
    own: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the rule of another method, nor audits where the second call dies on the way."""
    from swift_debias import api

    rule = ["--method", "ThresholdOptimizer", "--set", "min_cell=2"]
    other = ["--method", "Baseline"]
    own = [*own, "--force"]
    assert cli.main(["debias", *own, *rule]) == 0
    before = {path.name: path.read_bytes() for path in Path("fair").iterdir()}
    assert "rule.json" in before
    assert cli.main(["debias", *own, "--method", "SWiFT", "--set", "lr_head=1e30"]) == 2  # diverges
    assert {path.name: path.read_bytes() for path in Path("fair").iterdir()} == before
    assert cli.main(["debias", *own, *other]) == 0
    assert {path.name for path in Path("fair").iterdir()} == set(before) - {"rule.json"}
    assert cli.main(["debias", *own, *rule]) == 0
    Path("fair/mine.txt").write_text("of the user")

    def dies(*_: object, **__: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(api, "predict_proba", dies)
    assert cli.main(["debias", *own, *other]) == 2
    left = {path.name for path in Path("fair").iterdir()}
    assert left == {"model.safetensors", "history.csv", "cost.json", "mine.txt"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "SWIFTY"], "no method 'SWIFTY'; did you mean 'SWiFT'"),
        (["--set", "epoch=1"], "did you mean 'epochs'"),
        (["--set", "epochs"], "KEY=VALUE"),
        (["--set", "epochs=[1"], "--set epochs=[1: the value is not YAML"),
        (["--set", "batchnorm=@x"], "--set batchnorm=@x: the value is not YAML"),
        (["--set", "batchnorm=a: b: c"], "the value is not YAML"),
        (["--set", "batchnorm=!!python/name:os.system"], "the value is not YAML"),
        (["--set", "seed=3"], "--seed 3"),
        (["--architecture", "bad_syntax_of_cli:f"], "cannot be loaded: SyntaxError: "),
        (["--architecture", "bad_name_of_cli:f"], "cannot be loaded: NameError: "),
        (["--architecture", "raising_of_cli:f"], "raising_of_cli:f': RuntimeError: on two lines"),
        (["--architecture", "raising_of_cli:g"], "raising_of_cli:g': TypeError: "),
        (["--architecture", "raising_of_cli:h"], "returns a int, not a torch.nn.Module"),
        (["--architecture", "mynetwork:net"], "cannot be loaded"),
        (["--architecture", "torch.nn:Flatten"], "does not fit"),
        (["--model", "t.csv"], "not a safetensors file"),
        (["--model", "gone.pth"], "--model: no file or folder gone.pth"),
        (["--table", "."], ". is a folder: give the table's file"),
    ],
)
def test_mistakes_of_debias(
    more: list[str], message: str, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad_syntax_of_cli.py").write_text("def f(:\n    pass\n")
    Path("bad_name_of_cli.py").write_text("f = g\n")
    raising = (
        "def f():\n    raise RuntimeError('on\\ntwo lines')\ndef g(a): ...\ndef h():\n    return 1"
    )
    Path("raising_of_cli.py").write_text(raising)
    assert cli.main(["debias", *own, *more]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1, told


@pytest.mark.parametrize("cell", ["", " "])
def test_an_image_without_a_name_is_refused(
    cell: str, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv("t.csv")
    table.loc[2, "file"] = cell
    table.to_csv("t.csv", index=False)
    assert cli.main(["debias", *own]) == 2
    told = capsys.readouterr().err
    assert "column 'file' must hold paths of images; row 3 holds nothing" in told
    assert told.count("\n") == 1 and not Path("fair").exists()


@pytest.mark.parametrize(
    ("lie", "given", "proposed"),
    [
        ("pictures", "pictures/deep", "pictures"),  # one up
        ("pictures/deep", "pictures", "pictures/deep"),  # one down
        ("pictures/very/deep", "pictures", "pictures/very/deep"),  # two down
        ("pictures", "tables", "pictures"),  # beside it
        ("pictures", "pictures/missing", "pictures"),  # of a folder that is not there
        ("far/from/here", "pictures/deep", None),
    ],
)
def test_a_wrong_root_is_told_with_the_right_one(
    lie: str, given: str, proposed: str | None, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both commands that read images by a table."""
    for folder in ("pictures/deep", "tables"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    files = pd.read_csv("t.csv")["file"].tolist()
    for name in files:
        (Path(lie) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(lie) / name).symlink_to(SAMPLE / "images" / name)
    pd.DataFrame({"path": files, "score": 0.5}).to_csv("r.csv", index=False)
    importing = ["import-classifier", "m.safetensors", "--architecture", "mynetwork:network"]
    for command in (["debias", *own], [*importing, "--size", "24", "--reference", "r.csv"]):
        assert cli.main([*command, "--root", given]) == 2
        told = capsys.readouterr().err
        assert f"0 of {len(files)} images are there" in told and told.count("\n") == 1
        if proposed is None:
            assert f"is {given} the folder that the paths begin in" in told
        else:
            assert f"it is there below {proposed}: give that folder as the root" in told


def test_backslashes_of_a_path_are_slashes_unless_a_file_has_them(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    there = ["deep/er/a.png", "deep/b.png", r"deep\c.png", "deep/c.png", "d.png"]
    for name in there:
        (tmp_path / name).touch()
    spelt = [r"deep\er\a.png", r".\deep\b.png", r"deep\c.png", "deep/c.png", "d.png"]
    spelt += [str(tmp_path) + r"\deep\b.png"]
    roots.refuse_missing(spelt, tmp_path)
    found = columns.path_column(pd.Series(spelt), tmp_path)
    assert found == [tmp_path / name for name in [*there, "deep/b.png"]]
    with pytest.raises(UserError, match=rf"below {tmp_path}/deep: give that folder as the root"):
        roots.refuse_missing([r"er\a.png"], tmp_path)


def test_some_images_that_are_missing_are_counted(
    own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv("t.csv")
    table.loc[2, "file"] = "gone.png"
    table.to_csv("t.csv", index=False)
    assert cli.main(["debias", *own]) == 2
    told = capsys.readouterr().err
    assert f"{len(table) - 1} of {len(table)} images are there: no file " in told


def test_a_folder_with_one_of_the_missing_images_is_not_proposed(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for place, name in (("here", "a.png"), ("some", "b.png"), ("all", "b.png"), ("all", "c.png")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / name).touch()
    names = ["a.png", "b.png", "c.png"]
    with pytest.raises(
        UserError, match=r"1 of 3 .*there below .*all, where others are not"
    ) as told:
        roots.refuse_missing(names, tmp_path / "here")
    assert "some" not in str(told.value)
    (tmp_path / "all" / "a.png").touch()
    with pytest.raises(UserError, match=r"1 of 3 .*there below .*all: give that"):
        roots.refuse_missing(names, tmp_path / "here")
    (tmp_path / "all" / "c.png").unlink()
    with pytest.raises(UserError, match=r"1 of 3 images are there: no file \S+$"):
        roots.refuse_missing(names, tmp_path / "here")
    roots.refuse_missing(["a.png", tmp_path / "some" / "b.png"], tmp_path / "here")


# --- numbers --------------------------------------------------------------------------------------


REAL = (float, _numbers.finite, _numbers.positive, _numbers.fraction)


def numeric_options() -> list[tuple[str, str, str]]:
    """Every option of the command line that takes numbers, with values that are none of its."""
    parser = cli._parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    real, whole = ("nan", "inf", "-inf", "1e999", "half"), ("-1", "nan", "1.5")
    return [
        (name, action.option_strings[0], value)
        for name, command in commands.choices.items()
        for action in command._actions
        for value in (real if action.type in REAL else whole if action.type is int else ())
    ]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *numeric_options(),
        *[("debias", "--size", "0"), ("debias", "--std", "0"), ("debias", "--external", "0")],
        *[("debias", "--external", "1"), ("import-classifier", "--size", "0")],
        *[("audit", "--threshold", "50"), ("audit", "--threshold", "-0.5")],
        *[("import-classifier", "--dropout", "1"), ("import-classifier", "--crop-share", "0")],
    ],
)
def test_a_number_that_is_none_is_refused(
    command: str, option: str, value: str, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything is written."""
    base = {
        "audit": [*["t.csv", "--label", "y", "--score", "p", "--group", "sex"], "--out", "fair"],
        "debias": own,
        "import-classifier": [
            *["m.safetensors", "--architecture", "mynetwork:network"],
            *["--size", "24", "--out", "fair"],
        ],
    }
    make_table(Path("t.csv")) if command == "audit" else None
    given = [value] * (3 if option in ("--mean", "--std") else 1)
    before = set(Path().rglob("*"))
    assert exit_code([command, *base[command], option, *given]) == 2
    told = capsys.readouterr().err
    key = option.strip("-")
    assert told.count("\n") == 1 and (key in told or key.replace("-", "_") in told), told
    assert set(Path().rglob("*")) - before <= {Path("__pycache__"), *Path("__pycache__").glob("*")}


# --- files ----------------------------------------------------------------------------------------

AUDIT_OF_T = ["audit", "t.csv", *AUDIT]
DEBIAS = ["debias", "--table", "t.csv", "--image", "path", "--label", "y", "--group", "sex"]
DEBIAS += ["--model", "m.safetensors", "--architecture", "a:b"]
IMPORT = ["import-classifier", "m.safetensors", "--architecture", "resnet18", "--size", "32"]
EXPORT = ["export-classifier", "m.safetensors", "--imported", "mine", "--checkpoint", "c.pth"]
FOLDER = [*EXPORT[:-1], "timm"]
COMPARE = ["compare", "my_method.py", "--config", "benchmark.yaml"]
# arguments without --out, its value, what is written then, and what is read
OVERWRITING = [
    (AUDIT_OF_T, "o", "o.csv", "t.csv"),
    (AUDIT_OF_T, "o", "o.html", "t.csv"),
    (AUDIT_OF_T, "t", "t.csv", "t.csv"),
    *[
        (DEBIAS, "o", f"o/{written}", read)
        for read in ("t.csv", "m.safetensors")
        for written in (
            *("model.safetensors", "history.csv", "cost.json", "rule.json"),
            *("audit.csv", "audit.html", "audit_before.csv", "audit_before.html"),
        )
    ],
    *[
        ([*IMPORT, "--reference", "t.csv"], "o", f"o/{written}", read)
        for read in ("t.csv", "m.safetensors")
        for written in ("classifier.safetensors", "import.json", "backbone.yaml")
    ],
    (["import-classifier", "timm"], "timm", "timm/import.json", "timm/model.safetensors"),
    *[(EXPORT, "o.pth", "o.pth", n) for n in ("m.safetensors", "mine/import.json", "c.pth")],
    *[(EXPORT, n, n, n) for n in ("m.safetensors", "mine/import.json", "c.pth")],
    (FOLDER, "timm", "timm/model.safetensors", "timm/model.safetensors"),
    (FOLDER, "o", "o/config.json", "timm/config.json"),
    *[(["bundle", "run"], out, out, "run/metrics.parquet") for out in ("o", "run/metrics.parquet")],
    (["bundle", "run"], "o", "o", "run/deep/down.parquet"),
    *[(COMPARE, "o", "o/my_method.csv", read) for read in ("my_method.py", "benchmark.yaml")],
    (["which-method", "run"], "o", "o/which_method.csv", "run/metrics.parquet"),
    (["which-method", "run"], "run", "run/which_method.md", "run/settings.yaml"),
    (["export-logs", "run"], "o", "o", "run/deep/down.parquet"),
    (["export-logs", "run"], "run", "run", "run"),
]
READ = ["t.csv", "m.safetensors", "c.pth", "mine/import.json", "timm/model.safetensors"]
READ += ["timm/config.json", "run/metrics.parquet", "run/settings.yaml", "run/deep/down.parquet"]
READ += ["my_method.py", "benchmark.yaml"]


@pytest.mark.parametrize("link", ["symbolic", "hard"])
@pytest.mark.parametrize(("arguments", "out", "written", "read"), OVERWRITING)
def test_no_command_writes_over_what_it_reads(
    arguments: list[str], out: str, written: str, read: str, link: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Under its own name, or another name of the same file; and before any work."""
    monkeypatch.chdir(tmp_path)
    for name in READ:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"the user's {name}")
    if written != read:
        Path(written).parent.mkdir(exist_ok=True)
        if link == "symbolic":
            Path(written).symlink_to(Path(read).resolve())
        else:
            Path(written).hardlink_to(read)
    before = set(Path().rglob("*"))
    assert cli.main([*arguments, "--out", out]) == 2
    told = capsys.readouterr().err
    assert f"{written} would be written over" in told and told.count("\n") == 1
    assert [Path(name).read_text() for name in READ] == [f"the user's {name}" for name in READ]
    assert set(Path().rglob("*")) == before


FORCED = {arguments[0] for arguments, *_ in OVERWRITING} - {
    "compare",
    "export-logs",
    "which-method",
}


@pytest.mark.parametrize(
    ("arguments", "out", "written"),
    [
        (AUDIT_OF_T, "o", "o.html"),
        (DEBIAS, "o", "o/history.csv"),
        (DEBIAS, "o", "o/rule.json"),
        (IMPORT, "o", "o/backbone.yaml"),
        (EXPORT, "o.pth", "o.pth"),
        (FOLDER, "o", "o/model.safetensors"),
        (FOLDER, "o", "o/pytorch_model.bin"),
        (["bundle", "run"], "o.zip", "o.zip"),
    ],
)
def test_what_is_there_is_written_over_by_force_alone(
    arguments: list[str], out: str, written: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Before any work; with the option the command goes on, and meets the files that are none."""
    monkeypatch.chdir(tmp_path)
    for name in (*READ, written):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"the user's {name}")
    Path("run/settings.yaml").write_text("tasks: {}\n")
    assert arguments[0] in FORCED
    assert exit_code([*arguments, "--out", out]) == 2
    told = capsys.readouterr().err
    assert f"{written} is there already: " in told and "--force" in told and told.count("\n") == 1
    assert Path(written).read_text() == f"the user's {written}"
    assert exit_code([*arguments, "--out", out, "--force"]) == 2
    assert "is there already" not in capsys.readouterr().err


def test_every_command_that_writes_is_tried() -> None:
    modules = {name: importlib.import_module(f"{cli.__name__}.{name}") for name in cli.COMMANDS}
    asks = set()
    for name, module in modules.items():
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        if {"out", "write"} & {action.dest for action in parser._actions}:
            asks.add(name)
    assert asks == {name for name, module in modules.items() if hasattr(module, "writes")}
    tried = {arguments[0].replace("-", "_") for arguments, *_ in OVERWRITING}
    assert asks == tried | {"schema"}  # which reads nothing; see below
    (commands,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    takes_force = {
        name
        for name, command in commands.choices.items()
        if "force" in {action.dest for action in command._actions}
    }
    assert takes_force == FORCED


@pytest.mark.parametrize("name", ["README.md", "schema.json"])
def test_schema_writes_over_its_own_files_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema", "--write", str(tmp_path / "new" / "folder")]) == 0
    made = tmp_path / "new" / "folder" / name
    whole = made.read_text()
    made.write_text(whole[: len(whole) // 2])  # of an earlier version
    assert cli.main(["schema", "--write", str(made.parent)]) == 0 and made.read_text() == whole
    made.write_text("# My own project\n")
    assert cli.main(["schema", "--write", str(made.parent)]) == 2
    assert f"{made} is not of this command" in capsys.readouterr().err
    assert made.read_text() == "# My own project\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*AUDIT_OF_T, "--out", "."], "--out: . is a folder"),
        ([*AUDIT_OF_T, "--out", ".."], "--out: .. is a folder"),
        ([*AUDIT_OF_T, "--out", ""], "--out: a name is needed"),
        ([*AUDIT_OF_T, "--out", "t.csv/x"], "t.csv is no folder"),
        ([*AUDIT_OF_T, "--out", "/proc/x/y"], "/proc/x"),
        ([*AUDIT_OF_T, "--out", f"{'x' * 300}"], "File name too long"),
        ([*DEBIAS, "--out", ""], "--out: a name is needed"),
        ([*DEBIAS, "--out", "t.csv"], "t.csv is no folder"),
        ([*DEBIAS, "--out", "t.csv/x"], "t.csv is no folder"),
        ([*IMPORT, "--out", "t.csv"], "t.csv is no folder"),
        ([*EXPORT, "--out", " "], "--out: a name is needed"),
        ([*EXPORT, "--out", "t.csv/x"], "t.csv is no folder"),
        (["bundle", "run", "--out", "t.csv/x"], "t.csv is no folder"),
        ([*COMPARE, "--out", "t.csv"], "t.csv is no folder"),
        (["which-method", "run", "--out", "t.csv"], "t.csv is no folder"),
        (["export-logs", "run", "--out", "t.csv/x"], "t.csv is no folder"),
        (["schema", "--write", "t.csv"], "t.csv is no folder"),
        (["schema", "--write", ""], "--write: a name is needed"),
        (["schema", "--write", "/proc/x/y"], "/proc/x"),
    ],
)
def test_where_nothing_can_be_written_it_is_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make_table(Path("t.csv"))
    assert exit_code(arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1, told
    assert [path.name for path in Path().iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "x.csv"), "x.csv: Permission denied"),
        (IsADirectoryError(21, "Is a directory", "x.partial", None, "x"), "x: Is a directory"),
        (OSError("two\nlines of a library"), "two lines of a library"),
        (OSError(28, "No space left on device", "x"), "make room or mend the disk"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_the_system_refuses_is_told_in_one_line(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(options: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr(verify, "run", refused)
    assert cli.main(["verify", "x.zip"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("swift-debias: error:") and said in told and told.count("\n") == 1


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(audited: Path) -> Iterator[Browser]:
    browser = start_browser(audited / "profile")
    try:
        browser.open((audited / "scores.audit.html").as_uri())
        yield browser
    finally:
        browser.close()


def test_browser_shows_the_audit_and_fetches_nothing(browser: Browser, audited: Path) -> None:
    browser.ask("1")  # collects what came meanwhile
    said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in said] == []
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url.rpartition("/")[2] for url in urls] == ["scores.audit.html"]
    rows = pd.read_csv(audited / "scores.audit.csv").set_index("metric")
    cells = browser.ask(
        "[...document.querySelectorAll('table')].map(t => [...t.rows].map(r => "
        "[...r.cells].map(c => c.innerText.trim().split(/\\s/)[0])))"
    )
    counts, criteria, metrics = cells[:3]
    assert counts[1][1] == str(int(rows.loc[f"n[{HOSTILE}]", "value"]))  # sorted: '<' before 'f'
    assert criteria[1][2] == f"{rows.loc['spd', 'value']:.3f}"
    auc = [rows.loc[name, "value"] for name in ("auc", f"auc[{HOSTILE}]", "auc[f]")]
    assert metrics[1][1:4] == [f"{value:.3f}" for value in auc]
    assert browser.ask("document.querySelectorAll('script').length") == 0
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.ask(wide)


@pytest.mark.parametrize(
    ("words", "code"), [(["--version"], 0), (["audit", "scores.csv"], 2), (["no-such-command"], 2)]
)
def test_python_m_is_the_same_command_line(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m swift_debias.cli` ends with the command's exit status."""
    monkeypatch.setattr("sys.argv", ["swift-debias", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("swift_debias.cli", run_name="__main__")
    assert ended.value.code == code
    if words == ["--version"]:
        assert (
            capsys.readouterr().out.strip() == importlib.import_module("swift_debias").__version__
        )


def test_a_spawned_worker_does_not_run_the_command_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """multiprocessing imports the main module again, under another name."""
    monkeypatch.setattr("sys.argv", ["swift-debias", "no-such-command"])
    names = runpy.run_module("swift_debias.cli.__main__", run_name="__mp_main__")
    assert names["main"] is cli.main
