"""Bundles: what is in one, what is not, and what `verify` finds; read by RO-Crate's own library."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from swift_debias import cli
from swift_debias.errors import UserError
from swift_debias.files import write_json, write_parquet
from swift_debias.report import bundle, handed_on, one_table, render
from swift_debias.run import layout
from swift_debias.run.unfinished import LeftOut

PROJECT = Path(__file__).resolve().parents[2]
METHODS, SETS, FOLDS = ["swift", "baseline"], ["ddi", "atlas"], range(3)
SETUP = {"task": "skin", "backbone": "net", "attribute": "tone"}
BLOCK = {**SETUP, "datasets": SETS, "methods": METHODS, "metrics": ["auc", "eodds"]}
PARAMS = {
    "title": "Mine",
    "blocks": [BLOCK],
    "titles": {"swift": "SWiFT", "baseline": "Baseline"},
    "groups": {"tone": ["light", "dark"]},
    "prune_by_group": [],
    "searched": {},
    "folds": 3,
    "synthetic": True,
}
PANELS = {"panels": [{**SETUP, "methods": []}], "methods": METHODS}
SETTINGS: dict[str, Any] = {
    "run": "mine",
    "repeats": 2,
    "synthetic": {"images": {}, "populations": {}},
    "datasets": {
        "ddi": {"adapter": "ddi"},
        "atlas": {"adapter": "derm7pt"},
        "unused": {"adapter": "ddi"},
    },
    "tasks": {"skin": {"train": ["ddi"], "external": [], "tests": {"tone": SETS}}},
    "methods": {"swift": {"search": {"epochs": [1, 2]}}, "baseline": {}},
    "report": {"images": True},
    "experiments": {
        "table1": {"kind": "table", **PANELS},
        "curves": {"kind": "figure", "plot": "pareto", **PANELS},
        "faces": {"kind": "figure", "plot": "bias", **PANELS},
    },
}
SECRET = "PAT_1234.png"
COMMIT = "0a" * 20
ORIGIN: dict[str, Any] = {
    "code": {"commit": COMMIT, "date": "2026-01-02", "changed": [], "untracked": []},
    "modules": [],
    "configuration": "a.yaml: abc of 2026-01-02",
    "version": "9.8.7",
    "packages": {"python": "3.1", "torch": "0.1", "great-tables": version("great-tables")},
}


def metrics() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = itertools.product(METHODS, FOLDS, SETS, ("auc", "eodds"))
    frame = pd.DataFrame(rows, columns=["method", "fold", "dataset", "metric"])
    return frame.assign(**SETUP, value=rng.random(len(frame)), n=50, reason=None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run: one table, and one file of every kind, those with ids among them."""
    home = tmp_path / "results" / "mine"
    keys = {**SETUP, "method": "swift", "fold": 0, "repeat": 1, "dataset": "ddi", "first": "x"}
    keys |= {"table": "cost", "figure": "curves", "format": "csv"}
    for name in layout.FILES:
        path = home / layout.path(name, **keys)
        if "." in path.name and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("harmless" if name in handed_on.SHARED else f"of {SECRET}")
    for kind, own in (("table_recipe", {"table": "cost"}), ("unfinished", {})):
        (home / layout.path(kind, **own)).unlink()
    for figure, format in itertools.product(("faces", "curves"), ("png", "pdf", "csv")):
        (home / layout.path("figure", figure=figure, format=format)).write_text(figure)
    settings = home / layout.path("settings")
    settings.write_text(yaml.safe_dump(SETTINGS))
    marks = pd.DataFrame(columns=[*SETUP, "method", "dataset", "mark", "text"])
    ends = pd.DataFrame(columns=[*SETUP, "method", "against", "dataset", "metric", "low", "high"])
    frames = {"setup_metrics": metrics(), "setup_plausibility": marks, "intervals": ends}
    for name, frame in frames.items():
        write_parquet(frame, home / layout.path(name, **SETUP))
    inside = {"metrics": "setup_metrics", "plausibility": "setup_plausibility"}
    inside |= {"intervals": "intervals"}
    files = {kind: [layout.path(name, **SETUP)] for kind, name in inside.items()}
    files |= {"groups": [], "searches": []}
    paths = {kind: [home / name for name in names] for kind, names in files.items()}
    published = PROJECT / "resources" / bundle.PUBLISHED
    render.write(one_table.made("table1", PARAMS, paths, published), home / "tables")
    recipe = {"params": PARAMS, "files": files}
    write_json(home / layout.path("table_recipe", table="table1"), recipe)
    write_json(home / layout.path("origin"), ORIGIN)
    return home


