"""Diagonal parameter importance (empirical Fisher), Eq. 5 to 8 of Yan et al., MELBA 2025.

Two estimators of one idea; they are different quantities, and both are offered:

`Minibatch`: mean over mini-batches of the squared gradient of each objective. It is what the
released code does, and the only one that keeps the bias objective a *difference* between groups.

`PerSample`: mean over samples of the squared gradient.

With g_i = d z_i / d theta, the gradient of sample i's logit, and c_ki the derivative of objective k
with respect to z_i, the first is the mean of (sum_i c_ki g_i)^2 over batches, the second sums
c_ki^2 g_i^2. So one forward pass and one backward pass from the logits serve every objective of
both estimators (prediction, bias, each group).

How that is had at little more than the price of one ordinary forward and backward pass: parameters
require no gradient, so autograd computes gradients of layer inputs only. Hooks see each layer's
input x and the gradient G of its output. For `PerSample` they form the gradient of every sample's
logit, square it and add it up for all objectives by one matrix product, block by block in the
cache; a mini-batch's gradient is another product with the same block. For `Minibatch` alone the
rows of G are multiplied by c_k and the library's weight gradient does the rest. This is exact for
`Conv2d` (grouped and depthwise too), `Linear` and batch normalization. Parameters of any other
module, of a layer that is used twice, and those used outside of their layer's forward are left to
ordinary automatic differentiation (for `PerSample` in a loop over single samples), with a warning
that names them.

Everything runs in eval mode, without augmentation, in the precision of the weights (fp32). The
logit of a sample may not depend on the other samples of its batch.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm

from . import losses
from .job import whole
from .losses import ClassWeights
from .settings import EoddsKind, UserError, nearest

if TYPE_CHECKING:
    from .samples import Batch

# objective -> parameter name -> importance, of the parameter's shape
Importance: TypeAlias = dict[str, dict[str, Tensor]]
# A set of samples that can be gone through again and again, always in the same order.
Batches: TypeAlias = "Callable[[], Iterable[Batch]] | Sequence[Batch]"
# (logits (B,), the batch, which rows of the set it is) -> coefficients (K, B)
Coefficients: TypeAlias = "Callable[[Tensor, Batch, slice], Tensor]"

OBJECTIVES = ("prediction", "bias", "group0", "group1")
# Per-sample gradients exist only in blocks of at most so many bytes and samples: on a CPU they are
# squared and summed while they are in the cache; a GPU rather has few large launches.
BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
BLOCK_SAMPLES = {"cpu": 16, "cuda": 256}
# Below so many output positions (times elements of the kernel) a plain sum or matrix product beats
# the library's weight gradient on a CPU: measured, see `_depthwise_gradients` and `_convolution`.
FEW_POSITIONS, FEW_PATCHES = 64, 144


# --- the two estimators ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Minibatch:
    """Mean over mini-batches of the squared gradients of L_pred (Eq. 7) and L_bias (Eq. 8).

    A batch whose rows leave no term of the proxy counts with gradient 0, so the batches should be
    shuffled. Objectives: "prediction" and "bias".

    Attributes:
        eodds: fairness proxy (`losses.eodds_gap`).
        weights: class weights of Eq. 1; None counts each batch.
    """

    eodds: EoddsKind = "mean_abs"
    weights: ClassWeights | None = None

    def coefficients(self, logits: Tensor, batch: Batch, _at: slice) -> Tensor:
        """d L_k / d z_i of a batch, (2, B)."""
        leaf = logits.detach().requires_grad_()
        prediction = losses.weighted_bce(leaf, batch.labels, self.weights)
        bias = losses.eodds_gap(leaf, batch.labels, batch.attributes, self.eodds)
        return torch.stack([torch.autograd.grad(loss, leaf)[0] for loss in (prediction, bias)])


class PerSample:
    """Mean over samples of the squared per-sample gradients of many objectives.

    An objective is a mean over the n rows that it uses, so the gradient of a row's own loss is n
    c_i g_i, and the diagonal is 1/n sum_i (n c_i)^2 g_i^2. "prediction" uses all rows, "group0" and
    "group1" are L_pred over the rows of one group (FairPrune), "bias" uses the rows whose attribute
    is known. For the bias there is no `eodds` to choose: the kinds differ in the sign of c_i only.
    """

    def __init__(
        self,
        labels: Tensor,
        attributes: Tensor,
        weights: ClassWeights | None = None,
        subsets: Mapping[str, Tensor] | None = None,
        wanted: Collection[str] | None = None,
    ) -> None:
        """Count the rows of the whole set, on which an objective's coefficients depend.

        Args:
            labels, attributes: (N,), of all batches in their order.
            weights: class weights of Eq. 1; None counts the set, and of each subset the subset.
            subsets: name -> bool (N,). Every objective is computed on each of these subsets of the
                rows; its name is then "<subset>.<objective>".
            wanted: names of the objectives to compute; None: all.

        Raises:
            UserError: an objective has no rows.
        """
        if subsets is None:
            rows = {"": torch.ones_like(labels, dtype=torch.bool)}
        else:
            rows = {f"{name}.": chosen for name, chosen in subsets.items()}
        scales = torch.cat(
            [_row_scales(labels, attributes, some, weights) for some in rows.values()]
        )
        names = [prefix + objective for prefix in rows for objective in OBJECTIVES]
        kept = [k for k, name in enumerate(names) if wanted is None or name in wanted]
        self.names = [names[k] for k in kept]
        self.labels, self.scales = labels, scales[kept]
        self.is_bias = torch.tensor([name.endswith("bias") for name in self.names])[:, None]

    def coefficients(self, logits: Tensor, _batch: Batch, at: slice) -> Tensor:
        """n c_i over the root of n for each objective, (K, B)."""
        p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
        residual = torch.where(self.labels[at] > 0.5, -q, p)  # d BCE / d z
        derivative = torch.where(self.is_bias.to(logits.device), p * q, residual)  # d p / d z = p q
        return self.scales[:, at] * derivative


def estimate(
    classifier: nn.Module,
    batches: Batches,
    per_sample: PerSample | None = None,
    minibatch: Minibatch | None = None,
) -> tuple[Importance, Importance]:
    """Importances by one or both estimators, in one pass over the set.

    Args:
        classifier: images -> logits (B,).
        batches: the external set.
        per_sample, minibatch: which estimators to use.

    Returns:
        Objectives of `per_sample` and of `minibatch`; empty for an estimator that is not used.

    Raises:
        UserError: an importance is zero everywhere, or not finite.
    """
    found = squared_gradients(
        classifier,
        batches,
        per_sample.coefficients if per_sample else None,
        minibatch.coefficients if minibatch else None,
    )
    names = (per_sample.names if per_sample else [], OBJECTIVES[:2] if minibatch else [])
    first, second = (
        {name: {p: value[k] for p, value in values.items()} for k, name in enumerate(objectives)}
        for objectives, values in zip(names, found, strict=True)
    )
    return _checked(first), _checked(second)


def minibatch(
    classifier: nn.Module,
    batches: Batches,
    eodds: EoddsKind = "mean_abs",
    weights: ClassWeights | None = None,
) -> Importance:
    """Importances by `Minibatch` alone; see there and `estimate`."""
    return estimate(classifier, batches, minibatch=Minibatch(eodds, weights))[1]


def per_sample(
    classifier: nn.Module,
    batches: Batches,
    weights: ClassWeights | None = None,
    subsets: Mapping[str, Tensor] | None = None,
) -> Importance:
    """Importances by `PerSample` alone; goes through the batches twice, first for the labels."""
    columns = [(batch.labels, batch.attributes) for batch in _iterate(batches)]
    labels, attributes = (torch.cat(column) for column in zip(*columns, strict=True))
    return estimate(classifier, batches, PerSample(labels, attributes, weights, subsets))[0]


def _row_scales(
    labels: Tensor, attributes: Tensor, rows: Tensor, weights: ClassWeights | None
) -> Tensor:
    """What a row's derivative is multiplied with in each objective, (4, N); 0 outside of `rows`.

    It is n times the row's weight in the objective (see `per_sample`), divided by the root of n. Of
    the bias the absolute value: it is squared in the end. In |tpr_1 - tpr_0| a row weighs 1/2 over
    the size of its cell, whatever the two rates are, so the scores need not be known beforehand.
    """
    w_p, w_n = losses.class_weights(labels[rows]) if weights is None else weights
    class_weight = labels * w_p + (1 - labels) * w_n
    groups = [rows & (attributes == group) for group in (0, 1)]
    for group, members in enumerate(groups):
        if not members.any():
            raise UserError(f"importance: no sample of attribute group {group}")
    bias = torch.zeros_like(labels)
    for positive in (True, False):
        cells = [members & ((labels > 0.5) == positive) for members in groups]
        if all(cell.any() for cell in cells):
            for cell in cells:
                bias += cell / (2 * cell.sum())
    scales = [rows * class_weight / math.sqrt(int(rows.sum()))]
    scales.append(bias * math.sqrt(sum(int(members.sum()) for members in groups)))
    scales += [members * class_weight / math.sqrt(int(members.sum())) for members in groups]
    return torch.stack(scales)


# --- sums of squared gradients --------------------------------------------------------------------


def squared_gradients(
    classifier: nn.Module,
    batches: Batches,
    per_sample: Tensor | Coefficients | None = None,
    per_batch: Tensor | Coefficients | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Squares of g_i = d z_i / d theta and of its sums over batches, for many objectives at once.

    Args:
        classifier: images -> logits (B,). Its mode and flags are restored afterwards.
        batches: N samples.
        per_sample: c, (K, N), or a function that returns (K, B) of a batch.
        per_batch: d, (J, N), likewise. Either may be None, whose result then is empty.

    Returns:
        sum over samples of c_ki^2 g_i^2: parameter name -> (K, *shape of the parameter); and the
        mean over batches of (sum_i d_ji g_i)^2: parameter name -> (J, *shape).
    """
    count = 0
    with _importance_mode(classifier):
        layers = _Layers(classifier, next(iter(_iterate(batches))).images[:2])
        with layers.watched():
            done = 0
            for batch in _iterate(batches):
                count += 1
                at = slice(done, done + len(batch.labels))
                done = at.stop
                logits = classifier(batch.images)
                c, d = (_of_batch(source, logits, batch, at) for source in (per_sample, per_batch))
                layers.add(logits, c, d)
                del logits  # the graph holds all layers' inputs: free it before the next batch
        if layers.slow:
            for batch, (c, d) in zip(_iterate(batches), layers.coefficients, strict=True):
                layers.add_slowly(batch.images, c, d)
    squares, sums = layers.squares.result(), layers.sums.result()
    return squares, {name: value.div_(max(count, 1)) for name, value in sums.items()}


