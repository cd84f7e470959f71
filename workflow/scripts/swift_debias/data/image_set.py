"""Labelled images with a group each, from anywhere: what the front door's methods and audits take.

Pixels come from files (`from_frame`, decoded as the workflow's image cache does), from a torch
Dataset, from arrays, or from the cache of a run. No torch here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import yaml

from ..config.schema import IMAGENET_MEAN, IMAGENET_STD, Attribute, Images
from ..errors import UserError, nearest, note, of_library
from ..evaluation.influence import patient_codes
from ..files import read_parquet
from ..run import layout
from . import given, greys, items
from .columns import (
    class_column,
    drawn_share,
    group_column,
    group_values,
    joined,
    named_column,
    narrow_as_written,
    of_files,
    one_role_each,
    path_column,
    patient_column,
    tell_groups,
    tell_patients,
)
from .image_cache import CachedImages
from .normalization import Normalization
from .roots import refuse_missing

NAMED = 5  # broken files that a message lists


class Source(Protocol):
    """Anything that yields images (B, H, W, C) by row number."""

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The images of these rows, in this order."""
        ...


@dataclass(frozen=True)
class HeldImages:
    """Images in memory: (N, H, W, C), uint8 or float32."""

    pixels: np.ndarray

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the images of these rows."""
        return self.pixels[rows]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with a label and a group each, and the patient where known.

    Make one with `from_frame`, `from_dataset`, `from_arrays` or `from_run`.

    Attributes:
        labels: int8 (n,), 0 or 1; of more than two classes 0 to C - 1.
        groups: int16 (n,), index into `group_names`; -1: unknown.
        group_names: names of the groups of the sensitive attribute.
        patients: (n,), or None; of any ids, kept in their plain form (`columns.patient_column`);
            None: unknown, a person of its own.
        normalization: how pixels are normalized; None: they are taken as they are.
        balanced: bool (n,): the balanced part, where a run has drawn it; None: `fit` draws it.
        source, rows: where the pixels are; equal rows are one image.
        classes: names of the classes 0, 1, ...
        bits: with which 16-bit grey files were read, alike (`Images.bits`); None: there are none,
            or it is not known.
    """

    source: Source
    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    group_names: tuple[str, ...]
    patients: np.ndarray | None = None
    normalization: Normalization | None = None
    balanced: np.ndarray | None = None
    classes: tuple[str, ...] = ("0", "1")
    bits: int | None = None

    def __post_init__(self) -> None:
        if not len(self.rows):
            raise UserError("an image set without images")
        if len(self.group_names) < 2:
            raise UserError(f"a sensitive attribute needs two groups, here is {self.group_names}")
        shape = self.source.gather(self.rows[:1]).shape
        if len(shape) != 4:
            raise UserError(f"images must be (N, H, W, C), not of {len(shape)} dimensions")
        means = shape[3] if self.normalization is None else len(self.normalization.mean)
        if shape[3] not in (1, means):
            raise UserError(f"images of {shape[3]} channels, but a mean of {means} numbers")
        if self.patients is not None:  # once, for every road that leads here
            object.__setattr__(self, "patients", patient_column(self.patients))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """How many images of each label and group."""
        height, width, channels = self.shape
        names = [*self.group_names, *(["unknown"] if (self.groups < 0).any() else [])]
        cells = [
            f"{name} {int(mask.sum())} ({self._of_classes(mask)})"
            for number, name in enumerate(names)
            for mask in [self.groups == (number if number < len(self.group_names) else -1)]
        ]
        size = f"{height} x {width} x {channels}"
        return f"ImageSet({len(self)} images of {size}: {', '.join(cells)})"

    def _of_classes(self, rows: np.ndarray) -> str:
        """How many of some images are of class 1, or of each of more than two classes."""
        counts = np.bincount(self.labels[rows], minlength=len(self.classes))
        if len(self.classes) == 2:
            return f"{counts[1]} of class 1"
        return ", ".join(f"{name} {n}" for name, n in zip(self.classes, counts, strict=True))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of every image, as stored."""
        height, width, channels = self.source.gather(self.rows[:1]).shape[1:]
        return height, width, channels

    def subset(self, index: np.ndarray) -> ImageSet:
        """The images at these positions, or where this boolean mask is true."""
        return replace(
            self,
            rows=self.rows[index],
            labels=self.labels[index],
            groups=self.groups[index],
            patients=None if self.patients is None else self.patients[index],
            balanced=None if self.balanced is None else self.balanced[index],
        )

    @property
    def units(self) -> np.ndarray | None:
        """What is never torn apart, (n,), as `patients`: who has an image twice is one with it."""
        if len(np.unique(self.rows)) == len(self.rows):
            return self.patients
        return joined(patient_codes(self.patients, len(self)), self.rows)

    def split(self, fraction: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """Cut the set in two, a patient's images never apart, drawn within label and group.

        Rows of one file are one image and stay together, whatever patient they name.

        Args:
            fraction: share of the images in the first part, as nearly as whole patients allow.
            seed: of the draw.
        """
        given.refuse_no_draw(fraction, seed)
        units = patient_codes(self.units, len(self))
        first = drawn_share(units, self.labels, self.groups, fraction, seed)
        if first.all() or not first.any():
            raise UserError("split: too few patients or images to cut in two")
        whole = replace(self, balanced=None)  # a part's own balanced part is another
        return whole.subset(first), whole.subset(~first)

    @classmethod
    @of_library()
    def from_frame(
        cls,
        df: pd.DataFrame,
        image: str,
        label: str,
        attribute: str,
        patient: str | None = None,
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        root: str | Path = ".",
        *,
        positive: Any = None,
        classes: Sequence[Any] | None = None,
        groups: Mapping[str, Sequence[Any]] | None = None,
        cuts: Sequence[float] | None = None,
        channels: int | None = None,
        fit: str = "crop",
        crop_share: float = 1.0,
        interpolation: str = "bilinear",
        bits: int | None = None,
        workers: int | None = None,
    ) -> ImageSet:
        """Images in files, named by a table.

        Each is made upright, cropped to its largest centred square and resized, as the workflow's
        image cache does; otherwise where `fit`, `crop_share` and `interpolation` say so.
        Transparent pixels lie on black; a warning says how many images have some.

        Args:
            df: one row an image.
            image: column of the path, below `root` or absolute.
            label: column of the label: 0 and 1, or any values with `positive`.
            attribute: column of the sensitive attribute.
            patient: column of the patient, whose images are never split apart.
            size: pixels a side.
            mean, std: what the network was trained with, on [0, 1]; default: ImageNet's.
            root: folder of the images; where they are not below it, the nearest folder that has
                them is named.
            positive: the value, or a list of values, of class 1; all others are class 0.
            classes: the values of three classes or more, in the order of the network's outputs;
                rows of other values are refused.
            groups: name -> values of the attribute; default: a group for each value, sorted.
                Values in no group, empty ones, and -1 where it is not named, are unknown.
            cuts: of a number such as age, instead of groups; a value on a cut is above it. In a
                column named age what is not within 0 to 120 years is unknown.
            channels: 1 reads grey images, 3 colours; default: as many as `mean` has numbers.
            fit: crop: the centre; stretch: all of it, whatever its sides.
            crop_share: of the shorter side that the crop keeps; 0.875 is Resize(256) and
                CenterCrop(224).
            interpolation: bilinear, bicubic, lanczos, box or nearest.
            bits: of the levels of 16-bit grey files, 9 to 16; default: as many as the brightest of
                these files needs. Give it where other sets are to be read alike.
            workers: threads that decode; default: one a core.

        Raises:
            UserError: of the table, a file that cannot be read, or rows of one file that differ.
        """
        given.refuse_no_frame(df)
        given.refuse_no_groups(groups)
        cuts = given.numbers_of(cuts)
        roles = {"image": image, "label": label, "attribute": attribute, "patient": patient}
        one_role_each(roles, named_groups=groups is not None)
        files_named, of_label, of_group = (
            named_column(df, name) for name in (image, label, attribute)
        )
        of_patient = named_column(df, patient) if patient else None
        normalization = Normalization.of(mean, std)
        (labels, called), (index, names) = (
            class_column(of_label, positive, classes),
            group_column(of_group, groups, cuts),
        )
        paths = path_column(files_named, root)
        options = _images(
            size=size,
            channels=channels or (1 if len(normalization.mean) == 1 else 3),
            **normalization._asdict(),
            fit=fit,
            crop_share=crop_share,
            interpolation=interpolation,
            bits=bits,
        )
        refuse_missing(files_named.tolist(), root)
        tell_groups(of_group, groups, cuts)
        if of_patient is not None:
            tell_patients(of_patient)
        rows, files = of_files(
            paths, {f"label ({label!r})": labels, f"group ({attribute!r})": index}
        )
        read = read_files(files, options, workers)
        return cls(
            HeldImages(read.pixels),
            rows,
            labels,
            index,
            names,
            None if of_patient is None else of_patient.to_numpy(object),
            normalization,
            classes=called,
            bits=read.bits,
        )

    @classmethod
    @of_library()
    def from_dataset(
        cls,
        dataset: Any,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        group_names: Sequence[str] | None = None,
    ) -> ImageSet:
        """A torch Dataset of (image, label, group), or (image, label, group, patient).

        Every image is drawn once and kept in memory. Images are tensors or arrays (C, H, W), or
        (H, W): floating ones, of any precision, with or without a gradient, are taken as they are,
        already normalized; uint8 ones are normalized by `mean` and `std`. PIL pictures are made
        upright and RGB, or grey where `mean` has one number, as `from_frame` reads their files.

        Args:
            dataset: has a length and items by number, as a list has.
            mean, std: see above.
            group_names: names of the groups 0, 1, ...; default: the groups themselves, sorted.

        Raises:
            UserError: items are dicts, labels one-hot, images (H, W, C), or it has no items by
                number; names the item and says what to give.
        """
        read = items.read(dataset, np.size(mean))
        return cls._of_arrays(
            read.images, read.labels, read.groups, read.patients, mean, std, group_names, None
        )

    @classmethod
    @of_library()
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: Sequence[Any] | np.ndarray,
        groups: Sequence[Any] | np.ndarray,
        patients: Sequence[Any] | np.ndarray | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        group_names: Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
    ) -> ImageSet:
        """Images in memory.

        Args:
            images: (N, H, W, C) or (N, H, W), or a tensor. uint8 is normalized by `mean` and
                `std`; floating numbers are taken as they are, already normalized.
            labels: 0 and 1; with `classes` any of those values.
            groups: any values; null, and -1, are unknown.
            patients: whose image each is.
            mean, std: see above.
            group_names: names of the groups 0, 1, ...; default: the groups themselves, sorted.
            classes: see `from_frame`.
        """
        try:
            pixels = items.as_array(images)
        except ValueError as error:  # numpy's, of a list of arrays
            raise UserError(f"images: must be of one shape ({error})") from error
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        if pixels.ndim == 4:
            items.refuse_channels_first(pixels.shape)
        return cls._of_arrays(pixels, labels, groups, patients, mean, std, group_names, classes)

    @classmethod
    def _of_arrays(
        cls,
        pixels: np.ndarray,
        labels: Sequence[Any] | np.ndarray,
        groups: Sequence[Any] | np.ndarray,
        patients: Sequence[Any] | np.ndarray | None,
        mean: Sequence[float],
        std: Sequence[float],
        group_names: Sequence[str] | None,
        classes: Sequence[Any] | None,
    ) -> ImageSet:
        """See `from_arrays`; the axes of the images are in their order."""
        exact = pixels.dtype == np.uint8
        if not exact and not np.issubdtype(pixels.dtype, np.floating):
            raise UserError(
                f"images must be uint8 or normalized floating numbers, not {pixels.dtype}: convert "
                "numbers from 0 to 255 to uint8"
            )
        lengths = {len(pixels), len(labels), len(groups)}
        if len(lengths | ({len(patients)} if patients is not None else set())) != 1:
            raise UserError("images, labels, groups and patients must be equally many")
        if not exact:
            pixels = _finite(pixels.astype(np.float32))
            given.refuse_not_normalized(pixels)
        patients = None if patients is None else _one_each("patients", patients)
        labels, groups = _one_each("labels", labels), _one_each("groups", groups)
        index, names = group_values(groups, group_names)
        of_class, called = class_column(narrow_as_written(pd.Series(labels)), None, classes)
        if patients is not None:
            tell_patients(pd.Series(np.asarray(patients, object)))
        return cls(
            HeldImages(pixels),
            np.arange(len(pixels)),
            of_class,
            index,
            names,
            None if patients is None else np.asarray(patients, object),
            Normalization.of(mean, std) if exact else None,
            classes=called,
        )

    @classmethod
    @of_library()
    def from_run(
        cls,
        run: str | Path,
        task: str,
        attribute: str,
        *,
        fold: int | None = None,
        dataset: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        group_names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> ImageSet:
        """Images of a run of the workflow, from its cache: no file is decoded again.

        What the run's own settings say of the groups, classes and pixels holds; they are written
        when it ends.

        Args:
            run: its folder, `results/<run>`.
            task, attribute: as the run's config names them.
            fold: the external set of this fold, with the balanced part that the run drew.
            dataset: or a test set, as the run has scored it.
            mean, std: default: the task's `images.mean` and `std`; of a run that has not ended
                ImageNet's.
            group_names: names of the groups; default: the attribute's; of a run that has not ended
                their numbers.
            classes: names of the task's classes, where they are more than two; default: the task's.

        Raises:
            UserError: a file is not there, or its groups are more than have names.
        """
        if (fold is None) == (dataset is None):
            raise UserError("from_run: give fold= (an external set) or dataset= (a test set)")
        run = Path(run)
        if fold is not None:
            file = run / layout.path("external", task=task, attribute=attribute, fold=fold)
            frame = _parquet(file).rename(columns={"attribute": "group"})
            pool = _parquet(run / layout.path("cohort", task=task))
            keys = ["dataset", "image_id"]
            frame = frame.merge(pool[[*keys, "patient_id"]], on=keys, how="left")
        else:
            pattern = layout.path("predictions", task=task, attribute=attribute)
            pattern = pattern.format(backbone="*", method="*", fold="*")
            file = next(iter(sorted(run.glob(pattern))), run / pattern)
            frame = _parquet(file)
            names = frame["dataset"].unique()
            if dataset not in names:
                raise UserError(f"{file} has no test set {dataset!r}{nearest(str(dataset), names)}")
            frame = frame[frame["dataset"] == dataset]
        caches = [
            (run / layout.path("pixels", dataset=n), run / layout.path("image_index", dataset=n))
            for n in frame["dataset"].unique()
        ]
        images = CachedImages(caches)
        told = _told_by(run, task, attribute)
        found = max(2, int(frame["group"].max()) + 1)
        called = tuple(told.group_names or map(str, range(found)))
        called = called if group_names is None else tuple(group_names)
        if len(called) < found:
            raise UserError(f"from_run: {file} has {found} groups, and these are names: {called}")
        return cls(
            images,
            images.rows(frame["dataset"].tolist(), frame["image_id"].tolist()),
            frame["label"].to_numpy(np.int8),
            frame["group"].to_numpy(np.int16),
            called,
            frame["patient_id"].to_numpy(object),
            Normalization.of(told.mean if mean is None else mean, told.std if std is None else std),
            frame["balanced"].to_numpy(bool) if fold is not None else None,
            told.classes if classes is None else tuple(classes),
            told.bits,
        )


class _Told(NamedTuple):
    """What the settings of a run say of its images; without them what is usual."""

    group_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ("0", "1")
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    bits: int | None = None


def _told_by(run: Path, task: str, attribute: str) -> _Told:
    """What `settings.yaml` of a run's folder says of a task and an attribute.

    Raises:
        UserError: it cannot be read, or has no such task or attribute.
    """
    path = run / layout.path("settings")
    if not path.is_file():
        return _Told()
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        of, images = settings["tasks"][task], settings["tasks"][task]["images"]
        names = Attribute(**settings["attributes"][attribute]).group_names
        classes = tuple(of.get("classes") or _Told().classes)
        mean, std = tuple(images["mean"]), tuple(images["std"])
        return _Told(names, classes, mean, std, images.get("bits"))
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise UserError(
            f"{path} does not say what groups {attribute!r} of {task!r} has ({why})"
        ) from error


class Read(NamedTuple):
    """What was read: uint8 (N, size, size, channels); and the bits of 16-bit grey files, if any."""

    pixels: np.ndarray
    bits: int | None


def read_files(paths: Sequence[Path], options: Images, workers: int | None = None) -> Read:
    """Decode image files, as the workflow's image cache does.

    Transparent pixels lie on black; how many images have some is told (`errors.Note`), and how many
    16-bit ones keep few grey levels.

    Raises:
        UserError: files that cannot be read; names the first.
    """
    from .decode import UnreadableError, decode, no_pillow_limit, on_background, read_bytes

    pixels = np.empty((len(paths), options.size, options.size, options.channels), np.uint8)

    needed: dict[int, int] = {}  # row -> bits, of 16-bit grey pictures
    seen_through: set[int] = set()  # rows of pictures that are transparent somewhere

    def read(row: int, bits: int | None = None) -> str | None:
        try:
            image = decode(read_bytes(paths[row], options), options, bits)
        except UnreadableError as error:
            return f"{paths[row]}: {error}"
        pixels[row] = image.pixels
        if image.bits is not None:
            needed[row] = image.bits
        if image.transparent:
            seen_through.add(row)
        return None

    with no_pillow_limit(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        broken = [problem for problem in pool.map(read, range(len(paths))) if problem]
        if needed and not broken:  # all are scaled alike: see `images.bits`
            most = max(needed.values())
            again = [row for row, bits in needed.items() if bits < most]
            list(pool.map(read, again, [most] * len(again)))
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        listed = "; ".join(broken[:NAMED])
        raise UserError(f"{len(broken)} of {len(paths)} images cannot be read: {listed}{more}")
    if seen_through:
        note(on_background(len(seen_through), len(paths), paths[min(seen_through)]))
    if needed:
        flat = pixels.reshape(len(pixels), -1)
        bits = pd.Series([needed.get(row) for row in range(len(paths))], dtype="Int64")
        for line in greys.remarks(bits, pd.Series(np.ptp(flat, axis=1)), paths):
            note(line)
    return Read(pixels, max(needed.values(), default=None))


def _one_each(what: str, values: Sequence[Any] | np.ndarray) -> Sequence[Any] | np.ndarray:
    """One value an image; a list of tensors of one number each is a list of numbers."""
    values = items.as_array(values) if hasattr(values, "detach") else values
    shape = tuple(getattr(values, "shape", (len(values),)))
    if len(shape) == 1 and not any(isinstance(value, list) for value in values):
        if hasattr(values, "shape"):
            return values
        return [items.scalar(value, f"{what}: number {n}") for n, value in enumerate(values)]
    raise UserError(f"{what}: one value an image is needed, not lists or an array of {shape}")


def _finite(pixels: np.ndarray) -> np.ndarray:
    """Floating pixels, refused where one is not finite."""
    broken = np.flatnonzero(~np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1))
    if len(broken):
        raise UserError(
            f"{len(broken)} images have pixels that are not finite, the first is number "
            f"{broken[0]}: take them out, or mend how they are normalized"
        )
    return pixels


def _images(**prepared: Any) -> Images:
    """How images are prepared; a mistake in it is the user's."""
    from pydantic import ValidationError

    from ..config.base import explain

    try:
        return Images.model_validate(prepared)
    except ValidationError as error:
        raise UserError(explain(error)) from error


def _parquet(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"no file {path}: has the run come so far, and are the names right?")
    return read_parquet(path)
