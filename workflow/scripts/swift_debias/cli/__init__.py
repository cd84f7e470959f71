"""The command line of the debiasing library and its workflow, `swift-debias COMMAND ...`.

A command is a file: its docstring is the help, and it has `EXAMPLE`, `add_arguments` and `run`; one
that writes files says which in `writes`, and which ones it reads in `reads`, so that it cannot
write over them. One that takes `--force` (`_outputs.add_force`) writes over no file without it.
What takes long to import is imported in `run`. A mistake of the user, and what the system refuses,
is told in one line, with exit code 2; so is Ctrl-C, with 130, as shells have it. A command that
keeps what is finished says so by `GOES_ON`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from .. import __version__
from ..errors import Note, UserError, of_command, of_disk
from . import _outputs

COMMANDS = (  # in the order of the help
    "audit", "debias", "import_classifier", "export_classifier", "inspect", "schema", "bundle",
    "verify", "compare", "which_method", "export_logs", "what_changed",
)  # fmt: skip


INTERRUPTED = 130  # exit code: 128 and the number of SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    command = None
    try:
        options = _parser().parse_args(arguments)
        command = options.command_module
        with _notes_as_lines():
            _run(command, options)
    except (UserError, OSError) as error:
        said = _of_system(error) if isinstance(error, OSError) else error
        print(f"swift-debias: error: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = getattr(command, "GOES_ON", False)
        then = "goes on where it was" if goes_on else "starts anew"
        print(f"swift-debias: interrupted; the same command {then}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(command: Any, options: argparse.Namespace) -> None:
    """Carry a command out; folders that it made are not left empty where it fails."""
    made = []
    try:
        if hasattr(command, "writes"):
            outputs = list(command.writes(options))
            force = getattr(options, "force", True)  # what has no such option makes its own anew
            _outputs.check(outputs, command.reads(options), force=force)
            made = _outputs.absent_folders(outputs)
        with of_command(vars(options)):
            command.run(options)
    except BaseException:
        _outputs.remove_empty(made)
        raise


@contextmanager
def _notes_as_lines() -> Iterator[None]:
    """Print a `Note` as a line, without the place in the code that a warning has."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def line(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if issubclass(category, Note):
                print(message)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = line
        yield


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
