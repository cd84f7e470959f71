"""Mistakes of the user, and how they are told."""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import errno
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator


class UserError(Exception):
    """A mistake in the user's configuration or data; the message says where and what to do.

    Scripts print it without a traceback.

    in_short: what it comes to, in a line, where the message is a page.
    """

    def __init__(self, *message: object, in_short: str = "") -> None:
        """As any exception, with the line."""
        super().__init__(*message)
        self.in_short = in_short


class NotFiniteError(UserError):
    """Numbers of a network that are infinite or none at all: it has diverged.

    Raised where they are met; the job that meets them adds which it is (`of_job`).
    """


class Note(UserWarning):
    """What a user is to know and what stops nothing; a command prints it as a line."""


def note(text: str) -> None:
    """Tell it: a warning to whoever calls the library, a line to whoever types a command."""
    warnings.warn(text, Note, stacklevel=2)


@contextlib.contextmanager
def of_job(name: str) -> Iterator[None]:
    """Put a job's name (method, task, fold) before what is said of numbers that are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{name}: {error}" if name else str(error)) from None


OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


def of_disk(error: BaseException | None) -> str:
    """What a full, read-only or failing disk did, in one line; '' where it was something else.

    The libraries that write files in other languages tell it in words: "os error 28".
    """
    if error is None:
        return ""
    words = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(words[1]) if words else None
    if number not in OF_DISK:
        return of_disk(error.__cause__ or error.__context__)
    file = getattr(error, "filename", None)
    return (
        f"{file or 'a result'} cannot be written or read: {os.strerror(number)}; make room or mend "
        "the disk, and run again: what is finished is kept"
    )


Spelling = Callable[[str, str | None], str]


def _as_key(key: str, value: str | None) -> str:
    """`finetuning.min_cell` and `device: cpu`, as a configuration has them."""
    return key if value is None else f"{key}: {value}"


def _as_parameter(key: str, value: str | None) -> str:
    """`min_cell=` and `device='cpu'`, as the front door has them."""
    return f"{key.rpartition('.')[2]}={'' if value is None else repr(value)}"


_SPELLING: contextvars.ContextVar[Spelling] = contextvars.ContextVar("_SPELLING", default=_as_key)


@contextlib.contextmanager
def of_library() -> Iterator[None]:
    """While the front door is asked, messages speak of its parameters and not of a configuration.

    A command that asks it stays with its own options. Also a decorator of the functions that are
    the front door.
    """
    asked = _SPELLING.get()
    token = _SPELLING.set(_as_parameter if asked is _as_key else asked)
    try:
        yield
    finally:
        _SPELLING.reset(token)


@contextlib.contextmanager
def of_command(options: Collection[str]) -> Iterator[None]:
    """While a command runs, messages speak of its options: `--head`, or else `--set min_cell=`.

    Args:
        options: names of the command's options, as Python spells them.
    """

    def as_option(key: str, value: str | None) -> str:
        name = key.rpartition(".")[2]
        if name in options:
            return f"--{name.replace('_', '-')}" + ("" if value is None else f" {value}")
        if "set" in options:
            return f"--set {name}={'' if value is None else value}"
        return _as_key(key, value)

    token = _SPELLING.set(as_option)
    try:
        yield
    finally:
        _SPELLING.reset(token)


def setting(key: str, value: str | None = None) -> str:
    """A setting by the name that whoever is told has for it, with a value to give it."""
    return _SPELLING.get()(key, value)


def fewer_folds() -> str:
    """'fewer folds, ' as a way out, where there are folds."""
    return "fewer folds, " if _SPELLING.get() is _as_key else ""


def nearest(name: str, valid: Iterable[str]) -> str:
    """'; did you mean ...?' for the nearest valid name, else the list of valid names."""
    valid = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid) or 'none'}"
