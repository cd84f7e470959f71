"""Put a run's results into one file that can be cited and checked."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """example, in the folder of the project:
  swift-debias bundle results/demo

The zip file is an RO-Crate: settings, commit, versions, metrics, tables, figures; no ids, pictures
or weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run>, finished")
    parser.add_argument("--out", type=Path, help="default: results/<run>.zip")


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import bundle

    run = options.run.resolve()
    out = options.out or run.parent / f"{run.name}.zip"
    names = bundle.write(run, out, Path())
    print(f"{out}: {len(names)} files of {options.run}")
