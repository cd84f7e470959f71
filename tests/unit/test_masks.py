"""Masks against NumPy and brute force; masked updates against the optimizers themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.importance import masks
from swift_debias.learning.masked_optimizer import MaskedOptimizer
from swift_debias.learning.networks import build


def importances(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Bias and prediction importances, spread over magnitudes; the bias of the head has one."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"extractor.a.weight": (6, 3, 3, 3), "head.1.weight": (1, 40), "head.1.bias": (1,)}

    def draw() -> dict[str, Tensor]:
        return {
            name: torch.randn(shape, generator=generator, dtype=torch.float64).exp().square()
            for name, shape in shapes.items()
        }

    return draw(), draw()


def minmax(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return values if low == high else (values - low) / (high - low)


# --- making masks ---------------------------------------------------------------------------------


def test_soft_mask_equals_equation_9() -> None:
    bias, prediction = importances()
    mask = masks.soft_mask(bias, prediction)
    for name in bias:
        ratio = minmax(bias[name].numpy()) / (minmax(prediction[name].numpy()) + 1e-10)
        np.testing.assert_allclose(mask[name], np.abs(np.tanh(ratio)), rtol=1e-12)


def test_zscore_and_percentile_equal_numpy() -> None:
    bias, prediction = importances()
    name = "extractor.a.weight"
    b, p = bias[name].numpy(), prediction[name].numpy()
    scores = masks.normalize(bias[name], "zscore")
    np.testing.assert_allclose(scores, (b - b.mean()) / b.std(), rtol=1e-9)
    ratio = ((b - b.mean()) / b.std()) / ((p - p.mean()) / p.std())
    actual = masks.soft_mask(bias, prediction, "zscore")[name]
    np.testing.assert_allclose(actual, np.abs(np.tanh(ratio)), rtol=1e-6)
    clipped = [minmax(np.minimum(v, np.percentile(v, 90, method="inverted_cdf"))) for v in (b, p)]
    actual = masks.soft_mask(bias, prediction, "percentile", percentile=90)[name]
    np.testing.assert_allclose(actual, np.tanh(clipped[0] / (clipped[1] + 1e-10)), rtol=1e-12)


@pytest.mark.parametrize("normalization", ["minmax", "zscore", "percentile"])
def test_masks_lie_in_the_unit_interval_even_for_degenerate_importances(normalization: str) -> None:
    zeros, ones, spike = torch.zeros(5), torch.ones(5), torch.tensor([0.0, 0, 0, 0, 7])
    mean_zero = torch.tensor([-1.0, 0.0, 1.0, -1.0, 1.0])  # a z-score of exactly 0
    values = [zeros, ones, spike, mean_zero, torch.tensor([1e-30, 2e-30, 0, 0, 0])]
    for bias in values:
        for prediction in values:
            (mask,) = masks.soft_mask({"w": bias}, {"w": prediction}, normalization).values()
            assert mask.isfinite().all()
            assert mask.min() >= 0 and mask.max() <= 1
    assert not masks.soft_mask({"w": zeros}, {"w": spike})["w"].any()


def test_a_constant_tensor_is_not_normalized() -> None:
    bias, prediction = importances()
    mask = masks.soft_mask(bias, prediction)["head.1.bias"]
    assert mask == torch.tanh(bias["head.1.bias"] / (prediction["head.1.bias"] + 1e-10))
    assert torch.equal(masks.normalize(torch.full((3,), 0.2)), torch.full((3,), 0.2))


def test_percentile_does_not_clip_to_a_constant() -> None:
    spike = torch.zeros(1000)
    spike[3] = 5.0
    assert torch.equal(masks.normalize(spike, "percentile", 99), masks.normalize(spike, "minmax"))


def test_minmax_makes_the_scale_of_an_importance_irrelevant() -> None:
    bias, prediction = importances()
    name = "extractor.a.weight"
    scaled = masks.soft_mask({name: 8 * bias[name]}, {name: prediction[name] / 4})
    expected = masks.soft_mask({name: bias[name]}, {name: prediction[name]})
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("rate", [10, 50, 90])
def test_hard_mask_equals_a_global_ranking(rate: float) -> None:
    bias, prediction = importances()
    ratios = {
        name: minmax(bias[name].numpy()) / (minmax(prediction[name].numpy()) + 1e-10)
        for name in bias
    }
    pool = np.concatenate([ratio.ravel() for ratio in ratios.values()])
    threshold = np.percentile(pool, rate, method="inverted_cdf")
    mask = masks.hard_mask(bias, prediction, rate)
    for name, ratio in ratios.items():
        np.testing.assert_array_equal(mask[name], (ratio > threshold).astype(float))
    kept = sum(float(m.sum()) for m in mask.values())
    assert kept == len(pool) - np.ceil(rate / 100 * len(pool))
    per_tensor = masks.hard_mask(bias, prediction, rate, scope="tensor")["extractor.a.weight"]
    assert per_tensor.sum() == 162 - np.ceil(rate / 100 * 162)


def test_random_mask_is_uniform_and_repeats_with_its_seed() -> None:
    shapes = {"a": torch.Size([100, 50]), "b": torch.Size([7])}
    first = masks.random_mask(shapes, torch.Generator().manual_seed(4))
    again = masks.random_mask(shapes, torch.Generator().manual_seed(4))
    other = masks.random_mask(shapes, torch.Generator().manual_seed(5))
    assert {name: mask.shape for name, mask in first.items()} == shapes
    assert all(torch.equal(first[name], again[name]) for name in shapes)
    assert not torch.equal(first["a"], other["a"])
    counts = torch.histc(first["a"], 10, 0, 1)
    assert counts.min() > 400 and counts.max() < 600


# --- the head -------------------------------------------------------------------------------------


def head() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    bias, prediction = importances(1)
    names = ("head.1.weight", "head.1.bias")
    mask = masks.soft_mask({n: bias[n] for n in names}, {n: prediction[n] for n in names})
    return {n: torch.ones_like(mask[n]) for n in names}, mask


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_partial_reinitialization_zeroes_what_lies_above_the_mean(
    bias: bool, extreme: float
) -> None:
    """The bias takes part in the mean, and goes, only where it is asked to."""
    parameters, mask = head()
    mask["head.1.bias"].fill_(extreme)
    values = mask["head.1.weight"].numpy().ravel()
    judged = np.append(values, extreme) if bias else values
    n = masks.reinitialize(parameters, mask, bias=bias)
    expected = values > judged.mean()
    assert 0 < n < 41
    np.testing.assert_array_equal(parameters["head.1.weight"][0] == 0, expected)
    assert bool(parameters["head.1.bias"] == 0) == (bias and extreme == 1)
    assert n == expected.sum() + (bias and extreme == 1)


def test_of_equal_masks_none_lies_above_their_mean() -> None:
    """Eq. 12 takes M > tau; masks saturate at 1, so a whole head may have one value."""
    head = {"weight": torch.ones(1, 7), "bias": torch.ones(1)}
    equal = {name: torch.ones_like(value) for name, value in head.items()}
    assert masks.reinitialize(head, equal, "partial", "mean") == 0
    assert all((value == 1).all() for value in head.values())


@pytest.mark.parametrize("q", [0.1, 0.25, 0.5, 0.9])
def test_quantile_thresholds_zero_exactly_their_share_also_among_ties(q: float) -> None:
    parameters, mask = head()
    saturated = {name: torch.where(m > 0.3, 1.0, m) for name, m in mask.items()}
    assert sum(int((m == 1).sum()) for m in saturated.values()) > 10
    assert masks.reinitialize(parameters, saturated, "partial", q) == round((1 - q) * 40)
    zeroed = parameters["head.1.weight"].flatten() == 0
    values = saturated["head.1.weight"].flatten()
    assert not (parameters["head.1.bias"] == 0).any()
    assert values[zeroed].min() >= values[~zeroed].max()


def test_full_and_no_reinitialization() -> None:
    parameters, mask = head()
    assert masks.reinitialize(parameters, mask, "none") == 0
    assert all(bool((p == 1).all()) for p in parameters.values())
    assert masks.reinitialize(parameters, mask, "full") == 41
    assert not any(bool(p.any()) for p in parameters.values())


def test_reinitialization_works_on_trainable_parameters() -> None:
    layer = nn.Linear(40, 1)
    parameters = {f"head.1.{name}": p for name, p in layer.named_parameters()}
    n = masks.reinitialize(parameters, head()[1])
    assert sum(int((p == 0).sum()) for p in layer.parameters()) == n
    layer(torch.ones(1, 40)).sum().backward()
    assert layer.weight.grad is not None


# --- masked updates -------------------------------------------------------------------------------

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
}


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))


def draw_masks(module: nn.Module) -> dict[str, Tensor]:
    """A third 0, a third 1, the rest in between."""
    shapes = {name: p.shape for name, p in module.named_parameters()}
    drawn = masks.random_mask(shapes, torch.Generator().manual_seed(2))
    return {name: (3 * mask - 1).clamp(0, 1) for name, mask in drawn.items()}


def train(module: nn.Module, optimizer: torch.optim.Optimizer | MaskedOptimizer, n: int) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(n):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        (module(x) - x[:, :1]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_weight_of_mask_0_does_not_move_in_a_thousand_steps(kind: str) -> None:
    module = network()
    mask = draw_masks(module)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = OPTIMIZERS[kind](list(module.parameters()))
    train(module, MaskedOptimizer(optimizer, dict(module.named_parameters()), mask), 1000)
    for name, parameter in module.named_parameters():
        frozen = mask[name] == 0
        assert torch.equal(parameter[frozen], before[name][frozen])
        assert (parameter[~frozen] != before[name][~frozen]).all()
    assert sum(int((m == 0).sum()) for m in mask.values()) > 5


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_mask_of_ones_is_the_optimizer_itself(kind: str) -> None:
    plain, masked = network(), network()
    train(plain, OPTIMIZERS[kind](list(plain.parameters())), 50)
    ones = {name: torch.ones_like(p) for name, p in masked.named_parameters()}
    optimizer = OPTIMIZERS[kind](list(masked.parameters()))
    train(masked, MaskedOptimizer(optimizer, dict(masked.named_parameters()), ones), 50)
    assert all(map(torch.equal, plain.parameters(), masked.parameters()))


@pytest.mark.parametrize("nesterov", [False, True])
def test_for_sgd_without_decay_masking_the_update_is_masking_the_gradient(nesterov: bool) -> None:
    results = []
    for mode in ("update", "gradient"):
        module = network().double()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=nesterov)
        mask = draw_masks(module)
        wrapped = MaskedOptimizer(optimizer, dict(module.named_parameters()), mask, mode)
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
        train(module, wrapped, 200)
        results.append(list(module.parameters()))
    for update, gradient in zip(*results, strict=True):
        torch.testing.assert_close(update, gradient, rtol=1e-9, atol=1e-12)


def one_step(kind: str, mode: str, mask: float, decay: float) -> float:
    """How far one weight goes in a step from gradient 1."""
    p = nn.Parameter(torch.ones(1))
    cls = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind]
    optimizer = cls([p], lr=0.01, weight_decay=decay)
    wrapped = MaskedOptimizer(optimizer, {"p": p}, {"p": torch.tensor([mask])}, mode)
    p.sum().backward()
    wrapped.step()
    return 1 - p.item()


def test_adam_undoes_a_masked_gradient_but_not_a_masked_update() -> None:
    """Why Eq. 11 is not applied to the letter: see the docstring of masks.py."""
    full = one_step("adam", "update", 1.0, 0.0)
    assert one_step("adam", "gradient", 0.1, 0.0) == pytest.approx(full, rel=1e-4)
    assert one_step("adam", "update", 0.1, 0.0) == pytest.approx(full / 10, rel=1e-4)


def test_weight_decay_leaks_around_a_masked_gradient_but_not_a_masked_update() -> None:
    assert one_step("sgd", "gradient", 0.0, 0.5) == pytest.approx(0.005, rel=1e-4)
    assert one_step("sgd", "update", 0.0, 0.5) == 0


def test_parameters_without_gradient_and_channels_last_are_served() -> None:
    layer = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    unused = nn.Parameter(torch.ones(2))
    parameters = {"weight": layer.weight, "bias": layer.bias, "unused": unused}
    mask = {name: torch.full(p.shape, 0.25) for name, p in parameters.items()}
    for mode in ("update", "gradient"):
        before = layer.weight.detach().clone()
        sgd = torch.optim.SGD(parameters.values(), lr=1.0)
        optimizer = MaskedOptimizer(sgd, parameters, mask, mode)
        optimizer.zero_grad()
        layer(torch.ones(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)).sum().backward()
        gradient = layer.weight.grad.clone()
        optimizer.step()
        torch.testing.assert_close(layer.weight, before - 0.25 * gradient)
    assert torch.equal(unused, torch.ones(2))


def test_the_optimizers_state_goes_through_the_mask() -> None:
    """A checkpoint of the wrapped optimizer resumes to the same weights."""
    unbroken, resumed = network(), network()
    wrapped = [
        MaskedOptimizer(
            OPTIMIZERS["adam"](list(m.parameters())), dict(m.named_parameters()), draw_masks(m)
        )
        for m in (unbroken, resumed)
    ]
    train(unbroken, wrapped[0], 5)
    resumed.load_state_dict(unbroken.state_dict())
    wrapped[1].load_state_dict(copy.deepcopy(wrapped[0].state_dict()))
    for module, optimizer in zip((unbroken, resumed), wrapped, strict=True):
        train(module, optimizer, 5)
    assert all(map(torch.equal, unbroken.parameters(), resumed.parameters()))


def test_a_missing_or_misshapen_mask_is_refused() -> None:
    module = network()
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for broken in ({}, draw_masks(module) | {"0.weight": torch.ones(5, 1)}):
        with pytest.raises(ValueError, match=r"0\.weight"):
            MaskedOptimizer(optimizer, parameters, broken)
    with pytest.raises(ValueError, match="mode"):
        MaskedOptimizer(optimizer, parameters, draw_masks(module), "grad")  # type: ignore[arg-type]


# --- looking at masks -----------------------------------------------------------------------------


def test_summary_describes_each_layer() -> None:
    mask = {
        "extractor.layer1.0.conv1.weight": torch.rand(8, 4, generator=torch.Generator()),
        "extractor.layer1.0.conv1.bias": torch.tensor([0.0, 1.0]),
        "head.1.weight": torch.tensor([[0.25, 0.5, 1.0, 1.0]]),
    }
    rows = masks.summary(mask)
    assert [(row["layer"], row["group"], row["n"]) for row in rows] == [
        ("extractor.layer1.0.conv1", "layer1", 34),
        ("head.1", "head", 4),
    ]
    first, second = rows
    values = np.concatenate([m.numpy().ravel() for m in list(mask.values())[:2]])
    assert first["mean"] == pytest.approx(values.mean(), rel=1e-6)
    assert first["std"] == pytest.approx(values.std(), rel=1e-6)
    assert first["q05"] == np.quantile(values, 0.05, method="inverted_cdf")
    assert first["counts"] == np.histogram(values, masks.BINS, (0, 1))[0].tolist()
    assert (second["q25"], second["q50"], second["q95"]) == (0.25, 0.5, 1.0)
    assert second["counts"][-1] == 2 and sum(second["counts"]) == 4


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet50", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head"}),
        ("efficientnet_b3", {f"stage{i}" for i in range(9)} | {"head"}),
        (
            "densenet121",
            {"conv0", "norm0", "norm5", "head"}
            | {f"denseblock{i}" for i in range(1, 5)}
            | {f"transition{i}" for i in range(1, 4)},
        ),
    ],
)
def test_layer_groups_of_the_papers_backbones(architecture: str, expected: set[str]) -> None:
    with torch.device("meta"):
        classifier = build(Backbone(architecture=architecture), seed=0)
    layers = {name.rpartition(".")[0] for name, _ in classifier.named_parameters()}
    assert {masks.layer_group(layer) for layer in layers} == expected
