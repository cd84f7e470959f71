"""The command line of the debiasing library and its workflow, `swift-debias COMMAND ...`.

A command is a file: its docstring is the help, and it has `EXAMPLE`, `add_arguments` and `run`; one
that writes files says which in `writes`, and which ones it reads in `reads`, so that it cannot
write over them. One that takes `--force` (`_outputs.add_force`) writes over no file without it.
What takes long to import is imported in `run`. A mistake of the user, and what the system refuses,
is told in one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import UserError, of_command, of_disk
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
            force = getattr(options, "force", True)  # what has no such option makes its own anew
            _outputs.check(command.writes(options), command.reads(options), force=force)
        with of_command(vars(options)):
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


class _ALine(argparse.HelpFormatter):
    """Help in which each command has one line, whatever the width of the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=120)
        self._action_max_length = 22  # argparse forgets that commands are indented twice


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "swift-debias",
        usage="%(prog)s COMMAND ...",
        description="Audits and debiases classifiers of medical images.",
        epilog="swift-debias COMMAND --help has the arguments and an example of each.",
        formatter_class=_ALine,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", prog="swift-debias", required=True, metavar="COMMAND"
    )
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
