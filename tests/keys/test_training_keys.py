"""Keys of optimizers, networks and of how the arithmetic is done."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from swift_debias.api import choice_of
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Optimizer,
    Pretraining,
)
from swift_debias.errors import UserError
from swift_debias.learning import devices, loop, networks
from swift_debias.learning.context import Context, make_optimizer
from swift_debias.learning.precision import autocast
from swift_debias.learning.samples import Samples
from swift_debias.methods import base

# --- optimizers -----------------------------------------------------------------------------------

SLOPE = 2.0  # of the loss


@pytest.mark.key("optimizer.name", "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay")
@pytest.mark.parametrize(
    ("name", "lr", "momentum", "decay"),
    [("sgd", 0.1, 0.5, 0.2), ("sgd", 0.3, 0.0, 0.0), ("adam", 0.1, 0.5, 0.2)],
)
def test_three_steps_of_an_optimizer(name: str, lr: float, momentum: float, decay: float) -> None:
    """By the formulas of SGD with momentum and of Adam (Kingma & Ba 2015), on one weight."""
    options = Optimizer(name=name, lr=lr, momentum=momentum, weight_decay=decay)
    weight = nn.Parameter(torch.tensor([1.5]))
    optimizer = make_optimizer(options, [weight])
    w, velocity, m, v = 1.5, 0.0, 0.0, 0.0
    for step in (1, 2, 3):
        optimizer.zero_grad()
        (SLOPE * weight).sum().backward()
        optimizer.step()
        gradient = SLOPE + decay * w
        if name == "sgd":
            velocity = momentum * velocity + gradient
            w -= lr * velocity
        else:
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            w -= lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)) ** 0.5 + 1e-8)
        assert weight.item() == pytest.approx(w, rel=1e-5)


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.key("backbone.options")
@pytest.mark.parametrize("width", [8, 16])
def test_options_are_the_architectures_arguments(width: int) -> None:
    backbone = Backbone(architecture="small_resnet", options={"width": width})
    assert networks.build(backbone, seed=0).extractor.conv1.weight.shape[0] == width


@pytest.mark.key("backbone.dropout")
@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.8])
def test_the_head_drops_this_share_of_the_features(dropout: float) -> None:
    backbone = Backbone(architecture="small_resnet", options={"width": 8}, dropout=dropout)
    head = networks.build(backbone, seed=0).head.train()
    seen: list[torch.Tensor] = []
    head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head(torch.ones(500, head.linear.in_features))
    (dropped,) = seen
    assert (dropped == 0).double().mean().item() == pytest.approx(dropout, abs=0.02)


# --- the external set -----------------------------------------------------------------------------


@pytest.mark.key("finetuning.min_cell", "finetuning.min_group")
def test_smallest_groups_and_cells_of_three_groups() -> None:
    """Three groups of 12, 10 and 6 samples; the network sees the label but in the third group."""
    sizes = {0: 12, 1: 10, 2: 6}
    groups = np.repeat(list(sizes), list(sizes.values()))
    labels = np.concatenate([np.arange(n) % 2 for n in sizes.values()])
    scores = np.where(groups == 0, labels, np.where(groups == 1, 0.5, 1 - labels))
    images = torch.from_numpy(np.round(255 * scores).astype(np.uint8)).view(-1, 1, 1, 1)
    samples = Samples(
        images.expand(-1, 3, 4, 4),
        torch.arange(len(labels)),
        torch.tensor(labels, dtype=torch.float32),
        torch.tensor(groups),
    )

    class Brightness(nn.Module):
        out_features = 1

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(1, 2, 3))[:, None]

    classifier = networks.Classifier(Brightness(), 1, dropout=0)
    nn.init.ones_(classifier.head.linear.weight)

    def choose(**finetuning: int) -> set[int]:
        """The groups that are compared: the best and the worst AUC are 1 and 0."""
        settings = Finetuning(**finetuning)
        choice = choice_of(classifier, samples, 3, settings)
        chosen = base.external_set(
            samples, np.zeros(len(labels), bool), pair=choice.pair, fraction=1,
            finetuning=settings, seed=0, info=lambda text: None,
        )  # fmt: skip
        return set(groups[chosen.full.rows.numpy()].tolist())

    assert choose(min_group=6, min_cell=3) == {0, 2}
    assert choose(min_group=7, min_cell=5) == {0, 1}
    assert choose(min_group=6, min_cell=4) == {0, 1}  # group 2 has three samples of a label
    with pytest.raises(UserError):  # group 1 has five
        choose(min_group=6, min_cell=6)


# --- how the arithmetic is done -------------------------------------------------------------------


@pytest.mark.key("compute.device")
def test_the_device_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    monkeypatch.setattr(devices, "take_card", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for asked, expected in (("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda")):
        assert devices.prepare_device(Compute(device=asked)) == torch.device(expected)


@pytest.mark.key("compute.threads", "compute.deterministic")
def test_threads_and_determinism_of_the_process(alone: None) -> None:
    for threads, deterministic in ((1, True), (2, False), (2, True)):
        torch.use_deterministic_algorithms(False)
        options = Compute(device="cpu", threads=threads, deterministic=deterministic)
        devices.prepare_device(options)
        assert torch.get_num_threads() == threads
        assert torch.are_deterministic_algorithms_enabled() == deterministic


@pytest.mark.key("compute.channels_last")
def test_memory_format_of_the_weights() -> None:
    for last in (True, False):
        network = networks.build(Backbone(architecture="small_resnet", options={"width": 8}), 0)
        placed = devices.place(network, torch.device("cpu"), Compute(channels_last=last))
        weight = placed.extractor.layer2[0].conv1.weight
        assert weight.stride(1) == (1 if last else weight.shape[2] * weight.shape[3])


@pytest.mark.key("compute.precision")
def test_products_of_a_training_are_rounded_to_bf16() -> None:
    layer, inputs = nn.Linear(64, 8), torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    plain = inputs @ layer.weight.T + layer.bias
    for precision in ("fp32", "bf16", "auto"):
        with autocast(torch.device("cpu"), Compute(precision=precision)):
            found = layer(inputs)
        assert found.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        error = (found.float() - plain).abs().max()
        assert (error > 1e-4) == (precision == "bf16")
        torch.testing.assert_close(found.float(), plain, atol=0.05, rtol=0)


@pytest.mark.key("compute.compile_from")
def test_long_trainings_are_compiled(
    monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Any]
) -> None:
    """From so many images on: two epochs of 24 samples draw 48."""
    compiled: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    for enough, expected in ((None, 0), (49, 0), (48, 1), (0, 1)):
        compiled.clear()
        tiny(Compute(device="cpu", compile_from=enough))
        assert len(compiled) == expected


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """A training of two epochs of 24 samples."""

    def run(compute: Compute) -> None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (24, 3, 4, 4), generator=generator, dtype=torch.uint8)
        labels = torch.arange(24) % 2
        samples = Samples(pixels, torch.arange(24), labels.float(), labels)
        recipe = Pretraining(epochs=2, batch_size=8, optimizer=Optimizer(name="sgd", lr=0.1))
        context = Context(
            seed=0, epochs=2, batch_size=8, optimizer=recipe.optimizer, finetuning=Finetuning(),
            augmentation=Augmentation(), compute=compute,
            log=io.StringIO(),
        )  # fmt: skip
        extractor = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
        loop.pretrain(networks.Classifier(extractor, 4, 0.0), samples, samples, recipe, context)

    return run