def _of_batch(
    source: Tensor | Coefficients | None, logits: Tensor, batch: Batch, at: slice
) -> Tensor:
    """The coefficients of a batch, (K, B); K is 0 where none are wanted."""
    if source is None:
        return logits.new_empty(0, len(logits))
    if isinstance(source, Tensor):
        return source[:, at].to(logits)
    return source(logits.detach(), batch, at)


class _Totals:
    """Running sums over the set, a row an objective: parameter name -> (K, number of elements).

    The elements of a convolution that hooks serve are in the order (C_out, h, w, C_in).
    """

    def __init__(self, parameters: Mapping[str, Tensor], slow: Collection[str]) -> None:
        self.parameters, self.slow = parameters, slow
        self.k = 0
        self.values: dict[str, Tensor] = {}

    def of(self, name: str) -> Tensor:
        """The running sum of a parameter."""
        if name not in self.values:
            parameter = self.parameters[name]
            self.values[name] = parameter.new_zeros(self.k, parameter.numel())
        return self.values[name]

    def result(self) -> dict[str, Tensor]:
        """Hand over the sums: name -> (K, *shape), zeros where no logit depends on a parameter."""
        if not self.k:
            return {}
        out = {}
        for name, parameter in self.parameters.items():
            total = self.of(name)
            del self.values[name]
            if parameter.dim() == 4 and name not in self.slow:
                c_out, c_in, *kernel = parameter.shape
                total = total.view(self.k, c_out, *kernel, c_in).permute(0, 1, 4, 2, 3)
            out[name] = total.detach().reshape(self.k, *parameter.shape)
        return out


