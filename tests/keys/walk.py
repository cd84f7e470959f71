"""All keys of the configuration, and the tests that say they assert a key's effect.

A key is named by its model and its field: `finetuning.lr_head`, `swift.mask`; those of the top
level by the field alone. Tests say `@pytest.mark.key("finetuning.lr_head")`: they move the key to
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
from swift_debias.config.document import SECTIONS

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
def keys() -> dict[str, Key]:
    """Name -> key, of every settings model and of every method's settings.

    Keys that only hold other models are not among them: their keys are. What a data set's settings
    inherit belongs to `Dataset`; what a method's inherit belongs to each method, since each reads
    it by itself.
    """
    models = {_snake(model.__name__): model for _, model in SECTIONS} | methods.settings_models()
    found = {}
    for name, model in models.items():
        inherited = schema.Dataset.model_fields if model is not schema.Dataset else {}
        prefix = "" if model is schema.Settings else f"{name}."
        for field, info in model.model_fields.items():
            if not _holds_models(info.annotation) and not (
                issubclass(model, schema.Dataset) and field in inherited
            ):
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


def _holds_models(annotation: Any) -> bool:
    """Whether a type is a settings model, or a container of nothing but such."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _holds_models(arguments[0])
    if origin is dict:
        return _holds_models(arguments[1])
    if origin is tuple:
        return _holds_models(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_holds_models, arguments))
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _snake(name: str) -> str:
    """`MimicCxr` -> `mimic_cxr`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
