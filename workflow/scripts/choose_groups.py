"""Choose, once for all folds of a setup, which two groups of an attribute are compared."""

import pandas as pd

from swift_debias.config.schema import Finetuning
from swift_debias.data.labelled import KEYS
from swift_debias.files import read_parquet, write_json
from swift_debias.methods._groups import choose_groups
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    cohort = read_parquet(str(snakemake.input.cohort), columns=[*KEYS, "patient_id"])
    frames = [
        read_parquet(external)
        .merge(read_parquet(scores)[[*KEYS, "logit"]], on=KEYS, validate="one_to_one")
        .assign(fold=fold)
        for fold, (external, scores) in enumerate(
            zip(snakemake.input.external, snakemake.input.scores, strict=True)
        )
    ]
    rows = pd.concat(frames, ignore_index=True).merge(cohort, on=KEYS, validate="many_to_one")
    names = {"attribute": "group", "logit": "score", "patient_id": "patient"}
    finetuning = Finetuning(**params.finetuning)
    choice = choose_groups(rows.rename(columns=names), len(params.groups), finetuning)
    print(choice.note(dict(enumerate(params.groups))))
    write_json(snakemake.output[0], choice.to_json())
