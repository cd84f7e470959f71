"""Writing files whole or not at all, and reading a run's own files back as they were written.

A file that a later job reads carries the SHA-256 of its own bytes, in the place that its format has
for remarks (`MARK`, followed by the digest; while it is computed the digest reads as zeros). So any
change of any byte shows, whatever the format, and the same content gives the same bytes. `check`
refuses in one line what does not fit, and also what carries no digest: it was not written by this
workflow, or by a version before digests, whose results run again anyway.

    Parquet       key-value metadata of the footer
    safetensors   metadata of the header (learning/tensor_files.py)
    JSON          key "digest"
    HTML          a comment at the end
    npz           comment of the zip file

Image caches are too large to be read whole by every job: their index has a checksum an image
(data/image_cache.py). The short texts that only the terminal shows have no digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

MARK = "swift-sha256:"
BLANK = "0" * 64
EDGE = 1 << 20  # bytes at either end of a file within which the mark stands
PART = 1 << 20  # bytes that are hashed at a time
JSON_KEY, METADATA_KEY = "digest", "swift_digest"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error."""
    final = Path(path)
    partial = final.with_name(final.name + ".partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)  # on a full disk it would be in the way
        raise
    partial.replace(final)


# --- digests --------------------------------------------------------------------------------------


def seal(path: Path) -> None:
    """Write the digest of a file, which holds `MARK + BLANK` once, into its place."""
    with path.open("r+b") as file:
        place = _place_of_digest(file)
        assert place is not None, f"{path} has no place for a digest"
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def check(path: str | Path, *, own: bool = False) -> None:
    """Refuse a file that is not as it was written.

    Args:
        path: the file.
        own: it may be a user's, who need not give it a digest; one that it has must be right.

    Raises:
        UserError: it is missing, unreadable, has another digest than its bytes, or none.
    """
    try:
        with Path(path).open("rb") as file:
            place = _place_of_digest(file)
            if place is None:
                if own:
                    return
                raise damaged(path, "it has no digest")
            computed = _digest(file, place)
            file.seek(place)
            if file.read(len(BLANK)) != computed:
                raise damaged(path, "its bytes do not fit its digest")
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def damaged(path: str | Path, why: str) -> UserError:
    """What is said of a result that is not as it was written."""
    return UserError(f"{path} is damaged or was changed ({why}): delete it and run again")


def _place_of_digest(file: BinaryIO) -> int | None:
    """Where a file's digest begins; None: it has none."""
    size = file.seek(0, os.SEEK_END)
    for start in (0, max(0, size - EDGE)):
        file.seek(start)
        found = file.read(EDGE).find(MARK.encode())
        if found >= 0:
            return start + found + len(MARK)
    return None


def _digest(file: BinaryIO, place: int) -> bytes:
    """SHA-256 of a file, in hexadecimal, the digest itself taken as zeros."""
    digest = hashlib.sha256()
    file.seek(0)
    left = place
    while left and (part := file.read(min(left, PART))):
        digest.update(part)
        left -= len(part)
    digest.update(BLANK.encode())
    file.seek(place + len(BLANK))
    while part := file.read(PART):
        digest.update(part)
    return digest.hexdigest().encode()


# --- formats --------------------------------------------------------------------------------------


def remove(paths: Iterable[Path]) -> None:
    """Remove files that an earlier call wrote, as far as they are there.

    Before the first of several is written anew, so that none is left beside those of another call.
    """
    for path in paths:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all; HTML carries its digest."""
    html = Path(path).suffix == ".html"
    with atomic_path(path) as partial:
        ending = f"<!-- {MARK}{BLANK} -->\n" if html else ""
        partial.write_text(text + ending, encoding="utf-8")
        if html:
            seal(partial)


def read_text(path: str | Path) -> str:
    """What `write_text` wrote.

    Raises:
        UserError: see `check`; or a text without digest that is empty, cut or no UTF-8.
    """
    if Path(path).suffix == ".html":
        check(path)
    else:
        check(path, own=True)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise damaged(path, "it is no UTF-8 text") from None
    if not text.endswith("\n") or "\0" in text:
        raise damaged(path, "it is no whole text")
    return text


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all, with its digest as the first key."""
    text = json.dumps({JSON_KEY: MARK + BLANK} | dict(data), indent=1) + "\n"
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
        seal(partial)


def read_json(path: str | Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        UserError: see `check`.
    """
    check(path)
    data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    del data[JSON_KEY]
    return data


def write_parquet(
    frame: pd.DataFrame | pa.Table, path: str | Path, compression: str = "snappy"
) -> None:
    """Write a table as Parquet, whole or not at all, with its digest; a frame's index is left."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, None, False)
    with atomic_path(path) as partial:
        with pq.ParquetWriter(partial, table.schema, compression=compression) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({METADATA_KEY: MARK + BLANK})
        seal(partial)


def read_parquet(
    path: str | Path, columns: Sequence[str] | None = None, *, own: bool = False
) -> pd.DataFrame:
    """What `write_parquet` wrote, or some of its columns.

    Args:
        path: the file.
        columns: which; None: all.
        own: see `check`.

    Raises:
        UserError: see `check`; or a user's file that is no Parquet file.
    """
    import pandas as pd

    check(path, own=own)
    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except Exception as error:  # of pyarrow, in many types
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a compressed npz file, whole or not at all, with its digest."""
    import zipfile

    import numpy as np

    with atomic_path(path) as partial:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        with zipfile.ZipFile(partial, "a") as archive:
            archive.comment = (MARK + BLANK).encode()
        seal(partial)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote.

    Raises:
        UserError: see `check`.
    """
    import numpy as np

    check(path)
    with np.load(io.BytesIO(Path(path).read_bytes())) as arrays:
        return dict(arrays.items())
