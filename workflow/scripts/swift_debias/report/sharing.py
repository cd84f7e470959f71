"""What of the settings is shown in report.html, which is made to be handed on.

A path may name a patient, a person or a hospital's machine, and so may a value that rows are chosen
by. The report has counts; paths and ids are in the configuration and in the logs, which stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "(not shown)"
# keys whose text is a path: of folders, tables and weights
PATHS = {"root", "table", "image_folder", "patients", "weights", "baseline"}
# keys whose values are those of single rows
VALUES = {"only"}
NO_PATH = {"imagenet", "pretrained"}  # words of ours in the place of a path
# anywhere else: absolute, from home, of Windows, a file of the network; no address of the web
_ABSOLUTE = re.compile(
    r"(?<![\w:/\\.~])(?:file:/*|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\|/)(?!/)[^\s'\",;:<>|]*[^\s'\",;:<>|.)]"
)


def shown(value: Any, key: str = "") -> Any:
    """Settings without paths and without values of rows, in the same form."""
    if isinstance(value, Mapping):
        if key in VALUES:
            return {name: _count(of) for name, of in value.items()}
        return {name: shown(of, str(name)) for name, of in value.items()}
    if isinstance(value, str):
        if key in PATHS and value not in NO_PATH:
            return HIDDEN
        return without_paths(value)
    if isinstance(value, Sequence):
        return [shown(of, key) for of in value]
    return value


def without_paths(text: str) -> str:
    """A text without the absolute paths in it; one that begins with a path is nothing else."""
    if _ABSOLUTE.match(text):
        return HIDDEN
    return _ABSOLUTE.sub(HIDDEN, text)


def _count(values: Any) -> str:
    n = len(values) if isinstance(values, Sequence) and not isinstance(values, str) else 1
    return f"{n} value{'s' * (n != 1)} {HIDDEN}"
