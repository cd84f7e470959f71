"""Is the folder that images are looked for in the one that they lie in? Else, which one is?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError

TRIED = 20  # missing images that are looked for elsewhere
LOOKED_AT = 200  # folders in which they are


def refuse_missing(cells: Sequence[str | os.PathLike[str]], root: str | Path) -> None:
    """Refuse images that are not there, before any is decoded.

    Args:
        cells: paths below `root`, or absolute.
        root: folder of the images.

    Raises:
        UserError: says how many are there, names one that is not, and the folder near `root` below
            which the missing ones lie, where a quick look finds it.
    """
    root = Path(root)
    cells = [with_slashes(cell, root) for cell in cells]
    missing = [cell for cell in cells if not _is_file(root / cell)]
    if not missing:
        return
    number = len(cells) - len(missing)
    said = f"{number:,} of {len(cells):,} images are there: no file {root / missing[0]}"
    tried = missing[:TRIED]
    better = next((folder for folder in _near(root) if _holds(folder, tried)), None)
    if better is not None and _holds(better, cells):
        raise UserError(f"{said}; it is there below {better}: give that folder as the root")
    if better is not None:
        raise UserError(
            f"{said}; it is there below {better}, where others are not: put all images into one "
            "folder, or say in the table in which folder each lies"
        )
    question = "" if number else f"; is {root} the folder that the paths begin in (root)?"
    raise UserError(f"{said}{question}")


def with_slashes(cell: str | os.PathLike[str], root: str | Path) -> str:
    """A path with slashes for backslashes, where no file below `root` has it as it is."""
    text = os.fspath(cell)
    return text if "\\" not in text or _is_file(Path(root) / text) else text.replace("\\", "/")


def _holds(folder: Path, cells: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether all of some relative paths are files below a folder."""
    return all(not Path(cell).is_absolute() and _is_file(folder / cell) for cell in cells)


def _is_file(path: Path) -> bool:
    """Whether a file is there; of a name that the system does not take none is."""
    try:
        return path.is_file()
    except OSError:
        return False


def _near(root: Path) -> Iterator[Path]:
    """Folders around one: above it, below it, and beside it, the nearest first."""
    there = root.absolute()
    above = [folder for folder in there.parents if folder.is_dir()][:2]
    inside = _inside(there)
    nearest = [*above[:1], *inside, *above[1:], *(_inside(above[0]) if above else ())]
    deeper = (below for folder in inside for below in _inside(folder))
    for folder in itertools.islice(itertools.chain(nearest, deeper), LOOKED_AT):
        yield folder if root.is_absolute() else Path(os.path.relpath(folder))


def _inside(folder: Path) -> list[Path]:
    """The folders right below one, by name; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())[:LOOKED_AT]
    except OSError:
        return []
