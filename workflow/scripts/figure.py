"""Draw one figure: PDF, PNG and the data it shows."""

from pathlib import Path

from swift_debias.evaluation.cells import Block
from swift_debias.files import read_arrays
from swift_debias.report import costs, figures
from swift_debias.report.figures import _parts, _write
from swift_debias.run import results
from swift_debias.run.job import logged

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
        metrics=results.joined(given.get("metrics", [])),
        costs=costs.read_costs(map(Path, given.get("costs", []))),
        predictions=results.read("predictions", predictions),
        summaries=results.read("mask_summary", given.get("summaries", [])),
        intervals=results.joined(given.get("intervals", [])),
        plausibility=results.joined(given.get("plausibility", [])),
        arrays={k: v for path in given.get("arrays", []) for k, v in read_arrays(path).items()},
    )
    draw = figures.load(params.plot).draw
    paths = _write.write(draw, request, sources, Path(snakemake.output.pdf).with_suffix(""))
    print(*paths)
