"""Threshold optimizer: a threshold of its own for each group (Hardt et al., NeurIPS 2016).

Nothing is trained: the network and its scores stay. fairlearn's `ThresholdOptimizer` is fitted on
the scores of the external set, and what it found is stored as a rule beside the model
(evaluation/decision_rule.py), which decides the test images by score and group. It is here because
it does what it promises on the data that it was fitted on, and need not on others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..config.base import Model
from ..errors import UserError

if TYPE_CHECKING:
    from ..evaluation.decision_rule import OfGroup, Rule
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "ThresholdOptimizer"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Model):
    """What is to be equal, and what is best."""

    ignores: ClassVar = ("epochs_percent", "batches")  # nothing is trained
    grid: ClassVar = {
        "constraint": ("equalized_odds", "demographic_parity", "true_positive_rate_parity"),
        "objective": ("balanced_accuracy_score", "accuracy_score"),
    }

    constraint: Literal[
        "equalized_odds",
        "demographic_parity",
        "true_positive_rate_parity",
        "false_positive_rate_parity",
    ] = Field(
        "equalized_odds",
        description="Which rates the groups are to share, in fairlearn's words. equalized_odds is "
        "what the tables report [ours]; fairlearn's default is demographic_parity.",
    )
    objective: Literal["balanced_accuracy_score", "accuracy_score"] = Field(
        "balanced_accuracy_score",
        description="What is best among the rules that do so [ours]; fairlearn's default is "
        "accuracy_score, under which the rarer class is hardly decided for.",
    )

    def two_classes(self) -> str:
        """It cuts one score."""
        return "threshold_optimizer cuts the score of class 1"


def keeps_extractor(settings: Settings) -> bool:
    """It changes how is decided, and no weight."""
    return True


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Find the rule on the full external set; the network is returned as it is.

    Raises:
        UserError: a group of the external set has only one label.
    """
    from ..learning.inference import predict
    from ..seeds import derive_seed

    full = external.full
    labels = full.labels.cpu().numpy().astype(np.int64)
    groups = full.attributes.cpu().numpy()
    for group in (0, 1):
        if len(np.unique(labels[groups == group])) < 2:
            raise UserError(
                f"threshold_optimizer: group {group} of the external set has only one label"
            )
    scores = predict(classifier, full).double().sigmoid().cpu().numpy()
    rule = find_rule(scores, labels, groups, settings, derive_seed(context.seed, "decisions"))
    context.rule = rule
    for group, found in rule.groups.items():
        rows = groups == group
        rates = {
            f"rate_{label}": float(found.probability(scores[rows & (labels == label)]).mean())
            for label in (0, 1)
        }
        context.history.append({"stage": "threshold_optimizer", "step": 1, "group": group} | rates)
        context.info(
            f"threshold_optimizer  group {group}: {found}, which decides for class 1 in "
            f"{rates['rate_1']:.3f} of label 1 and {rates['rate_0']:.3f} of label 0"
        )
    return classifier


def find_rule(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: Settings, seed: int
) -> Rule:
    """fairlearn's rule on these scores.

    Args:
        scores: P(class 1), (n,). labels, groups: int (n,), 0 or 1.
        settings: constraint and objective.
        seed: of the rule's draws.
    """
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator

    from ..evaluation.decision_rule import Rule

    class Given(BaseEstimator):
        """An estimator whose scores are its inputs."""

        def fit(self, values: np.ndarray, labels: np.ndarray) -> Given:
            self.fitted_ = True
            return self

        def decision_function(self, values: np.ndarray) -> np.ndarray:
            return np.asarray(values)[:, 0]

    optimizer = ThresholdOptimizer(
        estimator=Given(),
        constraints=settings.constraint,
        objective=settings.objective,
        predict_method="decision_function",
    )
    optimizer.fit(scores[:, None], labels, sensitive_features=groups)
    found = optimizer.interpolated_thresholder_.interpolation_dict
    return Rule({int(group): _of_group(made) for group, made in sorted(found.items())}, seed)


def _of_group(made: Any) -> OfGroup:
    """fairlearn's interpolation as plain values; a threshold beyond all scores is -1 or 2."""
    from ..evaluation.decision_rule import OfGroup, Part

    parts = tuple(
        Part(
            float(made[f"p{i}"]),
            made[f"operation{i}"].operator,
            float(np.clip(made[f"operation{i}"].threshold, -1, 2)),
        )
        for i in (0, 1)
        if made[f"p{i}"] > 0
    )
    return OfGroup(parts, float(made.get("p_ignore", 0)), float(made.get("prediction_constant", 0)))
