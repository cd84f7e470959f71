"""Files that a command is going to write, looked at before it does any work."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
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


def absent_folders(outputs: Iterable[Path]) -> list[Path]:
    """The folders of outputs that are not there yet, the innermost first."""
    found = {above for output in outputs for above in output.absolute().parents}
    return sorted((f for f in found if not f.exists()), key=lambda f: len(f.parts), reverse=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that a call has made and left empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not there, or has files
            folder.rmdir()


class Place:
    """The folder that a command writes into at its end, hours after it was looked at (`held`)."""

    def __init__(self, folder: Path, outputs: Iterable[Path]) -> None:
        self.wanted = self.folder = folder
        self.outputs = list(outputs)
        self._before = self._seen()
        self._changed: list[Path] = []

    def _seen(self) -> list[tuple[int, ...] | None]:
        """What is known of each output by its folder's entry; None: it is not there."""
        found: list[tuple[int, ...] | None] = []
        for output in self.outputs:
            try:
                stat = output.stat()
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found

    def ready(self) -> Path:
        """The folder to write into: the one that was named, or a new one beside it.

        A file that came or changed since the command began is somebody else's: it stays, and so
        does what was computed.
        """
        now = zip(self.outputs, self._before, self._seen(), strict=True)
        self._changed = [output for output, old, new in now if new is not None and new != old]
        for number in itertools.count(2) if self._changed else ():
            self.folder = self.wanted.with_name(f"{self.wanted.name}-{number}")
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir()
                break
        # whoever was interrupted may have removed it
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def tell(self) -> None:
        """Refuse to end well where the result lies elsewhere.

        Raises:
            UserError: names what was in the way, and the folder of the result.
        """
        if self._changed:
            raise UserError(
                f"{self._changed[0]} was written by something else while the command ran, and is "
                f"left as it is: the result is in {self.folder}"
            )


@contextlib.contextmanager
def held(folder: Path, outputs: Iterable[Path]) -> Iterator[Place]:
    """Hold a folder from before the work until its result is written.

    It is made, so that what forbids it is known at once; a second command that wants it is refused
    before it works for hours. Where the system has no locks the folder is looked at again.

    Raises:
        UserError: another command holds it; or see `Place.tell`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, outputs)
    lock = _lock(folder)
    try:
        yield place
        place.tell()
    finally:
        if lock is not None:
            os.close(lock)  # which lets go of it, as the end of the process does


def _lock(folder: Path) -> int | None:
    """A lock on a folder; None where the system has none for it.

    Raises:
        UserError: somebody has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"{folder}: another swift-debias command is going to write there: wait for it, or name "
            "another place (--out)"
        ) from None
    except OSError:  # some shared file systems
        os.close(handle)
        return None
    return handle
