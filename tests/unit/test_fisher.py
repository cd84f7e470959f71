"""Importances against loops over single samples, plain autograd and torch.func, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.errors import UserError
from swift_debias.importance import estimators, products, store
from swift_debias.importance.convolutions import (
    Geometry,
    depthwise_gradients,
    grouped_gradients,
    single_gradients,
)
from swift_debias.importance.layers import slow_parameters, squared_gradients
from swift_debias.importance.products import BLOCK_BYTES, BLOCK_SAMPLES
from swift_debias.learning import losses
from swift_debias.learning.networks import Classifier, build
from swift_debias.learning.samples import Batch


class SqueezeExcite(nn.Module):
    """Channel gate: convolutions on 1 x 1 maps, and one tensor used on two paths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 2, 1)
        self.expand = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.reduce(x.mean((2, 3), keepdim=True)).relu_()
        return x * torch.sigmoid(self.expand(gate))


class Residual(nn.Module):
    """In-place addition to the output of a watched layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y += x
        return nn.functional.relu(y, inplace=True)


def convolutions() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.SiLU(inplace=True),
        nn.Conv2d(8, 8, (5, 3), padding=(2, 1), groups=8, bias=False),
        SqueezeExcite(8),
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 6, 1, stride=2, bias=False),
        Residual(6),
        nn.Conv2d(6, 6, 3, dilation=2, padding=(1, 2)),
        nn.Tanh(),
        nn.Conv2d(6, 12, (2, 3), stride=(2, 1), groups=3, dilation=(1, 2), padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, 3),
    ]


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Weights and BatchNorm statistics away from their neutral starting values."""
    generator = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (m.weight.data, m.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (m.bias.data, m.running_mean):
                tensor.normal_(0, 0.3, generator=generator)


@pytest.fixture
def convolutional() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(nn.Sequential(*convolutions()), 3, 0.5).double()
    randomize(classifier)
    settle(classifier, joined(batches()).images)
    return classifier


def settle(classifier: nn.Module, images: Tensor) -> None:
    """Give BatchNorm the statistics of these images, as training would have.

    Otherwise the logits of all images are nearly the same, and so are the groups' gradients, whose
    difference the bias is: its rounding errors then drown it.
    """
    norms = [m for m in classifier.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        classifier.train()(images)


def batches(n: int = 12, size: int = 11, batch: int = 5, seed: int = 0) -> list[Batch]:
    """float64 images; labels and attributes of all cells, some attributes unknown."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64)
    labels = (torch.arange(n) % 2).double()
    attributes = torch.tensor([0, 0, 1, 1, -1, 1]).repeat(n)[:n]
    columns = [column.split(batch) for column in (images, labels, attributes)]
    return [Batch(*parts) for parts in zip(*columns, strict=True)]


def joined(data: list[Batch]) -> Batch:
    return Batch(*(torch.cat(column) for column in zip(*data, strict=True)))


def logit_gradients(classifier: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """d z_i / d theta by autograd, one image at a time: (N, *shape)."""
    classifier.eval()
    names, parameters = zip(*classifier.named_parameters(), strict=True)
    rows = [
        torch.autograd.grad(classifier(image[None]).squeeze(), parameters, materialize_grads=True)
        for image in images
    ]
    return {n: torch.stack(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}


def weighted_squares(gradients: dict[str, Tensor], c: Tensor) -> dict[str, Tensor]:
    """sum_i c_ki^2 g_i^2, by a loop over the samples."""
    return {
        name: sum(
            c[:, i].square().view(-1, *[1] * (g.dim() - 1)) * g[i].square() for i in range(len(g))
        )
        for name, g in gradients.items()
    }


def squared_sums(gradients: dict[str, Tensor], d: Tensor, sizes: list[int]) -> dict[str, Tensor]:
    """Mean over batches of (sum_i d_ji g_i)^2, by a loop over the batches."""
    out = {}
    for name, g in gradients.items():
        parts = zip(g.reshape(len(g), -1).split(sizes), d.split(sizes, dim=1), strict=True)
        squares = [(factors @ rows).square() for rows, factors in parts]
        out[name] = torch.stack(squares).mean(0).view(-1, *g.shape[1:])
    return out


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal relative to the largest element of each tensor."""
    assert actual.keys() == expected.keys()
    for name, reference in expected.items():
        assert actual[name].shape == reference.shape, name
        error = (actual[name] - reference).abs().max() / reference.abs().max().clamp(min=1e-300)
        assert error < tolerance, (name, float(error))


def check_against_the_loop(
    classifier: nn.Module, data: list[Batch], tolerance: float = 1e-11
) -> None:
    n = sum(len(batch.labels) for batch in data)
    generator = torch.Generator().manual_seed(9)
    c, d = torch.randn(2, 3, n, generator=generator, dtype=torch.float64)
    gradients = logit_gradients(classifier, joined(data).images)
    squares = weighted_squares(gradients, c)
    sums = squared_sums(gradients, d, [len(batch.labels) for batch in data])
    both = squared_gradients(classifier, data, c, d)
    alone = squared_gradients(classifier, data, c)
    batches_alone = squared_gradients(classifier, data, per_batch=d)
    assert alone[1] == batches_alone[0] == {}
    for found, expected in (
        (both[0], squares),
        (both[1], sums),
        (alone[0], squares),
        (batches_alone[1], sums),
    ):
        assert_equal(found, expected, tolerance)


# --- per sample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("block_bytes", [1 << 22, 1 << 9])
def test_hooks_equal_the_loop_on_every_kind_of_layer(
    convolutional: Classifier,
    layout: torch.memory_format,
    block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks smaller than a layer, and smaller than a row of it, change nothing."""
    monkeypatch.setitem(BLOCK_BYTES, "cpu", block_bytes)
    monkeypatch.setitem(BLOCK_SAMPLES, "cpu", 3)
    classifier = convolutional.to(memory_format=layout)
    data = [b._replace(images=b.images.contiguous(memory_format=layout)) for b in batches()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no layer may fall back to the slow loop
        check_against_the_loop(classifier, data)


def test_what_is_done_on_a_gpu_equals_the_loop(
    convolutional: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code, here on a CPU; test_cuda.py runs it where there is a GPU."""
    monkeypatch.setattr(products, "is_on_gpu", lambda images: True)
    monkeypatch.setitem(BLOCK_BYTES, "cuda", 1 << 14)
    check_against_the_loop(convolutional, batches())


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param("resnet50", marks=pytest.mark.ci),
        "densenet121",
        pytest.param("efficientnet_b3", marks=pytest.mark.ci),
    ],
)
def test_hooks_equal_the_loop_on_torchvisions_networks(architecture: str) -> None:
    classifier = build(Backbone(architecture=architecture), seed=0).double()
    randomize(classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_against_the_loop(classifier, batches(n=2, size=40, batch=2), tolerance=1e-9)


@pytest.mark.parametrize("gradients", [depthwise_gradients, single_gradients, grouped_gradients])
@pytest.mark.parametrize("size", [6, 14])
def test_depthwise_gradients_equal_autograd_image_by_image(
    size: int, gradients: Callable[..., Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Conv2d(3, 3, (3, 2), stride=(1, 2), padding=1, groups=3, bias=False).double()
    x = torch.randn(4, 3, size, size, generator=generator, dtype=torch.float64)
    out = module(x)
    g = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    expected = [
        torch.autograd.grad(module(image[None]), module.weight, gradient[None])[0].flatten()
        for image, gradient in zip(x, g, strict=True)
    ]
    how = Geometry(
        module.kernel_size, module.stride, module.padding, module.dilation, module.groups
    )
    found = gradients(how, module.weight, x, g)
    torch.testing.assert_close(found, torch.stack(expected))


def test_hooks_equal_vmap(convolutional: Classifier) -> None:
    data = joined(batches())
    parameters = {n: p.detach() for n, p in convolutional.eval().named_parameters()}
    buffers = dict(convolutional.named_buffers())

    def logit(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        state = {**parameters, **buffers}
        return torch.func.functional_call(convolutional, state, (image[None],)).squeeze()

    # vmap cannot run in-place operations on unbatched tensors
    for module in convolutional.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    gradients = torch.func.vmap(torch.func.grad(logit), (None, 0))(parameters, data.images)
    c = torch.linspace(-1, 2, len(data.labels), dtype=torch.float64)[None]
    expected = weighted_squares(gradients, c)
    assert_equal(squared_gradients(convolutional, [data], c)[0], expected, 1e-11)


def per_sample_reference(
    classifier: nn.Module, data: Batch, weights: losses.ClassWeights | None
) -> store.Importance:
    """Every objective from its own definition: autograd through the loss, then single samples."""
    with torch.no_grad():
        logits = classifier.eval()(data.images)
    gradients = logit_gradients(classifier, data.images)
    everything = torch.ones_like(data.labels, dtype=torch.bool)
    weights = weights or losses.class_weights(data.labels)

    def mean_of_squares(loss: Callable[[Tensor], Tensor], rows: Tensor) -> dict[str, Tensor]:
        leaf = logits.clone().requires_grad_()
        (c,) = torch.autograd.grad(loss(leaf), leaf)
        n = int(rows.sum())
        squares = weighted_squares(gradients, n * c[None])
        return {name: value[0] / n for name, value in squares.items()}

    def bce(rows: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: losses.weighted_bce(z[rows], data.labels[rows], weights)

    known, group0, group1 = (data.attributes >= 0, data.attributes == 0, data.attributes == 1)
    return {
        "prediction": mean_of_squares(bce(everything), everything),
        "bias": mean_of_squares(lambda z: losses.eodds_gap(z, data.labels, data.attributes), known),
        "group0": mean_of_squares(bce(group0), group0),
        "group1": mean_of_squares(bce(group1), group1),
    }


@pytest.mark.parametrize("weights", [None, (0.2, 0.8)])
def test_per_sample_objectives_equal_their_definitions(
    convolutional: Classifier, weights: losses.ClassWeights | None
) -> None:
    data = batches()
    importance = estimators.per_sample(convolutional, data, weights)
    reference = per_sample_reference(convolutional, joined(data), weights)
    assert importance.keys() == reference.keys() == set(estimators.OBJECTIVES)
    for objective, expected in reference.items():
        assert_equal(importance[objective], expected, 1e-10)


def test_both_kinds_of_equalized_odds_have_the_same_per_sample_importance(
    convolutional: Classifier,
) -> None:
    """Why `per_sample` takes no `eodds`: only the sign of a row's coefficient differs."""
    data = joined(batches())
    with torch.no_grad():
        logits = convolutional.eval()(data.images)
    squares = []
    for kind in ("mean_abs", "signed_mean"):
        leaf = logits.clone().requires_grad_()
        loss = losses.eodds_gap(leaf, data.labels, data.attributes, kind)
        squares.append(torch.autograd.grad(loss, leaf)[0].square())
    assert squares[0].any()
    torch.testing.assert_close(*squares)


def test_a_missing_cell_drops_its_term_from_the_bias_importance(convolutional: Classifier) -> None:
    data = joined(batches())
    attributes = torch.where((data.labels > 0.5) & (data.attributes == 1), -1, data.attributes)
    data = data._replace(attributes=attributes)
    importance = estimators.per_sample(convolutional, [data])
    expected = per_sample_reference(convolutional, data, None)["bias"]
    assert_equal(importance["bias"], expected, 1e-10)


def test_subsets_in_one_pass_equal_passes_over_the_subsets(convolutional: Classifier) -> None:
    data = joined(batches(n=18))
    first = torch.arange(18) < 11
    subsets = {"balanced": first, "full": torch.ones(18, dtype=torch.bool)}
    together = estimators.per_sample(convolutional, [data], subsets=subsets)
    for name, rows in subsets.items():
        alone = estimators.per_sample(convolutional, [Batch(*(column[rows] for column in data))])
        for objective in estimators.OBJECTIVES:
            assert_equal(together[f"{name}.{objective}"], alone[objective], 1e-11)


def test_batches_may_be_a_function_and_their_size_does_not_matter(
    convolutional: Classifier,
) -> None:
    once = estimators.per_sample(convolutional, [joined(batches())])
    again = estimators.per_sample(convolutional, lambda: iter(batches(batch=4)))
    for objective in estimators.OBJECTIVES:
        assert_equal(again[objective], once[objective], 1e-11)


class Odd(nn.Module):
    """Parameters in unusual places; only the transposed convolution's cannot be served."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.tied_a = nn.Conv2d(4, 4, 1, bias=False)
        self.tied_b = nn.Conv2d(4, 4, 1, bias=False)
        self.tied_b.weight = self.tied_a.weight
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.norm = nn.GroupNorm(2, 4)
        self.reflect = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.by_pixel = nn.Linear(4, 4)
        self.functional = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.by_keyword = nn.Linear(4, 4)
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.stem(x)).tanh())
        x = self.same(self.reflect(self.norm(self.up(self.tied_b(self.tied_a(x).tanh())))))
        x = self.by_pixel(x.flatten(2).transpose(1, 2)).mean(1) * self.scale
        x = nn.functional.linear(x, self.functional.weight, self.functional.bias).tanh()
        return self.last(self.by_keyword(input=x)).squeeze(1)


def test_unknown_functions_fall_back_to_a_correct_loop_with_a_notice() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Odd().double()
    with pytest.warns(UserWarning, match=r"2 parameter.*slow automatic.*up\.weight") as caught:
        check_against_the_loop(network, batches(n=5, size=8, batch=2))
    assert len(caught) == 3  # one for each of the three ways that are checked
    slow = slow_parameters(network, batches()[0].images)
    assert slow == dict.fromkeys(["up.weight", "up.bias"], "conv_transpose2d")


def test_a_hook_that_changes_a_layers_output_is_respected(convolutional: Classifier) -> None:
    """DiffPrune multiplies a layer's output with a mask in a forward hook."""
    mask = torch.rand(8, 1, 1, generator=torch.Generator().manual_seed(3)).double()
    layer = convolutional.extractor[2]
    layer.register_forward_hook(lambda module, inputs, output: output * mask)
    check_against_the_loop(convolutional, batches())


def test_nothing_about_the_classifier_is_changed(convolutional: Classifier) -> None:
    convolutional.train()
    convolutional.head.eval()
    convolutional.head.requires_grad_(False)
    modes = [m.training for m in convolutional.modules()]
    flags = [p.requires_grad for p in convolutional.parameters()]
    state = {name: value.clone() for name, value in convolutional.state_dict().items()}
    estimators.minibatch(convolutional, batches())
    estimators.per_sample(convolutional, batches())
    assert modes == [m.training for m in convolutional.modules()]
    assert flags == [p.requires_grad for p in convolutional.parameters()]
    assert all(p.grad is None for p in convolutional.parameters())
    assert all(torch.equal(v, state[n]) for n, v in convolutional.state_dict().items())
    assert not any(m._forward_hooks for m in convolutional.modules())


def test_float32_agrees_with_float64(convolutional: Classifier) -> None:
    expected = estimators.per_sample(convolutional, batches())
    single = [b._replace(images=b.images.float(), labels=b.labels.float()) for b in batches()]
    actual = estimators.per_sample(convolutional.float(), single)
    for objective in estimators.OBJECTIVES:
        values = {name: value.double() for name, value in actual[objective].items()}
        assert_equal(values, expected[objective], 1e-4)


# --- mini-batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("eodds", ["mean_abs", "signed_mean"])
@pytest.mark.parametrize("weights", [None, (0.2, 0.8)])
def test_minibatch_equals_plain_autograd(
    convolutional: Classifier, eodds: str, weights: losses.ClassWeights | None
) -> None:
    data = batches()
    importance = estimators.minibatch(convolutional, data, eodds, weights)
    objectives: dict[str, Callable[[Batch], Tensor]] = {
        "prediction": lambda b: losses.weighted_bce(convolutional(b.images), b.labels, weights),
        "bias": lambda b: losses.eodds_gap(convolutional(b.images), b.labels, b.attributes, eodds),
    }
    assert importance.keys() == objectives.keys()
    convolutional.eval()
    for objective, loss in objectives.items():
        expected = {n: torch.zeros_like(p) for n, p in convolutional.named_parameters()}
        for batch in data:
            convolutional.zero_grad()
            loss(batch).backward()
            for name, parameter in convolutional.named_parameters():
                expected[name] += parameter.grad**2 / len(data)
        assert_equal(importance[objective], expected, 1e-12)


def test_minibatch_of_hidden_linear_layers_equals_autograd() -> None:
    """Two activations behind a layer: its outputs' gradients have either sign, image by image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = [nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh()]
        classifier = Classifier(nn.Sequential(nn.Flatten(), *hidden), 5, 0.0).double().eval()
    with torch.no_grad():
        for layer in hidden[::2]:
            layer.weight.mul_(6)  # into the bends of tanh; near 0 the network is a linear one
    data = batches(size=4)
    names, parameters = zip(*classifier.named_parameters(), strict=True)
    found = estimators.minibatch(classifier, data, weights=(0.5, 0.5))["prediction"]
    expected = dict.fromkeys(names, 0.0)
    for batch in data:
        loss = losses.weighted_bce(classifier(batch.images), batch.labels, (0.5, 0.5))
        gradients = torch.autograd.grad(loss, parameters)
        for name, gradient in zip(names, gradients, strict=True):
            expected[name] = expected[name] + gradient**2 / len(data)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])


def test_a_batch_with_one_group_adds_no_bias(convolutional: Classifier) -> None:
    data = batches()
    lone = data[0]._replace(attributes=torch.zeros_like(data[0].attributes))
    with_lone = estimators.minibatch(convolutional, [data[1], lone])
    without = estimators.minibatch(convolutional, [data[1]])
    half = {name: value / 2 for name, value in without["bias"].items()}
    assert_equal(with_lone["bias"], half, 1e-12)


# --- refusals and files ---------------------------------------------------------------------------


def test_what_no_mask_can_be_made_of_is_refused(convolutional: Classifier) -> None:
    lone = [b._replace(attributes=torch.zeros_like(b.attributes)) for b in batches()]
    with pytest.raises(UserError, match="bias is zero everywhere"):
        estimators.minibatch(convolutional, lone)
    with pytest.raises(UserError, match="no sample of attribute group 1"):
        estimators.per_sample(convolutional, lone)
    convolutional.head.linear.weight.data.fill_(torch.inf)
    with pytest.raises(UserError, match="not finite"):
        estimators.minibatch(convolutional, batches())


def test_batch_statistics_are_refused() -> None:
    extractor = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    with pytest.raises(UserError, match="track_running_stats"):
        estimators.per_sample(Classifier(extractor, 4, 0.5).double(), batches())


def test_a_saved_importance_is_the_same_when_read(
    convolutional: Classifier, tmp_path: Path
) -> None:
    subsets = {"full": torch.ones(12, dtype=torch.bool)}
    importance = estimators.per_sample(convolutional, batches(), subsets=subsets)
    path = tmp_path / "fold0.safetensors"
    store.save(importance, path)
    read = store.Stored(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert read.keys() == importance.keys()
    for objective, values in importance.items():
        assert read[objective].keys() == values.keys()
        assert all(torch.equal(read[objective][name], v) for name, v in values.items())
    first = path.read_bytes()
    store.save(estimators.per_sample(convolutional, batches(), subsets=subsets), path)
    assert path.read_bytes() == first  # same input, same bytes
    with pytest.raises(
        UserError, match=r"no importance 'full\.grup0'; did you mean 'full\.group0'"
    ):
        read["full.grup0"]
