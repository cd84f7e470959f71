"""The command line: `swift-debias audit | debias | inspect | import-classifier | schema | ...`.

A command is a file: its docstring is the help, and it has `EXAMPLE`, `add_arguments` and `run`; one
that writes files says which in `writes`, and which ones it reads in `reads`, so that it cannot
write over them. What takes long to import is imported in `run`. A mistake of the user, and what the
system refuses, is told in one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import UserError, of_disk
from . import _outputs

COMMANDS = (  # in the order of the help
    "audit", "debias", "import_classifier", "export_classifier", "inspect", "schema", "bundle",
    "verify", "compare", "which_method", "export_logs", "what_changed",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    command = options.command_module
    try:
        if hasattr(command, "writes"):
            _outputs.check(command.writes(options), command.reads(options))
        command.run(options)
    except (UserError, OSError) as error:
        said = _of_system(error) if isinstance(error, OSError) else error
        print(f"swift-debias: error: {said}", file=sys.stderr)
        return 2
    return 0


def _of_system(error: OSError) -> str:
    """What the system said, in one line, with the file; a full disk says what to do."""
    if of_disk(error):
        return of_disk(error)
    file = error.filename2 or error.filename
    said = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{file}: {said}" if file else said


class _Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("swift-debias", description=_first_line(__doc__))
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    for name in COMMANDS:
        command = importlib.import_module(f"{__name__}.{name}")
        text = _first_line(command.__doc__)
        made = commands.add_parser(
            name.replace("_", "-"),
            help=text,
            description=text,
            epilog=command.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(made)
        made.set_defaults(command_module=command)
    return parser


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
