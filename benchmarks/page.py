"""What `make bench` measured, as a section of docs/performance.md.

    python -m benchmarks.page --keep     # copies results/ into resources/ and writes the section
    python -m benchmarks.page            # writes it again from what is kept

Kept are the JSON of the benchmarks, how long each took, and the figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.common import RESULTS, ROOT

PAGE, KEPT = ROOT / "docs/performance.md", ROOT / "resources/benchmarks.json"
FIGURE = "benchmarks.png"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
ENDS = ("lowest", "highest")
Found = Mapping[str, Any]


def spread(found: Found) -> str:
    """Median (lowest to highest)."""
    return f"{found['median']:.2f} ({found['lowest']:.2f}-{found['highest']:.2f})"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Markdown; numbers stand on the right."""
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def swift(results: Found) -> str:
    """SWiFT end to end, times as fast as the plain implementation."""
    head = ["times as fast as the plain implementation", "at 3 epochs, measured"]
    head += ["with making the cache", "at 20 epochs", "at 10 epochs", "bound"]
    rows = []
    for name, of in results.items():
        ahead = of["projected"]
        paper = [ahead["skin, 20 epochs"], ahead["CXR, 10 epochs"], ahead["bound"]]
        both = [of["ratio"], of["ratio_with_cache_building"]]
        rows.append([f"{name}, {of['images']} images", *map(spread, both), *paper])
    return table(head, rows)


def importance(results: Found) -> str:
    """Importances, in forward-backward passes."""
    ways = {
        "per_sample": "per sample, all diagonals",
        "minibatch": "mini-batch, two diagonals (SWiFT)",
        "both": "both at once",
        "minibatch_autograd": "mini-batch, plain automatic differentiation",
        "loop": "loop over single samples",
        "vmap": "torch.func.vmap",
    }
    rows = [
        [said]
        + [
            spread({"median": of["ratio_to_floor"][way]} | {k: of[k][way] for k in ENDS})
            for of in results.values()
        ]
        for way, said in ways.items()
    ]
    return table(["importance at 64 px, forward-backward passes", *results], rows)


def training_step(results: Found) -> str:
    """A training step on the cache."""
    head = ["a training step at 64 px", "images a second"]
    head += ["of a resident random batch's speed", "of a matrix product's speed"]
    return table(
        head,
        [
            [
                name,
                of["images_per_second"],
                spread(of["share_of_floor"]["resident"]),
                f"{of['share_of_peak']:.0%}",
            ]
            for name, of in results.items()
        ],
    )


def scaling(results: Found) -> str:
    """Eight times as many images, methods, folds."""
    of_all = {**results["images"], **results["jobs"]}
    rows = [[name, of["eight_times_over_once"], of["exponent"]] for name, of in of_all.items()]
    return table(
        ["eight times as many images, methods or folds", "times as long", "exponent"], rows
    )


def plan(results: Found) -> str:
    """Planning, and what Snakemake takes for a workflow that does nothing."""
    keys = list(next(iter(results.values())))
    rows = [[key, *(of[key] for of in results.values())] for key in keys if key != "jobs"]
    return table(["jobs planned", *(of["jobs"] for of in results.values())], rows)


def startup(results: Found) -> str:
    """A job without its work."""
    rows = sorted(results.items(), key=lambda row: -row[1]["cpu_seconds"])
    shown = [[name, f"{of['cpu_seconds']:.1f}"] for name, of in rows[:6]]
    rest = sorted(of["cpu_seconds"] for _, of in rows[6:])
    shown.append([f"the other {len(rest)}, median", f"{rest[len(rest) // 2]:.1f}"])
    return table(["imports of a script, in a process of its own", "processor seconds"], shown)


def memory(results: Found) -> str:
    """Peak memory of a job by the batch."""
    networks = {name: of for name, of in results.items() if isinstance(of, Mapping)}
    jobs = list(next(iter(networks.values())))
    rows = []
    for name, of in networks.items():
        each = [of[job] for job in jobs]
        rows.append(
            [name, *(f"{e['base_mib']} + {e['mib_per_image_of_a_batch_at_64_px']}" for e in each)]
        )
    return table(["peak memory, MiB + MiB an image of a batch at 64 px", *jobs], rows)


SECTIONS: dict[str, Callable[[Found], str]] = {
    "swift": swift,
    "importance": importance,
    "training_step": training_step,
    "scaling": scaling,
    "startup": startup,
    "memory": memory,
    "plan": plan,
}


def keep() -> dict[str, Any]:
    """What lies in results/, and its figure in resources/."""
    done = json.loads((RESULTS / "done.json").read_text())
    reports = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in SECTIONS
        if (RESULTS / f"{name}.json").is_file()
    }
    kept = {"done": done, "reports": reports}
    text = json.dumps(kept, indent=1).replace(f"{ROOT}/", "")  # no path of this machine
    KEPT.write_text(text + "\n")
    shutil.copy(RESULTS / FIGURE, ROOT / "resources" / FIGURE)
    return kept


def section(kept: Found) -> str:
    """The text between the markers."""
    reports, done = kept["reports"], kept["done"]
    machine = reports["swift"]["machine"]
    minutes = sum(one["seconds"] for one in done.values()) / 60
    commits = ", ".join(sorted({one["commit"].rstrip("+") for one in done.values()}))
    rounds = {n: reports[n]["settings"]["repeats"] for n in ("swift", "importance")}
    said = (
        f"`make bench` took {minutes:.0f} minutes on {machine['cores']} cores of "
        f"{machine['processor']} (torch {machine['torch']}, commit {commits}), one thread each. "
        f"Rounds: {rounds['swift']} of SWiFT, {rounds['importance']} elsewhere, interleaved. "
        "Medians of ratios within a round, in brackets the lowest and highest."
    )
    parts = [textwrap.fill(said, 120, break_long_words=False, break_on_hyphens=False)]
    parts += [make(reports[name]["results"]) for name, make in SECTIONS.items() if name in reports]
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    options_of = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options_of.add_argument("--keep", action="store_true", help="of results/, not what is kept")
    options = options_of.parse_args(arguments)
    kept = keep() if options.keep else json.loads(KEPT.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{section(kept)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
