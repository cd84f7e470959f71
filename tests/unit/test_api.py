"""The front door: the user's own network goes in and comes out, by the workflow's road."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.written import write_cache
from torch import nn

import swift_debias as sd
from swift_debias import api
from swift_debias.api import CLASSES
from swift_debias.config.schema import Images
from swift_debias.data.image_set import HeldImages
from swift_debias.data.normalization import Normalization
from swift_debias.errors import NotFiniteError, UserError, of_command, of_library, setting
from swift_debias.learning import networks, samples, wrapped
from swift_debias.learning.wrapped import Wrapped, folded, unfolded

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "resources" / "samples" / "pad_ufes_20"
SIZE, MEAN, STD = 32, (0.6, 0.5, 0.4), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """200 photographs of the bundled sample whose patient's sex is known."""
    table = pd.read_csv(SAMPLE / "table.csv")
    table = table[table["gender"].notna()].iloc[:200]
    table["malignant"] = table["diagnostic"].isin(["BCC", "SCC", "MEL"]).astype(int)
    return table.reset_index(drop=True)


@pytest.fixture(scope="module")
def images(frame: pd.DataFrame) -> sd.ImageSet:
    return sd.ImageSet.from_frame(
        frame,
        image="file",
        label="malignant",
        attribute="gender",
        patient="patient_id",
        size=SIZE,
        mean=MEAN,
        std=STD,
        root=SAMPLE / "images",
    )


@pytest.fixture(scope="module")
def parts(images: sd.ImageSet) -> tuple[sd.ImageSet, sd.ImageSet]:
    return images.split(0.6, seed=0)


