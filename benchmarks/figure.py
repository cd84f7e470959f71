"""One figure of what the benchmarks measured: results/benchmarks.png.

python -m benchmarks.figure

A panel for each JSON file in results/; what has not been run is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from benchmarks.common import RESULTS
from matplotlib.axes import Axes

mpl.use("Agg")
from matplotlib import pyplot as plt

BLUE, GREY, RED = "#4477AA", "#BBBBBB", "#EE6677"
COLORS = (BLUE, RED, "#228833", "#CCBB44")


def bars(axes: Axes, values: dict[str, float], label: str, colors: list[str] | str = BLUE) -> None:
    """Horizontal bars with their values, the first on top."""
    places = np.arange(len(values))[::-1]
    axes.barh(places, list(values.values()), color=colors)
    axes.set_yticks(places, list(values))
    for place, value in zip(places, values.values(), strict=True):
        axes.text(value, place, f" {value:.3g}", va="center", fontsize=8)
    axes.set_xlabel(label)
    axes.margins(x=0.18)


def swift(axes: Axes, results: dict[str, Any]) -> None:
    """Seconds an image of each stage, plain over ours."""
    stages = {"importance": COLORS[3], "step1": BLUE, "step2": RED}
    places, names = [], []
    for number, (case, found) in enumerate(results.items()):
        for offset, side in ((0.2, "plain"), (-0.2, "ours")):
            at, left, whole = -number + offset, 0.0, sum_of(found["seconds_per_image"]["plain"])
            for stage, color in stages.items():
                width = found["seconds_per_image"][side][stage] / whole
                axes.barh(at, width, 0.36, left, color=color, alpha=1 if side == "ours" else 0.5)
                left += width
        places.append(-number)
        names.append(case)
        text = f" {found['ratio']['median']:.2f} times as fast"
        axes.text(left, -number - 0.2, text, va="center", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.axvline(1 / 3, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xlabel("share of the plain implementation's time (dashed: a third)")
    axes.set_title(
        "SWiFT end to end, plain (pale) and ours: importance (yellow), step 1 (blue), step 2 (red)"
    )


def sum_of(seconds: dict[str, float]) -> float:
    return sum(value for stage, value in seconds.items() if stage != "reading")


def importance(axes: Axes, results: dict[str, Any]) -> None:
    networks = list(results)
    names = list(dict.fromkeys(name for r in results.values() for name in r["ratio_to_floor"]))
    for number, network in enumerate(networks):
        ratios = results[network]["ratio_to_floor"]
        places = -np.arange(len(names)) - (number - 1) * 0.27
        values = [ratios.get(name, np.nan) for name in names]
        axes.barh(places, values, 0.25, color=COLORS[number], label=network)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(-np.arange(len(names)), names)
    axes.set_xlabel("cost in forward-backward passes over the set")
    axes.set_title("Importance (a missing bar did not run)")
    axes.legend(fontsize=7)


def training_step(axes: Axes, results: dict[str, Any]) -> None:
    values = {}
    for network, found in results.items():
        values[f"{network}: of the resident random batch"] = found["share_of_floor"]["resident"][
            "median"
        ]
        values[f"{network}: of the matrix product's peak"] = found["share_of_peak"]
    bars(axes, values, "share of the speed", [BLUE, GREY] * len(results))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_title("Training step")


def scaling(axes: Axes, results: dict[str, Any]) -> None:
    for name, found in (results["images"] | results["jobs"]).items():
        amounts = [int(amount) for amount in found["seconds"]]
        seconds = np.array(list(found["seconds"].values()))
        label = f"{name} (exponent {found['exponent']:.2f})"
        axes.loglog(amounts, seconds / seconds[0], "o-", markersize=3, label=label)
    axes.loglog(amounts, amounts, "--", color="black", linewidth=0.8, label="linear")
    axes.set_xticks(amounts, list(map(str, amounts)))
    axes.minorticks_off()
    axes.set_xlabel("images, methods or folds, times the smallest")
    axes.set_ylabel("time, times the smallest")
    axes.set_title("Scaling")
    axes.legend(fontsize=6)


def cache(axes: Axes, results: dict[str, Any]) -> None:
    found = results["cache"]
    values = {
        "random batches, cache in memory": found["gather_gib_per_second"],
        "copy of as much memory": found["memory_copy_gib_per_second"],
        "random batches, cache on disk": found["cold_gather_gib_per_second"],
        "reading the file in order": found["disk_gib_per_second"],
    }
    bars(axes, values, "GiB a second", [BLUE, GREY] * 2)
    axes.set_title("The image cache, 256 x 256 pixels")


def startup(axes: Axes, results: dict[str, Any]) -> None:
    values = {name: found["cpu_seconds"] for name, found in results.items()}
    bars(axes, dict(sorted(values.items(), key=lambda item: -item[1])), "CPU seconds of imports")
    axes.tick_params(axis="y", labelsize=6)
    axes.set_title("Start-up of each rule's script")


def memory(axes: Axes, results: dict[str, Any]) -> None:
    values = {
        f"{network}: {job}": found["mib_per_image_of_a_batch_at_64_px"]
        for network, jobs in results.items()
        if isinstance(jobs, dict)
        for job, found in jobs.items()
    }
    bars(axes, values, "MiB for each image of a batch, 64 x 64 pixels")
    axes.tick_params(axis="y", labelsize=6)
    axes.set_title("Peak memory")


# name: drawing, and the file that it draws
PANELS: dict[str, tuple[Callable[[Axes, dict[str, Any]], None], str]] = {
    "swift": (swift, "swift"),
    "importance": (importance, "importance"),
    "training_step": (training_step, "training_step"),
    "scaling": (scaling, "scaling"),
    "cache": (cache, "scaling"),
    "startup": (startup, "startup"),
    "memory": (memory, "memory"),
}


def main() -> None:
    files = {file: RESULTS / f"{file}.json" for _, file in PANELS.values()}
    found = {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}
    names = [name for name, (_, file) in PANELS.items() if file in found]
    others = [name for name in names if name != "swift"]
    grid = [["swift", "swift"]] if "swift" in names else []
    grid += [[*others[i : i + 2], "."][:2] for i in range(0, len(others), 2)]
    size = (14, 5 * len(grid))
    figure, panels = plt.subplot_mosaic(grid, figsize=size, layout="constrained")
    for name in names:
        draw, file = PANELS[name]
        draw(panels[name], found[file]["results"])
    machines = {
        f"{r['machine']['processor']}, torch {r['machine']['torch']}, {r['settings']['threads']} "
        f"thread" + (f", {r['machine']['gpu']}" if r["machine"]["gpu"] else "")
        for r in found.values()
    }
    figure.suptitle("; ".join(sorted(machines)), fontsize=9)
    path = RESULTS / "benchmarks.png"
    figure.savefig(path, dpi=90)
    print(path)


if __name__ == "__main__":
    main()
