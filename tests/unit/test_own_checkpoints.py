"""Whose weights a checkpoint's are: of this network or of a deeper one, of which of several copies.

The oracles are torchvision's and timm's own networks, and what torch's own strict loading says.
"""

from __future__ import annotations

import itertools
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from swift_debias import cli
from swift_debias.config.schema import Backbone
from swift_debias.errors import UserError
from swift_debias.learning import checkpoint_files, names, networks, tensor_files
from swift_debias.learning.makers import import_torchvision

# --- deeper networks ------------------------------------------------------------------------------

VIT = {"image_size": 32, "patch_size": 16, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
TIMM_VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "num_heads": 2}
TIMM_SWIN = {"img_size": 32, "window_size": 2, "patch_size": 2, "embed_dim": 8}
# one family a line, by depth: within one, names are shared and most shapes too
FAMILIES: list[list[tuple[str, dict[str, Any]]]] = [
    [("resnet18", {}), ("resnet34", {})],
    [("resnet50", {}), ("resnet101", {})],
    [("convnext_tiny", {}), ("convnext_small", {})],
    [("efficientnet_b0", {}), ("efficientnet_b1", {})],
    [("densenet121", {}), ("densenet169", {})],
    [("swin_t", {}), ("swin_s", {})],
    [("torchvision.models:VisionTransformer", VIT | {"num_layers": n}) for n in (2, 3)],
    [("small_resnet", {"width": 4, "blocks": n}) for n in (1, 2, 3)],
    [("timm:vit_tiny_patch16_224", TIMM_VIT | {"depth": n}) for n in (2, 3)],
    [("timm:vit_tiny_patch16_224", TIMM_VIT | {"depth": 2, "init_values": v}) for v in (None, 1)],
    [("timm:vit_tiny_patch16_224", TIMM_VIT | {"depth": 2, "qkv_bias": v}) for v in (False, True)],
    [
        ("timm:swin_tiny_patch4_window7_224", TIMM_SWIN | {"depths": (1, n), "num_heads": (1, 2)})
        for n in (2, 4)
    ],
    [("timm:resnet50", {}), ("timm:seresnet50", {})],
]


def whole(name: str, options: dict[str, Any]) -> nn.Module:
    """The network as its library makes it, with a last layer of two outputs."""
    models = import_torchvision().models
    library, _, plain = name.rpartition(":")
    if library == "timm":
        return pytest.importorskip("timm").create_model(plain, num_classes=2, **options)
    if library:
        return models.VisionTransformer(num_classes=2, **options)
    if name != "small_resnet":
        return models.get_model(name, weights=None, num_classes=2, **options)
    classifier = networks.build(Backbone(architecture=name, options=options), 0)
    layers = dict(classifier.extractor.named_children())
    layers["fc"] = nn.Linear(classifier.head.linear.in_features, 2)
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f[0][0]} {list(f[0][1])[-1:]}")
def test_only_the_networks_own_depth_is_taken(family: list[tuple[str, dict[str, Any]]]) -> None:
    """Every file of a family into every network of it: one fits, whatever stands before names."""
    import_torchvision()
    with torch.device("meta"):  # names and shapes are looked at alone
        files = [dict(whole(*entry).state_dict()) for entry in family]
        made = [networks.build(Backbone(architecture=n, options=o), 0) for n, o in family]
    for (number, classifier), (file, plain), prefix in itertools.product(
        enumerate(made), enumerate(files), ("", "module.net.")
    ):
        state = {prefix + name: value for name, value in plain.items()}
        if number == file:
            found = networks.match_classifier(state, classifier, "file", None)
            assert found.unused == ()
            assert len(found.names) == len(classifier.extractor.state_dict())
            continue
        with pytest.raises(UserError) as caught:
            networks.match_classifier(state, classifier, "file", None)
        said = str(caught.value)
        if file > number and "more tensor" in said:
            assert f"{len(plain) - len(files[number])} more" in said
            new = [n for n in plain if n not in files[number]]
            assert f"the first {prefix}{new[0]}: a deeper" in said
        else:  # shapes differ already, or tensors are missing
            assert file < number or " is (" in said


