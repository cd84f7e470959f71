"""Try the grid of one method on a part of every fold's external set, and choose its settings."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.config.schema import Backbone, Compute, Method, Selection
from swift_debias.data import own_external
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.data.labelled import KEYS, patients_of
from swift_debias.data.normalization import Normalization
from swift_debias.files import read_json, read_parquet, write_json
from swift_debias.learning import devices, networks
from swift_debias.methods import _trials, base
from swift_debias.methods._choice import Choice
from swift_debias.run.job import key, logged
from swift_debias.seeds import debias_seed, external_seed

with logged(snakemake):
    inputs, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    compute = Compute(**params.compute)
    training = base.Training.of(params.task, compute, params.selection)
    device = devices.prepare_device(compute)
    images = CachedImages(cache_pairs(inputs.pixels, inputs.index))
    normalization = Normalization.of(**params.normalization)
    cohort = read_parquet(str(inputs.cohort), columns=[*KEYS, "patient_id"])
    task, backbone, attribute = (wildcards[key] for key in ("task", "backbone", "attribute"))

    def open_fold(fold: int) -> _trials.Fold:
        classifier = networks.load(Path(inputs.models[fold]), Backbone(**params.backbone))
        frames = [read_parquet(path) for path in inputs.external]
        rows, select = frames[fold], None
        if params.own_external:
            rest = own_external.held_out(frames, fold)
            select = np.arange(len(rows) + len(rest)) >= len(rows)
            rows = pd.concat([rows, rest], ignore_index=True)
        samples = base.external_samples(rows, images, device, compute.resident, normalization)
        return _trials.Fold(
            devices.place(classifier, device, compute),
            samples,
            patients_of(rows, cohort),
            debias_seed(params.seed, task, backbone, attribute, fold),
            external_seed(params.seed, task, attribute, fold),
            select,
        )

    found = _trials.search(
        [lambda fold=fold: open_fold(fold) for fold in params.folds],
        Method(**params.method),
        Choice.from_json(read_json(str(inputs.groups))),
        training,
        Selection(**params.selection),
        Path(params.journal),
        key(snakemake),
        sys.stderr,
    )
    write_json(snakemake.output[0], found)
    shutil.rmtree(params.journal, ignore_errors=True)
