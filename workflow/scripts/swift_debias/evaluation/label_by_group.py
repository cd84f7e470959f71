"""How the label and the group go together in a training pool: the cause of a classifier's bias.

A group with more of one class than another can be taken for it: who knows the group knows something
of the label. How much is said as the AUC of a classifier that knows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Cells: TypeAlias = Mapping[str, Sequence[int]]
"""Group -> images of each class."""

HARDLY = 0.55  # AUC of the group alone up to which it hardly helps


def auc_of_the_group(cells: Cells) -> float | None:
    """AUC of a classifier whose score is the share of class 1 in an image's group.

    Returns:
        None where a class has no image.
    """
    known = [counts for counts in cells.values() if sum(counts)]
    negatives, positives = (sum(counts[label] for counts in known) for label in (0, 1))
    if not negatives or not positives:
        return None
    right, below = 0.0, 0
    for n0, n1 in sorted(known, key=lambda counts: counts[1] / sum(counts)):
        right += n1 * (below + n0 / 2)  # pairs within a group are ties
        below += n0
    return right / (negatives * positives)


def sentence(attribute: str, cells: Cells, classes: Sequence[str]) -> str:
    """How large the share of class 1 is in each group, and whether the group gives it away.

    Of more than two classes it is said of the one that the group says most of.

    Args:
        attribute: as it is called within a sentence.
        cells: images by group and class.
        classes: their names.
    """
    if len(classes) > 2:
        found = [_against_rest(cells, c) for c in range(len(classes))]
        aucs = [auc_of_the_group(of) or 0.0 for of in found]
        best = max(range(len(classes)), key=aucs.__getitem__)
        return sentence(attribute, found[best], ("the rest", classes[best]))
    positive = classes[1]
    known = {group: counts for group, counts in cells.items() if sum(counts)}
    if not known:
        return f"No image has a known {attribute}."
    shares = [f"{group} {_percent(counts[1], sum(counts))}" for group, counts in known.items()]
    said = f"Share of {positive} by {attribute}: {', '.join(shares)}"
    if len(known) < 2:
        return f"{said}. There is no other group."
    auc = auc_of_the_group(cells)
    if auc is None:
        return f"{said}. There is one class only."
    alone = f"the {attribute} alone has an AUC of {auc:.2f}"
    if auc <= HARDLY:
        return f"{said}. Knowing the {attribute} hardly helps: {alone}."
    return f"{said}. A classifier can win by knowing the {attribute}: {alone}."


def _against_rest(cells: Cells, c: int) -> dict[str, tuple[int, int]]:
    """Group -> images of the other classes and of one class."""
    return {group: (sum(counts) - counts[c], counts[c]) for group, counts in cells.items()}


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%} ({part:,} of {whole:,})".replace("%", " %")
