"""All keys of the configuration, and the tests that say they assert a key's effect.

A key is named by its model and its field: `finetuning.lr_head`; those of an adapter's options and a
method's settings by the file that defines them: `ddi.target`, `swift.mask`; those of the top level
by the field alone. Tests say `@pytest.mark.key("finetuning.lr_head")`: they move the key to
another value and assert what that does to numbers, rows, pixels or text, against something
independent. The marks are read from the source, so nothing is imported; `tests.keys.frozen` proves
that they are kept.
"""

from __future__ import annotations

import ast
import functools
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from swift_debias import methods
from swift_debias.config import schema
from swift_debias.data import adapters

TESTS = Path(__file__).resolve().parents[1]

# Keys without a test that asserts their effect, and why.
EXCEPTIONS: dict[str, str] = {}


class Key(NamedTuple):
    """Where a key is defined."""

    model: type[BaseModel]
    field: str


class Mark(NamedTuple):
    """A test that asserts the effect of a key."""

    path: Path
    test: str

    def node(self) -> str:
        """What pytest calls it."""
        return f"{self.path}::{self.test}"


@functools.cache
def models() -> dict[str, type[BaseModel]]:
    """Name -> settings model: the schema's, every adapter's and method's, and what these hold."""
    found: dict[str, type[BaseModel]] = {}

    def add(name: str, model: type[BaseModel]) -> None:
        if name in found:  # held twice, or by itself
            assert found[name] is model, f"two models are called {name}"
            return
        found[name] = model
        for field in model.model_fields.values():
            for held in _held_models(field.annotation):
                add(_snake(held.__name__), held)

    add("settings", schema.Settings)
    for name, model in (adapters.options_models() | methods.settings_models()).items():
        add(name, model)
    return found


@functools.cache
def keys() -> dict[str, Key]:
    """Name -> key, of every settings model.

    Keys that only hold other models are not among them: their keys are. One that holds its own
    model is. What an adapter's options
    inherit belongs to `Dataset`; what a method's inherit belongs to each method, since each reads
    it by itself.
    """
    found = {}
    for name, model in models().items():
        inherits = issubclass(model, schema.Dataset) and model is not schema.Dataset
        inherited = schema.Dataset.model_fields if inherits else {}
        prefix = "" if model is schema.Settings else f"{name}."
        for field, info in model.model_fields.items():
            if field not in inherited and _held_models(info.annotation) in ([], [model]):
                found[prefix + field] = Key(model, field)
    return found


@functools.cache
def marks() -> dict[str, list[Mark]]:
    """Key -> the tests that are marked with it."""
    found: dict[str, list[Mark]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.key(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for key in dict.fromkeys(_marked(node)):
                    found.setdefault(key, []).append(Mark(path, node.name))
    return found


def _marked(test: ast.FunctionDef) -> Iterator[str]:
    """The keys in a test's decorators: marks of its own, and of single parameters."""
    for decorator in test.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.key":
                yield from (ast.literal_eval(argument) for argument in node.args)


def _held_models(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that a type is, may be, or is a container of."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _held_models(arguments[0])
    if origin is dict:
        return _held_models(arguments[1])
    if origin is tuple:
        return _held_models(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [model for argument in arguments for model in _held_models(argument)]
    return [annotation] if _is_model(annotation) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _snake(name: str) -> str:
    """`SkinTone` -> `skin_tone`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
