"""Classifiers: an extractor (images -> pooled features) and a head (features -> one logit).

The backbones are torchvision's (He et al. 2016; Tan & Le 2019; Huang et al. 2017), two small
networks built from torchvision's own blocks for the demo, or a user's own module. Weights are
safetensors; nothing is unpickled, except torchvision's own ImageNet files by torchvision itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from ..config.schema import Backbone
from ..errors import UserError, of_job
from . import tensor_files
from .finite import refuse_not_finite

UNIT_MASK = "unit_mask"


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its compiled extension does not match torch.

    A CUDA build of torchvision beside a CPU build of torch fails at import with "operator
    torchvision::nms does not exist". None of the compiled operators is used here, so their schemas
    are declared and the rest of torchvision works. Where the extension loads nothing is declared.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise UserError("torchvision is not installed: pip install -r requirements.txt")
    extension = next(Path(spec.origin).parent.glob("_C*.so"), None)
    try:
        if extension is None:
            raise OSError("torchvision has no compiled extension")
        torch.ops.load_library(extension)
    except OSError:
        if not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "FRAGMENT")
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define("nms" + schema)
            library.define("qnms" + schema)
            _DECLARED.append(library)  # the declaration lives as long as this object
    return importlib.import_module("torchvision")


_DECLARED: list[torch.library.Library] = []


class Head(nn.Sequential):
    """Dropout and one linear layer: (B, D) features -> (B,) logits. No sigmoid."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(features, 1))

    @property
    def linear(self) -> nn.Linear:
        """The last layer: weight (1, D), bias (1,)."""
        return cast(nn.Linear, self[1])

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B,)."""
        return super().forward(features).squeeze(-1)


class Classifier(nn.Module):
    """Extractor and head; `forward`: images (B, C, H, W) float32 -> logits (B,)."""

    def __init__(self, extractor: nn.Module, features: int, dropout: float) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = Head(features, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of class 1, shape (B,)."""
        return self.head(self.extractor(images))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.linear.weight.device


# Which of torchvision's weights `weights: imagenet` stands for.
IMAGENET_WEIGHTS = {
    "resnet50": "IMAGENET1K_V2",
    "efficientnet_b3": "IMAGENET1K_V1",
    "densenet121": "IMAGENET1K_V1",
}


def _resnet50(weights: bool) -> tuple[nn.Module, int]:
    models = import_torchvision().models
    network = models.resnet50(weights=IMAGENET_WEIGHTS["resnet50"] if weights else None)
    features = network.fc.in_features
    network.fc = nn.Identity()
    return network, features


def _efficientnet_b3(weights: bool) -> tuple[nn.Module, int]:
    models = import_torchvision().models
    chosen = IMAGENET_WEIGHTS["efficientnet_b3"] if weights else None
    network = models.efficientnet_b3(weights=chosen)
    features = network.classifier[1].in_features
    network.classifier = nn.Identity()
    return network, features


def _densenet121(weights: bool) -> tuple[nn.Module, int]:
    models = import_torchvision().models
    network = models.densenet121(weights=IMAGENET_WEIGHTS["densenet121"] if weights else None)
    features = network.classifier.in_features
    network.classifier = nn.Identity()
    return network, features


def _small_resnet(width: int = 16, blocks: int = 1) -> tuple[nn.Module, int]:
    """ResNet of torchvision's basic blocks with a 3 x 3 stem: four stages, doubling widths."""
    if width < 8:
        # oneDNN (torch 2.13, CPU) writes out of bounds in the backward pass of the strided 1 x 1
        # shortcut if its input has fewer than 8 channels in channels_last
        raise UserError(f"small_resnet needs a width of at least 8, not {width}")
    import_torchvision()
    from torchvision.models.resnet import BasicBlock, conv1x1

    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    channels = width
    for stage in range(4):
        out, stride = width << stage, 1 if stage == 0 else 2
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(conv1x1(channels, out, stride), nn.BatchNorm2d(out))
        first = BasicBlock(channels, out, stride, shortcut)
        rest = [BasicBlock(out, out) for _ in range(blocks - 1)]
        layers[f"layer{stage + 1}"] = nn.Sequential(first, *rest)
        channels = out
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network, channels


def _small_densenet(
    growth_rate: int = 8,
    block_config: tuple[int, ...] = (2, 2, 2, 2),
    num_init_features: int = 16,
) -> tuple[nn.Module, int]:
    """torchvision's DenseNet with few, thin layers."""
    network = import_torchvision().models.DenseNet(
        growth_rate=growth_rate, block_config=block_config, num_init_features=num_init_features
    )
    features = network.classifier.in_features
    network.classifier = nn.Identity()
    return network, features


_TORCHVISION = {
    "resnet50": _resnet50,
    "efficientnet_b3": _efficientnet_b3,
    "densenet121": _densenet121,
}
_SMALL: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "small_resnet": _small_resnet,
    "small_densenet": _small_densenet,
}


def _own(architecture: str, options: dict[str, object]) -> tuple[nn.Module, int]:
    """A user's extractor, `package.module:function`."""
    module_name, _, function = architecture.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"backbone architecture {architecture!r} cannot be loaded: {error}"
        ) from error
    _check_options(architecture, make, options)
    extractor = make(**options)
    features = getattr(extractor, "out_features", None)
    if not isinstance(features, int):
        raise UserError(
            f"backbone architecture {architecture!r}: the extractor it returns needs an attribute "
            "`out_features`, the number of pooled features a picture"
        )
    return extractor, features


