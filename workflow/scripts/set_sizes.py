"""How many images every fold and external set has, beside the paper's numbers."""

from pathlib import Path

import yaml

from swift_debias.config.schema import Attribute
from swift_debias.data.folds import sizes as count_images
from swift_debias.data.groups import groups_in
from swift_debias.data.labelled import with_skin_tone
from swift_debias.files import read_parquet, write_text
from swift_debias.report import escaping
from swift_debias.report.render import frame_markdown
from swift_debias.run import layout
from swift_debias.run.job import classes_of, logged

with logged(snakemake):
    params = snakemake.params
    cohort = read_parquet(snakemake.input.cohort)
    cohort = with_skin_tone(cohort, snakemake.input.skin_tone)
    folds = read_parquet(snakemake.input.folds)
    known = yaml.safe_load(Path(snakemake.input.expected).read_text())["pools"]
    # the paper's numbers belong to its own pool of data sets, and not to made-up ones
    pool = next((p for p in known if p["adapters"] == params.adapters), None)
    published = pool if pool and not params.synthetic else None

    groups, external = {}, {}
    for name, slice_ in params.attributes.items():
        attribute = Attribute(**slice_)
        values = groups_in(cohort, attribute)
        groups[name] = (values, attribute.group_names)
        paths = [
            path
            for path in snakemake.input.external
            if layout.keys("external", path)["attribute"] == name
        ]
        external[name] = [read_parquet(path) for path in paths]
    classes = classes_of(params)
    sizes = count_images(cohort, folds, groups, external, published, classes)
    write_text(snakemake.output.csv, escaping.csv(sizes, float_format=None))
    notes = [pool["note"]] if published else []
    totals = sizes[(sizes.group == "all") & (sizes.label == "all")]
    write_text(snakemake.output.md, "\n\n".join([frame_markdown(totals, decimals=0), *notes]))
