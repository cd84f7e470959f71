"""Is the benchmark's oracle as fair as chance allows? Many pools without a bias, trained alike.

    python -m benchmarks.oracle --pools 16
    python -m benchmarks.oracle --document

The oracle of config/benchmark.yaml is a Baseline of a pool without a bias. Its EOdds is above the
noise floor of its test images, which knows of the sampling of patients alone: of a classifier whose
scores do not depend on the group. One training's scores do depend on it a little, one way or the
other. So pools and test sets are drawn with other seeds, by the same configuration, and trained
alike. What the signed gaps are in the mean over pools is no chance: a group that is harder to
learn. With that taken off, EOdds is the floor that knows of trainings too.

An hour at most on one core; an interrupted call goes on. `--document` writes the paragraph of
docs/benchmark.md from resources/oracle.json, a copy of the results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from benchmarks.common import RESULTS, ROOT, parser, write
from scipy import stats

CONFIG = ROOT / "config" / "benchmark.yaml"
PANEL = {"task": "clean", "backbone": "small_resnet", "attribute": "tone"}
NAMES = ("tpr_gaps", "fpr_gaps")
SETUP = "clean/small_resnet/tone"
PAGE, COMMITTED = ROOT / "docs/benchmark.md", ROOT / "resources/oracle.json"
BEGIN, END = "<!-- oracle: begin -->", "<!-- oracle: end -->"


def config(run: str, seed: int) -> dict[str, Any]:
    """The benchmark's configuration with its oracle alone."""
    own = yaml.safe_load(CONFIG.read_text())
    oracle = {"kind": "table", "title": "The oracle", "methods": ["baseline"], "panels": [PANEL]}
    views = dict.fromkeys(own["experiments"]) | {"oracle": oracle}
    return {"extends": str(CONFIG), "run": run, "seed": seed, "experiments": views}


def trained(folder: Path, seed: int) -> Path:
    """The folder of a run with this seed; done by Snakemake where it is not there."""
    run = f"pool{seed}"
    file = folder / f"{run}.yaml"
    file.write_text(yaml.safe_dump(config(run, seed)))
    made = folder / "results" / run
    wanted = [f"results/{run}/{kind}/{SETUP}" for kind in ("predictions", "intervals")]
    wanted[1] += ".parquet"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "1", "--scheduler", "greedy", "--quiet"]
    command += ["--rerun-triggers", "mtime", "params", "input", "--configfile", str(file), "--"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *wanted], check=True, env=environment, cwd=folder)
    return made


def gaps(predictions: pd.DataFrame) -> tuple[float, float]:
    """TPR and FPR of group 1 less those of group 0, at 0.5."""
    decided = predictions.assign(decided=predictions["score"] >= 0.5)
    rate = decided.groupby(["label", "group"])["decided"].mean()
    return float(rate[1, 1] - rate[1, 0]), float(rate[0, 1] - rate[0, 0])


def pool(made: Path, seed: int) -> dict[str, Any]:
    """What the trainings of a pool came to."""
    files = sorted((made / "predictions" / SETUP / "baseline").glob("fold*.parquet"))
    signed = [gaps(pd.read_parquet(file)) for file in files]
    intervals = pd.read_parquet(made / "intervals" / f"{SETUP}.parquet")
    own = intervals[(intervals["method"] == "baseline") & (intervals["metric"] == "eodds")]
    return {
        "seed": seed,
        "tpr_gaps": [tpr for tpr, _ in signed],
        "fpr_gaps": [fpr for _, fpr in signed],
        "eodds": float(np.mean([(abs(tpr) + abs(fpr)) / 2 for tpr, fpr in signed])),
        "eodds_of_the_run": float(own["value"].iloc[0]),
        "floor_95": float(own["floor_95"].iloc[0]),
    }


def summary(pools: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over pools with their 95 % t intervals, and the range of EOdds."""
    out: dict[str, Any] = {"pools": len(pools), "trainings": sum(len(p["tpr_gaps"]) for p in pools)}
    for name in NAMES:
        means = np.array([np.mean(each[name]) for each in pools])
        low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
        out[name] = {"mean": means.mean(), "low": low, "high": high}
        every = np.concatenate([each[name] for each in pools])
        out[name]["sd_of_a_training"] = float(every.std(ddof=1))
    off = {name: out[name]["mean"] for name in NAMES}
    eodds = {
        "eodds": [each["eodds"] for each in pools],
        "eodds_of_trainings": [
            np.mean([np.abs(np.array(each[name]) - off[name]) for name in NAMES]) for each in pools
        ],
    }
    for name, values in eodds.items():
        out[name] = {"mean": np.mean(values), "quantile_95": np.quantile(values, 0.95)}
        out[name] |= {"lowest": min(values), "highest": max(values)}
    out["floor_95"] = float(np.mean([each["floor_95"] for each in pools]))
    out["above_floor"] = int(sum(each["eodds"] > each["floor_95"] for each in pools))
    return out


def page(text: str, report: dict[str, Any]) -> str:
    """The page with its paragraph anew."""
    found = report["results"]["summary"]
    eodds, chance = found["eodds"], found["eodds_of_trainings"]
    tpr, fpr = found["tpr_gaps"], found["fpr_gaps"]
    fair = all(own["low"] <= 0 <= own["high"] for own in (tpr, fpr))
    mean = "{mean:+.3f} (95 %: {low:+.3f} to {high:+.3f})"
    at_floor = eodds["mean"] <= chance["quantile_95"]
    said = [
        "Yes, where the chance of trainings is counted too."
        if at_floor
        else "No, also where the chance of trainings is counted.",
        f"Over {found['pools']} pools and test sets drawn with other seeds, {found['trainings']} "
        f"trainings, its EOdds is {eodds['mean']:.3f} in the mean ({eodds['lowest']:.3f} to "
        f"{eodds['highest']:.3f}). The signed gaps of one training stray by "
        f"{tpr['sd_of_a_training']:.3f} (TPR) and {fpr['sd_of_a_training']:.3f} (FPR), which alone "
        f"makes an EOdds of {chance['mean']:.3f} (95 % below {chance['quantile_95']:.3f}).",
        f"The floor of the test images ({found['floor_95']:.3f}, exceeded in "
        f"{found['above_floor']} of the pools) knows of the sampling of people alone.",
        "In the mean the signed gaps (dark less light) are "
        f"{mean.format(**tpr)} for TPR and {mean.format(**fpr)} for FPR: "
        + (
            "no more than chance."
            if fair
            else "lesions on one tone are a little harder to see, less than what trainings do."
        ),
        "`python -m benchmarks.oracle` draws and trains them.",
    ]
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{textwrap.fill(' '.join(said), 120)}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--pools", type=int, default=16)
    options_of.add_argument("--document", action="store_true", help="write the page's paragraph")
    options = options_of.parse_args(arguments)
    if options.document:
        PAGE.write_text(page(PAGE.read_text(), json.loads(COMMITTED.read_text())))
        return
    folder = RESULTS / "oracle"
    folder.mkdir(parents=True, exist_ok=True)
    pools = []
    for seed in range(1, 1 + (2 if options.quick else options.pools)):
        pools.append(pool(trained(folder, seed), seed))
        write("oracle", options, {"summary": summary(pools) if len(pools) > 1 else {}, "of": pools})


if __name__ == "__main__":
    main()
