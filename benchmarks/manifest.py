"""Rows a second of a manifest against reading the same table with plain pandas, in one run.

python -m benchmarks.manifest [rows]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.data import adapters

ROUNDS = 3


def write_folder(root: Path, rows: int) -> Path:
    """A folder in the layout of NIH ChestX-ray14: the official columns and empty image files."""
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(1, rows // 3 + 2, rows))
    names = [f"{patient:08d}_{n:06d}.png" for n, patient in enumerate(patients)]
    findings = rng.choice(["No Finding", "Pneumothorax", "Effusion", "Effusion|Mass"], rows)
    table = pd.DataFrame(
        {
            "Image Index": names,
            "Finding Labels": findings,
            "Follow-up #": 0,
            "Patient ID": patients,
            "Patient Age": rng.integers(1, 95, rows),
            "Patient Gender": rng.choice(["F", "M"], rows),
            "View Position": rng.choice(["PA", "AP"], rows),
        }
    )
    path = root / "Data_Entry_2017_v2020.csv"
    table.to_csv(path, index=False)
    (root / "images").mkdir()
    for name in names:
        (root / "images" / name).touch()
    return path


def main() -> None:
    """Print medians of interleaved rounds and their ratio as JSON."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        path = write_folder(Path(folder), rows)
        options = adapters.make_options({"adapter": "nih", "root": folder})
        seconds: dict[str, list[float]] = {"pandas": [], "manifest": []}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            pd.read_csv(path)
            seconds["pandas"].append(time.perf_counter() - started)
            started = time.perf_counter()
            result = adapters.read(options, Path())
            seconds["manifest"].append(time.perf_counter() - started)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    report = {
        "rows": rows,
        "images kept": len(result.frame),
        "rows a second": {name: round(rows / value) for name, value in medians.items()},
        "manifest / pandas": round(medians["manifest"] / medians["pandas"], 2),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
