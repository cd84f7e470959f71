"""Settings on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError


def read_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs, values as in YAML."""
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set needs KEY=VALUE, not {pair!r}")
        read = yaml.safe_load(value)
        settings[key] = tuple(read) if isinstance(read, list) else read
    return settings
