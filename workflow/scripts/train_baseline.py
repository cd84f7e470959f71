"""Pre-train the biased Baseline of one fold, or take the user's own classifier."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.config.schema import Augmentation, Backbone, Compute, Finetuning, Pretraining
from swift_debias.data import own_external
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.data.normalization import Normalization
from swift_debias.evaluation.one_vs_rest import score_columns
from swift_debias.evaluation.thresholds import NO_THRESHOLD, best_threshold
from swift_debias.files import read_parquet, write_json, write_parquet
from swift_debias.learning import checkpoints, devices, inference, loop, networks, sources
from swift_debias.learning.context import Context
from swift_debias.learning.cost import Cost
from swift_debias.learning.samples import make_samples
from swift_debias.run.job import classes_of, key, logged
from swift_debias.seeds import derive_seed

with logged(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    task, classes = params.task, classes_of(params)
    backbone, compute = Backbone(**params.backbone), Compute(**params.compute)
    recipe = Pretraining(**task["pretraining"])
    device = devices.prepare_device(compute)
    seed = derive_seed(params.seed, "baseline", wildcards.task, wildcards.backbone, wildcards.fold)

    pool = read_parquet(snakemake.input.cohort)
    external = own_external.external_rows(pool)
    trains = pool.get("trains", True)  # a tied pool has images that do not
    pool = pool[["dataset", "image_id", "label"]].assign(trains=trains)
    pool = pool.merge(read_parquet(str(snakemake.input.folds)), on=["dataset", "image_id"])
    held_out = pool.fold == int(wildcards.fold)
    # what is debiased on is scored: the fold, or an external set of one's own, whose fold is kept
    # to find the threshold on
    scored = held_out if external is None else external
    watched = held_out if external is None else held_out & pool.trains
    images = CachedImages(cache_pairs(snakemake.input.pixels, snakemake.input.index))

    def samples(rows: pd.DataFrame) -> loop.Samples:
        unknown = np.full(len(rows), -1)  # pre-training knows nothing of attributes
        return make_samples(
            images,
            images.rows(rows.dataset.tolist(), rows.image_id.tolist()),
            rows.label.to_numpy(),
            unknown,
            device,
            compute.resident,
            Normalization.of(**params.normalization),
            classes,
        )

    context = Context(
        seed=seed,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        finetuning=Finetuning(),
        augmentation=Augmentation(**task["augmentation"]),
        compute=compute,
        checkpoints=checkpoints.Checkpoints(
            Path(params.checkpoints), key(snakemake), compute.checkpoint_seconds
        ),
        log=sys.stderr,
        name=f"{wildcards.task} {wildcards.backbone} fold {wildcards.fold}",
    )
    own = str(snakemake.input.own) if backbone.baseline else None
    if own is not None:
        classifier = networks.load(Path(own), backbone, own=True, classes=classes)
    else:
        classifier = devices.place(networks.build(backbone, seed, classes), device, compute)
    source = sources.source(backbone, own)  # now: a training takes hours, and files change
    cost = Cost(classifier, device)
    seen, validation = 0, None
    if own is None:
        train, validation = samples(pool[~held_out & pool.trains]), samples(pool[watched])
        print(f"{len(train)} training and {len(validation)} validation images on {device}")
        loop.pretrain(classifier, train, validation, recipe, context)
        seen = train.seen[0] + validation.seen[0]
    write_json(snakemake.output.source, source)
    networks.save(classifier, Path(snakemake.output.model))
    write_parquet(pd.DataFrame(context.history), snakemake.output.history)
    spent = cost.measure(classifier, seen, context.compute.precision)
    write_json(snakemake.output.cost, spent)
    same = external is None and validation is not None  # is watched and scored: read once
    rated = validation if same else samples(pool[scored])
    logits = inference.predict(classifier, rated).double().cpu().numpy()
    scores = pool.loc[scored, ["dataset", "image_id", "label"]]
    columns = zip(score_columns(classes, "logit"), logits.reshape(len(logits), -1).T, strict=True)
    scores = scores.assign(**dict(columns))
    write_parquet(scores, snakemake.output.scores)
    found: dict[str, object] = NO_THRESHOLD
    if classes == 2:
        probabilities, of_fold = 1 / (1 + np.exp(-logits)), held_out[scored].to_numpy()
        threshold = best_threshold(scores.label.to_numpy()[of_fold], probabilities[of_fold])
        found = {"threshold": threshold, "found_on": "held out"}
    write_json(snakemake.output.threshold, found)
    context.checkpoints.clear()
