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

Which it is, a probe decides: a pass of three images, and the gradient of the second one's logit
alone. It shows where the samples are in each tensor (the others' rows are zero), and where a
parameter took part unseen (it got a gradient of its own). Later passes follow this plan.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .rules import Place, Rule, bind

Kind: TypeAlias = Literal["serve", "axis", "enlarge", "derive", "open", "plain"]
SAMPLES, SEEN = 3, 1  # images of a probe, and whose logit's gradient it follows


class ForwardChangedError(Exception):
    """A pass does not call the functions that the probe saw."""


@dataclass
class Site:
    """One call with watched tensors.

    Attributes:
        function: what is called.
        roots: of each watched tensor the parameters that it is made of.
        kind: what is done.
        place: where the samples are in its output; None: nowhere to be found.
        axis, multiple, dims: of the output: which axis has the samples, how many times as many rows
            as samples it has, how many dimensions there are.
        failed: why its parameters cannot be served here.
    """

    function: Callable[..., Any]
    roots: tuple[tuple[str, ...], ...]
    kind: Kind = "plain"
    place: Place = "first"
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


class Probe(Watch):
    """The first pass: decides, and watches whether it was right.

    Attributes:
        plan: what it found so far.
        by_samples: ids of the tensors that depend on the images.
    """

    def __init__(self, parameters: Mapping[str, Tensor], images: Tensor) -> None:
        super().__init__(parameters, len(images))
        self.plan = Plan()
        self.by_samples = {id(images)}
        self.held.append(images)

    def depends(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the images."""
        unseen = tensor.requires_grad and id(tensor) not in self.roots
        return unseen or id(tensor) in self.by_samples

    def _noted(self, output: Any) -> Any:
        for tensor in tensors_in(output):
            self.by_samples.add(id(tensor))
            self.held.append(tensor)
        return output

    def unwatched(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Of tensors that depend on the images come such."""
        output = function(*args, **kwargs)
        touched = any(self.depends(t) for t in tensors_in((args, kwargs)))
        return self._noted(output) if touched else output

    def site(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Site:
        """Decide what to do at a call."""
        found = self.watched(args, kwargs)
        site = Site(function, tuple(self.roots[id(t)] for t in found))
        self.plan.sites.append(site)
        if not any(self.depends(t) for t in tensors_in((args, kwargs))):
            site.kind = "derive"
        elif self._is_served(function, args, kwargs, found):
            site.kind = "serve"
        elif is_openable(function):
            site.kind = "open"
        elif self._can_have_axis(site, args, kwargs, found):
            site.kind = "axis"
        return site

    def _is_served(self, function: Any, args: Any, kwargs: Any, found: list[Tensor]) -> bool:
        rule = bind(function, args, kwargs)
        if rule is None:
            return False
        slots = [id(t) for t in rule.parameters.values() if t is not None]
        outside = [t for t in tensors_in((args, kwargs)) if id(t) not in slots]
        return (
            all(id(t) in slots for t in found)
            and len(set(slots)) == len(slots)
            and not any(self.depends(t) for t in rule.parameters.values() if t is not None)
            and any(self.depends(t) for t in outside)
        )

    def _can_have_axis(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> bool:
        """Try: with a batch axis in the watched tensors the output must be the same."""
        every = {id(t): t.detach().clone() for t in tensors_in((args, kwargs))}
        try:
            with torch.no_grad():
                output = site.function(*replaced(args, every), **replaced(kwargs, every))
                if not isinstance(output, Tensor) or not self._has_axis(site, output, found):
                    return False
                rows = site.multiple * self.samples
                every = {id(t): t.detach().clone() for t in tensors_in((args, kwargs))}
                every |= {id(t): with_axis(t.detach(), site, rows) for t in found}
                again = site.function(*replaced(args, every), **replaced(kwargs, every))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False  # it cannot be called so
        return is_close(again, output)

    def _has_axis(self, site: Site, output: Tensor, found: list[Tensor]) -> bool:
        """Which of the output's axes has the samples, where the watched tensors have none."""
        shape = output.shape
        exact = [axis for axis in (0, 1) if axis < len(shape) and shape[axis] == self.samples]
        several = [0] if shape and shape[0] and shape[0] % self.samples == 0 else []
        for axis in exact + several:
            lacking = [t.dim() <= len(shape) and _size(t, axis, len(shape)) == 1 for t in found]
            if all(lacking):
                site.axis, site.dims = axis, len(shape)
                site.multiple = shape[axis] // self.samples
                return True
        return False

    def _plain(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        site.failed = True
        return self._noted(super()._plain(site, args, kwargs, found))

    def _open(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        return self._noted(super()._open(site, args, kwargs, found))

    def _serve(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Tensor:
        return self._noted(super()._serve(site, args, kwargs, found))

    def _axis(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Tensor:
        return self._noted(super()._axis(site, args, kwargs, found))

    def _derive(self, site: Site, args: Any, kwargs: Any, found: list[Tensor]) -> Any:
        """Notice where a call gives its output an axis for the samples."""
        output = super()._derive(site, args, kwargs, found)
        if (
            not isinstance(output, Tensor)
            or not output.requires_grad
            or any(output is t for t in found)
            or not self._has_axis(site, output, found)
            or output.numel() < output.shape[site.axis] * max(t.numel() for t in found)
        ):
            return output
        if site.axis == 0 and torch.equal(output, output[:1].expand_as(output)):
            site.kind = "enlarge"
            return self._noted(self._enlarge(site, args, kwargs, found))
        if self._can_have_axis(site, args, kwargs, found):  # a mask of rows is added to a table
            site.kind = "axis"
            return self._axis(site, args, kwargs, found)
        return output

    def served(self, site: Site, rule: Rule, g: Tensor) -> None:
        """Where are the samples?"""
        place = rule.place(g, self.samples, SEEN)
        if place is None:
            site.failed = True
        else:
            site.place = place

    def found(self, site: Site, tensor: Tensor, g: Tensor) -> None:
        """Only the rows of the sample whose logit it is may have a gradient."""
        rows = (g.abs() > 0).flatten(1).any(1).view(self.samples, -1)
        others = [i for i in range(self.samples) if i != SEEN]
        site.failed |= bool(rows[others].any())


def probe(classifier: nn.Module, images: Tensor) -> Plan:
    """See how a network uses its parameters, with a pass of three images and one gradient.

    Args:
        classifier: in eval mode, no parameter requires a gradient or has one.
        images: at least one.
    """
    parameters = dict(classifier.named_parameters())
    images = images[[i % len(images) for i in range(SAMPLES)]]
    watch = Probe(parameters, images)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        with watch:
            logits = classifier(images)
        if logits.requires_grad:
            logits[SEEN].sum().backward()
        unseen = [name for name, parameter in parameters.items() if parameter.grad is not None]
    except Exception as error:
        # Whatever a network does not allow to be done to it: the slow road does none of it, and
        # raises what is the network's own fault.
        return Plan(slow=dict.fromkeys(parameters, type(error).__name__))
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False).grad = None
    plan = watch.plan
    plan.slow = _slow(plan.sites, unseen)
    for site in plan.sites:
        if site.kind in ("serve", "axis", "enlarge"):
            # What an enlarging call hands over is one tensor, made of all.
            handed = (
                [{n for names in site.roots for n in names}]
                if site.kind == "enlarge"
                else site.roots
            )
            for name in (name for names in handed for name in names if name not in plan.slow):
                plan.uses[name] = plan.uses.get(name, 0) + 1
    return plan


def _slow(sites: list[Site], unseen: list[str]) -> dict[str, str]:
    """Parameter's name -> function, of those that are not served everywhere."""
    slow = dict.fromkeys(unseen, "a function that cannot be watched")
    for site in sites:
        if site.failed:
            # A plain use matters if a gradient came from it.
            names = [n for n in site.names if site.kind != "plain" or n in slow]
            slow |= dict.fromkeys(names, _name(site.function))
    return slow


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", str(function))


def tensors_in(given: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for value in given:
            yield from tensors_in(value)
    elif isinstance(given, dict):
        yield from tensors_in(list(given.values()))


def replaced(given: Any, tensors: Mapping[int, Tensor]) -> Any:
    """Arguments with other tensors in place of those with these ids."""
    if isinstance(given, Tensor):
        return tensors.get(id(given), given)
    if type(given) in (list, tuple):
        return type(given)(replaced(value, tensors) for value in given)
    if type(given) is dict:
        return {name: replaced(value, tensors) for name, value in given.items()}
    return given


def with_axis(tensor: Tensor, site: Site, rows: int) -> Tensor:
    """A view with so many equal rows along the axis of the samples."""
    padded = tensor.reshape((1,) * (site.dims - tensor.dim()) + tuple(tensor.shape))
    return padded.expand(*(rows if i == site.axis else -1 for i in range(site.dims)))


def _size(tensor: Tensor, axis: int, dims: int) -> int:
    """Size of an axis of a tensor when it is broadcast to so many dimensions."""
    at = axis - (dims - tensor.dim())
    return tensor.shape[at] if at >= 0 else 1


def same_memory(view: Tensor) -> bool:
    """Whether a view is its base in another shape, element by element."""
    base = view._base
    return (
        base is not None
        and base.numel() == view.numel()
        and base.is_contiguous()
        and view.is_contiguous()
    )


def is_close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are the same up to rounding."""
    if not isinstance(one, Tensor) or one.shape != other.shape:
        return False
    if not other.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().mean()))


def is_openable(function: Callable[..., Any]) -> bool:
    """Whether it is Python code of torch that first asks who watches."""
    return (
        isinstance(function, types.FunctionType)
        and function.__module__ == "torch.nn.functional"
        and "handle_torch_function" in function.__code__.co_names
    )


def opened(function: types.FunctionType) -> types.FunctionType:
    """A copy that does not hand itself to the mode, so that the mode sees what it calls."""
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**function.__globals__, **{ask: lambda *_: False for ask in asks}}
    copy = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
