"""Debias one Baseline with one method."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from torch import Tensor

from swift_debias import methods
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Method,
    Pretraining,
)
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.files import atomic_path, write_json
from swift_debias.importance import store
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import checkpoints, devices, networks
from swift_debias.learning.context import Context
from swift_debias.learning.cost import Cost
from swift_debias.methods._external import external_set, read_external
from swift_debias.run.job import key, logged
from swift_debias.seeds import derive_seed

with logged(snakemake):
    inputs, outputs = snakemake.input, snakemake.output
    params, wildcards = snakemake.params, snakemake.wildcards
    variant, compute = Method(**params.method), Compute(**params.compute)
    recipe = Pretraining(**params.task["pretraining"])
    finetuning = Finetuning(**params.task["finetuning"])
    method = methods.load(variant.algorithm)
    device = devices.prepare_device(compute)
    images = CachedImages(cache_pairs(inputs.pixels, inputs.index))
    percent, job = variant.epochs_percent or finetuning.epochs_percent, key(snakemake)

    def debias(fold: int) -> None:
        """Debias the Baseline of one fold and write its outputs."""
        cell = (wildcards.task, wildcards.attribute, fold)
        classifier = networks.load(Path(inputs.models[fold]), Backbone(**params.backbone))
        classifier = devices.place(classifier, device, compute)
        samples, balanced = read_external(
            Path(inputs.external[fold]), images, device, compute.resident
        )
        seed = derive_seed(params.seed, "external", *cell)
        external = external_set(
            classifier,
            samples,
            balanced,
            groups=params.groups,
            fraction=variant.external_fraction,
            finetuning=finetuning,
            seed=seed,
            say=print,
        )

        def importance() -> Mapping[str, dict[str, Tensor]]:
            """The shared one; a part of the external set needs its own."""
            if variant.external_fraction < 1:
                return shared_importance(classifier, external, finetuning, recipe.batch_size, seed)
            return store.Stored(Path(inputs.importance[fold]), device)

        context = Context(
            seed=derive_seed(params.seed, "debias", wildcards.backbone, wildcards.method, *cell),
            epochs=max(1, round(recipe.epochs * percent / 100)),
            batch_size=recipe.batch_size,
            optimizer=recipe.optimizer,
            finetuning=finetuning,
            augmentation=Augmentation(**params.task["augmentation"]),
            compute=compute,
            importance=importance,
            checkpoints=checkpoints.Checkpoints(
                Path(params.checkpoints) / f"fold{fold}", job, compute.checkpoint_seconds
            ),
            log=sys.stderr,
            name=f"{wildcards.backbone} {wildcards.attribute} {wildcards.method} fold {fold}",
        )
        cost = Cost(classifier, device)
        debiased = method.debias(classifier, external, method.Settings(**variant.settings), context)
        networks.save(debiased, Path(outputs.models[fold]))
        with atomic_path(outputs.history[fold]) as partial:
            pd.DataFrame(context.history).to_parquet(partial)
        write_json(outputs.costs[fold], cost.measure(debiased, samples.seen[0]))

    for fold in params.folds:
        print(f"fold {fold}")
        debias(fold)
    # Kept until here: a job that is killed in a later fold finds its earlier ones again.
    shutil.rmtree(params.checkpoints, ignore_errors=True)
