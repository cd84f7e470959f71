"""SWiFT: soft-mask weight fine-tuning (Yan et al., MELBA 2025, Section 3).

The importance of every weight to bias and to prediction gives a soft mask. Step 1 fine-tunes the
extractor with every update multiplied by its mask. Step 2 sets the most biased weights of the head
to zero and fine-tunes the head on the debiased, frozen features.

The ablations of Section 5.2 are settings: mask, normalization, step1, step2, reinit, threshold.
What the paper leaves to future work are two more: the mask can be measured again on the way
(`refresh_mask`), and the threshold chosen on samples held out (`threshold: learned`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..config.base import Count, Flag, Fraction, Model, Number, Share
from ..errors import NotFiniteError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from ..learning.context import Context
    from ..learning.networks import Classifier, Head
    from ..learning.samples import ExternalSet, Features, Samples
    from ._held_out import Cut

CLASS = "SWiFT"
IMPORTANCES: tuple[str, ...] = (
    "minibatch.balanced.prediction",
    "minibatch.balanced.bias",
    "per_sample.balanced.prediction",
    "per_sample.balanced.bias",
)
# of step 2 alone
SECOND_ONLY = ("prediction_weight_2", "reinit", "reinit_bias", "threshold", "thresholds")


class Settings(Model):
    """Mask, steps and weights of SWiFT."""

    only_with: ClassVar = {
        "estimator": {"mask": ("soft", "hard")},
        "normalization": {"mask": ("soft",)},
        "percentile": {"normalization": ("percentile",), "mask": ("soft",)},
        "hard_rates": {"mask": ("hard",)},
        "prediction_weight_1": {"step1": (True,)},
        "masked": {"step1": (True,)},
        "prediction_weight_2": {"step2": (True,)},
        "reinit": {"step2": (True,)},
        "threshold": {"step2": (True,), "reinit": ("partial",)},
        "thresholds": {"threshold": ("learned",)},
        "refresh_mask": {"mask": ("soft", "hard"), "step1": (True,)},
    }

    mask: Literal["soft", "hard", "random", "none"] = Field("soft", description="Eq. 9; Table 6.")
    estimator: Literal["minibatch", "per_sample"] = Field(
        "minibatch", description="Of the importances, Eq. 7-8 [code: minibatch]."
    )
    normalization: Literal["minmax", "zscore", "percentile"] = Field(
        "minmax", description="Of each parameter tensor's importances; Table 7 [paper]."
    )
    percentile: Number = Field(
        99.0,
        gt=50,
        le=100,
        description="normalization: percentile clips at this percentile [ours].",
    )
    hard_rates: tuple[Fraction, ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9),
        min_length=1,
        description="mask: hard fine-tunes this share of the weights; several rates are searched "
        "and the best on the external set is kept [paper: rates are searched].",
    )
    step1: Flag = Field(True, description="Fine-tune the extractor under the mask; Table 8.")
    step2: Flag = Field(True, description="Re-initialize and fine-tune the head; Table 8.")
    prediction_weight_1: Share = Field(
        0.1, description="lambda of Eq. 10 in step 1: small [paper]; 0.1 [code]."
    )
    prediction_weight_2: Share = Field(
        0.9, description="lambda of Eq. 10 in step 2: much larger [paper]; 0.9 [code]."
    )
    masked: Literal["update", "gradient"] = Field(
        "update",
        description="What the mask multiplies. Eq. 11 says the gradient; but weight decay is added "
        "after it, and Adam divides a masked gradient by its own size, which cancels the mask. So "
        "the whole update is masked [ours]; for plain SGD the two are the same.",
    )
    reinit: Literal["partial", "none", "full"] = Field(
        "partial",
        description="Eq. 12; Table 9. Without a mask no weight is above the mean, and partial sets "
        "none to zero.",
    )
    threshold: Literal["mean", "learned"] | Share = Field(
        "mean",
        description="tau of Eq. 12: the mean of the head's mask [paper], or this quantile of it: "
        "0.9 sets the tenth of the head's weights with the highest mask to zero (Figure 6). "
        "learned: the one of `thresholds` that `selection` takes on external samples held out; "
        "both steps are made on the others for it, and once more on all [ours; future work in the "
        "paper].",
    )
    thresholds: tuple[Literal["mean"] | Share, ...] = Field(
        ("mean", 0.1, 0.3, 0.5, 0.7, 0.9),
        min_length=2,
        max_length=100,
        description="What threshold: learned chooses among [ours].",
    )
    refresh_mask: Count | None = Field(
        None,
        description="Measure the importances again after every so many epochs of step 1, on the "
        "network as it is then, and once more for the head before step 2; masks are made anew of "
        "them. null: they are the Baseline's throughout [ours; future work in the paper].",
    )
    reinit_bias: Flag = Field(
        False,
        description="reinit: partial judges the head's bias too. A tensor of one element is never "
        "normalized, so its mask has another scale than the weights' and says nothing beside them; "
        "the released code can never zero it [code: false].",
    )

    def two_classes(self) -> str:
        """The selection judges one score."""
        learned = "threshold: learned chooses by one score of class 1; give a quantile"
        return learned if holds_out(self) else ""


def holds_out(settings: Settings) -> bool:
    """Whether some external samples are held out, for which their patients are asked."""
    return settings.threshold == "learned" and settings.step2 and settings.reinit == "partial"


def reads(settings: Settings) -> tuple[str, ...]:
    """The two importances of the estimator in use; a mask that is not measured needs none."""
    if settings.mask in ("random", "none"):
        return ()
    return tuple(name for name in IMPORTANCES if name.startswith(settings.estimator))


def first_half(settings: Settings) -> tuple[Settings, Settings] | None:
    """Step 1, with every setting that is step 2's alone at its default; and step 2."""
    if not settings.step1 or settings.mask == "hard":  # a hard rate is judged after both steps
        return None
    if holds_out(settings):  # which has a first step of its own, from the Baseline
        return None
    defaults = {name: Settings.model_fields[name].default for name in SECOND_ONLY}
    return (
        settings.model_copy(update={"step2": False, **defaults}),
        settings.model_copy(update={"step1": False}),
    )


