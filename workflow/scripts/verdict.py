"""Did it reproduce? Every published number and every claim, against this run."""

from pathlib import Path

import pandas as pd

from swift_debias.config.schema import Method
from swift_debias.evaluation import cells
from swift_debias.files import read_json, read_parquet
from swift_debias.report import claims, published, verdict
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    summaries = results.read("mask_summary", given.summaries)
    keys = ["task", "backbone", "attribute", "fold"]
    masks = [
        verdict.mask_rows(part, *map(str, key[:3]), fold=int(key[3]))
        for key, part in summaries.groupby(keys)
    ]
    measured = [read_parquet(str(given.metrics)), read_parquet(str(given.costs))]
    found = verdict.reach_verdict(
        pd.concat([*measured, *masks], ignore_index=True),
        published.read_published(Path(given.published)),
        claims.read_claims(Path(given.claims)),
        {
            name: [cells.Block(**block) for block in blocks]
            for name, blocks in params.tables.items()
        },
        {name: Method(**method) for name, method in params.methods.items()},
        params.epochs_percent,
        params.synthetic,
        read_parquet(str(given.plausibility)),
        results.joined(given.intervals),
        read_json(str(given.in_words))["sentences"],
    )
    verdict.write(found, Path(snakemake.output.html).parent)
    print("\n".join(verdict.summary(found)))
