"""docs/performance.md: every table of it is made here, of JSON in resources/.

    python -m benchmarks.page            # writes the page's marked sections anew, as `make docs`
    python -m benchmarks.page --keep     # copies what `make bench` measured into resources/ before

A section stands between `<!-- name: begin -->` and `<!-- name: end -->`. Its numbers come from

- benchmarks.json: what `make bench` measured last, how long each benchmark took, of which commit
- networks.json, precision/: copies of the results of networks.py and precision.py
- measured_elsewhere.json: numbers whose own JSON was not kept, of other machines or earlier code
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.common import RESULTS, ROOT
from benchmarks.markdown import Found, captioned, filled, source, table

PAGE, KEPT = ROOT / "docs/performance.md", ROOT / "resources"
FIGURE = "benchmarks.png"
OF_BENCH: dict[str, Callable[[Found], str]] = {
    "swift": tables.swift,
    "importance": tables.importance,
    "training_step": tables.training_step,
    "scaling": tables.scaling,
    "startup": tables.startup,
    "memory": tables.memory,
    "plan": tables.plan,
}
MARKED = re.compile(r"(<!-- ([\w ]+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)


def bench(kept: Found) -> str:
    """What it comes to, and how it was measured."""
    reports, done = kept["reports"], kept["done"]
    minutes = sum(one["seconds"] for one in done.values()) / 60
    commits = sorted({one["commit"] for one in done.values()})
    made = " and ".join(f"{c.rstrip('+')}{' with changes' * c.endswith('+')}" for c in commits)
    machine = reports["swift"]["machine"]

    def ends(name: str, *keys: str) -> str:
        found: list[Any] = list(reports[name]["results"].values())
        for key in keys:
            found = [of[key] for of in found]
        return f"{min(found):.2f} to {max(found):.2f}"

    projected = ends("swift", "projected", tables.SKIN)
    passes = ends("importance", "ratio_to_floor", "minibatch")
    share = ends("training_step", "share_of_floor", "resident", "median")
    jobs = list(reports["plan"]["results"].values())[-1]
    said = [
        f"SWiFT end to end, at 20 epochs: {projected} times as fast as a plain implementation.",
        f"Its importances: {passes} forward-backward passes over the images.",
        f"A training step: {share} of the speed of a random batch that is there already.",
        f"Planning {jobs['jobs']:,} jobs: {jobs['cpu seconds']['median']:.1f} processor seconds.",
    ]
    how = (
        f"`make bench` took {minutes:.0f} minutes on {machine['cores']} cores of "
        f"{machine['processor']} (torch {machine['torch']}, commit {made})."
    )
    return captioned(how, "\n".join(filled(one, bullet=True) for one in said))


def elsewhere(entry: Found) -> str:
    """Numbers whose own JSON was not kept."""
    written = entry["written"]
    said = f"{entry['what']}. {source(entry)} Written down {written['date']} ({written['commit']})."
    notes = [filled(note, bullet=True) for note in entry.get("notes", ())]
    parts = [table(entry["head"], entry["rows"])] if "head" in entry else []
    return captioned(said, *parts, *(["\n".join(notes)] if notes else []))


def read(folder: Path = KEPT) -> dict[str, Any]:
    """The kept JSON, by its file's name."""
    names = ("benchmarks", "networks", "measured_elsewhere")
    kept = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    files = sorted((folder / "precision").glob("*.json"), reverse=True)
    return kept | {"precision": [json.loads(file.read_text()) for file in files]}


def sections(kept: Found) -> dict[str, str]:
    """Name of a section -> its text."""
    reports = kept["benchmarks"]["reports"]
    out = {"bench": bench(kept["benchmarks"]), "cache": tables.cache(reports["scaling"])}
    out |= {name: make(reports[name]) for name, make in OF_BENCH.items()}
    out["networks"] = tables.networks(kept["networks"])
    out["precision"] = "\n\n".join(map(tables.precision, kept["precision"]))
    return out | {name: elsewhere(of) for name, of in kept["measured_elsewhere"].items()}


def written(page: str, kept: Found) -> str:
    """The page with its sections anew."""
    made = sections(kept)
    names = [match[2] for match in MARKED.finditer(page)]
    if sorted(names) != sorted(made):
        raise ValueError(f"each once on the page: {sorted(made)}; there are: {sorted(names)}")
    return MARKED.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", page)


def keep() -> None:
    """Copy what lies in results/, and its figure, into resources/."""
    done = json.loads((RESULTS / "done.json").read_text())
    reports = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in OF_BENCH}
    text = json.dumps({"done": done, "reports": reports}, indent=1)
    (KEPT / "benchmarks.json").write_text(text.replace(f"{ROOT}/", "") + "\n")  # no path of here
    shutil.copy(RESULTS / FIGURE, KEPT / FIGURE)


def main(arguments: list[str] | None = None) -> None:
    options_of = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options_of.add_argument("--keep", action="store_true", help="what lies in results/ first")
    if options_of.parse_args(arguments).keep:
        keep()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
