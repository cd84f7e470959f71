"""Draw one figure: PDF, PNG and the data it shows."""

from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.evaluation.cells import Block
from swift_debias.report import costs, figures
from swift_debias.report.figures import _parts, _write
from swift_debias.run import results
from swift_debias.run.job import logged


def joined(paths: list[str]) -> pd.DataFrame:
    """Tables of the same columns, one after the other."""
    return pd.concat(map(pd.read_parquet, paths), ignore_index=True) if paths else pd.DataFrame()


with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    request = _parts.Request(
        name=snakemake.wildcards.figure,
        blocks=tuple(Block(**block) for block in params.blocks),
        **params.names,
        variants=params.variants,
        options=params.options,
        synthetic=params.synthetic,
    )
    predictions = [
        path
        for folder in given.get("predictions", [])
        for method in request.methods()
        for path in sorted(Path(folder).glob(f"{method}/fold*.parquet"))
    ]
    sources = _parts.Sources(
        metrics=joined(given.get("metrics", [])),
        costs=costs.read_costs(map(Path, given.get("costs", []))),
        predictions=results.read("predictions", predictions),
        summaries=results.read("mask_summary", given.get("summaries", [])),
        intervals=joined(given.get("intervals", [])),
        arrays={k: v for path in given.get("arrays", []) for k, v in np.load(path).items()},
    )
    draw = figures.load(params.plot).draw
    paths = _write.write(draw, request, sources, Path(snakemake.output.pdf).with_suffix(""))
    print(*paths)
