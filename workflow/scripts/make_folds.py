"""Cut the training pool into folds, by patient, stratified by label and attributes."""

import pandas as pd

from swift_debias import manifest, splits
from swift_debias.job import logged, whole
from swift_debias.labelled import with_skin_tone
from swift_debias.settings import Attribute

with logged(snakemake):
    params = snakemake.params
    cohort = pd.read_parquet(snakemake.input.cohort)
    cohort = with_skin_tone(cohort, snakemake.input.skin_tone)
    groups = {
        name: manifest.group_index(cohort[attribute["column"]], Attribute(**attribute))
        for name, attribute in params.attributes.items()
    }
    folds = splits.make_folds(cohort, pd.DataFrame(groups), **params.split)
    with whole(snakemake.output[0]) as partial:
        folds.to_parquet(partial, index=False)
    print(folds.groupby("fold").size().to_string())
