"""The tables of docs/performance.md: a function makes one of the report of its benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.common import expected_views
from benchmarks.markdown import BRACKETS, Found, captioned, filled, listed, measured, spread, table

ENDS = ("lowest", "highest")
SKIN, CHEST = "skin, 20 epochs", "CXR, 10 epochs"
AIM = 3  # times as fast
KEPT = {"mini-batch": 1.5, "per sample": 1.5, "both at once": 2.0}  # passes that are aimed at
WAYS = {"mini-batch": "minibatch", "per sample": "per_sample", "both at once": "both"}


def swift(report: Found) -> str:
    """SWiFT end to end, times as fast as the plain implementation."""
    results, rows = report["results"], []
    for name, of in results.items():
        ahead = of["projected"]
        run = [of["images"], of["epochs"], spread(of["ratio"])]
        run += [spread(of["ratio_with_cache_building"])]
        paper = (ahead[key] for key in (SKIN, f"{SKIN}, bound", CHEST))
        rows.append([name, *run, *(f"{value:.2f}" for value in paper)])
    head = ["times as fast as the plain implementation", "images", "epochs run", "as run"]
    head += ["with making the cache", "skin: at 20 epochs", "bound there"]
    head += ["chest: at 10 epochs"]
    fast = [name for name, of in results.items() if of["projected"][SKIN] >= AIM]
    slow = [name for name in results if name not in fast]
    said = f"At 20 epochs {AIM} times as fast: {'; '.join(fast) or 'none'}. "
    said += f"Not: {'; '.join(slow) or 'none'}."
    repeats = report["settings"]["repeats"]
    return captioned(measured(report, repeats, BRACKETS), table(head, rows), filled(said))


def importance(report: Found) -> str:
    """Importances, in forward-backward passes."""
    results, settings = report["results"], report["settings"]
    ways = {
        "per_sample": "per sample, all diagonals",
        "minibatch": "mini-batch, two diagonals (SWiFT)",
        "both": "both at once",
        "minibatch_autograd": "mini-batch, plain automatic differentiation",
        "loop": "loop over single samples, one pass",
        "loop_two_passes": "loop over single samples, two passes",
        "vmap": "torch.func.vmap",
    }

    def found(of: Found, way: str) -> str:
        if way not in of["ratio_to_floor"]:
            return ""
        return spread({"median": of["ratio_to_floor"][way]} | {k: of[k][way] for k in ENDS})

    rows = [[said, *(found(of, way) for of in results.values())] for way, said in ways.items()]
    head = [f"importance at {settings['size']} px, forward-backward passes", *results]
    return captioned(measured(report, settings["repeats"], BRACKETS), table(head, rows))


def training_step(report: Found) -> str:
    """A training step on the cache."""
    settings = report["settings"]
    head = [f"a training step at {settings['size']} px", "images a second"]
    head += ["images held: of a resident random batch's speed", "read from the cache's map: of it"]
    head += ["of a matrix product's speed"]
    rows = []
    for name, of in report["results"].items():
        shares = [spread(of["share_of_floor"][way]) for way in ("resident", "memory_mapped")]
        rows.append([name, of["images_per_second"], *shares, f"{of['share_of_peak']:.0%}"])
    return captioned(measured(report, settings["repeats"], BRACKETS), table(head, rows))


def cache(report: Found) -> str:
    """Random batches of the cache, beside plain copies of as many bytes."""
    of = report["results"]["cache"]
    rows = []
    for name, gather, plain, share in (
        ("in memory", "gather", "memory_copy", "share_of_memory_copy"),
        ("from the disk", "cold_gather", "disk", "share_of_disk"),
    ):
        speeds = [of[f"{kind}_gib_per_second"] for kind in (gather, plain)]
        rows.append([name, *speeds, f"{of[share]:.0%}"])
    head = [f"random batches of {of['images']:,} images", "GiB a second"]
    head += ["copied or read in order", "share of that"]
    return captioned(measured(report, report["settings"]["repeats"]), table(head, rows))


def scaling(report: Found) -> str:
    """Eight times as many images, methods, folds."""
    of_all = {**report["results"]["images"], **report["results"]["jobs"]}
    kept = all("within_a_round" in of for of in of_all.values())  # which earlier results have not
    rows = []
    for name, of in of_all.items():
        longer = spread(of["within_a_round"]) if kept else of["eight_times_over_once"]
        rows.append([name, longer, of["exponent"]])
    head = ["eight times as many images, methods or folds", "times as long", "exponent"]
    said = measured(report, report["settings"]["repeats"], BRACKETS if kept else None)
    return captioned(said, table(head, rows))


def memory(report: Found) -> str:
    """Peak memory of a job by the batch."""
    networks = {name: of for name, of in report["results"].items() if isinstance(of, Mapping)}
    jobs = list(next(iter(networks.values())))
    rows = []
    for name, of in networks.items():
        each = [of[job] for job in jobs]
        rows.append(
            [name, *(f"{e['base_mib']} + {e['mib_per_image_of_a_batch_at_64_px']}" for e in each)]
        )
    error = max(of[job]["largest_relative_error"] for of in networks.values() for job in jobs)
    said = measured(report) + f" What was measured is at most {error:.0%} off."
    head = ["peak memory, MiB + MiB an image of a batch at 64 px", *jobs]
    return captioned(said, table(head, rows))


def plan(report: Found) -> str:
    """Planning, and what Snakemake takes for a workflow that does nothing."""
    results = list(report["results"].values())
    rows = [
        [key, *(spread(of[key]) if isinstance(of[key], dict) else of[key] for of in results)]
        for key in results[0]
        if key != "jobs"
    ]
    head = ["jobs planned", *(f"{of['jobs']:,}" for of in results)]
    return captioned(measured(report, report["settings"]["rounds"], BRACKETS), table(head, rows))


def startup(report: Found) -> str:
    """A job without its work."""
    rows = sorted(report["results"].items(), key=lambda row: -row[1]["cpu_seconds"])
    shown = [[name, f"{of['cpu_seconds']:.1f}"] for name, of in rows[:6]]
    rest = sorted(of["cpu_seconds"] for _, of in rows[6:])
    shown.append([f"the other {len(rest)}, median", f"{rest[len(rest) // 2]:.1f}"])
    head = ["imports of a script, in a process of its own", "processor seconds"]
    return captioned(measured(report, report["settings"]["repeats"]), table(head, shown))


def networks(report: Found) -> str:
    """Any network: its importances in passes, a table a size."""
    results, parts = report["results"], []
    for size in sorted({size for rows in results.values() for size in rows}, key=int):
        of = {name: rows[size] for name, rows in results.items() if size in rows}
        built = {name: row for name, row in of.items() if row["built"] == "yes"}
        head = [f"passes at {size} px", "images", "slow parameters", *KEPT]
        head += ["mini-batch by plain automatic differentiation"]
        rows: list[list[object]] = [
            [name if str(row["size"]) == size else f"{name}, {row['size']} px"]
            + [row["images"], f"{len(row['slow'])} of {row['parameters']}"]
            + [spread(row[way]) for way in (*WAYS.values(), "autograd")]
            for name, row in built.items()
        ]
        rows += [[name, row["built"]] for name, row in of.items() if name not in built]
        parts += [table(head, rows), filled(within(size, built))]
    tried = {n: r["swift"] for n, rows in results.items() for r in rows.values() if "swift" in r}
    failed = [f"{name}: {why}" for name, why in tried.items() if why != "yes"]
    every = [row for rows in results.values() for row in rows.values() if row["built"] == "yes"]
    batch, rounds = (
        " or ".join(map(str, sorted({row[key] for row in every}))) for key in ("batch", "rounds")
    )
    said = f"{measured(report, rounds, BRACKETS)} Batches of {batch}. "
    said += f"SWiFT ran on {len(tried) - len(failed)} of {len(tried)} networks that it was tried on"
    return captioned(f"{said}{'; '.join([':', *failed]) if failed else ''}.", *parts)


def within(size: str, built: Mapping[str, Found]) -> str:
    """How many networks keep the aims, and which lose to plain automatic differentiation."""
    kept = [
        f"{name} ({most}): {sum(row[WAYS[name]]['median'] <= most for row in built.values())}"
        for name, most in KEPT.items()
    ]
    lose = [n for n, row in built.items() if row["minibatch"]["median"] > row["autograd"]["median"]]
    return (
        f"Of {len(built)} networks at {size} px so many keep the passes that are aimed at: "
        f"{', '.join(kept)}. Mini-batch dearer than by plain automatic differentiation: "
        f"{listed(lose)}."
    )


# --- precision.py: a machine a report ------------------------------------------------------------

EPOCHS = {"3 epochs": 3, "20 epochs": 20, "10 epochs": 10}


def seconds_at(times: Mapping[str, float], whose: str, made: int, epochs: int) -> float:
    """Seconds at a number of epochs, of the stages' times at the `made` epochs that were run."""
    longer = epochs / made
    if whose == "plain":
        return times["importance"] + longer * (times["step1"] + times["step2"])
    views = expected_views(epochs) / expected_views(made)
    fixed = times["reading"] + times["importance"]
    return fixed + longer * times["step1"] + views * times["step2"]


