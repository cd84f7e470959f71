"""Templates of paths, `{ImageDir}/{ImageID}.png`: which columns they are made of. Nothing heavy."""

from __future__ import annotations

import re

TEMPLATE = re.compile(r"\{([^{}]+)\}")


def columns_in(path: str) -> tuple[str, ...]:
    """The columns that a path is made of: those in braces, or the one that it names."""
    return tuple(TEMPLATE.findall(path)) or (path,)
