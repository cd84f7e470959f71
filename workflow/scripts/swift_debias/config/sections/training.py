"""How networks are trained and fine-tuned."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from ..base import MOST, Count, Flag, Integer, Model, NotNegative, Number, Positive, Whole

EoddsKind: TypeAlias = Literal["mean_abs", "signed_mean"]
BatchNorm: TypeAlias = Literal["train", "eval", "masked"]
Batches: TypeAlias = Literal["shuffled", "cells"]


class Optimizer(Model):
    """An optimizer of torch.optim; weight decay is L2, as the paper's SGD and Adam have it."""

    name: Literal["sgd", "adam"]
    lr: Positive = Field(description="Learning rate [paper: 1e-4].")
    momentum: Number = Field(0.9, ge=0, lt=1, description="SGD only [code].")
    weight_decay: NotNegative = Field(
        5e-4, description="Of SGD [code]; the released Adam, for X-rays, has none [code]."
    )


class Plateau(Model):
    """The learning rate falls where the held-out AUC does, as torch's ReduceLROnPlateau does."""

    factor: Number = Field(0.1, gt=0, lt=1, description="By which the rate is multiplied.")
    patience: Whole = Field(
        10, description="Epochs without a better AUC that are borne; after the next, it falls."
    )


class Pretraining(Model):
    """How the biased Baseline is trained [paper, Section 4.2]."""

    epochs: Count
    batch_size: Integer = Field(128, ge=2, le=MOST)
    optimizer: Optimizer
    clip: Positive | None = Field(
        None,
        description="Largest norm of a step's gradient; longer ones are scaled down to it. The "
        "released code has 0.5 [code]; the paper does not say. null: none is.",
    )
    plateau: Plateau | None = Field(
        None,
        description="Lower the learning rate on a plateau; the released code does [code], the "
        "paper does not say. null: it stays.",
    )


class Finetuning(Model):
    """What every debiasing method shares; the optimizer and batch size are pre-training's."""

    epochs_percent: Number = Field(
        10,
        gt=0,
        le=10_000,
        description="Epochs of each step, in percent of the pre-training epochs [paper].",
    )
    lr_extractor: Positive = Field(
        1e-4,
        description="Of the extractor: the paper's rate of pre-training; it gives none for "
        "fine-tuning [ours]. The released code's only documented command of SWiFT has 1e-6 [code].",
    )
    lr_head: Positive = Field(
        1e-3, description="Of the head: the released default; that command has 1e-6 [code]."
    )
    eodds: EoddsKind = Field(
        "mean_abs", description="Fairness proxy, Eq. 2; signed_mean is the predecessor's [code]."
    )
    class_weights: Literal["dataset", "batch"] = Field(
        "dataset", description="Whose counts weigh Eq. 1: the whole set's, or each batch's [code]."
    )
    batchnorm: BatchNorm = Field(
        "train",
        description="What BatchNorm's running statistics do while an extractor is fine-tuned. "
        "train: they follow the external set, whatever a mask says, which is domain adaptation "
        "beside the method [code]; eval: they stay as the Baseline has them; masked: those of a "
        "channel follow by the share that the mask of its scale allows [ours].",
    )
    batches: Batches = Field(
        "shuffled",
        description="shuffled: each image once an epoch, in a random order [paper]; cells: each "
        "batch has equally many images of every label and group, those of rare cells several times "
        "an epoch, and each weighs 2 p (1 - p) in Eq. 1 with p the balanced set's share of class 1 "
        "[ours].",
    )
    min_cell: Count = Field(
        10, description="Fewest external samples a (label, group) cell may have."
    )
    min_group: Integer = Field(
        20,
        ge=2,
        le=MOST,
        description="Fewest samples of a group that counts in the multi-attribute choice.",
    )


class Augmentation(Model):
    """Random augmentation of training images [paper: random flipping, random transpose]."""

    flips: Flag | Literal["horizontal"] = Field(
        True,
        description="true: left-right and up-down [paper]; horizontal: left-right alone, which "
        "turns no chest upside down (the released code's X-rays [code]).",
    )
    transpose: Flag = True
