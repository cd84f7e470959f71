"""What lies below a folder: walked once, nothing opened, no pandas.

raw_files.py looks images up in it; fingerprint.py sees in it whether the data have changed.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import UserError

DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        *DICOM_SUFFIXES,
    )
)

# The archive's own list of duplicates; also as a browser calls a second download: '... (1).csv'.
PAIRS = ("ISIC_2020_Training_Duplicates.csv", "ISIC_2020_Training_Duplicates*.csv")

NO_TEXT = "name that is not UTF-8 (rename it)"

DEBRIS = frozenset(("__macosx", "thumbs.db", "desktop.ini"))  # what Macs and Windows leave behind


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str], str]]:
    """Every file below a folder, but hidden ones and what systems leave behind.

    Symbolic links to folders are not followed, and links to files count only where their target
    lies below the folder: so no path leaves it, and no loop can hang us.

    Args:
        root: the folder, links resolved.

    Yields:
        Path relative to the root, directory entry, and why it is not to be used (empty: it is).
        What is no UTF-8 of a path is escaped, so that it can be written.

    Raises:
        UserError: a folder cannot be listed.
    """
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            entries = list(os.scandir(root / prefix))
        except OSError as error:
            raise UserError(f"{root / prefix}: cannot be listed: {error.strerror}") from error
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in DEBRIS:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(prefix + name + "/")
            else:
                path = _as_text(prefix + name)
                why_not = NO_TEXT if path != prefix + name else _why_skipped(entry, root)
                yield path, entry, why_not


def is_image(name: str) -> bool:
    """Whether a file's name ends as an image's does."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def beside(root: Path) -> list[Path]:
    """Files next to a folder, and those in a sibling folder of their own name (ISIC's archives)."""
    found: list[Path] = []
    try:
        near = sorted(root.parent.iterdir())
    except OSError:  # the folder alone is ours to read
        return found
    for path in near:
        if path.is_file():
            found.append(path)
        elif path != root and (inside := path / f"{path.name}.csv").is_file():
            found.append(inside)
    return found


@functools.cache
def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a file is called so: '*' allowed, letter case and a '.gz' at the end overlooked."""
    if not patterns:
        return lambda name: False
    either = "|".join(
        fnmatch.translate(pattern.lower() + end) for pattern in patterns for end in ("", ".gz")
    )
    match = re.compile(either).match
    return lambda name: match(name.lower()) is not None


def _as_text(path: str) -> str:
    """A path that can be written: bytes that are no UTF-8 as `\\xe9`, as old archives have them."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _why_skipped(entry: os.DirEntry[str], root: Path) -> str:
    """Reason not to use a directory entry; empty where it is a plain file."""
    if not entry.is_symlink():
        return "" if entry.is_file(follow_symlinks=False) else "not a regular file"
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return "symbolic link that is broken or loops"
    if not target.is_relative_to(root):
        return "symbolic link that leaves the data set's folder (not followed)"
    return "" if target.is_file() else "symbolic link to a folder (not followed)"
