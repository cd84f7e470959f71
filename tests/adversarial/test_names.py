"""Names that become files, wildcards and words of a shell; attributes named like our own columns.

The verdict of each name is one of two: it is refused in a line that names the key, or it works: its
files lie below the run's folder, each is found again by its path, no rule takes it for another
name, and no shell and no glob reads anything into it.
"""

from __future__ import annotations

import copy
import fnmatch
import glob
import random
import re
import shlex
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.adversarial.settings_world import PROJECT, assert_one_line_each, read, undrawn, valid
from tests.keys.conftest import draw_data_set, perform

from swift_debias.config.schema import Attribute, Duplicates, Images, Settings
from swift_debias.data import adapters, cache_building, duplicates, folds, groups, manifest
from swift_debias.data.labelled import read_labelled
from swift_debias.methods import _external
from swift_debias.run import layout

CONFIG = valid()
SECTIONS = ("methods", "tasks", "datasets", "attributes", "backbones", "experiments", "run")
# What stands in the shared configuration under the name that is changed.
USED = {
    "methods": "fullft",
    "tasks": "skin",
    "datasets": "east",
    "attributes": "sex",
    "backbones": "net",
    "experiments": "table1",
    "run": "mine",
}
WILDCARD = {
    "methods": "method",
    "tasks": "task",
    "datasets": "dataset",
    "attributes": "attribute",
    "backbones": "backbone",
    "experiments": "table",
}
ODD = [
    *(
        "",
        " ",
        ".",
        "..",
        "...",
        "a..b",
        "a.",
        ".a",
        "-a",
        "--all",
        "+a",
        "_",
        "__init__",
        "~",
        "~a",
    ),
    *(
        "../x",
        "a/b",
        "/abs",
        "a\\b",
        "C:",
        "a:b",
        "a\0b",
        "a\nb",
        "a\tb",
        "a b",
        " a",
        "a ",
        "\u00a0",
    ),
    *("b;touch PWNED;true", "$(id)", "`id`", "a|b", "a&b", "a>b", "a<b", "a'b", 'a"b', "a!b", "#a"),
    *(
        "*",
        "?",
        "[ab]",
        "a*",
        "{fold}",
        "{x}",
        "{",
        "}",
        "a{b}",
        "(a",
        "a)",
        "^a$",
        "a.*",
        "\\d+",
        ".+",
    ),
    *(
        "con",
        "NUL",
        "aux.x",
        "COM1",
        "lpt9.txt",
        "console",
        "a" * 64,
        "a" * 65,
        "p" * 300,
        "é" * 70,
    ),
    *(
        "swift+",
        "a.b",
        "a-b",
        "a_b",
        "1",
        "2024",
        "01",
        "1.5",
        "é",
        "Läsion",
        "肺",
        "e\u0301",
        "ﬁ",
        "²",
    ),
    *(
        "table 1 (ours)",
        "table=1",
        "a,b",
        "a%b",
        "a@b",
        "%s",
        "null",
        "true",
        "\u202egnp",
        "a\u200db",
        "\ud800",
    ),
    *(
        "cost",
        "ranks",
        "search",
        "cost.csv",
        "README.md",
        "group",
        "fold",
        "fold0",
        "label",
        "x.duplicates",
        "arrays",
        "SWIFT",
    ),
]


def drawn(rng: random.Random) -> str:
    """A name of letters that work, of any that a keyboard has, or of any that Unicode has."""
    fine = string.ascii_letters + string.digits + "_-.+"
    kind = rng.randrange(4)
    letters = [fine, fine, string.printable, "äßçЖ肺अ٣🙂\u0301\u200b" + fine][kind]
    return "".join(rng.choices(letters, k=rng.choice((1, 2, 3, 5, 8, 20, 64, 70))))


def renamed(section: str, name: Any, base: dict[str, Any] = CONFIG) -> dict[str, Any]:
    """The configuration with another name in all places where the old one stood."""
    old = USED[section]
    config = copy.deepcopy(base)
    if section == "run":
        return config | {"run": name}
    config[section] = {name if key == old else key: held for key, held in config[section].items()}
    if section == "datasets":
        for task in config["tasks"].values():
            task["tests"] = {
                key: [name if one == old else one for one in tests]
                for key, tests in task["tests"].items()
            }
    if section == "attributes":
        for task in config["tasks"].values():
            task["tests"] = {name if k == old else k: tests for k, tests in task["tests"].items()}
    for experiment in config["experiments"].values():
        for holder in (experiment, *experiment["panels"]):
            for key in ("methods", "datasets"):
                if key in holder and section == key:
                    holder[key] = [name if one == old else one for one in holder[key]]
        for panel in experiment["panels"]:
            if section in ("tasks", "attributes", "backbones"):
                panel[section.removesuffix("s")] = name
    return config


