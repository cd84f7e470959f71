"""Classifiers: architectures against torchvision, weights through files, users' own modules."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.errors import UserError
from swift_debias.learning import networks
from swift_debias.learning.networks import Classifier

SMALL_RESNET = Backbone(architecture="small_resnet", options={"width": 8})
SMALL_DENSENET = Backbone(
    architecture="small_densenet",
    options={"growth_rate": 4, "block_config": (1, 1), "num_init_features": 4},
)


def pixels(n: int = 2, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def state_of(classifier: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(classifier.state_dict())


def assert_same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.key("backbone.architecture")
@pytest.mark.parametrize(
    ("architecture", "last", "features"),
    [
        ("resnet50", "fc", 2048),
        ("efficientnet_b3", "classifier", 1536),
        ("densenet121", "classifier", 1024),
    ],
)
def test_features_are_torchvisions(architecture: str, last: str, features: int) -> None:
    """What enters torchvision's own last layer, for the same random weights."""
    models = networks.import_torchvision().models
    classifier = networks.build(Backbone(architecture=architecture), seed=3).eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = getattr(models, architecture)(weights=None).eval()
    seen: list[Tensor] = []
    getattr(theirs, last).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        theirs(pixels())
        found = classifier.extractor(pixels())
    assert found.shape == (2, features)
    torch.testing.assert_close(found, seen[0])


@pytest.mark.parametrize("backbone", [SMALL_RESNET, SMALL_DENSENET])
def test_small_networks_give_logits_and_gradients(backbone: Backbone) -> None:
    classifier = networks.build(backbone, seed=0).train()
    logits = classifier(pixels(4))
    assert logits.shape == (4,)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in classifier.parameters())


def test_output_is_the_linear_layer_without_sigmoid(
    make_classifier: Callable[..., Classifier],
) -> None:
    classifier = make_classifier()
    with torch.no_grad():
        features = classifier.extractor(pixels())
        expected = features @ classifier.head.linear.weight[0] + classifier.head.linear.bias
        torch.testing.assert_close(classifier(pixels()), expected)
        classifier.head.linear.bias.fill_(-50)
        assert (classifier(pixels()) < -10).all()


