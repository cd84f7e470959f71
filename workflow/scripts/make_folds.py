"""Cut the training pool into folds, by patient, stratified by label and attributes."""

import pandas as pd

from swift_debias.config.schema import Attribute
from swift_debias.data import own_external
from swift_debias.data.folds import make_folds
from swift_debias.data.groups import groups_in
from swift_debias.data.labelled import with_skin_tone
from swift_debias.files import read_parquet, write_parquet
from swift_debias.run.job import classes_of, logged

with logged(snakemake):
    params = snakemake.params
    cohort = read_parquet(snakemake.input.cohort)
    cohort = with_skin_tone(cohort, snakemake.input.skin_tone)
    groups = {
        name: groups_in(cohort, Attribute(**attribute))
        for name, attribute in params.attributes.items()
    }
    strata = pd.DataFrame(groups, index=cohort.index)
    own = own_external.external_rows(cohort)
    if own is not None:
        strata = strata.assign(**{own_external.EXTERNAL: own})
    named = {"classes": classes_of(params), "class_names": params.get("class_names", ())}
    folds = make_folds(cohort, strata, **params.split, **named)
    write_parquet(folds, snakemake.output[0])
    print(folds.groupby("fold").size().to_string())
