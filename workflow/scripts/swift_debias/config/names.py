"""Names: keys that become file names, wildcards of the rules and words of a shell command.

One type for all of them. A name holds letters, digits, `_`, `-`, `.` and `+`, so it has no meaning
for a shell, a path, a glob or Snakemake; the rules escape the `.` and `+` that a regular expression
would read. What people read, a title, is free text and has its own key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator

from .base import as_text, shown

LONGEST = 64  # characters; a path of five names and a temporary file's ending stay below 255 bytes
DRAWN = "raw/{dataset}"  # in the run's folder: a data set that is drawn
_NAME = re.compile(r"\w[\w.+-]*")
# Devices on Windows, where results may be copied to: no file can be called so there.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_ADVICE = "letters, digits and _ - . + make a name; what tables print goes to `title:`"


def check_name(name: str) -> str:
    """A name, in composed Unicode.

    Raises:
        ValueError: it is none; says which character or word is the matter, and what to do.
    """
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise ValueError(f"a name is empty; {_ADVICE}")
    if not _NAME.fullmatch(name):
        wrong = name[0] if not re.match(r"\w", name) else re.sub(r"[\w.+-]", "", name)[0]
        where = "begin with" if wrong == name[0] else "hold"
        raise ValueError(f"{shown(name)} is no name: it may not {where} {wrong!r}; {_ADVICE}")
    if ".." in name or name.endswith("."):
        raise ValueError(f"{shown(name)} is no name: no '..' and no '.' at its end; {_ADVICE}")
    if len(name) > LONGEST or len(name.encode()) > 2 * LONGEST:
        raise ValueError(f"{shown(name)} is no name: longer than {LONGEST} letters; {_ADVICE}")
    if _DEVICES.fullmatch(name):
        raise ValueError(f"{shown(name)} is no name: Windows has a device of that name")
    return name


def as_name(value: Any) -> Any:
    """An integer as the text that it is in a path.

    Raises:
        ValueError: another number, of which YAML has not kept how it was written: 1.10 is 1.1.
    """
    if isinstance(value, float):
        raise ValueError(f"YAML reads {value} as a number and drops zeros; put it in quotes")
    return as_text(value)


def _distinct(entries: Any) -> Any:
    """Refuse names that are one file where letter case does not count, as on macOS and Windows."""
    if isinstance(entries, Mapping):
        seen: dict[str, Any] = {}
        for key in entries:
            folded = unicodedata.normalize("NFC", str(key)).casefold()
            if folded in seen:
                raise ValueError(f"{shown(seen[folded])} and {shown(key)} differ by case at most")
            seen[folded] = key
    return entries


T = TypeVar("T")
Name: TypeAlias = Annotated[str, BeforeValidator(as_name), AfterValidator(check_name)]
# A mapping of names to what is called so: methods, tasks, data sets ...
Named: TypeAlias = Annotated[dict[Name, T], BeforeValidator(_distinct)]
