"""config/README.md and config/schema.json, made from the settings models by `make docs`.

The one is every key with its type, default and meaning, for people; the other tells editors the
same.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from . import schema
from .base import MOST, File, Model
from .names import check_name

HEAD = """# Configuration

Every key of the configuration. This file is made from the settings models
(`config/sections/*.py`, `methods/*.py` and `data/adapters/*.py` in
`workflow/scripts/swift_debias`) by `make docs`; do not edit it.

- `config.yaml`: the paper. `demo.yaml`: the same on synthetic data, laid on it by
  `extends: config/config.yaml` (mappings are merged, everything else replaces, and so do the
  mappings `groups`, `classes` and `search`, whose order or number counts; an entry set to null is
  left out). With two files after `--configfile`, or `--config key=value`, Snakemake itself merges,
  and it merges these mappings too.
- `released.yaml`: the paper with what the released code does differently.
  `study_dermoscopy.yaml`: how methods fare as bias grows. `benchmark.yaml`: methods where the
  truth is known. `swift_parts.yaml`: what SWiFT's parts are worth. `ham10000_classes.yaml`: more
  than two classes. `skin_tone_rule.yaml`: three rules of skin tone.
  `own_data.yaml`: somebody's own table of images.
- Unknown keys, wrong types and names that do not exist are refused before anything runs, with the
  path of the key and the nearest valid name.
- A *name* becomes a part of file names: letters, digits and `_`, `-`, `.`, `+`, at most 64 of them;
  two names of one section may not differ by letter case alone. Titles are free text.
- A *file* is looked for before anything runs, and so is a module. Numbers are finite; `true` is no
  number. What would be ignored is refused.
- Marks: [paper] stated in Yan et al., MELBA 2025; [code] read in the released source of a method's
  authors; [ours] our decision where both are silent. A number of another method's own paper is
  marked with that paper.
"""

SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("Top level", schema.Settings),
    ("`datasets.<name>`", schema.Dataset),
    ("`datasets.<name>.part`", schema.Part),
    ("`attributes.<name>`", schema.Attribute),
    ("`duplicates`", schema.Duplicates),
    ("`selection`", schema.Selection),
    ("`skin_tone`", schema.SkinTone),
    ("`synthetic`", schema.Synthetic),
    ("`synthetic.populations.<name>`", schema.Population),
    ("`synthetic.populations.<name>.bias`", schema.Bias),
    ("`tasks.<name>`", schema.Task),
    ("`tasks.<name>.tie`", schema.Tie),
    ("`tasks.<name>.images`", schema.Images),
    ("`tasks.<name>.augmentation`", schema.Augmentation),
    ("`tasks.<name>.pretraining`", schema.Pretraining),
    ("`tasks.<name>.pretraining.optimizer`", schema.Optimizer),
    ("`tasks.<name>.pretraining.plateau`", schema.Plateau),
    ("`tasks.<name>.finetuning`", schema.Finetuning),
    ("`backbones.<name>`", schema.Backbone),
    ("`methods.<name>`", schema.Method),
    ("`experiments.<name>`", schema.Experiment),
    ("`experiments.<name>.panels[]`", schema.Panel),
    ("`compute`", schema.Compute),
    ("`report`", schema.Report),
]


def document(
    adapters: Mapping[str, type[schema.Dataset]], algorithms: Mapping[str, type[Model]]
) -> str:
    """The whole text, Markdown.

    Args:
        adapters: name of each data set adapter -> its options.
        algorithms: name of each method -> its settings.
    """
    parts = [HEAD]
    for title, model in SECTIONS:
        parts.append(_section(title, model))
        if model is schema.Dataset:
            for name, options in adapters.items():
                parts += _of_adapter(name, options)
    for name, settings in algorithms.items():
        parts.append(_section(f"`methods.<name>`, algorithm `{name}`", settings) + _grid(settings))
    return "\n".join(parts)


def _of_adapter(name: str, options: type[schema.Dataset]) -> Iterator[str]:
    """Sections of an adapter's own keys, and of the models that they hold."""
    common = tuple(schema.Dataset.model_fields)
    own = {key: field for key, field in options.model_fields.items() if key not in common}
    if not own:
        return
    yield _section(f"`datasets.<name>`, adapter `{name}`", options, common)
    for key, field in own.items():
        container: Any = typing.get_origin(field.annotation)
        of = {dict: 1, tuple: 0}.get(container)
        inner = field.annotation if of is None else typing.get_args(field.annotation)[of]
        if isinstance(inner, type) and issubclass(inner, Model):
            place = key + {dict: ".<name>", tuple: "[]"}.get(container, "")
            yield _section(f"`datasets.<name>.{place}`, adapter `{name}`", inner)


