"""Say which method to take for which kind of bias, from a run of the benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """example, in the folder of the project:
  swift-debias which-method results/benchmark

writes which_method.md, which_method.csv and two pictures into the run's folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run> of the benchmark, finished")
    parser.add_argument("--out", type=Path, help="folder; default: the run's")


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import which_method

    paths = which_method.write(options.run, options.out or options.run)
    print(*paths, sep="\n")
