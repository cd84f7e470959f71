"""Identity of code: changes with what runs, and with nothing else."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Wildcards
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings, ResourceSettings

from swift_debias.run.code_id import KEPT, _form, _kept, _parse, code_id


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    package = tmp_path / "library"
    package.mkdir()
    files = {
        "job.py": "from library import top\nprint(top.f())\n",
        "other.py": "import json\n",
        "library/__init__.py": "",
        "library/top.py": (
            '"""Doc."""\nfrom .deep import g\n\ndef f():\n    """Doc."""\n    return g()\n'
        ),
        "library/deep.py": "def g():\n    from .lazy import h\n    return h()\n",
        "library/lazy.py": "def h():\n    return 1  # one\n",
        "library/unused.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def identity(scripts: Path, *arguments: str) -> str:
    """As a new process finds it, which may read what another has kept."""
    for cached in (code_id, _parse, _kept):
        cached.cache_clear()
    return code_id(scripts, *arguments)


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("job.py", "print(", "print(1, ", True),
        ("library/top.py", "return g()", "return g() + 1", True),
        ("library/deep.py", "return h()", "return -h()", True),
        ("library/lazy.py", "return 1", "return 2", True),
        ("library/lazy.py", "# one", "# another comment", False),
        ("library/top.py", '"""Doc."""', '"""Another docstring."""', False),
        ("library/lazy.py", "return 1", "return  (1)", False),
        ("library/unused.py", "x = 1", "x = 2", False),
        ("other.py", "json", "re", False),
    ],
)
def test_identity_changes_with_what_runs_only(
    scripts: Path, file: str, old: str, new: str, changes: bool
) -> None:
    before = identity(scripts, "job.py")
    path = scripts / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert (identity(scripts, "job.py") != before) == changes


def test_what_was_kept_gives_the_same_and_spares_the_parsing(
    scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = identity(scripts, "job.py")
    assert (scripts / KEPT).is_file()
    monkeypatch.setattr(ast, "parse", lambda *_: pytest.fail("parsed again"))
    assert identity(scripts, "job.py") == found
    shutil.copytree(scripts, scripts / "elsewhere")  # under the content, not the place
    assert identity(scripts / "elsewhere", "job.py") == found


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "folder"])
def test_what_cannot_be_read_is_found_anew(scripts: Path, damage: str) -> None:
    found, kept = identity(scripts, "job.py"), scripts / KEPT
    text = kept.read_text()
    if damage == "folder":
        kept.unlink()
        kept.mkdir()  # nothing can be written there either
    else:
        digest = json.loads(text)[next(key for key in json.loads(text) if len(key) == 64)][0]
        new = {"cut": text[:-40], "other": text.replace(digest, "0" * 64), "empty": ""}[damage]
        assert new != text
        kept.write_text(new)
    assert identity(scripts, "job.py") == found
    if damage != "folder":
        assert json.loads(kept.read_text()).keys() == json.loads(text).keys()


# --- another Python -------------------------------------------------------------------------------

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
PROGRAM = """
import ast, hashlib, json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from swift_debias.run.code_id import _form
files = sorted(pathlib.Path(sys.argv[2]).rglob("*.py"))
forms = {str(path): _form(ast.parse(path.read_bytes())) for path in files}
print(json.dumps({name: hashlib.sha256(form.encode()).hexdigest() for name, form in forms.items()}))
"""


def pythons(*needed: str) -> dict[str, str]:
    """Version -> an interpreter of another version than this one, which has the `needed` modules.

    The environment variable SWIFT_PYTHONS names some, with a colon between; others are looked for
    on the path and where pyenv keeps them.
    """
    named = os.environ.get("SWIFT_PYTHONS", "").split(os.pathsep)
    kept = sorted(map(str, Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python")))
    onpath = filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 16)))
    found: dict[str, str] = {}
    for program in (*filter(None, named), *kept, *onpath):
        asked = f"import {', '.join(['sys', *needed])}; print(*sys.version_info[:2], sep='.')"
        done = subprocess.run([program, "-c", asked], capture_output=True, text=True)
        version = done.stdout.strip()
        if done.returncode == 0 and version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            found.setdefault(version, program)
    return found


def digests(python: str, folder: Path) -> dict[str, str]:
    """File -> hash, of all Python files below a folder, as another interpreter computes it."""
    words = [python, "-c", PROGRAM, str(SCRIPTS), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# What the tree of each version looks different for: parts of f-strings, new fields, kinds of text.
PECULIAR = """
def plain(a, *b, c=1, **d) -> "int":
    x: int = 0
    return f"{a!r:>{c}}{'': <4}" f"a{x}{x:}" u"b" if a else lambda: (yield)
class Kind(dict, metaclass=type): pass
async def later(): return [x async for x in y if x] or {**a, 1: 2} or {*a} or a[1:, ...]
match plain:
    case {"a": [1, *rest], **others} | None: ...
