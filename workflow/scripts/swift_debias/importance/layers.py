"""Sums of squared gradients of a network's layers, at little more than a training step's price.

Parameters require no gradient, so autograd computes gradients of layer inputs only. Hooks see each
layer's input x and the gradient G of its output. For single samples they form the gradient of every
sample's logit, square it and add it up for all objectives by one matrix product, block by block in
the cache; a mini-batch's gradient is another product with the same block. For mini-batches alone
the rows of G are multiplied by c_k and torch's weight gradient does the rest. This is exact for
`Conv2d` (grouped and depthwise too), `Linear` and batch normalization. Parameters of any other
module, of a layer that is used twice, and those used outside of their layer's forward are left to
ordinary automatic differentiation (for single samples in a loop), with a warning that names them.

Longer than other files: the sums, the hooks and the layers that they serve are one mechanism.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from .convolutions import FEW_PATCHES, depthwise_gradients, grouped_gradients, image_patches

if TYPE_CHECKING:
    from ..learning.samples import Batch

# A set of samples that can be gone through again and again, always in the same order.
Batches: TypeAlias = "Callable[[], Iterable[Batch]] | Sequence[Batch]"


# (logits (B,), the batch, which rows of the set it is) -> coefficients (K, B)
Coefficients: TypeAlias = "Callable[[Tensor, Batch, slice], Tensor]"


# Per-sample gradients exist only in blocks of at most so many bytes and samples: on a CPU they are
# squared and summed while they are in the cache; a GPU rather has few large launches.
BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


BLOCK_SAMPLES = {"cpu": 16, "cuda": 256}


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
        layers = _Layers(classifier, next(iter(iterate_batches(batches))).images[:2])
        with layers.watched():
            done = 0
            for batch in iterate_batches(batches):
                count += 1
                at = slice(done, done + len(batch.labels))
                done = at.stop
                logits = classifier(batch.images)
                c, d = (_of_batch(source, logits, batch, at) for source in (per_sample, per_batch))
                layers.add(logits, c, d)
                del logits  # the graph holds all layers' inputs: free it before the next batch
        if layers.slow:
            for batch, (c, d) in zip(iterate_batches(batches), layers.coefficients, strict=True):
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
            gradients = grouped_gradients if self.on_gpu else depthwise_gradients
            self._add(name, self._in_parts(gradients, module, x, g))
        elif module.groups == 1 and positions == 1:
            self._add_products(name, image_patches(module, x).flatten(1), g.flatten(1))
        elif module.groups == 1 and (len(self.weights) or self.on_gpu):
            self._dense(name, module, x, g)
        elif len(self.weights) or self.on_gpu:
            self._add(name, self._in_parts(grouped_gradients, module, x, g))
        elif module.groups == 1 and positions * kernel <= FEW_PATCHES:
            self._add_batch_products(name, image_patches(module, x), g.flatten(2).transpose(1, 2))
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
            patches, some = image_patches(module, x[part]), g[part].flatten(2)
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


def iterate_batches(batches: Batches) -> Iterator[Batch]:
    return iter(batches() if callable(batches) else batches)
