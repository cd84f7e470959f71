"""What every method is given: the external set of a fold, narrowed down as its variant says.

`fit` of the front door and rule `debias` both come through here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..config.schema import Finetuning
from ._external import best_and_worst_group, choose_rows

if TYPE_CHECKING:
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples


def external_set(
    classifier: Classifier,
    samples: Samples,
    balanced: np.ndarray,
    *,
    groups: int,
    fraction: float,
    finetuning: Finetuning,
    seed: int,
    info: Callable[[str], None],
) -> ExternalSet:
    """Choose the pair of groups, thin the set, and split off its balanced part.

    Args:
        classifier: the Baseline, whose AUC by group decides where there are more than two.
        samples: all external samples, attributes 0..groups-1.
        balanced: bool (n,), as rule `make_external` wrote it.
        groups: how many groups the attribute has.
        fraction: share of the set to use, stratified by label and group (Figure 7).
        finetuning: `min_cell` and `min_group`.
        seed: for the draws (`seeds.external_seed`).
        info: where to report what was chosen.
    """
    from ..learning.inference import auc, predict
    from ..learning.samples import ExternalSet

    pair = None
    if groups > 2:
        logits = predict(classifier, samples)
        members = {group: samples.attributes == group for group in range(groups)}
        pair = best_and_worst_group(
            {group: auc(logits[rows], samples.labels[rows]) for group, rows in members.items()},
            {group: int(rows.sum()) for group, rows in members.items()},
            finetuning.min_group,
        )
    labels, indices = (
        values.cpu().numpy().astype(np.int64) for values in (samples.labels, samples.attributes)
    )
    chosen = choose_rows(labels, indices, balanced, pair, fraction, finetuning, seed)
    info(chosen.note)
    if pair is not None:
        recoded = np.zeros(len(labels), np.int64)
        recoded[chosen.rows] = chosen.groups
        import torch

        samples = samples.with_attributes(torch.from_numpy(recoded))
    full = samples.subset(chosen.rows) if len(chosen.rows) < len(samples) else samples
    return ExternalSet(full=full, balanced=full.subset(chosen.balanced))
