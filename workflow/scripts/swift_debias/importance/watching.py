"""Seeing every use of a network's parameters, and the gradient that arrives there.

torch hands each call of its functions to a `TorchFunctionMode`. Parameters are known by identity,
so it does not matter which module uses them, and how often. At a call with a parameter one of these
is done, and the pass's own graph sees a copy of the parameter that requires no gradient:

- serve: a rule (rules.py) forms per-sample gradients of the output's gradient.
- axis: the parameter is given a batch axis, by `expand`; autograd then finds per-sample gradients.
  So are served class tokens, position embeddings, layer scales, tables of relative positions.
- enlarge: the call itself gives the axis (`token.expand(B, -1, -1)`).
- derive: no sample takes part (a slice, a reshape, a normalized weight): the result is watched like
  a parameter, and its per-sample gradients are pulled back through the call by autograd.
- open: a function of `torch.nn.functional` that calls others (attention): those are watched.
- plain: nothing; the parameters are left to the slow road.

Which it is, a probe (probing.py) decides: a pass of three images, and the gradient of each one's
logit alone. They show where the samples are in each tensor (the others' rows are zero), and where a
parameter took part unseen (it got a gradient of its own). Later passes follow this plan.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .calls import opened, replaced, same_memory, tensors_in
from .rule import Place, Rule
from .rules import bind

Kind: TypeAlias = Literal["serve", "axis", "enlarge", "derive", "open", "plain"]


class ForwardChangedError(Exception):
    """A pass does not call the functions that the probe saw."""


@dataclass
class Site:
    """One call with watched tensors.

    Attributes:
        function: what is called.
        roots: of each watched tensor the parameters that it is made of.
        kind: what is done.
        place: where the samples are in its output. places: where they can be, by the gradients that
            a probe saw; None: none arrived.
        axis, multiple, dims: of the output: which axis has the samples, how many times as many rows
            as samples it has, how many dimensions there are.
        failed: why its parameters cannot be served here.
    """

    function: Callable[..., Any]
    roots: tuple[tuple[str, ...], ...]
    kind: Kind = "plain"
    place: Place = "first"
    places: set[Place] | None = None
    axis: int = 0
    multiple: int = 1
    dims: int = 0
    failed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters that take part."""
        return tuple(sorted({name for names in self.roots for name in names}))


@dataclass
class Plan:
    """What a probe found.

    Attributes:
        sites: all calls with watched tensors, in their order.
        slow: parameter's name -> name of the function that cannot be served.
        uses: name -> how many times a pass hands over gradients of it.
    """

    sites: list[Site] = field(default_factory=list)
    slow: dict[str, str] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)


class Watch(TorchFunctionMode):
    """A forward pass with watched parameters; subclasses decide, and take the gradients.

    Attributes:
        samples: B, of the batch.
        roots: id of a watched tensor -> names of the parameters that it is made of.
    """

    def __init__(self, parameters: Mapping[str, Tensor], samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.roots: dict[int, tuple[str, ...]] = {id(p): (name,) for name, p in parameters.items()}
        self.held: list[Tensor] = []  # an id stays one tensor's as long as it lives

    def site(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Site:
        """What to do at a call."""
        raise NotImplementedError

    def served(self, site: Site, rule: Rule, g: Tensor) -> None:
        """The gradient of a served call's output arrived."""
        raise NotImplementedError

    def found(self, site: Site, tensor: Tensor, g: Tensor) -> None:
        """The gradient of a watched tensor with a batch axis arrived: (..., rows, ...)."""
        raise NotImplementedError

    def source(self, tensor: Tensor) -> Tensor:
        """The tensor that stands for a watched one in the graph that leads to what is derived."""
        return tensor

    def unserved(self, tensor: Tensor) -> Tensor:
        """The tensor that stands for a watched one where it is not served."""
        return tensor

    def watched(self, *given: Any) -> list[Tensor]:
        """The watched tensors among arguments."""
        return [t for t in tensors_in(given) if id(t) in self.roots]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each call of its functions."""
        kwargs = kwargs or {}
        found = self.watched(args, kwargs)
        if not found or not torch.is_grad_enabled():
            return self.unwatched(function, args, kwargs)
        if getattr(function, "__name__", "") == "__get__":  # a shape, a device: no use
            value = function(*args, **kwargs)
            if not isinstance(value, Tensor):
                return value
        site = self.site(function, args, kwargs)
        return getattr(self, f"_{site.kind}")(site, args, kwargs, found)

    def unwatched(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call without watched tensors."""
        return function(*args, **kwargs)

    def _plain(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        given = {id(t): self.unserved(t) for t in found}
        return site.function(*replaced(args, given), **replaced(kwargs, given))

    def _open(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        with self:
            return opened(cast(types.FunctionType, site.function))(*args, **kwargs)

    def _serve(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Tensor:
        rule = bind(site.function, args, kwargs)
        if rule is None:
            raise ForwardChangedError
        given = {id(t): t.detach() for t in found}
        if rule.contiguous:
            others = [t for t in tensors_in((args, kwargs)) if id(t) not in given]
            given |= {id(t): t.contiguous() for t in others}
        output = site.function(*replaced(args, given), **replaced(kwargs, given))
        if not output.requires_grad:
            # The graph starts here: no gradient is computed for the image. A copy, because a leaf
            # cannot be changed in place by the activation that follows.
            output = output.requires_grad_().clone()
        shape, base = output.shape, output
        if output._is_view():
            # Of a view that is changed in place afterwards only the base learns its gradient.
            if not same_memory(output):
                output = output.clone()
            base = output if output._base is None else output._base
        base.register_hook(lambda g: self.served(site, rule, g.reshape(shape)))
        return output

    def _derive(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        given = {id(t): self.source(t) for t in found}
        output = site.function(*replaced(args, given), **replaced(kwargs, given))
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                self._made(tensor, site)
        return output

    def _enlarge(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Tensor:
        given = {id(t): self.source(t) for t in found}
        output = site.function(*replaced(args, given), **replaced(kwargs, given))
        base = output[:1]  # all rows are equal
        self._made(base, site)
        leaf = output.detach().requires_grad_()
        self._await(site, base, leaf)
        return leaf.clone()

    def _axis(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Tensor:
        given = {}
        for tensor in found:
            leaf = with_axis(tensor.detach(), site, site.multiple * self.samples).requires_grad_()
            self._await(site, tensor, leaf)
            given[id(tensor)] = leaf
        return site.function(*replaced(args, given), **replaced(kwargs, given))

    def _made(self, tensor: Tensor, site: Site) -> None:
        """Watch what a call made of watched tensors."""
        self.roots[id(tensor)] = site.names
        self.held.append(tensor)

    def _await(self, site: Site, tensor: Tensor, leaf: Tensor) -> None:
        def arrived(leaf: Tensor) -> None:
            g, leaf.grad = leaf.grad, None
            assert g is not None
            self.found(site, tensor, g.movedim(site.axis, 0))

        leaf.register_post_accumulate_grad_hook(arrived)


def with_axis(tensor: Tensor, site: Site, rows: int) -> Tensor:
    """A view with so many equal rows along the axis of the samples."""
    padded = tensor.reshape((1,) * (site.dims - tensor.dim()) + tuple(tensor.shape))
    return padded.expand(*(rows if i == site.axis else -1 for i in range(site.dims)))
