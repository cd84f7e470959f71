"""YAML as people mean it: what YAML would read as something else in silence is refused.

YAML 1.1 keeps the last of two equal keys, and reads `NO` as false, `010` as 8, `12:30` as 750 and
`2020-01-01` as a date. In labels and names each of these is a wrong value that nobody sees. So two
equal keys are refused with both lines, `true` and `false` are the only truth values, and the others
are refused with the advice to put them in quotes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError

DEEPEST = 50  # levels; the paper's configuration has seven
LARGEST = 100_000  # values; the paper's configuration has two thousand
_BOOL, _INT, _FLOAT, _DATE = (
    f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")
)
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)$")


class _Loader(yaml.SafeLoader):
    """Safe YAML with the refusals of this module."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            value = self.construct_object(key, deep=True)
            line = key.start_mark.line + 1
            if not isinstance(value, Hashable):
                raise _RefusedError(f"line {line}: a list or mapping is no key")
            if value in lines:
                both = f"line {lines[value]} and in line {line}"
                raise _RefusedError(f"the key {value!r} stands in {both}")
            lines[value] = line
        return super().construct_mapping(node, deep)


class _RefusedError(Exception):
    """What is wrong, without the name of the file."""


def _plain(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A scalar without quotes that YAML takes for a truth value, a number or a date."""
    text, line = node.value, node.start_mark.line + 1
    strange = {
        _BOOL: text not in ("true", "false", "True", "False"),
        _INT: not _DECIMAL.match(text),
        _FLOAT: ":" in text,
        _DATE: True,
    }
    if strange[node.tag]:
        kind = {_BOOL: "a truth value", _DATE: "a date"}.get(node.tag, "a number of another base")
        raise _RefusedError(
            f"line {line}: YAML reads {text} as {kind}; put it in quotes"
            + (", or write true or false" if node.tag == _BOOL else "")
        )
    construct = yaml.SafeLoader.yaml_constructors[node.tag]
    return construct(loader, node)


for _tag in (_BOOL, _INT, _FLOAT, _DATE):
    _Loader.add_constructor(_tag, _plain)


def read(path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        UserError: names the file, the line and what to do.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except _RefusedError as error:
        raise UserError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested deeper than {DEEPEST} levels") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, an impossible date
        detail = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML: {detail}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: a configuration is a mapping of keys to values")
    bounded(found, str(path))
    return found


def bounded(config: Any, name: str) -> None:
    """Refuse what is deeper or, with its aliases written out, larger than any configuration is.

    A few lines of aliases of aliases stand for more values than memory holds, and an alias of
    itself for endlessly many; Python reads both without a word.
    """
    entries: list[tuple[Any, int]] = [(config, 1)]
    for count in itertools.count():
        if not entries:
            return
        if count > LARGEST:
            raise UserError(
                f"{name}: holds more than {LARGEST:,} values once its aliases (*) are written out"
            )
        value, depth = entries.pop()
        if depth > DEEPEST:
            raise UserError(f"{name}: nested deeper than {DEEPEST} levels, or an alias of itself")
        if isinstance(value, Mapping):
            entries += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list | tuple | set):
            entries += [(inner, depth + 1) for inner in value]
