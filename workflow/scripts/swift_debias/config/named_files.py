"""Files and modules that a configuration names, looked for before any old result can be used.

A key that names one says so by its type (`base.File`, `base.Module`), and one walk over the
settings finds them all. Snakemake alone would not notice a missing one: where the results that were
made of it are there, nothing is to be done, and the report shows another classifier than was asked
for.

Folders of data sets are not looked for here (`data/check.py` does), nor is what lies in one that is
not there: a run goes on without them once what is made of them is there. Nothing is imported: a
user's module is found and its source is parsed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import typing
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..errors import nearest
from . import plan
from .base import File, Module, place, shown
from .schema import Settings

# Section -> the wildcard that an entry's name is the value of.
_WILDCARDS = {"tasks": "task", "backbones": "backbone", "attributes": "attribute"}


class Named(NamedTuple):
    """A key that names a file or a module."""

    path: tuple[str, ...]
    model: BaseModel
    mark: File | Module
    value: str


def problems(settings: Settings, folder: Path) -> Iterator[str]:
    """A line for each key whose file or module is not there.

    Args:
        settings: the configuration.
        folder: in which the workflow runs.
    """
    for named in walk(settings):
        if isinstance(named.mark, Module):
            library, colon, _ = named.value.partition(":")
            own = colon and library not in named.mark.libraries
            if own and (problem := missing_function(named.value)):
                yield f"{place(*named.path)}: {problem}"
            elif own and (
                problem := unknown_argument(named.value, getattr(named.model, "options", {}))
            ):
                yield f"{place(*named.path[:-1])}.options: {problem}"
            continue
        below = folder
        owner = settings.datasets.get(named.path[1]) if named.path[0] == "datasets" else None
        if owner is not None:
            root = folder / owner.root
            if not root.is_dir():
                continue
            below = root if named.mark.below else folder
        missing = [
            (path, problem)
            for path in _filled_in(named, settings)
            if (problem := unusable(below / path))
        ]
        if missing:
            path, problem = missing[0]
            file = below / path
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            yield f"{place(*named.path)}: {problem}: {file}{more}{_nearest_file(file)}"


def walk(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[Named]:
    """Every key that is marked as a file or a module and has a value, at any depth."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        mark = next(_marks(field), None)
        for key, held in _held(value):
            here = (*path, name, *key)
            if isinstance(held, BaseModel):
                yield from walk(held, here)
            elif isinstance(held, str) and mark and held not in getattr(mark, "words", ()):
                yield Named(here, model, mark, held)


def _held(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What a value holds, each with its key or index; itself where it is no container."""
    if isinstance(value, Mapping):
        yield from (((str(key),), held) for key, held in value.items())
    elif isinstance(value, tuple):
        yield from (((str(index),), held) for index, held in enumerate(value))
    else:
        yield (), value


def _marks(field: FieldInfo) -> Iterator[File | Module]:
    """The marks in a field's type, wherever in it they stand."""
    types = [field.annotation, *field.metadata]
    while types:
        found = types.pop()
        if isinstance(found, File | Module):
            yield found
        types += [*typing.get_args(found), *getattr(found, "__metadata__", ())]


def _filled_in(named: Named, settings: Settings) -> Iterator[str]:
    """The paths that a pattern stands for: those of the plan, each once, in order."""
    assert isinstance(named.mark, File)
    if not named.mark.placeholders:
        yield named.value
        return
    setups = plan.setups(settings)
    own = {_WILDCARDS[named.path[0]]: named.path[1]} if named.path[0] in _WILDCARDS else {}
    jobs = [dict(zip(("task", "backbone", "attribute"), setup, strict=True)) for setup in setups]
    jobs = [job for job in jobs if own.items() <= job.items()]
    # what no experiment uses is looked for too, for whatever it could be used
    jobs = jobs or [{"backbone": "", **own, "task": task} for task in settings.tasks]
    paths = (
        named.value.format(**{**job, "fold": fold})
        for job in jobs
        for fold in range(settings.folds)
    )
    yield from dict.fromkeys(paths)


def unusable(path: Path) -> str:
    """Why a file cannot be read, or ''."""
    try:
        if path.is_dir():
            return "is a folder, not a file"
        if not path.exists():
            return "broken link" if path.is_symlink() else "no such file"
        if not path.is_file():
            return "is no plain file"
        if not os.access(path, os.R_OK):
            return "may not be read"
        return ""  # what is in it is said by the job that reads it
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _nearest_file(path: Path) -> str:
    """What lies in the folder instead."""
    try:
        present = sorted(entry.name for entry in os.scandir(path.parent))
    except OSError:
        return "; there is no such folder"
    if path.name in present or len(present) > 1000:  # a folder of images: its names say nothing
        return ""
    return nearest(path.name, present[:20] if len(present) > 20 else present)


def missing_function(name: str) -> str:
    """Why `package.module:function` cannot be imported, or ''; nothing of it is run."""
    module, _, function = name.partition(":")
    if not all(map(str.isidentifier, (*module.split("."), function))):
        return f"{shown(name)} is not of the form package.module:function"
    importlib.invalidate_caches()  # a file written a moment ago counts
    spec, where = None, None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:end]), where)
        if spec is None:
            return (
                f"no module {'.'.join(parts[:end])!r}; put it beside the configuration, or the "
                "folder that it lies in on PYTHONPATH"
            )
        where = spec.submodule_search_locations
    return _missing_in(spec, function) if spec else ""


def _find(name: str, where: Any) -> ModuleSpec | None:
    """The module's spec, as the import system finds it, without importing its package."""
    for finder in sys.meta_path:
        found = finder.find_spec(name, where)
        if found is not None:
            return found
    return None


def _missing_in(spec: ModuleSpec, function: str) -> str:
    """Why a module's source does not make a function known, or ''."""
    read = getattr(spec.loader, "get_source", None)
    try:
        source = read(spec.name) if read else None
        body = ast.parse(source).body if source is not None else []
    except (SyntaxError, ValueError, ImportError) as error:
        return f"module {spec.name!r} is no Python: {' '.join(str(error).split())}"
    if source is None:  # compiled, or a package of folders
        return "" if read else f"no function {function!r} in the folder {spec.name!r}"
    names = set(_bound(body))
    if function in names or names & {"*", "__getattr__"}:
        return ""
    return f"no function {function!r} in {spec.origin}{nearest(function, sorted(names))}"


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements of a module bind; '*' where that cannot be said."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]


def unknown_argument(name: str, options: Mapping[str, Any]) -> str:
    """Why a function of a module that is there does not take these options, or ''.

    Only what the source says for sure: a plain `def` of the module without `**`.
    """
    module, _, function = name.partition(":")
    try:
        spec = importlib.util.find_spec(module) if "." not in module else None
        read = getattr(spec.loader, "get_source", None) if spec else None
        body = ast.parse((read(module) if read else None) or "").body
    except (SyntaxError, ValueError, ImportError, AttributeError):
        return ""  # told by `missing_function`
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == function and not node.args.kwarg:
            taken = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            wrong = [option for option in options if option not in taken]
            if wrong and not node.decorator_list:
                return f"{name} does not take {shown(wrong[0])}{nearest(wrong[0], taken)}"
    return ""
