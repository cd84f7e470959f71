"""Does an imported classifier score images as its owner's own program does?

Nothing else shows that pixels are prepared as they were in training: a classifier that gets them
otherwise normalized still gives scores, only worse ones. Where the scores differ, the usual causes
are tried one after the other, and the one that makes them agree is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..config.schema import IMAGENET_MEAN, IMAGENET_STD, Images
from ..data.image_set import HeldImages, read_files
from ..data.normalization import Normalization
from ..errors import UserError
from .inference import predict
from .networks import Classifier
from .samples import make_samples

TOLERANCE = 0.02  # of the span of the reference's scores
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


class Difference(NamedTuple):
    """How far scores are from the reference's.

    worst: the largest difference. image, ours, theirs: where it is. wrong: how many of `number`
    differ by more than `allowed`.
    """

    worst: float
    image: Path
    ours: float
    theirs: float
    wrong: int
    number: int
    allowed: float

    @property
    def agree(self) -> bool:
        """Whether no image's score differs by more than is allowed."""
        return self.wrong == 0


def scores_of(classifier: Classifier, paths: Sequence[Path], way: Way) -> np.ndarray:
    """Probabilities of class 1 by the workflow's own road, float64 (n,)."""
    pixels = read_files(paths, way.images)
    if way.bgr:
        pixels = pixels[..., ::-1].copy()
    n, none = len(paths), np.zeros(len(paths))
    normalization = Normalization(way.images.mean, way.images.std)
    samples = make_samples(
        HeldImages(pixels), np.arange(n), none, none, torch.device("cpu"), "off", normalization
    )
    scores: np.ndarray = predict(classifier, samples, 16).double().sigmoid().numpy()
    return 1 - scores if way.swap else scores


def compare(ours: np.ndarray, theirs: np.ndarray, paths: Sequence[Path]) -> Difference:
    """How far scores are from the reference's.

    Raises:
        UserError: the reference's are all alike, so that they prove nothing.
    """
    span = float(np.ptp(theirs))
    if not span > 0:
        raise UserError("the reference's scores are all the same: take images that differ")
    gaps = np.abs(ours - theirs)
    at, allowed = int(gaps.argmax()), TOLERANCE * span
    wrong = int((gaps > allowed).sum())
    worst = (float(gaps[at]), paths[at], float(ours[at]), float(theirs[at]))
    return Difference(*worst, wrong, len(paths), allowed)


def check(
    classifier: Classifier, paths: Sequence[Path], theirs: np.ndarray, images: Images
) -> Difference:
    """Refuse a classifier whose scores are not its owner's.

    Args:
        classifier: imported.
        paths: of the images.
        theirs: (n,), scores of class 1 by the owner's program: probabilities, or logits where one
            lies outside of [0, 1].
        images: how pixels are prepared.

    Raises:
        UserError: they differ; says what makes them agree, or where to look.
    """
    if ((theirs < 0) | (theirs > 1)).any():
        theirs = 1 / (1 + np.exp(-theirs))
    found = compare(scores_of(classifier, paths, Way("", images)), theirs, paths)
    if found.agree:
        return found
    raise UserError(
        f"the scores are not the reference's: {found.wrong} of {found.number} differ by more than "
        f"{found.allowed:.2g}, the most {found.image.name}: {found.ours:.4f} here, "
        f"{found.theirs:.4f} there. {_cause(classifier, paths, theirs, images)}"
    )


def _cause(
    classifier: Classifier, paths: Sequence[Path], theirs: np.ndarray, images: Images
) -> str:
    """What makes the scores agree, in words."""
    some = np.unique(np.linspace(0, len(paths) - 1, TRIED).astype(int))
    few = [paths[i] for i in some]
    if not np.ptp(theirs[some]) > 0:
        few, some = list(paths), np.arange(len(paths))
    for way in ways(images):
        ours = scores_of(classifier, few, way)
        for swap in (way.swap, not way.swap):
            now = 1 - ours if swap != way.swap else ours
            if compare(now, theirs[some], few).agree:
                return _advice(way, images, swap)
    return (
        "None of the usual causes makes them agree; look first at the normalization (mean, std), "
        "the resizing (size, fit, crop_share, interpolation), the order of the channels, and which "
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