with open(a) as b, c: pass
try: raise
except* ValueError: global z
x = rb"c" b"d"; x = 1_000 + 0x10 + 1e-3 + 2j + True; del x
"""


@pytest.mark.parametrize("own_files", [False, pytest.param(True, marks=pytest.mark.ci)])
def test_identity_is_the_same_in_every_python(tmp_path: Path, own_files: bool) -> None:
    others = pythons()
    if not others:
        pytest.skip("there is no other Python from 3.11 on; SWIFT_PYTHONS names some")
    (tmp_path / "peculiar.py").write_text(PECULIAR)
    folder = SCRIPTS if own_files else tmp_path
    own = digests(sys.executable, folder)
    assert len(own) == (1 if not own_files else len([*SCRIPTS.rglob("*.py")]))
    for version, python in others.items():
        found = digests(python, folder)
        assert [path for path in own if found[path] != own[path]] == [], version


def test_what_runs_differently_has_another_form() -> None:
    """One small change of each kind of thing that a tree holds."""
    lines = [
        "x = 1",
        "x = 1.0",
        "x = True",
        "x = '1'",
        "x = b'1'",
        "x = None",
        "x = ...",
        "x = [1]",
    ]
    lines += ["x = (1,)", "x = {1}", "x = -1", "x = f'1{y}'", "x = f'{y}1'", "x = f'{y!r}1'"]
    lines += ["x += 1", "x == 1", "x != 1", "x(1)", "x(y=1)", "x[1]", "x.y", "del x", "import x"]
    lines += [
        "from x import y",
        "from . import x",
        "from .. import x",
        "import x as y",
        "x: int = 1",
    ]
    lines += ["def x(y): ...", "def x(*y): ...", "def x(y=1): ...", "async def x(y): ..."]
    lines += [
        "def x(): yield",
        "def x(): yield from y",
        "def x(): return",
        "f'{y:1}'",
        "f'{y:{z}}'",
    ]
    forms = [_form(ast.parse(line)) for line in lines]
    assert len(set(forms)) == len(lines)


def test_modules_loaded_by_name_count(scripts: Path) -> None:
    before = identity(scripts, "job.py", "library.unused")
    assert before != identity(scripts, "job.py")
    (scripts / "library" / "unused.py").write_text("x = 3\n")
    assert identity(scripts, "job.py", "library.unused") != before


def test_what_only_type_checkers_see_does_not_count(scripts: Path) -> None:
    guard = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from library import unused\n"
    (scripts / "job.py").write_text(guard)
    before = identity(scripts, "job.py")
    (scripts / "library" / "unused.py").write_text("x = 4\n")
    assert identity(scripts, "job.py") == before


def test_the_settings_models_do_not_count(tmp_path: Path) -> None:
    """A job gets its slice of the settings as params; a key for one rule must not rerun others."""
    package = tmp_path / "swift_debias"
    (package / "config" / "sections").mkdir(parents=True)
    names = ("base", "load", "schema", "strict_yaml", "sections/__init__", "sections/tasks")
    models = [f"config/{name}" for name in names]
    others = ["config/__init__", "config/plan", "seeds"]
    for name in (*models, *others, "__init__", "errors"):
        (package / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "job.py").write_text(
        "from swift_debias import errors, seeds\n"
        "from swift_debias.config import base, load, plan, schema, strict_yaml\n"
        "from swift_debias.config.sections import tasks\n"
    )
    before = identity(tmp_path, "job.py")
    for name in (*models, "__init__", "errors"):
        (package / f"{name}.py").write_text("x = 2\n")
        assert identity(tmp_path, "job.py") == before, name
    for name in others:
        (package / f"{name}.py").write_text("x = 2\n")
        assert identity(tmp_path, "job.py") != before, name
        before = identity(tmp_path, "job.py")


def test_a_job_depends_on_the_method_the_adapter_and_the_drawing_that_it_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Modules that are loaded by name: no import says that the script runs them."""
    snakefile = Path(__file__).resolve().parents[2] / "Snakefile"
    monkeypatch.chdir(snakefile.parent)
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=snakefile)._workflow

        def codes(rule: str, wildcard: str, *values: str) -> list[str]:
            code = workflow.get_rule(rule).params["code"]
            return [code(Wildcards(fromdict={wildcard: value})) for value in values]

        llft, swift, zscore = codes("debias", "method", "llft", "swift", "swift_zscore")
        assert llft != swift == zscore  # variants of one algorithm
        shared = workflow.globals["FIRST_OF"]["swift"]
        assert codes("first_step", "first", shared) == [swift]
        ddi, nih = codes("build_manifest", "dataset", "ddi", "nih")
        assert ddi != nih
        skin, xrays, pareto = codes("figure", "figure", "groups_skin", "groups_cxr", "pareto")
        assert skin == xrays != pareto  # figures of one drawing, and of another
        bias, cam = codes("figure_arrays", "figure", "figure1", "figure5")
        assert bias != cam
