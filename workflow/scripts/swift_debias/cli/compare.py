"""Rank a method of your own file beside SWiFT and others, on a small fixed benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError, nearest
from . import _outputs

EXAMPLE = """example, in the folder of the project:
  swift-debias compare my_method.py

Runs the method on a few panels of config/benchmark.yaml (synthetic images) beside SWiFT,
FullFT-FDR, the Baseline and controls, and prints its ranks. docs/bring_your_method.md has a whole
file."""


BEGINNING = b"task,"  # by which the table of an earlier call is known
GOES_ON = True  # models and scores that are finished lie in --out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add = parser.add_argument
    add("method", type=Path, help="the .py file of your method")
    add("--config", type=Path, default=Path("config/benchmark.yaml"), help="default: %(default)s")
    add("--experiment", default="compare", help="a table of it; %(default)s")
    add("--out", type=_outputs.path, default=Path("results/compare"), help="default: %(default)s")


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.method, options.config]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return [options.out / f"{options.method.stem}.csv"]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..compare import run as comparison
    from ..files import write_text
    from ..methods._outside import load_outside
    from ..report import escaping

    for path in writes(options):
        if path.is_file() and not path.read_bytes().startswith(BEGINNING):
            raise UserError(f"{path} is not of this command: move it, or name another --out")
    name = load_outside(options.method)  # before the settings: its mistakes are told first
    settings = comparison.read_settings(options.config)
    if options.experiment not in settings.experiments:
        near = nearest(options.experiment, settings.experiments)
        raise UserError(f"{options.config}: no experiment {options.experiment!r}{near}")
    found = comparison.compare(
        settings, options.experiment, name, options.out, lambda text: print(text, file=sys.stderr)
    )
    titles = {key: of.title or key for key, of in settings.methods.items()}
    titles[name] = f"{name} (yours)"
    shown = comparison.table(found, titles)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / f"{name}.csv", escaping.csv(found.entries, float_format=None))
    print("SYNTHETIC images. *: inside the method's own noise, as a fair classifier's gap may be.")
    print(shown.to_string(index=False))
    print("\n".join(comparison.legend(found)), end="\n" * bool(comparison.legend(found)))
    print("\n".join(comparison.sentences(found, name, titles)))