def keeps_extractor(settings: Settings) -> bool:
    """Step 2 trains the head alone."""
    return not settings.step1


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Both steps, on the balanced external set.

    With mask "hard" every rate is tried from the same start, and the one whose balanced accuracy
    minus EOdds gap on the external set is highest is kept; no test set is looked at.
    """
    if settings.mask != "hard":
        return _two_steps(classifier, external, settings, context, rate=None)
    import copy

    from ..learning.inference import external_score

    candidates, made = [], []
    for rate in settings.hard_rates:
        context.info(f"hard mask: {rate:.0%} of the weights")
        start = copy.deepcopy(classifier)
        candidates.append(_two_steps(start, external, settings, context, rate))
        made.append(context.masks)
    scores = [external_score(candidate, external.balanced) for candidate in candidates]
    best = max(range(len(scores)), key=scores.__getitem__)
    context.info(f"hard mask: kept rate {settings.hard_rates[best]:.0%}, scores {scores}")
    kept = {"hard_rate": settings.hard_rates[best]}
    context.history.append({"stage": "search", "step": 1} | kept)
    context.masks = made[best]
    return candidates[best]


def make_masks(
    classifier: Classifier,
    settings: Settings,
    context: Context,
    rate: float | None,
    importance: Mapping[str, dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """The mask of every parameter, extractor and head, by parameter name (Eq. 9).

    `importance`: None: the context's.
    """
    import torch

    from ..importance import masks

    parameters = dict(classifier.named_parameters())
    if settings.mask == "none":
        return {name: torch.ones_like(value) for name, value in parameters.items()}
    if settings.mask == "random":
        generator = torch.Generator().manual_seed(context.seed)
        return masks.random_mask({k: p.shape for k, p in parameters.items()}, generator)
    importance = context.importance() if importance is None else importance
    bias = importance[f"{settings.estimator}.balanced.bias"]
    prediction = importance[f"{settings.estimator}.balanced.prediction"]
    if rate is not None:
        return masks.hard_mask(bias, prediction, rate=100 * (1 - rate))
    return masks.soft_mask(bias, prediction, settings.normalization, settings.percentile)


def renew_masks(
    classifier: Classifier, settings: Settings, context: Context, rate: float | None
) -> None:
    """The context's masks anew, of the network as it is now.

    In place: the optimizer and BatchNorm's statistics hold the same tensors.

    Raises:
        NotFiniteError: no mask can be made any more; the training has diverged.
    """
    try:
        importance = context.measure()
    except UserError as error:
        raise NotFiniteError(f"swift: the mask cannot be measured again: {error}") from None
    for name, mask in make_masks(classifier, settings, context, rate, importance).items():
        context.masks[name].copy_(mask)
    context.info("swift: the masks are those of the network as it is now")


def first_step(
    classifier: Classifier,
    samples: Samples,
    settings: Settings,
    context: Context,
    rate: float | None,
    suffix: str,
) -> None:
    """Step 1: fine-tune the extractor under its mask."""
    from ..learning import masked_optimizer
    from ..learning.context import set_trainable
    from ..learning.loop import fit

    mask, every = context.masks, settings.refresh_mask
    set_trainable(classifier, extractor=True, head=False)
    kind = masked_optimizer.MaskedOptimizer if every is None else masked_optimizer.ChangingMasks
    optimizer = kind(
        context.make_optimizer(classifier.extractor.parameters(), context.finetuning.lr_extractor),
        dict(classifier.named_parameters()),
        mask,
        settings.masked,
    )
    weight = settings.prediction_weight_1
    objective = context.objective(samples, prediction=weight, bias=1 - weight)

    def renew(epoch: int) -> None:
        if every is not None and epoch and epoch % every == 0:
            renew_masks(classifier, settings, context, rate)

    with context.moving_batchnorm(classifier, mask):
        fit(classifier, samples, objective, optimizer, context, "step1" + suffix, before=renew)


def train_head(
    head: Head,
    samples: Samples,
    features: Features,
    settings: Settings,
    threshold: Literal["mean"] | float,
    context: Context,
    stage: str,
) -> None:
    """Step 2: set the head's most biased weights to zero, and fine-tune it on frozen features."""
    from ..importance import masks
    from ..learning.loop import fit

    parameters = dict(head.named_parameters())
    head_mask = {name: context.masks[f"head.{name}"] for name in parameters}
    zeroed = masks.reinitialize(
        parameters, head_mask, settings.reinit, threshold, settings.reinit_bias
    )
    context.info(
        f"{stage}: {zeroed} of {sum(p.numel() for p in parameters.values())} head weights set to 0"
    )
    head.requires_grad_(True).train(True)
    weight = settings.prediction_weight_2
    objective = context.objective(samples, prediction=weight, bias=1 - weight)
    head_optimizer = context.make_optimizer(head.parameters(), context.finetuning.lr_head)
    fit(head, features, objective, head_optimizer, context, stage)