class Odd(nn.Module):
    """A network whose last layer has an odd name, is not its last attribute, and has one output."""

    def __init__(self) -> None:
        super().__init__()
        self.zz_decision = nn.Linear(6, 1)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.drop = nn.Dropout(0.3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.zz_decision(self.drop(self.body(images).flatten(1))).squeeze(1)


def plain() -> nn.Module:
    """A plain sequence with a two-class head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def resnet() -> nn.Module:
    return networks.import_torchvision().models.resnet18(num_classes=2)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


QUICK = {"epochs": 1, "batch_size": 32, "min_cell": 5, "lr_extractor": 1e-2, "lr_head": 1e-1}


@pytest.mark.parametrize("make", [plain, resnet, Odd])
def test_ten_lines(make: Callable[[], nn.Module], parts: tuple[sd.ImageSet, sd.ImageSet]) -> None:
    model = seeded(make)
    before, flags = bits(model), [p.requires_grad for p in model.parameters()]
    external, test = parts
    swift = sd.SWiFT(**QUICK).fit(model, external)
    report = sd.audit(swift.predict_proba(test), test)
    fair = swift.model_

    assert same(bits(model), before) and [p.requires_grad for p in model.parameters()] == flags
    assert not model._forward_hooks
    assert type(fair) is type(model) and not same(bits(fair), before)
    assert list(bits(fair)) == list(before)
    assert [(n, type(m)) for n, m in fair.named_modules()] == [
        (n, type(m)) for n, m in model.named_modules()
    ]
    assert [p.requires_grad for p in fair.parameters()] == flags
    assert not any(module._forward_hooks for module in fair.modules())
    # what it predicts, computed with the network alone
    pixels = torch.from_numpy(test.source.gather(test.rows)).permute(0, 3, 1, 2) / 255
    inputs = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        logits = fair(inputs)
    two = logits.dim() == 2
    expected = logits.softmax(1)[:, 1] if two else logits.sigmoid()
    found = swift.predict_proba(test)
    np.testing.assert_allclose(found[:, 1], expected.numpy(), atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert list(report.columns) == ["metric", "value", "low", "high", "n", "reason"]
    assert set(swift.masks_) == {name for name, _ in model.named_parameters()}
    names = {"minibatch.balanced.bias", "minibatch.balanced.prediction"}
    assert set(swift.importance_) == names
    assert len(swift.history_) == 2 and swift.cost_["images_seen"] > 0


def test_equal_to_the_workflows_road(parts: tuple[sd.ImageSet, sd.ImageSet]) -> None:
    """Rule debias' call on extractor and head built apart gives the same weights, bit by bit."""
    from swift_debias.config.schema import (
        Augmentation,
        Compute,
        Finetuning,
        Method,
        Optimizer,
        Pretraining,
    )
    from swift_debias.learning import devices
    from swift_debias.methods import _external, base
    from swift_debias.methods._choice import Choice
    from swift_debias.seeds import derive_seed, external_seed

    external, _ = parts
    seed = derive_seed(0, "debias", "small", "swift", "lesion", "sex", 0)
    set_seed = external_seed(0, "lesion", "sex", 0)
    model = seeded(Odd)
    ours = sd.SWiFT(
        epochs=2, batch_size=32, min_cell=5, lr_extractor=1e-2, seed=seed, external_seed=set_seed
    ).fit(model, external)

    extractor = nn.Sequential(copy.deepcopy(model.body), nn.Flatten())
    classifier = networks.Classifier(extractor, 6, dropout=0.3)
    classifier.head.linear.load_state_dict(model.zz_decision.state_dict())
    compute = Compute(device="cpu")
    classifier = devices.place(classifier.eval(), torch.device("cpu"), compute)
    cohort = pd.DataFrame({"image_id": external.rows.astype(str), "dataset": "pad"})
    cohort = cohort.assign(label=external.labels, fold=0)
    drawn = _external.make_external(
        cohort, external.groups, 0, 2, 5, np.random.default_rng(set_seed)
    ).frame
    held = samples.make_samples(
        external.source,
        external.rows,
        external.labels,
        external.groups,
        torch.device("cpu"),
        "on",
        Normalization.of(MEAN, STD),
    )
    training = base.Training(
        Pretraining(epochs=20, batch_size=32, optimizer=Optimizer(name="sgd", lr=1e-4)),
        Finetuning(epochs_percent=10, lr_extractor=1e-2, min_cell=5),
        Augmentation(),
        compute,
    )
    with devices.exact(torch.device("cpu")):
        theirs = base.debias(
            classifier,
            held,
            drawn.balanced.to_numpy(),
            2,
            Method(algorithm="swift"),
            training,
            lambda: Choice(None, None, {}),
            seed=seed,
            set_seed=set_seed,
        )
    found = ours.model_.state_dict()
    for name, value in theirs.classifier.state_dict().items():
        own = name.replace("extractor.0.", "body.").replace("head.1.", "zz_decision.")
        assert torch.equal(found[own], value), name
    assert ours.history_.equals(pd.DataFrame(theirs.history))


@pytest.mark.parametrize("name", sorted(n for n in dir(sd) if hasattr(getattr(sd, n), "algorithm")))
def test_every_method_hands_back_the_users_network(
    name: str, parts: tuple[sd.ImageSet, sd.ImageSet]
) -> None:
    model = seeded(plain)
    before = bits(model)
    # it has no 1 x 1 convolution that LoRA could update
    own = {"DiffPrune": {"unit": "channel", "step_size": 0.2}, "PEFT": {"adapt": "norm"}}
    made = getattr(sd, name)(**QUICK, **own.get(name, {})).fit(model, parts[0])
    assert same(bits(model), before)
    assert list(bits(made.model_)) == list(before)
    if name == "Baseline":
        assert same(bits(made.model_), before)
        for absent in ("masks_", "importance_"):
            with pytest.raises(AttributeError, match=f"no {absent}"):
                getattr(made, absent)


def test_a_classifier_is_taken_as_it_is(
    make_classifier: Any, parts: tuple[sd.ImageSet, sd.ImageSet]
) -> None:
    classifier = make_classifier()
    before = bits(classifier)
    fitted = sd.DiffPrune(**QUICK, min_balanced_accuracy=0, step_size=0.05).fit(
        classifier, parts[0]
    )
    assert same(bits(classifier), before)
    assert isinstance(fitted.model_, networks.Classifier)
    extra = set(bits(fitted.model_)) - set(before)
    assert extra == {f"{layer}.unit_mask" for layer in getattr(fitted, "masks_", {})} and extra


def test_pruned_channels_are_folded_into_the_weights(
    parts: tuple[sd.ImageSet, sd.ImageSet],
) -> None:
    """The user's network computes what the masked classifier does, without a mask."""
    model = seeded(plain)
    wrap = Wrapped(model, torch.zeros(2, 3, SIZE, SIZE))
    mask = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1]).view(8, 1, 1)
    networks.attach_unit_mask(wrap.classifier, "extractor.1", mask)
    inputs = torch.randn(5, 3, SIZE, SIZE)
    fair = wrap.unwrap(wrap.classifier)
    out = fair(inputs)
    torch.testing.assert_close(out[:, 1] - out[:, 0], wrap.classifier(inputs))
    assert (fair[1].weight[[1, 4]] == 0).all() and (fair[1].bias[[1, 4]] == 0).all()
    networks.attach_unit_mask(wrap.classifier, "extractor.1", torch.ones(8, 7, 7))
    with pytest.raises(UserError, match="no place in the network's own weights"):
        wrap.unwrap(wrap.classifier)


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        ({}, False),
        ({"unit": "channel"}, True),
        ({"layer": "0", "unit": "channel"}, True),
        ({"layer": "2", "unit": "channel"}, False),  # a ReLU has no weights
        ({"layer": "0"}, False),
    ],
)
def test_a_mask_that_the_users_weights_cannot_hold_is_refused_before_anything_is_computed(
    settings: dict[str, Any],
    held: bool,
    parts: tuple[sd.ImageSet, sd.ImageSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[str] = []
    real = api.debias
    monkeypatch.setattr(api, "debias", lambda *a, **k: computed.append("") or real(*a, **k))
    method = sd.DiffPrune(**QUICK, **settings)
    if held:
        method.fit(seeded(plain), parts[0])
    else:
        with pytest.raises(UserError, match=r"no place in .* whole channels \(unit='channel'\)"):
            method.fit(seeded(plain), parts[0])
    assert bool(computed) == held


def test_fit_leaves_the_process_as_it_was(parts: tuple[sd.ImageSet, sd.ImageSet]) -> None:
    """Random state, determinism and threads of somebody else's program are not ours to change."""

    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
            torch.get_num_threads(),
            str(np.random.get_state()),  # noqa: NPY002
        )

    model, before = seeded(plain), state()
    swift = sd.SWiFT(**QUICK).fit(model, parts[0])
    swift.predict_proba(parts[1])
    assert state() == before
    again = sd.SWiFT(**QUICK).fit(model, parts[0])
    assert same(bits(again.model_), bits(swift.model_))
    other = sd.SWiFT(**QUICK, seed=1).fit(model, parts[0])
    assert not same(bits(other.model_), bits(swift.model_))


def test_of_many_groups_the_best_and_the_worst_are_compared() -> None:
    """As the workflow does; images of unknown group take no part."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, 180), rng.integers(-1, 3, 180)
    pixels = rng.integers(0, 255, (180, 16, 16, 3), dtype=np.uint8)
    images = sd.ImageSet.from_arrays(pixels, labels, groups, group_names=("a", "b", "c"))
    made = sd.FullFT(**QUICK, balanced=False).fit(seeded(plain), images)
    sizes = np.bincount(groups[groups >= 0])
    pairs = {int(sizes[a] + sizes[b]) for a, b in ((0, 1), (0, 2), (1, 2))}
    known = int((groups >= 0).sum())
    # one pass to choose the pair, one epoch on the pair
    assert made.cost_["images_seen"] - known in pairs


WORDS_OF_A_RUN = re.compile(r"finetuning|compute\.|diffprune\.|folds?\b|\w: (cpu|cuda)")


@pytest.mark.parametrize(
    ("estimator", "groups", "message"),
    [
        (sd.SWiFT(min_cell=99), 2, r"\(min_cell=\), but has label 0 in group a: 15"),
        (sd.SWiFT(min_group=99), 3, r"lower min_group= and min_cell=, use more data, or merge"),
        (
            sd.DiffPrune(layer="nothing", unit="channel", min_cell=1),
            2,
            r"^layer=: no module 'nothing'",
        ),
        (sd.FullFT(head="nothing", min_cell=1), 2, r"^head=: no linear layer 'nothing'"),
        (sd.FullFT(device="cuda", min_cell=1), 2, r"^device='cuda' is set.*set device='cpu'"),
    ],
    ids=str,
)
def test_a_mistake_is_told_in_the_words_of_the_parameters(
    estimator: Any, groups: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same decision speaks to a run of its configuration's keys (tests of devices)."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rng = np.random.default_rng(0)
    images = sd.ImageSet.from_arrays(
        rng.random((60, 8, 8, 3)).astype(np.float32),
        np.arange(60) % 2,
        np.arange(60) // 2 % groups,
        group_names=tuple("abc"[:groups]),
    )
    with pytest.raises(UserError) as told:
        estimator.fit(plain(), images)
    assert re.search(message, str(told.value)), told.value
    assert not WORDS_OF_A_RUN.search(str(told.value)), told.value


def test_every_setting_that_a_message_names_is_a_parameter_and_a_key() -> None:
    """Else the library would tell somebody to set what it has not."""
    folder = Path(inspect.getfile(UserError)).parent
    texts = [path.read_text() for path in folder.rglob("*.py") if path.name != "errors.py"]
    named = {key for text in texts for key in re.findall(r"\bsetting\(['\"]([\w.]+)['\"]", text)}
    assert {"finetuning.min_cell", "device", "head"} <= named
    parameters = {name for made in CLASSES.values() for name in made.Settings.model_fields}
    parameters |= set(inspect.signature(sd.ImageSet.from_frame).parameters)
    assert {key.rpartition(".")[2] for key in named} <= parameters
    for key in named:
        assert setting(key) == key and setting(key, "x") == f"{key}: x"
        last = key.rpartition(".")[2]
        with of_library():
            assert setting(key) == f"{last}="
        with of_command({"set": [], "head": None}), of_library():  # a command asks the front door
            assert setting(key, "x") == ("--head x" if last == "head" else f"--set {last}=x")
        with of_command({"table": None}):
            assert setting(key) == key


def test_images_that_are_not_square() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (80, 16, 24, 3), dtype=np.uint8)
    images = sd.ImageSet.from_arrays(pixels, np.arange(80) % 2, np.arange(80) // 2 % 2)
    with pytest.raises(UserError, match="transpose=False"):
        sd.FullFT(**QUICK).fit(seeded(plain), images)
    sd.FullFT(**QUICK, transpose=False).fit(seeded(plain), images)


# --- the last layer -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 2])
def test_folding_and_back(outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, outputs, bias=bias)
    start, one = copy.deepcopy(layer), folded(layer)
    inputs = torch.randn(7, 5)
    z = layer(inputs)
    expected = z[:, 1] - z[:, 0] if outputs == 2 else z[:, 0]
    torch.testing.assert_close(one(inputs)[:, 0], expected)
    unfolded(layer, one)
    assert same(bits(layer), bits(start))  # untrained: the same bits

    trained = torch.randn(1, 5)
    trained[0, 2] = one.weight[0, 2].detach()  # one weight that did not change
    one.weight.data.copy_(trained)
    unfolded(layer, one)
    if outputs == 1:
        assert torch.equal(layer.weight, trained)
        return
    torch.testing.assert_close(layer.weight[1:] - layer.weight[:1], trained)
    torch.testing.assert_close(layer.weight.sum(0), start.weight.sum(0))
    assert torch.equal(layer.weight[:, 2], start.weight[:, 2])


class After(nn.Module):
    """A head, and something after it."""

    def __init__(
        self, after: Callable[[torch.Tensor], Any], outputs: int = 1, bias: float = 0
    ) -> None:
        super().__init__()
        self.fc, self.after = nn.Linear(3, outputs), after
        nn.init.constant_(self.fc.bias, bias)

    def forward(self, images: torch.Tensor) -> Any:
        return self.after(self.fc(images.mean((2, 3))))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (After(torch.sigmoid), "let its forward return the logits"),
        (After(torch.sigmoid_), "let its forward return the logits"),
        (After(lambda z: z.softmax(1), 2), "let its forward return the logits"),
        (After(torch.relu, bias=9), "let its forward return the logits"),
        (After(torch.relu_, bias=9), "let its forward return the logits"),
        (After(lambda z: z.clamp(-6, 6)), "let its forward return the logits"),
        (After(lambda z: z.clamp(max=50)), "let its forward return the logits"),
        (After(lambda z: z.clamp(min=-50)), "let its forward return the logits"),
        (After(lambda z: nn.functional.hardtanh(z, -9, 9), 2), "let its forward return the logits"),
        (After(lambda z: (z, z)), "returns a tuple"),
        (After(lambda z: z, 7), "has 7 outputs"),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no linear"),
    ],
)
def test_what_cannot_be_a_head_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Wrapped(model, torch.rand(2, 3, 8, 8))
    assert "\n" not in str(error.value)


class Fragile(nn.Module):
    """A network that divides by its pixels' mean: 0 / 0 of a black image."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.fc = nn.Linear(3, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return self.fc(means / means.sum(1, keepdim=True))


def pictures(n: int = 40, classes: int = 2) -> sd.ImageSet:
    pixels = np.random.default_rng(0).random((n, 8, 8, 3)) + 0.5
    return sd.ImageSet.from_arrays(
        pixels,
        np.arange(n) % classes,
        np.arange(n) // classes % 2,
        classes=None if classes == 2 else range(classes),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_called_so(value: float) -> None:
    """Of pixels, of weights, and of scores; nothing is decided of them."""
    images = pictures()
    assert isinstance(images.source, HeldImages)
    spoilt = images.source.pixels.copy()
    spoilt[[5, 9], 0, 0, 0] = value
    with pytest.raises(UserError, match=r"2 images have pixels that are not finite, .* number 5"):
        sd.ImageSet.from_arrays(spoilt, images.labels, images.groups)
    network = Fragile()
    with torch.no_grad():
        network.fc.weight[0, 0] = value
    with pytest.raises(NotFiniteError, match=r"network: 1 weights .* the first in fc.weight"):
        sd.SWiFT(epochs=1).fit(network, images)
    for outputs in (1, 2, 3):
        black = dataclasses.replace(images, source=HeldImages(images.source.pixels.copy()))
        black.source.pixels[7] = 0
        with pytest.raises(NotFiniteError, match="scores of 1 of 40 images are not finite"):
            sd.predict_proba(Fragile(outputs), black)
    with pytest.raises(NotFiniteError, match="scores of 1 of 2 images are not finite"):
        wrapped.find_last_layer(
            Fragile(), torch.tensor([1.0, 0]).view(2, 1, 1, 1).repeat(1, 3, 8, 8)
        )


class Remembering(nn.Module):
    """It makes its table of positions in the first pass, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 1)
        self.table: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv(images)
        if self.table is None or len(self.table) != len(x):
            self.table = torch.linspace(0, 1, x.shape[-1]).expand(len(x), 1, 1, -1).clone()
        return self.fc((x * self.table).relu().mean((2, 3)))


@pytest.mark.parametrize("algorithm", ["", "SWiFT", "ThresholdOptimizer", "SSD"])
def test_a_network_can_be_trained_after_it_was_used(algorithm: str) -> None:
    """Nothing that it keeps of a pass stands in the way, in the user's program or here."""
    images, network = pictures(), Remembering()
    sd.predict_proba(network, images)
    used = network
    if algorithm:
        used = CLASSES[algorithm](min_cell=1).fit(network, images).model_
        sd.predict_proba(used, images)
    for model in (network, used):
        model.train()(torch.rand(40, 3, 8, 8)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("reshape", [lambda z: z, lambda z: z.squeeze(1), lambda z: z.flatten()])
def test_the_outputs_shape_does_not_matter(reshape: Callable[[torch.Tensor], Any]) -> None:
    model = After(reshape)
    inputs = torch.rand(4, 3, 8, 8)
    classifier = Wrapped(model, inputs).classifier
    assert torch.equal(classifier(inputs), model(inputs).reshape(-1))
    assert torch.equal(copy.deepcopy(classifier)(inputs), classifier(inputs))


def test_the_network_that_is_looked_at_is_left_as_it_is() -> None:
    model = Remembering().eval()
    before, hooks = bits(model), len(model._forward_hooks)
    wrapped.find_last_layer(model, torch.rand(2, 3, 8, 8))
    assert same(before, bits(model)) and len(model._forward_hooks) == hooks
    assert not any(part._forward_hooks for part in model.modules())


def pixels(n: int = 40, **more: Any) -> sd.ImageSet:
    arrays = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    return sd.ImageSet.from_arrays(arrays, np.arange(n) % 2, np.arange(n) // 2 % 2, **more)


@pytest.mark.parametrize(
    ("after", "outputs", "message"),
    [
        (lambda z: z[:, None], 2, "returns (40, 1, 2) of 40 images"),
        (lambda z: z.T, 2, "returns (2, 40) of 40 images"),
        (lambda z: z.flatten(), 2, "returns (80,) of 40 images"),
        (lambda z: z.sum(), 1, "returns () of 40 images"),
        (lambda z: z[:, :0], 1, "returns (40, 0) of 40 images"),
        (lambda z: z[..., None, None].expand(-1, -1, 4, 4), 1, "returns (40, 1, 4, 4) of 40"),
        (lambda z: (z, z), 1, "returns a tuple"),
        (lambda z: z.softmax(1), 2, "look like probabilities"),
        (lambda z: z.softmax(1), 4, "look like probabilities"),
        (lambda z: torch.stack([1 - z.sigmoid(), z.sigmoid()], 1)[..., 0], 1, "probabilities"),
    ],
)
def test_what_are_no_logits_is_refused(after: Any, outputs: int, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        sd.predict_proba(seeded(lambda: After(after, outputs)), pixels())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 20])
def test_logits_of_any_usual_shape_are_taken(outputs: int, n: int) -> None:
    shapes = [lambda z: z, lambda z: z.squeeze()]
    shapes += [lambda z: z.flatten()] if outputs == 1 else []
    for shape in shapes:
        model = seeded(lambda shape=shape: After(shape, outputs))
        images = pixels().subset(np.arange(n))
        found = sd.predict_proba(model, images)
        with torch.no_grad():
            z = model.fc(drawn(images).mean((2, 3)))
            z = torch.cat([torch.zeros(n, 1), z], 1) if outputs == 1 else z
        np.testing.assert_allclose(found, z.softmax(1).numpy(), atol=1e-6)


def drawn(images: sd.ImageSet) -> torch.Tensor:
    """By hand: pixels on [0, 1], normalized."""
    stored = torch.tensor(images.source.gather(images.rows)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in images.normalization)
    return (stored - mean) / std


def test_a_sigmoid_at_the_end_is_refused_and_nothing_else_is_said() -> None:
    with pytest.raises(UserError, match="look like probabilities"):
        sd.predict_proba(seeded(lambda: After(torch.sigmoid)), pixels())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.predict_proba(seeded(lambda: After(lambda z: z, bias=-9)), pixels())
        fitted = sd.Baseline().fit(seeded(lambda: After(lambda z: z / 1)), pixels())
        fitted.model_.fc.weight.data.mul_(0)
        fitted.model_.fc.bias.data.fill_(0.5)
        fitted.predict_proba(pixels())  # it is known to give logits


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        ("net", None, "the model must be a torch.nn.Module, not a str"),
        (plain, None, "the model must be a torch.nn.Module, not a function"),
        (lazy(), None, "1.weight has no shape yet (a lazy layer)"),
        (plain().to("meta"), None, "0.weight is on the meta device"),
        (plain(), np.zeros(3), "the images must be an ImageSet, not a ndarray"),
        (plain(), None, ""),
    ],
)
def test_what_is_no_network_or_no_images_is_told(model: Any, images: Any, message: str) -> None:
    given = pixels() if images is None else images
    for use in (
        lambda: sd.FullFT(epochs=1).fit(model, given),
        lambda: sd.predict_proba(model, given),
    ):
        if not message:
            use()
            continue
        with pytest.raises(UserError, match=re.escape(message)) as error:
            use()
        assert "\n" not in str(error.value)


def test_scikit_learn_knows_what_is_fitted() -> None:
    from sklearn.base import is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    estimator = sd.Baseline()
    assert is_classifier(estimator)
    for attributes in (None, "model_"):
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator, attributes)
    estimator.fit(plain(), pixels())
    for attributes in (None, "model_"):
        check_is_fitted(estimator, attributes)


