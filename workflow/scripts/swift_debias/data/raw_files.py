"""Raw folders as people unpack them: listed once, images looked up, no image opened.

Whatever cannot be used is either an error that says what to do, or appears in the log with a count.
"""

from __future__ import annotations

import filecmp
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from ..config.schema import Dataset
from ..errors import UserError
from . import hints, listing
from .hints import loosened

_BESIDE = 1_000_000  # beside the root is farther than any folder below it

FILES_WITHOUT_ROW = "image files without a row in the table"


class Folder:
    """What lies under a data set's root: listed once, images never opened.

    Attributes:
        root: the folder, with links resolved.
        images: paths of image files relative to the root, sorted.
        others: the other files, in the same form.
        skipped: why something was not listed -> relative paths.
        tables: the tables that were given out, in the same form.
    """

    def __init__(
        self, root: Path, images: list[str], others: list[str], skipped: Mapping[str, list[str]]
    ) -> None:
        self.root = root
        self.images = images
        self.others = others
        self.skipped = skipped
        self.tables: list[str] = []
        self._passed_over: list[str] = []
        self._missed: list[str] = []
        self._ambiguous: list[str] = []
        self._claimed: set[str] = set()

    def find(self, keys: pd.Series, parts: int | None = 1, below: str = "") -> pd.Series:
        """Paths of the images that keys name.

        An exact match wins. Where there is none, what unpackers, converters and spreadsheets
        change is overlooked: letter case, an image extension, backslashes, outer spaces.

        Args:
            keys: names or paths, str.
            parts: how many trailing components of a path must match; None: all of them.
            below: only images whose path begins so.

        Returns:
            Relative paths, str, aligned with `keys`; null where no file was found.
        """

        def tail(path: str) -> str:
            return path if parts is None else "/".join(path.rsplit("/", parts)[-parts:])

        images = [path for path in self.images if path.startswith(below)]
        tails = keys.map(tail, "ignore")
        found = self._lookup(tails, images, tail)
        if found.isna().any():
            taken = set(found.dropna())
            rest = [path for path in images if path not in taken]
            still = keys.where(found.isna()).map(lambda key: tail(loosened(key)), "ignore")
            similar = self._lookup(still, rest, lambda path: tail(loosened(path)))
            found = found.fillna(similar)
        self._claimed.update(found.dropna())
        self._missed += keys[found.isna()].dropna().tolist()
        return found

    def table(self, *names: str, beside: bool = False) -> Path:
        """The metadata file of one of these names, the first that is found.

        Args:
            names: file names, '*' allowed, in the order of preference; case is overlooked and
                a '.gz' behind the name is fine.
            beside: look next to the root too (archives of labels are often unpacked there).

        Raises:
            UserError: none is there, or several are and none is to be preferred.
        """
        path = self.optional_table(*names, beside=beside)
        if path is not None:
            return path
        raise self.no_table(" or ".join(map(repr, names)), names[0], beside)

    def optional_table(self, *names: str, beside: bool = False) -> Path | None:
        """Like `table`, but None where the file is not there.

        Of several that have the name the one nearest to the root is taken, packed ones last.
        """
        candidates = [(path.count("/"), self.root / path) for path in self.others]
        if beside:
            candidates += [(_BESIDE, path) for path in listing.beside(self.root)]
        every = listing.matcher(names)
        fitting = [(depth, path) for depth, path in candidates if every(path.name)]
        for name in names:
            fits = listing.matcher((name,))
            ranked = sorted(
                (depth, path.suffix.lower() == ".gz", path)
                for depth, path in fitting
                if fits(path.name)
            )
            if ranked:
                chosen = self._choose(name, ranked)
                self._passed_over += [self._name(p) for _, p in fitting if p != chosen]
                self.was_read(chosen)
                return chosen
        return None

    def no_table(self, what: str, name: str, beside: bool = False) -> UserError:
        """The error where a table is not there: what was looked for, where, and what is there."""
        where = f"in {self.root}" + (" or beside it" if beside else "")
        near = hints.alike(name, [posixpath.basename(path) for path in self.others])
        there = f"; the folder holds {hints.contents([*self.others, *self.images])}"
        links = "".join(f"; {hint}" for hint in hints.not_followed(self.skipped))
        return UserError(f"no file {what} {where}{near}{there}{links}")

    def was_read(self, path: Path) -> None:
        """Record a table for the log."""
        self.tables = [*dict.fromkeys([*self.tables, self._name(path)])]

    def hints(self) -> list[str]:
        """Why images were not found: what is there instead."""
        return hints.of_images(self._missed, self.images, self.others, self.skipped)

    def notes(self) -> Iterator[tuple[str, list[str]]]:
        """Facts about the folder for the log: (note, paths)."""
        for reason, paths in sorted(self.skipped.items()):
            yield reason, sorted(paths)
        yield "several files of the same name; the first is used", sorted(set(self._ambiguous))
        unread = set(self._passed_over) - set(self.tables)
        yield "tables that fit as well and were not read", sorted(unread)
        yield FILES_WITHOUT_ROW, [path for path in self.images if path not in self._claimed]

    def _choose(self, name: str, ranked: list[tuple[int, bool, Path]]) -> Path:
        """The first; where others are ranked alike, they must hold the same bytes.

        Raises:
            UserError: they do not.
        """
        first = ranked[0]
        rivals = [path for depth, packed, path in ranked[1:] if (depth, packed) == first[:2]]
        if any(not filecmp.cmp(first[2], path, shallow=False) for path in rivals):
            names = ", ".join(self._name(path) for path in (first[2], *rivals))
            raise UserError(
                f"{self.root}: several files could be {name!r} and they differ: {names}; "
                "keep one of them there"
            )
        return first[2]

    def _name(self, path: Path) -> str:
        """A table's path from the root, also of one beside it; of one elsewhere the name."""
        if path.is_relative_to(self.root.parent):
            return Path(os.path.relpath(path, self.root)).as_posix()
        return path.name

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
    for path, _, why_not in listing.walk(real):
        if why_not:
            skipped.setdefault(why_not, []).append(path)
        elif not listing.is_image(path):
            others.append(path)
        elif not (ignore and path.endswith(ignore)):
            images.append(path)
    return Folder(real, sorted(images), sorted(others), skipped)


def scan_dataset(options: Dataset, project: Path, ignore: str = "") -> Folder:
    """`scan` of a data set's root, which may be relative to the project's folder."""
    return scan(project / options.root, ignore)
