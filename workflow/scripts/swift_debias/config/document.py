"""config/README.md: every key with its type, default and meaning, from the settings models.

`python -m swift_debias.settings_document` prints it; a test fails where the file differs.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .. import methods
from . import schema

HEAD = """# Configuration

Every key of the configuration. This file is made from the settings models
(`workflow/scripts/swift_debias/settings.py`, `methods/*.py`) by `make docs`; do not edit it.

- `config.yaml`: the paper. `demo.yaml`: the same on synthetic data, laid on it by
  `extends: config/config.yaml` (mappings are merged, everything else replaces; an entry set to
  null is left out).
  `own_data.yaml`: somebody's own table of images.
- Unknown keys, wrong types and names that do not exist are refused before anything runs, with the
  path of the key and the nearest valid name.
- Marks: [paper] stated in Yan et al., MELBA 2025; [code] read in the authors' released source;
  [ours] our decision where the paper is silent.
"""

SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("Top level", schema.Settings),
    ("`datasets.<name>`", schema.Dataset),
    ("`datasets.<name>`, adapter `fitzpatrick17k`", schema.Fitzpatrick17k),
    ("`datasets.<name>`, adapter `ddi`", schema.Ddi),
    ("`datasets.<name>`, adapter `atlas`", schema.Atlas),
    ("`datasets.<name>`, adapter `mimic_cxr`", schema.MimicCxr),
    ("`datasets.<name>`, adapter `table`", schema.Table),
    ("`datasets.<name>.label`, adapter `table`", schema.LabelColumn),
    ("`datasets.<name>.attributes.<attribute>`, adapter `table`", schema.AttributeColumn),
    ("`attributes.<name>`", schema.Attribute),
    ("`duplicates`", schema.Duplicates),
    ("`skin_tone`", schema.SkinTone),
    ("`synthetic`", schema.Synthetic),
    ("`tasks.<name>`", schema.Task),
    ("`tasks.<name>.images`", schema.Images),
    ("`tasks.<name>.augmentation`", schema.Augmentation),
    ("`tasks.<name>.pretraining`", schema.Pretraining),
    ("`tasks.<name>.pretraining.optimizer`", schema.Optimizer),
    ("`tasks.<name>.finetuning`", schema.Finetuning),
    ("`backbones.<name>`", schema.Backbone),
    ("`methods.<name>`", schema.Method),
    ("`experiments.<name>`", schema.View),
    ("`experiments.<name>.panels[]`", schema.Panel),
    ("`compute`", schema.Compute),
]


def document() -> str:
    """The whole text, Markdown."""
    parts = [HEAD]
    for title, model in SECTIONS:
        parts.append(_section(title, model, _inherited(model)))
    for name, model in methods.settings_models().items():
        parts.append(_section(f"`methods.<name>`, algorithm `{name}`", model, ()))
    return "\n".join(parts)


def _inherited(model: type[BaseModel]) -> tuple[str, ...]:
    """Keys that the section of the base model has already explained."""
    if schema.Dataset in model.__bases__:
        return tuple(schema.Dataset.model_fields)
    return ()


def _section(title: str, model: type[BaseModel], without: tuple[str, ...]) -> str:
    doc = " ".join((model.__doc__ or "").split())
    fields = {name: f for name, f in model.model_fields.items() if name not in without}
    lines = [f"## {title}", "", doc, ""]
    if fields:
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(name, field) for name, field in fields.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_plain(field.get_default())}`"
    if field.default_factory is not None or isinstance(field.default, BaseModel):
        default = "see its section"
    bounds = ", ".join(_bound(m) for m in field.metadata if _bound(m))
    kind = _type(field.annotation) + (f", {bounds}" if bounds else "")
    meaning = " ".join((field.description or "").split())
    return f"| `{name}` | {kind} | {default} | {meaning.replace('|', chr(92) + '|')} |"


def _bound(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
    for attribute, sign in signs.items():
        value = getattr(constraint, attribute, None)
        if value is not None:
            return f"{sign} {value}"
    return ""


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(annotation: Any) -> str:
    """A type in a reader's words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
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


if __name__ == "__main__":
    print(document(), end="")