def test_images_are_normalized_as_those_of_fit() -> None:
    half, other = ((0.5,) * 3, (0.5,) * 3), ((0.4,) * 3, (0.5,) * 3)
    fitted = sd.Baseline().fit(plain(), pixels(mean=half[0], std=half[1]))
    fitted.predict(pixels(mean=half[0], std=half[1]))
    for use in (fitted.predict, fitted.predict_proba):
        with pytest.raises(UserError, match=r"have mean \[0.4.*those of fit mean \[0.5"):
            use(pixels(mean=other[0], std=other[1]))
    fitted.fit(plain(), pixels(mean=other[0], std=other[1])).predict(
        pixels(mean=other[0], std=other[1])
    )


RANGES = [(0, 1), (-1, 1), (-1024, 1024), (0, 255), (-123.7, 131.3), (-2.1, 2.6), (-0.5, 0.5)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_numbers_of_pixels_from_0_to_255_are_no_mean_and_std(
    low: float, high: float, channels: int
) -> None:
    """What maps [0, 1] on the range of a network is taken, the same times 255 is not."""
    mean, std = (-low / (high - low),) * channels, (1 / (high - low),) * channels
    assert Normalization.of(mean, std) == (mean, std)
    assert Images(mean=mean, std=std, channels=channels).mean == mean
    large_mean, large_std = (tuple(255 * value for value in values) for values in (mean, std))
    wrong = [(large_mean, std), (large_mean, large_std)] if large_mean[0] > 1 else []
    wrong += [(mean, large_std)] if large_std[0] > 1 else []
    for given in wrong:
        with pytest.raises(UserError, match=r"^(mean|std) \(.*on \[0, 1\]: divide by 255"):
            Normalization.of(*given)
        with pytest.raises(ValueError, match=r"(mean|std) \(.*on \[0, 1\]: divide by 255"):
            Images(mean=given[0], std=given[1], channels=channels)


@pytest.mark.parametrize("wrong", [0.5, None, "ab", (None,) * 3, (np.nan,) * 3, (-0.5,) * 3])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_mean_and_std_are_a_number_a_channel(name: str, wrong: Any, frame: pd.DataFrame) -> None:
    columns = ("file", "malignant", "gender")
    makers: list[Callable[..., Any]] = [pixels, partial(sd.ImageSet.from_frame, frame, *columns)]
    for make in makers:
        with pytest.raises(UserError, match=rf"^{name}[ :]") as told:
            make(**{"mean": (0.5,) * 3, "std": (0.5,) * 3, name: wrong})
        assert "\n" not in str(told.value)


def test_what_is_kept_is_not_of_the_callers_type() -> None:
    """The default type of torch is the caller's, and may be another when they are used again."""
    from swift_debias.learning import augment

    expected = sd.predict_proba(seeded(plain), pixels())
    augment._statistics.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        double = sd.predict_proba(seeded(plain).float(), pixels())
    finally:
        torch.set_default_dtype(torch.float32)
    assert double.shape == expected.shape
    assert np.array_equal(sd.predict_proba(seeded(plain), pixels()), expected)


def test_a_named_head() -> None:
    model = After(lambda z: z)
    assert wrapped.find_last_layer(model, torch.rand(2, 3, 8, 8), "fc").name == "fc"
    with pytest.raises(UserError, match="did you mean 'fc'"):
        wrapped.find_last_layer(model, torch.rand(2, 3, 8, 8), "fcc")


# --- settings -------------------------------------------------------------------------------------


def test_cloned_by_scikit_learn() -> None:
    from sklearn.base import clone

    swift = sd.SWiFT(epochs=3, hard_rates=(0.2, 0.4))
    twin = clone(swift)
    assert twin is not swift and twin.get_params() == swift.get_params()
    assert twin.set_params(epochs=4).epochs == 4 and swift.epochs == 3
    assert repr(swift) == "SWiFT(epochs=3, hard_rates=(0.2, 0.4))"


def test_a_setting_is_set_as_an_attribute_too() -> None:
    for algorithm, made in CLASSES.items():
        estimator = made()
        for name, value in (("epochs", 3), ("lr_head", 0.25), ("seed", 7)):
            setattr(estimator, name, value)
            assert getattr(estimator, name) == estimator.get_params()[name] == value, algorithm
        estimator.note = "mine"
        assert estimator.note == "mine" and "note" not in estimator.get_params()
        with pytest.raises(UserError, match="greater than or equal to 1"):
            estimator.epochs = 0
        assert estimator.epochs == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"prediction_weight_1": 2}, "prediction_weight_1"),
        ({"optimizer": "adamw"}, "optimizer"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sd.SWiFT(**settings)
    swift = sd.SWiFT(epochs=2)
    with pytest.raises(UserError, match=message):
        swift.set_params(**settings)
    assert swift.get_params() == sd.SWiFT(epochs=2).get_params()


def test_signature_and_documentation_are_the_settings() -> None:
    from swift_debias.methods import llft

    signature = inspect.signature(sd.LLFT)
    assert {*llft.Settings.model_fields, "epochs", "lr_head", "head"} <= set(signature.parameters)
    assert signature.parameters["steps"].default == 1000
    assert str(llft.Settings.model_fields["steps"].description) in (sd.LLFT.__doc__ or "")


def test_a_result_before_fit_says_so() -> None:
    with pytest.raises(AttributeError, match="call fit"):
        _ = sd.SWiFT().model_
    with pytest.raises(AttributeError, match="no attribute 'epcohs'"):
        _ = sd.SWiFT().epcohs


def test_importing_the_front_door_costs_no_torch() -> None:
    code = (
        "import sys, swift_debias as sd\n"
        "from swift_debias import errors, methods\n"  # rooms: no names of the front door
        "assert 'pandas' not in sys.modules\n"
        "sd.SWiFT(epochs=2), sd.ImageSet, sd.audit, dir(sd)\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'SWiFT' in dir(sd)\n"
        "try: sd.SWIFT\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('no error')\n"
    )
    scripts = PROJECT / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- image sets -----------------------------------------------------------------------------------


def test_pixels_are_those_of_the_workflows_cache(images: sd.ImageSet, frame: pd.DataFrame) -> None:
    from PIL import Image, ImageOps

    for row in (0, 57, 199):
        with Image.open(SAMPLE / "images" / frame.loc[row, "file"]) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
        side = min(upright.size)
        square = ImageOps.fit(upright, (side, side), centering=(0.5, 0.5))
        expected = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR), int)
        assert np.abs(images.source.gather(np.array([row]))[0] - expected).mean() < 2


