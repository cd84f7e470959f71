"""What the terminal shows at the end of a run: the tables in short, and what they cost."""

from pathlib import Path

from swift_debias import tables
from swift_debias.job import logged, write_text

with logged(snakemake):
    texts = [Path(path).read_text(encoding="utf-8") for path in snakemake.input.tables]
    costs = tables.read_costs(map(Path, snakemake.input.costs))
    stages = tables.stage_times(Path(snakemake.params.run) / "benchmarks")
    lines = [
        *texts,
        "What each stage cost",
        tables.frame_markdown(stages, decimals=1),
        f"Tables in four formats: {snakemake.params.run}/tables/",
    ]
    write_text(snakemake.output[0], "\n".join(lines) + "\n")
