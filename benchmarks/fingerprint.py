"""What a look at a raw folder costs, against the number of files.

    python -m benchmarks.fingerprint

Empty files in folders of 1,000 and a table of a row a file. `first`: nothing is remembered yet.
`again`: nothing has changed. `listed`: the same walk without times or memory, which a manifest
needs anyway. CPU seconds, with the folder's entries in memory; a network file system adds its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import parser, write

from swift_debias.data import adapters, fingerprint, listing


def draw(root: Path, files: int) -> None:
    """The folder."""
    names = [f"d{k // 1000}/image{k:06d}.png" for k in range(files)]
    for start in range(0, files, 1000):
        (root / names[start]).parent.mkdir(parents=True)
    for name in names:
        (root / name).touch()
    (root / "t.csv").write_text("file,label\n" + "".join(f"{name},1\n" for name in names))


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for files in (1_000, 10_000) if options.quick else (10_000, 100_000, 400_000):
        with tempfile.TemporaryDirectory() as name:
            root, seen = Path(name) / "raw", Path(name) / "seen.json.gz"
            root.mkdir()
            draw(root, files)
            label = {"column": "label", "positive": ["1"], "negative": ["0"]}
            data = {"adapter": "table", "root": str(root), "table": "t.csv", "path": "file"}
            dataset = adapters.make_options(data | {"label": label})

            def look(dataset: Any = dataset, seen: Path = seen) -> object:
                return fingerprint.fingerprint("x", dataset, Path(), seen)

            out[f"{files:,} files"] = {
                "listed": timed(lambda root=root: list(listing.walk(root))),  # type: ignore[misc]
                "first": timed(look),
                "again": timed(look),
                "remembered_mb": round(seen.stat().st_size / 1e6, 1),
            }
    return out


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__).parse_args(arguments)
    write("fingerprint", options, measure(options))


if __name__ == "__main__":
    main()
