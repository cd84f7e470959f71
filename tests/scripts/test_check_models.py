"""check_models.py: what is wrong with a network is told in a line, and then nothing is written."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from swift_debias.config.schema import Backbone
from swift_debias.learning import networks

NETS = """
import torch
from torch import nn

class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.first = nn.Linear(3, 4)
        self.idle = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(3))
    def forward(self, x):
        return self.last(self.first(self.scale * x.mean((2, 3))))

class Fixed(nn.Module):
    def __init__(self, after=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.last = nn.Linear(3 * 64, 1)
        self.after = after or nn.Identity()
    def forward(self, x):
        return self.after(self.last((x * self.scale.view(1, -1, 1, 1)).flatten(1)))

class Cut(Fixed):
    def forward(self, x):
        with torch.no_grad():
            x = x * self.scale.view(1, -1, 1, 1)
        return self.last(x.flatten(1))

class Mixing(Fixed):
    def forward(self, x):
        return super().forward(x - x.mean(0))

class Frozen(Fixed):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)

def late(): return Late()
def cut(): return Cut()
def mixing(): return Mixing()
def frozen(): return Frozen()
def bare(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
def fixed(): return Fixed()
def sigmoid(): return Fixed(nn.Sigmoid())
def wrong(): raise ValueError("a bug of\\nthe owner's")
"""
Check = Callable[..., str]


@pytest.fixture
def check(run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    (tmp_path / "nets_of_check.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_of_check", raising=False)

    def check(
        entry: dict[str, Any], size: int = 8, channels: int = 3, files: Any = (), **more: Any
    ) -> str:
        run(
            "check_models.py",
            output={"text": "results/x/model_check/skin/net.txt"},
            params={
                "backbone": entry,
                "module": "",
                "images": {"size": size, "channels": channels},
                "files": list(files),
                **more,
            },
            wildcards={"task": "skin", "backbone": "net"},
        )
        return Path("results/x/model_check/skin/net.txt").read_text()

    return check


@pytest.mark.parametrize("key", ["baseline", "weights"])
def test_what_of_a_users_file_is_not_used_is_named(key: str, check: Check, tmp_path: Path) -> None:
    """A layer between extractor and head would change every score: it has to be seen."""
    backbone = Backbone(architecture="small_resnet")
    extractor = networks.build(backbone, 0).extractor.state_dict()
    features = networks.build(backbone, 0).head.linear.in_features
    state = {f"net.{n}" if key == "baseline" else n: v.clone() for n, v in extractor.items()}
    state |= {"fc.3.weight": torch.ones(2, features), "fc.3.bias": torch.zeros(2)}
    save_file(state, tmp_path / "w.safetensors")
    entry = {"architecture": "small_resnet"}
    file = str(tmp_path / "w.safetensors")
    given = {"entry": entry | {"weights": file}} if key == "weights" else {"entry": entry}
    given |= {"files": [file]} if key == "baseline" else {}
    said = check(size=32, **given)
    left = [] if key == "baseline" else ["fc.3.bias", "fc.3.weight"]
    assert ("not used of it: " in said) == bool(left)
    more = {"fc.0.weight": torch.ones(features, 7), "fc.0.bias": torch.ones(features)}
    save_file(state | more, tmp_path / "w.safetensors")
    said = check(size=32, **given)
    assert f"not used of it: {', '.join(['fc.0.bias', 'fc.0.weight', *left])}\n" in said


def test_it_says_what_a_network_is(check: Check) -> None:
    said = check({"architecture": "nets_of_check:fixed"})
    assert "last layer: last, 192 features" in said
    # its scale is a parameter of no layer that importance serves by hooks, or it is served
    assert "importance: " in said
    assert f"{3 + 192 + 1:,} parameters" in said
    first = said
    assert check({"architecture": "nets_of_check:fixed"}) == first  # nothing of the clock


def test_parts_that_are_never_trained_are_named(check: Check) -> None:
    said = check({"architecture": "nets_of_check:late", "head": "last"})
    assert "2 tensors get no gradient and stay as they are: extractor.idle.weight" in said


@pytest.mark.parametrize("function", ["cut", "bare"])
def test_only_heads_are_trained_on_an_extractor_without_gradients(
    check: Check, capfd: pytest.CaptureFixture[str], function: str
) -> None:
    entry = {"architecture": f"nets_of_check:{function}"}
    assert "last layer: " in check(entry, extractor=False)
    with pytest.raises(SystemExit):
        check(entry)
    assert "that trains the last layer alone (LLFT, DFR)" in capfd.readouterr().err


def test_what_its_owner_froze_is_trained(check: Check) -> None:
    assert "no gradient" not in check({"architecture": "nets_of_check:frozen"})


def test_weights_are_named_with_their_sum(check: Check, tmp_path: Path) -> None:
    entry = {"architecture": "small_resnet", "options": {"width": 8}}
    made = networks.build(Backbone(**entry), seed=1)
    save_file(made.extractor.state_dict(), tmp_path / "own.safetensors")
    networks.save(made, tmp_path / "whole.safetensors")
    said = check(entry | {"weights": "own.safetensors"}, 16)
    digest = hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()
    assert f"weights: own.safetensors, SHA-256 {digest}" in said
    said = check(entry | {"baseline": "whole.safetensors"}, 16, files=["whole.safetensors"])
    digest = hashlib.sha256((tmp_path / "whole.safetensors").read_bytes()).hexdigest()
    assert f"whole classifier: whole.safetensors, SHA-256 {digest}" in said


@pytest.mark.parametrize(
    ("entry", "size", "channels", "said"),
    [
        ({"architecture": "nets_of_check:late"}, 8, 3, "write backbones.net.head: last"),
        ({"architecture": "nets_of_check:sigmoid"}, 8, 3, "head:"),
        ({"architecture": "nets_of_check:mixing"}, 8, 3, "depends on the images beside it"),
        ({"architecture": "nets_of_check:fixed"}, 9, 3, "9 x 9 pixels and 3 channels"),
        (
            {"architecture": "small_resnet", "options": {"width": 8}},
            16,
            1,
            "16 pixels and 1 channels",
        ),
        ({"architecture": "nets_of_check:wrong"}, 8, 3, "ValueError: a bug of the owner's"),
        ({"architecture": "small_resnet", "options": {"widht": 8}}, 16, 3, "widht"),
        ({"architecture": "small_resnet", "baseline": "a"}, 16, 3, "no weights file absent"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    check: Check,
    capfd: pytest.CaptureFixture[str],
    entry: dict[str, Any],
    size: int,
    channels: int,
    said: str,
) -> None:
    files = ["absent.safetensors"] if "baseline" in entry else []
    with pytest.raises(SystemExit):
        check(entry, size, channels, files)
    error = capfd.readouterr().err.strip()
    assert said in error and error.startswith("error in check_models: backbones.net: ")
    assert "\n" not in error
    assert not Path("results/x/model_check/skin/net.txt").exists()


def test_an_owners_classifier_in_its_own_names_is_taken(check: Check, tmp_path: Path) -> None:
    """Two outputs, its own names: softmax of the network is sigmoid of the classifier."""
    from nets_of_check import late

    torch.manual_seed(0)
    network = late().eval()
    save_file(network.state_dict(), tmp_path / "late.safetensors")
    entry = {"architecture": "nets_of_check:late", "head": "last", "baseline": "late.safetensors"}
    said = check(entry, files=["late.safetensors"])
    assert "last layer: last, 4 features" in said
    classifier = networks.load(tmp_path / "late.safetensors", Backbone(**entry), own=True)
    images = torch.randn(5, 3, 8, 8)
    with torch.inference_mode():
        expected = nn.functional.softmax(network(images), 1)[:, 1]
        torch.testing.assert_close(classifier(images).sigmoid(), expected)