def _two_steps(
    classifier: Classifier,
    external: ExternalSet,
    settings: Settings,
    context: Context,
    rate: float | None,
) -> Classifier:
    """Step 1 on the extractor, step 2 on the head; either can be left out."""
    from ..learning.context import set_trainable
    from ..learning.inference import extract_features
    from ..learning.loop import drawn_views

    suffix = "" if rate is None else f"_rate{rate:g}"
    threshold = "mean" if settings.threshold == "learned" else settings.threshold
    if holds_out(settings):  # else the threshold is not used
        from ._swift_threshold import learn_threshold

        threshold = learn_threshold(
            classifier,
            external,
            settings.thresholds,
            context,
            lambda cut, end: _held_out_scores(classifier, cut, settings, context, rate, end),
            suffix,
        )
    samples = external.balanced
    start_masks(classifier, settings, context, rate)
    if settings.step1:
        first_step(classifier, samples, settings, context, rate, suffix)
    if settings.step2:
        if settings.refresh_mask is not None:
            renew_masks(classifier, settings, context, rate)
        drawn = drawn_views(samples, context, "step2" + suffix)
        features = extract_features(classifier, samples, drawn, context.compute)
        set_trainable(classifier, extractor=False, head=True)
        train_head(
            classifier.head, samples, features, settings, threshold, context, "step2" + suffix
        )
    return classifier


def start_masks(
    classifier: Classifier, settings: Settings, context: Context, rate: float | None
) -> None:
    """The context's masks, of the Baseline's importances, as the weights lie in memory."""
    from ..learning import masked_optimizer

    mask = context.masks = make_masks(classifier, settings, context, rate)
    for name, parameter in classifier.named_parameters():  # once, for all who ask
        mask[name] = masked_optimizer.laid_out(mask[name], parameter)


def _held_out_scores(
    classifier: Classifier,
    cut: Cut,
    settings: Settings,
    context: Context,
    rate: float | None,
    suffix: str,
) -> np.ndarray:
    """P(class 1) of the samples held out, (thresholds, n): step 1 once, then a head for each."""
    import copy
    import dataclasses

    import numpy as np
    import torch

    from ..importance.shared import shared_importance
    from ..learning.inference import extract_features, inference
    from ..learning.loop import drawn_views

    network = copy.deepcopy(classifier)

    def measure() -> Mapping[str, dict[str, Tensor]]:
        return shared_importance(
            network, cut.fit, context.finetuning, context.batch_size, context.seed, reads(settings)
        )

    own = dataclasses.replace(
        context, importance=measure, measure=measure, history=[], masks={}, rule=None
    )
    samples = cut.fit.balanced
    start_masks(network, settings, own, rate)
    if settings.step1:
        first_step(network, samples, settings, own, rate, suffix)
    if settings.refresh_mask is not None:
        renew_masks(network, settings, own, rate)
    stages = [f"step2{suffix}_tau{threshold}" for threshold in settings.thresholds]
    drawn = torch.stack([drawn_views(samples, own, stage) for stage in stages]).any(dim=0)
    features = extract_features(network, samples, drawn, own.compute)
    select = extract_features(network, cut.select).values[0]
    found = []
    for threshold, stage in zip(settings.thresholds, stages, strict=True):
        head = copy.deepcopy(network.head)
        train_head(head, samples, features, settings, threshold, own, stage)
        with inference(head):
            found.append(head(select).double().sigmoid().cpu().numpy())
    return np.stack(found)
