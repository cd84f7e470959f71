"""All benchmarks, one after another, and their figure.

    python -m benchmarks [--quick] [--again] [name ...]

Every benchmark is a process of its own. What it prints goes to results/<name>.txt, what it measured
to results/<name>.json. One that has run, on this commit or an earlier one, is not run again, so
that an interrupted call goes on where it was; `--again` measures anew. How long each took, and of
which commit it is, is in results/done.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.common import RESULTS, ROOT

PLAIN = ("manifest", "images", "duplicates", "plan", "fingerprint")  # have no small sizes
SIZED = ("importance", "networks", "training_step", "swift", "scaling", "startup", "memory")
LAST = ("gpu_hours",)  # reads what others measured
ALL = (*PLAIN, *SIZED, *LAST)
DONE = RESULTS / "done.json"
LIBRARY = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(ALL))
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument("--again", action="store_true", help="also what has run")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - {*ALL}):
        parser.error(f"no benchmark of this name: {', '.join(unknown)}")
    RESULTS.mkdir(exist_ok=True)
    done: dict[str, Any] = json.loads(DONE.read_text()) if DONE.is_file() else {}
    for name in options.names or ALL:
        if not options.again and done.get(name, {}).get("quick") == options.quick:
            print(f"{name}: has run, {done[name]['seconds']} s")
            continue
        print(f"{name} ...", end=" ", flush=True)
        done[name] = {"seconds": run(name, options.quick), "quick": options.quick} | commit()
        DONE.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{done[name]['seconds']} s")
    print(f"{sum(one['seconds'] for one in done.values()) / 60:.0f} minutes in all")
    subprocess.run([sys.executable, "-m", "benchmarks.figure"], cwd=ROOT, env=LIBRARY, check=True)


def run(name: str, quick: bool) -> float:
    """Seconds of one benchmark; ends the program where it fails."""
    small = ["--quick"] if quick and name not in PLAIN else []
    started, log = time.perf_counter(), RESULTS / f"{name}.txt"
    with log.open("w") as out:
        command = [sys.executable, "-m", f"benchmarks.{name}", *small]
        done = subprocess.run(command, cwd=ROOT, env=LIBRARY, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        print(f"failed, {log}:")
        sys.exit("\n".join(log.read_text().splitlines()[-5:]))
    return round(time.perf_counter() - started, 1)


def commit() -> dict[str, str]:
    """Of the code that was measured; a + where it was changed."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = bool(git("status", "--porcelain"))
        return {"commit": git("rev-parse", "--short", "HEAD") + "+" * changed}
    except FileNotFoundError:  # there is no git here
        return {"commit": ""}


if __name__ == "__main__":
    main()
