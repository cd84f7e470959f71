"""Sums of squared gradients of a network's parameters, at little more than a training step's price.

Parameters require no gradient, so autograd computes gradients of layer inputs only. Where a
parameter is used (watching.py) the input x is known, and the gradient G of the output arrives. For
single samples the gradient of every sample's logit is formed of them (rules.py), squared and added
up for all objectives by one matrix product, block by block in the cache (products.py); a
mini-batch's gradient is another product with the same block. For mini-batches alone the rows of G
are multiplied by c_k and torch's weight gradient does the rest.

A parameter that is used several times, or through others (a slice, a table's rows), has its
per-sample gradients added up before they are squared. What cannot be served is left to ordinary
automatic differentiation (for single samples in a loop), with a warning that names it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from .products import Sink, Workspace, add_rows
from .rules import Rule
from .watching import ForwardChangedError, Plan, Site, Watch, probe

if TYPE_CHECKING:
    from ..learning.samples import Batch

# A set of samples that can be gone through again and again, always in the same order.
Batches: TypeAlias = "Callable[[], Iterable[Batch]] | Sequence[Batch]"


# (logits (B,), the batch, which rows of the set it is) -> coefficients (K, B)
Coefficients: TypeAlias = "Callable[[Tensor, Batch, slice], Tensor]"


def squared_gradients(
    classifier: nn.Module,
    batches: Batches,
    per_sample: Tensor | Coefficients | None = None,
    per_batch: Tensor | Coefficients | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Squares of g_i = d z_i / d theta and of its sums over batches, for many objectives at once.

    Args:
        classifier: images -> logits (B,), or (B, C). Its mode and flags are restored afterwards.
        batches: N samples.
        per_sample: c, (K, N), or a function that returns (K, B) of a batch. Of C logits c is
            (K, N, C), and c_ki g_i is the sum over them: a backward pass for each objective.
        per_batch: d, (J, N), likewise. Either may be None, whose result then is empty.

    Returns:
        sum over samples of c_ki^2 g_i^2: parameter name -> (K, *shape of the parameter); and the
        mean over batches of (sum_i d_ji g_i)^2: parameter name -> (J, *shape).
    """
    with _importance_mode(classifier):
        plan = probe(classifier, next(iter(iterate_batches(batches))).images)
        try:
            found = _go_through(classifier, plan, batches, per_sample, per_batch)
        except ForwardChangedError:
            names = [name for name, _ in classifier.named_parameters()]
            plan = Plan(slow=dict.fromkeys(names, "a forward pass that changes with the images"))
            found = _go_through(classifier, plan, batches, per_sample, per_batch)
    return found


def slow_parameters(classifier: nn.Module, images: Tensor) -> dict[str, str]:
    """The parameters whose importance takes the slow road: ordinary automatic differentiation.

    Their importance is right, but one of them can cost as much as the training step; single samples
    are gone through one by one for it.

    Args:
        classifier: images -> logits (B,) or (B, C). Its mode and flags are restored afterwards.
        images: at least one; three passes of an image are made.

    Returns:
        Parameter name -> name of the function that cannot be served. Empty: all are fast.
    """
    with _importance_mode(classifier):
        return probe(classifier, images).slow


def _go_through(
    classifier: nn.Module,
    plan: Plan,
    batches: Batches,
    per_sample: Tensor | Coefficients | None,
    per_batch: Tensor | Coefficients | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`squared_gradients` by a plan."""
    sums = _Sums(classifier, plan)
    if plan.slow:
        names = ", ".join(list(plan.slow)[:5]) + (", ..." if len(plan.slow) > 5 else "")
        why = ", ".join(sorted(set(plan.slow.values()))[:5])
        warnings.warn(
            f"importance: {len(plan.slow)} parameter tensors are left to slow automatic "
            f"differentiation, since their use in {why} cannot be served: {names}",
            stacklevel=4,
        )
    done = count = 0
    coefficients = []
    for batch in iterate_batches(batches):
        count += 1
        at = slice(done, done + len(batch.labels))
        done = at.stop
        watch = sums.watch(batch.images)
        with watch if sums.served else torch.no_grad():
            logits = classifier(batch.images)
        if sums.served and watch.at != len(plan.sites):
            raise ForwardChangedError
        c, d = (_of_batch(source, logits, batch, at) for source in (per_sample, per_batch))
        coefficients.append((c, d))
        sums.add(watch, logits, c, d)
        del logits, watch  # the graph holds all layers' inputs: free it before the next batch
    if plan.slow:
        for batch, (c, d) in zip(iterate_batches(batches), coefficients, strict=True):
            sums.add_slowly(batch.images, c, d)
    squares, means = sums.squares.result(), sums.sums.result()
    return squares, {name: value.div_(max(count, 1)) for name, value in means.items()}


def _of_batch(
    source: Tensor | Coefficients | None, logits: Tensor, batch: Batch, at: slice
) -> Tensor:
    """The coefficients of a batch, (K, B) or (K, B, C); K is 0 where none are wanted."""
    if source is None:
        return logits.new_empty(0, *logits.shape)
    if isinstance(source, Tensor):
        return source[:, at].to(logits)
    return source(logits.detach(), batch, at)


class _Totals:
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


class _Sums:
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
        self.squares, self.sums = _Totals(values), _Totals(values)
        self.weights = self.factors = torch.empty(0)
        self.work: Workspace | None = None

    def watch(self, images: Tensor) -> _Pass:
        """To be entered for a forward pass of these images."""
        self.work = self.work or Workspace(images)
        return _Pass(self, self.work, len(images))

    def add(self, watch: _Pass, logits: Tensor, c: Tensor, d: Tensor) -> None:
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
        self, watch: _Pass, logits: Tensor, seed: Tensor, weights: Tensor, factors: Tensor
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


class _Pass(Watch):
    """A forward pass by the plan, and what its backward passes add to the sums.

    Attributes:
        at: how many of the plan's sites were passed.
        pending: parameter's name -> sum of its gradients so far, of one that is used several times
            or through others: (B, number of elements), or (J, ...) for mini-batches alone.
        left: name -> how many uses have not handed over their gradients.
    """

    def __init__(self, sums: _Sums, work: Workspace, samples: int) -> None:
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


@contextlib.contextmanager
def _importance_mode(classifier: nn.Module) -> Iterator[None]:
    """Eval mode, no parameter requires a gradient or has one; restored afterwards."""
    modes = [(module, module.training) for module in classifier.modules()]
    flags = [(p, p.requires_grad, p.grad) for p in classifier.parameters()]
    for module, _ in modes:
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(
                "importance: a batch normalization without running statistics makes a sample's "
                "logit depend on its batch; build the network with track_running_stats=True"
            )
    classifier.eval().requires_grad_(False)
    classifier.zero_grad(set_to_none=True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag, gradient in flags:
            parameter.requires_grad_(flag)
            parameter.grad = gradient


def iterate_batches(batches: Batches) -> Iterator[Batch]:
    return iter(batches() if callable(batches) else batches)
