"""Masks over parameters, made of two importances (Eq. 9), and what they do to the head (Eq. 12).

A mask has a value in [0, 1] for every element of every parameter: 1 = free to change, 0 = frozen.
Equations are those of Yan et al., MELBA 2025. learning/masked_optimizer.py applies them to updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

# parameter name -> mask of the parameter's shape
Masks: TypeAlias = dict[str, Tensor]


Normalization: TypeAlias = Literal["minmax", "zscore", "percentile"]


Reinitialization: TypeAlias = Literal["partial", "none", "full"]


EPS = 1e-10


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


BINS = 20


def normalize(
    values: Tensor, normalization: Normalization = "minmax", percentile: float = 99.0
) -> Tensor:
    """Bring one parameter's importances to a common scale, over the tensor's elements.

    `minmax`: (v - min) / (max - min) [paper]. `zscore`: (v - mean) / standard deviation; values
    may be negative (Table 7). `percentile`: min-max after clipping at the given percentile, so that
    one outlier does not press all others to 0; the paper names the idea, the clipping is ours.
    Where clipping would leave a constant, nothing is clipped.

    A constant tensor, such as the one-element bias of the head, is returned as it is: it has no
    scale to divide by.

    Args:
        values: importances of one parameter, any shape.
        normalization: see above.
        percentile: in (0, 100], for `percentile`.
    """
    low, high = values.min(), values.max()
    if low == high:
        return values
    if normalization == "zscore":
        return (values - values.mean()) / values.std(correction=0)
    if normalization == "percentile":
        clip = _quantile(values, percentile / 100)
        if clip > low:
            values, high = values.clamp(max=clip), clip
    elif normalization != "minmax":
        raise ValueError(f"unknown normalization {normalization!r}")
    return (values - low) / (high - low)


def soft_mask(
    bias: Mapping[str, Tensor],
    prediction: Mapping[str, Tensor],
    normalization: Normalization = "minmax",
    percentile: float = 99.0,
) -> Masks:
    """Eq. 9: M = |tanh(norm(F_bias) / (norm(F_pred) + eps))|, per parameter tensor, in [0, 1].

    eps takes the sign of norm(F_pred), which is negative for z-scores only, so that the denominator
    is never 0. A z-score near 0 gives a mask near 1, whatever the bias importance is: with z-scores
    Eq. 9 is no longer a ratio of importances (the paper's reason for min-max).

    Args:
        bias: parameter name -> importance for the bias.
        prediction: the same names -> importance for the prediction.
        normalization, percentile: see `normalize`.
    """
    return {
        name: torch.tanh(_ratio(values, prediction[name], normalization, percentile)).abs()
        for name, values in bias.items()
    }


def hard_mask(
    bias: Mapping[str, Tensor],
    prediction: Mapping[str, Tensor],
    rate: float,
    scope: Literal["global", "tensor"] = "global",
) -> Masks:
    """1 where the min-max normalized ratio F_bias / F_pred lies above a percentile, else 0 (BMFT).

    Args:
        bias, prediction: as in `soft_mask`.
        rate: percentile in [0, 100]: this share of the elements is frozen (more where many are
            equal to the threshold).
        scope: one percentile over all parameters given, or one for each parameter.
    """
    ratios = {name: _ratio(values, prediction[name]) for name, values in bias.items()}
    if scope == "tensor":
        return {name: (r > _quantile(r, rate / 100)).to(r) for name, r in ratios.items()}
    if scope != "global":
        raise ValueError(f"unknown scope {scope!r}")
    threshold = _quantile(torch.cat([r.flatten() for r in ratios.values()]), rate / 100)
    return {name: (r > threshold).to(r) for name, r in ratios.items()}


def random_mask(shapes: Mapping[str, torch.Size], generator: torch.Generator) -> Masks:
    """Uniform on [0, 1), drawn on the CPU in the order of `shapes` (Table 6)."""
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def _ratio(
    bias: Tensor,
    prediction: Tensor,
    normalization: Normalization = "minmax",
    percentile: float = 99.0,
) -> Tensor:
    """norm(F_bias) / (norm(F_pred) + eps)."""
    denominator = normalize(prediction, normalization, percentile)
    eps = torch.full_like(denominator, EPS).copysign(denominator)
    return normalize(bias, normalization, percentile) / (denominator + eps)


def _quantile(values: Tensor, q: float) -> Tensor:
    """The smallest value that at least a share q of the values does not exceed.

    An element of the set, without interpolation; torch.quantile refuses more than 2^24 values.
    """
    flat = values.flatten()
    rank = min(max(math.ceil(q * len(flat)), 1), len(flat))
    return flat.kthvalue(rank).values


def head_selection(masks: Mapping[str, Tensor], threshold: Literal["mean"] | float) -> Masks:
    """Which elements of the head Eq. 12 sets to zero: those with M > tau, as bool tensors.

    Args:
        masks: parameter name -> mask of what is judged; all elements count alike.
        threshold: "mean": tau is the mean of M over all elements [paper]. A number q in [0, 1]:
            the share 1 - q of the elements with the highest M (Figure 6). Masks saturate at 1, so
            the q-quantile often is 1 itself and nothing lies above it; therefore the elements are
            ranked, and among equal ones the first in the head's order are taken.
    """
    values = torch.cat([mask.flatten() for mask in masks.values()])
    if threshold == "mean":
        chosen = values > values.mean()
    else:
        n = round((1 - threshold) * len(values))
        chosen = torch.zeros_like(values, dtype=torch.bool)
        chosen[values.argsort(descending=True, stable=True)[:n]] = True
    parts = chosen.split([mask.numel() for mask in masks.values()])
    return {
        name: part.view(mask.shape) for (name, mask), part in zip(masks.items(), parts, strict=True)
    }


def reinitialize(
    head: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    mode: Reinitialization = "partial",
    threshold: Literal["mean"] | float = "mean",
    bias: bool = False,
) -> int:
    """Set elements of the head to zero before step 2, in place; returns how many (Eq. 12, Table 9).

    Args:
        head: name -> parameter, weight and bias.
        masks: the same names -> mask.
        mode: `partial`: those of `head_selection`; `full`: all; `none`: none.
        threshold: see `head_selection`.
        bias: `partial` judges the bias too; else it takes no part in tau and stays. Its importance
            is a tensor of one element, which is never normalized and has no scale to compare.
    """
    if mode == "none":
        return 0
    if mode == "full":
        chosen = {name: torch.ones_like(p, dtype=torch.bool) for name, p in head.items()}
    elif mode == "partial":
        judged = [name for name, p in head.items() if bias or p.dim() > 1]
        chosen = head_selection({name: masks[name] for name in judged}, threshold)
    else:
        raise ValueError(f"unknown re-initialization {mode!r}")
    with torch.no_grad():
        for name, selected in chosen.items():
            parameter = head[name]
            parameter.masked_fill_(selected.to(parameter.device), 0)
    return sum(int(c.sum()) for c in chosen.values())


def layer_group(layer: str) -> str:
    """The coarse part of the network that a layer belongs to (Figures 8 and 9).

    The first component below `extractor.`, without torchvision's container `features`; of numbered
    stages `stageN`. E.g. `layer3`, `denseblock2`, `stage4`, `conv1`, `head`.
    """
    parts = layer.removeprefix("extractor.").removeprefix("features.").split(".")
    return f"stage{parts[0]}" if parts[0].isdigit() else parts[0]


def summary(masks: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row for each layer: what Figures 8 and 9 draw.

    A layer's weight and bias are taken together. Keys: layer, group (`layer_group`), n, mean, std,
    q05, q25, q50, q75, q95, and counts, the histogram in `BINS` equal bins on [0, 1].
    """
    layers: dict[str, list[Tensor]] = {}
    for name, mask in masks.items():
        layers.setdefault(name.rpartition(".")[0], []).append(mask.detach().cpu().flatten().float())
    rows = []
    for layer, parts in layers.items():
        values = torch.cat(parts)
        rows.append(
            {
                "layer": layer,
                "group": layer_group(layer),
                "n": len(values),
                "mean": float(values.double().mean()),
                "std": float(values.double().std(correction=0)),
                **{f"q{round(100 * q):02d}": float(_quantile(values, q)) for q in QUANTILES},
                "counts": [int(n) for n in torch.histc(values, BINS, 0, 1)],
            }
        )
    return rows
