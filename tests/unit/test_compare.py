"""A method's file outside the project: what is wrong with it is told in one line.

How it is ranked beside others is in tests/end_to_end/test_benchmark.py.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import blocks

from swift_debias import cli, methods
from swift_debias.compare import cases, run
from swift_debias.compare.run import SCRIPTS
from swift_debias.config.schema import Compute, Settings
from swift_debias.errors import UserError
from swift_debias.methods._outside import _imported, grid, load_outside
from swift_debias.run import code_id

PROJECT = Path(__file__).resolve().parents[2]
METHOD = '''
    """Shrink the last layer."""

    from pydantic import Field

    from ..config.base import Model

    CLASS = "Shrunk"
    IMPORTANCES: tuple[str, ...] = ()
    SEARCH = {"factor": [0.25, 0.5]}


    class Settings(Model):
        """How much to shrink."""

        factor: float = Field(0.5, gt=0, le=1)


    def debias(classifier, external, settings, context):
        """Multiply the head's weights by the factor."""
        import torch

        with torch.no_grad():
            classifier.head.linear.weight.mul_(settings.factor)
        return classifier
'''


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    sys.modules.pop("swift_debias.methods.shrunk", None)
    methods.OUTSIDE.clear()
    methods.load.cache_clear()
    methods.modules.cache_clear()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = METHOD, name: str = "shrunk.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


REFUSED: dict[str, tuple[str, str]] = {
    "no method": ("x = 1\n", "there is no method in it"),
    "three arguments": (METHOD.replace(", context", ""), "must take four arguments"),
    "no class": (METHOD.replace("CLASS", "KLASS"), "CLASS is missing"),
    "no settings": (METHOD.replace("class Settings", "class Options"), "Settings is missing"),
    "settings of its own": (METHOD.replace("Settings(Model)", "Settings"), "Settings is missing"),
    "no default": (METHOD.replace("Field(0.5, ", "Field("), "needs a default"),
    "no importances": (METHOD.replace("IMPORTANCES", "MPORTANCES"), "IMPORTANCES is missing"),
    "unknown importance": (
        METHOD.replace(" = ()", " = ('no.such',)"),
        "IMPORTANCES: there is no 'no.such'",
    ),
    "a taken name": (METHOD.replace("factor", "epochs"), "every method has a setting 'epochs'"),
    "a variant's key": (METHOD.replace("factor", "lr_factor"), "has a setting 'lr_factor' already"),
    "a misspelt importance": (
        METHOD.replace(" = ()", " = ('minibatch.full.predictoin',)"),
        "did you mean 'minibatch.full.prediction'?",
    ),
    "no name of a class": (METHOD.replace('"Shrunk"', '"My method"'), "is no name of a class"),
    "an error in it": (METHOD + "\n    1 / 0\n", "shrunk.py:27: ZeroDivisionError: division by"),
    "no Python": (METHOD + "\n    def\n", "SyntaxError"),
    "an import": ("import no_such_thing\n", "shrunk.py:1: ModuleNotFoundError: No module named"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_a_method_is_told_in_one_line(
    name: str, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = REFUSED[name]
    path = write(text)
    assert cli.main(["compare", str(path)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert said in told[0]
    assert str(path) in told[0]
    assert methods.OUTSIDE == {}


@pytest.mark.parametrize("name", [n for n in REFUSED if not n.startswith(("an ", "no Python"))])
def test_the_same_file_in_the_projects_folder_is_refused_too(
    name: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a run is planned, before anything is computed."""
    text, said = REFUSED[name]
    _imported(write(text), "swift_debias.methods.shrunk")
    monkeypatch.setattr(methods, "available", lambda: ["shrunk", "swift"])
    with pytest.raises(UserError, match=re.escape(said)) as told:
        methods.settings_models()
    assert str(told.value).startswith("methods/shrunk.py")


def test_a_twin_of_a_class_does_not_take_its_place_in_the_library(tmp_path: Path) -> None:
    library = Path(methods.__file__).parents[1]
    ignored = shutil.ignore_patterns("__pycache__")
    copied = shutil.copytree(library, tmp_path / "swift_debias", ignore=ignored)
    shutil.copy(copied / "methods/swift.py", copied / "methods/twin.py")
    done = subprocess.run(
        [sys.executable, "-c", "import swift_debias; swift_debias.SWiFT"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode
    assert "methods/swift.py and methods/twin.py: both have CLASS" in done.stderr.splitlines()[-1]


def test_there_must_be_a_method_to_compare_with(write: Callable[..., Path], tmp_path: Path) -> None:
    settings = run.read_settings(PROJECT / "config/benchmark.yaml")
    [name] = [name for name, view in settings.experiments.items() if view.kind == "table"][:1]
    view = settings.experiments[name]
    panels = [panel.model_copy(update={"methods": ["baseline"]}) for panel in view.panels]
    alone = {name: view.model_copy(update={"panels": panels, "methods": ["baseline"]})}
    settings = settings.model_copy(update={"experiments": alone})
    with pytest.raises(
        UserError, match=f"experiment {name}: no panel has a method beside baseline"
    ):
        run.compare(settings, name, load_outside(write()), tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["oracle", "floor", "Floor", "fullft_fdr", "no_mask"])
def test_a_file_called_like_another_row_is_refused_before_any_work(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Its numbers would be shown as the other's, or the other's as its own."""
    path = write(name=f"{name}.py")
    config = PROJECT / "config/benchmark.yaml"
    words = ["compare", str(path), "--config", str(config), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert str(path) in told and f"{name!r} is a" in told and "give the file another name" in told
    assert not list(tmp_path.glob("out/*"))


def test_a_table_of_somebody_is_not_written_over(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "shrunk.csv"
    theirs.write_text("patient,age\n")
    assert cli.main(["compare", str(write()), "--out", str(tmp_path)]) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert f"{theirs} is not of this command: move it, or name another --out" in told
    assert theirs.read_text() == "patient,age\n"


def test_rows_and_panels_of_the_configuration_are_told_apart(tmp_path: Path) -> None:
    settings = run.read_settings(PROJECT / "config/benchmark.yaml")
    view = settings.experiments["compare"]
    named = view.model_copy(update={"methods": [*view.methods, "oracle"]})
    twice = view.model_copy(update={"panels": [*view.panels, view.panels[1]]})
    for changed, said in ((named, "methods.oracle: compare has a row"), (twice, "is named twice")):
        with pytest.raises(UserError, match=said):
            run.compare(
                settings.model_copy(update={"experiments": {"compare": changed}}),
                *("compare", None, tmp_path / "out", print),
            )
    assert not (tmp_path / "out").exists()


def key_of(settings: Settings, backbone: str = "small_resnet", attribute: str = "tone") -> str:
    """The key under which a result of the task `clean` is kept."""
    case = cases.Case("clean", attribute, *[None] * 5)  # type: ignore[arg-type]
    bench = run._Bench(settings, settings.methods, case, backbone, Path(), print)
    return bench.key("baseline", 0)


COMPUTE = {  # key -> another value, and whether numbers depend on it
    "device": ("cpu", True),
    "precision": ("bf16", True),
    "channels_last": (False, True),
    "compile_from": (10, True),
    "deterministic": (False, True),
    "resident": ("off", False),
    "threads": (2, False),
    "checkpoint_seconds": (1.0, False),
    "debias_job": ("fold", False),
}


def test_a_result_is_known_by_everything_that_changes_its_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = run.read_settings(PROJECT / "config/benchmark.yaml")
    before = key_of(settings)
    assert key_of(settings) == before
    assert set(COMPUTE) == set(Compute.model_fields)  # a new one is to be thought about
    for name, (value, matters) in COMPUTE.items():
        compute = settings.compute.model_copy(update={name: value})
        assert getattr(settings.compute, name) != value, name
        other = settings.model_copy(update={"compute": compute})
        assert (key_of(other) != before) == matters, name
    # seeds are made of names
    network = settings.backbones["small_resnet"]
    renamed = settings.model_copy(update={"backbones": {"other": network}})
    assert key_of(renamed, "other") != before
    assert key_of(settings, attribute="other") != before
    version = importlib.metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: f"{version(name)}.1")
        assert key_of(settings) != before


def test_a_result_is_known_by_the_module_of_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run.read_settings(PROJECT / "config/benchmark.yaml")
    monkeypatch.syspath_prepend(tmp_path)
    own = settings.backbones["small_resnet"].model_copy(update={"architecture": "own_net:make"})
    settings = settings.model_copy(update={"backbones": {"small_resnet": own}})
    found = []
    for text in ("A = 1\n", "A = 2\n"):
        (tmp_path / "own_net.py").write_text(text)
        for cached in (code_id.code_id, code_id.module_id, code_id._parse, code_id._kept):
            cached.cache_clear()
        found.append(key_of(settings))
    assert found[0] != found[1]


def test_names_of_files(write: Callable[..., Path], tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "absent.py", "there is no such Python file"),
        (write(name="my-method.py"), "call the file as a Python name"),
        (write(name="swift.py"), "'swift' is a method of the project"),
        (write(name="method.txt"), "no such Python file"),
    ):
        with pytest.raises(UserError, match=said):
            load_outside(path)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ('{"factor": [0.1, 0.2, 0.3]}', "SEARCH has 3 points; every method here has 2 trials"),
        ('{"faktor": [0.1]}', "Settings has no key 'faktor'"),
        ('{"factor": 0.1}', "SEARCH must be a dictionary"),
        ("[1]", "SEARCH must be a dictionary"),
        ('{"factor": [0.1, 5]}', "SEARCH: factor: Input should be less than or equal to 1"),
        ('{"lr_factor": [-1]}', "SEARCH: lr_factor"),
    ],
)
def test_grids(write: Callable[..., Path], search: str, said: str) -> None:
    name = load_outside(write(METHOD.replace('{"factor": [0.25, 0.5]}', search)))
    with pytest.raises(UserError, match=said):
        grid(name, 2)


def test_a_file_may_be_run_where_it_lies_or_in_the_project(write: Callable[..., Path]) -> None:
    """Relative imports mean the project's, and the settings are found by their name."""
    name = load_outside(write())
    found: Any = methods.load(name)
    assert found.__name__ == "swift_debias.methods.shrunk"
    assert found.Settings(factor=0.25).factor == 0.25
    assert grid(name, 2) == {"factor": (0.25, 0.5)}
    assert name not in methods.available()


def test_the_example_of_the_guide_is_a_method(write: Callable[..., Path]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/bring_your_method.md"
    (block,) = [b for b in blocks(page, "python") if b.title == "my_method.py"]
    name = load_outside(write(block.text, block.title))
    found = grid(name, 6)
    assert found is not None
    assert len(found["factor"]) == 6


EDITS = [
    ("helper_of_shrunk.py", "A = 1", "A = 2", True),
    ("package_of_shrunk/deep.py", "B = 1", "B = 2", True),
    ("package_of_shrunk/unused.py", "C = 1", "C = 2", False),
    ("helper_of_shrunk.py", "# one", "# other", False),
]


@pytest.mark.parametrize(("file", "old", "new", "changes"), EDITS)
def test_a_method_is_known_by_the_code_that_it_imports_too(
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    old: str,
    new: str,
    changes: bool,
) -> None:
    """As a new process finds it; beside the file or elsewhere that Python looks."""
    (tmp_path / "package_of_shrunk").mkdir()
    write("A = 1  # one\nfrom package_of_shrunk.deep import B\n", "helper_of_shrunk.py")
    write("B = 1\n", "package_of_shrunk/deep.py")
    write("C = 1\n", "package_of_shrunk/unused.py")
    lazily = "        import torch\n\n        from helper_of_shrunk import A\n"
    write(METHOD.replace("        import torch\n", lazily))
    monkeypatch.syspath_prepend(tmp_path)

    def identity() -> str:
        for cached in (code_id.code_id, code_id.file_id, code_id._parse, code_id._kept):
            cached.cache_clear()
        module = "swift_debias.methods.shrunk"
        folders = code_id.local_folders()
        assert tmp_path in folders and not any("site-packages" in f.parts for f in folders)
        return code_id.file_id(tmp_path / "shrunk.py", SCRIPTS, module, *folders)

    before = identity()
    assert identity() == before
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    assert (identity() != before) == changes


@pytest.mark.parametrize(("old", "new"), [("0.5, gt", "0.6, gt"), ("mul_", "div_")])
def test_a_result_is_not_taken_for_that_of_another_text(
    write: Callable[..., Path], old: str, new: str
) -> None:
    found = []
    for text in (METHOD, METHOD.replace(old, new)):
        code_id.file_id.cache_clear()
        found.append(code_id.file_id(write(text), SCRIPTS, "swift_debias.methods.shrunk"))
    assert found[0] != found[1]
