"""What every settings model shares: strictness, and messages that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    model_validator,
)

from ..errors import nearest


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
