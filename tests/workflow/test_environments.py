"""The conda environments: what conda-forge has, around the lock, and all that the scripts import.

resources/conda_forge.csv lists the names and least versions that conda-forge is known to have; no
channel is asked here. test_conda.py makes the environments from a channel of just these packages
and runs every rule in them; `make test-oldest` tests the library with their least versions.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conda_channel import Package, listed
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from swift_debias.run import code_id

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = sorted((PROJECT / "envs").glob("*.yaml"))
SCRIPTS = PROJECT / "workflow" / "scripts"
LIBRARY = SCRIPTS / "swift_debias"
LISTED = listed()
# What pandas imports when it is asked for.
PANDAS_ENGINES = {
    "read_parquet": "pyarrow",
    "to_parquet": "pyarrow",
    "read_excel": "openpyxl",
    "to_markdown": "tabulate",
}
DRAWINGS = {path for path in LIBRARY.glob("report/figures/*.py") if not path.name.startswith("_")}
# Files that load modules by name -> the modules that may be named.
BY_NAME = {
    "data/adapters/__init__.py": sorted(LIBRARY.glob("data/adapters/*.py")),
    "methods/__init__.py": sorted(LIBRARY.glob("methods/*.py")),
    "report/figures/__init__.py": sorted(DRAWINGS),
    "learning/makers.py": [],  # torchvision, optional libraries, and a user's own module
    "run/forked.py": [],  # libraries, so that jobs find them imported
    "cli/__init__.py": [],  # the commands, which no rule runs
    "data/dicom_tags.py": [],  # pydicom, an optional extra
    "swift_debias/__init__.py": [],  # the front door, for those who call the library
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


def entries(environment: str) -> tuple[list[str], list[str]]:
    """What it asks conda for, and what pip."""
    found = yaml.safe_load((PROJECT / "envs" / f"{environment}.yaml").read_text())["dependencies"]
    pip = [name for entry in found if isinstance(entry, dict) for name in entry["pip"]]
    return [entry for entry in found if isinstance(entry, str)], pip


def dependencies(environment: str) -> dict[str, SpecifierSet]:
    """Package -> the range of its versions, conda's and pip's."""
    found = [Requirement(entry) for part in entries(environment) for entry in part]
    assert len(found) == len({requirement.name for requirement in found})
    return {requirement.name: requirement.specifier for requirement in found}


def modules(environment: str) -> set[str]:
    """The modules that an environment provides; what pip installs is imported by its own name."""
    names = dependencies(environment)
    found = {LISTED[name].module if name in LISTED else name for name in names} - {""}
    return found | ({"pydantic_core"} if "pydantic" in found else set())  # its other half


def on_pypi(name: str) -> str:
    """The name of a package on PyPI; python and pip have none here."""
    return LISTED[name].pypi if name in LISTED else name


def imports(path: Path, *, called: bool, but: str = "") -> tuple[str, ...]:
    """Modules that a file imports in its functions, those of one left out, or else outside."""
    tree = ast.parse(path.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    inside = [node for node in functions if node.name != but]
    outside = [node for node in tree.body if node not in functions]
    tree.body = inside if called else outside
    return tuple(code_id._imports(tree, path.relative_to(SCRIPTS).with_suffix("").parts))


def reached(script: Path) -> dict[Path, set[str]]:
    """The script and every local file that it can import, however deep or late, and their imports.

    Of a drawing, rule figure calls `draw` and rule figure_arrays `arrays`; which_method draws
    pictures of its own with what drawings share. figure_arrays only loads what a drawing's file or
    a package imports at its top: none of its functions is called.
    """
    idle = {
        **dict.fromkeys(("figure.py", "which_method.py"), "arrays"),
        "figure_arrays.py": "draw",
    }.get(script.name, "")
    found: dict[tuple[Path, bool], set[str]] = {}
    todo = [(script, True)]  # file, and whether its functions are called
    while todo:
        path, called = todo.pop()
        if (path, called) in found:
            continue
        drawing = path in DRAWINGS
        at_once = imports(path, called=False)
        late = imports(path, called=True, but=idle if drawing else "") if called else ()
        found[path, called] = {*at_once, *late}
        loaded = idle == "draw" and (drawing or path.name == "__init__.py")
        todo += [(file, called and not loaded) for name in at_once if (file := local(name))]
        todo += [(file, True) for name in late if (file := local(name))]
        for key, files in BY_NAME.items():
            if called and loads((*at_once, *late), key):
                todo += [(file, True) for file in files if idle != "draw" or has_arrays(file)]
    return {path: names | found.get((path, True), set()) for (path, _), names in found.items()}


def local(module: str) -> Path | None:
    """The file of a module of the library."""
    return code_id._file(SCRIPTS, module)


def has_arrays(path: Path) -> bool:
    """Whether rule figure_arrays loads this file: of the drawings only those with arrays."""
    return path not in DRAWINGS or "\ndef arrays(" in path.read_text()


def loads(names: tuple[str, ...], registry: str) -> bool:
    """Whether a file with these imports can have a registry load a module.

    It has to import the registry or one of its functions; a module beside it loads nothing.
    """
    module = ".".join([LIBRARY.name, *Path(registry).parent.parts])
    beside = [name.startswith(f"{module}.") for name in (*names, "")]
    own = [name.rpartition(".")[0] == module for name in names]  # not of a module beside it
    return any(
        not after if name == module else of_it and local(name) is None
        for name, of_it, after in zip(names, own, beside[1:], strict=True)
    )


def third_party(script: Path) -> dict[str, set[str]]:
    """Top-level module from outside -> the files that import it."""
    found: dict[str, set[str]] = {}
    for path, names in reached(script).items():
        modules = {name.split(".")[0] for name in names if not local(name)}
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
def test_conda_forge_has_what_an_environment_asks_for(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert set(environment) == {"channels", "dependencies"}
    conda, pip = entries(path.stem)
    version = r"\d+(\.\d+)*"
    for entry in [*conda, *pip]:
        assert re.fullmatch(rf"[a-z_-]+ >={version},<{version}", entry), f"{entry}: name >=a,<b"
    unknown = {entry.split()[0] for entry in conda} - set(LISTED)
    assert not unknown, f"not on resources/conda_forge.csv: {unknown}"
    assert not {entry.split()[0] for entry in pip} & set(LISTED), "conda-forge has it"
    assert not pip or "pip" in dependencies(path.stem), "conda does not add pip by itself"
    assert "python" in dependencies(path.stem), "else Snakemake's own runs the script"


@pytest.mark.parametrize("package", LISTED.values(), ids=lambda package: package.name)
def test_a_range_begins_at_the_least_certain_version(package: Package) -> None:
    [wanted] = {dependencies(p.stem).get(package.name) for p in ENVIRONMENTS} - {None}
    [least] = [part.version for part in wanted if part.operator == ">="]
    assert Version(least) == Version(package.least)
    assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", package.date) and package.seen


def test_the_lock_lies_inside_the_ranges() -> None:
    pins = pip_pins()
    for path in ENVIRONMENTS:
        for name, wanted in dependencies(path.stem).items():
            if pypi := on_pypi(name):
                assert pins[pypi] in wanted, f"{path.name}: {name}{wanted}, but {pins[pypi]}"


def test_pyproject_has_the_same_ranges() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    stated = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    asked = {k: v for path in ENVIRONMENTS for k, v in dependencies(path.stem).items()}
    assert stated == {on_pypi(name): wanted for name, wanted in asked.items() if on_pypi(name)}
    allowed = SpecifierSet(project["requires-python"])
    pythons = [f"3.{minor}" for minor in range(30)]
    assert {version for version in pythons if version in asked["python"]} <= {
        version for version in pythons if version in allowed
    }


def test_one_python_that_can_import_snakemake() -> None:
    """A job unpickles its `snakemake` with Snakemake's own modules, in its environment's Python."""
    [wanted] = {dependencies(path.stem)["python"] for path in ENVIRONMENTS}
    possible = [minor for minor in (f"3.{n}" for n in range(30)) if minor in wanted]
    served = SpecifierSet(metadata("snakemake")["Requires-Python"])
    assert possible and all(minor in served for minor in possible)


@pytest.mark.parametrize("job", rules(), ids=lambda job: job.rule)
def test_the_environment_has_what_the_script_imports(job: Job) -> None:
    if job.script is None:
        assert job.rule == "copy_baseline", "a shell rule: say here what its command needs"
        return
    provided = modules(job.environment)
    missing = {k: sorted(v) for k, v in third_party(job.script).items() if k not in provided}
    assert not missing, f"envs/{job.environment}.yaml lacks what {job.rule} imports: {missing}"


@pytest.mark.ci
@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda p: p.stem)
def test_every_package_is_imported_by_some_rule(path: Path) -> None:
    scripts = {job.script for job in rules() if job.environment == path.stem and job.script}
    assert modules(path.stem) <= set().union(*(third_party(script) for script in scripts))


def test_modules_are_loaded_by_name_only_where_known() -> None:
    loading = [p for p in SCRIPTS.rglob("*.py") if "import_module(" in p.read_text()]
    assert len(loading) == len(BY_NAME), "say in BY_NAME what a new one loads"
    assert all(any(str(p).endswith(f"/{name}") for name in BY_NAME) for p in loading)


def test_every_environment_is_used() -> None:
    assert {job.environment for job in rules()} == {path.stem for path in ENVIRONMENTS}


def test_the_installed_versions_are_the_pinned_ones() -> None:
    wrong = {n: v for n, v in pip_pins().items() if version(n).split("+")[0] != v}
    assert not wrong, f"the environment differs from requirements.txt: {wrong}"
