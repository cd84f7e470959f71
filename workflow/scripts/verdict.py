"""Did it reproduce? Every published number and every claim, against this run."""

from pathlib import Path

import pandas as pd

from swift_debias import claims, results, tables, verdict
from swift_debias.job import logged
from swift_debias.settings import Method

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    summaries = results.read_summaries(map(Path, given.summaries))
    keys = ["task", "backbone", "attribute", "fold"]
    masks = [
        verdict.mask_rows(part, *map(str, key[:3]), fold=int(key[3]))
        for key, part in summaries.groupby(keys)
    ]
    measured = [pd.read_parquet(str(given.metrics)), tables.read_costs(map(Path, given.costs))]
    found = verdict.reach_verdict(
        pd.concat([*measured, *masks], ignore_index=True),
        tables.read_published(Path(given.published)),
        claims.read_claims(Path(given.claims)),
        {
            name: [tables.Block(**block) for block in blocks]
            for name, blocks in params.tables.items()
        },
        {name: Method(**method) for name, method in params.methods.items()},
        params.epochs_percent,
        params.synthetic,
    )
    verdict.write(found, Path(snakemake.output.html).parent)
    print("\n".join(verdict.summary(found)))
