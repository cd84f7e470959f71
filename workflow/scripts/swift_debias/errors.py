"""Mistakes of the user, and how they are told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's configuration or data; the message says where and what to do.

    Scripts print it without a traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """'; did you mean ...?' for the nearest valid name, else the list of valid names."""
    valid = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid) or 'none'}"
