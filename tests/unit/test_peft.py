"""PEFT: which weights are fine-tuned, low-rank updates against plain torch, and what is saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain import CELLS, assert_agrees, cross_entropy, descend, double, eodds, rows_of
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Finetuning, Optimizer
from swift_debias.errors import UserError
from swift_debias.learning import low_rank
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Context
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import ExternalSet
from swift_debias.methods import peft

EPOCHS = 3
RATES = {"extractor": 0.05, "head": 0.2}
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.7, momentum=0.8, weight_decay=0.04),
    "adam": Optimizer(name="adam", lr=0.01, weight_decay=0.04),
}
POINT, LINEAR = 3, 8  # places of the 1 x 1 convolution and of the linear layer


def make_classifier() -> Classifier:
    """Layers of every kind: 3 x 3, BatchNorm, 1 x 1, grouped, GroupNorm, linear, LayerNorm."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        extractor = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 1, stride=2, bias=False),
            nn.GroupNorm(2, 8),
            nn.Conv2d(8, 8, 1, groups=4, bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
            nn.LayerNorm(5),
        )
        return Classifier(extractor, 5, 0.0).eval().requires_grad_(False)


@pytest.fixture
def classifier() -> Classifier:
    return make_classifier()


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    """Cells of four sizes, in a random order."""
    cells = np.random.default_rng(0).permutation(np.repeat(CELLS, (16, 4, 5, 7), axis=0))
    return make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=3)


@pytest.fixture
def make(make_context: Any) -> Any:
    """A context in which an epoch is one step."""

    def make(optimizer: str = "sgd", batchnorm: Any = "eval", **options: Any) -> Context:
        rates = {"lr_extractor": RATES["extractor"], "lr_head": RATES["head"]}
        defaults: dict[str, Any] = {
            "epochs": EPOCHS,
            "batch_size": 64,
            "augmentation": Augmentation(flips=False, transpose=False),
            "finetuning": Finetuning(**rates, batchnorm=batchnorm),
        }
        context = make_context(**(defaults | options))
        context.optimizer = OPTIMIZERS[optimizer]
        return context

    return make


