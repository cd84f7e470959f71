"""Measure how much every weight matters to prediction, to bias and to each group."""

from pathlib import Path

import pandas as pd

from swift_debias import devices, fisher, masks, networks
from swift_debias.external import external_set, read_external, shared_importance
from swift_debias.images import CachedImages, cache_pairs
from swift_debias.job import logged, whole
from swift_debias.seeds import derive_seed
from swift_debias.settings import Backbone, Compute, Finetuning

with logged(snakemake):
    inputs, outputs = snakemake.input, snakemake.output
    params, wildcards = snakemake.params, snakemake.wildcards
    compute, finetuning = Compute(**params.compute), Finetuning(**params.finetuning)
    device = devices.prepare_device(compute)
    images = CachedImages(cache_pairs(inputs.pixels, inputs.index))

    for fold in params.folds:
        print(f"fold {fold}")
        classifier = networks.load(Path(inputs.models[fold]), Backbone(**params.backbone))
        classifier = devices.place(classifier, device, compute)
        samples, balanced = read_external(
            Path(inputs.external[fold]), images, device, compute.resident
        )
        # Without the method: the same external set as every method of this cell sees.
        seed = derive_seed(params.seed, "external", wildcards.task, wildcards.attribute, fold)
        external = external_set(
            classifier,
            samples,
            balanced,
            groups=params.groups,
            fraction=1,
            finetuning=finetuning,
            seed=seed,
            say=print,
        )
        importance = shared_importance(classifier, external, finetuning, params.batch_size, seed)
        fisher.save(importance, Path(outputs.importance[fold]))
        mask = masks.soft_mask(
            importance["minibatch.balanced.bias"], importance["minibatch.balanced.prediction"]
        )
        with whole(outputs.summary[fold]) as partial:
            pd.DataFrame(masks.summary(mask)).to_parquet(partial)
