"""Raw data folders that are drawn, with a bias of a known kind or without one."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from ..base import MOST, Integer, Model, Number, Share, Whole
from ..names import Name, Named

BiasKind: TypeAlias = Literal[
    "correlation", "imbalance", "class_imbalance", "underdiagnosis", "label_noise", "acquisition"
]


class Bias(Model):
    """What is wrong with a drawn set: a kind of bias, and how strong (`data/synthetic/kinds.py`).

    s is the strength; groups are 0 and 1, class 1 is the disease. Nothing else differs.
    """

    kind: BiasKind = Field(
        description="correlation: P(group 1 | class 1) = P(group 0 | class 0) = (1 + s) / 2. "
        "imbalance: group 1 is (1 - s) / 2 of the set, in each class; at 1 it is absent. "
        "class_imbalance: of the diseased of group 1 a share s is not there. underdiagnosis: of "
        "the diseased of group 1 a share s / 2 is labelled healthy. label_noise: of group 1 a "
        "share s / 2 of each class has the other label. acquisition: group 1 is taken with "
        "another camera (noise, blur, colour cast), s of the way to a bad one [ours]."
    )
    strength: Share = Field(description="s: 0 is no bias, 1 the strongest.")


class Population(Model):
    """A drawn table of images of which the truth is known; adapter `table` reads it.

    Of one `people`, a smaller set lies within a larger one, and sets that differ in their bias
    share whom they have in common.
    """

    people: Name = Field(description="Whom it shows; sets of different people share nobody.")
    images: Integer = Field(ge=8, le=MOST, description="One a patient, whatever the bias.")
    bias: Bias | None = Field(
        None, description="null: labels are right, groups are halves of each class."
    )


class Synthetic(Model):
    """Raw data folders that are made up; `data/synthetic/` tells their causal story."""

    images: dict[Name, Whole] = Field(
        {},
        description="Usable images to draw, by data set; isic2019 counts those of 2017 and 2018, "
        "which it contains. What real folders have besides (duplicates, lateral views) is extra.",
    )
    populations: Named[Population] = Field(
        {},
        description="Data sets of adapter `table` to draw, each with a bias of one kind or none: "
        "what config/benchmark.yaml compares methods on [ours].",
    )
    size: Integer = Field(
        72, ge=16, le=4096, description="Shorter side of the drawn images in pixels."
    )
    melanoma: Number = Field(
        0.35, gt=0, lt=1, description="Share of melanomas in skin sets, and of class 1 in tables."
    )
    pneumothorax: Number = Field(0.4, gt=0, lt=1, description="Share of pneumothoraces in X-rays.")
    core: Number = Field(0.8, ge=0, le=1, description="Label -> core feature (hard to see).")
    appearance: Number = Field(0.9, ge=0, le=1, description="Attribute -> appearance (easy).")
    correlation: Number = Field(
        0.8,
        ge=0,
        le=1,
        description="Attribute <-> label in the training pool: in each class, a share of "
        "1/2 + correlation / 3 has the attribute that goes with the class.",
    )
    test_correlation: Number = Field(0.0, ge=0, le=1, description="The same in the test sets.")
    shift: Number = Field(0.4, ge=0, le=1, description="Source -> camera, noise and size.")
    unknown: Number = Field(
        0.04,
        ge=0,
        lt=0.5,
        description="Share of unknown sexes, ages and skin types, and of rows outside the task.",
    )
    duplicates: Number = Field(
        0.02, ge=0, lt=0.2, description="Share of copies in ISIC 2020: listed, and again unlisted."
    )
