"""What `from_dataset` and `from_arrays` take as it is, and what they refuse in a line."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

import swift_debias as sd
from swift_debias.data.items import as_array
from swift_debias.errors import UserError

N = 12
LABELS, GROUPS = [n % 2 for n in range(N)], [n // 2 % 2 for n in range(N)]
PIXELS = torch.rand(N, 3, 9, 8, generator=torch.Generator().manual_seed(0))
Item = namedtuple("Item", "image label group")


def items(image: Callable[[int], Any], label: Callable[[int], Any] = int) -> list[Any]:
    return [(image(n), label(LABELS[n]), GROUPS[n]) for n in range(N)]


def pixels(images: sd.ImageSet) -> np.ndarray:
    return images.source.gather(images.rows)


def own(n: int) -> torch.Tensor:
    return PIXELS[n]


TAKEN: dict[str, Any] = {
    "tensors": items(own),
    "with a gradient": items(lambda n: PIXELS[n].clone().requires_grad_()),
    "of a computation": items(lambda n: PIXELS[n].clone().requires_grad_() * 1),
    "bfloat16": items(lambda n: PIXELS[n].bfloat16()),
    "float16": items(lambda n: PIXELS[n].half()),
    "float64": items(lambda n: PIXELS[n].double()),
    "arrays": items(lambda n: PIXELS[n].numpy()),
    "not contiguous": items(lambda n: PIXELS[n].permute(2, 1, 0).contiguous().permute(2, 1, 0)),
    "lists": [list(item) for item in items(own)],
    "named tuples": [Item(*item) for item in items(own)],
    "labels of one number": items(own, lambda y: torch.tensor([float(y)], requires_grad=True)),
    "labels of arrays": items(own, lambda y: np.array(y)),
    "labels in bfloat16": items(own, lambda y: torch.tensor(y).bfloat16()),
    "TensorDataset": TensorDataset(PIXELS, torch.tensor(LABELS), torch.tensor(GROUPS)),
    "Subset": Subset(items(own), range(N)),
    "ConcatDataset": ConcatDataset([items(own)[:5], items(own)[5:]]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_certain_is_taken(name: str) -> None:
    images = sd.ImageSet.from_dataset(TAKEN[name])
    expected = PIXELS.permute(0, 2, 3, 1).numpy()
    near = {"bfloat16": 1 / 256, "float16": 1 / 2048}.get(name, 0)
    np.testing.assert_allclose(pixels(images), expected, atol=near, rtol=0)
    if name == "bfloat16":
        assert (pixels(images) == PIXELS.bfloat16().float().permute(0, 2, 3, 1).numpy()).all()
    assert pixels(images).dtype == np.float32
    assert images.labels.tolist() == LABELS and images.groups.tolist() == GROUPS


def test_a_grey_image_of_two_axes_is_not_turned() -> None:
    grey = items(lambda n: PIXELS[n, 0])
    np.testing.assert_array_equal(pixels(sd.ImageSet.from_dataset(grey))[..., 0], PIXELS[:, 0])


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("mean", [(0.5, 0.4, 0.3), (0.5,)])
@pytest.mark.parametrize("turned", [False, True])
def test_pil_pictures_are_read_as_their_files(
    mode: str, mean: tuple[float, ...], turned: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    made, names = [], []
    for n in range(N):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8, 4), np.uint8), "RGBA")
        names.append(f"{n}.{'tif' if mode == 'CMYK' else 'png'}")
        exif = Image.Exif()
        if turned:
            exif[0x112] = 6
        picture.convert("RGB" if mode in ("P", "CMYK") else "RGBA").convert(mode).save(
            tmp_path / names[-1], exif=exif
        )
        made.append(Image.open(tmp_path / names[-1]))
    std = (0.2,) * len(mean)
    found = sd.ImageSet.from_dataset(items(made.__getitem__), mean, std)
    table = pd.DataFrame({"f": names, "y": LABELS, "g": GROUPS})
    of_files = sd.ImageSet.from_frame(table, "f", "y", "g", None, 8, mean, std, tmp_path)
    np.testing.assert_array_equal(pixels(found), pixels(of_files))
    assert found.normalization == of_files.normalization and pixels(found).dtype == np.uint8


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(items(own))


class LongStream(Stream):
    def __len__(self) -> int:
        return N


def hwc(*shape: int, dtype: Any = np.float32) -> list[Any]:
    return items(lambda n: np.zeros(shape, dtype))


REFUSED: dict[str, tuple[Any, str]] = {
    "MONAI": (
        [{"image": own(n), "label": 0, "sex": 1} for n in range(N)],
        r"item 0 .* is a dict \('image', 'label', 'sex'\): give tuples, .*for item in dataset",
    ),
    "one-hot": (
        items(own, lambda y: torch.eye(2)[y]),
        r"the label of item 0 has 2 numbers.*label\.argmax\(\)",
    ),
    "one-hot array": (items(own, lambda y: np.eye(2)[y]), r"the label of item 0 has 2 numbers"),
    "no label": (items(own, lambda y: torch.zeros(0)), r"the label of item 0 has 0 numbers"),
    "groups of two": (
        [(own(n), 0, np.array([1, 2])) for n in range(N)], r"the group of item 0 has 2 numbers",
    ),
    "iterable": (Stream(), r"Stream has no items by number: give list\(dataset\)"),
    "long iterable": (LongStream(), r"LongStream has no items by number: give list\(dataset\)"),
    "generator": ((i for i in items(own)), r"generator has no items by number"),
    "loader": (DataLoader(items(own)), r"DataLoader gives batches: give its data set"),
    "frame": (pd.DataFrame({"y": [1]}), r"DataFrame is no data set.*from_frame"),
    "dict": ({"image": PIXELS}, r"dict is no data set.*from_arrays"),
    "float (H, W, C)": (hwc(9, 8, 3), r"shape \(9, 8, 3\), which seems to be \(H, W, C\).*permute"),
    "uint8 (H, W, C)": (hwc(9, 8, 3, dtype=np.uint8), r"item 0 .*seems to be \(H, W, C\)"),
    "(H, W, 1)": (hwc(9, 8, 1), r"\(9, 8, 1\), which seems to be \(H, W, C\)"),
    "(H, W, 4)": (hwc(9, 9, 4), r"\(9, 9, 4\), which seems to be \(H, W, C\)"),
    "(H, W, 12)": (hwc(64, 64, 12), r"\(64, 64, 12\), which seems to be \(H, W, C\)"),
    "batches": (hwc(1, 3, 8, 8), r"item 0 .*shape \(1, 3, 8, 8\): \(C, H, W\) or \(H, W\)"),
    "a number": (items(lambda n: n), r"item 0 .*shape \(\)"),
    "a file": (items(lambda n: "a.png"), r"item 0 .* names a file: ImageSet.from_frame"),
    "a path": (items(lambda n: Path("a.png")), r"item 0 .* names a file: ImageSet.from_frame"),
    "whole numbers": (items(lambda n: (PIXELS[n] * 255).long()), r"not int64: convert .*uint8"),
    "float picture": (
        items(lambda n: Image.new("F", (8, 8))), r"item 0 of the data set: colour mode F",
    ),
    "tensor items": (PIXELS, r"item 0 of the data set is a Tensor: give \(image, label, group\)"),
    "pairs": ([(own(n), 0) for n in range(N)], r"item 0 of the data set has 2 parts"),
    "of other length": (
        [*items(own), (own(0), 0, 1, "p")], r"item 12 .* has 4 parts, and item 0 has 3",
    ),
    "sizes": (items(lambda n: torch.zeros(3, 8, 8 + n // 5)), r"item 5 \(8, 9, 3\); resize them"),
    "types": (
        [*items(own), (torch.zeros(3, 9, 8).byte(), 0, 0)],
        r"image of float32, and item 12 of uint8",
    ),
    "empty": ([], r"the data set is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_refused_in_a_line(name: str) -> None:
    dataset, said = REFUSED[name]
    with pytest.raises(UserError) as error:
        sd.ImageSet.from_dataset(dataset)
    assert re.search(said, str(error.value)) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [KeyError, TypeError, NotImplementedError, IndexError])
def test_a_mistake_of_the_data_sets_own_code_keeps_its_traceback(kind: type[Exception]) -> None:
    class Broken:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> Any:
            raise kind("mine")

    with pytest.raises(kind, match="mine"):
        sd.ImageSet.from_dataset(Broken())


@pytest.mark.parametrize(
    "shape",
    [
        *((3, 9, 8), (1, 32, 30), (4, 8, 8), (12, 12, 12), (9, 16, 16)),
        *((512, 1, 1), (512, 7, 7), (3, 3, 3), (1, 1, 1), (3, 2, 2)),
    ],
)
def test_channels_first_are_taken_whatever_their_number(shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0).normal(size=(N, *shape)).astype(np.float32)
    found = sd.ImageSet.from_dataset(items(lambda n: drawn[n]))
    np.testing.assert_array_equal(pixels(found), drawn.transpose(0, 2, 3, 1))


def test_arrays_with_channels_first_are_refused() -> None:
    for shape in [(3, 16, 16), (1, 30, 32), (4, 9, 8), (12, 64, 64)]:
        for made in (np.zeros, torch.zeros):
            with pytest.raises(UserError, match=r"seem to be \(N, C, H, W\).*moveaxis"):
                sd.ImageSet.from_arrays(made((N, *shape)), LABELS, GROUPS)
    for shape in [(16, 16, 3), (16, 16), (2, 2, 3), (1, 1, 512), (7, 7, 512), (30, 32, 12)]:
        assert len(sd.ImageSet.from_arrays(np.zeros((N, *shape)), LABELS, GROUPS)) == N


def test_tensors_are_arrays() -> None:
    """Images, labels, groups and patients; scores of an audit."""
    turned = PIXELS.permute(0, 2, 3, 1)
    plain = sd.ImageSet.from_arrays(turned.numpy(), LABELS, GROUPS, GROUPS)
    for image in (turned.clone().requires_grad_(), turned.double()):
        for label in (torch.tensor(LABELS), torch.tensor(LABELS).float().requires_grad_()):
            found = sd.ImageSet.from_arrays(image, label, torch.tensor(GROUPS), GROUPS)
            np.testing.assert_array_equal(pixels(found), pixels(plain))
            assert found.labels.tolist() == LABELS and found.groups.tolist() == GROUPS
    with pytest.raises(UserError, match=r"labels: number 0 has 2 numbers"):
        sd.ImageSet.from_arrays(turned, [torch.eye(2)[y] for y in LABELS], GROUPS)
    for dtype in (torch.float16, torch.float32, torch.float64):
        scores = torch.tensor([0.9 if y else 0.1 for y in LABELS], dtype=dtype)
        for given in (scores, scores.clone().requires_grad_()):
            rows = sd.audit(given, plain, threshold=0.9).set_index("metric")["value"]
            assert (rows["tpr"], rows["fpr"]) == (1, 0)
    with pytest.raises(UserError, match="bfloat16 are too coarse"):
        sd.audit(scores.bfloat16(), plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int8])
def test_as_array_loses_nothing(dtype: torch.dtype) -> None:
    values = torch.linspace(-3, 3, 101).to(dtype)
    np.testing.assert_array_equal(as_array(values), values.double().numpy())
