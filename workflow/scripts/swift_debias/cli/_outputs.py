"""Files that a command is going to write, looked at before it does any work."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError


def path(text: str) -> Path:
    """An argument that names what is to be written; Python takes '' for the folder one is in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is needed, and it is empty")
    return Path(text)


def stem(given: Path) -> Path:
    """A path that becomes files by the endings that are put to it.

    Raises:
        UserError: it ends in a folder.
    """
    if given.name in ("", ".."):
        raise UserError(f"--out: {given} is a folder; name files in it, without their endings")
    return given


def files_of(given: Path) -> list[Path]:
    """What is read where a file, or a folder of files, may be given."""
    return [file for file in given.iterdir() if file.is_file()] if given.is_dir() else [given]


def add_force(parser: argparse.ArgumentParser) -> None:
    """The option of a command that writes over no file unless it is told to."""
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def check(outputs: Iterable[Path], inputs: Iterable[Path], *, force: bool) -> None:
    """Refuse to write over what the same command reads, and where nothing can be written.

    Whether two paths are one file is asked of the system: there are links, and names that differ in
    the case of their letters alone.

    Args:
        outputs: what is going to be written, or was by an earlier call and is going to be removed.
        inputs: what is going to be read.
        force: other files that are there may be written over.

    Raises:
        UserError: names the file, or the folder.
    """
    there = []
    for output in outputs:
        above = next(parent for parent in output.absolute().parents if parent.exists())
        if not above.is_dir():
            raise UserError(f"{output} cannot be written: {above} is no folder; name another place")
        if not os.access(above, os.W_OK):
            raise UserError(f"{output} cannot be written: no right to write in {above}")
        there += [output] if output.exists() else []
    for file in inputs if there else ():
        if hit := next((o for o in there if file.exists() and o.samefile(file)), None):
            raise UserError(
                f"{hit} would be written over, and the command reads it"
                + (f" (as {file})" if hit != file else "")
                + ": name another place to write to"
            )
    files = [output for output in there if output.is_file()]  # of a folder the command says more
    if files and not force:
        more = f", and {len(files) - 1} more of its files" if len(files) > 1 else ""
        raise UserError(
            f"{files[0]} is there already{more}: name another place (--out), or write over what is "
            "there with --force"
        )