def _check_options(
    architecture: str, function: Callable[..., object], options: dict[str, object]
) -> None:
    """Refuse options that the architecture's function does not take."""
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise UserError(f"options of backbone architecture {architecture!r}: {error}") from error


def build(backbone: Backbone, seed: int) -> Classifier:
    """A new classifier; everything that is not loaded is drawn from `seed`.

    Raises:
        UserError: unknown architecture or option, or weights that do not fit it.
    """
    name, options = backbone.architecture, dict[str, object](backbone.options)
    if backbone.weights == "imagenet" and name not in _TORCHVISION:
        raise UserError(f"there are no ImageNet weights of {name!r}; weights: a file, or null")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name in _TORCHVISION:
            _check_options(name, lambda: None, options)
            extractor, features = _TORCHVISION[name](backbone.weights == "imagenet")
        elif name in _SMALL:
            _check_options(name, _SMALL[name], options)
            extractor, features = _SMALL[name](**options)
        elif ":" in name:
            extractor, features = _own(name, options)
        else:
            known = ", ".join([*_TORCHVISION, *_SMALL])
            raise UserError(f"unknown architecture {name!r}; known: {known}, or 'module:function'")
        classifier = Classifier(extractor, features, backbone.dropout)
    if backbone.weights not in (None, "imagenet"):
        _load_extractor(classifier, Path(backbone.weights))
    return classifier


def _load_extractor(classifier: Classifier, path: Path) -> None:
    """Extractor weights from a safetensors file, with or without the prefix `extractor.`."""
    state = {
        name.removeprefix("extractor."): value for name, value in read_state(path, own=True).items()
    }
    heads = ("head.", "fc.", "classifier.")
    fill(
        classifier.extractor,
        {name: value for name, value in state.items() if not name.startswith(heads)},
        path,
        "the weights do not fit the architecture",
    )


def read_state(path: Path, *, own: bool = False) -> dict[str, Tensor]:
    """The tensors of a network's file by name, on the CPU; every number in them is finite.

    Args:
        path: a safetensors file.
        own: a user's, which need not have a digest.

    Raises:
        UserError: the file is missing or damaged, or holds numbers that are not finite.
    """
    if not path.is_file():
        raise UserError(f"no weights file {path}")
    state = tensor_files.read(path, own=own)
    with of_job(str(path)):
        refuse_not_finite(state)
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load a state dictionary that has the module's own names and shapes, and real numbers.

    torch alone would turn integers into weights without a word.

    Args:
        module: changed in place.
        state: its weights and buffers by name.
        path: of the file, for messages.
        what: the beginning of a message.

    Raises:
        UserError: names the first tensor that is missing, unknown, or of another shape or kind.
    """
    for name, wanted in module.state_dict().items():
        if wanted.is_floating_point() and name in state and not state[name].is_floating_point():
            raise UserError(f"{path}: {what}: {name} holds {state[name].dtype}, not real numbers")
    try:
        missing, foreign = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(f"{path}: {what}: {lines[min(1, len(lines) - 1)]}") from error
    if missing:
        raise UserError(f"{path}: {what}: no weights for {len(missing)} tensors, {missing[:3]}")
    if foreign:
        raise UserError(f"{path}: {what}: {len(foreign)} unknown tensors, {foreign[:3]}")


def attach_unit_mask(classifier: Classifier, layer: str, mask: Tensor) -> None:
    """Multiply a layer's output by `mask` from now on; the mask is saved with the weights.

    The mask is a buffer of the layer, so that it is part of the state dictionary, and acts in a
    forward hook, so that the names of all other weights stay.

    Args:
        classifier: changed in place.
        layer: name of a module, e.g. `extractor.bn1`.
        mask: float, broadcastable to the layer's output without its batch dimension.
    """
    module = classifier.get_submodule(layer)
    if UNIT_MASK not in dict(module.named_buffers(recurse=False)):
        module.register_buffer(UNIT_MASK, mask)
        module.register_forward_hook(lambda m, _, output: output * getattr(m, UNIT_MASK))
    else:
        setattr(module, UNIT_MASK, mask)


def save(classifier: nn.Module, path: Path) -> None:
    """Write all weights and buffers; the file appears whole or not at all.

    Raises:
        NotFiniteError: one of them is not finite; nothing is written.
    """
    state = classifier.state_dict()
    with of_job(f"{path} is not written"):
        refuse_not_finite(state)
    tensor_files.write(path, state)


def load(path: Path, backbone: Backbone, *, own: bool = False) -> Classifier:
    """A classifier as it was saved, pruning masks included, on the CPU and in eval mode.

    Args:
        path: its file.
        backbone: its architecture.
        own: it is a user's, which need not have a digest.

    Raises:
        UserError: the file is missing, damaged, or of another architecture, or holds numbers that
            are not finite.
    """
    state = read_state(path, own=own)
    classifier = build(backbone.model_copy(update={"weights": None}), seed=0)
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        if last == UNIT_MASK and layer in dict(classifier.named_modules()):
            attach_unit_mask(classifier, layer, torch.ones_like(value, dtype=torch.float32))
    fill(classifier, state, path, f"not the weights of {backbone.architecture}")
    return classifier.eval()


__all__ = [
    "IMAGENET_WEIGHTS",
    "UNIT_MASK",
    "Classifier",
    "Head",
    "attach_unit_mask",
    "build",
    "fill",
    "import_torchvision",
    "load",
    "read_state",
    "save",
]
