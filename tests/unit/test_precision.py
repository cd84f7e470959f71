"""In which precision a training computes, and that little depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from swift_debias.config.schema import Compute
from swift_debias.files import write_json
from swift_debias.importance import products, store
from swift_debias.importance.layers import squared_gradients
from swift_debias.importance.masks import soft_mask
from swift_debias.learning import inference, loop, precision
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import set_trainable
from swift_debias.learning.cost import Cost
from swift_debias.learning.precision import autocast, decide
from swift_debias.learning.samples import Batch, Samples
from swift_debias.report.costs import trained_in

CPU = torch.device("cpu")
BF16 = Compute(device="cpu", precision="bf16")


@pytest.mark.parametrize(
    ("flags", "side", "expected"),
    [
        ({}, 224, "fp32"),
        ({"avx512_bf16": False, "amx_bf16": False}, 224, "fp32"),
        ({"avx512_bf16": True}, 224, "bf16"),
        ({"amx_bf16": True}, 128, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, 127, "fp32"),  # small images: not faster
        ({"avx512_bf16": True, "amx_bf16": True}, 40, "fp32"),  # the demo's
    ],
)
def test_auto_follows_the_units_and_the_size(
    flags: dict[str, bool], side: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert decide(Compute(), CPU, side).precision == expected
    for asked in ("fp32", "bf16"):
        assert decide(Compute(precision=asked), CPU, side).precision == asked


def test_without_a_list_of_flags_there_are_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert decide(Compute(), CPU, 224).precision == "fp32"


class Convolutions(TorchDispatchMode):
    """In which precision convolutions are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            self.seen.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("groups", "dilation", "expected"),
    [(1, 1, torch.bfloat16), (2, 1, torch.bfloat16), (8, 1, torch.bfloat16), (8, 2, torch.float32)],
)
def test_depthwise_convolutions_without_a_detour_are_fp32_while_gradients_are_recorded(
    groups: int, dilation: int, expected: torch.dtype, given: torch.dtype
) -> None:
    """And what comes out is bf16, of each convolution."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, groups=groups, dilation=dilation)
    images = torch.randn(2, 8, 12, 12).to(given)
    with Convolutions() as convolutions, autocast(CPU, BF16):
        out = layer(images)
        with torch.no_grad():
            alone = layer(images)
    assert convolutions.seen == [expected, torch.bfloat16]
    assert out.dtype == alone.dtype == torch.bfloat16
    with Convolutions() as convolutions, autocast(CPU, Compute(precision="fp32")):
        layer(images.float())
    assert convolutions.seen == [torch.float32]
    right = layer.double()(images.double())
    torch.testing.assert_close(out.double(), right, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("size", [1, (1, 1), [1, 1], 2, (1, 3)])
@pytest.mark.parametrize("shape", [(2, 8, 6, 9), (8, 6, 9)])
def test_a_mean_of_all_pixels_keeps_the_layout_of_its_gradient(
    size: Any, shape: tuple[int, ...]
) -> None:
    """The values are torch's own in float64; other sizes of its pooling are left as they are."""
    torch.manual_seed(0)
    images, pool = torch.randn(shape), nn.AdaptiveAvgPool2d(size)
    right = images.double().requires_grad_()
    (pool(right) ** 2).sum().backward()
    if len(shape) == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    layouts = []

    class Seen(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, given: torch.Tensor) -> torch.Tensor:
            return given.view_as(given)

        @staticmethod
        def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
            layouts.append(gradient.stride())
            return gradient

    images = images.bfloat16().requires_grad_()
    with autocast(CPU, BF16):
        out = pool(Seen.apply(images))
    assert out.dtype == torch.bfloat16
    (out.float() ** 2).sum().backward()
    torch.testing.assert_close(out.double(), pool(right), rtol=0.02, atol=0.02)
    torch.testing.assert_close(images.grad.double(), right.grad, rtol=0.05, atol=0.02)
    if size in (1, (1, 1), [1, 1]):
        assert layouts == [images.stride()]


