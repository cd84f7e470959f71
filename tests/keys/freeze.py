"""Take a key's effect away: whatever a configuration says, the key reads as its default.

A plugin of pytest: `python -m pytest -p tests.keys.freeze --freeze finetuning.lr_head ...`. A test
that asserts the key's effect fails then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.keys import walk

from swift_debias.config import load

# Without a value of their own these are refused, as if they were required.
ONE_OF = ("attribute.groups", "attribute.cuts", "attribute.names")


def freeze(key: str) -> None:
    """Let every object of the key's model, there already or to come, read the default.

    Keys without a default stay at the first value that is read: a test has to use two.
    """
    if key == "method.like":  # resolved in the YAML's own mappings, before there are models
        load._inherit = _unlike
        return
    model, name = walk.keys()[key]
    field = model.model_fields[name]
    first: list[Any] = []

    def read(self: Any) -> Any:
        own = self.__dict__[name]
        if not field.is_required() and key not in ONE_OF:
            return field.get_default(call_default_factory=True)
        if own is None:
            return None
        first.append(own)
        return first[0]

    dump = model.model_dump

    def write(self: Any, **options: Any) -> dict[str, Any]:
        """What is written out for a job reads as the default too."""
        values = dump(self, **options)
        return values | {name: getattr(self, name)} if name in values else values

    # pydantic keeps values in __dict__, and a property of the class goes before
    setattr(model, name, property(read))
    model.model_dump = write


def _unlike(methods: Mapping[str, Any]) -> dict[str, Any]:
    """The methods as they are written, whatever other they are like."""
    return {
        name: {key: value for key, value in entry.items() if key != "like"}
        for name, entry in methods.items()
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption("--freeze", metavar="KEY", help="let this key read as its default")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected."""
    if key := config.getoption("--freeze"):
        freeze(key)
