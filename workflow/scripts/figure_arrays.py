"""Compute what a figure shows that needs pixels, models or importances."""

from pathlib import Path

import numpy as np
import pandas as pd

from swift_debias.config.schema import Backbone, Compute
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.files import atomic_path
from swift_debias.learning import devices, networks
from swift_debias.report.figures import _images, _importances
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    options = params.options

    def of_images() -> _images.Arrays:
        """Example images by the first method's scores, and what the methods see in them."""
        first = Path(given.predictions[0]) / params.methods[0] / f"fold{params.fold}.parquet"
        predictions = pd.read_parquet(first)
        predictions = predictions[predictions["dataset"] == params.dataset]
        images = CachedImages(cache_pairs(given.pixels, given.index))
        quantiles = options.get("quantiles", [0.1, 0.5, 0.9] if params.plot == "bias" else [0.5])
        chosen = _images.chosen_images(predictions, images, params.groups, quantiles)
        if params.plot == "bias":
            return chosen
        backbone, compute = Backbone(**params.backbone), Compute(**params.compute)
        device = devices.prepare_device(compute)
        classifiers = {
            method: devices.place(networks.load(Path(path), backbone), device, compute)
            for method, path in zip(params.methods, given.models, strict=True)
        }
        return _images.evidence(chosen, images, params.dataset, classifiers)

    def of_layer() -> _images.Arrays:
        """Importances and mask of one layer."""
        layers = pd.read_parquet(given.summaries[0])["layer"]
        swift = next(iter(params.variants.values()))
        size = options.get("size", 64)
        path, layer = Path(given.importances[0]), options.get("layer")
        return _importances.layer_importance(path, list(layers), swift, layer, size)

    def files() -> dict:
        """(task, backbone, attribute), fold -> importances."""
        paths = map(Path, given.importances)
        return {(p.parts[-4:-1], int(p.stem.removeprefix("fold"))): p for p in paths}

    builders = {
        "bias": of_images,
        "cam": of_images,
        "importance": of_layer,
        "reinit": lambda: _importances.head_shares(files(), params.variants),
        "estimators": lambda: _importances.estimator_masks(files(), params.variants["swift"]),
    }
    arrays = builders[params.plot]()
    with atomic_path(snakemake.output[0]) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print({name: array.shape for name, array in arrays.items()})