def large(n: int, side: int) -> Samples:
    """n random images of so many pixels a side."""
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)
    labels, groups = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    return Samples(pixels, torch.arange(n), labels.float(), groups)


def test_a_checkpoint_of_another_precision_is_not_carried_on(
    tmp_path: Path, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples = make_samples()
    for asked, resumed in (("bf16", False), ("bf16", True), ("fp32", False)):
        context = make_context(checkpoints=Checkpoints(tmp_path, "key", 0))
        context.compute = context.compute.model_copy(update={"precision": asked})
        context.decide_precision(samples)
        classifier = make_classifier()
        set_trainable(classifier, extractor=True, head=True)
        optimizer = context.make_optimizer(classifier.parameters())
        objective = context.objective(samples, prediction=1, bias=0)
        loop.fit(classifier, samples, objective, optimizer, context, "step1")
        assert f"trains in {asked} on cpu" in context.log.getvalue()
        assert ("epoch 1/" not in context.log.getvalue()) == resumed


def test_the_head_is_trained_in_fp32(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    """On the same features: only those of the extractor are computed in bf16."""
    samples, heads, features = make_samples(), [], {}
    for asked in ("fp32", "bf16"):
        compute = Compute(device="cpu", precision=asked)
        features[asked] = inference.extract_features(make_classifier(), samples, None, compute)
        context = make_context(compute=compute)
        classifier = make_classifier()
        set_trainable(classifier, extractor=False, head=True)
        optimizer = context.make_optimizer(classifier.head.parameters())
        objective = context.objective(samples, prediction=0.9, bias=0.1)
        # no augmentation: the one view that was computed
        context.augmentation = context.augmentation.model_copy(
            update={"flips": False, "transpose": False}
        )
        loop.fit(classifier.head, features["fp32"], objective, optimizer, context, "head")
        heads.append(classifier.head.linear.weight.detach().clone())
    assert torch.equal(*heads)
    first, second = features["fp32"].values, features["bf16"].values
    assert second.dtype == torch.float32 and not torch.equal(first, second)
    torch.testing.assert_close(first, second, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("n", [1, 15, 16, 41, 42, 57, 300])
@pytest.mark.parametrize("side", [40, 224, 512])
def test_no_batch_of_scores_or_features_is_small(n: int, side: int) -> None:
    samples = large(1, side)
    batches = inference.parts(n, samples)
    assert torch.equal(torch.cat(batches), torch.arange(n))
    assert len(batches) == 1 or min(map(len, batches)) >= inference.FEW
    assert max(map(len, batches)) <= inference.BATCH
    pixels = max(map(len, batches)) * side**2
    assert pixels <= inference.CPU_PIXELS or max(map(len, batches)) <= 2 * inference.FEW


def test_cost_says_the_precision(make_classifier: Any) -> None:
    cost = Cost(make_classifier(), CPU).measure(make_classifier(), 3, "bf16")
    assert cost["precision"] == "bf16"


def test_mixed_precisions_are_said(tmp_path: Path) -> None:
    files = []
    for task, method, given in (
        ("skin", "swift", "bf16"),
        ("skin", "llft", "bf16"),
        ("chest", "swift", "fp32"),
        ("chest", "llft", "bf16"),
    ):
        files.append(tmp_path / f"debiased/{task}/net/sex/{method}/fold0/cost.json")
        files[-1].parent.mkdir(parents=True)
        write_json(files[-1], {"precision": given})
    chest, skin = trained_in(files)
    assert skin == "Precision of the trainings of skin: bf16 (2 jobs)."
    assert "bf16 (1 jobs), fp32 (1 jobs)" in chest and "compute.precision" in chest
    assert precision.ENOUGH_PIXELS == 128  # as config/README.md and docs/verified.md say


# --- importances in half of the space -------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_masks_of_halved_importances_are_the_same_within_a_thousandth(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values over many powers of ten, as importances are; zeros, constants and single elements."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (64, 300), "b.weight": (5000,), "head.bias": (1,), "none": (7,)}

    def draw() -> dict[str, torch.Tensor]:
        values = {
            name: (5 * torch.randn(shape, generator=generator)).exp() * scale
            for name, shape in shapes.items()
        }
        return values | {"none": torch.zeros(7)}

    importance = {"minibatch.bias": draw(), "minibatch.prediction": draw()}
    store.save(importance, tmp_path / "full.safetensors")
    monkeypatch.setattr(store, "HALF_FROM", 1000)
    store.save(importance, tmp_path / "half.safetensors")
    full, half = (store.Stored(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    for objective, values in importance.items():
        for name, value in values.items():
            assert torch.equal(full[objective][name], value)
            assert half[objective][name].dtype == torch.float32
            torch.testing.assert_close(
                half[objective][name], value, rtol=2**-10, atol=float(value.max()) * 2**-66
            )
    masks = [
        soft_mask(found["minibatch.bias"], found["minibatch.prediction"]) for found in (full, half)
    ]
    for name in shapes:
        torch.testing.assert_close(masks[0][name], masks[1][name], rtol=0, atol=1e-3)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.52 * sizes[0] + 2000


def test_products_are_sent_to_another_library_only_where_they_are_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With AMX "medium" rounds to bf16, which the importances must not."""
    before = torch.get_float32_matmul_precision()
    for amd in (False, True):
        monkeypatch.setattr(products, "is_amd", lambda amd=amd: amd)
        exact = products._medium_is_exact()
        with products.fast_products():
            assert torch.get_float32_matmul_precision() == ("medium" if amd and exact else before)
            a = torch.rand(80, 300, generator=torch.Generator().manual_seed(1))
            error = (a @ a.T).double() / (a.double() @ a.double().T) - 1
            assert error.abs().max() < 1e-5
        assert torch.get_float32_matmul_precision() == before
    # and on an AMD that rounds, whatever this machine does
    monkeypatch.setattr(products, "_medium_is_exact", lambda: False)
    with products.fast_products():
        assert torch.get_float32_matmul_precision() == before


class Attends(nn.Module):
    """Rows of an image, sequence first, through attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2)
        self.last = nn.Linear(12, 1)

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0].transpose(0, 1)  # (T, B, D), a view of (B, T, D)
        return self.last(self.attention(rows, rows, rows)[0].mean(0)).squeeze(1)


class Products(TorchDispatchMode):
    """The kinds of products that torch makes, with the precision that it has at each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...], str]] = []

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default):
            name, precision = function.overloadpacket.__name__, torch.get_float32_matmul_precision()
            self.seen.append((name, tuple(args[1].shape), precision))
        return function(*args, **(kwargs or {}))


def test_a_sequence_first_input_makes_one_product_and_attention_keeps_its_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch would make T products with a copy of the weight each; oneDNN's small ones are slow."""
    monkeypatch.setattr(products, "is_amd", lambda: True)
    monkeypatch.setattr(products, "_medium_is_exact", lambda: True)
    torch.manual_seed(0)
    network, images = Attends(), torch.randn(6, 1, 5, 12)
    batch = Batch(images, torch.zeros(6), torch.zeros(6, dtype=torch.long))
    c, d = torch.rand(2, 6), torch.rand(2, 6)
    with Products() as made:
        squares, sums = squared_gradients(network, [batch], c, d)
    copied = [shape for name, shape, _ in made.seen if name == "bmm" and shape[:2] == (5, 12)]
    assert not copied, copied  # a weight of (12, ...) for each of five rows
    precisions = {precision for _, _, precision in made.seen}
    assert precisions == {"highest", "medium"}  # what torch does, and our own products
    assert torch.get_float32_matmul_precision() == "highest"
    # and the numbers are those of a loop
    rows = []
    for i in range(6):
        network.zero_grad()
        network(images[i : i + 1]).sum().backward()
        rows.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name, found in squares.items():
        each = torch.stack([row[name] for row in rows])
        expected = torch.einsum("kb,b...->k...", c.square(), each.square())
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(sums[name], torch.einsum("kb,b...->k...", d, each).square())
