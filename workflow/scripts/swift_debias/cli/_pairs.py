"""Settings on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError


def read_pairs(pairs: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`KEY=VALUE` pairs, values as in YAML.

    Args:
        pairs: as they were given.
        option: that they were given to.

    Raises:
        UserError: one is no such pair, or its value is not YAML.
    """
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{option} needs KEY=VALUE, not {pair!r}")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            said = getattr(error, "problem", None) or "it cannot be read"
            raise UserError(f"{option} {pair}: the value is not YAML: {said}; quote it") from error
        settings[key] = tuple(read) if isinstance(read, list) else read
    return settings
