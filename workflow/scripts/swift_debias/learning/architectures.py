"""The networks that a configuration can name, with their options; imports nothing heavy.

`makers.py` builds them. They stand apart from it since a configuration is checked where torch is
not installed. What `timm` knows is read from its source, which is not imported either.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from ..config.base import Count, Flag, Integer, Model, Number
from .torchvision_names import FAMILIES

# Words before the colon of an architecture that are no module of a user's.
LIBRARIES = ("timm", "xrv")

MODULES = "SWIFT_DEBIAS_MODULES"  # environment variable: folders of the configuration's files


class NoOptions(Model):
    """A network that is taken as it is."""


class AnyOptions(Model):
    """Options that only the library that builds the network knows."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        return data


class SmallResnet(Model):
    """Four stages of basic blocks."""

    width: Integer = Field(16, ge=8, le=4096)
    blocks: Integer = Field(1, ge=1, le=100)
    pool: Flag = False


class SmallDensenet(Model):
    """torchvision's DenseNet with few, thin layers."""

    growth_rate: Integer = Field(8, ge=1, le=1024)
    block_config: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)] = (2, 2, 2, 2)
    num_init_features: Integer = Field(16, ge=1, le=4096)


Rate = Annotated[Number, Field(ge=0, lt=1)]  # of dropout


class Dropout(Model):
    """torchvision's networks that have dropout among their last layers."""

    dropout: Rate | None = None


class Stochastic(Dropout):
    """Those that skip blocks at random."""

    stochastic_depth_prob: Rate | None = None


class Attention(Dropout):
    """Vision transformers; pictures have exactly `image_size` pixels a side."""

    image_size: Count = 224
    attention_dropout: Rate | None = None
    representation_size: Count | None = None


class Windows(Dropout):
    """Swin transformers."""

    attention_dropout: Rate | None = None


class Maxvit(Model):
    """MaxViT; `input_size` is height and width."""

    input_size: tuple[Count, Count] = (224, 224)


class Convnext(Model):
    """ConvNeXt."""

    stochastic_depth_prob: Rate | None = None
    layer_scale: Number | None = None


class Resnet(Model):
    """ResNet, ResNeXt and Wide ResNet."""

    zero_init_residual: Flag = False
    groups: Count | None = None
    width_per_group: Count | None = None
    replace_stride_with_dilation: tuple[Flag, Flag, Flag] | None = None


class Densenet(Model):
    """DenseNet."""

    bn_size: Count | None = None
    drop_rate: Rate | None = None
    memory_efficient: Flag = False


class Mobilenet(Dropout):
    """MobileNet V2."""

    width_mult: Annotated[Number, Field(gt=0, le=100)] | None = None


class Mobilenet3(Mobilenet):
    """MobileNet V3."""

    reduced_tail: Flag = False
    dilated: Flag = False


class Inception(Dropout):
    """GoogLeNet and Inception v3, without their auxiliary classifiers.

    To ImageNet weights belongs `transform_input: true`, which torchvision sets by itself.
    """

    transform_input: Flag = False


OPTIONS: dict[str, type[Model]] = {  # family -> options
    "alexnet": Dropout,
    "convnext": Convnext,
    "densenet": Densenet,
    "efficientnet": Stochastic,
    "googlenet": Inception,
    "inception": Inception,
    "maxvit": Maxvit,
    "mnasnet": Dropout,
    "mobilenetv2": Mobilenet,
    "mobilenetv3": Mobilenet3,
    "regnet": NoOptions,
    "resnet": Resnet,
    "shufflenetv2": NoOptions,
    "swin_transformer": Windows,
    "vgg": Dropout,
    "vision_transformer": Attention,
}

OURS: dict[str, type[Model]] = {
    "small_resnet": SmallResnet,
    "small_densenet": SmallDensenet,
    "efficientnet_lite0": NoOptions,
}


class Networks(Mapping[str, type[Model]]):
    """Architecture -> model of its options: torchvision's, ours, and timm's bare names.

    timm is looked into only for a name that is none of the others.
    """

    def __init__(self) -> None:
        self.known = {n: OPTIONS[family] for family, names in FAMILIES.items() for n in names}
        self.known |= OURS

    def __getitem__(self, name: str) -> type[Model]:
        """The model of a network's options."""
        if name in self.known:
            return self.known[name]
        if name.partition(".")[0] in timm_names():
            return AnyOptions
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """All names, timm's last."""
        yield from self.known
        yield from sorted(timm_names() - set(self.known))

    def __len__(self) -> int:
        """How many there are."""
        return len(set(self.known) | timm_names())


def available() -> Networks:
    """Architecture -> model of its options."""
    return Networks()


@functools.cache
def timm_names() -> frozenset[str]:
    """The networks of the installed timm, from its source; none where it is not installed."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    files = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    found = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for file in files for name in found.findall(file.read_text("utf-8")))


def library_of(architecture: str) -> tuple[str, str]:
    """Whose network it is, and its name there.

    Returns:
        ("small" | "lite0" | "torchvision" | "timm" | "xrv", name), or ("own", "module:function").
    """
    before, colon, name = architecture.partition(":")
    if colon:
        return (before, name) if before in LIBRARIES else ("own", architecture)
    if architecture in OURS:
        return ("lite0" if architecture == "efficientnet_lite0" else "small"), architecture
    if any(architecture in names for names in FAMILIES.values()):
        return "torchvision", architecture
    return "timm", architecture
