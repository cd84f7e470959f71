"""Draw one figure: PDF, PNG and the data it shows."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.evaluation import cells
from swift_debias.report import costs
from swift_debias.report.figures import _parts, _write
from swift_debias.run import results
from swift_debias.run.job import logged


def joined(paths: list[str]) -> pd.DataFrame:
    """Tables of the same columns, one after the other."""
    return pd.concat(map(pd.read_parquet, paths), ignore_index=True) if paths else pd.DataFrame()


with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    module = importlib.import_module(f"swift_debias.{params.module}")
    request = _parts.Request(
        name=snakemake.wildcards.figure,
        blocks=tuple(cells.Block(**block) for block in params.blocks),
        **params.names,
        variants=params.variants,
        options=params.options,
        synthetic=params.synthetic,
    )
    sources = _parts.Sources(
        metrics=joined(given.get("metrics", [])),
        costs=costs.read_costs(map(Path, given.get("costs", []))),
        predictions=results.read_predictions(
            path
            for folder in given.get("predictions", [])
            for method in request.methods()
            for path in sorted(Path(folder).glob(f"{method}/fold*.parquet"))
        ),
        summaries=results.read_summaries(map(Path, given.get("summaries", []))),
        intervals=joined(given.get("intervals", [])),
        arrays={k: v for path in given.get("arrays", []) for k, v in np.load(path).items()},
    )
    plot = _write.find(module.PLOTS, params.plot, request.name)
    paths = _write.write(plot, request, sources, Path(snakemake.output.pdf).with_suffix(""))
    print(*paths)
