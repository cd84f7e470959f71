"""What a recipe of pre-training may add: clipped gradients and a rate that falls on a plateau."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swift_debias.config.schema import Augmentation, Optimizer, Plateau, Pretraining
from swift_debias.learning import loop
from swift_debias.learning.augment import normalize
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.samples import Samples

STILL = Augmentation(flips=False, transpose=False)
SGD = Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01)


def orders(monkeypatch: pytest.MonkeyPatch, total: int) -> list[Tensor]:
    """The rows of each batch that training draws."""
    drawn: list[Tensor] = []
    pixels = Samples.pixels

    def watched(samples: Samples, index: Tensor) -> Tensor:
        if len(samples) == total:
            drawn.append(index)
        return pixels(samples, index)

    monkeypatch.setattr(Samples, "pixels", watched)
    return drawn


@pytest.mark.key("pretraining.clip")
@pytest.mark.parametrize("clip", [0.02, 0.1, 1e6, None])
def test_clipped_steps_against_a_loop(
    clip: float | None,
    make_classifier: Any,
    make_samples: Any,
    make_context: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SGD written out in double precision: each step's whole gradient is at most `clip` long."""
    train, validation = make_samples(48, seed=0), make_samples(20, seed=1)
    classifier = make_classifier(3, dropout=0.0)
    network = copy.deepcopy(classifier).double().train()
    drawn = orders(monkeypatch, 48)
    context = make_context(epochs=2, batch_size=16, augmentation=STILL)
    recipe = Pretraining(epochs=2, batch_size=16, optimizer=SGD, clip=clip)
    loop.pretrain(classifier, train, validation, recipe, context)

    x = normalize(train.pixels(torch.arange(48))).double()
    drawn.pop()
    y = train.labels.double()
    share, velocity, scaled = y.mean(), {}, 0
    for rows in drawn:
        p = network(x[rows]).sigmoid()
        terms = (1 - share) * y[rows] * p.log() + share * (1 - y[rows]) * (1 - p).log()
        gradients = torch.autograd.grad(-terms.mean(), list(network.parameters()))
        length = float(np.sqrt(sum(float((g**2).sum()) for g in gradients)))
        factor = min(1.0, clip / length) if clip is not None else 1.0
        scaled += factor < 1
        with torch.no_grad():
            for (name, weight), gradient in zip(network.named_parameters(), gradients, strict=True):
                step = factor * gradient + 0.01 * weight
                velocity[name] = 0.9 * velocity[name] + step if name in velocity else step
                weight -= 0.05 * velocity[name]
    assert len(drawn) == 6
    assert (scaled > 0) == (clip is not None and clip < 1)
    for (name, ours), theirs in zip(
        classifier.named_parameters(), network.parameters(), strict=True
    ):
        torch.testing.assert_close(
            ours.detach().double(), theirs.detach(), rtol=1e-3, atol=2e-5, msg=name
        )


@pytest.mark.key("plateau.factor", "plateau.patience")
def test_the_rate_is_that_of_torch() -> None:
    """400 random courses of an AUC, epoch by epoch, beside torch's own scheduler."""
    rng, falls = np.random.default_rng(0), 0
    for _ in range(400):
        factor, patience = float(rng.choice([0.1, 0.5, 0.9])), int(rng.integers(0, 13))
        plateau = Plateau(factor=factor, patience=patience)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=factor, patience=patience, eps=0
        )
        aucs: list[float] = []
        level = rng.choice([1e-5, 1e-3, 0.1])
        for _ in range(25):
            aucs.append(float(np.clip(0.7 + level * rng.normal(), 0, 1)))
            theirs.step(aucs[-1])
            ours = loop.plateau_rate(aucs, 0.1, plateau)
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        falls += ours < 0.1
    assert 200 < falls < 400


def test_a_resumed_training_has_the_same_rates(
    make_classifier: Any, make_samples: Any, make_context: Any, tmp_path: Path
) -> None:
    train, validation = make_samples(32, seed=0), make_samples(20, seed=1)
    validation.labels = 1 - validation.labels  # what is learned lowers this AUC
    recipe = Pretraining(
        epochs=6, batch_size=16, optimizer=SGD, plateau=Plateau(factor=0.5, patience=0)
    )
    unbroken, broken = make_classifier(3), make_classifier(3)
    whole = make_context(batch_size=16)
    loop.pretrain(unbroken, train, validation, recipe, whole)
    kept = Checkpoints(tmp_path, "key", 0)
    loop.pretrain(
        broken,
        train,
        validation,
        recipe.model_copy(update={"epochs": 3}),
        make_context(batch_size=16, checkpoints=kept),
    )
    fresh = make_classifier(4)
    again = make_context(batch_size=16, checkpoints=Checkpoints(tmp_path, "key", 0))
    loop.pretrain(fresh, train, validation, recipe, again)
    assert "resumed after epoch 3 of 6" in again.log.getvalue()
    assert again.history == whole.history
    for ours, theirs in zip(fresh.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    aucs = [row["validation_auc"] for row in whole.history]
    assert loop.plateau_rate(aucs, 0.05, Plateau(factor=0.5, patience=0)) < 0.05
    flat = make_classifier(3)
    loop.pretrain(
        flat,
        train,
        validation,
        recipe.model_copy(update={"plateau": None}),
        make_context(batch_size=16),
    )
    assert not torch.equal(flat.head[1].weight, unbroken.head[1].weight)