def test_build_draws_from_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (networks.build(SMALL_RESNET, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same_state(one.state_dict(), same.state_dict())
    assert not torch.equal(one.head.linear.weight, other.head.linear.weight)


@pytest.mark.parametrize("backbone", [SMALL_RESNET, SMALL_DENSENET])
def test_save_and_load(backbone: Backbone, tmp_path: Path) -> None:
    classifier = networks.build(backbone, seed=1)
    classifier.train()(pixels(4))  # moves the BatchNorm statistics, which are saved too
    path = tmp_path / "model.safetensors"
    networks.save(classifier, path)
    loaded = networks.load(path, backbone)
    assert_same_state(loaded.state_dict(), classifier.state_dict())
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(pixels()), classifier.eval()(pixels()))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_unit_mask_acts_is_saved_and_can_be_replaced(tmp_path: Path) -> None:
    classifier = networks.build(SMALL_RESNET, seed=1).eval()
    plain = state_of(classifier)
    mask = torch.ones(8, 16, 16)
    mask[1, 3, 5] = mask[2] = 0
    networks.attach_unit_mask(classifier, "extractor.bn1", torch.zeros(8, 1, 1))
    networks.attach_unit_mask(classifier, "extractor.bn1", mask)
    networks.save(classifier, tmp_path / "masked.safetensors")
    loaded = networks.load(tmp_path / "masked.safetensors", SMALL_RESNET)

    seen: list[Tensor] = []
    layer = loaded.get_submodule("extractor.bn1")
    layer.register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
    with torch.inference_mode():
        assert torch.equal(loaded(pixels()), classifier(pixels()))
    assert torch.equal(seen[0] == 0, (mask == 0).expand_as(seen[0]))
    names = set(loaded.state_dict()) - set(plain)
    assert names == {f"extractor.bn1.{networks.UNIT_MASK}"}


def test_unit_mask_survives_a_copy() -> None:
    classifier = networks.build(SMALL_RESNET, seed=1).eval()
    networks.attach_unit_mask(classifier, "extractor.bn1", torch.ones(8, 1, 1))
    twin = copy.deepcopy(classifier)
    networks.attach_unit_mask(twin, "extractor.bn1", torch.zeros(8, 1, 1))
    with torch.inference_mode():
        assert not torch.equal(twin(pixels()), classifier(pixels()))


# --- weights from files ---------------------------------------------------------------------------


@pytest.mark.key("backbone.weights")
@pytest.mark.parametrize("prefix", ["", "extractor."])
def test_extractor_weights_from_a_file(prefix: str, tmp_path: Path) -> None:
    source = networks.build(SMALL_RESNET, seed=1)
    path = tmp_path / "extractor.safetensors"
    state = {prefix + name: value for name, value in source.extractor.state_dict().items()}
    save_file(state, path)
    loaded = networks.build(SMALL_RESNET.model_copy(update={"weights": str(path)}), seed=2)
    assert_same_state(loaded.extractor.state_dict(), source.extractor.state_dict())
    assert not torch.equal(loaded.head.linear.weight, source.head.linear.weight)


def weights_file(path: Path, change: Callable[[dict[str, Tensor]], object]) -> Backbone:
    state = dict(networks.build(SMALL_RESNET, seed=1).extractor.state_dict())
    change(state)
    save_file(state, path)
    return SMALL_RESNET.model_copy(update={"weights": str(path)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "no weights for 1 tensors"),
        (lambda state: state.update(extra=torch.ones(2)), "1 unknown tensors"),
        (lambda state: state.update({"conv1.weight": torch.ones(2, 2)}), "do not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    backbone = weights_file(tmp_path / "weights.safetensors", change)
    with pytest.raises(UserError, match=message):
        networks.build(backbone, seed=0)


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights file"):
        networks.load(tmp_path / "absent.safetensors", SMALL_RESNET)
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(UserError, match="not a safetensors file"):
        networks.load(tmp_path / "torn.safetensors", SMALL_RESNET, own=True)
    with pytest.raises(UserError, match=r"torn\.safetensors is damaged"):
        networks.load(tmp_path / "torn.safetensors", SMALL_RESNET)
    networks.save(networks.build(SMALL_DENSENET, seed=0), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not the weights of small_resnet"):
        networks.load(tmp_path / "other.safetensors", SMALL_RESNET)


# --- users' own architectures ---------------------------------------------------------------------

OWN = """
from torch import nn

def pooled(width=3):
    layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers.out_features = width
    return layers

def nameless():
    return nn.Flatten()
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "clinic_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "clinic_networks"


def test_imagenet_weights_of_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="no ImageNet weights of 'small_resnet'"):
        networks.build(SMALL_RESNET.model_copy(update={"weights": "imagenet"}), seed=0)


def test_own_architecture(own_module: str, tmp_path: Path) -> None:
    backbone = Backbone(architecture=f"{own_module}:pooled", options={"width": 5})
    classifier = networks.build(backbone, seed=0).eval()
    assert classifier.head.linear.in_features == 5
    networks.save(classifier, tmp_path / "own.safetensors")
    loaded = networks.load(tmp_path / "own.safetensors", backbone)
    with torch.inference_mode():
        assert torch.equal(loaded(pixels()), classifier(pixels()))


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("resnet51", {}, "unknown architecture 'resnet51'; did you mean 'resnet5"),
        ("absent_module:make", {}, "cannot be loaded"),
        ("clinic_networks:absent", {}, "cannot be loaded"),
        ("clinic_networks:nameless", {}, "out_features"),
        ("clinic_networks:pooled", {"depth": 3}, "depth"),
        ("small_resnet", {"depth": 3}, "depth"),
        ("resnet50", {"width": 3}, "width"),
        ("small_resnet", {"width": 0}, "at least 1"),
    ],
)
def test_architectures_that_cannot_be_built_are_refused(
    architecture: str, options: dict[str, int], message: str, own_module: str
) -> None:
    with pytest.raises(UserError, match=message):
        networks.build(Backbone(architecture=architecture, options=options), seed=0)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_the_settings(dropout: float) -> None:
    classifier = networks.build(Backbone(architecture="small_resnet", dropout=dropout), seed=0)
    kept = classifier.head[0].train()(torch.ones(1, 10_000))
    assert float((kept == 0).double().mean()) == pytest.approx(dropout, abs=0.03)


def test_a_pooled_stem_is_torchvisions_and_halves_every_stage() -> None:
    """The weights are the same; the first stage sees what torch's max-pooling leaves."""
    plain, pooled = (
        networks.build(Backbone(architecture="small_resnet", options={"width": 8, "pool": p}), 0)
        for p in (False, True)
    )
    assert_same_state(plain.state_dict(), pooled.state_dict())
    sides: dict[str, int] = {}
    for name, module in pooled.eval().extractor.named_children():
        module.register_forward_hook(lambda _m, _i, o, name=name: sides.update({name: o.shape[-1]}))
    logits = pooled(pixels())
    assert [sides[f"layer{stage}"] for stage in (1, 2, 3, 4)] == [8, 4, 2, 1]
    stem = plain.eval().extractor[:3](pixels())
    rest = nn.functional.max_pool2d(stem, 3, stride=2, padding=1)
    for layer in list(plain.extractor)[3:]:
        rest = layer(rest)
    assert torch.equal(logits, plain.head(rest))


WIDER = [(4, 64), (8, 128)]


@pytest.mark.parametrize(
    ("width", "side"), [(1, 64), *(pytest.param(*sizes, marks=pytest.mark.ci) for sizes in WIDER)]
)
def test_a_narrow_network_in_channels_last_is_that_of_rows(width: int, side: int) -> None:
    """In a process of its own: strided 1 x 1 convolutions of few channels may end it."""
    code = f"""
import torch
from swift_debias.config.schema import Backbone
from swift_debias.learning import networks

torch.set_num_threads(1)
images = torch.randn(8, 3, {side}, {side}, generator=torch.Generator().manual_seed(0))
grads = []
for layout in (torch.contiguous_format, torch.channels_last):
    options = {{"width": {width}}}
    network = networks.build(Backbone(architecture="small_resnet", options=options, dropout=0), 0)
    network = network.to(memory_format=layout)
    network(images.contiguous(memory_format=layout)).square().mean().backward()
    grads.append([p.grad for p in network.parameters()])
for one, other in zip(*grads):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
