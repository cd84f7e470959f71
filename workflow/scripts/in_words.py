"""What happened, in a few sentences made from the numbers."""

from swift_debias.evaluation import plausibility
from swift_debias.evaluation.cells import Block
from swift_debias.files import read_parquet, write_json
from swift_debias.report import against, in_words, rank_table
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    intervals = results.joined(given.intervals)
    judged = read_parquet(str(given.plausibility))
    sentences = in_words.paragraph(
        intervals,
        plausibility.marks(judged),
        rank_table.rankings(
            [Block(**block) for block in params.blocks],
            read_parquet(str(given.metrics)),
            judged,
        ),
        params.titles,
        params.baseline,
        params.swift,
        against.shown(Block(**block) for block in params.shown),
    )
    write_json(snakemake.output[0], {"sentences": sentences})
    print("\n".join(sentences))
