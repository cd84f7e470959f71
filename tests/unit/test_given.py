"""What the front door is given of another kind than it takes: one line each, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

import swift_debias as sd
from swift_debias.errors import UserError

N = 24
ROWS = np.arange(N)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    for n in ROWS:
        Image.fromarray(np.full((4, 4, 3), 10 * n, np.uint8)).save(tmp_path / f"{n}.png")
    return pd.DataFrame(
        {
            "f": [str(tmp_path / f"{n}.png") for n in ROWS],
            "y": ROWS % 2,
            "sex": np.where(ROWS // 2 % 2, "female", "male"),
            "age": 20 + ROWS,
        }
    )


def line(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    (said,) = str(caught.value).splitlines()
    return said


def read(table: Any, attribute: str = "sex", **more: Any) -> sd.ImageSet:
    return sd.ImageSet.from_frame(table, "f", "y", attribute, size=8, **more)


def drawn(seed: int = 0, **more: Any) -> sd.ImageSet:
    pixels = np.random.default_rng(seed).normal(size=(N, 4, 4, 3))
    return sd.ImageSet.from_arrays(pixels, ROWS % 2, ROWS // 2 % 2, **more)


def test_what_is_no_table(table: pd.DataFrame) -> None:
    for other in ("t.csv", Path("t.csv"), table.to_dict("list"), table.to_numpy(), None, table.f):
        assert "must be a pandas DataFrame, not a " in line(lambda o=other: read(o))


def test_what_is_no_grouping(table: pd.DataFrame) -> None:
    for other in (["female", "male"], "female", {"female"}, 2):
        assert "groups: are names with lists of values" in line(
            lambda o=other: read(table, groups=o)
        )
    for values in ("female", b"female", 1, None):
        said = line(lambda v=values: read(table, groups={"w": v, "m": ["male"]}))
        assert "groups: the values of 'w' must be a list" in said
    for good in (["female"], ("female",), {"female"}, np.array(["female"]), pd.Series(["female"])):
        assert read(table, groups={"w": good, "m": ["male"]}).group_names == ("w", "m")


def test_what_is_no_cut(table: pd.DataFrame) -> None:
    for other in (30, "30", ["30"], [True], [None], {30: 1}, [[30]]):
        said = line(lambda o=other: read(table, "age", cuts=o))
        assert "cuts: a list of numbers is needed, as in cuts=[30, 60], not " in said
    for good in ([30], (30.0,), np.array([30]), pd.Series([30]), range(30, 31)):
        assert read(table, "age", cuts=good).group_names == ("below 30", "from 30")
    assert len(read(table, "age", cuts=np.array([25, 30.5])).group_names) == 3
    assert "cuts must be numbers that increase" in line(lambda: read(table, "age", cuts=[]))


def test_what_is_no_split() -> None:
    images = drawn()
    for fraction in ("0.5", [0.6, 0.4], None, 0, 1, 60, -0.5, True, float("nan"), np.array([0.5])):
        assert "a fraction between 0 and 1" in line(lambda f=fraction: images.split(f))
    for seed in (-1, "a", 0.5, None, True, [0]):
        said = line(lambda s=seed: images.split(0.5, seed=s))
        assert "the seed must be a whole number from 0, not " in said
    one, other = images.split(np.float32(0.5), seed=np.int64(3))
    assert len(one) == len(other) == N / 2
    np.testing.assert_array_equal(one.rows, images.split(0.5, 3)[0].rows)


def test_what_is_no_score() -> None:
    images, scores = drawn(), np.linspace(0, 1, N)
    assert "audit: the images must be an ImageSet, not a ndarray" in line(
        lambda: sd.audit(images, scores)
    )
    wrong = ([str(s) for s in scores], scores + 0j, list(map(str, scores)), [None] * N, [b"1"] * N)
    for other in wrong:
        assert "scores must be numbers, not " in line(lambda o=other: sd.audit(o, images))
    for threshold in ("0.5", None, [0.5, 0.4], float("nan"), 2, 1j):
        said = line(lambda t=threshold: sd.audit(scores, images, threshold=t))
        assert "threshold: is of probabilities, a number from 0 to 1, not " in said
    expected = sd.audit(scores, images)
    for good in (scores.astype(object), list(scores), pd.Series(scores)):
        assert sd.audit(good, images, threshold=np.float32(0.5)).equals(expected)


def test_two_columns_are_probabilities_that_add_up() -> None:
    images, scores = drawn(), np.linspace(0, 1, N)
    rng = np.random.default_rng(0)
    two = np.stack([1 - scores, scores], axis=1)
    for other in (np.stack([np.full(N, 0.9), scores], 1), rng.random((N, 2)), two * 1.05, two - 2):
        assert "add up to 1; those of image " in line(lambda o=other: sd.audit(o, images))
    late = two.copy()
    late[-1] = [0.9, 0.8]
    assert f"image {N - 1} add up to 1.7" in line(lambda: sd.audit(late, images))
    expected = sd.audit(scores, images)["metric"].tolist()
    for kind in (np.float16, np.float32, np.float64):
        for kept in (two, two.round(2), np.stack([1 - scores.round(2), scores.round(2)], 1)):
            assert sd.audit(kept.astype(kind), images)["metric"].tolist() == expected


def test_what_is_no_array() -> None:
    pixels = [np.zeros((4, 4, 3), np.uint8)] * (N - 1) + [np.zeros((5, 4, 3), np.uint8)]
    said = line(lambda: sd.ImageSet.from_arrays(pixels, ROWS % 2, ROWS // 2 % 2))
    assert "images: must be of one shape" in said
    for patients in (ROWS[:, None], [[n] for n in ROWS], ROWS.reshape(N, 1, 1)):
        assert "patients: one value an image" in line(lambda p=patients: drawn(patients=p))
    for good in (ROWS, list(ROWS), list(map(str, ROWS)), pd.Series(ROWS), [None, *ROWS[1:]]):
        assert len(drawn(patients=good).patients) == N


def floats(kind: str) -> np.ndarray:
    unit = np.random.default_rng(0).random((N, 4, 4, 3))
    return {
        "0 to 255": unit * 255,
        "whole numbers": (unit * 256).astype(np.uint8).astype(float),
        "dark": unit * 140,
        "0 to 1": unit,
        "ImageNet's": (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "-1 to 1": 2 * unit - 1,
        "torchxrayvision's": 2048 * unit - 1024,
        "Hounsfield": 1400 * unit - 1000,
        "centred bytes": unit * 255 - 127.5,
        "Caffe's": unit * 255 - [104, 117, 123],
        "twelve bits": unit * 4095,
        "nothing": 0 * unit,
    }[kind]


NORMALIZED = (
    *("0 to 1", "ImageNet's", "-1 to 1", "torchxrayvision's", "Hounsfield"),
    *("centred bytes", "Caffe's", "twelve bits", "nothing"),
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["0 to 255", "whole numbers", "dark"])
def test_floating_pixels_up_to_255_are_refused(kind: str, dtype: Any) -> None:
    pixels = floats(kind).astype(dtype)
    said = line(lambda: sd.ImageSet.from_arrays(pixels, ROWS % 2, ROWS // 2 % 2))
    assert "are not normalized: give uint8" in said
    items = [(p.transpose(2, 0, 1), n % 2, n // 2 % 2) for n, p in enumerate(pixels)]
    assert "are not normalized" in line(lambda: sd.ImageSet.from_dataset(items))


@pytest.mark.parametrize("kind", NORMALIZED)
def test_floating_pixels_that_are_normalized_are_taken_as_they_are(kind: str) -> None:
    pixels = floats(kind)
    images = sd.ImageSet.from_arrays(pixels, ROWS % 2, ROWS // 2 % 2)
    np.testing.assert_array_equal(images.source.gather(images.rows), pixels.astype(np.float32))


def made(network: nn.Module, how: str) -> Any:
    """What a method may return in the place of the classifier."""
    if how == "a parametrization":
        nn.utils.parametrizations.weight_norm(network.head.linear)
        return network
    if how == "another layer":
        network.head.add_module("more", nn.Linear(1, 1))
        return network
    if how == "weights":
        return network.state_dict()
    return nn.Sequential(network, nn.Sigmoid()) if how == "a layer behind" else None


@pytest.mark.parametrize(
    "how", ["nothing", "weights", "a layer behind", "another layer", "a parametrization"]
)
def test_a_method_returns_the_classifier_that_it_was_given(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swift_debias.methods import baseline

    monkeypatch.setattr(baseline, "debias", lambda network, _a, _b, _c: made(network, how))
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 1))
    said = line(lambda: sd.Baseline(min_cell=1).fit(network, drawn()))
    assert said.startswith("baseline: debias must return the classifier")


def test_a_network_that_normalizes_by_itself_is_given_bytes() -> None:
    """As the refusal's road says: a mean of 0 and a std of 1/255."""
    pixels = floats("whole numbers").astype(np.uint8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 1)).eval()
    bytes_ = sd.ImageSet.from_arrays(
        pixels, ROWS % 2, ROWS // 2 % 2, mean=(0.0,) * 3, std=(1 / 255,) * 3
    )
    seen: list[np.ndarray] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    sd.predict_proba(network, bytes_)
    np.testing.assert_allclose(seen[0].transpose(0, 2, 3, 1), pixels, rtol=1e-5, atol=1e-4)
