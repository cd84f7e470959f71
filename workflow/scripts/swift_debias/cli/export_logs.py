"""Write the histories of a run as TensorBoard reads them."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """example:
  swift-debias export-logs results/demo
  tensorboard --logdir results/demo/tensorboard"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run>; it may be running still")
    parser.add_argument("--out", type=Path, help="default: results/<run>/tensorboard")


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import tensorboard

    out = options.out or options.run / "tensorboard"
    print(f"{out}: {tensorboard.export(options.run, out)} histories")
