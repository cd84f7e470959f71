"""Write one table in its formats, and what it was made of."""

import os
from pathlib import Path

from swift_debias.files import write_json
from swift_debias.report import one_table, render
from swift_debias.run import layout
from swift_debias.run.job import logged

KEYS = ("title", "blocks", "titles", "groups", "prune_by_group", "searched", "folds", "synthetic")

with logged(snakemake):
    given = snakemake.input
    params = {key: snakemake.params[key] for key in KEYS}
    files = {kind: [Path(path) for path in given.get(kind, [])] for kind in one_table.FILES}
    table = one_table.made(
        snakemake.wildcards.table, params, files, published=Path(given.published)
    )
    render.write(table, Path(snakemake.output.csv).parent)
    run = layout.run_folder("table", snakemake.output.csv)
    inside = {kind: [os.path.relpath(path, run) for path in files[kind]] for kind in files}
    write_json(snakemake.output.recipe, {"params": params, "files": inside})
    print(render.terminal(table))
