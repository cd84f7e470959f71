"""Print the JSON Schema of the configuration, or write it and config/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from . import _outputs

EXAMPLE = """examples:
  swift-debias schema > schema.json         JSON Schema of the workflow's configuration
  swift-debias schema --write config        config/README.md and config/schema.json"""
WRITTEN = ("schema.json", "README.md")
BEGINNING = 4  # lines by which a file of an earlier call is known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "--write", type=_outputs.path, metavar="FOLDER", help="write both files here"
    )


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return []


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return [] if options.write is None else [options.write / name for name in WRITTEN]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from .. import methods
    from ..config import document
    from ..data import adapters
    from ..files import write_text

    models = adapters.options_models(), methods.settings_models()
    text = json.dumps(document.json_schema(*models), indent=1) + "\n"
    if options.write is None:
        sys.stdout.write(text)
        return
    made = dict(zip(writes(options), (text, document.document(*models)), strict=True))
    for path, content in made.items():
        if path.exists() and _beginning(path.read_text(errors="replace")) != _beginning(content):
            raise UserError(f"{path} is not of this command: move it, or name another folder")
    options.write.mkdir(parents=True, exist_ok=True)
    for path, content in made.items():
        write_text(path, content)


def _beginning(text: str) -> list[str]:
    return text.splitlines()[:BEGINNING]
