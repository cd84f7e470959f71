"""Products of layer inputs and output gradients, squared and summed while they are in the cache.

A parameter's gradient of sample i is a sum over its positions s of outer products g_is x_is. Of B
samples it takes B times the parameter's memory, so it exists only in blocks.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

# Per-sample gradients exist only in blocks of at most so many bytes and samples: on a CPU they are
# squared and summed while they are in the cache; a GPU rather has few large launches.
BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
BLOCK_SAMPLES = {"cpu": 16, "cuda": 256}

# Of more rows a sample (times objectives beyond the first), gradients of single samples cost less
# than a product for each objective of a mini-batch. ViT-B/16 at 224 pixels, 197 rows: 1.30 passes
# against 1.53; at 64 pixels, 17 rows: 1.62 against 1.36.
FEW_ROWS = 64


@dataclass(frozen=True)
class Sink:
    """Where a parameter's gradients G (B, number of elements) of a batch go.

    weights: (K, B); `squares` += weights @ G^2 is wanted. K may be 0.
    factors: (J, B); `take` gets factors @ G (J, number of elements). J may be 0.
    squares: running sums (K, number of elements).
    apart: the factors are the unit matrix, so that `take` gets G itself.
    """

    weights: Tensor
    factors: Tensor
    squares: Tensor
    take: Callable[[Tensor], object]
    apart: bool = False

    @property
    def one_by_one(self) -> bool:
        """Whether gradients of single samples are wanted."""
        return self.apart or len(self.weights) > 0


@contextlib.contextmanager
def fast_products() -> Iterator[None]:
    """Have fp32 matrix products made by oneDNN where MKL makes them slowly: on an AMD.

    There MKL's ran at half of oneDNN's speed (110 against 228 GFLOP/s on a Zen 5), and ResNet-50's
    importance took 1.85 passes instead of 1.44. torch sends products to oneDNN at precision
    "medium", which allows it bf16 where the CPU has AMX: so only if the product is as exact.

    For large products of our own alone. The many small ones of attention take longer by oneDNN:
    32 images of 17 tokens 41 ms backward instead of 4, of 197 tokens 337 ms instead of 187.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if is_amd() and _medium_is_exact():
            torch.set_float32_matmul_precision("medium")
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def is_amd() -> bool:
    """Whether the CPU is AMD's."""
    info = Path("/proc/cpuinfo")  # Linux; elsewhere MKL's products are taken as they are
    return info.is_file() and "AuthenticAMD" in info.read_text()


