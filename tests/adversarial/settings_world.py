"""A small valid configuration in which every section occurs, and every one of its keys by type."""

from __future__ import annotations

import copy
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tests.keys.conftest import configuration

from swift_debias import methods
from swift_debias.config import load, schema
from swift_debias.config.base import Model
from swift_debias.data import adapters
from swift_debias.errors import UserError
from swift_debias.evaluation import metrics
from swift_debias.learning import architectures
from swift_debias.report import figures

PROJECT = Path(__file__).resolve().parents[2]
LONGEST = 600  # characters of a line that a person reads
KNOWN: dict[str, Any] = {
    "algorithms": methods.settings_models(),
    "adapters": adapters.options_models(),
    "networks": architectures.available(),
    "drawings": figures.all_facts(),
    "metrics": metrics.catalogue(),
    "of_disease": metrics.OF_DISEASE,
    "undirected": metrics.undirected(),
}


def valid() -> dict[str, Any]:
    """A data set of each adapter, a method of each algorithm, a table and a figure."""
    config = configuration()
    for adapter in KNOWN["adapters"]:
        if adapter != "table":
            config["datasets"][adapter] = {"adapter": adapter}
    for algorithm in KNOWN["algorithms"]:
        config["methods"].setdefault(algorithm, {"algorithm": algorithm})
    config["duplicates"] = {"radius": 20}
    config["synthetic"] = {"images": {"isic2019": 40}}
    for entry in config["datasets"].values():
        entry.pop("root", None)  # the run's own, since it is drawn
    config["tasks"]["skin"]["augmentation"] = {"flips": True}
    panel = config["experiments"]["table1"]["panels"][0]
    config["experiments"]["figure1"] = {
        "kind": "figure",
        "plot": "pareto",
        "title": "First figure",
        "methods": ["baseline", "fullft"],
        "panels": [panel | {"datasets": ["east"], "methods": ["baseline", "llft"]}],
        "options": {"axes": ["auc", "spd"]},
    }
    return config


def undrawn(config: dict[str, Any]) -> dict[str, Any]:
    """The same of folders that are there, data/<name>."""
    datasets = {name: {"root": f"data/{name}", **e} for name, e in config["datasets"].items()}
    return {k: v for k, v in config.items() if k != "synthetic"} | {"datasets": datasets}


class Leaf(NamedTuple):
    """A key that holds no other keys: where it stands, and its type."""

    path: tuple[str | int, ...]
    model: type[BaseModel]
    field: FieldInfo

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))

    def kinds(self) -> set[type]:
        """The plain types that a value of it may have, containers opened."""
        found, todo = set(), [self.field.annotation]
        while todo:
            one = todo.pop()
            if typing.get_origin(one) is typing.Literal:
                found |= {type(value) for value in typing.get_args(one)}
            elif typing.get_origin(one) is dict:
                todo.append(typing.get_args(one)[1])
            elif inner := typing.get_args(one):
                todo += inner
            elif isinstance(one, type) and one is not types.NoneType:
                found.add(one)
        return found

    def is_container(self) -> bool:
        """Whether it is a list or a mapping."""
        return any(
            typing.get_origin(one) in (tuple, dict)
            for one in (self.field.annotation, *typing.get_args(self.field.annotation))
        )


def leaves(config: dict[str, Any]) -> Iterator[Leaf]:
    """Every key of every model that occurs in a configuration, set there or not."""
    todo: list[tuple[tuple[str | int, ...], type[BaseModel], Any]] = [((), schema.Settings, config)]
    while todo:
        path, model, raw = todo.pop()
        if issubclass(model, schema.Dataset):
            model = KNOWN["adapters"][raw["adapter"]]
        fields = [(model, name, field) for name, field in model.model_fields.items()]
        if model is schema.Method:
            own = KNOWN["algorithms"][raw["algorithm"]]
            fields += [(own, name, field) for name, field in own.model_fields.items()]
        for owner, name, field in fields:
            held = _model_in(field.annotation)
            here = (*path, name)
            if held is None:
                yield Leaf(here, owner, field)
            elif isinstance(value := raw.get(name), dict) and not _is_mapping(field.annotation):
                todo.append((here, held, value))
            elif isinstance(value, dict):
                todo += [((*here, key), held, inner) for key, inner in value.items()]
            elif isinstance(value, list):
                todo += [((*here, index), held, inner) for index, inner in enumerate(value)]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)


def _is_mapping(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict


def put(config: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a place."""
    changed = copy.deepcopy(config)
    node: Any = changed
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed


def look(settings: schema.Settings, path: tuple[str | int, ...]) -> Any:
    """What the settings hold at a place; an algorithm's own keys with their types."""
    node: Any = settings
    for part in path[:-1]:
        node = getattr(node, str(part)) if isinstance(node, Model) else node[part]
    if isinstance(node, schema.Method) and path[-1] not in schema.Method.model_fields:
        node = KNOWN["algorithms"][node.algorithm].model_validate(node.settings)
    return getattr(node, str(path[-1])) if isinstance(node, BaseModel) else node[path[-1]]


def read(config: Any, folder: Path | None = None) -> schema.Settings | str:
    """The settings, or the message with which they are refused; anything else is raised."""
    try:
        return load.load(config, PROJECT, folder=folder, **KNOWN)
    except UserError as error:
        return str(error)


def assert_one_line_each(message: str, *places: str) -> None:
    """A person can read it: short lines without control characters, and one names the place."""
    lines = message.removeprefix("the configuration is not valid:\n").split("\n")
    assert all(0 < len(line) <= LONGEST for line in lines), message[:2000]
    assert len(lines) <= 12, message[:2000]
    assert all(character.isprintable() for line in lines for character in line), repr(message)
    assert "Traceback" not in message
    assert any(place in message for place in places), f"{places} not named in: {message}"


def same(found: Any, written: Any) -> bool:
    """Whether a value was taken as it was written: 1 for 1.0 and "1" for 1 are the same."""
    if isinstance(written, set):
        return sorted(map(str, found)) == sorted(map(str, written))
    if isinstance(found, tuple) and isinstance(written, str | bytes | int | float):
        return len(found) == 1 and same(found[0], written)  # one value, where a list may stand
    if isinstance(written, list | tuple):
        return len(found) == len(written) and all(map(same, found, written))
    if isinstance(written, dict):
        return len(found) == len(written) and all(map(same, found.values(), written.values()))
    if isinstance(written, bytes):  # YAML's !!binary
        written = written.decode()
    if isinstance(written, bool) or written is None:
        return found is written
    if isinstance(found, bool):
        return False
    if isinstance(found, int | float):
        return math.isfinite(found) and found == float(written)
    return str(found) == str(written)
