"""Why were these files not found? What a folder holds instead of what was looked for."""

from __future__ import annotations

import difflib
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from .listing import IMAGE_SUFFIXES

NAMED = 3  # files that a hint names
KINDS = 6  # endings that are counted by name
COMPARED = 5000  # names above which none is looked for that is merely alike
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def loosened(path: str) -> str:
    """A path without what unpackers, converters and spreadsheets change.

    Letter case, an image's extension, backslashes, a leading './', spaces around it, and accents
    as characters of their own (Unicode's NFD, as old Macs write names).
    """
    path = unicodedata.normalize("NFC", path).strip().replace("\\", "/").lower()
    path = posixpath.normpath(path) if path else path
    stem, suffix = posixpath.splitext(path)
    return stem if suffix in IMAGE_SUFFIXES else path


def contents(files: Sequence[str]) -> str:
    """What a folder holds, by ending: `16 .dcm, 1 .csv`; archives that are still packed by name."""
    counts = Counter(ending(path) for path in files)
    shown = [f"{count:,} {kind or 'without ending'}" for kind, count in counts.most_common(KINDS)]
    more = ["others"] * (len(counts) > KINDS)
    packed = [path for path in files if ending(path) in ARCHIVES]
    still = f"; still packed: {listed(packed)}" if packed else ""
    return (", ".join([*shown, *more]) or "nothing") + still


def ending(path: str) -> str:
    """A file's ending in lower case; '.csv.gz' is one."""
    stem, suffix = posixpath.splitext(posixpath.basename(path).lower())
    return posixpath.splitext(stem)[1] + suffix if suffix == ".gz" else suffix


def listed(paths: Sequence[str]) -> str:
    """The first of many paths."""
    more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + more


def not_followed(skipped: Mapping[str, Sequence[str]]) -> list[str]:
    """What was there and was not listed, by reason."""
    return [
        f"{len(paths):,} times a {why}: {listed(paths)}"
        + "; copy what it points to, or make that the root" * ("link" in why)
        for why, paths in sorted(skipped.items())
    ]


def alike(name: str, present: Sequence[str]) -> str:
    """'; did you mean ...?' for the nearest name, or nothing."""
    near = difflib.get_close_matches(name, present[:COMPARED], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def of_images(
    missed: Sequence[str],
    images: Sequence[str],
    others: Sequence[str],
    skipped: Mapping[str, Sequence[str]],
) -> list[str]:
    """Hints on images that were looked for and not found.

    Args:
        missed: what was looked for, names or paths.
        images: paths of the image files that are there.
        others: the other files.
        skipped: why something was not listed -> paths.
    """
    if not missed:
        return []
    hints = not_followed(skipped)
    by_name = _first(images, lambda path: posixpath.basename(loosened(path)))
    elsewhere = [m for m in missed if posixpath.basename(loosened(m)) in by_name]
    if elsewhere:
        found = by_name[posixpath.basename(loosened(elsewhere[0]))]
        hints.append(
            f"{len(elsewhere):,} lie elsewhere: {elsewhere[0]!r} was looked for, {found!r} is "
            "there (for a table of your own: image_folder and the path column together)"
        )
    by_stem = _first(others, lambda path: _stem(posixpath.basename(path)))
    unread = [
        m for m in missed if not elsewhere and _stem(posixpath.basename(loosened(m))) in by_stem
    ]
    if unread:
        found = by_stem[_stem(posixpath.basename(loosened(unread[0])))]
        hints.append(
            f"{len(unread):,} are there as a type that is not read: {found!r}; convert them to "
            "PNG or JPEG"
        )
    if not (elsewhere or unread):
        names = [posixpath.basename(path) for path in images]
        near = alike(posixpath.basename(missed[0]), names)
        hints.append(f"looked for {missed[0]!r}{near}; there is {contents([*images, *others])}")
    return hints


def _first(paths: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """Key -> the first path that has it."""
    found: dict[str, str] = {}
    for path in paths:
        found.setdefault(key(path), path)
    return found


def _stem(name: str) -> str:
    """A file's name without its endings, in lower case ('a.nii.gz' -> 'a')."""
    stem, suffix = posixpath.splitext(name.lower())
    return posixpath.splitext(stem)[0] if suffix == ".gz" else stem
