"""SWiFT: soft-mask weight fine-tuning (Yan et al., MELBA 2025, Section 3).

The importance of every weight to bias and to prediction gives a soft mask. Step 1 fine-tunes the
extractor with every update multiplied by its mask. Step 2 sets the most biased weights of the head
to zero and fine-tunes the head on the debiased, frozen features.

The ablations of Section 5.2 are settings: mask, normalization, step1, step2, reinit, threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..config.base import Flag, Fraction, Model, Number, Share

if TYPE_CHECKING:
    from torch import Tensor

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "SWiFT"
IMPORTANCES: tuple[str, ...] = (
    "minibatch.balanced.prediction",
    "minibatch.balanced.bias",
    "per_sample.balanced.prediction",
    "per_sample.balanced.bias",
)
SECOND_ONLY = ("prediction_weight_2", "reinit", "reinit_bias", "threshold")  # of step 2 alone


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
    reinit: Literal["partial", "none", "full"] = Field("partial", description="Eq. 12; Table 9.")
    threshold: Literal["mean"] | Share = Field(
        "mean",
        description="tau of Eq. 12: the mean of the head's mask [paper], or this quantile of it: "
        "0.9 sets the tenth of the head's weights with the highest mask to zero (Figure 6).",
    )
    reinit_bias: Flag = Field(
        False,
        description="reinit: partial judges the head's bias too. A tensor of one element is never "
        "normalized, so its mask has another scale than the weights' and says nothing beside them; "
        "the released code can never zero it [code: false].",
    )


def reads(settings: Settings) -> tuple[str, ...]:
    """The two importances of the estimator in use; a mask that is not measured needs none."""
    if settings.mask in ("random", "none"):
        return ()
    return tuple(name for name in IMPORTANCES if name.startswith(settings.estimator))


def first_half(settings: Settings) -> tuple[Settings, Settings] | None:
    """Step 1, with every setting that is step 2's alone at its default; and step 2."""
    if not settings.step1 or settings.mask == "hard":  # a hard rate is judged after both steps
        return None
    defaults = {name: Settings.model_fields[name].default for name in SECOND_ONLY}
    return (
        settings.model_copy(update={"step2": False, **defaults}),
        settings.model_copy(update={"step1": False}),
    )


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
    context.history.append({"stage": "search", "hard_rate": settings.hard_rates[best]})
    context.masks = made[best]
    return candidates[best]


def make_masks(
    classifier: Classifier, settings: Settings, context: Context, rate: float | None
) -> dict[str, Tensor]:
    """The mask of every parameter, extractor and head, by parameter name (Eq. 9)."""
    import torch

    from ..importance import masks

    parameters = dict(classifier.named_parameters())
    if settings.mask == "none":
        return {name: torch.ones_like(value) for name, value in parameters.items()}
    if settings.mask == "random":
        generator = torch.Generator().manual_seed(context.seed)
        return masks.random_mask({k: p.shape for k, p in parameters.items()}, generator)
    importance = context.importance()
    bias = importance[f"{settings.estimator}.balanced.bias"]
    prediction = importance[f"{settings.estimator}.balanced.prediction"]
    if rate is not None:
        return masks.hard_mask(bias, prediction, rate=100 * (1 - rate))
    return masks.soft_mask(bias, prediction, settings.normalization, settings.percentile)


def _two_steps(
    classifier: Classifier,
    external: ExternalSet,
    settings: Settings,
    context: Context,
    rate: float | None,
) -> Classifier:
    """Step 1 on the extractor, step 2 on the head; either can be left out."""
    from ..importance import masks
    from ..learning import masked_optimizer
    from ..learning.context import set_trainable
    from ..learning.inference import extract_features
    from ..learning.loop import drawn_views, fit

    samples, finetuning = external.balanced, context.finetuning
    mask = context.masks = make_masks(classifier, settings, context, rate)
    for (
        name,
        parameter,
    ) in classifier.named_parameters():  # once, for the optimizer and whoever asks
        mask[name] = masked_optimizer.laid_out(mask[name], parameter)
    suffix = "" if rate is None else f"_rate{rate:g}"

    if settings.step1:
        set_trainable(classifier, extractor=True, head=False)
        optimizer = masked_optimizer.MaskedOptimizer(
            context.make_optimizer(classifier.extractor.parameters(), finetuning.lr_extractor),
            dict(classifier.named_parameters()),
            mask,
            settings.masked,
        )
        weight = settings.prediction_weight_1
        objective = context.objective(samples, prediction=weight, bias=1 - weight)
        with context.moving_batchnorm(classifier, mask):
            fit(classifier, samples, objective, optimizer, context, "step1" + suffix)

    if settings.step2:
        head = dict(classifier.head.named_parameters())
        head_mask = {name: mask[f"head.{name}"] for name in head}
        zeroed = masks.reinitialize(
            head, head_mask, settings.reinit, settings.threshold, settings.reinit_bias
        )
        context.info(
            f"step2: {zeroed} of {sum(p.numel() for p in head.values())} head weights set to 0"
        )
        drawn = drawn_views(samples, context, "step2" + suffix)
        features = extract_features(classifier, samples, drawn, context.compute)
        set_trainable(classifier, extractor=False, head=True)
        weight = settings.prediction_weight_2
        objective = context.objective(samples, prediction=weight, bias=1 - weight)
        head_optimizer = context.make_optimizer(classifier.head.parameters(), finetuning.lr_head)
        fit(classifier.head, features, objective, head_optimizer, context, "step2" + suffix)
    return classifier
