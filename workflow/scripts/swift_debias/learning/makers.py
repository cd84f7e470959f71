"""Making networks: torchvision's, timm's, torchxrayvision's, two small ones, or a user's own.

All come as an extractor, images (B, C, H, W) -> features (B, D). Names of weights stay those of
the library, so that its own files fit. Nothing is unpickled here, except by torchxrayvision, whose
published files are pickles, where its weights are asked for by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..config.schema import Backbone
from ..errors import UserError, nearest
from . import layouts, weight_files
from .architectures import LIBRARIES, MODULES, OURS, library_of, timm_names
from .last_layer import last_registered, replace, split
from .states import fill
from .torchvision_names import WEIGHTS


class Made(NamedTuple):
    """A network without its last layer.

    extractor: images -> features. features: their number. head: the name of the layer that was
    taken off; None: there was none, or the library had not made one. dropout: right before it.
    """

    extractor: nn.Module
    features: int
    head: str | None = None
    dropout: float = 0.0


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


def optional(module: str, extra: str) -> ModuleType:
    """Import a library that only some networks need.

    Args:
        module: its name.
        extra: what brings it: an extra of this project.

    Raises:
        UserError: it is not installed; says what to do.
    """
    import_torchvision()  # it imports torchvision itself
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} cannot be imported ({error}): pip install 'swift-debias[{extra}]'"
        ) from error


def make(backbone: Backbone) -> Made:
    """The network of a configuration's entry; its weights are drawn, or published ones.

    Raises:
        UserError: unknown architecture or option, or published weights that cannot be had.
    """
    library, name = library_of(backbone.architecture)
    published = backbone.weights in weight_files.PUBLISHED
    if published and library in ("small", "own"):
        raise UserError(
            f"there are no ImageNet weights of {backbone.architecture!r}; weights: a file, or null"
        )
    maker: Callable[[str, Backbone, bool], Made] = {
        "small": _small,
        "lite0": _lite0,
        "torchvision": _torchvision,
        "timm": _timm,
        "xrv": _xrv,
        "own": _own,
    }[library]
    return maker(name, backbone, published)


def _torchvision(name: str, backbone: Backbone, published: bool) -> Made:
    """torchvision's, whose last layer is a linear one that nothing follows."""
    models = import_torchvision().models
    options = dict(backbone.options)
    if name in ("googlenet", "inception_v3"):
        if published and not options.get("transform_input"):
            raise UserError(
                f"{name}: its ImageNet weights need options: {{transform_input: true}}, which is "
                "part of the network and has to stay when it is loaded"
            )
        options |= {"aux_logits": False, "init_weights": True}
    network = _called(backbone, lambda **o: models.get_model(name, weights=None, **o), options)
    last = last_registered(network)
    features = cast(nn.Linear, network.get_submodule(last.name)).in_features
    dropout = (
        0.0 if last.dropout is None else cast(nn.Dropout, network.get_submodule(last.dropout)).p
    )
    for layer in filter(None, (last.dropout, last.name)):
        replace(network, layer, nn.Identity())
    if backbone.channels != 3:
        _other_channels(network, backbone.channels)
    if published:
        weight_files.load(network, weight_files.find(WEIGHTS[name], weight_files.torchvision(name)))
    return Made(network, features, last.name, dropout)


def _other_channels(network: nn.Module, channels: int) -> None:
    """Give a network another number of input channels: a new first convolution."""
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    replace(network, name, new)


def _timm(name: str, backbone: Backbone, published: bool) -> Made:
    """timm's, which makes extractors itself (`num_classes=0`)."""
    known = timm_names()
    plain = name.partition(".")[0]
    if known and plain not in known:
        raise UserError(unknown(backbone.architecture))
    if not known and name == backbone.architecture:
        raise UserError(f"{unknown(name)}; a name of timm's needs timm, which is not installed")
    timm = optional("timm", "timm")
    options: dict[str, Any] = {"num_classes": 0, "in_chans": backbone.channels}
    if published:
        file = weight_files.find(f"timm-{name}.safetensors", weight_files.timm(timm, name))
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
    network = _called(
        backbone, lambda **o: timm.create_model(name, **options, **o), dict(backbone.options)
    )
    features = getattr(network, "head_hidden_size", None) or getattr(network, "num_features", 0)
    return Made(network, cast(int, features))


def _lite0(_name: str, backbone: Backbone, published: bool) -> Made:
    """EfficientNet-Lite0; its ImageNet weights come in a Python package (Apache 2.0).

    timm's network has the package's tensors in the package's order, under other names.
    """
    made = _timm("tf_efficientnet_lite0", backbone, False)
    if published:
        path = weight_files.lite0()
        names = list(made.extractor.state_dict())
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        state = dict(zip(names, theirs.values(), strict=False))  # the last two are the old head's
        fill(made.extractor, state, path, f"not the weights of {backbone.architecture}")
    return made