def test_groups_and_labels_of_a_frame(images: sd.ImageSet, frame: pd.DataFrame) -> None:
    assert images.group_names == ("FEMALE", "MALE")
    assert [images.group_names[g] for g in images.groups] == frame["gender"].tolist()
    assert images.labels.tolist() == frame["malignant"].tolist()
    assert "FEMALE" in repr(images) and len(images) == 200


@pytest.mark.parametrize("seed", range(3))
def test_split_keeps_patients_whole_and_cells_even(images: sd.ImageSet, seed: int) -> None:
    first, second = images.split(0.6, seed)
    assert images.patients is not None and first.patients is not None
    assert second.patients is not None and not set(first.patients) & set(second.patients)
    assert sorted([*first.rows, *second.rows]) == list(range(200))
    assert abs(len(first) / 200 - 0.6) < 0.03
    for label in (0, 1):
        for group in (0, 1):
            of_cell = [
                int(((p.labels == label) & (p.groups == group)).sum()) for p in (first, second)
            ]
            assert abs(of_cell[0] / sum(of_cell) - 0.6) < 0.15
    again, _ = images.split(0.6, seed)
    assert again.rows.tolist() == first.rows.tolist()
    assert images.split(0.6, seed + 10)[0].rows.tolist() != first.rows.tolist()


