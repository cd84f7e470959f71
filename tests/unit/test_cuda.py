"""What the CPU tests show must hold on a GPU too: skipped where there is none.

References are computed on the CPU, in float64 where rounding matters.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_methods import VARIANTS
from tests.written import write_cache
from torch import Tensor, nn

from swift_debias import methods
from swift_debias.config.schema import Backbone, Compute
from swift_debias.data.image_cache import CachedImages
from swift_debias.importance import estimators, store
from swift_debias.learning import devices, inference
from swift_debias.learning.cam import activation_maps
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Context, set_trainable
from swift_debias.learning.cost import Cost
from swift_debias.learning.loop import fit
from swift_debias.learning.networks import Classifier, build, save
from swift_debias.learning.networks import load as load_network
from swift_debias.learning.precision import autocast
from swift_debias.learning.samples import Batch, ExternalSet, Samples, make_samples

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

BACKBONES = ["resnet50", "densenet121", "efficientnet_b3"]
FP32 = Compute(device="cuda", precision="fp32")


@pytest.fixture(autouse=True)
def device() -> torch.device:
    """The GPU, set up as a job sets it up."""
    return devices.prepare_device(Compute(device="cuda"))


def to_gpu(samples: Samples, device: torch.device) -> Samples:
    assert isinstance(samples.source, Tensor)
    source, labels, attributes = (
        value.to(device) for value in (samples.source, samples.labels, samples.attributes)
    )
    return Samples(source, samples.rows, labels, attributes)


def settled(architecture: str, images: Tensor) -> Classifier:
    """A network in eval mode with BatchNorm statistics of these images, as after training."""
    classifier = build(Backbone(architecture=architecture), seed=0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        classifier.train()(images)
    return classifier.eval()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest element."""
    difference = (found.detach().cpu().double() - expected.double()).abs().max()
    return float(difference / expected.abs().max().clamp(min=1e-300))


def pictures(n: int = 8, size: int = 64) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


# --- networks and importances ---------------------------------------------------------------------


@pytest.mark.parametrize("architecture", BACKBONES)
def test_scores_are_fp32(architecture: str, device: torch.device) -> None:
    """TF32 would be wrong in the third digit."""
    images = pictures()
    classifier = settled(architecture, images)
    with torch.no_grad():
        expected = copy.deepcopy(classifier).double()(images.double())
    placed = devices.place(classifier, device, Compute())
    with inference.inference(placed):
        found = placed(images.to(device).contiguous(memory_format=torch.channels_last))
    assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("architecture", BACKBONES)
def test_importances_are_those_of_the_cpu(architecture: str, device: torch.device) -> None:
    """In float64: in float32 a ReLU near 0 may open on one device and stay shut on the other."""
    images, labels = pictures().double(), torch.tensor([0.0, 1.0] * 4, dtype=torch.float64)
    attributes = torch.tensor([0, 0, 1, 1] * 2)
    classifier = settled(architecture, images.float()).double()

    def of(where: torch.device) -> list[store.Importance]:
        placed = devices.place(copy.deepcopy(classifier), where, Compute())
        columns = [images.contiguous(memory_format=torch.channels_last), labels, attributes]
        parts = zip(*(column.to(where).split(4) for column in columns), strict=True)
        batches = [Batch(*part) for part in parts]
        per_sample = estimators.PerSample(labels.to(where), attributes.to(where))
        both = estimators.estimate(placed, batches, per_sample, estimators.Minibatch())
        return [*both, estimators.minibatch(placed, batches)]

    for found, expected in zip(of(device), of(torch.device("cpu")), strict=True):
        assert found.keys() == expected.keys()
        for objective, values in expected.items():
            for name, value in values.items():
                error = relative_error(found[objective][name], value)
                assert error < 1e-7, (objective, name, error)


def test_stored_importances_are_read_to_the_gpu(
    tmp_path: Path, device: torch.device, make_classifier: Any, make_importance: Any
) -> None:
    importance = make_importance(make_classifier())
    store.save(importance, tmp_path / "importance.safetensors")
    stored = store.Stored(tmp_path / "importance.safetensors", device)
    for objective, values in importance.items():
        for name, value in values.items():
            assert stored[objective][name].device.type == "cuda"
            assert torch.equal(stored[objective][name].cpu(), value)


# --- training -------------------------------------------------------------------------------------


