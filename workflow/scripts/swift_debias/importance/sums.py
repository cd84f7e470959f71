"""Running sums of squared gradients, and the passes that add to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .products import Sink, Workspace, add_rows, fast_products
from .rule import Rule
from .watching import ForwardChangedError, Plan, Site, Watch


class Totals:
    """Running sums over the set, a row an objective: parameter name -> (K, number of elements).

    Attributes:
        k: number of objectives.
        rows: those that are added to at the moment.
        channels_fastest: names of convolution weights, whose elements are in the order
            (C_out, *kernel, C_in).
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = parameters
        self.k, self.rows = 0, slice(None)
        self.values: dict[str, Tensor] = {}
        self.channels_fastest: set[str] = set()

    def of(self, name: str) -> Tensor:
        """The running sums of a parameter, those at `rows`."""
        if name not in self.values:
            parameter = self.parameters[name]
            self.values[name] = parameter.new_zeros(self.k, parameter.numel())
        return self.values[name][self.rows]

    def result(self) -> dict[str, Tensor]:
        """Hand over the sums: name -> (K, *shape), zeros where no logit depends on a parameter."""
        if not self.k:
            return {}
        out = {}
        self.rows = slice(None)
        for name, parameter in self.parameters.items():
            total = self.of(name)
            del self.values[name]
            if name in self.channels_fastest:
                total = _channels_second(total, parameter)
            out[name] = total.detach().reshape(self.k, *parameter.shape)
        return out


class Sums:
    """Gradients of a network's parameters, squared and summed.

    Attributes:
        served: whether any parameter is.
        weights, factors: c^2 and d of the batch and the backward pass at hand.
        squares: sums over samples of squared gradients.
        sums: sums over batches of the squares of the batches' gradients.
    """

    def __init__(self, classifier: nn.Module, plan: Plan) -> None:
        self.classifier, self.plan = classifier, plan
        self.parameters = dict(classifier.named_parameters())
        self.served = len(plan.slow) < len(self.parameters)
        values = {name: parameter.detach() for name, parameter in self.parameters.items()}
        self.squares, self.sums = Totals(values), Totals(values)
        self.weights = self.factors = torch.empty(0)
        self.work: Workspace | None = None

    def watch(self, images: Tensor) -> Pass:
        """To be entered for a forward pass of these images."""
        self.work = self.work or Workspace(images)
        return Pass(self, self.work, len(images))

    def add(self, watch: Pass, logits: Tensor, c: Tensor, d: Tensor) -> None:
        """Add a batch.

        Args:
            watch: its forward pass.
            logits: (B,), or (B, C).
            c, d: coefficients (K, B) and (J, B), or (K, B, C) and (J, B, C).
        """
        self.squares.k, self.sums.k = len(c), len(d)
        if not logits.requires_grad:
            return
        if logits.dim() == 1:  # one pass of the logits' own gradients serves every objective
            self._backward(watch, logits, torch.ones_like(logits), c.square(), d)
            return
        one, none = logits.new_ones(1, len(logits)), logits.new_empty(0, len(logits))
        for row, seed in enumerate(c):
            self.squares.rows = slice(row, row + 1)
            self._backward(watch, logits, seed, one, none)
        for row, seed in enumerate(d):
            self.sums.rows = slice(row, row + 1)
            self._backward(watch, logits, seed, none, one)

    def _backward(
        self, watch: Pass, logits: Tensor, seed: Tensor, weights: Tensor, factors: Tensor
    ) -> None:
        """Add the gradients of the logits' sum, weighted by the seed."""
        self.weights, self.factors = weights, factors
        watch.start()
        logits.backward(seed, retain_graph=logits.dim() > 1)
        watch.finish()

    def add_squared(self, name: str, rows: Tensor) -> None:
        """Add squares of a batch's gradients (J, number of elements)."""
        self.sums.of(name).add_(rows.square_())

    def add_slowly(self, images: Tensor, c: Tensor, d: Tensor) -> None:
        """Add a batch for the parameters that are not served."""
        names = list(self.plan.slow)
        parameters = [self.parameters[name] for name in names]
        for parameter in parameters:
            parameter.requires_grad_(True)
        self.squares.rows = self.sums.rows = slice(None)

        def gradients(images: Tensor, factors: Tensor) -> Iterator[tuple[str, Tensor]]:
            logits = self.classifier(images)
            found = torch.autograd.grad(logits, parameters, factors, materialize_grads=True)
            return zip(names, (value.reshape(1, -1) for value in found), strict=True)

        for i in range(len(images) if len(c) else 0):
            if c.dim() == 2:
                for name, gradient in gradients(images[i : i + 1], c.new_ones(1)):
                    self.squares.of(name).addmm_(c[:, i : i + 1].square(), gradient.square())
            else:
                for k, factors in enumerate(c[:, i : i + 1]):
                    for name, gradient in gradients(images[i : i + 1], factors):
                        self.squares.of(name)[k] += gradient[0].square()
        for j, factors in enumerate(d):
            for name, gradient in gradients(images, factors):
                self.sums.of(name)[j] += gradient[0].square()


