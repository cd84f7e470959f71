"""Put a run's results into one file that can be cited and checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from . import _outputs

EXAMPLE = """example, in the folder of the project:
  swift-debias bundle results/demo

The zip file is an RO-Crate: settings, commit, versions, metrics, tables, figures; no ids, pictures
or weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("run", type=Path, help="results/<run>, finished")
    parser.add_argument("--out", type=_outputs.path, help="default: results/<run>.zip")
    _outputs.add_force(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    files = [*options.run.rglob("*"), *Path("resources").glob("*.csv")]
    return [file for file in files if file.suffix != ".zip"]  # an earlier bundle may be replaced


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return [_out(options)]


def _out(options: argparse.Namespace) -> Path:
    run: Path = options.run.resolve()
    return options.out or run.parent / f"{run.name}.zip"


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..report import bundle

    out = _out(options)
    made = bundle.write(options.run.resolve(), out, Path())
    print(f"{out}: {len(made.files)} files of {options.run}")
    if made.left_out:
        # a table or figure is several files, told as one
        stale = dict.fromkeys(f"{Path(name).with_suffix('')}.*" for name in made.left_out)
        print(f"left out: {', '.join(stale)}: the settings of the run do not make them (any more)")
