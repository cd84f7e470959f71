"""Networks and arrays of users that are not as the front door expects: taken, or refused in a line.

What a network is worth is that of plain torch, and who refuses says it in one line.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import utils
from torch.nn.utils import parametrizations

import swift_debias as sd
from swift_debias.api import CLASSES
from swift_debias.config.schema import Backbone
from swift_debias.data.image_set import HeldImages
from swift_debias.errors import UserError
from swift_debias.learning import forward, networks

SHARED = {"epochs": 1, "batch_size": 16, "min_cell": 1}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def images(channels: int = 3) -> sd.ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(48, 8, 8, channels))
    return sd.ImageSet.from_arrays(pixels, np.arange(48) % 2, np.arange(48) // 2 % 2)


def body() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8),
        nn.Tanh(), nn.Linear(8, 1),
    )  # fmt: skip


def refused(fit: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        fit()
    (line,) = str(caught.value).splitlines()
    return line


# --- weights that are made of others --------------------------------------------------------------


def normed(norm: Callable[[nn.Module], nn.Module], *layers: int) -> nn.Module:
    network = body()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the norms of old are deprecated
        for layer in layers:
            network[layer] = norm(network[layer])
    for _ in range(4):  # as after a training: the last weight is kept with its graph
        network(torch.randn(4, 3, 8, 8)).sum().backward()
    return network


NORMS = {
    "weight norm of old": utils.weight_norm,
    "spectral norm of old": utils.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["SWiFT", "FullFT", "DiffGda", "JTT", "PEFT", "Baseline"])
def test_normed_weights_are_fitted(norm: str, name: str) -> None:
    network = normed(NORMS[norm], 0).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        fitted = CLASSES[name](**SHARED).fit(network, images())
    assert network.training and network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert fitted.model_.state_dict().keys() == before.keys()
    same = sd.predict_proba(network, images())
    if name != "DiffGda":  # which may keep the network that it was given
        assert np.array_equal(fitted.predict_proba(images()), same) == (name == "Baseline")


@pytest.mark.parametrize("norm", NORMS)
def test_a_normed_last_layer_is_refused(norm: str) -> None:
    assert "is parametrized" in refused(
        lambda: sd.SWiFT(**SHARED).fit(normed(NORMS[norm], 6), images())
    )


def test_what_cannot_be_copied_is_refused() -> None:
    class Stubborn(nn.Sequential):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no\ncopies")

    assert "parametrizations" in refused(lambda: sd.SWiFT().fit(Stubborn(body()), images()))


# --- weights with two names -----------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers with one weight, `head`: one of them is the last."""

    def __init__(self, head: bool) -> None:
        super().__init__()
        self.body, self.head = body()[:4], head
        self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.fc = nn.Linear(8, 2, bias=False)
        if head:
            self.a = nn.Linear(8, 2, bias=False)
            self.fc.weight = self.a.weight
        else:
            self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = self.b(x) + self.a(x).softmax(1) @ self.a.weight if self.head else self.b(self.a(x))
        return self.fc(x)


