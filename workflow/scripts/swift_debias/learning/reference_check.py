"""Does an imported classifier score images as its owner's own program does?

Nothing else shows that pixels are prepared as they were in training: a classifier that gets them
otherwise normalized still gives scores, only worse ones. Where the scores differ, the usual causes
are tried one after the other, and the one that makes them agree is named.

Scores are compared as logits, for those of a confident classifier differ there alone: of logits 28
and 11 both probabilities are 1. Probabilities are compared as they are too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..config.schema import IMAGENET_MEAN, IMAGENET_STD, Images
from ..data.decode import USUAL_BITS
from ..data.image_set import HeldImages, read_files
from ..data.normalization import Normalization
from ..errors import UserError
from .inference import predict
from .networks import Classifier
from .samples import make_samples

TOLERANCE = 0.02  # of the span of the reference's scores
FEW = 8  # images that prove little
SURE, NEARLY_ALL = 0.02, 0.9  # probabilities below 0.02 or above 0.98 say little of their logits
TRIED = 16  # images on which causes are looked for

# What classifiers are trained with, by the name that people know.
NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "none, pixels on [0, 1]": ((0.0,) * 3, (1.0,) * 3),
    "pixels on [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "pixels from 0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
    "torchxrayvision's, [-1024, 1024]": ((0.5,) * 3, (1 / 2048,) * 3),
}
SIZES: tuple[dict[str, Any], ...] = (
    {"fit": "stretch", "crop_share": 1.0},
    {"fit": "crop", "crop_share": 1.0},
    {"fit": "crop", "crop_share": 0.875},
)
FILTERS = ("bilinear", "bicubic", "lanczos", "box", "nearest")


class Way(NamedTuple):
    """A way to prepare pixels and to read scores.

    cause: in words. images: the settings. bgr: channels in reversed order. swap: class 0 is meant.
    """

    cause: str
    images: Images
    bgr: bool = False
    swap: bool = False


class Reference(NamedTuple):
    """What the owner's program says of images.

    scores: (n,) of class 1, as they were given. logits: whether that is what they are. low, high:
    (n,), between which the logit of each lies, for a probability has so many digits only.
    """

    scores: np.ndarray
    logits: bool
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray) -> Reference:
        """Probabilities, or logits where one lies outside of [0, 1]."""
        if ((scores < 0) | (scores > 1)).any():
            return cls(scores, True, scores, scores)
        half = _rounding(scores)
        low, high = _logit(scores - half), _logit(scores + half)
        return cls(scores, False, low, high)

    def part(self, index: np.ndarray) -> Reference:
        """What it says of some images."""
        return Reference(self.scores[index], self.logits, self.low[index], self.high[index])

    def weakness(self) -> Iterator[str]:
        """Why agreement with it proves little, in a line each."""
        if len(self.scores) < FEW:
            yield f"{len(self.scores)} images prove little: give at least {FEW}"
        sure = (self.scores < SURE) | (self.scores > 1 - SURE)
        if not self.logits and sure.mean() >= NEARLY_ALL:
            yield (
                f"{sure.sum()} of {len(sure)} probabilities are below {SURE} or above {1 - SURE}, "
                "where wrongly prepared pixels hardly show: give logits as scores, or other images"
            )


class Difference(NamedTuple):
    """How far scores are from the reference's.

    worst: the largest difference. image, ours, theirs: where it is. wrong: how many of `number`
    differ by more than `allowed`. scale: what the numbers are, "probability" or "logit".
    """

    worst: float
    image: Path
    ours: float
    theirs: float
    wrong: int
    number: int
    allowed: float
    scale: str

    @property
    def agree(self) -> bool:
        """Whether no image's score differs by more than is allowed."""
        return self.wrong == 0


def _rounding(probabilities: np.ndarray) -> np.ndarray:
    """By how much each may have been rounded, (n,): to decimals, or to numbers of 16 or 32 bits."""
    given = torch.tensor(probabilities, dtype=torch.float64)
    kinds = (torch.bfloat16, torch.float16)
    bits = next((torch.finfo(k).eps for k in kinds if torch.equal(given.to(k).double(), given)), 0)
    exact = (d for d in range(7) if np.allclose(probabilities.round(d), probabilities, 0, 1e-12))
    decimals = next((0.5 * 10.0**-d for d in exact), 0.0)
    least = max(decimals, float(np.finfo(np.float32).eps))
    return np.maximum(least, bits / 2 * probabilities)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    """Logits; infinite of what is not between 0 and 1."""
    inside = probabilities.clip(0, 1)
    with np.errstate(divide="ignore"):
        return np.log(inside) - np.log1p(-inside)


def logits_of(classifier: Classifier, paths: Sequence[Path], way: Way) -> np.ndarray:
    """Logits of class 1 by the workflow's own road, float64 (n,)."""
    pixels = read_files(paths, way.images).pixels
    if way.bgr:
        pixels = pixels[..., ::-1].copy()
    n, none = len(paths), np.zeros(len(paths))
    normalization = Normalization(way.images.mean, way.images.std)
    samples = make_samples(
        HeldImages(pixels), np.arange(n), none, none, torch.device("cpu"), "off", normalization
    )
    logits: np.ndarray = predict(classifier, samples, 16).double().cpu().numpy()
    return -logits if way.swap else logits


def with_bits(paths: Sequence[Path], images: Images) -> Images:
    """The settings with the bits that all 16-bit images need, so that some are read as all are."""
    bits = read_files(paths, images).bits
    return (
        images if bits is None or bits <= USUAL_BITS else images.model_copy(update={"bits": bits})
    )


