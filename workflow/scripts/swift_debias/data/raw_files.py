"""Raw folders as people unpack them: listed once, images looked up, no image opened.

Whatever cannot be used is either an error that says what to do, or appears in the log with a count.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from ..config.schema import Dataset
from ..errors import UserError, nearest

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"))


FILES_WITHOUT_ROW = "image files without a row in the table"


class Folder:
    """What lies under a data set's root: listed once, never opened.

    Symbolic links to folders are not followed, and links to files count only where their target
    lies under the root: so no path of a manifest can leave the root, and no loop can hang us.

    Attributes:
        root: the folder, with links resolved.
        images: paths of image files relative to the root, sorted.
        others: the other files, in the same form.
        skipped: why something was not listed -> relative paths.
    """

    def __init__(
        self, root: Path, images: list[str], others: list[str], skipped: Mapping[str, list[str]]
    ) -> None:
        self.root = root
        self.images = images
        self.others = others
        self.skipped = skipped
        self._ambiguous: list[str] = []
        self._claimed: set[str] = set()

    def find(self, keys: pd.Series, parts: int | None = 1) -> pd.Series:
        """Paths of the images that keys name.

        An exact match wins. Where there is none, letter case and an image extension are
        overlooked, on either side: unpackers, converters and spreadsheets change both.

        Args:
            keys: names or paths, str.
            parts: how many trailing components of a path must match; None: all of them.

        Returns:
            Relative paths, str, aligned with `keys`; null where no file was found.
        """

        def tail(path: str) -> str:
            return path if parts is None else "/".join(path.rsplit("/", parts)[-parts:])

        tails = keys.map(tail, "ignore")
        found = self._lookup(tails, self.images, tail)
        if found.isna().any():
            taken = set(found.dropna())
            rest = [path for path in self.images if path not in taken]
            still = tails.where(found.isna()).map(_loosened, "ignore")
            alike = self._lookup(still, rest, lambda path: _loosened(tail(path)))
            found = found.fillna(alike)
        self._claimed.update(found.dropna())
        return found

    def table(self, *names: str, beside: bool = False) -> Path:
        """The metadata file of one of these names, the first that is found.

        Args:
            names: file names, '*' allowed, in the order of preference; case is overlooked and
                a '.gz' behind the name is fine.
            beside: look next to the root too (archives of labels are often unpacked there).

        Raises:
            UserError: none is there; names the nearest file.
        """
        path = self.optional_table(*names, beside=beside)
        if path is not None:
            return path
        where = f"in {self.root}" + (" or beside it" if beside else "")
        present = [posixpath.basename(path) for path in self.others]
        near = nearest(names[0], present) if present else "; the folder holds no table at all"
        links = sum(len(paths) for paths in self.skipped.values())
        hint = f"; {links} symbolic links or special files were not followed" if links else ""
        raise UserError(f"no file {' or '.join(map(repr, names))} {where}{near}{hint}")

    def optional_table(self, *names: str, beside: bool = False) -> Path | None:
        """Like `table`, but None where the file is not there."""
        below = sorted(self.others, key=lambda path: (path.count("/"), path))
        candidates = [self.root / path for path in below]
        if beside:
            candidates += _beside(self.root)
        for name in names:
            for path in candidates:
                if _has_name(path.name, name):
                    return path
        return None

    def notes(self) -> Iterator[tuple[str, list[str]]]:
        """Facts about the folder for the log: (note, paths)."""
        for reason, paths in sorted(self.skipped.items()):
            yield reason, sorted(paths)
        yield "several files of the same name; the first is used", sorted(set(self._ambiguous))
        yield FILES_WITHOUT_ROW, [path for path in self.images if path not in self._claimed]

    def _lookup(
        self, keys: pd.Series, paths: Iterable[str], key_of: Callable[[str], str]
    ) -> pd.Series:
        """Paths whose `key_of` is asked for; of several of one key the first."""
        wanted = set(keys.dropna())
        index: dict[str, str] = {}
        for path in paths:
            key = key_of(path)
            if key not in wanted:
                continue
            if key in index:
                self._ambiguous.append(path)
            else:
                index[key] = path
        return keys.map(index).astype("str")


def scan(root: Path, ignore: str = "") -> Folder:
    """List a folder and its subfolders once, without a stat per file.

    Hidden files and macOS archive debris are passed over.

    Args:
        root: the folder.
        ignore: images whose name ends so are passed over (ISIC 2017's '_superpixels.png').

    Raises:
        UserError: the folder is missing, is a file, or may not be read.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise UserError(f"{root}: {what}")
    real = root.resolve()
    images: list[str] = []
    others: list[str] = []
    skipped: dict[str, list[str]] = {}
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            entries = list(os.scandir(real / prefix))
        except OSError as error:
            raise UserError(f"{real / prefix}: cannot be listed: {error.strerror}") from error
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name == "__MACOSX":
                continue
            path = prefix + name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path + "/")
                continue
            reason = _why_skipped(entry, real)
            if reason:
                skipped.setdefault(reason, []).append(path)
            elif os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
                others.append(path)
            elif not (ignore and name.endswith(ignore)):
                images.append(path)
    return Folder(real, sorted(images), sorted(others), skipped)


def scan_dataset(options: Dataset, project: Path, ignore: str = "") -> Folder:
    """`scan` of a data set's root, which may be relative to the project's folder."""
    return scan(project / options.root, ignore)


def _why_skipped(entry: os.DirEntry[str], root: Path) -> str:
    """Reason not to list a directory entry; empty where it is a plain file."""
    if not entry.is_symlink():
        return "" if entry.is_file(follow_symlinks=False) else "not a regular file"
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return "symbolic link that is broken or loops"
    if not target.is_relative_to(root):
        return "symbolic link that leaves the data set's folder (not followed)"
    return "" if target.is_file() else "symbolic link to a folder (not followed)"


def _beside(root: Path) -> list[Path]:
    """Files next to a folder, and those in a sibling folder of their own name (ISIC's archives)."""
    found: list[Path] = []
    for path in sorted(root.parent.iterdir()):
        if path.is_file():
            found.append(path)
        elif path != root and (inside := path / f"{path.name}.csv").is_file():
            found.append(inside)
    return found


def _has_name(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, pattern + ".gz")


def _loosened(path: str) -> str:
    stem, suffix = posixpath.splitext(path.lower())
    return stem if suffix in IMAGE_SUFFIXES else path.lower()