@pytest.fixture
def made(run: Path, tmp_path: Path) -> Path:
    bundle.write(run, tmp_path / "mine.zip", PROJECT)
    return tmp_path / "mine.zip"


def rewritten(made: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The bundle with other files in it; `change` gets name -> bytes."""
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    path = made.with_name("other.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_it_is_a_crate_and_says_what_is_in_it(made: Path) -> None:
    # of the development packages, and not of the oldest versions' environment
    rocrate = pytest.importorskip("rocrate.rocrate")
    crate = rocrate.ROCrate(made)
    with zipfile.ZipFile(made) as archive:
        names = set(archive.namelist()) - {bundle.CRATE}
        parts = {entity.id for entity in crate.root_dataset["hasPart"]}
        assert parts == names
        for name in names:
            entity = crate.get(name)
            assert entity["sha256"] == hashlib.sha256(archive.read(name)).hexdigest()
            assert int(entity["contentSize"]) == archive.getinfo(name).file_size
    action = crate.get("#run")
    assert {entity.id for entity in action["result"]} == names
    assert {entity.id for entity in action["object"]} == {"#data-ddi"}  # that has a manifest
    assert action["instrument"]["identifier"] == COMMIT
    assert crate.get("#torch")["softwareVersion"] == "0.1"


MODULE = {"file": "my nets.py", "sha256": "1" * 64, "commit": "not under version control"}


@pytest.mark.parametrize(
    ("code", "modules", "identifier", "said"),
    [
        ({}, [], COMMIT, "as committed"),
        ({"changed": ["a.py", "b.py"]}, [], COMMIT, "changed since: a.py, b.py"),
        ({"untracked": ["c.py"]}, [], COMMIT, "not under version control: c.py"),
        ({}, [MODULE], COMMIT, "own module my nets.py: not under version control"),
        (
            {"changed": ["a.py"], "untracked": [f"{n}.py" for n in range(9)]},
            [],
            COMMIT,
            "changed since: a.py; not under version control: "
            + ", ".join(f"{n}.py" for n in range(9)),
        ),
        ({"commit": "", "date": ""}, [], "no git checkout", "not under version control"),
    ],
)
def test_the_crate_names_the_code_that_the_run_wrote_down(
    run: Path,
    tmp_path: Path,
    code: dict[str, Any],
    modules: list[dict[str, str]],
    identifier: str,
    said: str,
) -> None:
    """Whatever has been committed since, and to whatever folder the project has moved."""
    recorded = ORIGIN | {"code": ORIGIN["code"] | code, "modules": modules}
    write_json(run / layout.path("origin"), recorded)
    project = tmp_path / "project"
    (project / "resources").mkdir(parents=True)
    shutil.copy(PROJECT / "resources" / bundle.PUBLISHED, project / "resources")
    bundle.write(run, tmp_path / "mine.zip", project)
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        graph = {one["@id"]: one for one in json.loads(archive.read(bundle.CRATE))["@graph"]}
        assert json.loads(archive.read("origin.json"))["code"] == recorded["code"]
    code_entity = graph[graph["#run"]["instrument"]["@id"]]
    assert (code_entity["identifier"], code_entity["description"]) == (identifier, said)
    assert code_entity["softwareVersion"] == "9.8.7"
    parts = [graph[part["@id"]] for part in code_entity.get("hasPart", [])]
    assert [(part["name"], part["sha256"]) for part in parts] == [
        (one["file"], one["sha256"]) for one in modules
    ]
    assert bundle.verify(tmp_path / "mine.zip")


def test_nothing_of_a_patient_is_in_it(made: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        assert not [name for name in names if SECRET.encode() in archive.read(name)]
    assert "report.html" not in names  # it may have pictures
    assert "figures/curves.png" in names
    assert not [name for name in names if "faces" in name]
    assert not [name for name in names if name.endswith((".safetensors", ".npy", ".npz"))]


def test_a_report_without_pictures_is_in_it(run: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"report": {"images": False}}
    (run / layout.path("settings")).write_text(yaml.safe_dump(settings))
    assert "report.html" in bundle.write(run, tmp_path / "mine.zip", PROJECT).files


STALE = (
    *("tables/table2.csv", "tables/table2.json", "figures/secret.png", "figures/secret.csv"),
    *("metrics/skin/net/sex.parquet", "groups/old/net/tone.json", "tables/faces.md"),
    *("search/skin/net/tone/baseline.json", "folds/old.sizes.md", "figures/table1.pdf"),
    *("figures/curves.svg", "which_method/which_method.csv"),
)


def test_what_older_settings_left_is_not_handed_on(
    run: Path, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose pictures they are, nothing says any more; the bytes are those without them."""
    before = made.read_bytes()
    for name in STALE:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(SECRET)
    (run / "manifests" / "unused.parquet").write_text(SECRET)
    monkeypatch.chdir(PROJECT)
    assert cli.main(["bundle", str(run), "--out", str(made), "--force"]) == 0
    assert made.read_bytes() == before
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and told[1].startswith("left out: ")
    for name in STALE:
        assert f"{Path(name).with_suffix('')}.*" in told[1]
    assert "faces.*" not in told[1].replace("tables/faces.*", "")  # of the settings, with pixels


def test_of_an_experiment_that_is_taken_out_nothing_is_handed_on(run: Path, tmp_path: Path) -> None:
    """As by `only`; a drawing of pixels among them, which the settings do not know any more."""
    experiments = {"table1": SETTINGS["experiments"]["table1"]}
    settings = SETTINGS | {"experiments": experiments}
    (run / layout.path("settings")).write_text(yaml.safe_dump(settings))
    found = bundle.write(run, tmp_path / "mine.zip", PROJECT)
    assert not [name for name in found.files if name.startswith("figures/")]
    assert {"figures/faces.png", "figures/faces.csv", "figures/curves.pdf"} <= {*found.left_out}
    assert bundle.verify(tmp_path / "mine.zip")


def test_what_the_report_goes_without_is_not_handed_on(run: Path, tmp_path: Path) -> None:
    """Where jobs failed, what lies there under their names is of older settings."""
    failed = LeftOut(views=frozenset({"curves"}))
    note = {name: sorted(own) for name, own in failed._asdict().items()}
    write_json(run / layout.path("unfinished"), note)
    found = bundle.write(run, tmp_path / "mine.zip", PROJECT)
    assert not [name for name in found.files if "curves" in name]
    assert "figures/curves.png" in found.left_out


def test_a_setup_of_which_all_failed_has_no_files_and_no_tables() -> None:
    failed = LeftOut(methods=frozenset((*SETUP.values(), method) for method in METHODS))
    made = handed_on.made(SETTINGS, failed)
    assert not made & {"tables/table1.csv", "figures/curves.png", "metrics/skin/net/tone.parquet"}
    assert "tables/cost.csv" in made


def test_a_file_that_the_settings_do_not_make_is_found(made: Path) -> None:
    """In a bundle of an older version, or of somebody who put it there; and one with pictures."""
    added = [*STALE, "figures/faces.png", "report.html", "unfinished.json"]

    def add(files: dict[str, bytes]) -> None:
        crate = json.loads(files[bundle.CRATE])
        for name in added:
            files[name] = b"more"
            crate["@graph"].append({"@id": name, "@type": "File", "sha256": ""})
        files[bundle.CRATE] = json.dumps(crate).encode()

    with pytest.raises(UserError) as told:
        bundle.verify(forged(made, add))
    for name in added:
        assert f"{name}: its settings.yaml makes no such" in str(told.value)


def test_settings_that_are_cut_short_are_told_in_a_line(run: Path, tmp_path: Path) -> None:
    for content in ("", "[1]", "experiments: {}", "experiments: {x: 3}", "a: b: c"):
        (run / layout.path("settings")).write_text(content)
        with pytest.raises(UserError, match="is not as a run writes it") as told:
            bundle.write(run, tmp_path / "mine.zip", PROJECT)
        assert "\n" not in str(told.value)


def test_the_same_results_make_the_same_bytes(run: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "elsewhere" / "mine")
    bundle.write(tmp_path / "elsewhere" / "mine", tmp_path / "again.zip", PROJECT)
    assert (tmp_path / "again.zip").read_bytes() == made.read_bytes()


def test_a_run_that_is_not_finished_is_refused(run: Path, tmp_path: Path) -> None:
    for name in bundle.NEEDED:
        path = run / layout.path(name)
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(UserError, match=f"no {layout.path(name)}: finish the run first"):
            bundle.write(run, tmp_path / "mine.zip", PROJECT)
        path.write_bytes(kept)


def test_it_lies_beside_the_run(run: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    monkeypatch.chdir(PROJECT)
    assert cli.main(["bundle", str(run)]) == 0
    assert (run.parent / "mine.zip").read_bytes() == made.read_bytes()


def test_it_is_made_in_the_folder_of_the_project(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    assert cli.main(["bundle", "."]) == 2
    assert "type this in the folder of the project" in capsys.readouterr().err


def test_an_honest_bundle_is_verified(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(made)]) == 0
    assert "1 tables, made again from the metrics, have the same cells" in capsys.readouterr().out


def test_any_changed_byte_is_found(made: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        names = sorted(set(archive.namelist()) - {bundle.CRATE})
    for name in names:

        def spoil(files: dict[str, bytes], name: str = name) -> None:
            files[name] += b" "

        with pytest.raises(UserError, match="its bytes are others") as told:
            bundle.verify(rewritten(made, spoil))
        assert name in str(told.value)
    with pytest.raises(UserError, match=r"tables/table1\.csv: it is not there"):
        bundle.verify(rewritten(made, lambda files: files.pop("tables/table1.csv") and None))
    with pytest.raises(UserError, match=r"more\.txt: the crate does not name it"):
        bundle.verify(rewritten(made, lambda files: files.update({"more.txt": b""})))


def forged(made: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The bundle with other files, of which the crate names the digests."""

    def mend(files: dict[str, bytes]) -> None:
        change(files)
        crate = json.loads(files[bundle.CRATE])
        parts = [e for e in crate["@graph"] if e["@type"] != "File" or e["@id"] in files]
        for entity in parts:
            if entity["@type"] == "File":
                content = seal(entity["@id"], files[entity["@id"]])
                files[entity["@id"]] = content
                entity["sha256"] = hashlib.sha256(content).hexdigest()
        files[bundle.CRATE] = json.dumps(crate | {"@graph": parts}).encode()

    return rewritten(made, mend)


def seal(name: str, content: bytes) -> bytes:
    """With its own digest mended."""
    found = re.search(rb"swift-sha256:([0-9a-f]{64})", content)
    if found is None or not name.endswith((".html", ".json")):
        return content
    start, end = found.span(1)
    blank = content[:start] + b"0" * 64 + content[end:]
    return content[:start] + hashlib.sha256(blank).hexdigest().encode() + content[end:]


@pytest.mark.parametrize("format", ["csv", "md", "tex", "html", "txt"])
def test_a_table_that_does_not_follow_from_the_metrics_is_found(made: Path, format: str) -> None:
    """Whoever forges a table mends its digest, too; any format may be the one that is read."""
    name = f"tables/table1.{format}"
    mean = metrics().groupby(["method", "dataset", "metric"])["value"].mean()
    number = f"{mean['swift', 'ddi', 'auc']:.{4 if format == 'csv' else 3}f}".rstrip("0")

    def forge(files: dict[str, bytes]) -> None:
        text = files[name].decode()
        assert number[:5] in text
        files[name] = text.replace(number[:5], "0.999", 1).encode()

    said = rf"table1\.{format}, line \d+: .*0\.999.*made again"
    with pytest.raises(UserError, match=said) as told:
        bundle.verify(forged(made, forge))
    assert len(str(told.value).splitlines()) == 2
    with pytest.raises(UserError, match=rf"table1\.{format}: it is not there"):
        bundle.verify(forged(made, lambda files: files.pop(name)))
    with pytest.raises(UserError, match=rf"table1\.{format}: \d+ lines, made again"):
        bundle.verify(forged(made, lambda files: files.update({name: files[name] + b"more\n"})))


def test_a_table_without_what_it_was_made_of_is_found(made: Path) -> None:
    """And one that the settings do not name, or no longer."""
    recipe = "tables/table1.json"
    assert bundle.verify(forged(made, lambda files: None))

    def unnamed(files: dict[str, bytes]) -> None:
        settings = yaml.safe_load(files["settings.yaml"])
        del settings["experiments"]["table1"]
        files["settings.yaml"] = yaml.safe_dump(settings).encode()
        del files[recipe]

    def gone(files: dict[str, bytes]) -> None:
        for name in [name for name in files if name.startswith("tables/table1.")]:
            del files[name]

    for change in (lambda files: files.pop(recipe), unnamed, gone):
        with pytest.raises(
            UserError, match=r"table1\.json: it is not there, and without it table1"
        ):
            bundle.verify(forged(made, change))
    for content in (
        b"{}",
        b"[]",
        b"experiments: [1]",
        b"experiments: {table1: 3}",
        b"\xff",
        b"a: b: c",
    ):
        with pytest.raises(UserError, match=r"settings\.yaml names no experiments") as told:
            bundle.verify(forged(made, lambda files, c=content: files.update({"settings.yaml": c})))
        assert "\n" not in str(told.value)
    outside = b"experiments: {../../x: {kind: table}}"
    with pytest.raises(UserError, match="is no name of a table"):
        bundle.verify(forged(made, lambda files: files.update({"settings.yaml": outside})))


def test_html_of_another_great_tables_is_compared_by_its_text(made: Path) -> None:
    """Whose marks and styles are others."""

    def restyled(files: dict[str, bytes], version: str = "0.0.1") -> None:
        crate = json.loads(files[bundle.CRATE])
        [entity] = [e for e in crate["@graph"] if e["@id"] == "#great-tables"]
        entity["softwareVersion"] = version or entity["softwareVersion"]
        files[bundle.CRATE] = json.dumps(crate).encode()
        page = files["tables/table1.html"].replace(b"<style>", b"<style>i{color:red}")
        files["tables/table1.html"] = page.replace(b"<tr", b'<tr class="x"')

    assert bundle.verify(forged(made, restyled))
    with pytest.raises(UserError, match=r"table1\.html, line"):
        bundle.verify(forged(made, lambda files: restyled(files, "")))

    def other(files: dict[str, bytes]) -> None:
        restyled(files)
        files["tables/table1.html"] = files["tables/table1.html"].replace(b"SWiFT", b"Mine!")

    with pytest.raises(UserError, match=r"table1\.html, line .*Mine!"):
        bundle.verify(forged(made, other))


@pytest.mark.parametrize("mask", [0x01, 0x08, 0xFF])
def test_a_flipped_byte_is_told_in_a_line_wherever_it_is(tmp_path: Path, mask: int) -> None:
    """In headers, in what is packed and in the list at the end: never another error."""
    whole, path = tmp_path / "whole.zip", tmp_path / "flipped.zip"
    crate = {"@graph": [{"@type": "File", "@id": "a.txt", "sha256": "0" * 64}]}
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "of this and that" * 9)
        archive.writestr(bundle.CRATE, json.dumps(crate))
    content = whole.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
        with pytest.raises(UserError) as told:
            bundle.verify(path)
        assert len(str(told.value).splitlines()) == 1, place


def test_where_it_cannot_be_written_is_told_in_a_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    (tmp_path / "file").write_text("x")
    for out, said in (
        (tmp_path, "is a folder: --out names the zip file"),
        (Path(), "is a folder"),
        (tmp_path / "file" / "mine.zip", "cannot be written: "),
    ):
        assert cli.main(["bundle", str(run), "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert said in told and len(told.splitlines()) == 1


def test_it_is_written_whole_or_not_at_all(
    run: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full leaves the bundle that was there."""
    before = made.read_bytes()

    def full(self: zipfile.ZipFile, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        bundle.write(run, made, PROJECT)
    assert made.read_bytes() == before
    assert [path.name for path in made.parent.glob("mine.zip*")] == ["mine.zip"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_what_is_no_bundle_is_told_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no bundle"):
        bundle.verify(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(UserError, match="would be written outside"):
        bundle.verify(path)
    assert not (tmp_path / "outside.txt").exists()


def test_a_folder_is_no_bundle_and_it_is_said_what_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(run / "gone.zip")]) == 2
    assert f"{run / 'gone.zip'}: no such file; `swift-debias bundle` writes one" in (
        capsys.readouterr().err
    )
    assert cli.main(["verify", str(run)]) == 2
    told = capsys.readouterr().err
    assert f"{run} is a folder: give the .zip file that `swift-debias bundle` wrote" in told
    assert told.count("\n") == 1
