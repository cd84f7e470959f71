"""Propose a `datasets:` entry for a table of images, from its columns; to be edited."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  swift-debias inspect table.csv --images pictures > datasets.yaml

Check every line of what it prints: which value is the disease, for one, is a guess."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", type=Path, help="a .csv or .parquet of images")
    where = "folder of the images, from here or else from the table's; default: the table's"
    parser.add_argument("--images", type=Path, help=where)


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..data import proposal

    sys.stdout.write(proposal.propose(options.table, options.images))
