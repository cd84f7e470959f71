"""The rooms of the library: imports point downwards, in no circle; torch stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
LIBRARY = SCRIPTS / "swift_debias"
# From the top of the house to its ground; a room imports from itself and from those below it.
ROOMS = [
    "cli",
    "compare",
    "api",
    "report",
    "methods",
    "importance",
    "learning",
    "data",
    "evaluation",
    "run",
    "config",
    "seeds",
    "files",
    "errors",
]
WITHOUT_TORCH = [
    "report",
    "data",
    "evaluation",
    "run",
    "config",
    "methods",
    "api",
    "compare",
    "cli",
]
ARRAYS = ["report.figures._images", "report.figures._importances"]  # run models and read weights
FILES = sorted(LIBRARY.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name below the library; '' is the library itself."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, running: bool = False) -> Iterator[str]:
    """Local modules that a file imports anywhere, dotted below the library.

    `running`: without those that only type checkers see.
    """
    known = {name_of(file) for file in FILES}
    package = path.relative_to(LIBRARY).parent.parts
    tree = ast.parse(path.read_text())
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    guarded = [node for node in branches if "TYPE_CHECKING" in ast.unparse(node.test)]
    seen = {id(inner) for node in guarded for inner in ast.walk(node)} if running else set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in seen:
            continue
        above = package[: len(package) - node.level + 1]
        base = ".".join([*above, *(node.module.split(".") if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}".lstrip(".")
            yield full if full in known else base


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_is_in_a_room() -> None:
    assert {room(name_of(path)) for path in FILES} - {""} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    own = name_of(path)
    if not own:
        pytest.skip("the front door imports lazily, see test_api.py")
    upwards = [n for n in imports(path) if n and ROOMS.index(room(n)) < ROOMS.index(room(own))]
    assert not upwards, f"{own} imports {upwards}"


def test_no_circle() -> None:
    graph = {
        name_of(path): set(imports(path, running=True)) - {name_of(path)}
        for path in FILES
        if name_of(path)
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_importing_the_package_costs_no_torch() -> None:
    """Nor do the rooms that run on login nodes and in jobs that compute nothing with networks."""
    modules = [
        f"swift_debias.{name}".rstrip(".")
        for name in map(name_of, FILES)
        if room(name) in [*WITHOUT_TORCH, ""] and name not in ARRAYS
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
