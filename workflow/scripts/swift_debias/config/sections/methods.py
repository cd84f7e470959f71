"""A variant of a method, and how the settings of one that is searched are chosen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..base import Count, Fraction, Integer, Line, Model, Number, Plain, Positive, Share
from ..names import Name
from .training import Batches, BatchNorm


class Selection(Model):
    """How the settings of a method that has a `search` are chosen: one rule for all methods.

    A trial is fitted on a part of every fold's external set and judged on the rest.
    """

    share: Number = Field(
        0.3, gt=0, lt=1, description="Share of an external set to judge on, by patient."
    )
    folds: Integer = Field(
        3,
        ge=2,
        le=100,
        description="Where a share would leave a (label, group) cell with fewer than min_cell "
        "images, so many parts take turns.",
    )
    rule: Literal["constrained", "dto", "worst_group_auc"] = Field(
        "constrained",
        description="constrained: the lowest EOdds among trials that keep the Baseline's AUC, "
        "within `tolerance`; none: the highest AUC. dto: the smallest distance to AUC 1 and EOdds "
        "0. worst_group_auc: the highest AUC of the worse group.",
    )
    tolerance: Share = Field(
        0.01,
        description="How far a trial's AUC may lie below the Baseline's; one standard error of "
        "that difference, if it is larger.",
    )
    on_folds: Count | None = Field(
        None,
        description="Trials are made on so many folds, the first ones; null: on all. Fewer cost "
        "less and choose less surely, for all methods alike; external thresholds of the other "
        "folds are found on the images that the method was fitted on.",
    )
    trials: Count | None = Field(
        None, description="Every `search` must have so many points; null: any number."
    )


class Method(BaseModel):
    """A named variant: an algorithm (a file of `methods/`) plus the settings that differ.

    Keys beyond those below belong to the algorithm and are checked against its own `Settings`.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Plain]

    like: Name | None = Field(
        None,
        exclude=True,  # resolved when the config is read
        description="Another variant, whose settings are taken over except its title.",
    )
    algorithm: Line = Field(description="Name of a file in workflow/scripts/swift_debias/methods/.")
    title: Line | None = Field(None, description="Name in tables and figures; default: the key.")
    external_fraction: Fraction = Field(
        1.0, description="Share of the external set that is used (Figure 7)."
    )
    epochs_percent: Annotated[Number, Field(gt=0, le=10_000)] | None = Field(
        None, description="Overrides finetuning.epochs_percent (Figure 4)."
    )
    batchnorm: BatchNorm | None = Field(
        None, description="Overrides finetuning.batchnorm (Table 8)."
    )
    batches: Batches | None = Field(None, description="Overrides finetuning.batches.")
    lr_factor: Positive = Field(
        1.0, description="Multiplies finetuning.lr_extractor and finetuning.lr_head."
    )
    search: (
        Line | dict[Line, Annotated[tuple[Plain, ...], Field(min_length=1, max_length=100)]] | None
    ) = Field(
        None,
        description="A grid over settings of this variant, key -> values: every point is tried and "
        "`selection` says which is taken. Or the name of another variant: what is found for that "
        "one is taken over, except for keys that have another value here. A variant that is `like` "
        "one with a search takes over what is found for it. `default`: the grid that the "
        "algorithm's section names.",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The algorithm's own settings, those that are written."""
        return dict(self.model_extra or {})