class Pass(Watch):
    """A forward pass by the plan, and what its backward passes add to the sums.

    Attributes:
        at: how many of the plan's sites were passed.
        pending: parameter's name -> sum of its gradients so far, of one that is used several times
            or through others: (B, number of elements), or (J, ...) for mini-batches alone.
        left: name -> how many uses have not handed over their gradients.
    """

    def __init__(self, sums: Sums, work: Workspace, samples: int) -> None:
        super().__init__(sums.parameters, samples)
        self.sums, self.plan, self.work = sums, sums.plan, work
        self.names = {id(parameter): name for name, parameter in sums.parameters.items()}
        self.at = 0
        self.aliases: dict[str, Tensor] = {}
        self.pending: dict[str, Tensor] = {}
        self.left: dict[str, int] = {}

    def site(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Site:
        """The next one of the plan."""
        found = self.watched(args, kwargs)
        roots = tuple(self.roots[id(t)] for t in found)
        site = self.plan.sites[self.at] if self.at < len(self.plan.sites) else None
        if site is None or site.function != function or site.roots != roots:
            raise ForwardChangedError
        self.at += 1
        return site

    def source(self, tensor: Tensor) -> Tensor:
        """Of a parameter a leaf of the graph that leads to what is derived of it."""
        name = self.names.get(id(tensor))
        if name is None:
            return tensor
        if name not in self.aliases:
            self.aliases[name] = tensor.detach().requires_grad_()
        return self.aliases[name]

    def unserved(self, tensor: Tensor) -> Tensor:
        """Without its graph."""
        return tensor.detach()

    def wants(self, tensor: Tensor) -> bool:
        """Whether a watched tensor's gradients serve a parameter."""
        return any(name not in self.plan.slow for name in self.roots.get(id(tensor), ()))

    def start(self) -> None:
        """Before a backward pass."""
        self.left = dict(self.plan.uses)

    def finish(self) -> None:
        """After a backward pass: square what waited for uses that no logit depends on."""
        for name in list(self.pending):
            self._settle(name)

    def served(self, site: Site, rule: Rule, g: Tensor) -> None:
        """Reduce a served call's gradients."""
        sinks = {
            slot: self._sink(tensor, slot == "weight" and rule.channels_fastest)
            for slot, tensor in rule.parameters.items()
            if tensor is not None and self.wants(tensor)
        }
        if sinks:
            with fast_products():
                rule.add(g, self.samples, site.place, sinks, self.work)

    def found(self, site: Site, tensor: Tensor, g: Tensor) -> None:
        """Reduce the gradients of a tensor that was given a batch axis."""
        if self.wants(tensor):
            rows = g.reshape(self.samples, len(g) // self.samples, -1).sum(1)
            add_rows(self._sink(tensor, channels_fastest=False), rows)

    def _sink(self, tensor: Tensor, channels_fastest: bool) -> Sink:
        """Where the gradients of a watched tensor go."""
        weights, factors, name = self.sums.weights, self.sums.factors, self.names.get(id(tensor))
        none = weights.new_empty(0, self.samples)
        if name is None or self.plan.uses[name] > 1:
            apart = len(weights) > 0
            if apart:
                factors = torch.eye(self.samples, dtype=none.dtype, device=none.device)
            take = partial(self._collect, tensor, channels_fastest)
            return Sink(none, factors, none, take, apart)
        squares = self.sums.squares
        if channels_fastest:
            squares.channels_fastest.add(name)
            self.sums.sums.channels_fastest.add(name)
        take = partial(self.sums.add_squared, name)
        return Sink(weights, factors, squares.of(name) if len(weights) else none, take)

    def _collect(self, tensor: Tensor, channels_fastest: bool, rows: Tensor) -> None:
        """Add gradients (n, number of elements) of one use to those of the parameters behind it."""
        if channels_fastest:
            rows = _channels_second(rows, tensor)
        rows = rows.reshape(len(rows), *tensor.shape)
        names = [name for name in self.roots[id(tensor)] if name not in self.plan.slow]
        if id(tensor) in self.names:
            found: Sequence[Tensor | None] = [rows]
        else:
            sources = [self.aliases[name] for name in names]
            with torch.enable_grad():
                found = torch.autograd.grad(
                    tensor,
                    sources,
                    rows,
                    retain_graph=True,
                    allow_unused=True,
                    is_grads_batched=True,
                )
        for name, part in zip(names, found, strict=True):
            if part is not None:
                part = part.reshape(len(part), -1)
                before = self.pending.get(name)
                self.pending[name] = part if before is None else before + part
            self.left[name] -= 1
            if not self.left[name] and name in self.pending:
                self._settle(name)

    def _settle(self, name: str) -> None:
        """All uses of a parameter have handed over its gradients: square them."""
        rows = self.pending.pop(name)
        weights, factors = self.sums.weights, self.sums.factors
        if not len(weights):
            self.sums.add_squared(name, rows)
            return
        if len(factors):
            self.sums.add_squared(name, factors @ rows)
        self.sums.squares.of(name).addmm_(weights, rows.square())


def _channels_second(rows: Tensor, weight: Tensor) -> Tensor:
    """Elements in the order of the weight, of those in the order (C_out, *kernel, C_in)."""
    c_out, c_in, *kernel = weight.shape
    return rows.view(len(rows), c_out, *kernel, c_in).movedim(-1, 2)