def test_without_patients_images_are_split_exactly_within_cells() -> None:
    labels, groups = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    pixels = np.zeros((100, 4, 4, 3), np.uint8)
    first, _ = sd.ImageSet.from_arrays(pixels, labels, groups).split(0.4)
    cells = pd.crosstab(first.labels, first.groups)
    assert (cells.to_numpy() == 10).all()


def of_arrays(patients: list[Any]) -> sd.ImageSet:
    pixels = np.zeros((len(patients), 4, 4, 3), np.uint8)
    turns = np.arange(len(patients)) % 2
    return sd.ImageSet.from_arrays(pixels, turns, turns, patients)


def of_dataset(patients: list[Any]) -> sd.ImageSet:
    image = torch.zeros(1, 4, 4)
    return sd.ImageSet.from_dataset([(image, n % 2, n % 2, p) for n, p in enumerate(patients)])


def constructed(patients: list[Any]) -> sd.ImageSet:
    return dataclasses.replace(of_arrays(patients), patients=np.array(patients, object))


@pytest.mark.parametrize("make", [of_arrays, of_dataset, constructed])
def test_a_patient_is_one_person_however_written(make: Callable[[list[Any]], sd.ImageSet]) -> None:
    """Spaces and types of numbers tear nobody apart, and 'unknown' binds nobody together."""
    forms: list[Callable[[int], Any]] = [str, int, float, lambda n: f" {n} ", torch.tensor]
    forms = forms if make is of_dataset else forms[:-1]
    written = [forms[i % len(forms)](i // 8) for i in range(160)]
    images = make([*written, *["unknown", None, "N/A", float("nan")] * 10])
    first, second = images.split(0.5)
    persons = [set((part.rows[part.rows < 160] // 8).tolist()) for part in (first, second)]
    assert not persons[0] & persons[1] and len(persons[0] | persons[1]) == 20
    unknown = [int((part.rows >= 160).sum()) for part in (first, second)]
    assert min(unknown) > 10


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of forty files, 00.png to 39.png, no two alike."""
    folder = tmp_path_factory.mktemp("forty")
    (folder / "x").mkdir()
    for n in range(40):
        Image.new("L", (8, 8), 5 * n).save(folder / f"{n:02}.png")
    return folder


def of_table(folder: Path, files: np.ndarray, **columns: Any) -> sd.ImageSet:
    """The images of these numbers of files, each spelt in several ways."""
    forms = ("{:02}.png", "./{:02}.png", f"{folder}/{{:02}}.png", "x/../{:02}.png")
    spelt = [forms[i % 4].format(n) for i, n in enumerate(files)]
    table = pd.DataFrame({"f": spelt, "y": files % 2, "g": files // 2 % 2} | columns)
    more: dict[str, Any] = {"size": 8, "mean": (0.5,), "std": (0.5,), "root": folder}
    return sd.ImageSet.from_frame(table, "f", "y", "g", "who" if "who" in table else None, **more)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("persons", [0, 100])
def test_a_file_is_never_on_both_sides(seed: int, persons: int, forty: Path) -> None:
    """Nor are two people who share one; each row has its own file's pixels."""
    rng = np.random.default_rng(seed)
    files = rng.permutation(np.concatenate([np.arange(40), rng.integers(0, 40, 10)]))
    who = rng.integers(0, persons, 50) if persons else np.arange(50)
    images = of_table(forty, files, **({"who": who} if persons else {}))
    shown = images.source.gather(images.rows)[:, 0, 0, 0]
    assert shown.tolist() == (5 * files).tolist() and len(images) == 50
    first, second = (
        {int(n) for n in part.source.gather(part.rows)[:, 0, 0, 0] // 5}
        for part in images.split(0.5, seed)
    )
    assert not first & second and first | second == set(range(40))
    sides = [set(who[np.isin(files, list(side))].tolist()) for side in (first, second)]
    assert not sides[0] & sides[1]
    together = (files[:, None] == files) | (who[:, None] == who)
    for _ in range(6):  # who shares with one who shares ...
        together = together @ together
    units = images.units
    assert units is not None and np.array_equal(units[:, None] == units, together)


def test_copies_of_an_image_make_no_interval_narrower(forty: Path) -> None:
    once, twice = (of_table(forty, np.repeat(np.arange(40), n)) for n in (1, 2))
    scores = np.random.default_rng(0).random(40)
    one, other = sd.audit(scores, once), sd.audit(np.repeat(scores, 2), twice)
    shown = ~one["metric"].str.match(r"n(_|\[|$)")
    columns = ["value", "low", "high"]
    assert np.allclose(one.loc[shown, columns], other.loc[shown, columns], equal_nan=True)


@pytest.mark.parametrize(("column", "what"), [("y", "label ('y')"), ("g", "group ('g')")])
def test_a_file_of_two_labels_or_groups_is_refused(column: str, what: str, forty: Path) -> None:
    files = np.tile(np.arange(40), 2)
    values = (files % 2).astype(object)
    values[43] = 0  # of file 3, in the fourth row too
    said = (
        rf"^1 image files have rows whose {re.escape(what)} differs, the first is {forty}/x/../03"
    )
    with pytest.raises(UserError, match=rf"{said}.png \(rows 4, 44\); keep one row of each file$"):
        of_table(forty, files, **{column: values})
    if column == "g":  # what is not known contradicts nothing
        values[43] = None
        assert of_table(forty, files, g=values).groups[[3, 43]].tolist() == [1, -1]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_files_are_read_alike_by_their_bits(bits: int, tmp_path: Path) -> None:
    """Whichever others are read with them; what was read otherwise is not mixed."""
    rng = np.random.default_rng(bits)
    white = 2**bits - 1
    levels = rng.integers(0, white // 4, (40, 8, 8))
    levels[20:] *= 4  # dark ones first, whose levels need two bits fewer
    for n, picture in enumerate(levels):
        Image.fromarray(picture.astype(np.uint16)).save(tmp_path / f"{n:02}.png")
    expected = (levels * 255 / white).round().astype(np.uint8)
    dark, bright = np.arange(20), np.arange(20, 40)

    def read(files: np.ndarray, bits: int | None) -> sd.ImageSet:
        spelt = [f"{n:02}.png" for n in files]
        table = pd.DataFrame({"f": spelt, "y": files % 2, "g": files // 2 % 2})
        half: dict[str, Any] = {"mean": (0.5,), "std": (0.5,), "root": tmp_path}
        return sd.ImageSet.from_frame(table, "f", "y", "g", size=8, bits=bits, **half)

    for files in (dark, bright, np.arange(40)):
        images = read(files, bits)
        assert images.bits == images.subset(np.arange(4)).bits == bits
        assert np.array_equal(images.source.gather(images.rows)[..., 0], expected[files])
    found = [read(files, None) for files in (dark, bright)]
    assert [images.bits for images in found] == [bits - 2, bits]
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    fitted = sd.Baseline(min_cell=1).fit(network, found[1])
    fitted.predict(read(dark, bits))
    said = f"read as of {bits - 2} bits, and those of fit as of {bits}: .* the same bits=$"
    with pytest.raises(UserError, match=said):
        fitted.predict(found[0])
    fitted.predict(dataclasses.replace(found[0], bits=None))  # of usual pictures nothing is said
    for wrong in (8, 17):
        with pytest.raises(UserError, match=r"^bits: "):
            read(dark, wrong)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("groups", [2, 3])
def test_every_cell_of_label_and_group_is_split_by_itself(classes: int, groups: int) -> None:
    """Rare ones too; their labels and groups are counted, not what the two make together."""
    sizes = {(c, g): 200 if (c + g) % 2 else 10 for c in range(classes) for g in range(groups)}
    labels, of_group = (np.repeat(part, [*sizes.values()]) for part in zip(*sizes, strict=True))
    images = sd.ImageSet.from_arrays(
        np.zeros((len(labels), 2, 2, 3), np.uint8),
        labels,
        of_group,
        classes=None if classes == 2 else range(classes),
    )
    for seed in range(4):
        first, _ = images.split(0.5, seed)
        for (c, g), size in sizes.items():
            assert ((first.labels == c) & (first.groups == g)).sum() == size / 2


class TorchSet(torch.utils.data.Dataset):
    """Already normalized tensors."""

    def __init__(self, n: int = 40) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(n, 1, 16, 16, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, str]:
        return self.images[index], index % 2, "ab"[index // 2 % 2]


def test_a_torch_dataset_is_taken_as_it_is() -> None:
    """One channel, floats: the network sees exactly the data set's tensors."""
    data = TorchSet()
    images = sd.ImageSet.from_dataset(data)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    with torch.no_grad():
        expected = model(data.images)[:, 0].double().sigmoid()
    found = sd.api.predict_proba(model, images)[:, 1]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert images.group_names == ("a", "b")
    fitted = sd.FullFT(epochs=1, batch_size=16, min_cell=2).fit(model, images)
    assert list(bits(fitted.model_)) == list(bits(model))


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([1, 2, -1, None], ("x", "y", "z"), [1, 2, -1, -1]),
        (["y", "x", "y", None], ("x", "y"), [1, 0, 1, -1]),
        ([7, 3, 7, 3], None, [1, 0, 1, 0]),
    ],
)
def test_groups_of_arrays(values: list[Any], names: Any, expected: list[int]) -> None:
    pixels = np.zeros((4, 4, 4, 3), np.uint8)
    images = sd.ImageSet.from_arrays(pixels, [0, 1, 0, 1], values, group_names=names)
    assert images.groups.tolist() == expected


def test_images_from_a_run(tmp_path: Path, images: sd.ImageSet) -> None:
    """The external set with its balanced part, and a test set, from the run's own files."""
    import yaml

    from swift_debias.config.schema import Attribute
    from swift_debias.files import write_parquet
    from swift_debias.run import layout

    def write(name: str, data: Any, **keys: Any) -> None:
        path = tmp_path / layout.path(name, **keys)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(data, path)

    pixels = images.source.gather(images.rows[:6])
    ids = [f"i{n}" for n in range(6)]
    write_cache(tmp_path / layout.path("pixels", dataset="pad"), ids, pixels)
    rows = pd.DataFrame({"dataset": "pad", "image_id": ids, "patient_id": list("aabbcc")})
    write("cohort", rows, task="t")
    labels, groups = [0, 1, 0, 1, 0, 1], [0, 0, 1, 1, -1, 0]
    external = rows.drop(columns="patient_id").assign(label=labels, attribute=groups)
    external = external.assign(balanced=[True, True, True, True, False, False]).iloc[[5, 3, 1]]
    write("external", external, task="t", attribute="sex", fold=1)
    keys = {"task": "t", "backbone": "b", "attribute": "sex", "method": "m", "fold": 0}
    write("predictions", rows.assign(label=labels, group=groups, score=0.5), **keys)

    found = sd.ImageSet.from_run(tmp_path, "t", "sex", fold=1)
    assert found.labels.tolist() == [1, 1, 1] and found.groups.tolist() == [0, 1, 0]
    assert found.patients is not None and found.patients.tolist() == ["c", "b", "a"]
    assert found.balanced is not None and found.balanced.tolist() == [False, True, True]
    assert (found.source.gather(found.rows) == pixels[[5, 3, 1]]).all()
    test = sd.ImageSet.from_run(tmp_path, "t", "sex", dataset="pad")
    assert test.groups.tolist() == groups and test.balanced is None
    assert test.group_names == ("0", "1")  # the run has not ended: nothing says what they are
    attribute = Attribute(column="sex", groups={"women": ("f",), "men": ("m",)})
    mean = [0.5, 0.25, 0.125]
    task = {"classes": None, "images": {"mean": mean, "std": mean}}
    settings = {"attributes": {"sex": attribute.model_dump(mode="json")}, "tasks": {"t": task}}
    (tmp_path / layout.path("settings")).write_text(yaml.safe_dump(settings, sort_keys=False))
    for which in ({"fold": 1}, {"dataset": "pad"}):
        ended = sd.ImageSet.from_run(tmp_path, "t", "sex", **which)
        assert ended.group_names == ("women", "men") and ended.classes == ("0", "1")
        assert ended.normalization == Normalization.of(mean, mean)
        assert "women 2 (" in repr(ended) or "women 3 (" in repr(ended)
        shown = sd.audit(np.full(len(ended), 0.5), ended)
        assert {"auc[women]", "auc[men]"} <= set(shown["metric"]) and "women" in str(shown)
    given = sd.ImageSet.from_run(tmp_path, "t", "sex", fold=1, group_names="xy", mean=(1, 1, 1))
    assert given.group_names == ("x", "y") and given.normalization.mean == (1, 1, 1)
    with pytest.raises(UserError, match="has the run come so far"):
        sd.ImageSet.from_run(tmp_path, "t", "sexe", fold=1)
    with pytest.raises(UserError, match="did you mean 'pad'"):
        sd.ImageSet.from_run(tmp_path, "t", "sex", dataset="pat")


def test_mistakes_in_a_table_are_told(frame: pd.DataFrame, tmp_path: Path) -> None:
    read = sd.ImageSet.from_frame
    with pytest.raises(UserError, match="did you mean 'gender'"):
        read(frame, "file", "malignant", "gendre")
    with pytest.raises(UserError, match="0 of 200 images are there"):
        read(frame, "file", "malignant", "gender", root=tmp_path)
    with pytest.raises(UserError, match="'diagnostic': labels must be 0 and 1, or positive= must"):
        read(frame, "file", "diagnostic", "gender")
    with pytest.raises(UserError, match=r"'patient_id': .* too many groups; cut numbers by cuts="):
        read(frame, "file", "malignant", "patient_id")
    for cell, more in ((None, {}), ("", {"positive": "BCC"}), ("N/A", {"classes": list("abc")})):
        spoilt = frame.assign(diagnostic=frame["diagnostic"].astype(object))
        spoilt.loc[[4, 9], "diagnostic"] = cell
        with pytest.raises(UserError, match=r"'diagnostic', row 5: no label \(.*, nor in 1 more;"):
            read(spoilt, "file", "diagnostic", "gender", **more)
    for cell, shown in ((None, "nothing"), ("", "nothing"), (7, "'7'"), (np.nan, "nothing")):
        spoilt = frame.assign(file=frame["file"].astype(object))
        spoilt.loc[4, "file"] = cell
        with pytest.raises(UserError, match=f"'file' must hold paths .*; row 5 holds {shown}"):
            read(spoilt, "file", "malignant", "gender", root=SAMPLE / "images")
    with pytest.raises(UserError, match="mean has 2 numbers, std has 3"):
        read(frame, "file", "malignant", "gender", mean=(0.1, 0.2))
    by_name = read(
        frame.iloc[:9], "file", "diagnostic", "gender", size=8, root=SAMPLE / "images",
        positive=["BCC", "SCC", "MEL"], groups={"men": ["MALE"], "women": ["female"]},
    )  # fmt: skip
    assert by_name.labels.tolist() == frame["malignant"][:9].tolist()
    assert by_name.group_names == ("men", "women")
