"""Networks in use: logits, features of a frozen extractor, scores on the external set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..config.schema import Compute
from .finite import refuse_scores
from .networks import Classifier
from .objectives import one_against_rest
from .precision import autocast
from .samples import Features, Samples

BATCH = 256
# Pixels of a batch on a CPU: 256 images of 224 pixels took 3 GiB more than 32 and were no faster.
CPU_PIXELS = 1 << 21
# In batches of fewer, torch sends fp32 convolutions of 1 x 1 to a slow kernel (one thread).
FEW = 16


def auc(logits: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve for the progress log, ties counted half.

    nan with one class, and of logits that are nan, which have no order. The pooled ranks of a
    device tensor; reported metrics use scikit-learn (metrics.py). Of logits (n, C) the mean over
    the classes that occur, each against the rest.
    """
    if logits.dim() == 2:
        found = [auc(z, y) for z, y in one_against_rest(logits, labels) if y.any()]
        return sum(found) / len(found) if found else float("nan")
    positive, negative = logits[labels > 0.5], logits[labels <= 0.5].sort().values
    if not len(positive) or not len(negative) or logits.isnan().any():
        return float("nan")
    below = torch.searchsorted(negative, positive) + torch.searchsorted(
        negative, positive, right=True
    )
    return float((below.double() / 2).mean() / len(negative))


@contextlib.contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the train or eval mode of every part is restored.

    What a network keeps of a pass, such as a table of positions, can take part in a later training:
    torch's inference mode would forbid that, in a user's own program too.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def parts(n: int, samples: Samples, batch_size: int | None = None) -> list[Tensor]:
    """Positions 0 to n - 1 in batches that fit; the last ones even where one would be of a few."""
    batch = batch_size or BATCH
    if batch_size is None and samples.device.type == "cpu":
        batch = max(2 * FEW, min(batch, CPU_PIXELS // max(samples.side, 1) ** 2))
    found = list(torch.arange(n).split(batch))
    if len(found) > 1 and len(found[-1]) < FEW:
        found[-2:] = torch.cat(found[-2:]).tensor_split(2)
    return found


def predict(classifier: Classifier, samples: Samples, batch_size: int | None = None) -> Tensor:
    """Logits of the whole set, float32 (n,) or (n, C), on the device: eval mode, no augmentation.

    Inside autocast they have its precision.

    Raises:
        NotFiniteError: a logit is not finite.
    """
    with inference(classifier):
        drawn = samples.draws(parts(len(samples), samples, batch_size), view=0)
        logits = torch.cat([classifier(images) for images in drawn])
        refuse_scores(logits)
    return logits


def extract_features(
    classifier: Classifier,
    samples: Samples,
    drawn: Tensor | None = None,
    compute: Compute | None = None,
    batch_size: int | None = None,
) -> Features:
    """Features of the frozen extractor, in every view that the training of a head will draw.

    Training a head on them is the same as passing the augmented images through the frozen extractor
    in every epoch, at a fraction of the cost: the set of views is finite (augment.py), so epochs
    meet the same views again. All views share batches: a view alone may have a few images only.

    Args:
        drawn: bool (views, n) of `drawn_views`; None: the original view only. Features of what is
            never drawn are nan, so that a training that draws them all the same would fail.
        compute: computed in the precision of a training with these settings; None: fp32.
        batch_size: default: what fits.
    """
    wanted = torch.ones(1, len(samples), dtype=torch.bool) if drawn is None else drawn
    views = tuple(view for view in range(len(wanted)) if wanted[view].any())
    view, which = wanted.nonzero(as_tuple=True)
    draws = samples.subset(which).draws(parts(len(which), samples, batch_size), view)
    exact = contextlib.nullcontext() if compute is None else autocast(samples.device, compute)
    with inference(classifier), exact:
        found = torch.cat([classifier.extractor(images).float() for images in draws])
        values = found.new_full((*wanted.shape, found.shape[1]), float("nan"))
        values[view.to(found.device), which.to(found.device)] = found
    return Features(values[list(views)], views, samples.labels, samples.attributes, samples.classes)


def external_score(classifier: Classifier, samples: Samples) -> float:
    """Balanced accuracy minus EOdds gap at threshold 0.5: how settings are searched.

    Only ever on the external set; a group or class without samples drops its term. Of C classes an
    image is decided for the most probable one: the mean recall minus the mean over classes of the
    one-against-rest gaps.
    """
    logits = predict(classifier, samples)
    if logits.dim() == 1:
        recall, gap = _recall_and_gap(logits > 0, samples.labels > 0.5, samples.attributes)
        return float(recall) - gap
    decided = logits.argmax(dim=1)
    hits, gaps = [], []
    for c in range(samples.classes):
        label = samples.labels == c
        hits += [(decided[label] == c).double().mean().item()] if label.any() else []
        gaps.append(_recall_and_gap(decided == c, label, samples.attributes)[1])
    return sum(hits) / len(hits) - sum(gaps) / len(gaps)


def _recall_and_gap(positive: Tensor, labels: Tensor, attributes: Tensor) -> tuple[Tensor, float]:
    """Balanced accuracy, and EOdds, of decisions; positive and labels are bool (n,)."""
    rates = {
        (label, group): positive[cell].double().mean().item()
        for label in (True, False)
        for group in (0, 1)
        if (cell := (labels == label) & (attributes == group)).any()
    }
    gaps = [
        abs(rates[label, 0] - rates[label, 1])
        for label in (True, False)
        if (label, 0) in rates and (label, 1) in rates
    ]
    recall = positive[labels].double().mean() + (~positive[~labels]).double().mean()
    return recall / 2, sum(gaps) / 2
