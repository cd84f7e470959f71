"""cam.py and figure_arrays.py: against the logit itself, finite differences and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.written import write_cache
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.data.image_cache import CachedImages
from swift_debias.errors import UserError
from swift_debias.importance import store
from swift_debias.learning import cam, networks
from swift_debias.methods.swift import Settings
from swift_debias.report.figures import _images, _importances


def random_images(n: int = 3, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def ones(n: int = 3) -> Tensor:
    return torch.ones(n)


class Hidden(nn.Module):
    """An extractor with a layer after pooling: CAM is not defined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.hidden = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.pooled(self.conv(images).relu())

    def pooled(self, maps: Tensor) -> Tensor:
        return torch.tanh(self.hidden(maps.mean(dim=(2, 3))))


# --- maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["small_resnet", "small_densenet"])
def test_mean_of_the_map_and_the_bias_are_the_logit(architecture: str) -> None:
    classifier = networks.build(Backbone(architecture=architecture), seed=1).eval()
    images = random_images(size=64)
    found = cam.activation_maps(classifier, images, ones())
    with torch.no_grad():
        logits = classifier(images)
        offset = classifier.head.linear.bias
    assert found.kind == "CAM"
    assert found.maps.shape[1:] != (1, 1)
    torch.testing.assert_close(found.maps.mean(dim=(1, 2)) + offset, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, logits)


def test_map_is_the_weighted_sum_of_the_last_feature_maps(
    make_classifier: Callable[..., Any],
) -> None:
    classifier, images = make_classifier(), random_images()
    features = classifier.extractor[:6](images)  # up to the last ReLU
    weights = classifier.head.linear.weight[0]
    expected = torch.zeros(3, *features.shape[2:])
    for channel, weight in enumerate(weights):
        expected += weight * features[:, channel]
    found = cam.activation_maps(classifier, images, ones())
    torch.testing.assert_close(found.maps, expected.detach())


def test_evidence_for_class_0_is_the_negated_one(make_classifier: Callable[..., Any]) -> None:
    classifier, images = make_classifier(), random_images()
    one = cam.activation_maps(classifier, images, ones())
    mixed = cam.activation_maps(classifier, images, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(mixed.maps[1], -one.maps[1])
    torch.testing.assert_close(mixed.maps[::2], one.maps[::2])


def test_a_pruning_mask_acts_on_the_map_too(make_classifier: Callable[..., Any]) -> None:
    classifier = make_classifier()
    networks.attach_unit_mask(classifier, "extractor.1", torch.zeros(4, 16, 16))
    found = cam.activation_maps(classifier, random_images(), ones())
    offset = classifier.head.linear.bias.detach()
    torch.testing.assert_close(found.maps.mean(dim=(1, 2)) + offset, found.logits)
    with torch.no_grad():
        silent = classifier(torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(found.logits, silent.expand(3))  # no input gets through


def test_grad_cam_where_the_features_are_not_pooled_maps() -> None:
    torch.manual_seed(0)
    extractor = Hidden().double()
    classifier = networks.Classifier(extractor, 5, 0.5).double().eval()
    images = random_images(size=16).double()
    found = cam.activation_maps(classifier, images, ones())
    assert found.kind == "Grad-CAM"

    maps = extractor.conv(images).detach()  # the hook sees the convolution, before its ReLU
    expected = torch.zeros_like(found.maps)
    for channel in range(maps.shape[1]):
        step = torch.zeros_like(maps)
        step[:, channel] = 1e-6

        def logit(values: Tensor) -> Tensor:
            return classifier.head(extractor.pooled(values.relu())).detach()

        slope = (logit(maps + step) - logit(maps - step)) / 2e-6
        expected += slope[:, None, None] * maps[:, channel]
    torch.testing.assert_close(found.maps, expected, rtol=1e-5, atol=1e-8)


def test_grad_cam_agrees_with_cam_where_both_are_defined(
    make_classifier: Callable[..., Any],
) -> None:
    classifier, images = make_classifier(), random_images()
    exact = cam.activation_maps(classifier, images, ones())
    assert exact.kind == "CAM"
    by_gradient = cam._grad_cam(classifier, images, classifier.extractor[5])
    torch.testing.assert_close(by_gradient, exact.maps)


def test_nothing_of_the_classifier_is_changed(make_classifier: Callable[..., Any]) -> None:
    classifier, images = make_classifier(), random_images()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    cam.activation_maps(classifier, images, ones())
    assert all(not module._forward_hooks for module in classifier.modules())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    for name, value in classifier.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_extractor_without_maps_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    classifier = networks.Classifier(flat, 4, 0.5).eval()
    with pytest.raises(UserError, match="feature maps"):
        cam.activation_maps(classifier, random_images(), ones())


# --- images ---------------------------------------------------------------------------------------


def scored(n: int = 101) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"label": y, "group": a, "score": rng.permutation(np.linspace(0, 1, n))})
        for y in (0, 1)
        for a in (-1, 0, 1)
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(dataset="ddi", image_id=[f"{i:04d}" for i in range(len(frame))])


