"""What every settings model shares: strictness, types of values, messages that name the key.

A key's type says what it may hold, so a bound is decided here once for all keys of that type:
numbers are finite and truth values are none, names are safe in paths (`names.py`), and files and
modules are looked for (`named_files.py`). `tests/adversarial` walks all keys by their type.
"""

from __future__ import annotations

import os
import re
import reprlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from ..errors import nearest

MOST = 1_000_000_000  # of anything that is counted: above it a number is a slip of the keyboard


def no_truth_value(value: Any) -> Any:
    """Python takes True for 1; nobody who writes `epochs: true` means that."""
    if isinstance(value, bool):
        raise ValueError("is a truth value; a number is needed")
    return value


def quoted(value: Any) -> Any:
    """Refuse what YAML reads as a truth value where a table's text is meant: NO, yes, off."""
    if isinstance(value, bool):
        raise ValueError("is a truth value in YAML; put it in quotes")
    return value


def as_text(value: Any) -> Any:
    """A number as the text that it is in a table; a truth value is no text."""
    value = quoted(value)
    return str(value) if isinstance(value, int | float) else value


def _encodable(text: str) -> str:
    """Refuse halves of characters (lone surrogates), which no file can hold."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a character")
    return text


def _printable(text: str) -> str:
    """Refuse control characters, which no terminal, file system or table shows."""
    if any(c < " " or "\x7f" <= c < "\xa0" for c in text):
        raise ValueError("holds a control character")
    return _encodable(text)


def _visible(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return _printable(text)


def plain(value: Any) -> Any:
    """A value of YAML for somebody's function: lists as tuples, 1e-4 as the number it is.

    Raises:
        ValueError: a date, or anything else that is no plain value.
    """
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, str):
        number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value)
        return float(value) if number else _encodable(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"{shown(value)} is no plain value; put it in quotes")


# A value of a table: 1 and "1" are the same there, and people write either.
Text: TypeAlias = Annotated[str, BeforeValidator(as_text), AfterValidator(_encodable)]
# What groups and classes are called: never empty, on one line.
Label: TypeAlias = Annotated[
    str, Field(max_length=4096), BeforeValidator(as_text), AfterValidator(_visible)
]
# A value of a table that may be a number there.
Value: TypeAlias = Annotated[
    Annotated[str, AfterValidator(_encodable)] | float, BeforeValidator(quoted)
]
# A value for somebody's own model or function, which says what it may be.
Plain: TypeAlias = Annotated[Any, AfterValidator(plain)]
# Titles, names of columns and of folders: never empty, on one line.
Line: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
Flag: TypeAlias = Annotated[bool, Strict()]
# `Integer` and `Number` take the bounds of their key; the others have their own.
Integer: TypeAlias = Annotated[int, BeforeValidator(no_truth_value)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=MOST), BeforeValidator(no_truth_value)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(no_truth_value)]
# Floats are finite by the models' configuration (`allow_inf_nan`); text such as 1e-4, which YAML
# does not read as a number, is one.
Number: TypeAlias = Annotated[float, BeforeValidator(no_truth_value)]
Positive: TypeAlias = Annotated[float, Field(gt=0), BeforeValidator(no_truth_value)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0), BeforeValidator(no_truth_value)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1), BeforeValidator(no_truth_value)]
Fraction: TypeAlias = Annotated[float, Field(gt=0, le=1), BeforeValidator(no_truth_value)]


@dataclass(frozen=True)
class File:
    """Marks a key that names a file; `named_files.py` looks for it when the settings are read.

    Attributes:
        below: the key of the same model that names the folder in which it is; None: the folder in
            which the workflow runs.
        placeholders: names in braces that are filled in for each of the plan's jobs.
        words: values that are no file.
    """

    below: str | None = None
    placeholders: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """pydantic: the type that is marked, and then `check`."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, value: str) -> str:
        """The path, its home folder written out; a placeholder that no rule fills is refused."""
        if self.placeholders:
            try:
                for _, field, form, conversion in string.Formatter().parse(value):
                    if field is not None:
                        self._check_field(field, form or "", conversion)
            except ValueError as error:
                raise ValueError(f"{error}; '{{{{' and '}}}}' are plain braces") from error
        return os.path.expanduser(value) if value.startswith("~") else value  # noqa: PTH111

    def _check_field(self, field: str, form: str, conversion: str | None) -> None:
        """Refuse what is not filled in, and a form that could hold anything: `{fold:99999999}`."""
        if field not in self.placeholders:
            raise ValueError(f"no placeholder {field!r}{nearest(field, self.placeholders)}")
        digits = field == "fold" and re.fullmatch(r"0?\dd?", form, re.ASCII)
        if conversion is not None or (form and not digits):
            raise ValueError(
                f"{field!r} is filled in as it is; a fold may have digits: {{fold:02}}"
            )