def test_deeper_files_are_refused_on_both_roads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`baseline:` of a backbone, which prints nothing, and the command."""
    path, out = tmp_path / "own.safetensors", str(tmp_path / "mine")
    save_file(whole("small_resnet", {"width": 8, "blocks": 2}).state_dict(), path)
    command = ["import-classifier", str(path), "--architecture", "small_resnet", "--force"]
    command += ["--size", "32"]
    for blocks in (1, 2, 3):
        backbone = Backbone(architecture="small_resnet", options={"width": 8, "blocks": blocks})
        more = ["--options", "width=8", f"blocks={blocks}", "--out", out]
        if blocks == 2:
            networks.load(path, backbone, own=True, classes=2)
            assert cli.main([*command, *more]) == 0
            continue
        said = "more tensors of the extractor" if blocks == 1 else "no weights for"
        with pytest.raises(UserError, match=said):
            networks.load(path, backbone, own=True, classes=2)
        assert cli.main([*command, *more]) == 2
        assert said in capsys.readouterr().err


def small() -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """A network's file, its extractor's tensors, and the extractor's modules."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.1))
    body = nn.ModuleDict({"layer1": block, "layer2": nn.Conv2d(4, 4, 1), "norm": nn.LayerNorm(4)})
    network = nn.ModuleDict(dict(body.items()) | {"fc": nn.Linear(4, 1)})
    return network.state_dict(), body.state_dict(), {n for n, _ in body.named_modules() if n}


ONES, COUNT, SQUARE = torch.ones(4), torch.tensor(3), torch.ones(4, 6)
HARMLESS: dict[str, dict[str, Tensor]] = {
    "a counter of another version": {"norm.num_batches_tracked": COUNT},
    "a table of positions": {"layer1.0.relative_position_index": SQUARE.long()},
    "a mask of attention": {"layer1.attn_mask": SQUARE},
    "tables of a module without tensors": {"layer1.2.inv_freq": ONES, "layer1.2.freqs": SQUARE},
    "counters of a new module": {"layer1.9.steps": COUNT},
    "a loss": {"criterion.weight": ONES, "criterion.pos_weight": ONES[:1]},
    "an auxiliary head": {"aux1.conv.weight": SQUARE, "aux1.fc.weight": torch.ones(2, 9)},
    "another copy, without its statistics": {"ema.layer1.0.weight": SQUARE, "ema.norm.bias": ONES},
    "a token of the pretext task": {"mask_token": ONES, "layer3": ONES},
}
DEEPER: dict[str, dict[str, Tensor]] = {
    "a block more": {"layer1.3.weight": SQUARE, "layer1.3.bias": ONES},
    "a stage more": {"layer3.weight": SQUARE, "layer3.conv.weight": SQUARE},
    "another module in a block": {"layer1.se.weight": SQUARE, "layer1.se.fc.weight": ONES},
    "a scale in a block": {"layer2.scale.gamma": ONES},
    "a normalization without weights": {"layer1.4.running_mean": ONES},
    "a bias": {"layer1.0.bias": ONES},
}


@pytest.mark.parametrize("prefix", ["", "net.", "module.backbone."])
@pytest.mark.parametrize("inner", ["", "net.", "a.b."])
@pytest.mark.parametrize("what", [*HARMLESS, *DEEPER])
def test_what_an_extractor_leaves_over(what: str, inner: str, prefix: str) -> None:
    """Buffers and what stands beside the extractor are let be; more layers of it are not."""
    state, wanted, modules = small()
    more = (HARMLESS | DEEPER)[what]
    full = {prefix + inner + n: value for n, value in (more | state).items() if n[:3] != "fc."}
    full |= {f"{prefix}{n}": value for n, value in state.items() if n[:3] == "fc."}
    arguments: tuple[Any, ...] = ({inner + n: v for n, v in wanted.items()}, 4, "file", None)
    own = {inner + n for n in modules}
    if what in HARMLESS:
        found = names.match(full, *arguments, own)
        assert set(found.unused) == {prefix + inner + n for n in more}
    else:
        with pytest.raises(UserError, match=f"{len(more)} more tensor.*first {prefix}{inner}"):
            names.match(full, *arguments, own)


@pytest.mark.parametrize("place", ["fc", "fc.1", "layer1.fc", "layer1.4", "layer3", "norm.fc.1"])
def test_a_last_layer_may_stand_anywhere(place: str) -> None:
    """Also inside a module of the extractor, or next in a row; and beside one of another task."""
    state, wanted, modules = small()
    state = {n: value for n, value in state.items() if n[:3] != "fc."}
    last = {f"{place}.weight": torch.ones(2, 4), f"{place}.bias": torch.ones(2)}
    found = names.match(state | last, wanted, 4, "file", None, modules)
    assert (found.head, found.outputs, found.unused) == (place, 2, ())
    other = {f"layer1.{n}": value for n, value in last.items()}
    found = names.match(state | last | other, wanted, 4, "file", place, modules)
    assert (found.head, set(found.unused)) == (place, set(other))


# --- parts that are called as the project's own ---------------------------------------------------

OWN_NAMES = """
from torch import nn
class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        body = [nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.extractor = nn.Sequential(*body)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, outputs))
    def forward(self, x):
        return self.head(self.extractor(x))
def make(outputs=2):
    return Net(outputs)
def body(outputs=2):
    extractor = Net(outputs).extractor
    extractor.out_features = 8
    return extractor
"""


