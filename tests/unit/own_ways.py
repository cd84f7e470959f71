"""Classifiers as people have them: each is made elsewhere and saved in its own way.

`WAYS` makes each in a folder: its module, its checkpoint, the arguments of `import-classifier`, and
the owner's own program, plain torch and Pillow. Networks are as small as they can be.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

SIZE = 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MODULE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3),
        )
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(width, outputs)

    def features(self, x):
        return self.body(x).amax((2, 3))

    def forward(self, x):
        return self.classify(self.drop(self.features(x)))


class Extractor(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = Net(width, 1)
        self.net.classify = nn.Identity()
        self.net.drop = nn.Identity()
        self.out_features = width

    def forward(self, x):
        return self.net.features(x)


def whole(width=8, outputs=2):
    return Net(width, outputs)


def extractor(width=8):
    return Extractor(width)
"""


class Way(NamedTuple):
    """One classifier as its owner has it.

    checkpoint: its file. arguments: of the command, beside the checkpoint. scores: the owner's own
    program, images (B, 3, H, W) normalized -> probabilities of class 1. mean, std: of its training.
    """

    checkpoint: Path
    arguments: list[str]
    scores: Callable[[Tensor], Tensor]
    normalization: tuple[Sequence[float], Sequence[float]] = IMAGENET


def pictures(folder: Path, n: int = 12) -> list[Path]:
    """Pictures that differ in colour, contrast and sides."""
    rng = np.random.default_rng(3)
    paths = []
    for i in range(n):
        colour, spread = rng.uniform(20, 230, 3), rng.uniform(5, 60)
        pixels = rng.normal(colour, spread, (40 + i, 70 - i, 3))
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def prepared(paths: Sequence[Path], way: Way, *, stretch: bool = False) -> Tensor:
    """What the owner's program makes of files: centre, resize, scale, normalize."""
    images = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image if stretch else image.crop((left, top, left + side, top + side))
        square = square.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0)
        images.append(torch.tensor(np.asarray(square) / 255.0, dtype=torch.float32))
    batch = torch.stack(images).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in way.normalization)
    return (batch - mean) / std


def reference(paths: Sequence[Path], way: Way, **how: Any) -> pd.DataFrame:
    """The table that shows how the owner's program scores these files."""
    with torch.inference_mode():
        scores = way.scores(prepared(paths, way, **how))
    return pd.DataFrame({"path": [path.name for path in paths], "score": scores.numpy()})