@functools.cache
def _medium_is_exact() -> bool:
    """Whether a product at precision "medium" is as near to the exact one as fp32 can be."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(64, 256, generator=generator, dtype=torch.float32)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = a @ a.T
    finally:
        torch.set_float32_matmul_precision(before)
    exact = a.double() @ a.double().T
    return bool(((found - exact) / exact).abs().max() < 1e-5)


class Workspace:
    """How large blocks are, and the memory of one.

    On a GPU the gradients of single samples cost less than the library's weight gradient for each
    objective: both estimators at once took 1.21 forward-backward passes of a ResNet-50 on an H100,
    the mini-batch's alone, by the library, 1.50. So there the mini-batch's are made of them too.
    """

    def __init__(self, images: Tensor) -> None:
        """Blocks of the images' kind, where they are."""
        self.on_gpu = is_on_gpu(images)
        kind = "cuda" if self.on_gpu else "cpu"
        self.samples = BLOCK_SAMPLES[kind]
        self.block = images.new_empty(BLOCK_BYTES[kind] // images.element_size())

    def step(self, positions: int, size: int) -> int:
        """So many samples at a time that patches take up to four times the space of a block.

        Fresh memory is dear.
        """
        fitting = 4 * len(self.block) // (positions * size)
        return min(max(fitting, 1), self.samples)


def is_on_gpu(images: Tensor) -> bool:
    """Whether work on them is done by a GPU."""
    return images.device.type != "cpu"


def add_rows(sink: Sink, gradients: Tensor) -> None:
    """Add per-sample gradients (B, number of elements) of the whole batch."""
    if len(sink.factors):
        sink.take(sink.factors @ gradients)
    if len(sink.weights):
        sink.squares.addmm_(sink.weights, gradients.square())


def add_parts(sink: Sink, parts: Iterable[tuple[slice, Tensor]]) -> None:
    """The same, of a few samples at a time: which ones, and their gradients."""
    of_batch: Tensor | None = None
    for at, gradients in parts:
        if len(sink.factors):
            product = sink.factors[:, at] @ gradients
            of_batch = product if of_batch is None else of_batch.add_(product)
        if len(sink.weights):
            sink.squares.addmm_(sink.weights[:, at], gradients.square_())
    if of_batch is not None:
        sink.take(of_batch)


def add_products(sink: Sink, work: Workspace, x: Tensor, g: Tensor) -> None:
    """Add sums over positions of outer products: x (B, S, I), g (B, S, O)."""
    if x.shape[1] == 1 and not sink.apart:
        add_outer_products(sink, x[:, 0], g[:, 0])
    elif sink.one_by_one or work.on_gpu or x.shape[1] * (len(sink.factors) - 1) > FEW_ROWS:
        parts = slices(len(x), work.step(*x.shape[1:]))
        add_blocks(sink, work, ((at, x[at], g[at].transpose(1, 2)) for at in parts))
    else:
        add_batch_products(sink, x, g)


def add_outer_products(sink: Sink, x: Tensor, g: Tensor) -> None:
    """Add outer products of inputs (B, I) and gradients (B, O): (c g^2)^T x^2, no sample's own."""
    if len(sink.factors):
        add_batch_products(sink, x[:, None], g[:, None])
    if len(sink.weights):
        left = (sink.weights[:, None] * g.T.square()).flatten(0, 1)  # (K O, B)
        sink.squares.view(-1, x.shape[1]).addmm_(left, x.square())


def add_batch_products(sink: Sink, x: Tensor, g: Tensor) -> None:
    """The mini-batch's gradients as one matrix product: x (B, S, I), g (B, S, O)."""
    left = g[:, :, None] * sink.factors.T[:, None, :, None]  # (B, S, J, O)
    products = left.flatten(2).flatten(0, 1).T @ x.flatten(0, 1)
    sink.take(products.view(len(sink.factors), -1))


def add_blocks(sink: Sink, work: Workspace, parts: Iterable[tuple[slice, Tensor, Tensor]]) -> None:
    """Add each sample's gradient g (O, S) times its inputs (S, I), a block of rows at a time.

    Args:
        sink: where they go.
        work: the block.
        parts: which samples, their inputs (b, S, I) and their gradients (b, O, S).
    """
    of_batch = None
    for part, x, g in parts:
        b, size = len(x), x.shape[2]
        if of_batch is None:
            of_batch = x.new_zeros(len(sink.factors), g.shape[1] * size)
        if len(work.block) < b * size:
            work.block = x.new_empty(b * size)
        rows = len(work.block) // (b * size)
        for first in range(0, g.shape[1], rows):
            few = g[:, first : first + rows]
            columns = slice(first * size, (first + few.shape[1]) * size)
            block = work.block[: b * few.shape[1] * size].view(b, -1, size)
            torch.bmm(few, x, out=block)
            flat = block.view(b, -1)
            if len(sink.factors):
                of_batch[:, columns].addmm_(sink.factors[:, part], flat)
            if len(sink.weights):
                sink.squares[:, columns].addmm_(sink.weights[:, part], flat.square_())
    if of_batch is not None and len(sink.factors):
        sink.take(of_batch)


def slices(n: int, step: int) -> Iterable[slice]:
    """Consecutive parts of n rows."""
    return (slice(start, start + step) for start in range(0, n, step))
