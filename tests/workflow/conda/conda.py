#!/usr/bin/env python3
"""A stand-in for conda in the tests: the calls that Snakemake makes, answered with py-rattler.

py-rattler, pixi's solver and installer, is on PyPI, where conda is not. Channels are looked up
below CONDA_CHANNEL_ALIAS, as conda does; conda_channel.py makes one there. What a `pip:` section
names is installed by the environment's own pip, as conda does; PIP_* variables say from where.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import NoReturn

OLDEST = "24.7.1"  # that Snakemake accepts
HERE = Path(__file__).resolve().parent


def main(call: list[str]) -> None:
    match call:
        case ["--version"]:
            print(f"conda {OLDEST}")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(HERE), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", to]:
            run(create(Path(file), Path(to)))
        case ["index", channel]:
            run(index(Path(channel)))
        case ["clean", *_]:
            pass  # packages stay in the channel's cache
        case _:
            sys.exit(f"the stand-in for conda does not know: conda {' '.join(call)}")


def run(work: Coroutine[None, None, str]) -> NoReturn:
    """Do it, say what went wrong, and leave without Python's clean-up.

    py-rattler 0.28's threads outlive the work, and one in eight processes crashed in the clean-up.
    """
    wrong = asyncio.run(work)
    print(wrong, file=sys.stderr, flush=True)
    os._exit(1 if wrong else 0)


async def index(channel: Path) -> str:
    """Write a channel's repodata.json."""
    from rattler.index import index_fs

    await index_fs(channel, write_zst=False, write_shards=False)
    return ""


async def create(file: Path, prefix: Path) -> str:
    """Solve an environment file and link its packages into a folder."""
    import yaml
    from rattler import MatchSpec, install, solve
    from rattler.exceptions import SolverError

    environment = yaml.safe_load(file.read_text())
    root = os.environ["CONDA_CHANNEL_ALIAS"]
    channels = [f"{root}/{name}" for name in environment["channels"] if name != "nodefaults"]
    entries = environment["dependencies"]
    specs = [MatchSpec(entry) for entry in entries if isinstance(entry, str)]
    try:
        records = await solve(channels, specs, platforms=["linux-64", "noarch"])
    except SolverError as error:
        return f"{file.name} cannot be solved: {error}"
    cache = Path(root.removeprefix("file://")) / "cache"
    await install(records, prefix, cache_dir=cache, show_progress=False)
    if named := [name for entry in entries if isinstance(entry, dict) for name in entry["pip"]]:
        pip = [prefix / "bin" / "python", "-m", "pip", "install", "--quiet", *named]
        done = subprocess.run(pip, stderr=subprocess.PIPE, text=True)
        return done.stderr if done.returncode else ""
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
