"""Give debiased weights back under your own names, in your own format."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from . import _outputs

EXAMPLE = """example:
  swift-debias export-classifier results/x/debiased/skin/mine/sex/swift/fold0/model.safetensors \\
      --imported mine --checkpoint trained.pth --out fair.pth

writes the debiased weights as trained.pth has them: its names, its types, its form."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("weights", type=Path, help="model.safetensors of a run")
    parser.add_argument("--imported", type=Path, required=True, help="folder of the import")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what was imported")
    parser.add_argument(
        "--out", type=_outputs.path, required=True, help="file, or folder, to write"
    )
    _outputs.add_force(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    note = options.imported / "import.json"
    return [options.weights, note, *_outputs.files_of(options.checkpoint)]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes, and those that would be taken for its own in their folder."""
    if not options.checkpoint.is_dir():
        return [options.out]
    from ..learning.checkpoint_files import CLEARED

    names = [file.name for file in _outputs.files_of(options.checkpoint)]
    return [options.out / name for name in dict.fromkeys([*names, *CLEARED])]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..files import read_json
    from ..learning import checkpoint_import

    sys.path.insert(0, str(Path.cwd()))
    note = read_json(options.imported / "import.json")
    with contextlib.ExitStack() as stack:
        out = options.out
        if options.checkpoint.is_dir():
            out = stack.enter_context(_outputs.held(out, writes(options))).ready()
        for line in checkpoint_import.write_exported(
            note, options.checkpoint, options.weights, out
        ):
            print(line)
