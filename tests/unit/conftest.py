"""Small synthetic classifiers, external sets and contexts for the unit tests.

torch is imported where it is used: tests of the data rooms do without it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from swift_debias.importance.store import Importance
    from swift_debias.learning.context import Context
    from swift_debias.learning.networks import Classifier
    from swift_debias.learning.samples import ExternalSet, Samples

SIZE = 12  # pixels a side


@pytest.fixture(scope="session")
def make_samples() -> Callable[..., Samples]:
    """n images: the label brightens one corner (hard to see), the attribute tints all (easy).

    `correlation` of label and attribute, in [0, 1]; `attributes` and `labels` override the draw.
    """
    import torch

    from swift_debias.learning.samples import Samples

    def make(
        n: int = 96,
        seed: int = 0,
        correlation: float = 0.6,
        labels: np.ndarray | None = None,
        attributes: np.ndarray | None = None,
    ) -> Samples:
        rng = np.random.default_rng(seed)
        labels = (rng.random(n) < 0.6).astype(int) if labels is None else np.asarray(labels)
        if attributes is None:
            same = rng.random(len(labels)) < (1 + correlation) / 2
            attributes = np.where(same, labels, 1 - labels)
        images = rng.normal(110, 20, (len(labels), 3, SIZE, SIZE))
        core = 24 * labels + rng.normal(0, 12, len(labels))
        tint = 36 * np.asarray(attributes) + rng.normal(0, 9, len(labels))
        images[:, :, :6, :6] += core[:, None, None, None]
        images[:, 2] += tint[:, None, None]
        return Samples(
            torch.from_numpy(images.clip(0, 255).astype(np.uint8)),
            torch.arange(len(labels)),
            torch.as_tensor(labels, dtype=torch.float32),
            torch.as_tensor(np.asarray(attributes), dtype=torch.int64),
        )

    return make


@pytest.fixture(scope="session")
def make_external(make_samples: Callable[..., Samples]) -> Callable[..., ExternalSet]:
    """An external set; per label both groups of its balanced part are equally large."""
    from swift_debias.learning.samples import ExternalSet

    def make(n: int = 96, seed: int = 0, **options: Any) -> ExternalSet:
        full = make_samples(n, seed, **options)
        labels, attributes = full.labels.numpy(), full.attributes.numpy()
        rows: list[int] = []
        for label in (0, 1):
            cells = [np.flatnonzero((labels == label) & (attributes == a)) for a in (0, 1)]
            for cell in cells:
                rows += cell[: min(map(len, cells))].tolist()
        return ExternalSet(full, full.subset(np.array(sorted(rows), dtype=int)))

    return make


@pytest.fixture(scope="session")
def make_classifier() -> Callable[..., Classifier]:
    """Two convolutions with BatchNorm, pooled to 6 features."""
    import torch
    from torch import nn

    from swift_debias.learning.networks import Classifier

    def make(seed: int = 0, dropout: float = 0.5) -> Classifier:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            extractor = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(inplace=True),
                nn.Conv2d(4, 6, 3, stride=2, padding=1),
                nn.BatchNorm2d(6),
                nn.ReLU(inplace=True),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            return Classifier(extractor, 6, dropout).eval()

    return make


@pytest.fixture(scope="session")
def train() -> Callable[..., Classifier]:
    """A classifier trained on samples until it is accurate and biased."""
    import torch

    from swift_debias.learning import losses

    def run(classifier: Classifier, samples: Samples, steps: int = 60) -> Classifier:
        classifier.train().requires_grad_(True)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
        inputs = samples.draw(torch.arange(len(samples)))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _ in range(steps):
                optimizer.zero_grad()
                losses.weighted_bce(classifier(inputs), samples.labels, (0.5, 0.5)).backward()
                optimizer.step()
        return classifier.eval()

    return run


@pytest.fixture(scope="session")
def make_importance() -> Callable[..., Importance]:
    """Random importances under every key that a method may read; a third of them is exactly 0."""
    import torch

    from swift_debias import methods

    def make(classifier: Classifier, seed: int = 0) -> Importance:
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: torch.Size) -> torch.Tensor:
            values = torch.rand(shape, generator=generator)
            return (values - 1 / 3).clamp(min=0)

        parameters = dict(classifier.named_parameters())
        keys = methods.importances()
        return {k: {name: draw(p.shape) for name, p in parameters.items()} for k in keys}

    return make


@pytest.fixture(scope="session")
def make_context() -> Callable[..., Context]:
    """A context with SGD, two epochs and a log that can be read: `context.log.getvalue()`."""
    from swift_debias.config.schema import Augmentation, Compute, Finetuning, Optimizer
    from swift_debias.learning.context import Context

    def refuse() -> Importance:
        raise AssertionError("this method reads no importances")

    def make(optimizer: str = "sgd", **options: Any) -> Context:
        defaults = {
            "seed": 7,
            "epochs": 2,
            "batch_size": 16,
            "optimizer": Optimizer(name=optimizer, lr=1e-2),
            "finetuning": Finetuning(lr_extractor=1e-2, lr_head=1e-2),
            "augmentation": Augmentation(),
            "compute": Compute(device="cpu"),
            "importance": refuse,
            "log": io.StringIO(),
        }
        return Context(**(defaults | options))

    return make
