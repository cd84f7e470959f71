"""Check a bundle: the digests of its files, and its tables against its metrics."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """example:
  swift-debias verify results/demo.zip"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("bundle", type=Path, help="what `bundle` wrote")


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import bundle

    print("\n".join(bundle.verify(options.bundle)))