def run(
    classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    return peft.debias(classifier, external, peft.Settings(**options), context)


def moved(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    return {n for n, v in after.state_dict().items() if not torch.equal(v, before[n])}


HEAD = {"head.1.weight", "head.1.bias"}
NORMS = {f"extractor.{layer}.{of}" for layer in (1, 4, 9) for of in ("weight", "bias")}
BIASES = {f"extractor.{layer}.bias" for layer in (0, 1, 4, 8, 9)}
MATRICES = {"extractor.3.weight", "extractor.8.weight"}
ADAPTED = {"norm": NORMS, "bitfit": BIASES, "lora": MATRICES}


@pytest.mark.key("peft.adapt", "peft.prediction_weight", "peft.epochs_of")
@pytest.mark.parametrize(
    ("adapt", "optimizer", "weight", "epochs_of"),
    [("norm", "sgd", 1.0, "both"), ("bitfit", "adam", 0.3, "step"), ("norm", "adam", 0.3, "step")],
)
def test_what_is_adapted_and_nothing_else(
    adapt: str,
    optimizer: str,
    weight: float,
    epochs_of: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    """Descent on these weights alone, on the balanced set."""
    network, before = double(classifier), copy.deepcopy(classifier.state_dict())
    x, y, a = rows_of(external.balanced)

    def loss() -> Tensor:
        z = network(x)
        return weight * cross_entropy(z, y) + (1 - weight) * eodds(z, y, a)

    settings = {"adapt": adapt, "prediction_weight": weight, "epochs_of": epochs_of}
    context = make(optimizer)
    found = run(classifier, external, context, **settings)
    rates = {name: RATES[name.partition(".")[0]] for name in ADAPTED[adapt] | HEAD}
    steps = EPOCHS * (2 if epochs_of == "both" else 1)
    seen = descend(network, [loss] * steps, rates, OPTIMIZERS[optimizer])
    assert_agrees(found, network)
    assert moved(before, found) == ADAPTED[adapt] | HEAD
    assert [row["loss"] for row in context.history] == pytest.approx(seen, rel=1e-4)


class Updated(nn.Module):
    """A network whose two matrices are W + s B A, with A and B as weights of their own."""

    def __init__(self, network: Classifier, downs: list[Tensor], scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.down = nn.ParameterList(downs)
        shapes = [(8, len(downs[0])), (5, len(downs[1]))]
        self.up = nn.ParameterList([torch.zeros(s, dtype=torch.float64) for s in shapes])

    def weight(self, number: int) -> Tensor:
        old = self.network.extractor[(POINT, LINEAR)[number]].weight
        return old + self.scale * (self.up[number] @ self.down[number]).reshape(old.shape)

    def forward(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.network.extractor):
            if place == POINT:
                x = functional.conv2d(x, self.weight(0), stride=2)
            elif place == LINEAR:
                x = functional.linear(x, self.weight(1), layer.bias)
            else:
                x = layer(x)
        return self.network.head(x)


@pytest.mark.key("peft.rank", "peft.scale", "peft.adapt")
@pytest.mark.parametrize(
    ("optimizer", "rank", "scale"), [("sgd", 1, 1.0), ("adam", 2, 2.5), ("sgd", 3, 0.5)]
)
def test_low_rank_updates(
    optimizer: str,
    rank: int,
    scale: float,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A and B by descent from torch's draw and 0; what comes back is W + s B A, of this rank."""
    drawn: list[Tensor] = []
    attach = low_rank.attach

    def watched(*arguments: Any) -> list[nn.Parameter]:
        trained = attach(*arguments)
        drawn.extend(p.detach().clone() for p in trained[::2])
        assert not any(p.any() for p in trained[1::2])
        return trained

    monkeypatch.setattr(low_rank, "attach", watched)
    before, network = copy.deepcopy(classifier.state_dict()), double(classifier)
    settings = {"adapt": "lora", "rank": rank, "scale": scale}
    found = run(classifier, external, make(optimizer), **settings)

    assert [tuple(d.shape) for d in drawn] == [(rank, 6), (rank, 8)]
    assert all(0 < d.abs().max() <= d.shape[1] ** -0.5 for d in drawn)  # as of a linear layer
    x, y, _ = rows_of(external.balanced)
    oracle = Updated(network, [d.double() for d in drawn], scale)
    rates = {"down": RATES["extractor"], "up": RATES["extractor"], "network.head": RATES["head"]}
    descend(oracle, [lambda: cross_entropy(oracle(x), y)] * EPOCHS, rates, OPTIMIZERS[optimizer])
    with torch.no_grad():
        for number, place in enumerate((POINT, LINEAR)):
            network.extractor[place].weight.copy_(oracle.weight(number))
    assert_agrees(found, network)
    assert moved(before, found) == MATRICES | HEAD
    for name in MATRICES:
        update = (found.state_dict()[name] - before[name]).flatten(1)
        assert torch.linalg.matrix_rank(update, rtol=1e-4) == rank


@pytest.mark.parametrize("adapt", ADAPTED)
def test_the_network_is_what_it_was_but_for_its_numbers(
    adapt: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """Classes of layers and the keys of what is saved; no parametrization is left."""
    kinds, keys = [type(m) for m in classifier.modules()], set(classifier.state_dict())
    found = run(classifier, external, make(), adapt=adapt, rank=100)
    assert [type(m) for m in found.modules()] == kinds
    assert set(found.state_dict()) == keys
    assert make_classifier().load_state_dict(found.state_dict())
    assert not any(hasattr(m, "parametrizations") for m in found.modules())


@pytest.mark.key("peft.blocks")
@pytest.mark.parametrize(
    ("blocks", "layers"),
    [
        ((1,), {0, 1, 3, 4, 5, 8, 9}),
        ((1, 0), {0, 1, 3, 4}),
        ((0, 1), {5, 8, 9}),
        ((0, 1, 0), {4, 5}),
        ((0, 0, 0, 0, 0, 0, 1), {9}),
    ],
)
def test_blocks_of_equally_many_layers(
    blocks: tuple[int, ...],
    layers: set[int],
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    before = copy.deepcopy(classifier.state_dict())
    found = run(classifier, external, make(), adapt="bitfit", blocks=blocks)
    expected = {n for n in BIASES if int(n.split(".")[1]) in layers}
    assert moved(before, found) == expected | HEAD


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"blocks": (1, *[0] * 7)}, "8 blocks, but the extractor has 7 layers"),
        ({"blocks": (1, 0, 0, 0)}, r"no linear layers and no 1 x 1 .* in blocks \[1, 0, 0, 0\]"),
        ({"blocks": (1, *[0] * 6), "adapt": "norm"}, "the extractor has no normalization layers"),
    ],
)
def test_nothing_to_adapt_is_refused(
    settings: dict[str, Any], said: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    with pytest.raises(UserError, match=said):
        run(classifier, external, make(), **settings)
    with pytest.raises(ValidationError, match="has no 1"):
        peft.Settings(blocks=(0, 0))


@pytest.mark.parametrize("adapt", ADAPTED)
@pytest.mark.parametrize("batchnorm", ["train", "masked"])
def test_batchnorm_follows_where_its_scale_is_adapted(
    batchnorm: str, adapt: str, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    before = copy.deepcopy(classifier.state_dict())
    found = run(classifier, external, make(batchnorm=batchnorm), adapt=adapt)
    follows = "extractor.1.running_mean" in moved(before, found)
    assert follows == (batchnorm == "train" or adapt == "norm")


def test_a_killed_training_carries_on_to_the_same_bits(
    classifier: Classifier, external: ExternalSet, make: Any, tmp_path: Path
) -> None:
    expected = run(copy.deepcopy(classifier), external, make("adam", batch_size=8)).state_dict()
    for epochs in (1, EPOCHS):
        kept = Checkpoints(tmp_path, "key", 0)
        context = make("adam", batch_size=8, epochs=epochs, checkpoints=kept)
        found = run(copy.deepcopy(classifier), external, context)
    assert "resumed after epoch 1 of 3" in context.log.getvalue()
    assert all(torch.equal(found.state_dict()[name], v) for name, v in expected.items())


def test_attention_is_updated_too() -> None:
    """Queries, keys and values are one matrix; its update acts in train and in eval mode."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    places = [place for module in layer.modules() for place in low_rank.places(module)]
    assert [name for _, name in places] == ["in_proj_weight", "weight", "weight", "weight"]
    x, keys = torch.randn(2, 5, 8), set(layer.state_dict())
    plain = copy.deepcopy(layer)
    trained = low_rank.attach(places, 2, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), plain(x))  # B is 0
    for update in trained:
        nn.init.normal_(update, std=0.3)
    outputs = [layer(x)]
    (outputs[0] * torch.randn(2, 5, 8)).sum().backward()
    assert all(update.grad is not None and update.grad.any() for update in trained)
    low_rank.merge(places)
    outputs += [layer(x), layer.eval()(x)]
    assert set(layer.state_dict()) == keys
    assert not torch.allclose(outputs[0], plain(x), atol=1e-2)
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0])


def test_a_user_s_network_comes_back_without_parametrizations() -> None:
    """Through the front door: class, names and their order; two outputs."""
    import swift_debias as sd

    rng, cells = np.random.default_rng(0), np.arange(64) % 4
    pixels = rng.integers(60, 190, (64, 8, 8, 3)).astype(np.uint8)
    images = sd.ImageSet.from_arrays(pixels, cells // 2, cells % 2)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()  # fmt: skip
    fitted = sd.PEFT(rank=2, epochs=1, lr_extractor=0.1, device="cpu").fit(model, images)
    assert list(fitted.model_.state_dict()) == list(model.state_dict())
    assert [type(m) for m in fitted.model_.modules()] == [type(m) for m in model.modules()]
    assert not torch.equal(fitted.model_[0].weight, model[0].weight)
    assert torch.equal(fitted.model_[0].bias, model[0].bias)


def test_the_grid_of_blocks_is_a_search(external: ExternalSet) -> None:
    """FairTune's masks are points of a grid like any other setting."""
    from swift_debias.config.schema import Method
    from swift_debias.methods import with_settings
    from swift_debias.methods._selection import points

    variant = Method(algorithm="peft", search={"blocks": ([1, 1], [0, 1]), "adapt": ("norm",)})
    tried = [with_settings(variant, point).settings for point in points(variant.search)]
    masks = [methods.load("peft").Settings(**settings).blocks for settings in tried]
    assert masks == [(1, 1), (0, 1)]
