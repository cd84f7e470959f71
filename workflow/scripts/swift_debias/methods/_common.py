"""Settings that every method's class has in the front door, beside its own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from ..config.base import Model
from ..config.schema import Augmentation, Compute, Finetuning, Method, Optimizer, Pretraining


class _Own(Model):
    """Settings that only the front door has, or that are simpler here than in a config."""

    epochs: int = Field(10, ge=1, description="Epochs of each fine-tuning step.")
    optimizer: Literal["sgd", "adam"] = Field(
        "sgd", description="Optimizer of torch.optim, as the network was pre-trained."
    )
    seed: int = Field(0, ge=0, description="All random draws are derived from it.")
    external_seed: int | None = Field(
        None,
        ge=0,
        description="Seed of the draws that make and order the external set; None: `seed`. A run "
        "of the workflow has two (swift_debias.seeds).",
    )
    head: str | None = Field(
        None, description="Name of the last layer; only where it cannot be found."
    )
    verbose: bool = Field(False, description="Report progress on the standard error.")


SHARED: tuple[tuple[type[BaseModel], tuple[str, ...]], ...] = (
    (Pretraining, ("batch_size",)),
    (Finetuning, ("lr_extractor", "lr_head")),
    (Optimizer, ("momentum", "weight_decay")),
    (Finetuning, ("eodds", "class_weights", "batchnorm", "batches", "min_cell", "min_group")),
    (Augmentation, ("flips", "transpose")),
    (Compute, ("device", "precision")),
    (Method, ("external_fraction",)),
)


def _common() -> type[Model]:
    """The settings that all methods share; those of the config keep its defaults and bounds."""
    fields: dict[str, Any] = {}
    for model, names in SHARED:
        fields |= {n: (model.model_fields[n].annotation, model.model_fields[n]) for n in names}
    return create_model("Common", __base__=_Own, **fields)


COMMON = _common()
