"""Say which method to take for which kind of bias, from a run of the benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from . import _outputs

EXAMPLE = """example, in the folder of the project:
  swift-debias which-method results/benchmark

writes which_method.md, .html, .csv and two pictures into the run's folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run> of the benchmark, finished")
    parser.add_argument("--out", type=_outputs.path, help="folder; default: the run's")


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.run / "settings.yaml", *options.run.rglob("*.parquet")]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes, and pictures of an earlier call, which it removes."""
    from ..report import which_method_page

    out = options.out or options.run
    texts = [out / f"which_method.{ending}" for ending in which_method_page.ENDINGS]
    return [*texts, *which_method_page.earlier_pictures(out)]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import which_method, which_method_page

    paths = which_method_page.write(which_method.read(options.run), options.out or options.run)
    print(*paths, sep="\n")
