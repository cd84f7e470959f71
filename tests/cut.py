"""Cuts of the demo: the same pipeline on few tiny images, in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]


def table_and_figure(
    methods: tuple[str, ...], table: list[dict[str, str]], figure: list[dict[str, str]]
) -> dict[str, Any]:
    """Table 1 and the Pareto figure of these methods, on the panels of each."""
    return {
        "table1": {"kind": "table", "title": "A cut", "methods": methods, "panels": table},
        "pareto": {
            "kind": "figure",
            "plot": "pareto",
            "title": "AUC against EOdds",
            "methods": methods,
            "panels": figure,
        },
    }


def config(
    run: str,
    images: dict[str, int],
    tasks: dict[str, Any],
    experiments: dict[str, Any],
    *,
    size: int = 48,
    **others: Any,
) -> str:
    """A configuration laid on the demo's, as YAML.

    Args:
        run: name of the run.
        images: data set -> how many images are drawn; the others are left out.
        tasks: what differs from the demo's tasks.
        experiments: the views; the demo's own are left out.
        size: pixels a side of the drawn images.
        others: further sections, e.g. `methods`.
    """
    demo = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    left_out = dict.fromkeys(name for name in demo["experiments"] if name not in experiments)
    return json.dumps(
        {
            "extends": "config/demo.yaml",
            "run": run,
            "synthetic": {"size": size, "images": images},
            "datasets": {name: {"root": f"results/{run}/raw/{name}"} for name in images},
            "tasks": tasks,
            "experiments": {**left_out, **experiments},
            **others,
        },
        indent=1,
    )
