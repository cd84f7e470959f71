"""Folders of timm's, as on the Hugging Face hub: what timm makes of them is what is imported.

The oracle is timm: `create_model("local-dir:folder")` and `create_transform`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from swift_debias import cli
from swift_debias.config.schema import Backbone, Images
from swift_debias.data.decode import crop_square
from swift_debias.learning import networks
from swift_debias.learning.makers import import_torchvision

import_torchvision()  # before a library that imports it unguarded
timm = pytest.importorskip("timm")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "as published": ("resnet10t", {}),
    "max pooling": ("resnet10t", {"global_pool": "max"}),
    "two poolings": ("mobilenetv3_small_050", {"global_pool": "catavgmax"}),
    "another activation": ("resnet10t", {"act_layer": "gelu", "drop_rate": 0.25}),
    "one channel": ("resnet10t", {"in_chans": 1}),
    "another output stride": ("resnet10t", {"output_stride": 16}),
    "a list": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}),
    "a null": ("resnet10t", {"global_pool": "max", "block_args": None}),
    "a transformer": ("vit_tiny_patch16_224", VIT | {"global_pool": "avg"}),
}
KNOWN = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}


def folder(at: Path, name: str, arguments: dict[str, Any], **known: Any) -> Path:
    """As timm's save_for_hf writes it."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=2, **arguments).eval()
    for norm in network.modules():  # scores that depend on what is pooled
        if isinstance(norm, torch.nn.BatchNorm2d) and norm.weight is not None:
            torch.nn.init.normal_(norm.weight, 1, 0.2)
            torch.nn.init.normal_(norm.bias, 0, 0.2)
    at.mkdir()
    save_file(network.state_dict(), at / "model.safetensors", {"format": "pt"})
    config = {"architecture": name, "num_classes": 2, "pretrained_cfg": KNOWN | known}
    if pool := timm.models._hub._get_global_pool(network):
        config["global_pool"] = pool
    if arguments:
        config["model_args"] = arguments
    (at / "config.json").write_text(json.dumps(config))
    return at


def imported(at: Path, *more: str) -> int:
    out = ["--out", str(at.parent / "mine"), "--force"]
    return cli.main(["import-classifier", str(at), *out, *more])


def entry(at: Path) -> tuple[Backbone, Images]:
    found = yaml.safe_load((at.parent / "mine" / "backbone.yaml").read_text())
    return Backbone(**found["backbones"]["mine"]), Images(**found["tasks"]["my_task"]["images"])


