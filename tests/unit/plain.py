"""The methods' losses, descent and iterates in plain torch, float64: the oracle of one step.

Nothing of the library is used but the network's layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

if TYPE_CHECKING:
    from swift_debias.config.schema import Optimizer
    from swift_debias.learning.networks import Classifier
    from swift_debias.learning.samples import Samples

Rows = tuple[Tensor, Tensor, Tensor]  # images, labels, groups
CELLS = tuple((label, group) for label in (0, 1) for group in (0, 1))


def rows_of(samples: Samples) -> Rows:
    """The whole set: pixels in ImageNet's scale, labels, groups."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1)
        for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    images = (samples.source[samples.rows].double() / 255 - mean) / std
    return images, samples.labels.double(), samples.attributes


def double(classifier: Classifier) -> Classifier:
    """A copy in float64, everything in eval mode."""
    return copy.deepcopy(classifier).double().eval().requires_grad_(True)


def assert_agrees(found: nn.Module, expected: nn.Module, part: str = "") -> None:
    """Every weight and buffer of a float32 network is that of the float64 one."""
    values = {n: v for n, v in expected.state_dict().items() if n.startswith(part)}
    state = {n: v for n, v in found.state_dict().items() if n.startswith(part)}
    assert state.keys() == values.keys()
    for name, value in values.items():
        torch.testing.assert_close(
            state[name].to(value), value, rtol=1e-4, atol=3e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


# --- losses ---------------------------------------------------------------------------------------


def cross_entropy(z: Tensor, y: Tensor, positives: Tensor | float | None = None) -> Tensor:
    """Eq. 1; `positives`: the share of label 1 that weighs the classes, by default these rows'."""
    share, p = y.mean() if positives is None else positives, z.sigmoid()
    return -((1 - share) * y * p.log() + share * (1 - y) * (1 - p).log()).mean()


def rate_gaps(z: Tensor, y: Tensor, a: Tensor) -> Tensor:
    """Mean score of group 0 minus that of group 1, at label 0 and at label 1."""
    mean = {cell: z.sigmoid()[(y == cell[0]) & (a == cell[1])].mean() for cell in CELLS}
    return torch.stack([mean[label, 0] - mean[label, 1] for label in (0, 1)])


def eodds(z: Tensor, y: Tensor, a: Tensor, kind: str = "mean_abs") -> Tensor:
    """Eq. 2, or the predecessor's form of it."""
    gaps = rate_gaps(z, y, a)
    return gaps.abs().mean() if kind == "mean_abs" else gaps.mean().abs()


def signed_gap(z: Tensor, y: Tensor, a: Tensor, kind: str) -> Tensor:
    """The proxies of DiffGda and DiffPrune."""
    if kind == "spd":
        return z.sigmoid()[a == 0].mean() - z.sigmoid()[a == 1].mean()
    gaps = rate_gaps(z, y, a)
    return gaps[1] if kind == "eopp" else gaps.mean()


# --- descent --------------------------------------------------------------------------------------


def descend(
    network: nn.Module,
    losses: Iterable[Callable[[], Tensor]],
    rates: Mapping[str, float],
    optimizer: Optimizer,
    masks: Mapping[str, Tensor] | None = None,
    masked: str = "update",
) -> list[float]:
    """A step for each loss, by SGD with momentum or Adam, both with L2 decay; returns the losses.

    Args:
        rates: beginning of a parameter's name -> learning rate; all others stay.
        masks: name -> what multiplies the update, or (`masked="gradient"`) the gradient.
    """
    masks, seen = masks or {}, []
    chosen = {n: p for n, p in network.named_parameters() if n.startswith(tuple(rates))}
    first, second = ({n: torch.zeros_like(p) for n, p in chosen.items()} for _ in range(2))
    for t, loss in enumerate(losses, start=1):
        value = loss()
        seen.append(value.item())
        gradients = torch.autograd.grad(value, list(chosen.values()))
        for (n, p), g in zip(chosen.items(), gradients, strict=True):
            mask = masks[n].double() if n in masks else torch.ones_like(p)
            g = (mask * g if masked == "gradient" else g) + optimizer.weight_decay * p.detach()
            if optimizer.name == "sgd":
                update = first[n] = optimizer.momentum * first[n] + g
            else:
                first[n] = 0.9 * first[n] + 0.1 * g
                second[n] = 0.999 * second[n] + 0.001 * g**2
                update = first[n] / (1 - 0.9**t)
                update = update / ((second[n] / (1 - 0.999**t)).sqrt() + 1e-8)
            rate = next(r for part, r in rates.items() if n.startswith(part))
            p.data -= rate * (update if masked == "gradient" else mask * update)
    return seen


# --- BatchNorm ------------------------------------------------------------------------------------


def forward(
    network: Classifier, x: Tensor, mode: str, masks: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Logits while the extractor is trained, layer by layer; running statistics move as they do.

    Mode "train": batches are normalized by their own statistics. Else by the running ones, which
    have moved before ("masked", by the share of the scale's mask) or never move ("eval").
    """
    for index, layer in enumerate(network.extractor):
        if isinstance(layer, nn.BatchNorm2d):
            flat = x.detach().transpose(0, 1).flatten(1)
            mean, variance = flat.mean(dim=1), flat.var(dim=1)
            share = (masks or {}).get(f"extractor.{index}.weight", torch.ones_like(mean)).double()
            share = {"train": torch.ones_like(mean), "eval": 0 * mean, "masked": share}[mode]
            moved = (
                layer.running_mean + 0.1 * share * (mean - layer.running_mean),
                layer.running_var + 0.1 * share * (variance - layer.running_var),
            )
            layer.running_mean.copy_(moved[0])
            layer.running_var.copy_(moved[1])
            layer.num_batches_tracked += mode != "eval"
            biased = flat.var(dim=1, correction=0)
            if mode == "train":
                centre, scale = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
                assert torch.allclose(scale.detach(), biased)
            else:
                centre, scale = moved
            x = (x - centre[:, None, None]) / (scale[:, None, None] + layer.eps).sqrt()
            x = x * layer.weight[:, None, None] + layer.bias[:, None, None]
        else:
            x = layer(x)
    return network.head(x)


# --- masks ----------------------------------------------------------------------------------------


def normalized(values: Tensor, kind: str = "minmax", percentile: float = 99) -> Tensor:
    v = values.double().numpy()
    if np.ptp(v) == 0:
        return torch.from_numpy(v)
    if kind == "zscore":
        return torch.from_numpy((v - v.mean()) / v.std())
    if kind == "percentile":
        v = np.minimum(v, np.percentile(v, percentile, method="inverted_cdf"))
    return torch.from_numpy((v - v.min()) / np.ptp(v))


def ratios(bias: dict[str, Tensor], prediction: dict[str, Tensor], *how: Any) -> dict[str, Tensor]:
    found = {}
    for name in bias:
        below = normalized(prediction[name], *how)
        eps = torch.where(below < 0, -1e-10, 1e-10)
        found[name] = normalized(bias[name], *how) / (below + eps)
    return found


def above(values: dict[str, Tensor], percentile: float) -> dict[str, Tensor]:
    """1 above this percentile of all values together."""
    pool = np.concatenate([v.numpy().ravel() for v in values.values()])
    threshold = np.percentile(pool, percentile, method="inverted_cdf")
    return {name: (v > threshold).double() for name, v in values.items()}


def expected_masks(
    network: Classifier, importance: Any, seed: int, options: dict[str, Any]
) -> dict[str, Tensor]:
    """Eq. 9 and its ablations."""
    kind, parameters = options.get("mask", "soft"), dict(network.named_parameters())
    if kind == "none":
        return {name: torch.ones_like(p) for name, p in parameters.items()}
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(p.shape, generator=generator) for name, p in parameters.items()}
    source = options.get("estimator", "minibatch")
    pair = (importance[f"{source}.balanced.{of}"] for of in ("bias", "prediction"))
    if kind == "hard":
        (rate,) = options["hard_rates"]
        return above(ratios(*pair), 100 * (1 - rate))
    how = options.get("normalization", "minmax"), options.get("percentile", 99)
    return {name: ratio.tanh().abs() for name, ratio in ratios(*pair, *how).items()}


# --- iterates -------------------------------------------------------------------------------------


def measure(z: Tensor, y: Tensor, a: Tensor, kind: str) -> tuple[float, float]:
    """Balanced accuracy at the best of 101 thresholds, and the signed gap of those decisions."""
    scores, thresholds = z.detach().sigmoid(), torch.linspace(0, 1, 101, dtype=torch.float64)
    right = (scores > thresholds[:, None]) == (y == 1)
    found = torch.stack([right[:, y == label].double().mean(dim=1) for label in (0, 1)]).mean(dim=0)
    best = int(found.numpy().argmax())  # the first
    hard = torch.where(scores > thresholds[best], torch.inf, -torch.inf).double()
    return found[best].item(), signed_gap(hard, y, a, kind).item()


def keep(
    measured: Sequence[tuple[float, float]], least: float = 0.0, stop: float = 0.0
) -> tuple[int, int]:
    """Which iterate is kept, and how many steps are made; iterate 0 is the start model."""
    best = 0
    for step, (accuracy, bias) in enumerate(measured[1:], start=1):
        if abs(bias) < abs(measured[best][1]) and accuracy >= least * measured[0][0]:
            best = step
        if accuracy <= stop:
            return best, step
    return best, len(measured) - 1


def external_score(network: Classifier, samples: Samples) -> float:
    """Balanced accuracy minus EOdds gap of the decisions."""
    x, y, a = rows_of(samples)
    z = network.eval()(x).detach()
    hard = torch.where(z > 0, torch.inf, -torch.inf).double()
    return balanced_accuracy_score(y, z > 0) - eodds(hard, y, a).item()
