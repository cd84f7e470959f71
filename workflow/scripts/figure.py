"""Draw one figure: PDF, PNG and the data it shows."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias import figures, results, tables
from swift_debias.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    module = importlib.import_module(f"swift_debias.{params.module}")
    request = figures.Request(
        name=snakemake.wildcards.figure,
        blocks=tuple(tables.Block(**block) for block in params.blocks),
        **params.names,
        variants=params.variants,
        options=params.options,
        synthetic=params.synthetic,
    )
    intervals = [pd.read_parquet(path) for path in given.get("intervals", [])]
    sources = figures.Sources(
        metrics=pd.read_parquet(given.metrics[0]) if "metrics" in given.keys() else pd.DataFrame(),
        costs=tables.read_costs(map(Path, given.get("costs", []))),
        predictions=results.read_predictions(map(Path, given.get("predictions", []))),
        summaries=results.read_summaries(map(Path, given.get("summaries", []))),
        intervals=pd.concat(intervals) if intervals else pd.DataFrame(),
        arrays=dict(np.load(given.arrays[0])) if "arrays" in given.keys() else {},
    )
    plot = figures.find(module.PLOTS, params.plot, request.name)
    paths = figures.write(plot, request, sources, Path(snakemake.output.pdf).with_suffix(""))
    print(*paths)