@pytest.mark.parametrize("what", NETWORKS)
def test_the_network_is_timms_own(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the configuration's road: what backbone.yaml says gives the owner's logits."""
    name, arguments = NETWORKS[what]
    at = folder(tmp_path / "hub", name, arguments)
    grey = ["--mean", "0.5", "--std", "0.5"] if "in_chans" in arguments else []
    assert imported(at, *grey) == 0, capsys.readouterr().err
    backbone, _ = entry(at)
    theirs = timm.create_model(f"local-dir:{at}", pretrained=True).eval()
    assert backbone.dropout == arguments.get("drop_rate", 0)
    ours = networks.load(Path(str(backbone.baseline)), backbone, own=True)
    images = torch.randn(3, arguments.get("in_chans", 3), 32, 32)
    with torch.inference_mode():
        logits = theirs(images)
        torch.testing.assert_close(ours(images), logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("said", ["avg", "max"])
@pytest.mark.parametrize("made", ["avg", "max"])
def test_a_pooling_that_differs_is_refused(
    said: str, made: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`global_pool` alone, which timm notes and does not read; the option that is named helps."""
    at = folder(tmp_path / "hub", "resnet10t", {"global_pool": made})
    config = json.loads((at / "config.json").read_text())
    config |= {"global_pool": said, "model_args": {}}
    (at / "config.json").write_text(json.dumps(config))
    assert imported(at) == (0 if said == "avg" else 2)
    if said == "max":
        error = capsys.readouterr().err
        assert "--options global_pool=max" in error and error.count("\n") == 1
        assert imported(at, "--options", "global_pool=max") == 0


PREPARED: list[dict[str, Any]] = [
    {},
    {"crop_mode": "squash"},
    {"crop_mode": "center", "crop_pct": 0.5, "interpolation": "bilinear"},
    {"crop_pct": None},
    {"crop_mode": None, "interpolation": "bilinear", "mean": None, "std": None},
    {"crop_mode": "squash", "interpolation": "nearest"},
]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("known", PREPARED)
def test_images_are_prepared_as_timm_does(
    known: dict[str, Any], flat: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that is no square, with timm's own transform; `flat` as old versions wrote it."""
    at = folder(tmp_path / "hub", "resnet10t", {}, **known)
    config = json.loads((at / "config.json").read_text())
    config["pretrained_cfg"] = {k: v for k, v in config["pretrained_cfg"].items() if v is not None}
    if flat:
        config |= config.pop("pretrained_cfg") | {"num_features": 512}
        config.pop("global_pool")
    (at / "config.json").write_text(json.dumps(config))
    assert imported(at) == 0, capsys.readouterr().err
    _, images = entry(at)
    network = timm.create_model(f"local-dir:{at}", pretrained=True)
    theirs = timm.data.resolve_data_config(model=network)
    assert (images.mean, images.std) == (tuple(theirs["mean"]), tuple(theirs["std"]))
    assert images.interpolation == theirs["interpolation"]
    down, right = np.mgrid[:96, :160] / 96
    pixels = np.stack([128 + 90 * np.sin(5 * right), 200 * down, 120 * right], 2)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    prepared = timm.data.create_transform(**theirs)(picture)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (images.mean, images.std))

    def gap(fit: str, share: float) -> float:
        ways = images.model_copy(update={"fit": fit, "crop_share": share})
        square = torch.tensor(np.asarray(crop_square(picture, ways)) / 255).permute(2, 0, 1)
        return float(((square - mean) / std - prepared).abs().mean())

    found = gap(images.fit, images.crop_share)
    ways = [("crop", 1.0), ("crop", 0.875), ("crop", 0.5), ("stretch", 1.0)]
    assert found < 0.05  # sides and cuts are rounded to whole pixels
    assert found < 0.6 * sorted(gap(*way) for way in ways)[1]


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "crop_mode 'border'": ({"crop_mode": "border"}, ["--fit", "stretch"]),
    "crop_mode 'squash'": ({"crop_mode": "squash", "crop_pct": 0.875}, ["--fit", "crop"]),
    "32 x 64 pixels": ({"input_size": [3, 32, 64]}, ["--size", "32"]),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_no_task_can_prepare_is_refused(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it says to give is taken."""
    known, advice = REFUSED[said]
    at = folder(tmp_path / "hub", "resnet10t", {}, **known)
    assert imported(at) == 2
    error = capsys.readouterr().err
    assert said in error and advice[0] in error and "config.json" in error
    assert error.count("\n") == 1
    assert imported(at, *advice) == 0


def test_what_is_given_goes_before(tmp_path: Path) -> None:
    """Also a network of another library of the same name, which has its own arguments."""
    at = folder(tmp_path / "hub", "resnet10t", {"drop_rate": 0.25}, crop_pct=0.9)
    given = ["--dropout", "0.1", "--fit", "stretch", "--interpolation", "lanczos", "--size", "64"]
    assert imported(at, *given, "--architecture", "timm:resnet10t") == 0
    backbone, images = entry(at)
    assert (backbone.dropout, backbone.options) == (0.1, {})
    assert (images.fit, images.crop_share, images.size) == ("stretch", 1, 64)
    assert images.interpolation == "lanczos"
    torchvision = import_torchvision().models.resnet18(num_classes=2)
    save_file(torchvision.state_dict(), at / "model.safetensors")
    config = {"architecture": "resnet18", "model_args": {"act_layer": "gelu"}}
    (at / "config.json").write_text(json.dumps(config | {"pretrained_cfg": KNOWN}))
    assert imported(at, "--architecture", "resnet18") == 0
    assert entry(at)[0].architecture == "resnet18" and entry(at)[0].options == {}
