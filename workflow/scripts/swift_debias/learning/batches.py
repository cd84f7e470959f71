"""In which order a training draws its samples: shuffled, or each cell in turn (`batches: cells`).

A cell is a label with a group. Shuffled, an epoch has every sample once, and a batch may lack a
cell that is rare. By cells, every batch has equally many of each, up to one, so that each term of
the bias has its samples in each batch; an epoch draws as many images as before, so that it costs
the same, but those of a rare cell several times and not all of a common one.

Equal cells have equal classes, whose shares the weights of Eq. 1 then do not know any more. So each
image weighs 1 - sum p_c^2, of two classes 2 p (1 - p), with p the classes' shares of a balanced
set: what Eq. 1 weighs on average there, so that lambda weighs the prediction against the bias as it
did.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config.schema import Batches
from ..errors import UserError
from .samples import Drawable


def cells(samples: Drawable) -> Tensor:
    """The cell of each sample, label * 2 + group: int64 (n,), on the CPU.

    Raises:
        UserError: a sample has no group, or a cell no sample.
    """
    labels, groups = samples.labels.long().cpu(), samples.attributes.cpu()
    if not bool(((groups == 0) | (groups == 1)).all()):
        raise UserError("cells are those of two groups, and an image's group is neither 0 nor 1")
    found = labels * 2 + groups
    counts = torch.bincount(found, minlength=2 * samples.classes)
    if not counts.all():
        label, group = divmod(int((counts == 0).nonzero()[0]), 2)
        raise UserError(f"the external set has no sample of label {label}, group {group}")
    return found


def order(samples: Drawable, how: Batches, generator: torch.Generator) -> Tensor:
    """The samples of an epoch in the order in which they are drawn: positions, int64 (n,).

    By cells, each cell's samples follow in a random order, all of them before one comes again.
    """
    n = len(samples)
    if how == "shuffled":
        return torch.randperm(n, generator=generator)
    cell = cells(samples)
    members = [torch.nonzero(cell == c).squeeze(1) for c in range(2 * samples.classes)]
    found = torch.empty(n, dtype=torch.int64)
    for place, c in enumerate(torch.randperm(len(members), generator=generator).tolist()):
        turns = found[place :: len(members)]
        passes = -(-len(turns) // len(members[c]))
        drawn = [torch.randperm(len(members[c]), generator=generator) for _ in range(passes)]
        turns.copy_(members[c][torch.cat(drawn)[: len(turns)]] if passes else turns)
    return found


def weight(samples: Drawable) -> float:
    """What an image weighs in the prediction loss where all cells weigh alike; see the module.

    The balanced set has of each class as many images of both groups as the smaller group has.
    """
    counts = torch.bincount(cells(samples), minlength=2 * samples.classes).view(-1, 2)
    shares = counts.min(dim=1).values.double()
    return float(1 - (shares / shares.sum()).square().sum())


def cell_weights(samples: Drawable) -> Tensor:
    """What each sample weighs, float32 (n,) on the device, so that all cells weigh alike in sum.

    Of mean `weight`: a shuffled epoch then minimizes what one by cells does.
    """
    cell = cells(samples)
    counts = torch.bincount(cell, minlength=2 * samples.classes)
    found = weight(samples) * len(samples) / (len(counts) * counts[cell].double())
    return found.to(samples.labels)
