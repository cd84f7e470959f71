"""The models of the configuration: every key, its unit, its default and its source.

The single place where a key is defined; adapters and methods define their own keys in their files.
`config/README.md` and `config/schema.json` are made from these models.

Marks in the descriptions: [paper] stated in Yan et al., MELBA 2025; [code] read in the released
source of the method's authors; [derived] found by matching a count that the paper states without
its rule; [ours] our decision. A number of another method's own paper is marked with that paper.

Longer than other files, since every key is here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    WithJsonSchema,
    model_validator,
)

from ..errors import nearest
from .base import (
    MOST,
    Count,
    File,
    Flag,
    Fraction,
    Integer,
    Label,
    Line,
    Model,
    Module,
    NotNegative,
    Number,
    Place,
    Plain,
    Positive,
    Share,
    Value,
    Whole,
    no_truth_value,
    shown,
)
from .classes import Classes, check_task
from .names import Name, Named

# Columns of a manifest that mean the same in every data set: attributes are cut from these, and
# from the attributes of a user's own table.
SHARED_COLUMNS = ("sex", "age", "fitzpatrick", "view", "split")
# Rules by which lightness and b* become an angle; each has a column of its own beside
# `fitzpatrick`, for attributes that compare them (config/skin_tone_rule.yaml).
ANGLE_RULES = ("arctan", "atan2", "unknown_if_blue")
SKIN_TYPES = ("fitzpatrick", *(f"fitzpatrick_{rule}" for rule in ANGLE_RULES))


class Part(Model):
    """A part of a data set, by the ids of its lesions, patients or images (`data/parts.py`).

    Two entries of one folder, `between: [0, 0.75]` and `between: [0.75, 1]`, train on some and hold
    out the others.
    """

    by: Literal["lesion", "patient", "image"] = Field(
        description="What stays together; an image without a known one is one of its own."
    )
    between: tuple[Share, Share] = Field(
        description="Each id has a number from 0 to 1, by a hash: those from the first of the two "
        "on, and below the second, are the part."
    )
    seed: Integer = Field(0, ge=-(2**63), lt=2**63, description="Another one deals anew.")

    @model_validator(mode="after")
    def _not_empty(self) -> Part:
        if not self.between[0] < self.between[1]:
            raise ValueError("between: nothing lies there; the first number is below the second")
        return self


def annotated(column: str) -> str:
    """The manifest's column that holds what people annotated: of a skin type by any rule one."""
    return "fitzpatrick" if column in SKIN_TYPES else column


class Dataset(Model):
    """One data set: its adapter (a file of `data/adapters/`) and its folder.

    An adapter's `Options` add its own keys.
    """

    lacks: ClassVar[tuple[str, ...]] = ()  # manifest columns that its source does not have
    # names of the tables that its adapter reads, '*' allowed: an edit of one reruns what uses it
    tables: ClassVar[tuple[str, ...]] = ("*.csv", "*.tsv", "*.tab", "*.txt", "*.parquet", "*.pq")
    tables_beside: ClassVar[bool] = False  # they may also lie next to the root
    places: ClassVar[tuple[str, ...]] = ("root",)  # keys that only say where: a move reruns nothing

    adapter: Line = Field(description="A file of workflow/scripts/swift_debias/data/adapters/.")
    root: Place = Field(
        description="Folder, as unpacked from the official archives; `~` and `$NAME` may be in it. "
        "Beside `synthetic` it is left out: each run draws its own."
    )
    archive: Line | None = Field(
        None,
        description="Data sets of one archive share the ids of images, patients and lesions, as "
        "the ISIC years do; default: the data set alone, with others that read the same folder "
        "and table. Equal ids of different archives mean nothing.",
    )
    skin_tone: Literal["manifest", "ita"] = Field(
        "manifest",
        description="Where the skin type comes from: the data set's own annotation, or the "
        "individual typology angle of the image (ISIC has no annotation) [paper].",
    )
    part: Part | None = Field(
        None, description="Only a part of it, such as held-out lesions; null: all of it [ours]."
    )

    def named_tables(self) -> dict[str, str]:
        """Key -> table that the config names, a path relative to the project."""
        return {}

    def has_column(self, column: str) -> bool:
        """Whether the manifest can fill this column (known before any file is read)."""
        if self.measures(column):
            return True
        column = annotated(column)
        return column in SHARED_COLUMNS and column not in self.lacks

    def measures(self, column: str) -> bool:
        """Whether this column comes from the pixels and not from the data set's own table."""
        return column in SKIN_TYPES and self.skin_tone == "ita"

    def classes_of_words(self) -> Mapping[Any, tuple[str, int]]:
        """Words, in the form they are compared in -> as written, and the class they are said to be.

        Empty where the entry names no values of classes; codes such as 0 and yes are no words.
        """
        return {}

    def groups_of_words(self, attribute: Attribute) -> Mapping[Any, tuple[str, str]]:
        """The same of an attribute that is no intersection: as written, and the group."""
        return {}

    def lacking(self, attribute: Attribute) -> str | None:
        """The first column of an attribute that the manifest cannot fill, or None."""
        return next((c for c in attribute.columns if not self.has_column(c)), None)

    def reads(self, attribute: Attribute) -> bool:
        """Whether an attribute is known from the data set's own table, pixels not needed."""
        return all(self.has_column(c) and not self.measures(c) for c in attribute.columns)


