"""README and docs: their size, their links, and the code in them."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from blocks import PAGES, PROJECT, Block, apply, blocks, name_of, prose

from swift_debias import methods
from swift_debias.config import load, strict_yaml
from swift_debias.config.schema import Settings
from swift_debias.data import adapters

HAND_WRITTEN = [page for page in PAGES if page.parent.name != "config"]
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def test_readme_is_read_in_two_minutes() -> None:
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120


def test_no_merge_was_left_half_done() -> None:
    git = ["git", "grep", "-lE", "^(<{7} |>{7} |={7}$)", "--", "."]
    left = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True)
    if left.returncode == 128:
        pytest.skip("not a git repository")
    assert left.returncode == 1, left.stdout + left.stderr


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name_of)
def test_lines_of_text_fit_a_screen(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [n for n, line in enumerate(lines, 1) if len(line) > 120 and not line.startswith("|")]
    assert not long


def anchors(page: Path) -> set[str]:
    """Ids of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        if re.match(r"\w+:", target):
            continue
        path = page.parent / target if target else page
        assert path.exists(), f"{target} does not exist (made from the code? run `make docs`)"
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths in backticks: of the project, or below the folder of the library."""
    library = PROJECT / "workflow" / "scripts" / "swift_debias"
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|md|smk|yaml|csv|txt))`", prose(page)):
        if path.startswith(("results/", "data/", "manifests/")) and not (library / path).exists():
            continue  # of a run, or the user's
        assert (PROJECT / path).exists() or (library / path).exists(), path


def run_python(text: str, folder: Path) -> None:
    """Run a text in a process of its own, where the project's resources lie."""
    (folder / "resources").symlink_to(PROJECT / "resources")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


PYTHON = [page for page in HAND_WRITTEN if any(not block.title for block in blocks(page, "python"))]


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """All blocks of a page, one after the other, in one process."""
    run_python("\n".join(b.text for b in blocks(page, "python") if not b.title), tmp_path)


def test_readme_starts_with_ten_lines_of_python() -> None:
    (block,) = blocks(PROJECT / "README.md", "python")
    statements = ast.parse(block.text).body
    assert sum(not isinstance(node, ast.Import | ast.ImportFrom) for node in statements) <= 10


def read(path: Path) -> Settings:
    """A configuration; one that is not complete is laid on the demo's.

    Data sets with folders of their own are laid on the paper's: the demo's are drawn.
    """
    raw = strict_yaml.read(path)
    if "extends" not in raw and "run" not in raw:
        found = any("root" in entry for entry in raw.get("datasets", {}).values())
        raw = {"extends": f"config/{'config' if found else 'demo'}.yaml", **raw}
    return load.load(
        raw, PROJECT, algorithms=methods.settings_models(), adapters=adapters.options_models()
    )


# Those with a title are files that the examples of docs/extend.md need: tests/docs/test_extend.py.
YAML = [b for page in HAND_WRITTEN for b in blocks(page, "yaml") if not b.title]


@pytest.mark.parametrize("block", YAML, ids=lambda block: name_of(block.page))
def test_yaml_is_a_valid_configuration(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block.text, encoding="utf-8")
    assert read(path).run


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "diff")])
def test_a_diff_is_one_that_git_applies(block: Block, tmp_path: Path) -> None:
    for file in re.findall(r"^--- a/(.+)$", block.text, re.MULTILINE):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, tmp_path / file)
    apply(block, tmp_path)


def commands() -> list[tuple[str, str]]:
    """Page and command: of blocks, and in the text where it begins like one."""
    found = []
    for page in HAND_WRITTEN:
        texts = [line for b in blocks(page, "sh") for line in b.text.splitlines() if line.strip()]
        texts += re.findall(r"`((?:make|snakemake|python|swift-debias) [^`]+)`", prose(page))
        found += [(name_of(page), text) for text in texts if "..." not in text]
    return sorted(set(found))


def targets() -> set[str]:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


@cache
def help_of(command: str) -> str:
    """What `swift-debias COMMAND --help` prints."""
    code = "import sys; from swift_debias.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_exist(page: str, command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        assert next(w for w in words if "=" not in w) in targets()
    elif program == "swift-debias":
        for option in [word for word in words[1:] if word.startswith("--")]:
            assert option in help_of(words[0])
        assert help_of(words[0])
    elif program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1])
    elif program == "python":
        assert (PROJECT / words[0]).is_file()
    elif program in (".venv/bin/python", "pip", "cp"):
        assert words
    else:
        assert program == "snakemake", command
        for option, value in itertools.pairwise(words):
            if option in ("--configfile", "--profile"):
                shown = f'title="{value}"' in (PROJECT / page).read_text()  # a file that it gives
                assert shown or (PROJECT / value).exists(), value


def test_generated_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    old = [
        name
        for name, text in generate.pages().items()
        if not (PROJECT / name).is_file() or (PROJECT / name).read_text("utf-8") != text
    ]
    assert not old, f"{', '.join(old)}: run `make docs`"


SOURCES = [
    path
    for folder in ("workflow", "benchmarks", "profiles")
    for path in sorted((PROJECT / folder).rglob("*"))
    if path.suffix in (".py", ".smk", ".yaml")
]


OF_A_RUN = ("verdict.md", "which_method.md")


def test_docstrings_and_comments_cite_pages_that_exist() -> None:
    missing = [
        f"{path.relative_to(PROJECT)}: {page}"
        for path in SOURCES
        for page in re.findall(r"(?<![\w{}./])((?:[\w.]+/)*[\w]+\.md)\b", path.read_text("utf-8"))
        if not (PROJECT / page).exists() and page not in OF_A_RUN
    ]
    assert not missing


def test_one_word_has_one_meaning() -> None:
    """No word of the glossary is explained twice, nor is one that another entry forbids."""
    page = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*) ?\|$", page, re.MULTILINE)
    words = [w for cell, *_ in rows for w in cell.split(", ") if cell not in ("word", "---")]
    assert len(words) > 40
    assert len(words) == len(set(words))


# A cell is a label with a group. What these say of tables are fields (raw ones) or entries.
OF_TABLES = re.compile(
    r"\b(?:(?:empty|whole|few|every|each|such|published|lowest|demo's|\d+) cells?\b(?! \(label)"
    r"|cells? of (?:a|the|each) (?:\w+ )?(?:table|column|benchmark|config)"
    r"|in (?:a|one|their) cells?\b|these cells\b)"
)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_cell_is_no_entry_of_a_table(page: Path) -> None:
    text = " ".join(prose(page).split())
    found = [m[0] for m in OF_TABLES.finditer(text)]
    # of a batch or a set, where it is a label with a group
    assert page.name in ("CHANGELOG.md", "methods.md") or not found, found


def test_design_names_every_room_and_every_rule() -> None:
    page = (PROJECT / "docs" / "design.md").read_text(encoding="utf-8")
    library = PROJECT / "workflow" / "scripts" / "swift_debias"
    files = [path.name for path in library.glob("[a-z]*.py")]
    folders = [f"{path.parent.name}/" for path in library.glob("*/__init__.py")]
    rules = [
        rule
        for path in (PROJECT / "workflow" / "rules").glob("*.smk")
        for rule in re.findall(r"^ *rule (\w+):", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(rules) > 20
    assert [name for name in (*files, *folders, *rules) if f"`{name}`" not in page] == []