class Alias(nn.Module):
    """The last layer is called by another name than it is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = body()
        self.fc = self.layers[6]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_a_weight_that_would_become_two_is_refused() -> None:
    for network in (Tied(head=True), Alias()):
        for name in ("SWiFT", "FullFT", "PEFT"):
            said = refused(lambda m=network, n=name: CLASSES[n](**SHARED).fit(m, images()))
            assert "last layer's" in said and " too; " in said
    lora = sd.PEFT(adapt="lora", **SHARED)
    assert "a.weight and b.weight are one" in refused(lambda: lora.fit(Tied(head=False), images()))


@pytest.mark.parametrize("name", ["SWiFT", "FullFT", "BMFT", "SSD"])
def test_tied_layers_stay_tied(name: str) -> None:
    found = CLASSES[name](**SHARED).fit(Tied(head=False), images()).model_
    assert torch.equal(found.a.weight, found.b.weight)


# --- kinds of numbers -----------------------------------------------------------------------------


class Held(nn.Module):
    """A network with something beside it."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        self.net, self.beside = body(), nn.Parameter(parameter, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_other_kinds_of_weights_are_told(kind: torch.dtype) -> None:
    network = body().to(kind)
    name = str(kind).removeprefix("torch.")
    for use in (
        lambda: sd.SWiFT(**SHARED).fit(network, images()),
        lambda: sd.predict_proba(network, images()),
    ):
        assert f"weights are {name} (0.weight): call model.float()" in refused(use)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        (torch.arange(3), "beside is int64, .*register_buffer"),
        (torch.ones(3, dtype=torch.bool), "beside is bool, .*register_buffer"),
        (torch.ones(3, dtype=torch.complex64), "beside is complex64: .*view_as_real"),
    ],
)
def test_parameters_that_are_no_real_numbers_are_told(parameter: Tensor, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sd.FullFT(**SHARED).fit(Held(parameter), images())
    assert len(sd.predict_proba(Held(parameter), images())) == 48  # scores need no training


class Counting(nn.Module):
    """A network with a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.passes = body(), 7

    def get_extra_state(self) -> dict[str, int]:
        return {"passes": self.passes}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.passes = state["passes"]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("name", ["SWiFT", "FullFT", "DiffGda", "SSD", "PEFT", "FairPrune"])
def test_a_state_that_is_no_tensor_stays(name: str) -> None:
    fitted = CLASSES[name](**SHARED).fit(Counting(), images())
    assert fitted.model_.passes == 7
    plain = CLASSES[name](**SHARED).fit(body(), images())
    np.testing.assert_array_equal(fitted.predict_proba(images()), plain.predict_proba(images()))


# --- where and with what it is called -------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["SWiFT", "SSD"])
def test_fit_trains_wherever_it_is_called(mode: Callable[[], Any], name: str) -> None:
    expected = CLASSES[name](**SHARED).fit(body(), images()).model_.state_dict()
    with mode():
        made = body()  # in torch's inference mode its weights can have no gradient
        found = CLASSES[name](**SHARED).fit(made, images()).model_
        assert not torch.is_grad_enabled()
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())
    found(torch.randn(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_told(channels: int) -> None:
    for use in (
        lambda: sd.SWiFT(**SHARED).fit(body(), images(channels)),
        lambda: sd.predict_proba(body(), images(channels)),
    ):
        assert f"does not take images of {channels} channels, 8 x 8 pixels" in refused(use)


def test_labels_and_groups_of_tensors_are_numbers() -> None:
    given = images()
    assert isinstance(given.source, HeldImages)
    pixels, labels, groups = given.source.pixels, given.labels, given.groups
    for made in (
        sd.ImageSet.from_arrays(
            pixels, list(torch.tensor(labels)), list(torch.tensor(groups, dtype=torch.float32))
        ),
        sd.ImageSet.from_arrays(pixels, torch.tensor(labels), torch.tensor(groups)),
    ):
        assert made.labels.tolist() == labels.tolist() and made.group_names == ("0", "1")
        assert made.groups.tolist() == groups.tolist()
    for wrong in (labels[:, None], torch.tensor(labels)[:, None], [[y] for y in labels]):
        assert "labels: one value an image" in refused(
            lambda w=wrong: sd.ImageSet.from_arrays(pixels, w, groups)
        )
        assert "groups: one value an image" in refused(
            lambda w=wrong: sd.ImageSet.from_arrays(pixels, labels, w)
        )


@pytest.mark.parametrize("shape", [(48, 1), (48, 3), (47, 2), (47,), (1, 48), ()])
def test_scores_of_another_shape_are_told(shape: tuple[int, ...]) -> None:
    assert "scores of 48 images" in refused(lambda: sd.audit(np.full(shape, 0.5), images()))


@pytest.mark.parametrize("name", ["SWiFT", "FullFT"])
def test_what_a_user_froze_is_trained_all_the_same(name: str) -> None:
    assert "even where the caller froze it" in str(CLASSES[name].__doc__)
    network = body()
    frozen = copy.deepcopy(network)
    frozen[0].requires_grad_(False)
    expected = CLASSES[name](**SHARED).fit(network, images()).model_
    found = CLASSES[name](**SHARED).fit(frozen, images()).model_
    assert not found[0].weight.requires_grad and found[4].weight.requires_grad
    for key, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key])
    assert not torch.equal(found[0].weight, network[0].weight)


# --- what the methods work on says what the network says ------------------------------------------


class Net(nn.Module):
    """Something before the body, a last layer, something after it."""

    def __init__(
        self,
        last: nn.Module | None = None,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.fc = nn.Linear(8, 2) if last is None else last
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.fc(self.body(self.before(x))))


def in_place(x: Tensor) -> Tensor:
    x -= 0.5
    x /= 0.25
    return x


# two need layers that this network has not
@pytest.mark.filterwarnings("error:.*other scores each time")
@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"PEFT", "DiffPrune"}))
def test_a_network_may_change_its_images_in_place(name: str) -> None:
    """Its twin makes new ones: same scores before and after, same weights."""
    given = images()
    twins = [Net(before=before) for before in (in_place, lambda x: (x - 0.5) / 0.25)]
    scores = [sd.predict_proba(twin, given) for twin in twins]
    np.testing.assert_array_equal(*scores)
    fitted = [CLASSES[name](**SHARED).fit(twin, given) for twin in twins]
    one, other = (f.model_.state_dict() for f in fitted)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    np.testing.assert_array_equal(*(f.predict_proba(given) for f in fitted))


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        unit = nn.functional.normalize
        return 16 * nn.functional.linear(unit(x), unit(self.weight))


class Lora(nn.Linear):
    """Its update is nothing yet, so that it gives what a plain layer gives."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__(size, outputs)
        self.lora_A = nn.Parameter(torch.randn(2, size))
        self.lora_B = nn.Parameter(torch.zeros(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.lora_A.T @ self.lora_B.T


class Same(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def hooked(pre: bool, factor: float) -> nn.Module:
    layer = nn.Linear(8, 2)
    if pre:
        layer.register_forward_pre_hook(lambda _, given: (given[0] * factor,))
    else:
        layer.register_forward_hook(lambda _, __, output: output * factor)
    return layer


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (lambda: Cosine(8, 2), "'fc' (Cosine) gives something else than its weight"),
        (lambda: hooked(True, 5), "'fc' (Linear) gives something else than its weight"),
        (lambda: hooked(False, 3), "'fc' (Linear) gives something else than its weight"),
        (lambda: Lora(8, 2), "'fc' (Lora) has lora_A beside its weight and bias"),
    ],
)
def test_a_last_layer_of_another_arithmetic_is_refused(
    last: Callable[[], nn.Module], said: str
) -> None:
    network = Net(last())
    assert said in refused(lambda: sd.LLFT(**SHARED).fit(network, images()))
    sd.predict_proba(network, images())  # it can be audited all the same


@pytest.mark.parametrize("last", [lambda: Same(8, 2), lambda: hooked(True, 1), lambda: None])
def test_a_last_layer_that_is_linear_by_what_it_gives_is_taken(
    last: Callable[[], nn.Module | None],
) -> None:
    network, given = Net(last()), images()
    kept = sd.Baseline().fit(network, given)
    np.testing.assert_allclose(kept.predict_proba(given), sd.predict_proba(network, given))


def stacked(*layers: tuple[type[nn.Module], tuple[int, ...]]) -> nn.Module:
    """A head of several layers that is called `head`, as fastai's is."""
    network = nn.Sequential()
    network.add_module("body", Net().body)  # seeds
    network.add_module("head", nn.Sequential(*(kind(*sizes) for kind, sizes in layers)))
    return network


@pytest.mark.parametrize(
    "layers",
    [
        (
            (nn.Linear, (8, 8)),
            (nn.BatchNorm1d, (8,)),
            (nn.ReLU, ()),
            (nn.Dropout, ()),
            (nn.Linear, (8, 2)),
        ),
        ((nn.Dropout, ()), (nn.Linear, (8, 8)), (nn.ReLU, ()), (nn.Linear, (8, 2))),
        ((nn.Dropout, ()), (nn.Linear, (8, 2)), (nn.Tanh, ()), (nn.Linear, (2, 2))),
        ((nn.Dropout, ()), (nn.Linear, (8, 2))),
    ],
)
@pytest.mark.parametrize("name", ["SWiFT", "FullFT", "LLFT"])
def test_a_head_may_have_the_names_of_our_own(name: str, layers: Any) -> None:
    network, given = stacked(*layers), images()
    fitted = CLASSES[name](**SHARED).fit(network, given)
    assert fitted.model_.state_dict().keys() == network.state_dict().keys()
    fresh = copy.deepcopy(network)
    fresh.load_state_dict(fitted.model_.state_dict())
    np.testing.assert_array_equal(fitted.predict_proba(given), sd.predict_proba(fresh, given))


# --- probabilities in the place of logits, and chance ---------------------------------------------

LOGITS = "logits are needed"


# percent of a sigmoid may be logits: they are not all in [0, 1], and do not add up
SQUASHED = [("sigmoid", n, 1) for n in (1, 2, 3)]
SQUASHED += [("softmax", n, factor) for n in (2, 3) for factor in (1, 100)]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize(("function", "outputs", "factor"), SQUASHED)
def test_outputs_of_a_sigmoid_or_softmax_are_refused(
    function: str, outputs: int, factor: float, kind: torch.dtype
) -> None:
    def squash(z: Tensor) -> Tensor:
        z = z.sigmoid() if function == "sigmoid" else z.softmax(1)
        return (factor * z).to(kind).float()

    network = Net(nn.Linear(8, outputs), after=squash)
    assert LOGITS in refused(lambda: sd.predict_proba(network, images()))


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_logits_within_zero_and_one_are_logits(outputs: int) -> None:
    network = Net(nn.Linear(8, outputs))
    with torch.no_grad():
        network.fc.weight.mul_(0.01)
        network.fc.bias.fill_(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sd.predict_proba(network, images())
        logits = network.eval()(torch.tensor(images().source.pixels).permute(0, 3, 1, 2)).detach()
    wanted = (
        logits.softmax(1) if outputs > 1 else torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_cannot_be_told_is_warned_of() -> None:
    """No layer gives these numbers: they may be anything."""
    with pytest.warns(UserWarning, match=LOGITS):
        sd.predict_proba(Net(after=lambda z: z[:, :1].abs() / 100), images())


@pytest.mark.parametrize("name", ["Baseline", "LLFT"])
def test_chance_at_prediction_is_told(name: str) -> None:
    def drop(z: Tensor) -> Tensor:
        return nn.functional.dropout(z, 0.5, training=True)

    network = Net(nn.Sequential(nn.Identity(), nn.Linear(8, 2)))
    network.fc[0] = type("Always", (nn.Module,), {"forward": lambda _, x: drop(x)})()
    with pytest.warns(UserWarning, match="other scores each time"):
        sd.predict_proba(network, images())
    with pytest.warns(UserWarning, match="other scores each time"):
        CLASSES[name](**SHARED).fit(network, images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.predict_proba(Net(), images())


# --- gradients that end, and images that mix ------------------------------------------------------

HEADS: dict[str, dict[str, Any]] = {
    "LLFT": {"steps": 2},
    "DFR": {},
    "Baseline": {},
    "ThresholdOptimizer": {},
    "BNRecalibrate": {},
}
TRAINING = sorted(set(CLASSES) - {*HEADS, "DiffPrune"})  # which asks for a layer first
CUT = {
    "no_grad": lambda f, x: torch.no_grad()(f)(x),
    "detach": lambda f, x: f(x).detach(),
    "inference_mode": lambda f, x: torch.inference_mode()(f)(x).clone(),
}


class Cut(Net):
    """Its body has no gradient; `frozen`: nor does it want one."""

    def __init__(self, how: str, frozen: bool = False) -> None:
        super().__init__()
        self.how = how
        self.body.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(CUT[self.how](self.body, x))


@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("name", TRAINING)
def test_an_extractor_without_gradients_is_for_heads_alone(name: str, how: str) -> None:
    for frozen in (False, True):
        said = refused(lambda f=frozen: CLASSES[name](**SHARED).fit(Cut(how, f), images()))
        assert "without gradients (torch.no_grad or detach)" in said


@pytest.mark.parametrize("name", HEADS)
def test_who_keeps_the_extractor_needs_no_gradient_of_it(name: str) -> None:
    method = CLASSES[name](**SHARED, **HEADS[name])
    fitted = method.fit(Cut("no_grad", frozen=True), images()).model_
    for key, weight in Cut("no_grad").body.named_parameters():
        found = fitted.body.get_parameter(key)
        assert torch.equal(found, weight) and not found.requires_grad
    if name != "BNRecalibrate":
        method.fit(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), images())


def test_the_second_step_alone_needs_no_gradient_of_the_extractor() -> None:
    for mask in ("soft", "none"):
        fitted = sd.SWiFT(step1=False, mask=mask, **SHARED).fit(Cut("detach"), images())
        assert torch.equal(fitted.model_.body[0].weight, Cut("detach").body[0].weight)


@pytest.mark.parametrize("name", TRAINING)
def test_a_network_of_a_last_layer_alone_is_for_heads_alone(name: str) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    said = refused(lambda: CLASSES[name](**SHARED).fit(linear, images()))
    assert "no weights before its last layer" in said


def test_a_look_leaves_flags_and_modes_as_they_were() -> None:
    network = Net().body
    network[0].weight.requires_grad_(False)
    network.train()[1].eval()
    forward.refuse_without_gradient(network, torch.randn(2, 3, 8, 8))
    assert [p.requires_grad for p in network.parameters()] == [False, True, True, True]
    assert [part.training for part in network] == [True, False, True, True, True]


def test_an_extractor_of_which_a_part_is_trained_is_taken() -> None:
    network = Net()
    network.body[0].register_forward_hook(lambda _, __, output: output.detach())
    fitted = sd.FullFT(**SHARED).fit(network, images()).model_
    assert torch.equal(fitted.body[0].weight, network.body[0].weight)
    assert not torch.equal(fitted.body[1].weight, network.body[1].weight)


class Trains(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.body.train()
        return super().forward(x)


class Recurrent(nn.Module):
    """Images are taken for the steps of a sequence: each hears of those before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.fc = nn.GRU(192, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cell(x.flatten(1))[0])


def untracked() -> nn.Module:
    network = Net()
    network.body[1] = nn.BatchNorm2d(8, track_running_stats=False)
    return network


MIXING: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: Net(before=lambda x: x - x.mean(0, keepdim=True)),
    "largest": lambda: Net(before=lambda x: x / x.abs().max()),
    "train": Trains,
    "untracked": untracked,
    "earlier": Recurrent,
    "later": lambda: Net(before=lambda x: x.flip(0).cumsum(0).flip(0)),
}


@pytest.mark.parametrize("kind", MIXING)
def test_a_network_that_mixes_the_images_of_a_batch_is_told(kind: str) -> None:
    given = images()
    with pytest.warns(UserWarning, match="depends on the images beside it"):
        sd.predict_proba(MIXING[kind](), given)
    for name in ("SWiFT", "Baseline"):
        said = refused(lambda n=name: CLASSES[n](**SHARED).fit(MIXING[kind](), given))
        assert "depends on the images beside it" in said


def half(network: nn.Module) -> nn.Module:
    forward = network.forward

    def in_half(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(x).float()

    network.forward = in_half
    return network


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name", ["small_resnet", "resnet18", "efficientnet_b0", "shufflenet_v2_x0_5"]
)
def test_networks_that_treat_each_image_by_itself_pass(name: str, precision: str) -> None:
    network = networks.build(Backbone(architecture=name), seed=0).eval()
    network = half(network) if precision == "bf16" else network
    for count in (1, 2, 3, 8):
        assert not forward.mixes_images(network, torch.randn(count, 3, 64, 64))


# --- compiled networks ----------------------------------------------------------------------------


def test_a_scripted_network_is_scored_and_not_trained() -> None:
    network, given = body().eval(), images()
    for made in (torch.jit.script(network), torch.jit.trace(network, torch.zeros(2, 3, 8, 8))):
        np.testing.assert_allclose(
            sd.predict_proba(made, given), sd.predict_proba(network, given), atol=1e-6
        )
        said = refused(lambda made=made: sd.SWiFT(**SHARED).fit(made, given))
        assert "TorchScript" in said and "Python network" in said


def test_a_compiled_network_is_taken_as_it_was_before() -> None:
    network, given = body().eval(), images()
    compiled = torch.compile(network, backend="eager")
    fitted = [sd.FullFT(**SHARED).fit(made, given).model_ for made in (network, compiled)]
    assert type(fitted[1]) is type(network)
    one, other = (made.state_dict() for made in fitted)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    np.testing.assert_allclose(
        sd.predict_proba(compiled, given), sd.predict_proba(network, given), atol=1e-6
    )
