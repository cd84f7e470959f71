"""Identity of the code a job runs.

Snakemake watches a rule's script, by its time stamp, and none of the modules that it imports. So
every rule has a param `code`: a hash over its script and every local module that it imports,
however deep. The syntax trees are hashed without docstrings, so that a comment, a docstring or a
fresh checkout reruns nothing; and in a form of their own, since that of `ast.dump` changes with the
version of Python.

The models and the reading of the settings are left out: a job gets its slice of the settings as
params, defaults included, so a key that is added for one rule must not rerun all others. So is the
package's `__init__.py`, which holds the version and computes nothing.

To parse two hundred modules takes a second. What was found is kept beside Python's own compiled
code, in `__pycache__`, under the content of each module; without the file it is found anew.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, write_json

KEPT = Path("__pycache__", "code_id.json")  # in a folder of scripts
MOST = 2000  # modules that are kept: edited ones add up
LEFT_OUT = (
    "swift_debias/__init__.py",
    "swift_debias/config/base.py",
    "swift_debias/config/load.py",
    "swift_debias/config/schema.py",
    "swift_debias/config/sections",
    "swift_debias/config/strict_yaml.py",
    "swift_debias/errors.py",
)


@functools.cache
def code_id(scripts: Path, script: str, *modules: str) -> str:
    """A 16-digit hash of a script and all local code that it runs.

    Args:
        scripts: the folder of the scripts, in which local packages lie too.
        script: file name of the script.
        modules: dotted names of modules that the script loads by name, e.g. a method's.
    """
    todo = [scripts / script, *(_file(scripts, module) for module in modules)]
    seen = _reached(scripts, todo)
    lines = [f"{path.relative_to(scripts)} {digest}" for path, digest in sorted(seen.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _reached(scripts: Path, todo: list[Path | None]) -> dict[Path, str]:
    """Files and all local code that they import, however deep -> hash."""
    left_out = {scripts / name for name in LEFT_OUT}  # files, and all that lies in a folder
    seen: dict[Path, str] = {}
    kept_before = len(_kept(scripts))
    while todo:
        path = todo.pop()
        if path is None or path in seen or {path, path.parent} & left_out:
            continue
        digest, imports = _parse(path, scripts)
        seen[path] = digest
        todo += [_file(scripts, name) for name in imports]
    if len(_kept(scripts)) > kept_before:
        _keep(scripts)
    return seen


@functools.cache
def module_id(architecture: str, *folders: Path) -> str:
    """A hash of the user's module in `package.module:function`; empty where there is none.

    Args:
        architecture: as the config names it.
        folders: where Python looks for modules, in order.
    """
    module, colon, _ = architecture.partition(":")
    if not colon:
        return ""
    for folder in folders:
        file = _file(folder, module)
        if file is None:
            continue
        try:
            if "site-packages" in folder.parts:  # installed: what it imports is not the user's own
                return _parse(file, folder)[0][:16]
            return code_id(folder, str(file.relative_to(folder)))
        except (OSError, ValueError, SyntaxError):  # told by whoever imports it
            return "cannot be read"
    return "not found"


def own_module_id(architecture: str) -> str:
    """`module_id` of where Python looks now."""
    return module_id(architecture, *_folders_now())


def own_module_files(architecture: str) -> list[tuple[Path, Path]]:
    """The files that `own_module_id` hashes: (folder, file below it); none of what is installed."""
    module, colon, _ = architecture.partition(":")
    for folder in _folders_now() if colon else ():
        file = _file(folder, module)
        if file is None:
            continue
        if "site-packages" in folder.parts:
            return []
        try:
            found = _reached(folder, [file])
        except (OSError, ValueError, SyntaxError):  # told by whoever imports it
            found = {file: ""}
        return [(folder, path.relative_to(folder)) for path in sorted(found)]
    return []


def _folders_now() -> list[Path]:
    """Where Python looks for modules, in order."""
    return [Path(name or ".").resolve() for name in sys.path]


@functools.cache
def file_id(file: Path, scripts: Path, module: str, *folders: Path) -> str:
    """A hash of a file outside the scripts, and of the local code that it imports, however deep.

    Args:
        file: of a user's.
        scripts: the folder of the scripts.
        module: the name of it that it runs under, from which its imports with dots are meant.
        folders: where Python looks for modules, in order.
    """
    tree = ast.parse(file.read_bytes())
    found = [hashlib.sha256(_form(tree).encode()).hexdigest()]
    for name in dict.fromkeys(_imports(tree, tuple(module.split(".")))):
        found.append(f"{name} {_imported_id(name, scripts, *folders)}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def local_folders() -> list[Path]:
    """Where Python looks for modules that are neither its own nor installed."""
    known = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    folders = [Path(folder or Path.cwd()) for folder in sys.path]
    installed = {"site-packages", "dist-packages"}
    return [
        folder
        for folder in folders
        if folder.is_dir()
        and not any(folder == one or one in folder.parents for one in known)
        and not installed & set(folder.parts)
    ]


def _imported_id(module: str, *folders: Path) -> str:
    """A hash of a module and what it imports; empty where it is not in these folders."""
    for folder in folders:
        if (file := _file(folder, module)) is not None:
            try:
                return code_id(folder, str(file.relative_to(folder)))
            except (OSError, ValueError, SyntaxError):  # told by whoever imports it
                return "cannot be read"
    return ""


@functools.cache
def _file(scripts: Path, module: str) -> Path | None:
    """The file of a local module, or None if it is not local."""
    base = os.path.join(scripts, *module.split("."))  # noqa: PTH118 (ten thousand times a start)
    for candidate in (f"{base}.py", os.path.join(base, "__init__.py")):  # noqa: PTH118
        if os.path.isfile(candidate):  # noqa: PTH113
            return Path(candidate)
    return None


@functools.cache
def _parse(path: Path, scripts: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a file's syntax tree, and the modules it imports."""
    name, content = path.relative_to(scripts), path.read_bytes()
    kept, known_as = _kept(scripts), hashlib.sha256(f"{_self()} {name}\n".encode() + content)
    key = known_as.hexdigest()
    if key not in kept:
        tree = ast.parse(content)
        imports = list(_imports(tree, name.with_suffix("").parts))
        kept[key] = [hashlib.sha256(_form(tree).encode()).hexdigest(), imports]
    digest, imports = kept[key]
    return digest, tuple(imports)