def compare(ours: np.ndarray, reference: Reference, paths: Sequence[Path]) -> Difference:
    """How far logits are from the reference's scores, on the scale where they are farther.

    Raises:
        UserError: the reference's are all alike, so that they prove nothing.
    """
    if not np.ptp(reference.scores) > 0:
        raise UserError("the reference's scores are all the same: take images that differ")
    nearest = ours.clip(reference.low, reference.high)
    theirs = np.where(np.isinf(reference.low), reference.high, reference.low)
    scales = [_difference("logit", ours, nearest, theirs, paths)]
    if not reference.logits:
        with np.errstate(over="ignore"):
            scores = 1 / (1 + np.exp(-ours))
        given = reference.scores
        scales.append(_difference("probability", scores, given, given, paths))
    return max(scales, key=lambda found: found.worst / max(found.allowed, 1e-300))


def _difference(
    scale: str, ours: np.ndarray, nearest: np.ndarray, theirs: np.ndarray, paths: Sequence[Path]
) -> Difference:
    """Of scores to the nearest that the reference allows; its span is that of `theirs`."""
    gaps = np.abs(ours - nearest)
    at, allowed = int(gaps.argmax()), TOLERANCE * float(np.ptp(theirs))
    wrong = int((gaps > allowed).sum())
    worst = (float(gaps[at]), paths[at], float(ours[at]), float(theirs[at]))
    return Difference(*worst, wrong, len(paths), allowed, scale)


def check(
    classifier: Classifier, paths: Sequence[Path], reference: Reference, images: Images
) -> Difference:
    """Refuse a classifier whose scores are not its owner's.

    Args:
        classifier: imported.
        paths: of the images.
        reference: what the owner's program says of them.
        images: how pixels are prepared.

    Raises:
        UserError: they differ; says what makes them agree, or where to look.
    """
    found = compare(logits_of(classifier, paths, Way("", images)), reference, paths)
    if found.agree:
        return found
    what = "the scores" if found.scale == "probability" else "the logits of the scores"
    raise UserError(
        f"{what} are not the reference's: {found.wrong} of {found.number} differ by more than "
        f"{found.allowed:.2g}, the most {found.image.name}: {found.ours:.4f} here, "
        f"{found.theirs:.4f} there. {_cause(classifier, paths, reference, images)}"
    )


def _as_percent(reference: Reference) -> Reference | None:
    """What it says if its scores are percent; None: they cannot be."""
    scores = reference.scores
    percent = reference.logits and scores.min() >= 0 and scores.max() <= 100
    return Reference.of(scores / 100) if percent else None


def _cause(
    classifier: Classifier, paths: Sequence[Path], reference: Reference, images: Images
) -> str:
    """What makes the scores agree, in words."""
    said = "None of the usual causes makes them agree"
    if (shares := _as_percent(reference)) is not None:
        if compare(logits_of(classifier, paths, Way("", images)), shares, paths).agree:
            return "They agree as percent: divide them by 100"
        said += "; they were taken as logits, and may be percent (then divide them by 100 first)"
    some = np.unique(np.linspace(0, len(paths) - 1, TRIED).astype(int))
    if not np.ptp(reference.scores[some]) > 0:
        some = np.arange(len(paths))
    few, theirs = [paths[i] for i in some], reference.part(some)
    for way in ways(images):
        ours = logits_of(classifier, few, way)
        for swap in (way.swap, not way.swap):
            if compare(ours if swap == way.swap else -ours, theirs, few).agree:
                return _advice(way, images, swap)
    return (
        f"{said}; look first at the normalization (mean, std), the "
        "resizing (size, fit, crop_share, interpolation), the order of the channels, and which "
        "class a score is of"
    )


def ways(images: Images) -> Iterator[Way]:
    """The usual causes, one at a time and then two at a time."""
    yield Way("the order of the classes", images)
    colour = images.channels == 3
    normalized = list(_normalized(images))
    sized = list(_sized(images))
    yield from normalized
    yield from sized
    if colour:
        yield Way("the order of the channels (BGR)", images, bgr=True)
        yield from (Way(f"{w.cause}, and BGR channels", w.images, True) for w in normalized)
    for one in normalized:
        for other in sized:
            both = one.images.model_copy(
                update=other.images.model_dump(include={"fit", "crop_share", "interpolation"})
            )
            yield Way(f"{one.cause}, and {other.cause}", both)


def _normalized(images: Images) -> Iterator[Way]:
    for name, (mean, std) in NORMALIZATIONS.items():
        n = len(images.mean)
        changed = images.model_copy(update={"mean": mean[:n], "std": std[:n]})
        if changed != images:
            yield Way(f"the normalization ({name})", changed)


def _sized(images: Images) -> Iterator[Way]:
    for size in SIZES:
        for name in FILTERS:
            changed = images.model_copy(update={**size, "interpolation": name})
            if changed != images:
                yield Way("the resizing", changed)


def _advice(way: Way, images: Images, swap: bool) -> str:
    """What to change."""
    before, now = images.model_dump(), way.images.model_dump()
    options = []
    for key, value in now.items():
        if before[key] != value:
            text = " ".join(f"{v:.6g}" for v in value) if isinstance(value, tuple) else value
            options.append(f"--{key.replace('_', '-')} {text}")
    causes = [way.cause] if options or way.bgr else []
    if swap:
        options.append("--swap-classes")
        causes += ["the order of the classes"]
    said = f"They agree with another setting of {' and '.join(dict.fromkeys(causes))}"
    if way.bgr:
        said += "; let your function's forward begin with images = images.flip(1)"
    return f"{said}: {' '.join(options)}" if options else said
