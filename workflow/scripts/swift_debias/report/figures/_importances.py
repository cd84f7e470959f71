"""Importances and masks, as arrays for drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ...errors import UserError
from ...files import check
from ...importance import masks
from ._arrays import Arrays, Key

MOST_RANKED = 200_000  # elements of a network whose ranks are correlated


def read_importance(path: Path, objective: str, prefix: str = "") -> dict[str, Tensor]:
    """The importances of one objective, of the parameters whose names start with `prefix`."""
    check(path)
    start = f"{objective}/{prefix}"
    with safe_open(path, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(start)]  # noqa: SIM118 (no mapping)
        found = {key.removeprefix(f"{objective}/"): file.get_tensor(key) for key in keys}
    if not found:
        raise UserError(f"{path}: no importance of {objective!r} for parameters {prefix}*")
    return found


def soft_mask(path: Path, settings: Mapping[str, Any], prefix: str = "") -> masks.Masks:
    """Eq. 9 with a SWiFT variant's estimator and normalization."""
    start = f"{settings['estimator']}.balanced."
    bias = read_importance(path, start + "bias", prefix)
    prediction = read_importance(path, start + "prediction", prefix)
    return masks.soft_mask(bias, prediction, settings["normalization"], settings["percentile"])


def layer_importance(
    path: Path, layers: Sequence[str], settings: Mapping[str, Any], layer: str | None, size: int
) -> Arrays:
    """Figure 3: importances and mask of the weights of one layer.

    Args:
        path: importances of one fold.
        layers: names of all layers, in the network's order.
        settings: of the SWiFT variant.
        layer: its name; None: the middle one of the convolutions.
        size: at most so many output channels and as many weights of each are shown, the first ones.

    Returns:
        layer, bias and prediction (normalized as in Eq. 9), mask; 2-D, one row an output channel.
    """
    start = f"{settings['estimator']}.balanced."
    if layer is None:
        weights = read_importance(path, start + "bias", "extractor.")
        convolutions = [
            name for name in layers if weights.get(f"{name}.weight", torch.empty(0)).ndim == 4
        ]
        layer = convolutions[len(convolutions) // 2]
    name = f"{layer}.weight"
    parts = {kind: read_importance(path, start + kind, name)[name] for kind in _KINDS}
    normalization, percentile = settings["normalization"], settings["percentile"]
    arrays = {
        kind: masks.normalize(values, normalization, percentile) for kind, values in parts.items()
    }
    arrays["mask"] = soft_mask(path, settings, name)[name]
    shown = {key: a.flatten(1)[:size, :size].float().numpy() for key, a in arrays.items()}
    return {**shown, "layer": np.array(layer), "shape": np.array(parts["bias"].shape)}


_KINDS = ("bias", "prediction")


def head_shares(
    files: Mapping[tuple[Key, int], Path], variants: Mapping[str, Mapping[str, Any]]
) -> Arrays:
    """Figure 6: the share of the head's weights that each variant re-initializes.

    Args:
        files: (task, backbone, attribute), fold -> importances.
        variants: SWiFT variants -> settings.

    Returns:
        One entry a variant and file: task, backbone, attribute, method, fold, share.
    """
    rows = []
    for (key, fold), path in files.items():
        for method, settings in variants.items():
            if settings["threshold"] == "learned":
                raise UserError(f"{method}: its threshold is learned in each fold; leave it out")
            head = soft_mask(path, settings, "head.")
            chosen = masks.head_selection(head, settings["threshold"])
            share = float(torch.cat([c.flatten() for c in chosen.values()]).double().mean())
            rows.append((*key, method, fold, share))
    return _columns(rows, ("task", "backbone", "attribute", "method", "fold", "share"))


def estimator_masks(files: Mapping[tuple[Key, int], Path], settings: Mapping[str, Any]) -> Arrays:
    """Masks by both estimators: histograms over all parameters, and their rank correlation.

    Args:
        files: (task, backbone, attribute), fold -> importances.
        settings: of SWiFT; the estimator is overridden.

    Returns:
        One entry a file, estimator and bin: task, backbone, attribute, estimator, fold, low (the
        bin's lower edge), share, spearman (of both estimators' masks, the same in all rows).
    """
    from scipy.stats import spearmanr

    rows = []
    for (key, fold), path in files.items():
        flat = {}
        for estimator in ("minibatch", "per_sample"):
            mask = soft_mask(path, {**settings, "estimator": estimator})
            flat[estimator] = torch.cat([mask[name].flatten() for name in sorted(mask)])
        step = -(-len(flat["minibatch"]) // MOST_RANKED)
        ranked = [values[::step].numpy() for values in flat.values()]
        correlation = float(spearmanr(*ranked).statistic)
        for estimator, values in flat.items():
            shares = torch.histc(values, masks.BINS, 0, 1).double() / len(values)
            rows += [
                (*key, estimator, fold, place / masks.BINS, float(share), correlation)
                for place, share in enumerate(shares)
            ]
    names = ("task", "backbone", "attribute", "estimator", "fold", "low", "share", "spearman")
    return _columns(rows, names)


def _columns(rows: Sequence[tuple], names: Sequence[str]) -> Arrays:
    return {
        name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
