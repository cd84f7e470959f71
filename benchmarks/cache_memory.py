"""Memory of making a cache of many images, with and without a limit of the kernel's.

    python -m benchmarks.cache_memory [--images 5000 80000] [--limit 1024]

Rows of a manifest that name the same few drawn photographs again and again (600 x 450 pixels, 256
in the cache), as a job of rule `cache_images` with two threads decodes them. `peak` is the most
memory that the process had. With `--limit` it runs in a control group of so many MiB, which counts
the written pages that the kernel has not brought to disk as well (Linux, version 1 of the memory
controller, as root): a job that needs more is ended by the kernel.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.common import draw_pictures, parser, write

from swift_debias.config.schema import Images
from swift_debias.data.cache_building import build_cache

PICTURES, SIZE = 200, 256
GROUPS = Path("/sys/fs/cgroup/memory")


def build(folder: Path, images: int, group: Path | None, answer: Connection) -> None:
    """In a process of its own: the cache, and what it took."""
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    names = [f"{row % PICTURES:05d}.jpg" for row in range(images)]
    manifest = pd.DataFrame({"image_id": [f"i{row}" for row in range(images)], "path": names})
    out, start = folder / "cache.npy", time.perf_counter()
    build_cache(manifest, folder, out, folder / "cache.parquet", Images(size=SIZE), workers=2)
    answer.send(
        {
            "peak (MiB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "seconds": round(time.perf_counter() - start, 1),
            "array (MiB)": round(out.stat().st_size / 2**20),
        }
    )


def measure(images: int, limit: int | None) -> dict[str, Any]:
    """One number of images, below a limit of so many MiB or without one."""
    group = None
    if limit is not None:
        group = GROUPS / f"swift_debias_{os.getpid()}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit * 2**20))
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        draw_pictures(Path(name), [(600, 450)] * PICTURES, grey=False)
        mine, its = fresh.Pipe()
        process = fresh.Process(target=build, args=(Path(name), images, group, its))
        process.start()
        its.close()
        try:
            found = mine.recv()
        except EOFError:
            found = {"ended": "by the kernel or by an error"}
        process.join()
    found |= {"limit (MiB)": limit}
    if group is not None:
        found["refused at the limit"] = int((group / "memory.failcnt").read_text())
        found["ended with"] = process.exitcode
        group.rmdir()
    return found


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--images", type=int, nargs="+", default=[5_000, 80_000])
    options_of.add_argument("--limit", type=int, help="MiB; default: none")
    options = options_of.parse_args()
    if options.quick:
        options.images = [500, 2_000]
    results = {str(n): measure(n, options.limit) for n in options.images}
    write("cache_memory", options, results)


if __name__ == "__main__":
    main()
