"""Every trial of every search, in five formats."""

from pathlib import Path

from swift_debias.report import plain_tables, search_table
from swift_debias.run.job import logged

with logged(snakemake):
    trials, _ = search_table.read(map(Path, snakemake.input))
    shown = search_table.for_readers(trials, snakemake.params.titles)
    folder = Path(snakemake.output[0]).parent
    caption = [search_table.CAPTION]
    plain_tables.write("search", search_table.TITLE, caption, trials, shown, folder)
    print(f"{len(trials)} trials, {int(trials['chosen'].sum())} chosen")
