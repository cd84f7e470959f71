"""Print the JSON Schema of the configuration, or write it and config/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

EXAMPLE = """examples:
  swift-debias schema > schema.json         JSON Schema of the workflow's configuration
  swift-debias schema --write config        config/README.md and config/schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write both files here")


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
    write_text(options.write / "schema.json", text)
    write_text(options.write / "README.md", document.document(*models))
