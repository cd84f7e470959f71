"""Identity of code: changes with what runs, and with nothing else."""

from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Wildcards
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings, ResourceSettings

from swift_debias.run.code_id import _parse, code_id


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
    code_id.cache_clear()
    _parse.cache_clear()
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
    (package / "config").mkdir(parents=True)
    models = [f"config/{name}" for name in ("base", "load", "schema", "strict_yaml")]
    others = ["config/__init__", "config/plan", "seeds"]
    for name in (*models, *others, "__init__", "errors"):
        (package / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "job.py").write_text(
        "from swift_debias import errors, seeds\n"
        "from swift_debias.config import base, load, plan, schema, strict_yaml\n"
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
