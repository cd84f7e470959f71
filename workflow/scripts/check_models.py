"""Build, load and run a network once, in seconds, before images are decoded and trainings start."""

import warnings
from pathlib import Path

import torch

from swift_debias.config.schema import Backbone
from swift_debias.files import write_text
from swift_debias.importance.layers import squared_gradients
from swift_debias.learning import model_check
from swift_debias.run.job import classes_of, logged

with logged(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    classes = classes_of(params)
    shape = (1, 4) if classes == 2 else (1, 4, classes)
    found = model_check.check(
        Backbone(**params.backbone),
        wildcards.backbone,
        params.images["size"],
        params.images["channels"],
        [Path(file) for file in params.files],
        classes,
        params.get("extractor", True),
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with model_check.told(f"backbones.{wildcards.backbone}: importance"):
            squared_gradients(found.classifier, [found.batch], per_batch=torch.ones(shape))
    slow = [str(w.message) for w in said if str(w.message).startswith("importance:")]
    lines = [*found.lines, *(slow or ["importance: every layer takes the fast road"])]
    text = "\n".join([f"Network {wildcards.backbone} for task {wildcards.task}:", *lines]) + "\n"
    write_text(Path(snakemake.output.text), text)
    print(text)