def test_images_are_those_at_the_quantiles_of_every_cell() -> None:
    chosen = cam.choose_images(scored(), 2, [0.1, 0.5, 0.9])
    assert list(zip(chosen["label"], chosen["group"], strict=True)) == [
        *[(1, 0)] * 3,
        *[(1, 1)] * 3,
        *[(0, 0)] * 3,
        *[(0, 1)] * 3,
    ]
    np.testing.assert_allclose(chosen["score"], np.tile([0.1, 0.5, 0.9], 4))


def test_small_and_empty_cells() -> None:
    frame = scored().groupby(["label", "group"]).head(2)
    frame = frame[(frame["label"] == 1) | (frame["group"] != 0)]
    chosen = cam.choose_images(frame, 2, [0.0, 0.5, 1.0])
    sizes = chosen.groupby(["label", "group"]).size().to_dict()
    assert sizes == {(1, 0): 2, (1, 1): 2, (0, 1): 2}
    assert chosen["image_id"].is_unique


def test_ties_are_broken_by_the_id_not_by_the_order_of_rows() -> None:
    frame = scored().assign(score=0.5)
    shuffled = frame.sample(frac=1, random_state=1)
    one, two = (cam.choose_images(f, 2, [0.5]) for f in (frame, shuffled))
    pd.testing.assert_frame_equal(one, two)


@pytest.fixture
def cache(tmp_path: Path) -> CachedImages:
    frame = scored()
    pixels = np.random.default_rng(0).integers(0, 256, (len(frame), 32, 32, 3), np.uint8)
    return CachedImages([write_cache(tmp_path / "ddi.npy", list(frame["image_id"]), pixels)])


def test_evidence_of_several_methods_on_the_same_images(
    cache: CachedImages, make_classifier: Callable[..., Any]
) -> None:
    chosen = _images.chosen_images(scored(), cache, 2, [0.5])
    row = cache.rows("ddi", list(chosen["image_id"][2:3]))
    np.testing.assert_array_equal(chosen["images"][2], cache.gather(row)[0])
    classifiers = {"baseline": make_classifier(0), "swift": make_classifier(1)}
    found = _images.evidence(chosen, cache, "ddi", classifiers)
    assert list(found["methods"]) == ["baseline", "swift"]
    assert found["maps"].shape[:2] == (2, 4)
    # labels are 1, 1, 0, 0: of class 0 the map is the negated one
    offset = float(classifiers["swift"].head.linear.bias.detach())
    logits = found["maps"][1].mean(axis=(1, 2)) * np.array([1, 1, -1, -1]) + offset
    np.testing.assert_allclose(found["scores"][1], 1 / (1 + np.exp(-logits)), rtol=1e-4)


# --- importances ----------------------------------------------------------------------------------

KEY = ("skin", "small", "skin_tone")


