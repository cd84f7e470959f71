"""Diagonal parameter importance (empirical Fisher), Eq. 5 to 8 of Yan et al., MELBA 2025.

Two estimators of one idea; they are different quantities, and both are offered:

`minibatch`: mean over mini-batches of the squared gradient of each objective. It is what the
released code does, and the only one that keeps the bias objective a *difference* between groups.

`per_sample`: mean over samples of the squared gradient. With g_i = d z_i / d theta and c_ki the
derivative of objective k with respect to the logit z_i, every diagonal is sum_i c_ki^2 g_i^2: one
forward and backward pass over the set gives all objectives (prediction, bias, each group).

How the per-sample gradients are had at about the price of one ordinary forward and backward pass:
parameters require no gradient, so autograd computes gradients of layer inputs only. Hooks see each
layer's input x and the gradient G of its output, form from them the gradient of every sample's
logit, square it and add it up for all objectives by one matrix product, block by block in the
cache. This is exact for `Conv2d` (grouped and depthwise too), `Linear` and batch normalization.
Parameters of any other module, of a layer that is used twice, and those used outside of their
layer's forward are left to a loop over single samples, with a warning that names them.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm

from . import losses
from .job import whole
from .losses import ClassWeights
from .settings import EoddsKind, UserError

if TYPE_CHECKING:
    from .samples import Batch

# objective -> parameter name -> importance, of the parameter's shape
Importance: TypeAlias = dict[str, dict[str, Tensor]]
# A set of samples that can be gone through again and again, always in the same order.
Batches: TypeAlias = "Callable[[], Iterable[Batch]] | Sequence[Batch]"
# (logits (B,), which rows of the set they are) -> coefficients (K, B)
Coefficients: TypeAlias = Callable[[Tensor, slice], Tensor]

OBJECTIVES = ("prediction", "bias", "group0", "group1")
# Per-sample gradients exist only in blocks of at most so many bytes and samples: on a CPU they are
# squared and summed while they are in the cache; a GPU rather has few large launches.
BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
BLOCK_SAMPLES = {"cpu": 16, "cuda": 256}
FEW_POSITIONS = 64  # of a depthwise convolution's output: measured, see `_depthwise_gradients`


# --- the two estimators ---------------------------------------------------------------------------


def minibatch(
    classifier: nn.Module,
    batches: Batches,
    eodds: EoddsKind = "mean_abs",
    weights: ClassWeights | None = None,
) -> Importance:
    """Mean over mini-batches of the squared gradients of L_pred (Eq. 7) and L_bias (Eq. 8).

    One forward serves both objectives. A batch whose rows leave no term of the proxy counts with
    gradient 0, so the batches should be shuffled.

    Args:
        classifier: images -> logits (B,).
        batches: the external set.
        eodds: fairness proxy (`losses.eodds_gap`).
        weights: class weights of Eq. 1; None counts each batch.

    Returns:
        Objectives "prediction" and "bias".

    Raises:
        UserError: an importance is zero everywhere, or not finite.
    """
    parameters = dict(classifier.named_parameters())
    sums = [{name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2)]
    count = 0
    with _importance_mode(classifier, requires_grad=True):
        for batch in _iterate(batches):
            count += 1
            logits = classifier(batch.images)
            prediction = losses.weighted_bce(logits, batch.labels, weights)
            bias = losses.eodds_gap(logits, batch.labels, batch.attributes, eodds)
            for loss, total in ((prediction, sums[0]), (bias, sums[1])):
                gradients = torch.autograd.grad(
                    loss,
                    list(parameters.values()),
                    retain_graph=loss is prediction,
                    materialize_grads=True,
                )
                for name, gradient in zip(parameters, gradients, strict=True):
                    total[name].addcmul_(gradient, gradient)
    means = [{name: value.div(max(count, 1)) for name, value in total.items()} for total in sums]
    return _checked(dict(zip(OBJECTIVES, means, strict=False)))


def per_sample(
    classifier: nn.Module,
    batches: Batches,
    weights: ClassWeights | None = None,
    subsets: Mapping[str, Tensor] | None = None,
) -> Importance:
    """Mean over samples of the squared per-sample gradients of all objectives, in one pass.

    An objective is a mean over the n rows that it uses, so the gradient of a row's own loss is n
    c_i g_i, and the diagonal is 1/n sum_i (n c_i)^2 g_i^2. "prediction" uses all rows, "group0" and
    "group1" are L_pred over the rows of one group (FairPrune), "bias" uses the rows whose attribute
    is known. For the bias there is no `eodds` to choose: the kinds differ in the sign of c_i only.

    Args:
        classifier: images -> logits (B,).
        batches: the external set; gone through twice, the first time for the labels alone.
        weights: class weights of Eq. 1; None counts the set, and of each subset the subset.
        subsets: name -> bool (N,). Every objective is computed on each of these subsets of the
            rows, all in the same pass; its name is then "<subset>.<objective>".

    Returns:
        Objectives "prediction", "bias", "group0" and "group1".

    Raises:
        UserError: an objective has no rows, an importance is zero everywhere, or not finite.
    """
    columns = [(batch.labels, batch.attributes) for batch in _iterate(batches)]
    labels, attributes = (torch.cat(column) for column in zip(*columns, strict=True))
    if subsets is None:
        prefixes, rows = [""], [torch.ones_like(labels, dtype=torch.bool)]
    else:
        prefixes, rows = [f"{name}." for name in subsets], list(subsets.values())
    scales = torch.cat([_row_scales(labels, attributes, chosen, weights) for chosen in rows])

    def coefficients(logits: Tensor, at: slice) -> Tensor:
        p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
        residual = torch.where(labels[at] > 0.5, -q, p)  # d BCE / d z
        derivative = torch.stack([residual, p * q, residual, residual])  # d p / d z = p q
        return scales[:, at] * derivative.repeat(len(rows), 1)

    sums = squared_gradients(classifier, batches, coefficients)
    names = [prefix + objective for prefix in prefixes for objective in OBJECTIVES]
    return _checked(
        {
            name: {parameter: value[k] for parameter, value in sums.items()}
            for k, name in enumerate(names)
        }
    )


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


# --- sums of squared per-sample gradients ---------------------------------------------------------


def squared_gradients(
    classifier: nn.Module, batches: Batches, coefficients: Tensor | Coefficients
) -> dict[str, Tensor]:
    """sum_i c_ki^2 g_i^2 for K objectives at once, where g_i = d z_i / d theta.

    Args:
        classifier: images -> logits (B,). Its mode and flags are restored afterwards.
        batches: N samples.
        coefficients: c, (K, N); or a function of a batch's logits (B,) and of the slice of rows
            that it is, which returns (K, B).

    Returns:
        Parameter name -> (K, *shape of the parameter).
    """
    weights = []
    with _importance_mode(classifier, requires_grad=False):
        layers = _Layers(classifier, next(iter(_iterate(batches))).images[:2])
        with layers.watched():
            done = 0
            for batch in _iterate(batches):
                at = slice(done, done + len(batch.labels))
                done = at.stop
                logits = classifier(batch.images)
                if isinstance(coefficients, Tensor):
                    c = coefficients[:, at].to(logits)
                else:
                    c = coefficients(logits.detach(), at)
                weights.append(c.square())
                layers.add(logits, weights[-1])
                del logits  # the graph holds all layers' inputs: free it before the next batch
        if layers.slow:
            for batch, batch_weights in zip(_iterate(batches), weights, strict=True):
                layers.add_slowly(batch.images, batch_weights)
    return layers.result(len(weights[0]))


class _Layers:
    """Per-sample gradients of a network's layers, squared and summed.

    Attributes:
        slow: name -> parameter, of those that are left to the loop over single samples.
    """

    def __init__(self, classifier: nn.Module, images: Tensor) -> None:
        """Find the layers that hooks can serve, with a forward pass of one or two images."""
        self.classifier = classifier
        self.parameters = dict(classifier.named_parameters())
        self.fast = _watchable(classifier, images)
        served = {_join(layer, p) for layer, module in self.fast.items() for p in _own(module)}
        self.slow = {name: p for name, p in self.parameters.items() if name not in served}
        if self.slow:
            names = ", ".join(list(self.slow)[:5]) + (", ..." if len(self.slow) > 5 else "")
            warnings.warn(
                f"importance: {len(self.slow)} parameter tensors are left to the slow loop over "
                f"single samples, since hooks cannot serve their layers: {names}",
                stacklevel=4,
            )
        self.sums: dict[str, Tensor] = {}
        self.weights = images.new_empty(0)  # of the batch at hand: squared coefficients (K, B)
        kind = "cpu" if images.device.type == "cpu" else "cuda"
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

    def add(self, logits: Tensor, weights: Tensor) -> None:
        """Add a batch: logits (B,) of a watched forward pass, squared coefficients (K, B)."""
        self.weights = weights
        if logits.requires_grad:
            logits.sum().backward()

    def add_slowly(self, images: Tensor, weights: Tensor) -> None:
        """Add a batch for the parameters that hooks do not serve."""
        parameters = list(self.slow.values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        for i in range(len(images)):
            logit = self.classifier(images[i : i + 1]).squeeze()
            gradients = torch.autograd.grad(logit, parameters, materialize_grads=True)
            for name, gradient in zip(self.slow, gradients, strict=True):
                self._add(name, gradient.reshape(1, -1), weights[:, i : i + 1])

    def result(self, k: int) -> dict[str, Tensor]:
        """Hand over the sums: name -> (k, *shape), zeros where no logit depends on a parameter."""
        out = {}
        for name, parameter in self.parameters.items():
            total = self.sums.pop(name, None)
            if total is None:
                total = parameter.new_zeros(k, parameter.numel())
            if parameter.dim() == 4 and name not in self.slow:  # summed as (C_out, h, w, C_in)
                c_out, c_in, *kernel = parameter.shape
                total = total.view(k, c_out, *kernel, c_in).permute(0, 1, 4, 2, 3)
            out[name] = total.detach().reshape(k, *parameter.shape)
        return out

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
                self._add(_join(layer, "bias"), g, self.weights)
        elif isinstance(module, nn.Conv2d):
            self._convolution(_join(layer, "weight"), module, x, g)
            if module.bias is not None:
                self._add(_join(layer, "bias"), g.sum((2, 3)), self.weights)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self._batch_norm(layer, module, x, g)

    def _sum(self, name: str) -> Tensor:
        """The running sum of a parameter, (K, number of elements)."""
        if name not in self.sums:
            size = self.parameters[name].numel()
            self.sums[name] = self.weights.new_zeros(len(self.weights), size)
        return self.sums[name]

    def _add(self, name: str, gradients: Tensor, weights: Tensor) -> None:
        """Add per-sample gradients (B, number of elements) with weights (K, B)."""
        self._sum(name).addmm_(weights, gradients.square())

    def _add_products(self, name: str, x: Tensor, g: Tensor) -> None:
        """Add the outer products of gradients (B, O) and inputs (B, I): one matrix product."""
        left = self.weights[:, None] * g.T.square()  # (K, O, B)
        self._sum(name).view(-1, x.shape[1]).addmm_(left.flatten(0, 1), x.square())

    def _batch_norm(
        self, layer: str, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, g: Tensor
    ) -> None:
        """y = gamma (x - mean) / sqrt(var + eps) + beta with fixed mean and variance."""
        assert module.running_mean is not None and module.running_var is not None
        positions = tuple(range(2, x.dim()))
        beta = g.sum(positions) if positions else g
        product = (g * x).sum(positions) if positions else g * x
        gamma = (product - module.running_mean * beta) * (module.running_var + module.eps).rsqrt()
        self._add(_join(layer, "weight"), gamma, self.weights)
        self._add(_join(layer, "bias"), beta, self.weights)

    def _convolution(self, name: str, module: nn.Conv2d, x: Tensor, g: Tensor) -> None:
        """Add the gradients of a convolution's weights, summed as (C_out, h, w, C_in)."""
        positions, size = g[0, 0].numel(), module.weight[0].numel()
        if positions == 1 and module.groups == 1:
            self._add_products(name, _patches(module, x).flatten(1), g.flatten(1))
            return
        # patches may take four times the space of a block: fresh memory is dear
        fitting = 4 * len(self.block) // (positions * size)
        step = min(max(fitting, 1), self.samples)
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            weights = self.weights[:, part]
            if module.groups == 1:
                self._dense(name, _patches(module, x[part]), g[part].flatten(2), weights)
            elif module.groups == module.in_channels == module.out_channels:
                self._add(name, _depthwise_gradients(module, x[part], g[part]), weights)
            else:
                self._add(name, _grouped_gradients(module, x[part], g[part]), weights)

    def _dense(self, name: str, patches: Tensor, g: Tensor, weights: Tensor) -> None:
        """Add a sample's gradient g (O, S) times its patches (S, P), a block of rows at a time."""
        b, _, p = patches.shape
        if len(self.block) < b * p:
            self.block = patches.new_empty(b * p)
        rows = len(self.block) // (b * p)
        total = self._sum(name)
        for first in range(0, g.shape[1], rows):
            some = g[:, first : first + rows]
            block = self.block[: b * some.shape[1] * p].view(b, -1, p)
            torch.bmm(some, patches, out=block)
            columns = total[:, first * p : (first + some.shape[1]) * p]
            columns.addmm_(weights, block.view(b, -1).square_())


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
def _importance_mode(classifier: nn.Module, *, requires_grad: bool) -> Iterator[None]:
    """Eval mode, all parameters with or without gradient; restored afterwards."""
    modes = [(module, module.training) for module in classifier.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in classifier.parameters()]
    for module, _ in modes:
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(
                "importance: a batch normalization without running statistics makes a sample's "
                "logit depend on its batch; build the network with track_running_stats=True"
            )
    classifier.eval().requires_grad_(requires_grad)
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


def load(path: Path) -> Importance:
    """Read what `save` wrote, on the CPU."""
    importance: Importance = {}
    for key, value in load_file(path).items():
        objective, _, name = key.rpartition("/")
        importance.setdefault(objective, {})[name] = value
    return importance
