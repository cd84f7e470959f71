"""SWiFT's threshold of Eq. 12, chosen on external samples held out (`threshold: learned`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ._held_out import Cut, cuts, truth_of
from ._selection import Scored, Trial, auc_change, choose, judge

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

Threshold: TypeAlias = Literal["mean"] | float


def learn_threshold(
    classifier: Classifier,
    external: ExternalSet,
    thresholds: Sequence[Threshold],
    context: Context,
    scores_of: Callable[[Cut, str], np.ndarray],
    suffix: str,
) -> Threshold:
    """The threshold that the context's selection takes.

    On each cut of the external set all are tried on the part that is kept, and judged on the part
    that is held out, as the trials of a search are. A row each goes to the history.

    Args:
        classifier: the Baseline; it is not changed.
        external, context: as SWiFT has them.
        thresholds: to choose among.
        scores_of: (cut, end of the stages' names) -> P(class 1) of the cut's samples held out by
            what each threshold makes of the others, (thresholds, n).
        suffix: of the stages' names.
    """
    from ..learning.inference import predict

    held = cuts(external, context)
    baseline, scores = [], []
    for number, cut in enumerate(held):
        baseline.append(predict(classifier, cut.select).double().sigmoid().cpu().numpy())
        scores.append(scores_of(cut, f"{suffix}_held_out{number}"))
    truth = truth_of(held)
    before = Scored(np.concatenate(baseline), *truth)
    trials = []
    for threshold, found in zip(thresholds, np.concatenate(scores, axis=1), strict=True):
        scored = Scored(found, *truth)
        change = auc_change([scored], [before])
        trials.append(Trial({"threshold": threshold}, judge([scored]), *change))
    verdict = choose(trials, judge([before]), context.selection)
    for step, trial in enumerate(trials):
        context.history.append(
            {
                "stage": "held out" + suffix,
                "step": step + 1,
                "tau": str(thresholds[step]),
                "auc": trial.judged.auc,
                "eodds": trial.judged.eodds,
                "chosen": step == verdict.best,
            }
        )
    best = thresholds[verdict.best]
    context.info(f"threshold {best} on {len(truth[0])} images held out: {verdict.reason}")
    return best
