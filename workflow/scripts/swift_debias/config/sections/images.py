"""How images are read, and what counts as the same picture or the same skin tone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..base import Count, Flag, Fraction, Integer, Model, Number, Positive, Share, no_truth_value

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
        "all: the log names it, and the report counts the images that keep few grey levels.",
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
