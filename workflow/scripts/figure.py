"""Draw one figure: PDF, PNG and the data it shows."""

from pathlib import Path

import pandas as pd

from swift_debias.evaluation.cells import Block
from swift_debias.files import read_arrays
from swift_debias.report import costs, figures
from swift_debias.report.figures import _parts, _write
from swift_debias.run import layout, results
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

    def predictions(need: str, repeats: dict[str, int] | None) -> pd.DataFrame:
        """The predictions of all methods that the figure shows of each setup."""
        frames = [results.read("predictions", [])]
        for folder in given.get(need, []):
            keys = layout.keys("setup_predictions", folder)
            shown = dict.fromkeys(
                method
                for block in request.blocks
                if keys == {key: getattr(block, key) for key in keys}
                for method in block.methods
            )
            frames.append(results.predictions(folder, shown, params.folds, repeats))
        return pd.concat(frames[1:] or frames, ignore_index=True)

    sources = _parts.Sources(
        metrics=results.joined(given.get("metrics", [])),
        costs=costs.read_costs(map(Path, given.get("costs", []))),
        predictions=predictions("predictions", None),
        repeats=predictions("repeats", dict(params.repeats)),
        summaries=results.read("mask_summary", given.get("summaries", [])),
        intervals=results.joined(given.get("intervals", [])),
        plausibility=results.joined(given.get("plausibility", [])),
        arrays={k: v for path in given.get("arrays", []) for k, v in read_arrays(path).items()},
    )
    draw = figures.load(params.plot).draw
    paths = _write.write(draw, request, sources, Path(snakemake.output.pdf).with_suffix(""))
    print(*paths)
