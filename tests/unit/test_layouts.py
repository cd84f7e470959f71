"""Networks whose code relies on how images lie in memory: they are worth what plain torch says.

The oracle is the same network with `reshape` in place of `view`, and the owner's own program.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import swift_debias as sd
from swift_debias import cli
from swift_debias.api import CLASSES
from swift_debias.config.schema import Backbone, Compute
from swift_debias.importance.layers import squared_gradients
from swift_debias.learning import devices, layouts, model_check, networks
from swift_debias.learning.samples import Batch

SIZE = 12
SHARED = {"epochs": 1, "batch_size": 16, "min_cell": 1}
NETS = """
import torch
from torch import nn


class Rows(nn.Module):
    \"\"\"A LeNet that flattens in one way or another.\"\"\"

    def __init__(self, flat, channels=3, outputs=2, norm=True):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(),
            nn.Conv2d(4, 6, 3), nn.MaxPool2d(2),
        )
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(6 * 4 * 4, outputs)
        self.flat = flat

    def forward(self, x):
        return self.last(self.drop(self.flat(self.body(x))))


def view(x):
    return x.view(len(x), -1)


def strided(x):
    assert x.is_contiguous()
    return x.as_strided((len(x), x[0].numel()), (x[0].numel(), 1))


def flatten(x):
    return x.flatten(1)


def make(flat="view", channels=3, outputs=2, norm=True):
    torch.manual_seed(0)
    return Rows(globals()[flat], channels, outputs, norm)


class Extractor(nn.Module):
    def __init__(self, flat):
        super().__init__()
        self.net, self.out_features = Rows(flat), 96
        del self.net.last

    def forward(self, x):
        return self.net.flat(self.net.body(x))


def extractor(flat="view"):
    torch.manual_seed(0)
    return Extractor(globals()[flat])
