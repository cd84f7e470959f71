"""Numbers on the command line: what `float` takes besides, nan and inf, is a slip everywhere."""

from __future__ import annotations

import argparse
import math


def finite(text: str) -> float:
    """A finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"a finite number is needed, not {text!r}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    if (number := finite(text)) <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return number


def fraction(text: str) -> float:
    """A number between 0 and 1, both left out."""
    if not 0 < (number := finite(text)) < 1:
        raise argparse.ArgumentTypeError(f"a number between 0 and 1 is needed, not {text!r}")
    return number
