"""Compute what a figure shows that needs pixels, models or importances."""

from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias import devices, figure_arrays, networks
from swift_debias.images import CachedImages, cache_pairs
from swift_debias.job import logged, whole
from swift_debias.settings import Backbone, Compute

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    options = params.options

    def of_images() -> figure_arrays.Arrays:
        """Example images by the first method's scores, and what the methods see in them."""
        first = Path(given.predictions[0]) / params.methods[0] / f"fold{params.fold}.parquet"
        predictions = pd.read_parquet(first)
        predictions = predictions[predictions["dataset"] == params.dataset]
        images = CachedImages(cache_pairs(given.pixels, given.index))
        quantiles = options.get("quantiles", [0.1, 0.5, 0.9] if params.plot == "bias" else [0.5])
        chosen = figure_arrays.chosen_images(predictions, images, params.groups, quantiles)
        if params.plot == "bias":
            return chosen
        backbone, compute = Backbone(**params.backbone), Compute(**params.compute)
        device = devices.prepare_device(compute)
        classifiers = {
            method: devices.place(networks.load(Path(path), backbone), device, compute)
            for method, path in zip(params.methods, given.models, strict=True)
        }
        return figure_arrays.evidence(chosen, images, params.dataset, classifiers)

    def of_layer() -> figure_arrays.Arrays:
        """Importances and mask of one layer."""
        layers = pd.read_parquet(given.summaries[0])["layer"]
        swift = next(iter(params.variants.values()))
        size = options.get("size", 64)
        path, layer = Path(given.importances[0]), options.get("layer")
        return figure_arrays.layer_importance(path, list(layers), swift, layer, size)

    def files() -> dict:
        """(task, backbone, attribute), fold -> importances."""
        paths = map(Path, given.importances)
        return {(p.parts[-4:-1], int(p.stem.removeprefix("fold"))): p for p in paths}

    builders = {
        "bias": of_images,
        "cam": of_images,
        "importance": of_layer,
        "reinit": lambda: figure_arrays.head_shares(files(), params.variants),
        "estimators": lambda: figure_arrays.estimator_masks(files(), params.variants["swift"]),
    }
    arrays = builders[params.plot]()
    with whole(snakemake.output[0]) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print({name: array.shape for name, array in arrays.items()})