@pytest.fixture
def importance(
    tmp_path: Path, make_classifier: Callable[..., Any], make_importance: Callable[..., Any]
) -> tuple[dict, Path]:
    values = make_importance(make_classifier())
    store.save(values, tmp_path / "fold0.safetensors")
    return values, tmp_path / "fold0.safetensors"


def minmax(values: Tensor) -> np.ndarray:
    array = values.numpy().astype(np.float64)
    if np.ptp(array) == 0:
        return array
    return (array - array.min()) / np.ptp(array)


def eq9(importance: dict, name: str, estimator: str = "minibatch") -> np.ndarray:
    bias, prediction = (
        minmax(importance[f"{estimator}.balanced.{kind}"][name]) for kind in ("bias", "prediction")
    )
    # in float32 many masks are exactly 1, and tied
    return np.abs(np.tanh(bias / (prediction + 1e-10))).astype(np.float32)


SWIFT = Settings().model_dump(mode="json")


def test_layer_of_figure_3(importance: tuple[dict, Path]) -> None:
    values, path = importance
    layers = ["extractor.0", "extractor.1", "extractor.3", "extractor.4", "head.1"]
    found = _importances.layer_importance(path, layers, SWIFT, None, size=5)
    assert str(found["layer"]) == "extractor.3"  # the middle one of two convolutions
    assert tuple(found["shape"]) == (6, 4, 3, 3)
    expected = eq9(values, "extractor.3.weight").reshape(6, -1)[:5, :5]
    np.testing.assert_allclose(found["mask"], expected, rtol=1e-5, atol=1e-7)
    bias = minmax(values["minibatch.balanced.bias"]["extractor.3.weight"]).reshape(6, -1)[:5, :5]
    np.testing.assert_allclose(found["bias"], bias, rtol=1e-5, atol=1e-7)


def test_a_layer_that_does_not_exist_is_named(importance: tuple[dict, Path]) -> None:
    with pytest.raises(UserError, match=r"extractor\.nowhere"):
        _importances.layer_importance(importance[1], [], SWIFT, "extractor.nowhere", 5)


def test_share_of_the_head_above_its_mean(importance: tuple[dict, Path]) -> None:
    values, path = importance
    variants = {"swift": SWIFT, "swift_all": {**SWIFT, "reinit": "full", "threshold": 0.0}}
    found = _importances.head_shares({(KEY, 0): path}, variants)
    head = np.concatenate([eq9(values, f"head.1.{part}").ravel() for part in ("weight", "bias")])
    expected = {"swift": np.mean(head > head.mean()), "swift_all": 1.0}
    shares = dict(zip(found["method"], found["share"], strict=True))
    assert shares == pytest.approx(expected)


def test_histograms_of_both_estimators(importance: tuple[dict, Path]) -> None:
    values, path = importance
    found = pd.DataFrame(_importances.estimator_masks({(KEY, 3): path}, SWIFT))
    assert set(found["fold"]) == {3}
    for estimator in ("minibatch", "per_sample"):
        names = values[f"{estimator}.balanced.bias"]
        masks = np.concatenate([eq9(values, name, estimator).ravel() for name in names])
        counts, _ = np.histogram(masks, 20, (0, 1))
        shares = found.loc[found["estimator"] == estimator, "share"]
        np.testing.assert_allclose(shares, counts / len(masks), atol=2 / len(masks))
    ranks = [
        pd.Series(np.concatenate([eq9(values, n, e).ravel() for n in sorted(names)])).rank()
        for e in ("minibatch", "per_sample")
    ]
    assert found["spearman"].iloc[0] == pytest.approx(ranks[0].corr(ranks[1]), abs=1e-3)


def test_the_estimator_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fold0.safetensors"
    store.save({"minibatch.balanced.bias": {"head.1.weight": torch.rand(1, 4)}}, path)
    with pytest.raises(UserError, match=r"minibatch\.balanced\.prediction"):
        _importances.head_shares({(KEY, 0): path}, {"swift": SWIFT})
