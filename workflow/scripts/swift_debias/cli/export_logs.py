"""Write the histories of a run as TensorBoard reads them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from . import _outputs

EXAMPLE = """example:
  swift-debias export-logs results/demo
  tensorboard --logdir results/demo/tensorboard"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run>; it may be running still")
    parser.add_argument("--out", type=_outputs.path, help="default: results/<run>/tensorboard")


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.run, *options.run.rglob("*.parquet")]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return [_out(options)]


def _out(options: argparse.Namespace) -> Path:
    return options.out or options.run / "tensorboard"


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import tensorboard

    out = _out(options)
    print(f"{out}: {tensorboard.export(options.run, out)} histories")
