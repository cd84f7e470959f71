"""Image caches on a node's own disk: a job that trains reads images at random, which shared file
systems are slow at.

Where the environment says so (`stage` of profiles/slurm/cluster.yaml), a job copies the caches that
it opens to its temporary folder ($TMPDIR), and reads the copies; they end with the job. Bytes are
the same, so nothing else changes. Where there is no room, it reads in place.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path

SWITCH = "SWIFT_STAGE"  # 1: copy
SPARE = 1 << 30  # bytes that are left free


def staged(path: Path) -> Path:
    """The file to read in the place of this one: a copy on this node's disk, or the file itself."""
    return path if os.environ.get(SWITCH) != "1" else _copy(path.resolve())


@functools.cache
def _copy(path: Path) -> Path:
    """The job's copy of a file; what was done, or why not, is printed to the job's log."""
    size = path.stat().st_size
    folder = _folder()
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        print(f"read in place, {folder} has {free >> 20} MB free: {path} ({size >> 20} MB)")
        return path
    started = time.perf_counter()
    copy = folder / f"{len(list(folder.iterdir()))}-{path.name}"
    try:
        shutil.copyfile(path, copy)
    except OSError as error:
        copy.unlink(missing_ok=True)
        print(f"read in place, it cannot be copied to {folder} ({error.strerror}): {path}")
        return path
    print(f"copied to {copy} in {time.perf_counter() - started:.1f} s: {path} ({size >> 20} MB)")
    return copy


@functools.cache
def _folder() -> Path:
    """The folder of the job's copies; it is removed when the job ends."""
    folder = tempfile.TemporaryDirectory(prefix="swift-caches-")
    _FOLDERS.append(folder)
    return Path(folder.name)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # alive until the process ends