def _xrv(name: str, backbone: Backbone, published: bool) -> Made:
    """torchxrayvision's DenseNet: `xrv:densenet`, or the name of a file of weights."""
    xrv = optional("torchxrayvision", "xrv")
    known = [n for n in xrv.models.model_urls if n.startswith("densenet121-res")]
    if name not in ("densenet", *known):
        raise UserError(
            f"no network {backbone.architecture!r}{nearest(name, ['densenet', *known])}"
        )
    options: dict[str, Any] = {"in_channels": backbone.channels}
    if published:
        if name == "densenet":
            raise UserError(f"xrv:densenet has no weights of its own{nearest(name, known)}")
        url = xrv.models.model_urls[name]["weights_url"]
        file = weight_files.find(Path(url).name, url)
        options = {"weights": name, "cache_dir": str(file.parent)}
    network = _called(
        backbone, lambda **o: xrv.models.DenseNet(**options, **o), dict(backbone.options)
    )
    # sizes and ranges of pixels are the configuration's affair
    network.__dict__.pop("input_resolution", None)
    network.register_buffer("op_threshs", None)
    extractor, linear, _ = split(network, last_registered(network, "classifier"))
    return Made(extractor, linear.in_features, "classifier")


def _small(name: str, backbone: Backbone, _published: bool) -> Made:
    """One of the demo's."""
    make: Callable[..., tuple[nn.Module, int]]
    make = _small_resnet if name == "small_resnet" else _small_densenet
    _check_options(backbone.architecture, make, backbone.options)
    return Made(*make(**backbone.options))


def _own(_name: str, backbone: Backbone, _published: bool) -> Made:
    """A user's extractor, or whole network, which is taken apart."""
    make = own_function(backbone.architecture)
    _check_options(backbone.architecture, make, backbone.options)
    network = own_network(backbone.architecture, make, backbone.options)
    layouts.watch(network)
    features = getattr(network, "out_features", None)
    if isinstance(features, int):
        return Made(network, features)
    try:
        last = last_registered(network, backbone.head)
    except UserError as error:
        raise UserError(
            f"backbone architecture {backbone.architecture!r}: {error}; or, of an extractor, give "
            "it an attribute `out_features`, the number of pooled features a picture"
        ) from error
    extractor, linear, dropout = split(network, last)
    return Made(extractor, linear.in_features, last.name, dropout)


def own_function(architecture: str) -> Callable[..., Any]:
    """What `package.module:function` names; also beside the configuration's files.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, function = architecture.partition(":")
    beside = [f for f in os.environ.get(MODULES, "").split(os.pathsep) if f and f not in sys.path]
    sys.path += beside  # last: nothing that is installed is hidden
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except Exception as error:  # anybody's module
        said = " ".join(str(error).split())
        if not isinstance(error, ImportError | AttributeError | ValueError):
            said = f"{type(error).__name__}: {said}"
        raise UserError(f"architecture {architecture!r} cannot be loaded: {said}") from error
    return found


def own_network(
    architecture: str, make: Callable[..., Any], options: Mapping[str, Any]
) -> nn.Module:
    """The network that a user's function returns.

    Raises:
        UserError: it raises something, which is told in one line, or returns something else.
    """
    try:
        network = make(**options)
    except UserError:
        raise
    except Exception as error:  # anybody's function
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"architecture {architecture!r}: {said}") from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"architecture {architecture!r} returns a {type(network).__name__}, not a "
            "torch.nn.Module"
        )
    return network


def unknown(architecture: str) -> str:
    """What is said of a name that nobody knows."""
    names = sorted({*WEIGHTS, *OURS, *timm_names()})
    near = nearest(architecture.partition(":")[2] or architecture, names)
    if "did you mean" not in near:
        libraries = " or ".join(f"'{library}:NAME'" for library in LIBRARIES)
        near = f"; known: torchvision's such as resnet50, {', '.join(OURS)}, {libraries}"
    return f"unknown architecture {architecture!r}{near}, or 'package.module:function'"


def _called(backbone: Backbone, make: Callable[..., nn.Module], options: Any) -> nn.Module:
    """A library's network; what it says of wrong options in one line."""
    try:
        return make(**options)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"options of backbone architecture {backbone.architecture!r}: {said}"
        ) from error


def _check_options(architecture: str, function: Callable[..., object], options: Any) -> None:
    """Refuse options that the architecture's function does not take."""
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise UserError(f"options of backbone architecture {architecture!r}: {error}") from error


class _Shortcut(nn.Conv2d):
    """A strided 1 x 1 convolution: the pixels it looks at, then one without a stride.

    oneDNN (torch 2.13, CPU) writes out of bounds in the backward pass of a strided one whose input
    has fewer than 16 channels in channels_last and 56 pixels a side or more.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(channels, out, 1, bias=False)
        self.every = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., :: self.every, :: self.every])


def _small_resnet(width: int = 16, blocks: int = 1, pool: bool = False) -> tuple[nn.Module, int]:
    """ResNet of torchvision's basic blocks with a 3 x 3 stem: four stages, doubling widths.

    pool: the stem ends in a max-pooling of stride 2, as torchvision's own does.
    """
    if width < 1:
        raise UserError(f"small_resnet needs a width of at least 1, not {width}")
    import_torchvision()
    from torchvision.models.resnet import BasicBlock

    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    if pool:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    channels = width
    for stage in range(4):
        out, stride = width << stage, 1 if stage == 0 else 2
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(_Shortcut(channels, out, stride), nn.BatchNorm2d(out))
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
