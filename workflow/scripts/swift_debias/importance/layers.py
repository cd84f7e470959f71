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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from .probing import probe
from .sums import Sums
from .watching import ForwardChangedError, Plan

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
    sums = Sums(classifier, plan)
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