def trained(network: nn.Module, spread: float = 1.0) -> nn.Module:
    """A network whose scores differ from picture to picture, as if it was trained.

    BatchNorm has seen pictures, and the logits of the last layer spread around 0.

    Args:
        network: changed in place.
        spread: of the pixels that it is given.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    colours = torch.randn(16, 3, 1, 1, generator=generator)
    images = spread * (colours + 0.5 * torch.randn(16, 3, SIZE, SIZE, generator=generator))
    last = [m for m in network.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        network.train()(images)
        network.eval()
        if last:
            out = network(images)
            last[-1].weight.mul_(2 / out.std(0).view(-1, 1))
            last[-1].bias.sub_(network(images).mean(0))
    for norm in norms:
        norm.momentum = 0.1
    return network


def module(folder: Path, name: str = "clinic_nets") -> Any:
    """The owner's module, importable."""
    torch.manual_seed(0)
    (folder / f"{name}.py").write_text(MODULE)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def of_class_1(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Probabilities by softmax or sigmoid, whichever the network was made for."""

    def scores(images: Tensor) -> Tensor:
        out = network(images)
        return out.softmax(1)[:, 1] if out.shape[1] == 2 else out.sigmoid()[:, 0]

    return scores


def torchvision_network(outputs: int = 2, last: str = "fc") -> nn.Module:
    """shufflenet, the smallest of torchvision's, with the owner's last layer."""
    from swift_debias.learning.makers import import_torchvision

    torch.manual_seed(0)
    network = import_torchvision().models.shufflenet_v2_x0_5(num_classes=outputs)
    if last != "fc":
        network.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(1024, outputs))
    return trained(network)


def whole_network(folder: Path) -> Way:
    network = trained(module(folder).whole(8, 1))
    save_file(network.state_dict(), folder / "w.safetensors")
    own = ["--architecture", "clinic_nets:whole", "--options", "outputs=1"]
    return Way(folder / "w.safetensors", own, of_class_1(network))


def extractor(folder: Path) -> Way:
    """Its program keeps the last layer elsewhere."""
    body = module(folder).extractor(8)
    layer = nn.Linear(8, 1)
    trained(nn.Sequential(body, layer))
    state = {f"encoder.{name}": value for name, value in body.state_dict().items()}
    state |= {f"classifier.{name}": value for name, value in layer.state_dict().items()}
    body.eval()
    torch.save({"model_state_dict": state, "epoch": 3}, folder / "e.pt")
    program = of_class_1(nn.Sequential(body, layer))
    return Way(folder / "e.pt", ["--architecture", "clinic_nets:extractor"], program)


def two_outputs(folder: Path) -> Way:
    network = torchvision_network(2)
    torch.save(network.state_dict(), folder / "two.pth")
    own = ["--architecture", "shufflenet_v2_x0_5"]
    return Way(folder / "two.pth", own, of_class_1(network))


def own_normalization(folder: Path) -> Way:
    network = trained(module(folder).whole(8, 2), 0.45)
    torch.save(network.state_dict(), folder / "half.pth")
    own = ["--architecture", "clinic_nets:whole", "--mean", *["0.5"] * 3, "--std", *["0.5"] * 3]
    return Way(folder / "half.pth", own, of_class_1(network), HALF)


def data_parallel(folder: Path) -> Way:
    network = torchvision_network(1)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "optimizer": {"state": {}}}, folder / "parallel.pth")
    own = ["--architecture", "shufflenet_v2_x0_5"]
    return Way(folder / "parallel.pth", own, of_class_1(network))


def lightning(folder: Path) -> Way:
    network = trained(module(folder).whole(8, 2))
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    state["criterion.pos_weight"] = torch.ones(1)
    saved = {"state_dict": state, "hyper_parameters": {"lr": 1e-3}, "global_step": 7}
    torch.save(saved, folder / "last.ckpt")
    own = ["--architecture", "clinic_nets:whole"]
    return Way(folder / "last.ckpt", own, of_class_1(network))


def timm_folder(folder: Path) -> Way:
    """As timm pushes it to the hub; half of the precision."""
    import timm

    torch.manual_seed(0)
    network = trained(timm.create_model("mobilenetv3_small_050", num_classes=2), 0.45)
    state = {
        name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()
    }
    network.load_state_dict(state)
    (folder / "hub").mkdir()
    save_file(state, folder / "hub" / "model.safetensors", {"format": "pt"})
    known = {"mean": HALF[0], "std": HALF[1], "input_size": [3, SIZE, SIZE], "crop_pct": 1.0}
    known["interpolation"] = "bilinear"
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 2, "pretrained_cfg": known}
    (folder / "hub" / "config.json").write_text(json.dumps(config))
    return Way(folder / "hub", [], of_class_1(network), HALF)


def other_last_layer(folder: Path) -> Way:
    network = torchvision_network(2, "fc.1")
    torch.save({"net": network.state_dict()}, folder / "other.pth")
    own = ["--architecture", "shufflenet_v2_x0_5"]
    return Way(folder / "other.pth", own, of_class_1(network))


WAYS: dict[str, Callable[[Path], Way]] = {
    "whole network": whole_network,
    "extractor": extractor,
    "two outputs": two_outputs,
    "own normalization": own_normalization,
    ".pth with module.": data_parallel,
    "Lightning .ckpt": lightning,
    "timm folder": timm_folder,
    "other last layer": other_last_layer,
}
