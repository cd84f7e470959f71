"""The conda environments: pins as in the pip lock, and all that each rule's script imports.

That conda-forge has these builds is not checked: no channel is asked. test_conda.py makes the
environments from a channel of its own and runs every rule in them.
"""

import ast
import re
import sys
from importlib.metadata import metadata, version
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conda_channel import PYPI_NAMES
from packaging.specifiers import SpecifierSet

from swift_debias.run import code_id

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = sorted((PROJECT / "envs").glob("*.yaml"))
SCRIPTS = PROJECT / "workflow" / "scripts"
LIBRARY = SCRIPTS / "swift_debias"
MODULES = {  # conda-forge -> the module it is imported as, where they differ
    "pytorch": "torch",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "faiss-cpu": "faiss",
    "great-tables": "great_tables",
}
# What pandas imports when it is asked for.
PANDAS_ENGINES = {
    "read_parquet": "pyarrow",
    "to_parquet": "pyarrow",
    "read_excel": "openpyxl",
    "to_markdown": "tabulate",
}
# Files that load modules by name -> the modules that a user may name.
BY_NAME = {
    "figure.py": [LIBRARY / "figure_images.py", LIBRARY / "figure_metrics.py"],
    "datasets/__init__.py": sorted(LIBRARY.glob("datasets/*.py")),
    "methods/__init__.py": sorted(LIBRARY.glob("methods/*.py")),
    "networks.py": [],  # torchvision, and a user's own module
}


class Job(NamedTuple):
    rule: str
    script: Path | None
    environment: str


def rules() -> list[Job]:
    """Every rule with the script it runs, if it runs one, and its environment."""
    found = []
    for path in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        for block in re.split(r"^ *rule ", path.read_text(), flags=re.M)[1:]:
            environments = re.findall(r'"\.\./\.\./envs/(\w+)\.yaml"', block)
            scripts = re.findall(r'"\.\./scripts/(\w+\.py)"', block)
            assert len(environments) == 1 and len(scripts) <= 1, f"{path.name}: {block[:40]}"
            script = SCRIPTS / scripts[0] if scripts else None
            found.append(Job(block.split(":")[0], script, environments[0]))
    return found


def dependencies(environment: str) -> dict[str, str]:
    """Package -> version."""
    entries = yaml.safe_load((PROJECT / "envs" / f"{environment}.yaml").read_text())["dependencies"]
    return dict(entry.split("=") for entry in entries)


def reached(script: Path) -> set[Path]:
    """The script and every local file that it can import, however deep or late."""
    seen: set[Path] = set()
    todo = [script]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        _, names = code_id._parse(path, SCRIPTS)
        todo += [file for name in names if (file := code_id._file(SCRIPTS, name))]
        todo += next((v for k, v in BY_NAME.items() if str(path).endswith(f"/{k}")), [])
    return seen


def third_party(script: Path) -> dict[str, set[str]]:
    """Top-level module from outside -> the files that import it."""
    found: dict[str, set[str]] = {}
    for path in reached(script):
        _, names = code_id._parse(path, SCRIPTS)
        modules = {name.split(".")[0] for name in names if not code_id._file(SCRIPTS, name)}
        modules -= {"", "__future__", *sys.stdlib_module_names, LIBRARY.name}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in PANDAS_ENGINES:
                modules.add(PANDAS_ENGINES[node.attr])
        for module in modules:
            found.setdefault(module, set()).add(path.name)
    return found


def pip_pins() -> dict[str, str]:
    rows = (PROJECT / "requirements.txt").read_text().splitlines()
    return dict(row.split("==") for row in rows if row and not row.startswith("#"))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda p: p.stem)
def test_form_and_pins(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert set(environment) == {"channels", "dependencies"}
    pins = pip_pins()
    for entry in environment["dependencies"]:
        assert isinstance(entry, str), f"{path.name}: no pip section, found {entry}"
        assert re.fullmatch(r"[a-z0-9-]+=[0-9]+(\.[0-9]+)+", entry), f"{entry}: name=version"
        name, pin = entry.split("=")
        if name != "python":
            assert pins[PYPI_NAMES.get(name, name)] == pin, entry
    names = [entry.split("=")[0] for entry in environment["dependencies"]]
    assert len(names) == len(set(names))
    assert "python" in names, "without one Snakemake runs the script with its own interpreter"


def test_one_python_that_can_import_snakemake() -> None:
    """A job unpickles its `snakemake` with Snakemake's own modules, in its environment's Python."""
    [python] = {dependencies(path.stem)["python"] for path in ENVIRONMENTS}
    assert python in SpecifierSet(metadata("snakemake")["Requires-Python"])


@pytest.mark.parametrize("job", rules(), ids=lambda job: job.rule)
def test_the_environment_has_what_the_script_imports(job: Job) -> None:
    if job.script is None:
        assert job.rule == "copy_baseline", "a shell rule: say here what its command needs"
        return
    provided = {MODULES.get(name, name) for name in dependencies(job.environment)}
    missing = {k: sorted(v) for k, v in third_party(job.script).items() if k not in provided}
    assert not missing, f"envs/{job.environment}.yaml lacks what {job.rule} imports: {missing}"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda p: p.stem)
def test_every_package_is_imported_by_some_rule(path: Path) -> None:
    scripts = {job.script for job in rules() if job.environment == path.stem and job.script}
    used = set().union(*(third_party(script) for script in scripts)) | {"python"}
    assert {MODULES.get(name, name) for name in dependencies(path.stem)} <= used


def test_modules_are_loaded_by_name_only_where_known() -> None:
    drawings = re.findall(r'\("(figure_\w+)"', (PROJECT / "workflow/rules/common.smk").read_text())
    assert set(drawings) == {path.stem for path in BY_NAME["figure.py"]}
    loading = [p for p in SCRIPTS.rglob("*.py") if "import_module(" in p.read_text()]
    assert len(loading) == len(BY_NAME), "say in BY_NAME what a new one loads"
    assert all(any(str(p).endswith(f"/{name}") for name in BY_NAME) for p in loading)


def test_every_environment_is_used() -> None:
    assert {job.environment for job in rules()} == {path.stem for path in ENVIRONMENTS}


def test_the_installed_versions_are_the_pinned_ones() -> None:
    wrong = {n: v for n, v in pip_pins().items() if version(n).split("+")[0] != v}
    assert not wrong, f"the environment differs from requirements.txt: {wrong}"
