"""Measure how much every weight matters to prediction, to bias and to each group."""

from pathlib import Path

import pandas as pd

from swift_debias.config.schema import Backbone, Compute, Finetuning
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.data.normalization import Normalization
from swift_debias.files import read_json, write_parquet
from swift_debias.importance import masks, store
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import devices, networks
from swift_debias.methods._choice import Choice
from swift_debias.methods.base import external_set, read_external
from swift_debias.run.job import classes_of, logged
from swift_debias.seeds import external_seed

with logged(snakemake):
    inputs, outputs = snakemake.input, snakemake.output
    params, wildcards = snakemake.params, snakemake.wildcards
    compute, finetuning = Compute(**params.compute), Finetuning(**params.finetuning)
    device = devices.prepare_device(compute)
    images = CachedImages(cache_pairs(inputs.pixels, inputs.index))
    normalization = Normalization.of(**params.normalization)

    choice = Choice.from_json(read_json(str(inputs.groups)))
    for fold in params.folds:
        print(f"fold {fold}")
        classifier = networks.load(Path(inputs.models[fold]), Backbone(**params.backbone))
        classifier = devices.place(classifier, device, compute)
        samples, balanced = read_external(
            Path(inputs.external[fold]),
            images,
            device,
            compute.resident,
            normalization,
            classes_of(params),
        )
        # Without the method: the same external set as every method of this setup sees.
        seed = external_seed(params.seed, wildcards.task, wildcards.attribute, fold)
        external = external_set(
            samples,
            balanced,
            pair=choice.pair,
            fraction=1,
            finetuning=finetuning,
            seed=seed,
            info=print,
        )
        importance = shared_importance(
            classifier, external, finetuning, params.batch_size, seed, params.wanted
        )
        store.save(importance, Path(outputs.importance[fold]))
        mask = masks.soft_mask(
            importance["minibatch.balanced.bias"], importance["minibatch.balanced.prediction"]
        )
        write_parquet(pd.DataFrame(masks.summary(mask)), outputs.summary[fold])