def repeated(values: Iterable[Any]) -> Any:
    """A value that stands there twice, or None."""
    return next((value for value, n in Counter(values).items() if n > 1), None)


def _no_key_twice(entries: Any) -> Any:
    """Refuse keys that are one text: 1 and "1"."""
    if isinstance(entries, Mapping) and (twice := repeated(map(str, entries))):
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return entries


def _compared(value: str | float) -> str | float:
    """A group's value as tables are compared with it (`data/groups.py` has the whole rule)."""
    text = str(value).strip().casefold()
    try:
        return float(text)
    except ValueError:
        return text


MOST_CROSSED = 100  # groups of an intersection; more could never hold enough people each


class Attribute(Model):
    """A sensitive attribute: a manifest column cut into groups 0, 1, ... in the order given.

    Either `groups` (lists of values) or `cuts` with `names` (k cuts make k + 1 groups; a value on
    a cut belongs to the upper group). Rows that fall in no group are left out of everything that
    concerns this attribute, and counted.

    Or an intersection, `cross: [sex, age]`: its groups are all combinations of the other
    attributes' groups, called "female, younger" and so on, the last one changing fastest. Who is
    in no group of one of them is in no group of the intersection. It is treated like any attribute
    of more than two groups.
    """

    column: Line | None = None
    groups: Annotated[dict[Label, tuple[Value, ...]], BeforeValidator(_no_key_twice)] | None = None
    cuts: tuple[Number, ...] | None = None
    names: tuple[Label, ...] | None = None
    # People write names; `load.py` puts what they name in their place, so that a job is given all
    # it needs to know.
    cross: (
        Annotated[
            dict[Name, Attribute],
            WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2}),
        ]
        | None
    ) = Field(
        None, description="Names of two or more other attributes, of different columns [ours]."
    )

    @model_validator(mode="after")
    def _is_an_intersection(self) -> Attribute:
        if self.cross is None:
            if self.column is None:
                raise ValueError("column: is missing: groups and cuts are of one")
            return self
        for key in ("column", "groups", "cuts", "names"):
            if getattr(self, key) is not None:
                raise ValueError(f"cross: has its groups from others; leave out {key}:")
        if len(self.cross) < 2:
            raise ValueError("cross: needs at least two attributes")
        for name, part in self.cross.items():
            if part.cross is not None:
                raise ValueError(f"cross: {name!r} is one itself; name its parts here")
        if twice := repeated(self.columns):
            raise ValueError(f"cross: two of them are of column {shown(twice)}")
        count = math.prod(len(part.group_names) for part in self.cross.values())
        if count > MOST_CROSSED:
            raise ValueError(f"cross: makes {count} groups; {MOST_CROSSED} are the most")
        if twice := repeated(self.group_names):
            raise ValueError(f"cross: two groups are called {shown(twice)}")
        return self

    @model_validator(mode="after")
    def _groups_or_cuts(self) -> Attribute:
        if self.cross is not None:
            return self
        if (self.groups is None) == (self.cuts is None):
            raise ValueError("give either groups: or cuts: with names:")
        if self.groups is not None and self.names is not None:
            raise ValueError("names: go with cuts:, the groups have names already")
        if self.cuts is not None:
            if self.names is None or len(self.names) != len(self.cuts) + 1:
                raise ValueError(f"{len(self.cuts)} cuts need {len(self.cuts) + 1} names")
            if list(self.cuts) != sorted(set(self.cuts)):
                raise ValueError("cuts must increase")
        if len(self.group_names) < 2:
            raise ValueError("an attribute needs at least two groups")
        if twice := repeated(self.group_names):
            raise ValueError(f"two groups are called {shown(twice)}")
        seen: dict[str | float, str] = {}
        for group, values in (self.groups or {}).items():
            if not values:
                raise ValueError(f"group {shown(group)} has no values")
            for value in values:
                if (other := seen.setdefault(_compared(value), group)) != group:
                    both = f"{shown(other)} and {shown(group)}"
                    raise ValueError(f"the value {shown(value)} is in two groups, {both}")
        return self

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of their indices 0, 1, ..."""
        if self.cross is not None:
            of_parts = (part.group_names for part in self.cross.values())
            return tuple(map(", ".join, itertools.product(*of_parts)))
        return tuple(self.groups) if self.groups is not None else (self.names or ())

    @property
    def columns(self) -> tuple[str, ...]:
        """The manifest columns that it is made of."""
        if self.cross is not None:
            return tuple(column for part in self.cross.values() for column in part.columns)
        return () if self.column is None else (self.column,)


# Channel statistics of ImageNet on [0, 1]: what the pre-trained backbones were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalization_problem(mean: Sequence[float], std: Sequence[float]) -> str | None:
    """What forbids a mean and std of channels, in words; None: nothing does.

    A mean below 0 or above 1, or a std above 1, is that of pixels from 0 to 255: what lies on
    [0, 1] has none such, and networks that take another range (torchxrayvision's [-1024, 1024],
    pixels from 0 to 255 themselves) have a small std instead.
    """
    if len(mean) != len(std):
        return f"mean has {len(mean)} numbers, std has {len(std)}"
    for name, values, right in (
        ("mean", mean, all(0 <= value <= 1 for value in mean)),
        ("std", std, all(0 < value <= 1 for value in std)),
    ):
        if not right:
            said = ", ".join(f"{value:g}" for value in values)
            return f"{name} ({said}) must be on [0, 1]: divide by 255 that of pixels from 0 to 255"
    return None


class Images(Model):
    """The images: each is decoded once, to uint8, and normalized when it is drawn."""

    size: Integer = Field(
        256, ge=8, le=16384, description="Pixels a side after centre crop and resize."
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(no_truth_value)] = Field(
        3, description="3 = RGB, 1 = grey."
    )
    fit: Literal["crop", "stretch"] = Field(
        "crop",
        description="How a picture becomes a square: crop: its centre; stretch: all of it, "
        "whatever its sides. Your own classifier needs what it was trained with.",
    )
    crop_share: Fraction = Field(
        1.0,
        description="Share of the shorter side that the crop keeps: 0.875 is torchvision's "
        "Resize(256) and CenterCrop(224).",
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = Field(
        "bilinear",
        description="Pillow's filter of the resize; all but nearest are widened where they shrink "
        "(antialiased).",
    )
    max_broken: Share = Field(
        0.01, description="Fraction of unreadable images above which the job fails."
    )
    max_pixels: Count = Field(
        120_000_000, description="Images with more pixels are refused unread (decompression bombs)."
    )
    max_bytes: Count = Field(1_000_000_000, description="Files with more bytes are refused unread.")
    bits: Integer | None = Field(
        None,
        ge=9,
        le=16,
        description="Bits a pixel of films stored with 16 bits, e.g. 12. null: what PNG files say "
        "of it themselves (sBIT), else the fewest bits that hold the brightest pixel of the data "
        "set's 16-bit images, so that all are scaled alike. One brighter pixel in one film darkens "
        "all: the log says where most need 2 bits fewer.",
    )
    mean: tuple[Number, ...] = Field(
        IMAGENET_MEAN,
        min_length=1,
        max_length=3,
        description="What a network subtracts from each channel of a picture on [0, 1]. Default: "
        "ImageNet's. Your own classifier needs the numbers that it was trained with. Three numbers "
        "feed three channels, grey images too; one number feeds one.",
    )
    std: tuple[Positive, ...] = Field(
        IMAGENET_STD,
        min_length=1,
        max_length=3,
        description="What it divides each channel by afterwards. Default: ImageNet's.",
    )

    @model_validator(mode="after")
    def _a_number_a_channel(self) -> Images:
        if problem := normalization_problem(self.mean, self.std):
            raise ValueError(problem)
        if self.fit == "stretch" and self.crop_share != 1:
            raise ValueError("crop_share: would be ignored with fit: stretch; leave it out")
        if len(self.mean) not in (self.channels, 3):
            raise ValueError(f"mean and std need {self.channels} numbers, or 3 for grey images")
        return self


class Duplicates(Model):
    """What counts as a duplicate and which copy stays."""

    radius: Integer = Field(
        20,
        ge=0,
        le=127,
        description="Largest Hamming distance of two 256-bit perceptual hashes (PDQ) that counts "
        "as the same picture [ours]. On 1,000 X-rays of NIH and 847 photographs of PAD-UFES-20 "
        "(256 px), JPEG at quality 75 moved a hash by at most 16 bits, halving or quality 50 by at "
        "most 30 (98.8 % within 20), and pictures of different patients differed in at least 54 "
        "(X-rays: 64). Extrapolated to all pairs of 130,000 X-rays, 20 joins no two patients by "
        "mistake and PDQ's usual 31 about one pair.",
    )
    recoloured: Flag = Field(
        False,
        description="Look for photographs with reworked colours too: hashes further apart than "
        "`radius` and up to 60 bits, where the pixels agree (grey values by rank, shifts of up to "
        "3 of 64 pixels). ISIC 2017 has 15 such pairs. Not for X-rays: follow-up films of a "
        "patient agree as well [ours].",
    )
    min_quality: Integer = Field(
        0, ge=0, le=100, description="Hashes below this PDQ quality (flat images) match nothing."
    )
    keep: Literal["last", "first"] = Field(
        "last",
        description="Which copy stays, in the order of the task's `train` list: the newest "
        "release has the richest metadata.",
    )
    leaks: Literal["exclude", "refuse", "allow"] = Field(
        "exclude",
        description="What happens to training images that a test set has too, or whose patient or "
        "lesion it has (ids of one archive): the training pool loses them, the run is refused, or "
        "they stay. The number is in the log, in data_check and in the report. Images that a test "
        "set holds twice are listed in cohorts/<task>.duplicates.parquet and stay.",
    )


class SkinTone(Model):
    """Skin tone from the individual typology angle (ITA), as in Bevan & Atapour-Abarghouei 2022."""

    size: Integer = Field(
        256, ge=8, le=16384, description="Pixels a side at which the angle is measured."
    )
    remove_hair: Flag = Field(True, description="Black-hat and inpainting before measuring.")
    angle: Literal["arctan", "atan2", "unknown_if_blue"] = Field(
        "arctan",
        description="arctan: of (L* - 50) / b*, whatever the sign of b* [code]; light skin under "
        "bluish light (b* below 0) comes out as type VI. atan2: the angle itself, capped at 90 "
        "degrees, so that such skin is type I [ours]. unknown_if_blue: patches with b* not above 0 "
        "do not count, and images whose median patch is such have no type [ours]. How many "
        "images that concerns is in the job's log and in the report.",
    )


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


STRONGEST = 0.95  # of a tie; pools of all strengths are as large as this one allows


class Tie(Model):
    """A pool in which an attribute is tied to the label: bias as a variable (`data/tie.py`).

    The pool is subsampled by patient so that P(group 1 | class 1) = P(group 0 | class 0) =
    (1 + strength) / 2, where group 1 is `to`. Its size and its share of class 1 are the same for
    every strength. Images of unknown group are left out; test sets stay as they are.
    """

    attribute: Name = Field(description="An attribute of two groups.")
    strength: Number = Field(
        ge=0, le=STRONGEST, description="0: independent; 0.95: 97.5 % of a class are of its group."
    )
    to: Line | None = Field(
        None, description="The group that class 1 is tied to; default: the attribute's second."
    )
    external: Literal["natural", "tied"] = Field(
        "natural",
        description="natural: Baselines are trained on the tied pool, and the external set of a "
        "fold has all of its images, as debiasing supposes; tied: it has those of the tied pool, "
        "where a strong tie leaves few images of the rare cells [ours].",
    )


class Task(Model):
    """One classification task: its training pool, its test sets and how it is trained."""

    train: tuple[Name, ...] = Field((), description="Data sets pooled for training.")
    external: tuple[Name, ...] = Field(
        (),
        description="Data sets that debiasing works on, such as a hospital's small labelled set. "
        "Nothing is pre-trained on them. Folds are folds of them: one part is kept to choose "
        "thresholds and settings on, methods are fitted on the others. Default: none, and a fold's "
        "external set is its validation images of the training pool [paper].",
    )
    tests: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        description="Attribute -> test data sets that carry it."
    )
    positive: Label | None = Field(
        None, description="Name of class 1, for tables and figures; needed unless `classes`."
    )
    negative: Label | None = Field(None, description="Name of class 0; needed unless `classes`.")
    classes: Classes | None = Field(
        None,
        description="Three classes or more, instead of positive and negative: name -> values of "
        "the source's own diagnosis (column `diagnosis` of a manifest; of a table the cells of "
        "`label.column`, with neither positive nor negative there), in the order of labels 0, 1, "
        "... Rows of other values are left out and counted; a class that a data set does not have "
        "is refused. An image is decided for its most probable class. Metrics are means over the "
        "classes, each against the rest; `auc@mel` is that of one class (docs/classes.md) [ours].",
    )
    disease: Label | None = Field(
        None,
        description="Which of the classes is the disease, as it is called. "
        "Sensitivity, specificity and sensitivity at 80 and 90 % specificity are then reported for "
        "it, over all images and by group; null: they are not [ours].",
    )
    invert_labels: Flag = Field(
        False,
        description="Swap the classes. The adapters label as the paper does: melanoma and "
        "no finding are class 0.",
    )
    tie: Tie | None = Field(
        None, description="Tie an attribute to the label in the training pool [ours]."
    )
    group_by_patient: Flag = Field(
        True, description="Keep one patient's images in one fold; the paper splits by image."
    )
    images: Images = Images()
    augmentation: Augmentation = Augmentation()
    pretraining: Pretraining = Field(
        Pretraining(epochs=200, optimizer=Optimizer(name="sgd", lr=1e-4)),
        description="May be left out where every network brings its trained classifier. "
        "Fine-tuning takes its optimizer, its batch size and a share of its epochs from here "
        "[paper].",
    )
    finetuning: Finetuning = Finetuning()

    @property
    def pool(self) -> tuple[str, ...]:
        """Data sets that may be learnt from: what is trained on, and external ones."""
        return (*self.train, *self.external)

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> Task:
        if not self.pool:
            raise ValueError(
                "train: is missing. Name the data sets that a classifier is trained on; or, for a "
                "classifier of your own, those that it is debiased on (external:)"
            )
        if self.train and "pretraining" not in self.model_fields_set:
            raise ValueError("pretraining: is missing: epochs, batch_size, optimizer")
        return self

    @model_validator(mode="after")
    def _two_classes_or_more(self) -> Task:
        check_task(self, _compared)
        return self

    @model_validator(mode="after")
    def _disease_is_a_class(self) -> Task:
        if self.disease not in (None, *self.class_names):
            first, *rest = map(shown, reversed(self.class_names))
            both = f"{first} and {rest[0]}" if len(rest) == 1 else ", ".join([*rest[::-1], first])
            raise ValueError(f"disease: the classes are {both}, not {shown(self.disease)}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes 0, 1, ... are called."""
        if self.classes is not None:
            return tuple(self.classes)
        return (self.negative or "", self.positive or "")

    @property
    def disease_class(self) -> int | None:
        """The class that is the disease; None where the task does not say."""
        return None if self.disease is None else self.class_names.index(self.disease)


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


