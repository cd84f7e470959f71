"""The eight views of a square image, and normalization, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from swift_debias.config.schema import Augmentation, Images
from swift_debias.data.normalization import Normalization
from swift_debias.learning.augment import (
    apply_view,
    apply_views,
    draw_views,
    normalize,
    views,
)


def numpy_view(image: np.ndarray, view: int) -> np.ndarray:
    """(C, H, H) in a view, as augment.py's docstring says: transpose, then the flips."""
    image = np.swapaxes(image, 1, 2) if view & 4 else image
    image = image[:, :, ::-1] if view & 1 else image
    return image[:, ::-1] if view & 2 else image


@pytest.fixture
def images() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (16, 3, 5, 5), dtype=np.uint8))


def test_each_image_gets_its_own_view(images: torch.Tensor) -> None:
    view = torch.arange(16) % 8
    found = apply_views(images, view)
    for image, code, out in zip(images, view.tolist(), found, strict=True):
        np.testing.assert_array_equal(out.numpy(), numpy_view(image.numpy(), code))


def test_views_are_the_whole_dihedral_group(images: torch.Tensor) -> None:
    """Eight different pictures, and a view of a view is again one of the eight."""
    one = images[:1]
    seen = {apply_view(one, view).numpy().tobytes() for view in range(8)}
    assert len(seen) == 8
    twice = {
        apply_view(apply_view(one, a), b).numpy().tobytes() for a in range(8) for b in range(8)
    }
    assert twice == seen


@pytest.mark.key("augmentation.flips", "augmentation.transpose")
@pytest.mark.parametrize(
    ("flips", "transpose", "expected"),
    [
        (True, True, {0, 1, 2, 3, 4, 5, 6, 7}),
        (True, False, {0, 1, 2, 3}),
        (False, True, {0, 4}),
        ("horizontal", False, {0, 1}),
        ("horizontal", True, {0, 1, 4, 5}),
        (False, False, {0}),
    ],
)
def test_drawn_views_are_the_finite_set(flips: Any, transpose: bool, expected: set[int]) -> None:
    augmentation = Augmentation(flips=flips, transpose=transpose)
    assert set(views(augmentation)) == expected
    drawn = draw_views(4000, augmentation, torch.Generator().manual_seed(0))
    values, counts = drawn.unique(return_counts=True)
    assert set(values.tolist()) == expected
    # uniform: a share's standard deviation is at most 0.008 here
    assert (counts / 4000 - 1 / len(expected)).abs().max() < 0.04


def test_draw_views_depends_on_the_generator_alone() -> None:
    first, again, other = (
        draw_views(100, Augmentation(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_normalize_matches_torchvision(images: torch.Tensor) -> None:
    from swift_debias.learning.networks import import_torchvision

    import_torchvision()
    from torchvision.models import ResNet50_Weights

    transform = ResNet50_Weights.IMAGENET1K_V2.transforms()
    mean = torch.tensor(transform.mean).view(3, 1, 1)
    std = torch.tensor(transform.std).view(3, 1, 1)
    torch.testing.assert_close(normalize(images), (images / 255 - mean) / std)


def test_grey_images_are_repeated_in_three_channels(images: torch.Tensor) -> None:
    grey = images[:, :1]
    assert torch.equal(normalize(grey), normalize(grey.repeat(1, 3, 1, 1)))


@pytest.mark.key("images.mean", "images.std")
@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_by_the_users_own_numbers(images: torch.Tensor, channels: int) -> None:
    mean, std = (0.2, 0.5, 0.7)[:channels], (0.1, 0.3, 0.9)[:channels]
    settings = Images(channels=channels, mean=mean, std=std)
    found = normalize(images[:, :channels], Normalization.of(settings.mean, settings.std))
    for channel in range(channels):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-5, atol=1e-5)
    assert found.shape == images[:, :channels].shape
