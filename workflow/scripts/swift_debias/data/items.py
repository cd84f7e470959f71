"""Images and values as programs hold them: items of a torch Dataset, tensors, PIL pictures.

What is certain is converted; what could be meant in two ways is refused, in a line that says how to
write it. No torch here: a tensor is known by its methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError, note

TUPLES = "(image, label, group) or (image, label, group, patient)"
MOST_CHANNELS = 4  # of an ordinary picture


class Items(NamedTuple):
    """What a data set holds, an entry an image. images: (N, H, W, C)."""

    images: np.ndarray
    labels: list[Any]
    groups: list[Any]
    patients: list[Any] | None


def read(dataset: Any, channels: int) -> Items:
    """The items of a torch Dataset, or of a list; each is drawn once.

    Args:
        dataset: of (image, label, group) or (image, label, group, patient).
        channels: of what a PIL picture becomes: 1 is grey, else it is RGB.

    Raises:
        UserError: it is no such data set; names the item and says what to give.
    """
    items = _drawn(dataset)
    for number, item in enumerate(items):
        _refuse_other(item, number)
        if len(item) != len(items[0]):
            raise UserError(
                f"item {number} of the data set has {len(item)} parts, and item 0 has "
                f"{len(items[0])}: give all of them as {TUPLES}"
            )
    images = [_image(item[0], number, channels) for number, item in enumerate(items)]
    _tell_transparent([item[0] for item in items])
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise UserError(
                f"the data set's images differ in size: (H, W, C) of item 0 is {images[0].shape}, "
                f"of item {number} {image.shape}; resize them to one size"
            )
        if (image.dtype == np.uint8) != (images[0].dtype == np.uint8):
            raise UserError(
                f"item 0 of the data set has an image of {images[0].dtype}, and item {number} of "
                f"{image.dtype}: give all as uint8, or all as normalized floating numbers"
            )
    values = [
        [scalar(item[place], f"the {what} of item {number}") for number, item in enumerate(items)]
        for place, what in enumerate(("label", "group", "patient")[: len(items[0]) - 1], start=1)
    ]
    return Items(np.stack(images), values[0], values[1], values[2] if len(values) > 2 else None)


def _drawn(dataset: Any) -> list[Any]:
    """All items, by their numbers.

    Raises:
        UserError: it has no length, no items by number, or none at all.
    """
    name = type(dataset).__name__
    if hasattr(dataset, "dataset") and not hasattr(dataset, "__getitem__"):
        raise UserError(f"a {name} gives batches: give its data set, its attribute .dataset")
    if isinstance(dataset, Mapping) or hasattr(dataset, "columns"):
        raise UserError(
            f"a {name} is no data set of {TUPLES}: use ImageSet.from_frame for a table of files, "
            "from_arrays for arrays"
        )
    try:
        length = len(dataset)
        items = [dataset[number] for number in range(length)]
    except (TypeError, NotImplementedError) as error:
        if (
            hasattr(dataset, "__getitem__")
            and hasattr(dataset, "__len__")
            and not _streams(dataset)
        ):
            raise  # of the data set's own code
        raise UserError(
            f"a {name} has no items by number: give list(dataset), a list of {TUPLES}"
        ) from error
    if not items:
        raise UserError(f"the data set is empty: a data set of {TUPLES} is needed")
    return items


def _streams(dataset: Any) -> bool:
    """Whether a data set is a torch IterableDataset, whose items have no numbers."""
    return any(kind.__name__ == "IterableDataset" for kind in type(dataset).__mro__)


def _refuse_other(item: Any, number: int) -> None:
    """Refuse an item that is no tuple of three or four.

    Raises:
        UserError: says how to make one of it.
    """
    if isinstance(item, Mapping):
        keys = ", ".join(map(repr, item))
        raise UserError(
            f"item {number} of the data set is a dict ({keys}): give tuples, "
            "from_dataset([(item['image'], item['label'], item['group']) for item in dataset])"
        )
    if not isinstance(item, tuple | list):
        raise UserError(f"item {number} of the data set is a {type(item).__name__}: give {TUPLES}")
    if len(item) not in (3, 4):
        raise UserError(f"item {number} of the data set has {len(item)} parts: give {TUPLES}")


def _image(image: Any, number: int, channels: int) -> np.ndarray:
    """An item's image as (H, W, C).

    Raises:
        UserError: it is none, or its axes are in another order.
    """
    from PIL import Image

    where = f"item {number} of the data set"
    if isinstance(image, Image.Image):
        return _of_picture(image, where, channels)
    if isinstance(image, str | bytes) or hasattr(image, "__fspath__"):
        raise UserError(f"{where} names a file: ImageSet.from_frame reads files")
    array = as_array(image)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim != 3:
        raise UserError(
            f"{where} has an image of shape {array.shape}: (C, H, W) or (H, W) is needed"
        )
    first, second, last = array.shape
    wide = last in (3, MOST_CHANNELS) or first == second or last < MOST_CHANNELS < second
    if last < first and wide:
        raise UserError(
            f"{where} has an image of shape {array.shape}, which seems to be (H, W, C): give "
            "(C, H, W), as in torch.as_tensor(image).permute(2, 0, 1), or use ImageSet.from_arrays"
        )
    return np.moveaxis(array, 0, -1)


def _of_picture(image: Any, where: str, channels: int) -> np.ndarray:
    """A PIL picture, upright and in colour or grey, as `from_frame` reads its file."""
    from PIL import ImageOps

    from .decode import to_rgb
    from .unreadable import UnreadableError

    try:
        frame = to_rgb(ImageOps.exif_transpose(image))
    except UnreadableError as error:
        raise UserError(f"{where}: {error}") from error
    if channels == 1:
        return np.asarray(frame.convert("L"))[..., None]
    return np.asarray(frame)


def _tell_transparent(images: Sequence[Any]) -> None:
    """Say how many PIL pictures are transparent somewhere."""
    from PIL import Image

    from .decode import is_transparent, on_background

    found = [n for n, one in enumerate(images) if isinstance(one, Image.Image)]
    found = [number for number in found if is_transparent(images[number])]
    if found:
        note(on_background(len(found), len(images), f"item {found[0]}"))


def refuse_channels_first(shape: Sequence[int]) -> None:
    """Refuse arrays that seem to be (N, C, H, W) where (N, H, W, C) is needed.

    Raises:
        UserError: says how to turn them.
    """
    first, second, last = shape[1:]
    if MOST_CHANNELS < last > first and (second == last or first <= MOST_CHANNELS < second):
        raise UserError(
            f"images of shape {tuple(shape)} seem to be (N, C, H, W): give (N, H, W, C), as in "
            "np.moveaxis(images, 1, -1)"
        )


def as_array(values: Any) -> np.ndarray:
    """An array of anything that is one.

    A tensor may be on a device and have a gradient; what numpy has no type for, as bfloat16, is
    taken in 32 bits, which loses nothing.
    """
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()
        if re.search("bfloat16|float8", str(values.dtype)):
            values = values.float()
        return np.asarray(values.numpy())
    return np.asarray(values)


def scalar(value: Any, what: str) -> Any:
    """A tensor or an array of one number as a number; other values as they are.

    Raises:
        UserError: it has several numbers, as a one-hot label has.
    """
    if not hasattr(value, "item"):
        return value
    size = int(np.prod(tuple(getattr(value, "shape", ())), dtype=np.int64))
    if size != 1:
        raise UserError(
            f"{what} has {size} numbers, and one is needed: give a one-hot label's class, as in "
            "int(label.argmax())"
        )
    return value.item()
