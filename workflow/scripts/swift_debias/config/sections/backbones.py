"""A network, and the weights or the finished classifier that it starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..base import File, Line, Model, Module, Number, Place, Plain, no_truth_value


class Backbone(Model):
    """A network: a library's, a small one, or a user's own (docs/own_classifier.md)."""

    architecture: Annotated[Line, Module(libraries=("timm", "xrv"))] = Field(
        description="A network of torchvision (resnet50, vit_b_16, ...), of timm ('timm:NAME', or "
        "the name where torchvision has none), of torchxrayvision ('xrv:densenet'), "
        "efficientnet_lite0, small_resnet, small_densenet; or 'package.module:function', found on "
        "PYTHONPATH or beside this file, that returns a whole network, or an extractor with an "
        "attribute `out_features`."
    )
    weights: Annotated[Place, File(words=("imagenet", "pretrained"))] | None = Field(
        None,
        description="'imagenet' or 'pretrained': what the library publishes, looked for in "
        "`weights/` and downloaded to there; or a .safetensors file of the extractor; or null.",
    )
    baseline: Annotated[Place, File(placeholders=("task", "backbone", "fold"))] | None = Field(
        None,
        description="A .safetensors file of a whole trained classifier, in the network's own names "
        "or as `swift-debias import-classifier` writes it: it is debiased as it is, and nothing is "
        "pre-trained. '{fold}', '{task}' and '{backbone}' are filled in.",
    )
    head: Line | None = Field(
        None,
        description="Name of the last linear layer of a network of your own, or of the file in "
        "`baseline`; null: it is found.",
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(no_truth_value)] = Field(
        3,
        description="Channels that a library's network is made for: one for each number of "
        "images.mean. With 1, torchvision's get another first convolution, which sums the three of "
        "published weights.",
    )
    dropout: Number = Field(0.5, ge=0, lt=1, description="Dropout before the last layer [code].")
    options: dict[Line, Plain] = Field(
        {},
        description="Keyword arguments of the architecture (widths, depths): any values of YAML; "
        "lists arrive as tuples.",
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Backbone:
        if self.baseline is not None and self.weights is not None:
            raise ValueError(
                "weights: would be ignored, since baseline: is the whole classifier; keep one"
            )
        library = self.architecture.partition(":")[0] if ":" in self.architecture else None
        if library not in (None, "timm", "xrv") and self.channels != 3:
            raise ValueError("channels: would be ignored; your function makes the network")
        return self
