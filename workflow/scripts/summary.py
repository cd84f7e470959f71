"""What the terminal shows at the end of a run: what happened, tables in short, their cost."""

from pathlib import Path

from swift_debias.files import read_json, read_text, write_text
from swift_debias.report import render
from swift_debias.report.costs import stage_times
from swift_debias.run.job import logged

with logged(snakemake):
    texts = [read_text(path) for path in snakemake.input.tables]
    stages = stage_times(Path(snakemake.params.run) / "benchmarks")
    gone = [
        *(f"- failed: {done}: {why}" for done, why, _ in snakemake.params.missing["failed"]),
        *(
            f"- {view} without {methods} of {setup}" if setup else f"- {view}: not made"
            for view, setup, methods in snakemake.params.missing["left_out"]
        ),
    ]
    lines = [
        *(["What is missing", *gone, ""] if gone else []),
        "In short",
        *(f"- {sentence}" for sentence in read_json(str(snakemake.input.in_words))["sentences"]),
        "",
        *texts,
        "What each stage cost",
        render.frame_markdown(stages, decimals=1),
        f"Tables in four formats: {snakemake.params.run}/tables/",
    ]
    write_text(snakemake.output[0], "\n".join(lines) + "\n")