@pytest.mark.parametrize("section", SECTIONS)
def test_a_name_works_or_is_refused(section: str) -> None:
    rng = random.Random(f"names {section}")
    verdicts: Counter[str] = Counter()
    for name in [*ODD, *(drawn(rng) for _ in range(60))]:
        found = read(renamed(section, name))
        if isinstance(found, str):
            assert_one_line_each(found, section)
            assert not re.fullmatch(r"[a-z][a-z0-9_]{0,20}", name) or name in (
                *("con", "aux", "nul"),  # devices of Windows
                *("cost", "ranks", "search"),  # tables that every run has
                *CONFIG[section],  # another entry is called so
            ), found
            verdicts["refused"] += 1
            continue
        taken = unicodedata.normalize("NFC", name)
        assert taken == found.run if section == "run" else taken in getattr(found, section)
        assert_harmless(taken)
        if section in WILDCARD:
            assert_files_are_its_own(WILDCARD[section], taken)
        verdicts["works"] += 1
    print(f"names of {section}: {dict(verdicts)}")
    assert verdicts["works"] > 25
    assert verdicts["refused"] > 60


def assert_harmless(name: str) -> None:
    """Nothing in it means anything to a shell, a glob, a path, `format` or Windows."""
    assert shlex.quote(name) == name or not name.isascii()
    assert glob.escape(name) == name
    assert fnmatch.filter([name, "other"], name) == [name]
    assert name.format() == name
    assert PurePosixPath("folder", name).parts == ("folder", name)
    assert not name.startswith(("-", ".", "~", "+"))
    assert not name.endswith(".")
    assert ".." not in name
    assert name.isprintable()
    assert not any(character.isspace() for character in name)
    assert len(name.encode()) <= 128


def assert_files_are_its_own(wildcard: str, name: str) -> None:
    """Each file with this wildcard is found again by its path, and lies below the run's folder."""
    wildcards = ("task", "backbone", "attribute", "method", "dataset", "table", "figure")
    keys = dict.fromkeys(wildcards, "x") | {"fold": "0", "format": "csv", wildcard: name}
    for kind, file in layout.FILES.items():
        if f"{{{wildcard}}}" not in file.pattern:
            continue
        path = layout.path(kind, **keys)
        assert layout.keys(kind, f"results/run/{path}")[wildcard] == name
        assert PurePosixPath("results/run", path).is_relative_to("results/run")
        assert ".." not in PurePosixPath(path).parts
        assert max(len(part.encode()) for part in path.split("/")) < 200


def test_no_file_is_that_of_another_name() -> None:
    """A name that ends like a kind of file of its own is refused, or the files are apart."""
    endings = {file.pattern.rpartition("}")[2] for file in layout.FILES.values()}
    endings |= {ending.rpartition(".")[0] for ending in endings} | {".Repeats", ".DUPLICATES"}
    names = dict.fromkeys((*WILDCARD.values(), "first", "fold", "repeat", "format"), "x")
    for section, wildcard in WILDCARD.items():
        kinds = [kind for kind, file in layout.FILES.items() if f"{{{wildcard}}}" in file.pattern]
        of_x = {layout.path(kind, **names).casefold() for kind in kinds}
        for name in (f"x{ending}" for ending in sorted(endings) if ending and "/" not in ending):
            if isinstance(read(renamed(section, name)), Settings):
                others = {layout.path(k, **names | {wildcard: name}).casefold() for k in kinds}
                assert not others & of_x, (section, name)


def test_two_names_that_are_one_file_somewhere() -> None:
    rng = random.Random("case")
    pairs = [("a", "A"), ("é", "e\u0301"), ("ß", "SS"), ("1", 1), ("K", "\u212a"), ("İx", "i̇X")]
    for _ in range(30):
        name = "x" + "".join(rng.choices(string.ascii_letters, k=rng.randrange(1, 12)))
        pairs.append((name, name.swapcase()))
    for section in SECTIONS[:-1]:
        for one, other in pairs:
            config = renamed(section, one)
            config[section][other] = copy.deepcopy(config[section][one])
            found = read(config)
            assert isinstance(found, str), (section, one, other)
            assert_one_line_each(found, section)


def test_a_title_is_free_text() -> None:
    """The refusal of 'table 1 (ours)' says where such a text goes."""
    found = read(renamed("experiments", "table 1 (ours)"))
    assert isinstance(found, str)
    assert "title:" in found
    config = renamed("experiments", "table_1")
    config["experiments"]["table_1"]["title"] = "table 1 (ours): $x$ & <b>; 100 % {fold}"
    config["methods"]["llft"]["title"] = "LLFT (ours) \\alpha"
    assert isinstance(read(config), Settings)


