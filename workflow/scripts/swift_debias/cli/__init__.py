"""The command line: `swift-debias audit | debias | inspect | import-classifier | schema | ...`.

A command is a file: its docstring is the help, and it has `EXAMPLE`, `add_arguments` and `run`.
What takes long to import is imported in `run`. A mistake of the user is told in one line, with exit
code 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import UserError

COMMANDS = (  # in the order of the help
    "audit", "debias", "import_classifier", "export_classifier", "inspect", "schema", "bundle",
    "verify", "compare", "which_method", "export_logs", "what_changed",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run_command(options)
    except UserError as error:
        print(f"swift-debias: error: {error}", file=sys.stderr)
        return 2
    return 0


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
        made.set_defaults(run_command=command.run)
    return parser


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
