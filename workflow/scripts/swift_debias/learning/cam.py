"""Example images, and class activation maps: where in an image the evidence for a class lies.

CAM (Zhou et al., 2016) of a network that ends in global average pooling and one linear layer: the
logit is z = b + mean over positions of m(x, y), with m = sum over channels d of w_d A_d(x, y) and A
the last feature maps. So m is the exact contribution of each position to the logit of class 1, and
-m that to class 0. The feature maps are found by looking: those 4-D activations whose spatial mean
equals the pooled features. Where there are none (attention pooling, a hidden layer in between),
Grad-CAM (Selvaraju et al., 2017) takes its place: channel weights are the mean gradient of the
logit; scaled by the number of positions, so that both agree where both are defined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import UserError
from .networks import Classifier

RECENT = 8  # last activations that are kept while looking for the pooled ones
TOLERANCE = 1e-4  # relative, of the pooled features


class Maps(NamedTuple):
    """Evidence maps of some images.

    maps: float32 (B, h, w), at the resolution of the feature maps; positive = for the class asked.
    logits: float32 (B,), of class 1.
    kind: 'CAM' or 'Grad-CAM'.
    """

    maps: Tensor
    logits: Tensor
    kind: str


def activation_maps(classifier: Classifier, images: Tensor, classes: Tensor) -> Maps:
    """Where the evidence for a class lies.

    Args:
        classifier: in eval mode; not changed.
        images: float32 (B, 3, H, W), normalized, a handful.
        classes: (B,), 0 or 1: the class whose evidence is asked for, e.g. the true one.

    Raises:
        UserError: the extractor has no spatial feature maps.
    """
    sign = torch.where(classes.to(images.device) > 0, 1.0, -1.0)[:, None, None]
    layers = {module: name for name, module in classifier.extractor.named_modules()}
    seen: deque[tuple[nn.Module, Tensor]] = deque(maxlen=RECENT)

    def watch(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            seen.append((module, output))

    handles = [module.register_forward_hook(watch) for module in layers]
    try:
        with torch.no_grad():
            features = classifier.extractor(images)
            logits = classifier.head(features)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise UserError(
            "class activation maps need feature maps (B, C, H, W), and the extractor has none; "
            "take the figure out of `experiments:`"
        )
    maps = _pooled(features, [output for _, output in seen])
    if maps is not None:
        weights = classifier.head.linear.weight.detach()[0]
        return Maps(sign * torch.einsum("bchw,c->bhw", maps, weights), logits, "CAM")
    return Maps(sign * _grad_cam(classifier, images, seen[-1][0]), logits, "Grad-CAM")


def _pooled(features: Tensor, activations: Sequence[Tensor]) -> Tensor | None:
    """The latest activation, or its positive part, whose spatial mean is the features.

    DenseNet takes the positive part by a function, which no hook sees.
    """
    scale = float(features.abs().max())
    for activation in reversed(activations):
        for maps in (activation, activation.relu()):
            mean = maps.mean(dim=(2, 3))
            same = mean.shape == features.shape
            if same and torch.allclose(mean, features, rtol=TOLERANCE, atol=TOLERANCE * scale):
                return maps
    return None


def _grad_cam(classifier: Classifier, images: Tensor, layer: nn.Module) -> Tensor:
    """Grad-CAM of the logit of class 1 at a layer, times the number of positions, unrectified."""
    leaf: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaf.append(output.detach().requires_grad_())
        return leaf[-1].clone()  # what follows may write in place

    handle = layer.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(classifier(images).sum(), leaf[-1:])
    finally:
        handle.remove()
    weights = gradient.sum(dim=(2, 3))
    return torch.einsum("bchw,bc->bhw", leaf[-1].detach(), weights)


def choose_images(
    predictions: pd.DataFrame, groups: int, quantiles: Sequence[float]
) -> pd.DataFrame:
    """Images of each class and group, at quantiles of their scores: typical ones, not hand-picked.

    Args:
        predictions: image_id, label, attribute (group index), score; one model, one test set.
        groups: number of groups.
        quantiles: in [0, 1], e.g. 0.5: the image with the median score of its cell.

    Returns:
        The rows, class 1 before class 0, groups in order, scores increasing. A cell with fewer
        images than quantiles gives each of them once; an empty one none.
    """
    parts = []
    for label in (1, 0):
        for group in range(groups):
            cell = predictions[
                (predictions["label"] == label) & (predictions["group"] == group)
            ].sort_values(["score", "image_id"])
            places = dict.fromkeys(round(q * (len(cell) - 1)) for q in quantiles if len(cell))
            parts.append(cell.iloc[list(places)])
    return pd.concat(parts, ignore_index=True)