@pytest.mark.parametrize("function", ["make", "body"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_network_whose_parts_are_called_extractor_and_head(
    outputs: int, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It scores as the owner's network does, whichever function makes it."""
    (tmp_path / "namesakes.py").write_text(OWN_NAMES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "namesakes", raising=False)
    torch.manual_seed(outputs)
    network = __import__("namesakes").make(outputs).eval()
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    backbone = Backbone(architecture=f"namesakes:{function}", options={"outputs": outputs})
    images = torch.randn(5, 3, 8, 8)
    classes = max(2, outputs)
    with torch.inference_mode():
        theirs = network(images)
        for given in (classes, None):
            path = tmp_path / "own.safetensors"
            ours = networks.load(path, backbone, own=True, classes=given)(images)
            one = {1: theirs.flatten(), 2: theirs[:, -1] - theirs[:, 0], 3: theirs}[outputs]
            torch.testing.assert_close(ours, one)


# --- files of other kinds -------------------------------------------------------------------------


def other_files() -> Iterator[tuple[str, bytes]]:
    """Bytes that torch.save never wrote."""
    yield "nothing", b""
    yield "text", b"path,score\na.png,0.5\n"
    yield "page", b"<!DOCTYPE html><html>Not found</html>"
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield "pickle", pickle.dumps({"fc.weight": [1.0, 2.0]})
    for number in range(40):
        yield f"random {number}", os.urandom(1 + 37 * number)


@pytest.mark.parametrize("name", ["own.pth", "own.ckpt", "own.bin"])
def test_a_file_that_torch_did_not_write_is_called_so(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for what, data in other_files():
        path.write_bytes(data)
        with pytest.raises(UserError, match="is no PyTorch file") as caught:
            checkpoint_files.read(path)
        said = str(caught.value)
        assert str(path) in said and said.count("\n") == 0 and "run code" not in said, what


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_of_torch_is_called_what_it_is(archive: bool, tmp_path: Path) -> None:
    path, kind = tmp_path / "own.pth", {"_use_new_zipfile_serialization": archive}
    torch.save({"fc.weight": torch.ones(1, 2)}, path, **kind)
    assert list(checkpoint_files.read(path).tensors) == ["fc.weight"]
    torch.save({"fc.weight": torch.ones(1, 2), "net": nn.Linear(1, 2)}, path, **kind)
    with pytest.raises(UserError, match="would run code"):
        checkpoint_files.read(path)


# --- several copies in one file -------------------------------------------------------------------


def cnn(seed: int, blocks: int = 2, outputs: int = 2) -> dict[str, Tensor]:
    """The state of a plain network; of other blocks it is another one."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3)]
    for _ in range(blocks - 1):
        layers += [nn.ReLU(), nn.Conv2d(8, 8, 3)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = {"features": nn.Sequential(*layers), "pool": nn.Sequential(*pool)}
    return nn.Sequential(OrderedDict(**network, fc=nn.Linear(8, outputs))).state_dict()


OWN_CNN = """
from collections import OrderedDict
from torch import nn
def make():
    features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, pool=pool, fc=nn.Linear(8, 2)))
"""


@pytest.fixture
def own_cnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the module of the network that `cnn` gives weights of."""
    (tmp_path / "own_cnn.py").write_text(OWN_CNN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_cnn", raising=False)
    return tmp_path


def imported(*more: str) -> int:
    command = ["import-classifier", "own.pth", "--architecture", "own_cnn:make", "--size", "16"]
    return cli.main([*command, "--out", "mine", "--force", *more])


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torch.optim.swa_utils.AveragedModel calls it."""
    return {f"module.{name}": value for name, value in state.items()} | {"n_averaged": COUNT}


COPIES = [  # keys, how deep they lie, whether the second is an AveragedModel's
    ("model", "model_ema", 0, False),
    ("state_dict", "state_dict_ema", 1, False),
    ("last", "best", 0, False),
    ("fold0", "fold1", 1, True),
    ("net", "swa model", 0, True),
]


@pytest.mark.parametrize(("one", "other", "depth", "average"), COPIES)
def test_of_several_copies_one_has_to_be_chosen(
    one: str,
    other: str,
    depth: int,
    average: bool,
    own_cnn: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The refusal names them and how to choose; the import and the way back keep to the choice."""
    keys, states = (one, other), [cnn(1), averaged(cnn(2)) if average else cnn(2)]
    saved: Any = dict(zip(keys, states, strict=True)) | {"epoch": 3}
    torch.save({"run": saved, "lr": 0.1} if depth else saved, own_cnn / "own.pth")
    assert imported() == 2
    said = capsys.readouterr().err
    assert "--place" in said and said.count("\n") == 1
    assert all(key in said for key in keys) and not (own_cnn / "mine").exists()
    for key, state in zip(keys, states, strict=True):
        place = ["run", key] if depth else [key]
        assert imported("--place", *place) == 0
        found = load_file(own_cnn / "mine" / "classifier.safetensors")
        prefix = "module." if average and state is states[1] else ""
        assert torch.equal(
            found["extractor.features.0.weight"], state[f"{prefix}features.0.weight"]
        )
        found["extractor.features.0.weight"] += 1
        tensor_files.write(own_cnn / "fair.safetensors", found)
        command = ["export-classifier", "fair.safetensors", "--imported", "mine"]
        assert cli.main([*command, "--checkpoint", "own.pth", "--out", "fair.pth", "--force"]) == 0
        back = torch.load(own_cnn / "fair.pth", weights_only=True)
        back = back["run"] if depth else back
        for place_, before in zip(keys, states, strict=True):
            changed = [n for n in before if not torch.equal(before[n], back[place_][n])]
            assert changed == ([f"{prefix}features.0.weight"] if place_ == key else [])
    assert imported("--place", "modle") == 2
    said = capsys.readouterr().err
    assert "modle" in said and keys[0] in said and said.count("\n") == 1


SOLE: dict[str, dict[str, Any]] = {
    "a deeper teacher": {"teacher": cnn(3, blocks=5)},
    "a shallower teacher": {"model": cnn(3, blocks=1)},
    "a discriminator with more tensors": {"model": {f"{i}.weight": SQUARE for i in range(99)}},
    "an optimizer": {"optimizer": {"state": {0: {"exp_avg": ONES}}, "param_groups": [{"lr": 1}]}},
    "a copy that is not finite, of another": {"model": {"fc.weight": ONES / 0}},
    "the encoder alone": {"model": {n: v for n, v in cnn(4).items() if n[:2] != "fc"}},
    "the same again": {"model": cnn(5), "net": cnn(5)},
}


@pytest.mark.parametrize("what", SOLE)
@pytest.mark.parametrize("first", [False, True])
def test_the_only_copy_that_fits_is_taken(
    what: str, first: bool, own_cnn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else the file holds, under whatever likelier name, before it or after it."""
    own, other = {"student": cnn(5)}, SOLE[what]
    torch.save(own | other if first else other | own, own_cnn / "own.pth")
    assert imported() == 0, capsys.readouterr().err
    found = load_file(own_cnn / "mine" / "classifier.safetensors")
    assert torch.equal(found["extractor.features.2.weight"], cnn(5)["features.2.weight"])
    if what != "the same again" and what != "an optimizer":
        assert "own.pth, student: " in capsys.readouterr().out


def test_a_place_of_a_file_without_keys(own_cnn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(cnn(1) | {"ema": cnn(2)}, own_cnn / "own.pth")
    assert imported() == 2
    assert "no key at all, ema" in capsys.readouterr().err
    for place, seed in (([], 1), (["ema"], 2)):
        assert imported("--place", *place) == 0
        found = load_file(own_cnn / "mine" / "classifier.safetensors")
        assert torch.equal(found["extractor.features.0.bias"], cnn(seed)["features.0.bias"])
    save_file(cnn(1), own_cnn / "own.safetensors")
    with pytest.raises(UserError, match=r"--place: .*leave it out"):
        checkpoint_files.read(own_cnn / "own.safetensors", ["model"])


# --- a last layer without a bias ------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_a_last_layer_without_a_bias_gets_one_with_a_word(
    outputs: int, bias: float, own_cnn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the bias is zero the owner's network loads the file as it is."""
    state = {name: value for name, value in cnn(1, outputs=outputs).items() if name != "fc.bias"}
    torch.save(state, own_cnn / "own.pth")
    assert imported() == 0
    found = load_file(own_cnn / "mine" / "classifier.safetensors")
    found["head.1.bias"] += bias
    tensor_files.write(own_cnn / "fair.safetensors", found)
    command = ["export-classifier", "fair.safetensors", "--imported", "mine"]
    capsys.readouterr()
    assert cli.main([*command, "--checkpoint", "own.pth", "--out", "fair.pth", "--force"]) == 0
    back, out = torch.load(own_cnn / "fair.pth", weights_only=True), capsys.readouterr().out
    assert set(back) - set(state) == ({"fc.bias"} if bias else set())
    said = "your last layer fc has no bias, and the debiased one needs it: fc.bias is new"
    assert (said in out) == bool(bias)
    if bias:
        logit = back["fc.bias"][-1] - (back["fc.bias"][0] if outputs == 2 else 0)
        assert float(logit) == pytest.approx(bias)