def test_a_run_whose_names_have_every_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake's plan has each job once, and a shell command copies the right file."""
    from tests.keys.conftest import plan

    monkeypatch.chdir(tmp_path)
    config = CONFIG
    for section, name in (
        *(("methods", "a.b+c-d_é"), ("tasks", "t.k+1"), ("datasets", "e.s+t"), ("run", "r.u+n-1")),
        *(("attributes", "group"), ("backbones", "n.e+t"), ("experiments", "ta.b+le")),
    ):
        config = renamed(section, name, config)
    config["methods"]["base.line+x"] = {"algorithm": "baseline"}
    config["methods"]["baseXline+x"] = {"algorithm": "llft"}
    config["experiments"]["ta.b+le"]["methods"] = ["a.b+c-d_é", "base.line+x", "baseXline+x"]
    del config["experiments"]["figure1"]
    config = undrawn(config)
    for name in ("north", "south", "e.s+t", "west"):
        draw_data_set(tmp_path / "data" / name, "east" if name == "e.s+t" else name)
    jobs = plan(config, ["results/r.u+n-1/tables/ta.b+le.csv"])
    made = [str(path) for job in jobs for path in job.output]
    assert len(made) == len(set(made))
    setup = "results/r.u+n-1/debiased/t.k+1/n.e+t/group"
    copies = [job for job in jobs if job.rule.name == "copy_baseline"]
    models = {str(path) for job in copies for path in job.output if path.endswith(".safetensors")}
    assert models == {f"{setup}/base.line+x/fold{fold}/model.safetensors" for fold in (0, 1)}
    [copied] = copies
    for path in copied.input:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"content of {path}")
    perform(copied)
    for given, output in zip(copied.input, copied.output, strict=True):
        assert Path(output).read_text() == f"content of {given}"


# --- attributes that are called like our own columns ----------------------------------------------


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], dict[str, Any]]:
    """flow(attribute, column) -> groups of every image at each stage, and the tables on the way."""
    folder = tmp_path_factory.mktemp("columns")
    draw_data_set(folder / "data", "north")
    entry = CONFIG["datasets"]["north"] | {"root": "data"}

    def manifest_of(column: str) -> pd.DataFrame:
        attributes = {column: {"column": "gender"}, "tone": {"column": "tone"}}
        options = adapters.make_options(entry | {"attributes": attributes})
        manifest.write(adapters.read(options, folder), "north", folder / "m", folder / "log")
        return manifest.read(folder / "m")

    cache_building.build_cache(
        manifest_of("plain"),
        folder / "data",
        folder / "c.npy",
        folder / "c.parquet",
        Images(size=8),
    )
    index = pd.read_parquet(folder / "c.parquet")

    def start(name: str, column: str) -> dict[str, Any]:
        attribute = Attribute(column=column, groups={"f": ["F"], "m": ["M"]})
        rows = manifest_of(column)
        source = duplicates.Source("north", rows, index)
        pool = duplicates.find_duplicates([source], [], Duplicates(), True).frame
        pool = pd.read_parquet(_stored(pool, folder / "cohort.parquet"))
        split = folds.make_folds(
            pool, pd.DataFrame({name: groups.groups_in(pool, attribute)}), 2, 0
        )
        joined = pool.merge(split, on=["dataset", "image_id"])
        found = groups.groups_in(joined, attribute)
        external = _external.make_external(joined, found, 0, 2, 1, np.random.default_rng(0))
        paths = ([str(folder / "m")], [str(folder / "c.parquet")], [])
        labelled = read_labelled(["north"], *paths, attribute)
        return {
            "groups": found.tolist(),
            "labels": joined["label"].tolist(),
            "folds": split["fold"].tolist(),
            "external": external.frame.to_dict("list"),
            "labelled": labelled.to_dict("list"),
            "columns": {*rows, *pool, *split, *joined, *external.frame, *labelled, *index},
        }

    return start


def _stored(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path, index=False)
    return path


def test_an_attribute_may_be_called_like_any_of_our_columns(
    flow: Callable[[str, str], dict[str, Any]],
) -> None:
    """Every column that occurs on the way, and some that are nearly ours."""
    plain = flow("plain", "plain")
    assert set(plain["groups"]) == {0, 1, -1}
    stages = ("groups", "labels", "folds", "external", "labelled")
    names = plain["columns"] | manifest.OUR_COLUMNS - {"sex", "age", "fitzpatrick"}
    names |= {
        "attribute group",
        "attribute attribute group",
        "table: gender",
        "index",
        "0",
        "method",
    }
    names -= {"sex", "age", "fitzpatrick", "tone", "plain"}  # brought into a form of their own
    for name in sorted(names):
        found = flow(name, name)
        assert {stage: found[stage] for stage in stages} == {s: plain[s] for s in stages}, name
    print(f"{len(names)} names of attributes")
    assert len(names) > 30


def test_the_check_of_data_counts_an_attribute_called_label(tmp_path: Path) -> None:
    """Beside the label itself."""
    from swift_debias.data import check

    for name in ("north", "south", "east", "west"):
        draw_data_set(tmp_path / "data" / name, name)
    config = renamed("attributes", "label")
    settings = read(undrawn(config))
    assert isinstance(settings, Settings)
    expected = check.load_expected(PROJECT / "resources" / "expected_counts.yaml")
    report = check.check(settings, tmp_path, expected)
    counts = report.datasets[0].counts
    table = pd.read_csv(tmp_path / "data" / "north" / "table.csv")
    assert counts["label"] == {str(k): int((table["finding"] == k).sum()) for k in (0, 1)}
    assert counts["attribute label"]["female"] == int((table["gender"] == "F").sum())