"""


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "row_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "row_nets", raising=False)
    import row_nets

    return row_nets


def images(channels: int = 3) -> sd.ImageSet:
    pixels = np.random.default_rng(0).normal(size=(48, SIZE, SIZE, channels))
    return sd.ImageSet.from_arrays(pixels, np.arange(48) % 2, np.arange(48) // 2 % 2)


def drawn(n: int = 6, channels: int = 3) -> Tensor:
    pictures = torch.randn(n, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return pictures.contiguous(memory_format=torch.channels_last)


OF_METHOD: dict[str, Any] = {"DiffPrune": {"unit": "channel"}, "PEFT": {"adapt": "bitfit"}}
FLATS = ["view", "strided"]


@pytest.mark.parametrize("flat", FLATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_the_owners(nets: Any, flat: str, channels: int) -> None:
    network = nets.make(flat, channels).eval()
    with torch.no_grad():
        pixels = images(channels).source.gather(np.arange(48)).transpose(0, 3, 1, 2)
        expected = network(torch.tensor(pixels.copy(order="C"))).softmax(1)
    found = sd.predict_proba(network, images(channels))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert not network._forward_pre_hooks
    fitted = sd.Baseline().fit(network, images(channels))
    np.testing.assert_allclose(fitted.predict_proba(images(channels)), expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_method_fits_it_as_the_same_network_with_reshape(nets: Any, name: str) -> None:
    """Up to rounding: the convolutions of one sum in another order."""
    settings = {"lr_extractor": 1e-4, "lr_head": 1e-3} | SHARED | OF_METHOD.get(name, {})
    found, expected = (
        CLASSES[name](**settings).fit(nets.make(flat), images()) for flat in ("view", "flatten")
    )
    for key, value in expected.model_.state_dict().items():
        torch.testing.assert_close(found.model_.state_dict()[key], value, rtol=1e-2, atol=1e-3)
    assert not found.model_._forward_pre_hooks  # it is the user's
    copy.deepcopy(found.model_)(drawn().contiguous())


@pytest.mark.parametrize("architecture", ["make", "extractor"])
@pytest.mark.parametrize("flat", FLATS)
@pytest.mark.parametrize("first", ["training", "scores", "importance"])
def test_a_network_of_a_run_takes_what_jobs_draw(architecture: str, flat: str, first: str) -> None:
    backbone = Backbone(architecture=f"row_nets:{architecture}", options={"flat": flat})
    plain = backbone.model_copy(update={"options": {"flat": "flatten"}})
    made, expected = networks.build(backbone, 0), networks.build(plain, 0)
    place = (torch.device("cpu"), Compute())
    made, expected = devices.place(made, *place), expected.to(memory_format=torch.contiguous_format)
    if first == "importance":
        batch = Batch(drawn(), torch.tensor([0.0, 1] * 3), torch.tensor([0, 0, 1] * 2))
        found, same = (
            squared_gradients(net.eval(), [batch], per_batch=torch.ones(1, 6))[1]
            for net in (made, expected)
        )
        for name, value in same.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)
    if first == "training":
        for network, pictures in ((made, drawn()), (expected, drawn().contiguous())):
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            torch.manual_seed(0)  # of the dropout
            network.train()(pictures).square().sum().backward()
            optimizer.step()
    for again in (made, copy.deepcopy(made), devices.place(copy.deepcopy(made), *place)):
        with torch.no_grad():
            torch.testing.assert_close(again.eval()(drawn()), expected.eval()(drawn().contiguous()))
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(made.state_dict()[key], value)


@pytest.mark.parametrize("flat", ["view", "flatten"])
@pytest.mark.parametrize("training", [False, True])
def test_looking_leaves_nothing_behind(nets: Any, flat: str, training: bool) -> None:
    """No number drawn, no statistics moved, no gradient, no mode, no hook of anybody called."""
    network = nets.make(flat).train(training).to(memory_format=torch.channels_last)
    calls: list[nn.Module] = []
    network.body.register_forward_hook(lambda module, *_: calls.append(module))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layouts.watch(network)
    assert layouts.watch(network) is None  # once is enough
    random = torch.get_rng_state()
    asked: list[int] = []
    layouts.settle(network, lambda: asked.append(1) or drawn())  # type: ignore[func-returns-value]
    layouts.settle(network, lambda: asked.append(1) or drawn())  # type: ignore[func-returns-value]
    assert asked == [1] and not calls and network.training == training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())
    channels_last = network.body[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert channels_last == (flat == "flatten")


def test_a_network_that_takes_them_gets_the_very_same_images(nets: Any) -> None:
    network = nets.make("flatten").eval().to(memory_format=torch.channels_last)
    given = drawn()
    seen: list[Tensor] = []
    layouts.watch(network)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(given)
    assert seen[0] is given


def test_what_fails_either_way_is_told_as_before(nets: Any) -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("a bug of the owner's")

    network = nets.make()
    network.flat = broken
    for use in (
        lambda: sd.FullFT(**SHARED).fit(network, images()),
        lambda: sd.predict_proba(network, images()),
    ):
        with pytest.raises(sd.api.UserError, match="a bug of the owner's"):
            use()


def test_the_check_takes_what_jobs_take() -> None:
    backbone = Backbone(architecture="row_nets:make", options={"flat": "view"})
    found = model_check.check(backbone, "mine", SIZE, 3, [])
    assert "last layer: last, 96 features" in found.lines
    assert found.batch.images.is_contiguous(memory_format=torch.channels_last)
    assert not found.batch.images.is_contiguous()


def test_it_is_imported_with_its_owners_scores(
    nets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, rows = np.random.default_rng(0), []
    network = nets.make(outputs=1).eval()
    for number in range(12):
        pixels = rng.normal(rng.uniform(30, 220, 3), 40, (SIZE, SIZE, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(f"{number}.png")
        stored = torch.tensor(np.asarray(Image.open(f"{number}.png")).copy()) / 255
        with torch.no_grad():
            logit = network((stored.permute(2, 0, 1)[None] - 0.5) / 0.5)
        rows.append({"path": f"{number}.png", "score": float(logit.sigmoid())})
    pd.DataFrame(rows).to_csv("reference.csv", index=False)
    save_file(network.state_dict(), "mine.safetensors")
    command = ["import-classifier", "mine.safetensors", "--architecture", "row_nets:make"]
    command += ["--options", "outputs=1", "--size", str(SIZE), "--reference", "reference.csv"]
    half = ["0.5", "0.5", "0.5"]
    assert cli.main([*command, "--mean", *half, "--std", *half]) == 0, capsys.readouterr().err
    assert "12 scores agree" in capsys.readouterr().out
