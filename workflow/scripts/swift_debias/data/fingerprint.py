"""Have the data changed? The fingerprint of a data set's files, cheap enough for every start.

A fingerprint is made of the names and sizes of the images below the root and of the bytes of the
tables that the adapter reads: of content, not of paths, so a moved folder has the same one. It is a
param of the rules that read the data, so Snakemake runs them again when it changes.

Images are not read for it. An image of the same size but another time of change may be another
image, or the same one touched or copied: then, and only then, it is read and compared with the
digest that the image cache took. Where it is another one, the fingerprint changes by a `salt`. What
the times were is remembered in the run's folder (`seen`), which is why a second look is cheap.
A DICOM file that the cache did not read counts as another one where tags decide which are read:
what its tags were is not known.

What is remembered is written when the run really starts, by Snakemake's main process; jobs look at
nothing. Neither torch nor pandas is imported: this runs while Snakemake plans.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..config.schema import Dataset
from ..errors import UserError
from ..files import atomic_path
from . import listing

NAMED = 5  # files that a sentence names
KEPT = 20  # fingerprints whose story is remembered
READERS = 8  # files read at a time where many have another time
MANY = 1000  # files above which their reading is announced

Digests = Callable[[], Mapping[str, str]]
Story = list[tuple[str, list[str]]]
"""Fingerprints in order, each with what had changed since the one before."""

_stories: dict[str, Story] = {}  # of this process: fingerprint -> how it came about


class Look(NamedTuple):
    """A data set's files at one time; paths are relative to the root.

    images: path -> size in bytes, time of change in ns. tables: path -> sha256 of the bytes.
    """

    images: dict[str, tuple[int, int]]
    tables: dict[str, str]

    def times(self) -> str:
        """Identity of names, sizes and times."""
        return _hash(list(self.images.items()))


class Seen(NamedTuple):
    """What was remembered of a look."""

    fingerprint: str
    salt: str
    times: str
    tables: dict[str, str]
    look: Callable[[], Look | None]  # read only where something is different; None: damaged
    story: Story

    def is_of(self, now: Look) -> bool:
        """Whether the files are as they were seen, times included."""
        return (self.times, self.tables) == (now.times(), now.tables)


def look(options: Dataset, project: Path) -> Look:
    """Look at a data set's files; tables are read, images are not.

    Raises:
        UserError: the folder is not there or cannot be listed.
    """
    root = (project / options.root).resolve()
    is_table = listing.matcher((*options.tables, *listing.PAIRS))
    images: dict[str, tuple[int, int]] = {}
    tables: dict[str, Path] = {}
    for name, entry, why_not in listing.walk(root):
        if why_not:
            continue
        if listing.is_image(name):
            stat = entry.stat()
            images[name] = (stat.st_size, stat.st_mtime_ns)
        elif is_table(entry.name):
            tables[name] = root / name
    if options.tables_beside:
        near = (path for path in listing.beside(root) if is_table(path.name))
        tables |= {os.path.relpath(path, root): path for path in near}
    for key, named in options.named_tables().items():
        path = (project / named).resolve()
        tables[str(path.relative_to(root)) if path.is_relative_to(root) else key] = path
    return Look(
        dict(sorted(images.items())),
        {name: sha256(path) for name, path in sorted(tables.items())},
    )


def fingerprint(
    dataset: str,
    options: Dataset,
    project: Path,
    seen: Path,
    digests: Digests = dict,
    *,
    remember: bool = True,
) -> str:
    """The fingerprint of a data set's files, compared with what was seen before.

    A folder that is not there has the fingerprint that it had: results that are made already stay.

    Args:
        dataset: its name, for messages.
        options: its root and tables.
        project: the folder that a relative root starts from.
        seen: the file of the run that remembers the last look.
        digests: path -> sha256 of the images as the run's cache read them; asked if need be.
        remember: write `seen`. Without it, it is only written to spare the next look from reading
            the same touched images again.
    """
    before = _read(seen)
    try:
        now = look(options, project)
    except UserError:
        return before.fingerprint if before else ""
    old = before.look() if before and not before.is_of(now) else now
    if old is None:  # what was remembered is damaged
        before, old = None, now
    replaced: dict[str, str] = {}
    if before is None or old is not now:
        root = (project / options.root).resolve()
        tagged = listing.DICOM_SUFFIXES if getattr(options, "dicom", ()) else ()
        replaced = _replaced(dataset, old if before else None, now, root, digests, tagged)
    salt = before.salt if before else ""
    salt = _hash([salt, sorted(replaced.items())]) if replaced else salt
    name = "files " + _hash([[(n, size) for n, (size, _) in now.images.items()], now.tables, salt])
    story = before.story if before else []
    if not story or story[-1][0] != name:
        story = [*story, (name, changes(old, now, replaced))][-KEPT:]
    _stories[name] = story
    touched = before is not None and before.fingerprint == name and old is not now
    if touched or (remember and (before is None or before.fingerprint != name)):
        _write(seen, name, salt, now, story)
    return name


def changes(before: Look, now: Look, replaced: Iterable[str] = ()) -> list[str]:
    """What is different, in words: files by name, the first few.

    Args:
        before: the earlier look.
        now: the later one.
        replaced: images of the same name and size that are others.
    """
    resized = {n for n, (size, _) in now.images.items() if before.images.get(n, (size,))[0] != size}
    found = {
        "image removed": before.images.keys() - now.images.keys(),
        "image added": now.images.keys() - before.images.keys(),
        "image replaced": resized | set(replaced),
        "table removed": before.tables.keys() - now.tables.keys(),
        "table added": now.tables.keys() - before.tables.keys(),
        "table edited": {
            n for n, digest in now.tables.items() if before.tables.get(n, digest) != digest
        },
    }
    return [_sentence(what, sorted(names)) for what, names in found.items() if names]


def explain(old: str, new: str) -> list[str]:
    """What changed between two fingerprints that this process has seen or remembered."""
    story = _stories.get(new, [])
    names = [name for name, _ in story]
    if old not in names:
        return []
    return [said for _, sentences in story[names.index(old) + 1 :] for said in sentences]


def last_change(seen: Path) -> list[str]:
    """What changed when the run's data changed last; [] where they never did."""
    before = _read(seen)
    return before.story[-1][1] if before and before.story else []