def train(
    classifier: Classifier, samples: Samples, context: Context, device: torch.device, **options: Any
) -> dict[str, Tensor]:
    classifier = devices.place(classifier, device, context.compute)
    set_trainable(classifier, extractor=True, head=True)
    optimizer = context.make_optimizer(classifier.parameters())
    objective = context.objective(samples, prediction=0.5, bias=0.5)
    fit(classifier, samples, objective, optimizer, context, "all", **options)
    return {name: value.cpu() for name, value in classifier.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_follows_the_cpu(
    optimizer: str, device: torch.device, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples = make_samples()
    on_cpu = make_context(optimizer)
    expected = train(make_classifier(dropout=0), samples, on_cpu, torch.device("cpu"))
    on_gpu = make_context(optimizer, compute=FP32)
    found = train(make_classifier(dropout=0), to_gpu(samples, device), on_gpu, device)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-3)
    losses = [[row["loss"] for row in context.history] for context in (on_cpu, on_gpu)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_networks_train_in_bf16(
    architecture: str, optimizer: str, device: torch.device, make_context: Any
) -> None:
    """Weights stay fp32, and the loss falls."""
    images = torch.randint(0, 200, (16, 3, 64, 64), dtype=torch.uint8)
    labels = torch.tensor([0.0, 1.0] * 8)
    images[labels > 0.5, :, :32] += 50
    samples = Samples(
        images.to(device), torch.arange(16), labels.to(device), labels.long().to(device)
    )
    context = make_context(optimizer, epochs=8, compute=Compute(device="cuda"))
    context.optimizer = context.optimizer.model_copy(
        update={"lr": 1e-2 if optimizer == "sgd" else 1e-3}
    )
    with autocast(device, context.compute):
        assert torch.is_autocast_enabled("cuda")
        assert torch.get_autocast_dtype("cuda") == torch.bfloat16
    state = train(build(Backbone(architecture=architecture), seed=0), samples, context, device)
    assert all(v.dtype in (torch.float32, torch.int64) for v in state.values())
    assert all(v.isfinite().all() for v in state.values())
    assert context.history[-1]["prediction_loss"] < context.history[0]["prediction_loss"]


def test_a_compiled_network_learns_the_same(
    device: torch.device, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples, states = to_gpu(make_samples(40), device), []
    for enough in (None, 0):
        context = make_context(compute=FP32.model_copy(update={"compile_from": enough}), epochs=3)
        states.append(train(make_classifier(dropout=0), samples, context, device))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resumed_equals_unbroken(
    optimizer: str,
    tmp_path: Path,
    device: torch.device,
    make_classifier: Any,
    make_samples: Any,
    make_context: Any,
) -> None:
    samples = to_gpu(make_samples(), device)

    def context() -> Context:
        checkpoints = Checkpoints(tmp_path, "key", 0)
        return make_context(optimizer, epochs=4, compute=FP32, checkpoints=checkpoints)

    unbroken = make_context(optimizer, epochs=4, compute=FP32)
    expected = train(make_classifier(), samples, unbroken, device)
    calls: list[int] = []

    def stop_in_third() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), samples, context(), device, watch=stop_in_third)
    second = context()
    found = train(make_classifier(), samples, second, device)
    assert "resumed after epoch 2 of 4" in second.log.getvalue()
    for name, value in expected.items():  # a GPU's sums are not the same bits in every run
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


# --- samples --------------------------------------------------------------------------------------


def test_images_read_ahead_are_those_in_memory(tmp_path: Path, device: torch.device) -> None:
    """Memory-mapped, read by a thread and sent from pinned memory, in random views."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    images = CachedImages([write_cache(tmp_path / "cache.npy", [*map(str, range(300))], pixels)])
    rows, zeros = rng.permutation(300), np.zeros(300)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(300, generator=generator)
    view = torch.randint(0, 8, (300,), generator=generator)
    drawn = {}
    for where, resident in (("cpu", "on"), ("cuda", "on"), ("cuda", "off")):
        samples = make_samples(images, rows, zeros, zeros, torch.device(where), resident)
        batches = list(samples.draws(order.split(7), view))
        assert all(batch.device.type == where for batch in batches)
        assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in batches)
        drawn[where, resident] = torch.cat([batch.cpu() for batch in batches])
    for key in (("cuda", "on"), ("cuda", "off")):
        torch.testing.assert_close(drawn[key], drawn["cpu", "on"], rtol=0, atol=1e-6)


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_methods_do_on_the_gpu_what_they_do_on_the_cpu(
    variant: str,
    tmp_path: Path,
    device: torch.device,
    make_classifier: Any,
    make_samples: Any,
    make_external: Any,
    make_importance: Any,
    make_context: Any,
    train: Any,
) -> None:
    start = train(make_classifier(dropout=0), make_samples(160, seed=0, correlation=0.9))
    external = make_external(160, seed=1, correlation=0.5)
    full = to_gpu(external.full, device)
    balanced = full.subset(external.balanced.rows)
    importance = make_importance(start)
    store.save(importance, tmp_path / "importance.safetensors")
    algorithm, options = VARIANTS[variant]
    method = methods.load(algorithm)
    scores = {}
    for where, own, compute in (
        (torch.device("cpu"), external, Compute(device="cpu")),
        (device, ExternalSet(full, balanced), FP32),
    ):
        stored = store.Stored(tmp_path / "importance.safetensors", where)
        context = make_context(
            importance=lambda stored=stored: stored, compute=compute, unprivileged=lambda: 1
        )
        classifier = devices.place(copy.deepcopy(start), where, compute)
        cost = Cost(classifier, where)
        debiased = method.debias(classifier, own, method.Settings(**options), context)
        assert debiased.device.type == where.type
        save(debiased, tmp_path / "model.safetensors")
        scores[where.type] = inference.predict(debiased, own.full).cpu()
        measured = cost.measure(debiased, own.full.seen[0])
        if where.type == "cuda":
            assert measured["device"] == torch.cuda.get_device_name()
            assert measured["peak_memory_mb"] > 0
    assert scores["cuda"].std() > 0
    torch.testing.assert_close(scores["cuda"], scores["cpu"], rtol=0.05, atol=0.05)


def test_a_saved_model_is_the_same_on_the_gpu(tmp_path: Path, device: torch.device) -> None:
    backbone = Backbone(architecture="small_resnet")
    classifier = devices.place(build(backbone, seed=0), device, Compute())
    save(classifier, tmp_path / "model.safetensors")
    again = load_network(tmp_path / "model.safetensors", backbone)
    assert all(
        torch.equal(again.state_dict()[name], value.cpu())
        for name, value in classifier.state_dict().items()
    )


def test_explanations_are_those_of_the_cpu(device: torch.device) -> None:
    images = pictures(4)
    classifier = settled("resnet50", images)
    labels = torch.tensor([0, 1, 0, 1])
    expected = activation_maps(copy.deepcopy(classifier), images, labels)
    placed = devices.place(classifier, device, Compute())
    found = activation_maps(placed, images.to(device), labels)
    assert found.kind == expected.kind == "CAM"
    assert relative_error(found.maps, expected.maps) < 1e-3
