"""The first pass, which decides what is done at every call with a parameter (see watching.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .calls import is_close, is_openable, replaced, tensors_in
from .rule import Rule
from .rules import bind
from .watching import Plan, Site, Watch, with_axis

SAMPLES = 3  # images of a probe


class Probe(Watch):
    """The first pass: decides, and watches whether it was right.

    Attributes:
        plan: what it found so far.
        by_samples: ids of the tensors that depend on the images.
        seen: the sample whose logit's gradient is followed.
    """

    def __init__(self, parameters: Mapping[str, Tensor], images: Tensor) -> None:
        super().__init__(parameters, len(images))
        self.plan = Plan()
        self.seen = 0
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
        """Where can the samples be?"""
        found = rule.places(g, self.samples, self.seen)
        site.places = found if site.places is None else site.places & found

    def found(self, site: Site, tensor: Tensor, g: Tensor) -> None:
        """Only the rows of the sample whose logit it is may have a gradient."""
        rows = (g.abs() > 0).flatten(1).any(1).view(self.samples, -1)
        others = [i for i in range(self.samples) if i != self.seen]
        site.failed |= bool(rows[others].any())

    def follow(self, logits: Tensor) -> None:
        """The gradients of the samples' logits, one after another; then it is known where they are.

        Of one sample alone it would not be: of three in reverse order the second stays in its
        place, and the middle of a sequence before the batch is the second third of all rows.
        """
        for seen in range(self.samples):
            self.seen = seen
            logits[seen].sum().backward(retain_graph=seen < self.samples - 1)
        for site in self.plan.sites:
            if site.places is not None:
                site.failed |= len(site.places) != 1
                site.place = min(site.places, default="first")


def probe(classifier: nn.Module, images: Tensor) -> Plan:
    """See how a network uses its parameters, with a pass of three images and their gradients.

    Args:
        classifier: in eval mode, no parameter requires a gradient or has one.
        images: at least one.
    """
    parameters = dict(classifier.named_parameters())
    images = images[[i % len(images) for i in range(SAMPLES)]]
    watch = Probe(parameters, images)
    for parameter in parameters.values():
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        with watch:
            logits = classifier(images)
        if logits.requires_grad:
            watch.follow(logits)
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


def _size(tensor: Tensor, axis: int, dims: int) -> int:
    """Size of an axis of a tensor when it is broadcast to so many dimensions."""
    at = axis - (dims - tensor.dim())
    return tensor.shape[at] if at >= 0 else 1
