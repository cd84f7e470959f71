"""Choose, once for all folds of a setup, which two groups of an attribute are compared."""

import pandas as pd
from scipy.special import softmax

from swift_debias.config.schema import Finetuning
from swift_debias.data.labelled import KEYS
from swift_debias.evaluation.one_vs_rest import score_columns
from swift_debias.files import read_parquet, write_json
from swift_debias.methods._groups import choose_groups
from swift_debias.run.job import classes_of, logged

with logged(snakemake):
    params = snakemake.params
    cohort = read_parquet(str(snakemake.input.cohort), columns=[*KEYS, "patient_id"])
    classes = classes_of(params)
    logits, columns = score_columns(classes, "logit"), score_columns(classes)
    frames = [
        read_parquet(external)
        .merge(read_parquet(scores)[[*KEYS, *logits]], on=KEYS, validate="one_to_one")
        .assign(fold=fold)
        for fold, (external, scores) in enumerate(
            zip(snakemake.input.external, snakemake.input.scores, strict=True)
        )
    ]
    rows = pd.concat(frames, ignore_index=True).merge(cohort, on=KEYS, validate="many_to_one")
    names = {"attribute": "group", "patient_id": "patient"} | dict(
        zip(logits, columns, strict=True)
    )
    rows = rows.rename(columns=names)
    if classes > 2:
        rows[columns] = softmax(rows[columns].to_numpy(), axis=1)
    finetuning = Finetuning(**params.finetuning)
    choice = choose_groups(rows, len(params.groups), finetuning, classes)
    print(choice.note(dict(enumerate(params.groups))))
    write_json(snakemake.output[0], choice.to_json())
