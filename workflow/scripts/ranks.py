"""The methods' mean ranks over all test sets, in five formats."""

from pathlib import Path

from swift_debias.evaluation import ranks
from swift_debias.evaluation.cells import Block
from swift_debias.files import read_parquet
from swift_debias.report import plain_tables, rank_table
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    found = rank_table.rankings(
        [Block(**block) for block in params.blocks],
        read_parquet(str(given.metrics)),
        read_parquet(str(given.plausibility)),
    )
    table = ranks.table(list(found.values()))
    caption = rank_table.caption(found, params.titles)
    shown = rank_table.for_readers(table, params.titles)
    folder = Path(snakemake.output[0]).parent
    plain_tables.write("ranks", rank_table.TITLE, caption, table, shown, folder)
    print("\n".join(caption))