@dataclass(frozen=True)
class Module:
    """Marks a key that names `package.module:function`; it is looked for, and not imported.

    Attributes:
        libraries: words before the colon that are no module: of those a name follows.
    """

    libraries: tuple[str, ...] = ()


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
Place: TypeAlias = Annotated[Line, AfterValidator(_expanded)]


class Model(BaseModel):
    """Strict base of every settings model: frozen, and unknown keys are refused.

    `ignores` are keys of `methods.<name>` that an algorithm does not read. `only_with` are keys
    that are read only where other keys have certain values: key -> other key -> its values.
    `grid` is what `search: default` tries of an algorithm: key -> values.
    """

    ignores: ClassVar[tuple[str, ...]] = ()
    only_with: ClassVar[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {}
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """Name the nearest valid key, which pydantic's own message does not."""
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {shown(key)}{nearest(key, cls.model_fields)}")
        return data

    def two_classes(self) -> str:
        """Why a method with these settings is of two classes only; '': it is not."""
        return ""


def shown(value: Any) -> str:
    """A value that somebody wrote, on one line and not too long."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def place(*parts: Any) -> str:
    """The path of a key; what is no plain word is quoted, so that a message stays one line."""
    words = [str(part) for part in parts]
    return ".".join(word if re.fullmatch(r"[\w+-]{1,64}", word) else shown(word) for word in words)


def _as_list(given: Any) -> str:
    """What was given for a list, as one: `a,b` as [a, b]."""
    if isinstance(given, Mapping):
        return "[{...}]"
    words = str(given).split(",")
    plain_words = all(re.fullmatch(r"\s*[\w+.-]{1,64}\s*", word) for word in words)
    return f"[{', '.join(map(str.strip, words)) if plain_words else shown(given)}]"


def explain(error: ValidationError, prefix: str = "") -> str:
    """A line a problem: path of the key, what is wrong, what was given."""
    lines = []
    problems = error.errors(include_url=False)
    for problem in problems:
        place_of = problem["loc"]
        if problem["type"] == "too_short" and any(
            len(other["loc"]) > len(place_of) and other["loc"][: len(place_of)] == place_of
            for other in problems
        ):
            continue  # it has items, and what is wrong with them is told
        # pydantic's own marks of a mapping's key and of the branch of a union are no keys
        path = prefix + place(*(p for p in problem["loc"] if p != "[key]"))
        message = problem["msg"].removeprefix("Value error, ")
        given = problem["input"]
        if problem["type"] in ("tuple_type", "list_type"):
            names = [p for p in problem["loc"] if isinstance(p, str)]
            key = "".join(f"{place(name)}: " for name in names[-1:])
            message = f"a list, as in {key}{_as_list(given)}"
        elif given is None and problem["type"].endswith("_type"):
            message = "is left empty: give it a value, or take the line out"
        said = f" (given: {shown(given)})" if isinstance(given, str | int | float | bool) else ""
        separator = ": " if path.rstrip(".") else ""
        lines.append(f"{path.rstrip('.')}{separator}{message}{said}")
    return "\n".join(dict.fromkeys(lines))