class _Layers:
    """Gradients of a network's layers, squared and summed.

    On a GPU the gradients of single samples cost less than the library's weight gradient for each
    objective: both estimators at once took 1.21 forward-backward passes of a ResNet-50 on an H100,
    the mini-batch's alone, by the library, 1.50. So there the mini-batch's are made of them too.

    Attributes:
        slow: name -> parameter, of those that hooks cannot serve.
        on_gpu: where the work is done.
        coefficients: of each batch so far: c (K, B) of single samples and d (J, B) of the batch.
        weights, factors: c^2 and d of the batch at hand.
        squares: sums over samples of squared gradients.
        sums: sums over batches of the squares of the batches' gradients.
    """

    def __init__(self, classifier: nn.Module, images: Tensor) -> None:
        """Find the layers that hooks can serve, with a forward pass of one or two images."""
        self.classifier = classifier
        parameters = {n: p.detach() for n, p in classifier.named_parameters()}
        self.fast = _watchable(classifier, images)
        served = {_join(layer, p) for layer, module in self.fast.items() for p in _own(module)}
        self.slow = {n: p for n, p in classifier.named_parameters() if n not in served}
        if self.slow:
            names = ", ".join(list(self.slow)[:5]) + (", ..." if len(self.slow) > 5 else "")
            warnings.warn(
                f"importance: {len(self.slow)} parameter tensors are left to slow automatic "
                f"differentiation, since hooks cannot serve their layers: {names}",
                stacklevel=4,
            )
        self.coefficients: list[tuple[Tensor, Tensor]] = []
        self.weights = self.factors = images.new_empty(0)
        self.squares, self.sums = (_Totals(parameters, self.slow) for _ in range(2))
        self.on_gpu = _is_on_gpu(images)
        kind = "cuda" if self.on_gpu else "cpu"
        self.samples = BLOCK_SAMPLES[kind]
        self.block = images.new_empty(BLOCK_BYTES[kind] // images.element_size())

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, forward passes lay the hooks through which `add` sees gradients."""
        handles = [
            # Before other hooks: one that changes the output belongs to what follows the layer.
            module.register_forward_hook(functools.partial(self._watch, layer), prepend=True)
            for layer, module in self.fast.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def add(self, logits: Tensor, c: Tensor, d: Tensor) -> None:
        """Add a batch: logits (B,) of a watched forward pass, coefficients (K, B) and (J, B)."""
        self.coefficients.append((c, d))
        self.weights, self.factors = c.square(), d
        self.squares.k, self.sums.k = len(c), len(d)
        if logits.requires_grad:
            logits.sum().backward()

    def add_slowly(self, images: Tensor, c: Tensor, d: Tensor) -> None:
        """Add a batch for the parameters that hooks do not serve."""
        names, parameters = zip(*self.slow.items(), strict=True)
        for parameter in parameters:
            parameter.requires_grad_(True)

        def gradients(images: Tensor, factors: Tensor) -> Iterator[tuple[str, Tensor]]:
            logits = self.classifier(images)
            found = torch.autograd.grad(logits, parameters, factors, materialize_grads=True)
            return zip(names, (value.reshape(1, -1) for value in found), strict=True)

        for i in range(len(images) if len(c) else 0):
            for name, gradient in gradients(images[i : i + 1], c.new_ones(1)):
                self.squares.of(name).addmm_(c[:, i : i + 1].square(), gradient.square())
        for j, factors in enumerate(d):
            for name, gradient in gradients(images, factors):
                self.sums.of(name)[j] += gradient[0].square()

    def _watch(
        self, layer: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor
    ) -> Tensor:
        """Forward hook: when the output's gradient arrives, reduce the layer's gradients."""
        if not output.requires_grad:
            # The graph starts here: no gradient is computed for the image. A copy, because a leaf
            # cannot be changed in place by the activation that follows.
            output = output.requires_grad_().clone()
        output.register_hook(functools.partial(self._reduce, layer, module, inputs[0].detach()))
        return output

    def _reduce(self, layer: str, module: nn.Module, x: Tensor, g: Tensor) -> None:
        """Add a layer's part of the batch: input x, gradient g of the output, rows = samples."""
        if isinstance(module, nn.Linear):
            self._add_products(_join(layer, "weight"), x, g)
            if module.bias is not None:
                self._add(_join(layer, "bias"), g)
        elif isinstance(module, nn.Conv2d):
            self._convolution(_join(layer, "weight"), module, x, g)
            if module.bias is not None:
                self._add(_join(layer, "bias"), g.sum((2, 3)))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self._batch_norm(layer, module, x, g)

    def _add(self, name: str, gradients: Tensor) -> None:
        """Add per-sample gradients (B, number of elements) of the whole batch."""
        if len(self.factors):
            self.sums.of(name).add_((self.factors @ gradients).square_())
        if len(self.weights):
            self.squares.of(name).addmm_(self.weights, gradients.square())

    def _add_products(self, name: str, x: Tensor, g: Tensor) -> None:
        """Add the outer products of gradients (B, O) and inputs (B, I): matrix products."""
        if len(self.factors):
            self._add_batch_products(name, x[:, None], g[:, None])
        if len(self.weights):
            left = (self.weights[:, None] * g.T.square()).flatten(0, 1)  # (K O, B)
            self.squares.of(name).view(-1, x.shape[1]).addmm_(left, x.square())

    def _add_batch_products(self, name: str, x: Tensor, g: Tensor) -> None:
        """The mini-batch's gradients as one matrix product: x (B, S, I), g (B, S, O)."""
        left = g[:, :, None] * self.factors.T[:, None, :, None]  # (B, S, J, O)
        products = left.flatten(2).flatten(0, 1).T @ x.flatten(0, 1)
        self.sums.of(name).view(products.shape).add_(products.square_())

    def _batch_norm(
        self, layer: str, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, g: Tensor
    ) -> None:
        """y = gamma (x - mean) / sqrt(var + eps) + beta with fixed mean and variance."""
        assert module.running_mean is not None and module.running_var is not None
        positions = tuple(range(2, x.dim()))
        beta = g.sum(positions) if positions else g
        product = (g * x).sum(positions) if positions else g * x
        gamma = (product - module.running_mean * beta) * (module.running_var + module.eps).rsqrt()
        self._add(_join(layer, "weight"), gamma)
        self._add(_join(layer, "bias"), beta)

    def _convolution(self, name: str, module: nn.Conv2d, x: Tensor, g: Tensor) -> None:
        """Add the gradients of a convolution's weights."""
        positions, kernel = g[0, 0].numel(), math.prod(module.kernel_size)
        if module.groups == module.in_channels == module.out_channels:
            # On a GPU the library's kernel: it reads as much as for the whole batch's gradient,
            # which is in every backward pass. Reasoned; its time was not measured.
            gradients = _grouped_gradients if self.on_gpu else _depthwise_gradients
            self._add(name, self._in_parts(gradients, module, x, g))
        elif module.groups == 1 and positions == 1:
            self._add_products(name, _patches(module, x).flatten(1), g.flatten(1))
        elif module.groups == 1 and (len(self.weights) or self.on_gpu):
            self._dense(name, module, x, g)
        elif len(self.weights) or self.on_gpu:
            self._add(name, self._in_parts(_grouped_gradients, module, x, g))
        elif module.groups == 1 and positions * kernel <= FEW_PATCHES:
            self._add_batch_products(name, _patches(module, x), g.flatten(2).transpose(1, 2))
        else:
            self._add_batch_gradients(name, module, x, g)

    def _in_parts(
        self,
        gradients: Callable[[nn.Conv2d, Tensor, Tensor], Tensor],
        module: nn.Conv2d,
        x: Tensor,
        g: Tensor,
    ) -> Tensor:
        """Per-sample gradients (B, number of elements), formed a few samples at a time."""
        step = self._step(module, g)
        pairs = zip(x.split(step), g.split(step), strict=True)
        return torch.cat([gradients(module, *pair) for pair in pairs])

    def _step(self, module: nn.Conv2d, g: Tensor) -> int:
        """So many samples at a time that patches take up to four times the space of a block.

        Fresh memory is dear.
        """
        fitting = 4 * len(self.block) // (g[0, 0].numel() * module.weight[0].numel())
        return min(max(fitting, 1), self.samples)

    def _add_batch_gradients(self, name: str, module: nn.Conv2d, x: Tensor, g: Tensor) -> None:
        """The library's weight gradient, for the mini-batch alone."""
        for total, factors in zip(self.sums.of(name), self.factors, strict=True):
            gradient = conv2d_weight(
                x,
                module.weight.shape,
                g * factors[:, None, None, None],
                module.stride,
                module.padding,
                module.dilation,
                module.groups,
            )
            total.view(len(gradient), *gradient.shape[2:], -1).add_(
                gradient.square_().permute(0, 2, 3, 1)
            )

    def _dense(self, name: str, module: nn.Conv2d, x: Tensor, g: Tensor) -> None:
        """Add a sample's gradient g (O, S) times its patches (S, P), a block of rows at a time."""
        size = module.weight[0].numel()
        of_batch = x.new_zeros(len(self.factors), len(module.weight) * size)
        step = self._step(module, g)
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            patches, some = _patches(module, x[part]), g[part].flatten(2)
            b = len(patches)
            if len(self.block) < b * size:
                self.block = patches.new_empty(b * size)
            rows = len(self.block) // (b * size)
            for first in range(0, some.shape[1], rows):
                few = some[:, first : first + rows]
                columns = slice(first * size, (first + few.shape[1]) * size)
                block = self.block[: b * few.shape[1] * size].view(b, -1, size)
                torch.bmm(few, patches, out=block)
                flat = block.view(b, -1)
                if len(self.factors):
                    of_batch[:, columns].addmm_(self.factors[:, part], flat)
                if len(self.weights):
                    squares = self.squares.of(name)[:, columns]
                    squares.addmm_(self.weights[:, part], flat.square_())
        if len(self.factors):
            self.sums.of(name).add_(of_batch.square_())


def _is_on_gpu(images: Tensor) -> bool:
    return images.device.type != "cpu"


def _grouped_gradients(module: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a grouped convolution, (B, C_out * h * w * C_in / groups).

    The samples are made groups of one large convolution, whose weight gradient is the library's.
    """
    b, c_out, c_in, h, w = len(x), *module.weight.shape
    gradients = conv2d_weight(
        x.reshape(1, -1, *x.shape[2:]),
        (b * c_out, c_in, h, w),
        g.reshape(1, -1, *g.shape[2:]),
        module.stride,
        module.padding,
        module.dilation,
        b * module.groups,
    )
    return gradients.view(b, c_out, c_in, h, w).permute(0, 1, 3, 4, 2).reshape(b, -1)


def _depthwise_gradients(module: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """Per-sample weight gradients of a depthwise convolution, (B, C * h * w).

    The products are summed over whichever is fewer, positions or (nearly) elements of the kernel;
    many times faster than the library on the small maps of the deep layers.
    """
    windows, g = _windows(module, x), g.permute(0, 2, 3, 1)  # (B, y, x, h, w, C), (B, y, x, C)
    b, height, width, h, w, c = windows.shape
    out = g.new_zeros(b, h, w, c)
    if height * width <= FEW_POSITIONS:
        for i, j in itertools.product(range(height), range(width)):
            out.addcmul_(windows[:, i, j], g[:, i, j, None, None])
    else:
        for i, j in itertools.product(range(h), range(w)):
            torch.sum(windows[:, :, :, i, j] * g, (1, 2), out=out[:, i, j])
    return out.permute(0, 3, 1, 2).reshape(b, -1)


def _patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    """What each output position sees: (B, positions, h * w * C_in), channels fastest."""
    if module.kernel_size == (1, 1) and not any(module.padding):
        return x[:, :, :: module.stride[0], :: module.stride[1]].flatten(2).transpose(1, 2)
    return _windows(module, x).flatten(3).flatten(1, 2)


def _windows(module: nn.Conv2d, x: Tensor) -> Tensor:
    """A view of what each output position sees: (B, out y, out x, h, w, C_in)."""
    (h, w), (dy, dx), (sy, sx) = module.kernel_size, module.dilation, module.stride
    py, px = cast(tuple[int, int], module.padding)  # not a string: see `_plainly_padded`
    x = F.pad(x.permute(0, 2, 3, 1).contiguous(), (0, 0, px, px, py, py))
    b, height, width, c = x.shape
    out_h = (height - dy * (h - 1) - 1) // sy + 1
    out_w = (width - dx * (w - 1) - 1) // sx + 1
    row, pixel = width * c, c
    return x.as_strided(
        (b, out_h, out_w, h, w, c),
        (height * row, sy * row, sx * pixel, dy * row, dx * pixel, 1),
    )


def _watchable(classifier: nn.Module, images: Tensor) -> dict[str, nn.Module]:
    """Name -> layer, of those whose per-sample gradients hooks can form.

    The type must be exact (a subclass may compute anything), no parameter may belong to two
    modules, and a pass must call the layer once, with one tensor whose rows are the samples.
    """
    owners = Counter(id(p) for m in classifier.modules() for p in _own(m).values())
    layers = {
        name: module
        for name, module in classifier.named_modules()
        if _own(module)
        and type(module) in _DIMENSIONS
        and all(owners[id(p)] == 1 for p in _own(module).values())
        and not (isinstance(module, nn.Conv2d) and not _plainly_padded(module))
    }
    calls, fits = Counter[str](), {}

    def see(name: str, module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        calls[name] += 1
        dimensions = _DIMENSIONS[type(module)]
        fits[name] = len(inputs) == 1 and (
            inputs[0].dim() in dimensions and len(inputs[0]) == len(images)
        )

    handles = [m.register_forward_hook(functools.partial(see, n)) for n, m in layers.items()]
    with torch.no_grad():
        classifier(images)
    for handle in handles:
        handle.remove()
    return {name: m for name, m in layers.items() if calls[name] == 1 and fits[name]}


# Layers that hooks can serve, with the dimensions that their input may have.
_DIMENSIONS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.Linear: (2,),
    nn.Conv2d: (4,),
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
}


def _plainly_padded(module: nn.Conv2d) -> bool:
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    """A module's parameters without those of its children."""
    return dict(module.named_parameters(recurse=False))


def _join(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}" if layer else parameter


@contextlib.contextmanager
def _importance_mode(classifier: nn.Module) -> Iterator[None]:
    """Eval mode, no parameter requires a gradient; restored afterwards."""
    modes = [(module, module.training) for module in classifier.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in classifier.parameters()]
    for module, _ in modes:
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(
                "importance: a batch normalization without running statistics makes a sample's "
                "logit depend on its batch; build the network with track_running_stats=True"
            )
    classifier.eval().requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _iterate(batches: Batches) -> Iterator[Batch]:
    return iter(batches() if callable(batches) else batches)


def _checked(importance: Importance) -> Importance:
    """Refuse what no mask can be made of."""
    for objective, values in importance.items():
        sums = {name: float(value.sum()) for name, value in values.items()}  # of numbers >= 0
        broken = [name for name, total in sums.items() if not math.isfinite(total)]
        if broken:
            raise UserError(
                f"importance: {objective} of {broken[0]} is not finite; has the training diverged?"
            )
        if not any(sums.values()):
            raise UserError(
                f"importance: {objective} is zero everywhere; either the scores are all 0 or 1, or "
                "no batch holds both groups with the same label"
            )
    return importance


# --- files ----------------------------------------------------------------------------------------


def save(importance: Importance, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file, keys "<objective>/<parameter>", whole or not at all."""
    tensors = {
        f"{objective}/{name}": value.detach().cpu().contiguous()
        for objective, values in importance.items()
        for name, value in values.items()
    }
    with whole(path) as partial:
        save_file(tensors, partial, metadata=dict(metadata or {}))


class Stored(Mapping[str, dict[str, Tensor]]):
    """What `save` wrote. An objective is read when first asked for: a method needs two of many."""

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Open the file; tensors will be on the device."""
        self.path, self.device = path, str(device)
        self.found: Importance = {}
        with safe_open(path, framework="pt") as file:
            self.keys_of: dict[str, list[str]] = {}
            for key in file.keys():  # noqa: SIM118 (no mapping)
                self.keys_of.setdefault(key.rpartition("/")[0], []).append(key)

    def __getitem__(self, objective: str) -> dict[str, Tensor]:
        """Parameter name -> importance.

        Raises:
            UserError: no such objective; says which there are.
        """
        if objective not in self.keys_of:
            raise UserError(
                f"{self.path}: no importance {objective!r}{nearest(objective, self.keys_of)}"
            )
        if objective not in self.found:
            with safe_open(self.path, framework="pt", device=self.device) as file:
                self.found[objective] = {
                    key.rpartition("/")[2]: file.get_tensor(key) for key in self.keys_of[objective]
                }
        return self.found[objective]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def __len__(self) -> int:
        return len(self.keys_of)
