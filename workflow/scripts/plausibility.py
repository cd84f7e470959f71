"""What to mind about every method on every test set, before it is ranked."""

from swift_debias.evaluation import plausibility
from swift_debias.files import read_parquet, write_parquet
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    found = plausibility.judge(
        read_parquet(str(snakemake.input.metrics)),
        params.groups,
        params.min_group,
        params.baseline,
        read_parquet(str(snakemake.input.intervals)),
        read_parquet(str(repeats)) if (repeats := snakemake.input.get("repeats")) else None,
    )
    write_parquet(found, snakemake.output[0])
    print(f"{len(found)} marks")
    print(found["mark"].value_counts().to_string())
