"""The external set of every fold for one attribute: its validation images with a known group."""

import json

import numpy as np

from swift_debias.config.schema import Attribute
from swift_debias.data.groups import groups_in
from swift_debias.data.labelled import KEYS, with_skin_tone
from swift_debias.files import read_parquet, write_parquet
from swift_debias.methods import _external
from swift_debias.run.job import classes_of, logged
from swift_debias.seeds import external_seed

with logged(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    attribute = Attribute(**params.attribute)
    cohort = read_parquet(snakemake.input.cohort)
    cohort = with_skin_tone(cohort, snakemake.input.skin_tone)
    cohort = cohort.merge(read_parquet(str(snakemake.input.folds)), on=KEYS)
    groups = groups_in(cohort, attribute)
    for fold, path in enumerate(snakemake.output):
        seed = external_seed(params.seed, wildcards.task, wildcards.attribute, fold)
        external = _external.make_external(
            cohort,
            groups,
            fold,
            len(attribute.group_names),
            params.min_cell,
            np.random.default_rng(seed),
            attribute.group_names,
            classes_of(params),
            params.get("class_names", ()),
        )
        write_parquet(external.frame, path)
        print(json.dumps(external.log, indent=1))
