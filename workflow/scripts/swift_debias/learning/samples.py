"""Labelled images on a device, in batches.

`Samples` draws images by index, in a given view, normalized: from memory where the set fits, else
from the memory-mapped cache. `Features` has the same face for precomputed features, so that
one training loop serves both.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..data.normalization import IMAGENET, Normalization
from .augment import apply_view, apply_views, normalize

RESIDENT_SHARE = 0.5  # of the free memory: above it the images stay in the memory-mapped cache
AHEAD = 2  # batches that are read while a GPU computes on another

T = TypeVar("T")
R = TypeVar("R")


class Batch(NamedTuple):
    """What a loss or an importance sees.

    images: float32 (B, C, H, W) normalized, or (B, D) features.
    labels: float32 (B,), 0 to C - 1. attributes: int64 (B,), group index, -1 = unknown.
    """

    images: Tensor
    labels: Tensor
    attributes: Tensor


class ImageSource(Protocol):
    """Anything that yields images (B, H, W, C) by row number: see `image_cache.CachedImages`."""

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The images of these rows, in this order."""
        ...


class Drawable(Protocol):
    """What the training loop needs of its samples."""

    labels: Tensor
    attributes: Tensor
    classes: int

    def __len__(self) -> int: ...

    def draws(self, batches: Sequence[Tensor], view: Tensor) -> Iterator[Tensor]:
        """Inputs of these samples, batch by batch, each in its view: view[i] is sample i's."""
        ...


