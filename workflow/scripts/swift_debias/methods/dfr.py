"""DFR: deep feature reweighting (Kirichenko, Izmailov and Wilson, ICLR 2023).

The features of a biased network often are good enough, and the bias is in its last layer. So a new
one is fitted on frozen features of equally many samples of each label and group: logistic
regression with an l1 penalty on standardized features, the mean of several draws. The strength of
the penalty is that of the highest accuracy of the worst cell on samples held out.

scikit-learn's `LogisticRegression` does the fit. The standardization is undone in the weights, so
that the model stays what its architecture says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from ..config.base import Count, Model, Positive
from ..errors import NotFiniteError

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "DFR"
IMPORTANCES: tuple[str, ...] = ()
ITERATIONS, TOLERANCE = 1000, 1e-6  # of the fit


class Settings(Model):
    """Which strengths are tried, and how often the chosen one is fitted."""

    ignores: ClassVar = ("epochs_percent", "batches")  # no epochs
    grid: ClassVar = {"strengths": ((1.0,), (0.3,), (0.1,), (0.03,), (0.01,), (0.003,))}

    strengths: tuple[Positive, ...] = Field(
        (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01),
        min_length=1,
        max_length=100,
        description="C of scikit-learn, the inverse strength of the l1 penalty. Of several "
        "that one is taken whose worst (label, group) cell is decided best on external samples "
        "held out by `selection` [DFR: half of them], of equal ones the first; of one nothing is "
        "held out.",
    )
    draws: Count = Field(
        20, description="The head is the mean of fits on so many draws of equal cells [DFR]."
    )


def holds_out(settings: Settings) -> bool:
    """Whether some external samples are held out, for which their patients are asked."""
    return len(settings.strengths) > 1


class Linear(NamedTuple):
    """A linear layer, float64, of weight (1, D) and bias (1,), or (C, D) and (C,)."""

    weight: np.ndarray
    bias: np.ndarray

    def decide(self, features: np.ndarray) -> np.ndarray:
        """The class of each row."""
        scores = features @ self.weight.T + self.bias
        return scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)


def keeps_extractor(settings: Settings) -> bool:
    """A new head is all that it fits."""
    return True


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Replace the head; the extractor, its BatchNorm statistics included, stays as it is.

    Raises:
        UserError: the external set has no sample of some label and group.
        NotFiniteError: the features are not finite.
    """
    import torch

    from ..learning.context import set_trainable
    from ..learning.inference import extract_features

    set_trainable(classifier, extractor=False, head=False)
    full, head = external.full, classifier.head.linear
    features = extract_features(classifier, full).values[0].double().cpu().numpy()
    if broken := int((~np.isfinite(features).all(axis=1)).sum()):
        raise NotFiniteError(f"the features of {broken} of {len(full)} images are not finite")
    strength = settings.strengths[0]
    if holds_out(settings):
        strength = _choose(features, external, settings, context, head.bias is not None)
    found = fit(features, full, strength, settings.draws, context.seed, head.bias is not None)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(found.weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(found.bias))
    used = int((found.weight != 0).any(axis=0).sum())
    row = {"stage": "dfr", "step": 1, "strength": strength, "features": used}
    context.history.append(row)
    context.info(f"dfr  C = {strength:g}: {used} of {features.shape[1]} features in use")
    return classifier


def fit(
    features: np.ndarray, samples: Samples, strength: float, draws: int, seed: int, bias: bool
) -> Linear:
    """The mean of l1 logistic regressions on several draws of equal cells.

    Args:
        features: float64 (n, D), of all samples; standardized by their mean and deviation.
        samples: the n samples.
        strength: C.
        draws: how many.
        seed: of the draws.
        bias: the layer has one; else features are scaled, not centred, and there is no intercept.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from ..seeds import derive_seed
    from .llft import draw_cells

    scaler = StandardScaler(with_mean=bias).fit(features)
    scaled, labels = scaler.transform(features), samples.labels.cpu().numpy().astype(np.int64)
    options: dict[str, Any] = {"l1_ratio": 1.0, "fit_intercept": bias}
    options |= {"max_iter": ITERATIONS, "tol": TOLERANCE}
    solver = "liblinear" if samples.classes == 2 else "saga"  # the first [DFR] is of two classes
    weights, biases = [], []
    for number in range(draws):
        rows = draw_cells(samples, derive_seed(seed, "draw", number), "dfr").numpy()
        model = LogisticRegression(
            C=strength, solver=solver, random_state=derive_seed(seed, number) % 2**31, **options
        )
        model.fit(scaled[rows], labels[rows])
        weights.append(model.coef_)
        biases.append(np.broadcast_to(model.intercept_, len(model.coef_)))
    weight, intercept = np.mean(weights, axis=0), np.mean(biases, axis=0)
    weight = weight / scaler.scale_
    return Linear(weight, intercept - weight @ scaler.mean_ if bias else intercept)


def worst_cell(decided: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """The lowest share of right decisions among the cells of label and group that occur."""
    return float(
        min(
            np.mean(decided[cell] == label)
            for label in np.unique(labels)
            for group in (0, 1)
            if (cell := (labels == label) & (groups == group)).any()
        )
    )


def _choose(
    features: np.ndarray, external: ExternalSet, settings: Settings, context: Context, bias: bool
) -> float:
    """The strength whose worst cell on samples held out is best."""
    from ._held_out import cuts, truth_of

    found: list[list[np.ndarray]] = [[] for _ in settings.strengths]
    held = cuts(external, context)
    for cut in held:
        for decisions, strength in zip(found, settings.strengths, strict=True):
            head = fit(features[~cut.rows], cut.fit.full, strength, 1, context.seed, bias)
            decisions.append(head.decide(features[cut.rows]))
    labels, groups, _ = truth_of(held)
    worst = [worst_cell(np.concatenate(decisions), labels, groups) for decisions in found]
    for step, (strength, accuracy) in enumerate(zip(settings.strengths, worst, strict=True)):
        row = {"stage": "held out", "step": step + 1, "strength": strength}
        context.history.append(row | {"worst_cell_accuracy": accuracy})
    context.info(
        f"dfr  accuracy of the worst cell of {len(labels)} images held out: "
        + ", ".join(f"C = {c:g}: {a:.3f}" for c, a in zip(settings.strengths, worst, strict=True))
    )
    return settings.strengths[int(np.argmax(worst))]
