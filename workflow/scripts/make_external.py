"""The external set of every fold for one attribute: its validation images with a known group."""

import json

import numpy as np
import pandas as pd

from swift_debias import manifest, splits
from swift_debias.job import logged, whole
from swift_debias.labelled import KEYS, with_skin_tone
from swift_debias.seeds import derive_seed
from swift_debias.settings import Attribute

with logged(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    attribute = Attribute(**params.attribute)
    cohort = pd.read_parquet(snakemake.input.cohort)
    cohort = with_skin_tone(cohort, snakemake.input.skin_tone)
    cohort = cohort.merge(pd.read_parquet(str(snakemake.input.folds)), on=KEYS)
    groups = manifest.group_index(cohort[attribute.column], attribute)
    for fold, path in enumerate(snakemake.output):
        seed = derive_seed(params.seed, "external", wildcards.task, wildcards.attribute, fold)
        external = splits.make_external(
            cohort,
            groups,
            fold,
            len(attribute.group_names),
            params.min_cell,
            np.random.default_rng(seed),
        )
        with whole(path) as partial:
            external.frame.to_parquet(partial, index=False)
        print(json.dumps(external.log, indent=1))