def _section(title: str, model: type[BaseModel], without: tuple[str, ...] = ()) -> str:
    doc = " ".join((model.__doc__ or "").split())
    fields = {name: f for name, f in model.model_fields.items() if name not in without}
    lines = [f"## {title}", "", doc, ""]
    if fields:
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(name, field) for name, field in fields.items()]
    return "\n".join(lines) + "\n"


def _grid(settings: type[Model]) -> str:
    """What `search: default` tries of an algorithm."""
    if not settings.grid:
        return ""
    keys = ", ".join(f"{key}: {_plain(values)}" for key, values in settings.grid.items())
    return f"\n`search: default` is `{{ {keys} }}`.\n"


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_plain(field.get_default())}`"
    if field.default_factory is not None or isinstance(field.default, BaseModel):
        default = "see its section"
    kind = _type(field.annotation, field.metadata)
    meaning = " ".join((field.description or "").split())
    return f"| `{name}` | {kind} | {default} | {meaning.replace('|', chr(92) + '|')} |"


def _bound(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
    for attribute, sign in signs.items():
        value = getattr(constraint, attribute, None)
        if value is not None and abs(value) < MOST:  # above it is what nobody means
            return f"{sign} {value}"
    return ""


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in a reader's words, with the bounds that its metadata set."""
    metadata = [m for mark in metadata for m in getattr(mark, "metadata", (mark,))]
    if any(getattr(mark, "func", None) is check_name for mark in metadata):
        return "name"
    if any(isinstance(mark, File) for mark in metadata):
        return "file"
    if any(isinstance(mark, WithJsonSchema) for mark in metadata):
        return "list of names"  # of what the settings hold there once they are read
    bounds = [_bound(m) for m in metadata if _bound(m)] if annotation is not str else []
    return ", ".join([_bare_type(annotation), *bounds])


def _bare_type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], arguments[1:])
    if origin is typing.Literal:
        return " / ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true / false"}
    return names.get(annotation, getattr(annotation, "__name__", "any").lower())


def json_schema(
    adapters: Mapping[str, type[schema.Dataset]], algorithms: Mapping[str, type[Model]]
) -> dict[str, Any]:
    """JSON Schema of a configuration file, for editors.

    A file may be laid on another, so no key is required, and an entry may be null.

    Args:
        adapters, algorithms: as in `document`.
    """
    root = _optional(schema.Settings.model_json_schema())
    definitions = root["$defs"]

    def add(name: str, model: type[BaseModel]) -> dict[str, Any]:
        made = _optional(model.model_json_schema())
        definitions.update(made.pop("$defs", {}))
        definitions[name] = made
        return made

    for name, options in adapters.items():
        add(f"dataset {name}", options)
    common = definitions["Method"]["properties"]
    for name, settings in algorithms.items():
        made = add(f"method {name}", settings)
        made["properties"] = common | made.get("properties", {})
    root["properties"]["extends"] = {
        "type": "string",
        "description": "Another file, relative to the project, on which this one is laid.",
    }
    for section in ("attributes", "tasks", "backbones", "experiments"):
        entries = root["properties"][section]
        entries["additionalProperties"] = {
            "anyOf": [entries["additionalProperties"], {"type": "null"}]
        }
    entries = root["properties"]["datasets"]
    entries["additionalProperties"] = _chosen("adapter", "dataset", adapters)
    entries = root["properties"]["methods"]
    entries["additionalProperties"] = _chosen("algorithm", "method", algorithms)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root}


def _chosen(key: str, kind: str, names: Iterable[str]) -> dict[str, Any]:
    """An entry whose keys depend on the value of one of them; null leaves the entry out."""
    names = list(names)
    return {
        "type": ["object", "null"],
        "properties": {key: {"enum": names}},
        "allOf": [
            {
                "if": {
                    "type": "object",
                    "properties": {key: {"const": name}},
                    "required": [key],
                },
                "then": {"$ref": f"#/$defs/{kind} {name}"},
            }
            for name in names
        ],
    }


def _optional(node: Any) -> Any:
    """A schema without required keys, and without the titles that pydantic makes of names."""
    if isinstance(node, list):
        return [_optional(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _optional(value)
        for key, value in node.items()
        if key != "required" and not (key == "title" and isinstance(value, str))
    }