class Compute(Model):
    """How the arithmetic is done; none of it changes what is computed beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Training precision; importances and scores are always fp32. auto: bf16 on a "
        "GPU that has it, and on a CPU that has it (avx512_bf16 or amx_bf16) for images of 128 "
        "pixels or more, below which it is not faster; else fp32. What a job took stands in its "
        "cost.json and below the table of costs.",
    )
    channels_last: Flag = True
    compile_from: Whole | None = Field(
        None,
        description="torch.compile the network in trainings that draw at least so many images, "
        "epochs times samples; null: never. Needs a C++ compiler (CPU) or Triton (GPU). On an H100 "
        "a ResNet-50 of 256 pixels trained 41 % more images a second after 43 s of compiling, "
        "which pays from 500,000 images on; a Baseline of the paper draws 6 to 9 million. On one "
        "CPU thread at 64 pixels steps were 7 (ResNet-50) to 15 % (DenseNet-121) shorter after 1.5 "
        "to 4 minutes of compiling.",
    )
    resident: Literal["auto", "on", "off"] = Field(
        "auto", description="Hold a job's images in device memory; auto: where they fit."
    )
    deterministic: Flag = Field(True, description="Bit-identical reruns on CPU.")
    threads: Integer = Field(1, ge=1, le=1024, description="CPU threads of a training job.")
    checkpoint_seconds: Number = Field(
        60,
        ge=0,
        le=1e9,
        description="A training saves its state at an epoch's end, at most this often.",
    )
    debias_job: Literal["setup", "fold"] = Field(
        "setup",
        description="What one job of a method debiases: all folds of a task, network and attribute "
        "(few long jobs), or one fold (as many times more, for a cluster with cards to spare). The "
        "files are the same, byte for byte, so a change reruns nothing. Several methods in a job: "
        "Snakemake's `--groups debias=debias --group-components debias=8`.",
    )

    def arithmetic(self) -> dict[str, Any]:
        """What decides last bits, as plain values: results of another are computed anew.

        Not with how many threads, how often a state is saved, where images are held, and how many
        folds a job takes.
        """
        others = {"threads", "checkpoint_seconds", "resident", "debias_job"}
        return self.model_dump(mode="json", exclude=others)


class Report(Model):
    """What report.html holds; docs/sharing.md says what every file of a run contains."""

    images: Flag = Field(
        True,
        description="Figures that show test images (`bias`, `cam`) are in report.html. Public data "
        "sets may be shown, and the paper shows them; pictures of your own patients leave the "
        "house with the page, hence false in own_data.yaml. The figures' own files are made "
        "either way.",
    )


class Panel(Model):
    """One slice of the results: a network and attribute, and the test sets to show."""

    task: Name
    backbone: Name
    attribute: Name
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        None, description="Default: all of the attribute's."
    )
    methods: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        None, description="Default: the experiment's."
    )


class Experiment(Model):
    """A table or figure: which slices of the results it shows."""

    kind: Literal["table", "figure"]
    plot: Line | None = Field(None, description="Figures: which file of report/figures/ draws it.")
    title: Line
    methods: tuple[Name, ...] = ()
    metrics: tuple[Line, ...] = Field(("auc", "spd", "eodds"), min_length=1)
    threshold: Literal["fixed", "external"] = Field(
        "fixed",
        description="Where decisions are made: fixed: a score of 0.5 [paper]; external: where the "
        "model's balanced accuracy on external samples is best.",
    )
    panels: tuple[Panel, ...] = Field(min_length=1)
    options: dict[str, Plain] = Field({}, description="Style and details of the drawing.")


class Settings(Model):
    """The whole configuration of a run."""

    run: Name = Field(description="Results go to results/<run>/.")
    seed: Integer = Field(
        0, ge=-(2**63), lt=2**63, description="All random state is derived from it."
    )
    folds: Integer = Field(5, ge=2, le=100, description="[paper]")
    repeats: Integer = Field(
        1,
        ge=1,
        le=1000,
        description="How often each fold is debiased by each method, with other draws; metrics are "
        "means over the repeats. The Baseline is trained once. One draw's EOdds differs from "
        "another's by about .03 on the demo, so small differences need several [ours].",
    )
    synthetic: Synthetic | None = Field(
        None, description="Draw the raw data folders, as the demo does."
    )
    datasets: Named[SerializeAsAny[Dataset]] = Field(description="Data sets by name.")
    attributes: Named[Attribute] = Field(description="Sensitive attributes by name.")
    duplicates: Duplicates = Field(Duplicates(), description="What counts as a duplicate.")
    skin_tone: SkinTone = Field(SkinTone(), description="How skin tone is measured.")
    tasks: Named[Task] = Field(description="Classification tasks by name.")
    backbones: Named[Backbone] = Field(description="Networks by name.")
    methods: Named[Method] = Field(description="Named variants of the debiasing methods.")
    experiments: Named[Experiment] = Field(
        description="Tables and figures; what they need is computed, once. The name is the file's."
    )
    selection: Selection = Field(
        Selection(), description="How the settings of methods with a `search` are chosen."
    )
    compute: Compute = Field(Compute(), description="How the arithmetic is done.")
    only: tuple[Name, ...] = Field(
        (),
        description="The experiments to make; the others are as if they were not there, and so is "
        "all work for them alone. Default: all. On the command line: `--config 'only=[table1]'`.",
    )
    report: Report = Field(Report(), description="What the report holds.")

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        problems = [*self._task_problems(), *self._view_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _task_problems(self) -> Iterator[str]:
        for name, task in self.tasks.items():
            path = f"tasks.{name}"
            for key, named in (("train", task.train), ("external", task.external)):
                for dataset in named:
                    if dataset not in self.datasets:
                        near = nearest(dataset, self.datasets)
                        yield f"{path}.{key}: no data set {dataset!r}{near}"
            for dataset in task.external:
                if dataset in task.train:
                    yield (
                        f"{path}.external: {dataset!r} is a training set as well; debiasing needs "
                        "images that the classifier has not seen"
                    )
            yield from self._tie_problems(f"{path}.tie", task)
            for attribute, tests in task.tests.items():
                if attribute not in self.attributes:
                    yield (
                        f"{path}.tests: no attribute {attribute!r}"
                        f"{nearest(attribute, self.attributes)}"
                    )
                    continue
                for dataset in (*task.pool, *tests):
                    if dataset not in self.datasets:
                        if dataset in tests:
                            yield (
                                f"{path}.tests.{attribute}: no data set {dataset!r}"
                                f"{nearest(dataset, self.datasets)}"
                            )
                    elif column := self.datasets[dataset].lacking(self.attributes[attribute]):
                        yield (
                            f"{path}.tests.{attribute}: data set {dataset!r} has no column "
                            f"{column!r}, so the attribute is not known there; take the set out"
                        )
                for dataset in set(tests) & set(task.pool):
                    kind = "a training set" if dataset in task.train else "an external set"
                    yield f"{path}.tests.{attribute}: {dataset!r} is also {kind}"

    def _tie_problems(self, path: str, task: Task) -> Iterator[str]:
        if task.tie is None:
            return
        name = task.tie.attribute
        if name not in self.attributes:
            near = nearest(name, self.attributes)
            yield f"{path}.attribute: no attribute {name!r}{near}"
            return
        attribute = self.attributes[name]
        if len(attribute.group_names) != 2:
            count = len(attribute.group_names)
            yield f"{path}.attribute: {name!r} has {count} groups; two are tied to the two classes"
        elif task.tie.to not in (None, *attribute.group_names):
            near = nearest(str(task.tie.to), attribute.group_names)
            yield f"{path}.to: {name!r} has no group {task.tie.to!r}{near}"
        for dataset in task.train:
            if dataset in self.datasets and not self.datasets[dataset].reads(attribute):
                yield (
                    f"{path}.attribute: the table of data set {dataset!r} does not have {name!r}, "
                    "so its images cannot be chosen by it"
                )

    def _view_problems(self) -> Iterator[str]:
        for name, experiment in self.experiments.items():
            for number, panel in enumerate(experiment.panels):
                path = f"experiments.{name}.panels[{number}]"
                for method in panel.methods or experiment.methods:
                    if method not in self.methods:
                        yield f"{path}.methods: no method {method!r}{nearest(method, self.methods)}"
                if panel.backbone not in self.backbones:
                    yield (
                        f"{path}.backbone: no backbone {panel.backbone!r}"
                        f"{nearest(panel.backbone, self.backbones)}"
                    )
                if panel.task not in self.tasks:
                    yield f"{path}.task: no task {panel.task!r}{nearest(panel.task, self.tasks)}"
                    continue
                tests = self.tasks[panel.task].tests
                if panel.attribute not in tests:
                    yield (
                        f"{path}.attribute: task {panel.task!r} has no tests of attribute "
                        f"{panel.attribute!r}{nearest(panel.attribute, tests)}"
                    )
                    continue
                for dataset in panel.datasets or ():
                    if dataset not in tests[panel.attribute]:
                        near = nearest(dataset, tests[panel.attribute])
                        of = f"no test set of attribute {panel.attribute!r}"
                        yield f"{path}.datasets: {dataset!r} is {of}{near}"