def ratios(rounds: list[Any], above: str, below: str, epochs: int) -> list[float]:
    """Plain over ours, in every round."""
    return [
        seconds_at(one["sides"][above], "plain", one["epochs"], epochs)
        / seconds_at(one["sides"][below], "ours", one["epochs"], epochs)
        for one in rounds
    ]


def spread_of(values: list[float]) -> str:
    """Median (lowest to highest); the value where there is but one."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    ends = {"lowest": min(values), "highest": max(values)}
    return spread({"median": statistics.median(values)} | ends)


def precision(report: Found) -> str:
    """SWiFT in fp32 and bf16: a row a network."""
    results, peak = report["results"]["networks"], report["results"]["gflops"]
    head = ["network", "rounds", *(f"plain fp32 / ours, {name}" for name in EPOCHS)]
    head += ["plain bf16 / ours, 3 epochs", "bf16 off: plain fp32 / ours, 3, 20 epochs"]
    rows, fast = [], []
    for network, row in results.items():
        of = row["rounds"]
        ours = [ratios(of, "plain fp32", "ours auto", epochs) for epochs in EPOCHS.values()]
        half = ratios(of, "plain bf16", "ours auto", 3)
        off = [spread_of(ratios(of, "plain fp32", "ours fp32", epochs)) for epochs in (3, 20)]
        rows.append([network, len(of), *map(spread_of, ours), spread_of(half), ", ".join(off)])
        fast += [network] * (statistics.median(ours[1]) >= AIM)
    first = next(iter(results.values()))
    run = sorted({one["epochs"] for row in results.values() for one in row["rounds"]})
    once = all(len(row["rounds"]) == 1 for row in results.values())
    ends = "none, of one round" if once else BRACKETS
    said = (
        f"{measured(report, 'in the table', ends)} Matrix products are "
        f"{peak['bf16'] / peak['fp32']:.1f} times as fast in bf16 as in fp32; `auto` took "
        f"{first['auto']}. {first['size']} px, {first['images']} images of ISIC's sizes in batches "
        f"of {first['batch']}; epochs run: {' or '.join(map(str, run))}, the others projected from "
        f"the stages. At 20 epochs {AIM} times as fast, in the median: {listed(fast)}."
    )
    accuracy = report["results"].get("accuracy")
    return captioned(said, table(head, rows), *([filled(paired(accuracy))] if accuracy else []))


def paired(found: list[dict[str, dict[str, float]]]) -> str:
    """A sentence about the check of accuracy."""
    said = []
    for metric, name in (("auc", "AUC"), ("eodds", "EOdds")):
        moved = {}
        for side in ("bf16", "1e-6"):
            differences = [one[side][metric] - one["fp32"][metric] for one in found]
            mean, largest = statistics.mean(differences), max(map(abs, differences))
            moved[side] = f"{mean:+.4f} in the mean, at most {largest:.4f}"
        said.append(f"{name}: bf16 {moved['bf16']}; weights moved by 1e-6 {moved['1e-6']}")
    start = statistics.mean(one["fp32"]["auc"] for one in found)
    return (
        f"What it does to the result of FullFT, on this machine, over {len(found)} seeds of a "
        f"small network on made-up images (AUC {start:.3f} in fp32): bf16 minus fp32, beside what "
        f"a change of the start's weights by a part in a million does. {'. '.join(said)}."
    )