@functools.cache
def _self() -> str:
    """A hash of this module: another one may find something else in the same file."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


@functools.cache
def _kept(scripts: Path) -> dict[str, Any]:
    """What was found in this folder before: a hash of name and content -> (digest, imports)."""
    with contextlib.suppress(UserError, OSError, ValueError, KeyError):
        kept = read_json(scripts / KEPT)
        return kept if len(kept) <= MOST else {}
    return {}


def _keep(scripts: Path) -> None:
    """Keep what was found for the next process."""
    with contextlib.suppress(UserError, OSError):  # a folder of somebody else's
        (scripts / KEPT).parent.mkdir(exist_ok=True)
        write_json(scripts / KEPT, _kept(scripts))


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _form(value: object) -> str:
    """A syntax tree as text that is the same in every version of Python that can parse it.

    Without docstrings. Fields that are empty are left out, since a new version brings new ones, and
    what says nothing of what runs: whether a name is read or written shows in its place.
    """
    if isinstance(value, list):
        return f"[{','.join(map(_form, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.JoinedStr):  # Python 3.12 has empty parts in f-strings
        parts = [part for part in value.values if getattr(part, "value", None) != ""]
        value = ast.JoinedStr(values=parts)
    said = []
    for name in value._fields:
        held = getattr(value, name, None)
        if held is None or held == [] or name in ("ctx", "kind", "type_comment"):
            continue
        if name == "body" and isinstance(value, _DOCUMENTED) and _is_text(held[0]):
            held = held[1:] or [ast.Pass()]
        said.append(f"{name}={_form(held)}")
    return f"{type(value).__name__}({','.join(said)})"


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a text alone, as a docstring is."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.Module, parts: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of everything imported for running; what only type checkers see is left out."""
    package = parts[:-1]
    for node in _runtime_statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _runtime_statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, however deep, but those under `if TYPE_CHECKING:`."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            held = getattr(node, name, [])
            todo += held if isinstance(held, list) else []
