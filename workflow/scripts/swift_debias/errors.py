"""Mistakes of the user, and how they are told."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake in the user's configuration or data; the message says where and what to do.

    Scripts print it without a traceback.
    """


class NotFiniteError(UserError):
    """Numbers of a network that are infinite or none at all: it has diverged.

    Raised where they are met; the job that meets them adds which it is (`of_job`).
    """


@contextlib.contextmanager
def of_job(name: str) -> Iterator[None]:
    """Put a job's name (method, task, fold) before what is said of numbers that are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{name}: {error}" if name else str(error)) from None


def nearest(name: str, valid: Iterable[str]) -> str:
    """'; did you mean ...?' for the nearest valid name, else the list of valid names."""
    valid = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid) or 'none'}"
