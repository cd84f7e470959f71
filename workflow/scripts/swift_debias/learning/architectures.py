"""The networks that come with the project, by name, with their options; imports nothing heavy.

`networks.py` builds them. They stand apart from it since a configuration is checked where torch is
not installed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..config.base import Count, Integer, Model


class NoOptions(Model):
    """torchvision's networks are taken as they are."""


class SmallResnet(Model):
    """Four stages of basic blocks."""

    width: Integer = Field(16, ge=8, le=4096)
    blocks: Integer = Field(1, ge=1, le=100)


class SmallDensenet(Model):
    """torchvision's DenseNet with few, thin layers."""

    growth_rate: Integer = Field(8, ge=1, le=1024)
    block_config: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)] = (2, 2, 2, 2)
    num_init_features: Integer = Field(16, ge=1, le=4096)


def available() -> dict[str, type[Model]]:
    """Architecture -> model of its options."""
    return {
        "resnet50": NoOptions,
        "efficientnet_b3": NoOptions,
        "densenet121": NoOptions,
        "small_resnet": SmallResnet,
        "small_densenet": SmallDensenet,
    }
