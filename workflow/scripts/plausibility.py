"""What to mind about every method on every test set, before it is ranked."""

import pandas as pd

from swift_debias.evaluation import plausibility
from swift_debias.files import atomic_path
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    found = plausibility.judge(
        pd.read_parquet(str(snakemake.input.metrics)),
        params.groups,
        params.min_group,
        params.baseline,
    )
    with atomic_path(snakemake.output[0]) as partial:
        found.to_parquet(partial, index=False)
    print(f"{len(found)} marks")
    print(found["mark"].value_counts().to_string())
