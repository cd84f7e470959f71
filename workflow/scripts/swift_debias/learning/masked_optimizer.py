"""An optimizer whose updates are multiplied by masks (Eq. 11 of Yan et al., MELBA 2025).

The Adam trap. Eq. 11 multiplies the *gradient* with the mask. This is a mask on the update only for
plain SGD. Weight decay joins the gradient inside the optimizer, after the mask, so that a masked
weight still shrinks; and momentum from earlier steps still moves it. Adam divides the gradient by
the root of its own mean square, so a constant factor M cancels, M g / sqrt(M^2 g^2) = g / |g|, and
no M > 0 has any effect. Therefore the default here masks the whole update: the optimizer takes its
step from unmasked gradients, and the share M of that step is kept. For SGD without weight decay,
with or without momentum, this equals Eq. 11; for everything else it is what Eq. 11 means.
`mode="gradient"` is Eq. 11 to the letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn


def laid_out(mask: Tensor, parameter: Tensor) -> Tensor:
    """A mask as its parameter lies in memory, so that multi-tensor kernels take the fast road.

    One that lies so already is not copied.
    """
    same = mask.stride() == parameter.stride() and mask.dtype == parameter.dtype
    if same and mask.device == parameter.device:
        return mask
    return torch.empty_like(parameter, requires_grad=False).copy_(mask)


class MaskedOptimizer:
    """An optimizer of torch.optim whose updates are multiplied by masks (Eq. 11).

    `mode="update"`: p becomes p_old + M (p_new - p_old), whatever made the step: weight decay,
    momentum and Adam's scaling are all inside the mask. M = 0 leaves p bit-identical, M = 1 is the
    optimizer's own step, bit-identical. `mode="gradient"`: the gradients are multiplied before the
    step, Eq. 11 to the letter; see the module's docstring for what leaks then.

    The optimizer's own state (momenta) is that of unmasked gradients in mode "update".
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
        masks: Mapping[str, Tensor],
        mode: Literal["update", "gradient"] = "update",
    ) -> None:
        """Wrap an optimizer.

        Args:
            optimizer: already made.
            parameters: name -> parameter; every one that the optimizer holds must be named.
            masks: name -> mask for each of them; masks of other names are ignored.
            mode: see above.

        Raises:
            ValueError: a parameter without name or mask, or a mask of another shape.
        """
        if mode not in ("update", "gradient"):
            raise ValueError(f"unknown mask mode {mode!r}")
        names = {parameter: name for name, parameter in parameters.items()}
        self.optimizer, self.mode = optimizer, mode
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._masks = []
        for parameter in self._parameters:
            mask = masks.get(names.get(parameter, ""))
            if mask is None or mask.shape != parameter.shape:
                raise ValueError(
                    f"parameter {names.get(parameter)!r} of shape {tuple(parameter.shape)} needs a "
                    f"mask of this shape, got {None if mask is None else tuple(mask.shape)}"
                )
            self._masks.append(laid_out(mask, parameter))
        self._before = [torch.empty_like(p, requires_grad=False) for p in self._parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One masked step."""
        if self.mode == "gradient":
            for parameter, mask in zip(self._parameters, self._masks, strict=True):
                if parameter.grad is not None:
                    parameter.grad.mul_(mask)
            self.optimizer.step()
            return
        torch._foreach_copy_(self._before, self._parameters)
        self.optimizer.step()
        # lerp is exact at both ends: at mask 0 the old value, at mask 1 the new one
        torch._foreach_lerp_(self._before, self._parameters, self._masks)
        torch._foreach_copy_(self._parameters, self._before)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch.optim."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state; the masks are not part of it."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state."""
        self.optimizer.load_state_dict(state)


class ChangingMasks(MaskedOptimizer):
    """A masked optimizer whose masks change on the way, in place.

    They are part of its state, so that a training that was killed goes on with those it had.
    """

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, with the mask of each parameter as entry `mask`."""
        state = super().state_dict()
        entries = {
            index: {**state["state"].get(index, {}), "mask": mask}
            for index, mask in enumerate(self._masks)
        }
        return {**state, "state": entries}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state, and the masks in their place."""
        entries = {}
        for index, held in state["state"].items():
            own = dict(held)
            self._masks[index].copy_(own.pop("mask"))
            if own:  # plain SGD has no state
                entries[index] = own
        super().load_state_dict({**state, "state": entries})