@dataclass
class Samples:
    """A set of labelled images.

    Attributes:
        source: where the pixels are: a tensor (N, C, H, W) on the device, or a cache.
        rows: int64 (n,), the rows of the source that belong to this set.
        labels: float32 (n,) on the device.
        attributes: int64 (n,) on the device.
        seen: how many images were drawn so far (for the cost table), counted over all subsets.
        normalization: what the network was trained with; None: the source's are normalized.
        classes: C, how many the task has, whether or not all occur.
    """

    source: Tensor | ImageSource
    rows: Tensor
    labels: Tensor
    attributes: Tensor
    seen: list[int] = field(default_factory=lambda: [0])
    normalization: Normalization | None = IMAGENET
    classes: int = 2

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where labels, attributes and drawn images are."""
        return self.labels.device

    @property
    def side(self) -> int:
        """Pixels a side of an image; of an empty set 0."""
        if isinstance(self.source, Tensor):
            return self.source.shape[-1]
        return self.source.gather(self.rows[:1].numpy()).shape[1] if len(self) else 0

    def pixels(self, index: Tensor) -> Tensor:
        """(B, C, H, W) as stored: on the device if the set is held there, else in host memory.

        What is read for a GPU lies in page-locked memory, from which it is sent without waiting.
        """
        rows = self.rows[index.cpu()]
        if isinstance(self.source, Tensor):
            return self.source[rows.to(self.source.device, non_blocking=True)]
        images = torch.from_numpy(self.source.gather(rows.numpy())).permute(0, 3, 1, 2)
        return images.pin_memory() if self.device.type == "cuda" else images

    def draw(self, index: Tensor, view: Tensor | int | None = None) -> Tensor:
        """float32 (B, C, H, W) on the device, normalized, each image in its view."""
        return self._finish(self.pixels(index), view)

    def draws(self, batches: Sequence[Tensor], view: Tensor | int) -> Iterator[Tensor]:
        """As `draw`, batch by batch; for a GPU the next ones are read from the cache meanwhile."""
        ahead = 0 if isinstance(self.source, Tensor) or self.device.type == "cpu" else AHEAD
        for index, pixels in zip(batches, read_ahead(self.pixels, batches, ahead), strict=True):
            yield self._finish(pixels, view if isinstance(view, int) else view[index])

    def _finish(self, pixels: Tensor, view: Tensor | int | None) -> Tensor:
        """Send pixels to the device, augment and normalize them there."""
        self.seen[0] += len(pixels)
        images = pixels.to(self.device, non_blocking=True)
        if isinstance(view, int):
            images = apply_view(images, view)
        elif view is not None:
            images = apply_views(images, view)
        normalization = self.normalization
        ready = images.float() if normalization is None else normalize(images, normalization)
        return ready.contiguous(memory_format=torch.channels_last)

    def batches(self, batch_size: int, view: int = 0) -> Iterator[Batch]:
        """The whole set in order, without augmentation."""
        indices = torch.arange(len(self)).split(batch_size)
        for index, images in zip(indices, self.draws(indices, view), strict=True):
            at = index.to(self.device, non_blocking=True)
            yield Batch(images, self.labels[at], self.attributes[at])

    def subset(self, index: np.ndarray | Tensor) -> Samples:
        """The samples at these positions (or where this boolean mask is true)."""
        at = index if isinstance(index, Tensor) else torch.tensor(index)
        at = at.cpu()  # rows are on the CPU, whatever the device is
        at = torch.nonzero(at).squeeze(1) if at.dtype == torch.bool else at
        here = at.to(self.device)
        return replace(
            self, rows=self.rows[at], labels=self.labels[here], attributes=self.attributes[here]
        )

    def with_attributes(self, attributes: Tensor) -> Samples:
        """The same images with other group indices."""
        return replace(self, attributes=attributes.to(self.device))


def read_ahead(read: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """read(item) for each item, in order, up to `ahead` of them beforehand in another thread.

    An error in `read` is raised when its item's turn comes. With `ahead` 0 there is no thread.
    """
    if not ahead:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting: collections.deque[Future[R]] = collections.deque()
        for item in items:
            waiting.append(reader.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass
class Features:
    """Precomputed features of a frozen extractor: (V, n, D), one slice a view."""

    values: Tensor
    views: tuple[int, ...]
    labels: Tensor
    attributes: Tensor
    classes: int = 2

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, index: Tensor, view: Tensor | None = None) -> Tensor:
        """(B, D) float32."""
        at = index.to(self.values.device, non_blocking=True)
        if view is None:
            return self.values[0, at]
        slot = torch.tensor([self.views.index(code) for code in view.tolist()])
        return self.values[slot.to(self.values.device, non_blocking=True), at]

    def draws(self, batches: Sequence[Tensor], view: Tensor) -> Iterator[Tensor]:
        """As `draw`, batch by batch."""
        return (self.draw(index, view[index]) for index in batches)


@dataclass
class ExternalSet:
    """The external set of one fold and one binary attribute (docs/paper.md, "The external set").

    full: every sample of the validation fold whose attribute is known.
    balanced: the part of it in which both groups have the same size and label ratio.
    patients: (n,) of `full`, whose image each is; null: somebody of their own. None: not known.
    """

    full: Samples
    balanced: Samples
    patients: np.ndarray | None = None


def few(samples: Samples, count: int = 2) -> Tensor:
    """Some images, which are not counted as drawn."""
    seen = samples.seen[0]
    images = samples.draw(torch.arange(min(count, len(samples))))
    samples.seen[0] = seen
    return images


def make_samples(
    source: ImageSource,
    rows: np.ndarray,
    labels: np.ndarray,
    attributes: np.ndarray,
    device: torch.device,
    resident: str = "auto",
    normalization: Normalization | None = IMAGENET,
    classes: int = 2,
) -> Samples:
    """Samples of a cache, held on the device if they fit.

    Args:
        source: the image cache.
        rows: int64 (n,), rows of the cache.
        labels: (n,), 0 to classes - 1.
        attributes: (n,), group indices, -1 = unknown.
        device: where to compute.
        resident: "on", "off", or "auto": on where the pixels fit in half of the free memory.
        normalization, classes: see `Samples`.
    """
    labels_ = torch.tensor(labels, dtype=torch.float32, device=device)
    attributes_ = torch.tensor(attributes, dtype=torch.int64, device=device)
    if resident == "auto" and len(rows):
        bytes_needed = source.gather(rows[:1]).nbytes * len(rows)
        resident = "on" if bytes_needed < RESIDENT_SHARE * _free_memory(device) else "off"
    if resident == "on" and len(rows):
        first = torch.from_numpy(source.gather(rows[:1])).permute(0, 3, 1, 2)
        shape = (len(rows), *first.shape[1:])
        pixels = torch.empty(shape, dtype=first.dtype, device=device)  # held once, filled in parts
        for at in torch.arange(len(rows)).split(1024):
            block = torch.from_numpy(source.gather(rows[at.numpy()])).permute(0, 3, 1, 2)
            pixels[int(at[0]) : int(at[-1]) + 1] = block.to(device)
        held = torch.arange(len(rows))
        return Samples(
            pixels, held, labels_, attributes_, normalization=normalization, classes=classes
        )
    held = torch.tensor(rows)
    return Samples(source, held, labels_, attributes_, normalization=normalization, classes=classes)


def _free_memory(device: torch.device) -> int:
    """Bytes free on the device, or on the host for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with Path("/proc/meminfo").open() as file:  # Linux; elsewhere `resident` must be set
        return next(int(row.split()[1]) * 1024 for row in file if row.startswith("MemAvailable"))