def cached_digests(manifest: Path, index: Path) -> dict[str, str]:
    """Path -> sha256 of the images as a run's cache read them; {} where it is not made."""
    if not (manifest.is_file() and index.is_file()):
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(manifest, columns=["image_id", "path"]).to_pylist()
        hashed = pq.read_table(index, columns=["image_id", "sha256"]).to_pylist()
    except (pa.ArrowException, OSError):  # damaged: whoever reads it next says so
        return {}
    path_of = {row["image_id"]: row["path"] for row in rows}
    return {
        path_of[row["image_id"]]: row["sha256"]
        for row in hashed
        if row["sha256"] and row["image_id"] in path_of
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or why it has none."""
    try:
        if not path.is_file():
            return "no such file"
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _replaced(
    dataset: str,
    old: Look | None,
    now: Look,
    root: Path,
    digests: Digests,
    tagged: tuple[str, ...] = (),
) -> dict[str, str]:
    """Images of the same name and size that are others than the cache read -> their digests.

    Those that it did not read are none, but for the endings in `tagged`.
    """
    doubtful = [
        path
        for path, (size, time) in now.images.items()
        # without an earlier look no time is known: every image that the cache has read is in doubt
        if old is None or (path in old.images and (size, time) != old.images[path])
        if old is None or size == old.images[path][0]
    ]
    known = digests() if doubtful else {}
    retagged = tagged if old is not None else ()
    doubtful = [path for path in doubtful if path in known or path.lower().endswith(retagged)]
    if not doubtful:
        return {}
    if len(doubtful) > MANY:
        size = sum(now.images[path][0] for path in doubtful) / 1e9
        print(
            f"{dataset}: {len(doubtful):,} images have another time of change; reading them once "
            f"({size:.1f} GB) to see whether they are the same",
            file=sys.stderr,
        )
    with ThreadPoolExecutor(READERS) as pool:
        found = zip(doubtful, pool.map(lambda path: sha256(root / path), doubtful), strict=True)
        return {path: digest for path, digest in found if digest != known.get(path)}


def _sentence(what: str, names: list[str]) -> str:
    """`10 images removed: a, b, c and 7 more`."""
    thing, verb = what.split()
    shown = ", ".join(names[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{len(names):,} {thing}{'s' * (len(names) > 1)} {verb}: {shown}{more}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _read(path: Path) -> Seen | None:
    """What was remembered: a line with the fingerprint, then lines with the files.

    None where there is nothing, or nothing that can be read: then everything is looked at anew.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            head = json.loads(stream.readline())
        return Seen(
            head["fingerprint"],
            head["salt"],
            head["times"],
            head["tables"],
            lambda: _read_look(path, head["tables"]),
            [(name, said) for name, said in head["story"]],
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _read_look(path: Path, tables: dict[str, str]) -> Look | None:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            stream.readline()
            names, sizes, times = (json.loads(stream.readline()) for _ in range(3))
        return Look(dict(zip(names, zip(sizes, times, strict=True), strict=True)), tables)
    except (OSError, EOFError, ValueError, TypeError):
        return None


def _write(path: Path, name: str, salt: str, now: Look, story: Story) -> None:
    """Remember a look; a folder that may not be written to keeps what it has."""
    head = {
        "fingerprint": name,
        "salt": salt,
        "times": now.times(),
        "tables": now.tables,
        "story": story,
    }
    columns = [list(now.images), *([v[at] for v in now.images.values()] for at in (0, 1))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, gzip.open(partial, "wt", compresslevel=1) as stream:
            stream.writelines(json.dumps(line) + "\n" for line in (head, *columns))
    except OSError as error:
        print(f"{path}: cannot be written: {error.strerror}", file=sys.stderr)
