"""What every settings model shares: strictness, and messages that name the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)

from ..errors import nearest


def _as_text(value: Any) -> Any:
    """A number as the text that it is in a table; a truth value is no text."""
    if isinstance(value, bool):
        raise ValueError("is a truth value in YAML; put it in quotes")
    return str(value) if isinstance(value, int | float) else value


# A value of a table: 1 and "1" are the same there, and people write either.
Text: TypeAlias = Annotated[str, BeforeValidator(_as_text)]


def _expanded(path: str) -> str:
    """A path with `~` and `$NAME` replaced, as a shell would."""
    found = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111
    unset = re.search(r"\$\{?[A-Za-z_]\w*\}?", found)
    if unset:
        raise ValueError(f"the environment variable {unset[0]} is not set")
    if found.startswith("~"):
        raise ValueError(f"there is no home folder {found.split('/')[0]}")
    return found


# A file or folder outside of the project: ~ is the home folder, $NAME an environment variable.
Place: TypeAlias = Annotated[str, AfterValidator(_expanded)]


class Model(BaseModel):
    """Strict base of every settings model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """Name the nearest valid key, which pydantic's own message does not."""
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}{nearest(key, cls.model_fields)}")
        return data


def explain(error: ValidationError, prefix: str = "") -> str:
    """A line a problem: path of the key, what is wrong, what was given."""
    lines = []
    for problem in error.errors():
        path = prefix + ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        given = problem["input"]
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        separator = ": " if path.rstrip(".") else ""
        lines.append(f"{path.rstrip('.')}{separator}{message}{shown}")
    return "\n".join(lines)
