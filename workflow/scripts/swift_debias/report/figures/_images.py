"""Example images and class activation maps, as arrays for drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ...config.schema import Backbone, Compute
from ...data.image_cache import CachedImages, cache_pairs
from ...data.normalization import IMAGENET, Normalization
from ...learning import cam, devices, networks
from ...learning.networks import Classifier
from ...learning.samples import make_samples
from ...run import results
from ._arrays import Arrays, Given


def chosen_images(
    predictions: pd.DataFrame, images: CachedImages, groups: int, quantiles: Sequence[float]
) -> Arrays:
    """Example images with their labels, groups and scores (`cam.choose_images`).

    Args:
        predictions: of one model on one test set.
        images: the test set's cache.
        groups, quantiles: see `cam.choose_images`.

    Returns:
        images uint8 (n, H, W, C); image_id, label, group, score, each (n,).
    """
    rows = cam.choose_images(predictions, groups, quantiles)
    found = images.rows(list(rows["dataset"]), list(rows["image_id"]))
    return {
        "images": images.gather(found),
        "image_id": rows["image_id"].to_numpy(str),
        "label": rows["label"].to_numpy(),
        "group": rows["group"].to_numpy(),
        "score": rows["score"].to_numpy(np.float64),
    }


def first_predictions(given: Given) -> pd.DataFrame:
    """Predictions of the first method and fold on the figure's test set."""
    predictions = results.predictions(given.predictions[0], given.methods[:1], [given.fold])
    return predictions[predictions["dataset"] == given.dataset]


def read_images(given: Given) -> CachedImages:
    """The test set's cache."""
    return CachedImages(cache_pairs(list(given.pixels), list(given.index)))


def activation_maps(given: Given, chosen: Arrays, images: CachedImages) -> Arrays:
    """Class activation maps of the same images by all methods of one fold, for the true class."""
    backbone, compute = Backbone(**given.backbone), Compute(**given.compute)
    device = devices.prepare_device(compute)
    classifiers = {
        method: devices.place(networks.load(path, backbone), device, compute)
        for method, path in zip(given.methods, given.models, strict=True)
    }
    normalization = Normalization.of(**given.normalization)
    return evidence(chosen, images, given.dataset, classifiers, normalization)


def evidence(
    chosen: Arrays,
    images: CachedImages,
    dataset: str,
    classifiers: Mapping[str, Classifier],
    normalization: Normalization = IMAGENET,
) -> Arrays:
    """Class activation maps of the same images by several classifiers, for the true class.

    Args:
        chosen: as `chosen_images` gives them.
        images: the test set's cache.
        dataset: the test set.
        classifiers: method -> its classifier, in eval mode.
        normalization: what they were trained with.

    Returns:
        `chosen` and methods (m,), maps float32 (m, n, h, w), scores (m, n), kinds (m,).
    """
    first = next(iter(classifiers.values()))
    samples = make_samples(
        images,
        images.rows(dataset, list(chosen["image_id"])),
        chosen["label"],
        chosen["group"],
        first.device,
        "off",
        normalization,
    )
    inputs = samples.draw(torch.arange(len(samples)))
    found = {
        name: cam.activation_maps(classifier, inputs, samples.labels)
        for name, classifier in classifiers.items()
    }
    return {
        **chosen,
        "methods": np.array(list(found)),
        "maps": np.stack([result.maps.cpu().numpy() for result in found.values()]),
        "scores": np.stack([result.logits.sigmoid().cpu().numpy() for result in found.values()]),
        "kinds": np.array([result.kind for result in found.values()]),
    }
