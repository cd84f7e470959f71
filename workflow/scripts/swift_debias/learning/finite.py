"""Whether numbers are finite: a training that diverges is told in one line, and saves nothing.

Where a network's numbers meet the world they are looked at: the losses and weights of a training
stage (`Watch`), the scores of a network (`refuse_scores`), what is saved and loaded (networks.py),
and what a method returns (`methods.base.debias`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotFiniteError


def refuse_not_finite(state: Mapping[str, Any], where: str = "") -> None:
    """Refuse weights and buffers of which a number is not finite; one look at the device.

    Args:
        state: by name; what is not floating cannot fail, nor what is no tensor (`get_extra_state`).
        where: begins the message, e.g. "step1 epoch 3".

    Raises:
        NotFiniteError: names the first tensor.
    """
    values = {
        name: value.detach()
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    if not values:
        return
    # A sum is finite only if every number is: fourteen times as fast as to look at each.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in values.values()])
    suspects = [
        name for name, good in zip(values, sums.isfinite().tolist(), strict=True) if not good
    ]
    broken = {name: n for name in suspects if (n := int((~values[name].isfinite()).sum()))}
    if broken:
        raise NotFiniteError(
            f"{where}{': ' if where else ''}{sum(broken.values())} weights are not finite, the "
            f"first in {next(iter(broken))}"
        )


def refuse_scores(logits: Tensor) -> None:
    """Refuse logits (n,) or (n, ...) of which one is not finite; one look at the device.

    Thresholds and ranks would make numbers of it, and a class.

    Raises:
        NotFiniteError: says of how many images.
    """
    finite = logits.isfinite() if logits.dim() < 2 else logits.isfinite().flatten(1).all(dim=1)
    broken = int((~finite).sum())
    if broken:
        raise NotFiniteError(
            f"the network's scores of {broken} of {finite.numel()} images are not finite: its "
            "weights or the pixels are not as they should be"
        )


class Watch:
    """The losses of a training stage, and whether they and the weights are finite.

    Losses stay on the device until `check`, which is called where values are fetched anyway, so
    that no step waits for a look.
    """

    def __init__(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Args: stage: which, e.g. "step1 epoch 3". optimizer: its learning rates are named."""
        self.stage, self.module, self.optimizer = stage, module, optimizer
        self._losses: list[Tensor] = []
        self._checked = 0

    def step(self, loss: Tensor) -> None:
        """Remember the loss of a step."""
        self._losses.append(loss.detach())

    def check(self) -> None:
        """Look at the losses since the last check, and at the weights after the last step.

        Raises:
            NotFiniteError: says at which step, and what to try.
        """
        losses, self._losses = self._losses, []
        first, self._checked = self._checked + 1, self._checked + len(losses)
        if losses:
            values = torch.stack(losses)
            finite = values.isfinite()
            if not finite.all():
                at = int((~finite).nonzero()[0])
                value = float(values[at])
                raise NotFiniteError(
                    f"{self.stage} step {first + at}: the loss is not finite ({value}). "
                    f"{self.advice()}"
                )
        try:
            refuse_not_finite(self.module.state_dict(), f"{self.stage} step {self._checked}")
        except NotFiniteError as error:
            raise NotFiniteError(f"{error}. {self.advice()}") from None

    @contextlib.contextmanager
    def scoring(self) -> Iterator[None]:
        """Say where the training stands and what to try of scores that are not finite."""
        try:
            yield
        except NotFiniteError as error:
            place = f"{self.stage} step {self._checked}"
            raise NotFiniteError(f"{place}: {error}. {self.advice()}") from None

    def advice(self) -> str:
        """What to try."""
        rates = dict.fromkeys(f"{group['lr']:g}" for group in self.optimizer.param_groups)
        return f"Lower the learning rate (here {', '.join(rates)})"
