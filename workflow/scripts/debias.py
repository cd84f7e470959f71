"""Debias the Baseline of every fold, or of one, with one method."""

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.config.schema import Backbone, Compute, Method
from swift_debias.data import own_external
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.data.labelled import KEYS, patients_of
from swift_debias.data.normalization import Normalization
from swift_debias.evaluation.thresholds import BY_RULE, NO_THRESHOLD, best_threshold
from swift_debias.files import read_json, read_parquet, write_json, write_parquet
from swift_debias.importance.store import Stored
from swift_debias.learning import devices, inference, networks
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.samples import Samples
from swift_debias.methods import base, with_settings
from swift_debias.methods._choice import Choice
from swift_debias.run import layout
from swift_debias.run.job import classes_of, key, logged
from swift_debias.seeds import debias_seed, external_seed

with logged(snakemake):
    inputs, outputs = snakemake.input, snakemake.output
    params, wildcards = snakemake.params, snakemake.wildcards
    compute, job = Compute(**params.compute), key(snakemake)
    training = base.Training.of(params.task, compute, params.get("selection"))
    device = devices.prepare_device(compute)
    images = CachedImages(cache_pairs(inputs.pixels, inputs.index))
    normalization = Normalization.of(**params.normalization)
    choice = Choice.from_json(read_json(str(inputs.groups)))
    task, backbone, attribute = (wildcards[key] for key in ("task", "backbone", "attribute"))
    repeat = int(wildcards.get("repeat", 0))
    classes = classes_of(params)
    title = wildcards.get("method") or "first step"
    title += f" repeat {repeat}" if repeat else ""

    variant, found, searched_for = Method(**params.method), None, None
    if params.searched:
        found = read_json(str(inputs.search))
        searched_for = layout.keys("search", str(inputs.search))["method"]
        settings = {name: found["chosen"][name] for name in params.searched}
        print(f"set by the search: {settings}")
        variant = with_settings(variant, settings)

    def first_step(fold: int) -> base.First | None:
        """What the variant's first step left, if it shares one."""
        if "first_model" not in inputs.keys():  # noqa: SIM118 (a Namedlist is a list)
            return None
        return base.First(
            networks.read_state(Path(inputs.first_model[fold])),
            read_parquet(inputs.first_history[fold]).to_dict("records"),
            read_json(inputs.first_cost[fold]),
        )

    def states(fold: int) -> Path:
        """Where the states of a fold's running training are."""
        return Path(params.checkpoints) / f"fold{fold}"

    def patients(fold: int) -> np.ndarray | None:
        """Whose the external images are, for a variant that holds some out."""
        if not inputs.get("cohort"):
            return None
        cohort = read_parquet(str(inputs.cohort), columns=[*KEYS, "patient_id"])
        return patients_of(read_parquet(inputs.external[fold], columns=KEYS), cohort)

    def external_threshold(outcome: base.Outcome, samples: Samples, fold: int) -> dict[str, object]:
        """Where samples were held out, found on those; else on what it was given.

        An ablation takes settings over from another variant's search, but is another model. A
        search may have been made on the first folds only.
        """
        if outcome.rule is not None:
            return BY_RULE | {"rule": outcome.rule.to_json()}
        own = found is not None and searched_for == wildcards.get("method") and not repeat
        if own and fold < len(found["thresholds"]):
            return {"threshold": found["thresholds"][fold], "found_on": "held out"}
        if classes > 2:
            return NO_THRESHOLD
        if params.own_external:
            frames = [read_parquet(path) for path in inputs.external]
            rest = own_external.held_out(frames, fold)
            samples = base.external_samples(rest, images, device, compute.resident, normalization)
        logits = inference.predict(outcome.classifier, samples).double()
        labels, scores = samples.labels.cpu().numpy(), logits.sigmoid().cpu().numpy()
        found_on = "held out" if params.own_external else "fitted on"
        return {"threshold": best_threshold(labels, scores), "found_on": found_on}

    def debias(fold: int, place: int) -> None:
        """Debias the Baseline of one fold and write its outputs, the `place`-th of their lists."""
        classifier = networks.load(Path(inputs.models[fold]), Backbone(**params.backbone))
        classifier = devices.place(classifier, device, compute)
        samples, balanced = base.read_external(
            Path(inputs.external[fold]), images, device, compute.resident, normalization, classes
        )
        stored = inputs.get("importance")
        outcome = base.debias(
            classifier,
            samples,
            balanced,
            params.groups,
            variant,
            training,
            lambda: choice,
            seed=debias_seed(params.seed, task, backbone, attribute, fold, repeat),
            set_seed=external_seed(params.seed, task, attribute, fold),
            first=first_step(fold),
            patients=patients(fold),
            stored=(lambda: Stored(Path(stored[fold]), device)) if stored else None,
            checkpoints=Checkpoints(states(fold), job, compute.checkpoint_seconds),
            log=sys.stderr,
            name=f"{title} {task} {backbone} {attribute} fold {fold}",
        )
        networks.save(outcome.classifier, Path(outputs.models[place]))
        write_parquet(pd.DataFrame(outcome.history), outputs.history[place])
        search_cost = {
            "search_seconds": found["seconds"] / len(params.folds) if found else 0.0,
            "search_images_seen": found["images_seen"] // len(params.folds) if found else 0,
        }
        write_json(outputs.costs[place], outcome.cost | search_cost)
        if "thresholds" in outputs.keys():  # noqa: SIM118 (a first step is no model yet)
            write_json(outputs.thresholds[place], external_threshold(outcome, samples, fold))

    own = wildcards.get("fold")
    folds = params.folds if own is None else [int(own)]
    for place, fold in enumerate(folds):
        print(f"fold {fold}")
        debias(fold, place)
    # Kept until here: a job that is killed in a later fold finds its earlier ones again.
    for fold in folds:
        shutil.rmtree(states(fold), ignore_errors=True)
    with contextlib.suppress(OSError):  # another job's fold is in it, or it was never made
        Path(params.checkpoints).rmdir()
