"""Classifiers of one's own: whatever they were saved as, they score as their owners' programs do.

The oracles are those programs: plain torch and Pillow (own_ways.py). The ninth way, a module beside
the configuration, is in tests/workflow/test_networks_of_a_run.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import own_ways
import pandas as pd
import pytest
import scipy.special
import torch
import yaml
from own_ways import SIZE, WAYS, Way
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from swift_debias import api, cli
from swift_debias.cli import export_classifier, import_classifier
from swift_debias.config.schema import Backbone, Images
from swift_debias.data.image_set import read_files
from swift_debias.errors import UserError
from swift_debias.learning import checkpoint_files, names, networks, tensor_files
from swift_debias.learning.makers import import_torchvision
from swift_debias.learning.reference_check import Reference, compare


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def made(name: str, folder: Path) -> Way:
    if name == "timm folder":
        import_torchvision()  # before a library that imports it unguarded
        pytest.importorskip("timm")
    return WAYS[name](folder)


def imported(way: Way, *more: str) -> int:
    size = [] if way.checkpoint.is_dir() else ["--size", str(SIZE)]
    out = ["--out", "mine", "--force"]
    return cli.main(["import-classifier", str(way.checkpoint), *way.arguments, *size, *out, *more])


def entry(folder: Path) -> tuple[Backbone, Images]:
    found = yaml.safe_load((folder / "mine" / "backbone.yaml").read_text())
    return Backbone(**found["backbones"]["mine"]), Images(**found["tasks"]["my_task"]["images"])


@pytest.mark.key("backbone.baseline", "backbone.head")
@pytest.mark.parametrize("name", WAYS)
def test_it_scores_as_its_owners_program(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what is written is taken by the configuration's road."""
    way = made(name, tmp_path)
    paths = own_ways.pictures(tmp_path)
    table = own_ways.reference(paths, way)
    assert table["score"].max() - table["score"].min() > 0.05
    table.to_csv("reference.csv", index=False)
    assert imported(way, "--reference", "reference.csv") == 0, capsys.readouterr().err
    assert "12 scores agree" in capsys.readouterr().out
    looked_at = import_classifier.writes(argparse.Namespace(out=Path("mine")))
    assert set(Path("mine").iterdir()) == set(looked_at)
    backbone, images = entry(tmp_path)
    assert images.size == SIZE
    assert images.mean == pytest.approx(way.normalization[0])
    classifier = networks.load(Path(backbone.baseline), backbone, own=True)
    pixels = own_ways.prepared(paths, way)
    with torch.inference_mode():
        torch.testing.assert_close(
            classifier(pixels).sigmoid(), way.scores(pixels), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", WAYS)
def test_the_way_back_keeps_what_was_not_trained(name: str, tmp_path: Path) -> None:
    """Bit by bit, and the owner's program scores as the debiased classifier does."""
    way = made(name, tmp_path)
    swap = ["--swap-classes"] if name in ("two outputs", "extractor") else []
    assert imported(way, *swap) == 0
    backbone, _ = entry(tmp_path)
    before = checkpoint_files.read(way.checkpoint).tensors
    classifier = networks.load(Path(backbone.baseline), backbone, own=True)
    state = dict(classifier.state_dict())
    first = next(n for n in state if n.startswith("extractor.") and n.endswith("weight"))
    state[first] = state[first] * 1.5
    state["head.1.weight"] = state["head.1.weight"] + 0.25
    tensor_files.write(tmp_path / "debiased.safetensors", state)
    out = f"fair{way.checkpoint.suffix}"
    command = ["export-classifier", "debiased.safetensors", "--imported", "mine"]
    assert cli.main([*command, "--checkpoint", str(way.checkpoint), "--out", out]) == 0
    given = argparse.Namespace(checkpoint=way.checkpoint, out=Path(out))
    made_files = Path(out).iterdir() if Path(out).is_dir() else [Path(out)]
    assert set(made_files) <= set(export_classifier.writes(given))
    after = checkpoint_files.read(Path(out))
    note = json.loads((tmp_path / "mine" / "import.json").read_text())
    changed = {note["names"][first.removeprefix("extractor.")], note["last_layer"] + ".weight"}
    assert list(after.tensors) == list(before)
    assert {n for n in before if not torch.equal(before[n], after.tensors[n])} == changed
    assert all(before[n].dtype == after.tensors[n].dtype for n in before)
    # imported again, it is the debiased classifier
    again = Way(Path(out), way.arguments, way.scores)
    assert imported(again, *swap, "--name", "again", "--out", "again") == 0
    found = load_file(tmp_path / "again" / "classifier.safetensors")
    exact = before[note["last_layer"] + ".weight"].dtype == torch.float32
    for key, value in state.items():
        tolerance = {} if exact else {"rtol": 2e-3, "atol": 2e-3}
        torch.testing.assert_close(found[key], value, **tolerance)


def test_an_export_of_what_was_imported_is_the_file_itself(tmp_path: Path) -> None:
    way = made("Lightning .ckpt", tmp_path)
    assert imported(way) == 0
    command = ["export-classifier", "mine/classifier.safetensors", "--imported", "mine"]
    assert cli.main([*command, "--checkpoint", "last.ckpt", "--out", "back.ckpt"]) == 0
    before, after = (torch.load(p, weights_only=True) for p in ("last.ckpt", "back.ckpt"))
    assert list(before) == list(after)
    assert after["hyper_parameters"] == {"lr": 1e-3}
    assert list(before["state_dict"]) == list(after["state_dict"])
    assert all(torch.equal(v, after["state_dict"][n]) for n, v in before["state_dict"].items())
    torch.save({}, "last.ckpt")
    assert cli.main([*command, "--checkpoint", "last.ckpt", "--out", "back.ckpt"]) == 2


def test_weights_of_an_earlier_export_are_not_read_for_the_new_ones(tmp_path: Path) -> None:
    """Into one folder: a reader takes the first of several names, and a rule for the model's."""
    way = made("timm folder", tmp_path)
    assert imported(way) == 0
    out = tmp_path / "fair"
    out.mkdir()
    for name in ("model.safetensors", "pytorch_model.bin", "rule.json", "mine.txt"):
        (out / name).write_text("of an earlier call")
    command = ["export-classifier", "mine/classifier.safetensors", "--imported", "mine"]
    command += ["--checkpoint", str(way.checkpoint), "--out", str(out), "--force"]
    assert cli.main(command) == 0
    expected = {p.name for p in way.checkpoint.iterdir()} | {"mine.txt"}
    assert {path.name for path in out.iterdir()} == expected
    assert checkpoint_files.read(out).tensors


def test_a_pruned_channel_is_zero_in_the_owners_weights(tmp_path: Path) -> None:
    way = made("whole network", tmp_path)
    assert imported(way) == 0
    backbone, _ = entry(tmp_path)
    assert backbone.dropout == 0.2  # the network's own
    classifier = networks.load(Path(backbone.baseline), backbone, own=True)
    mask = torch.ones(8, 1, 1)
    mask[[1, 5]] = 0
    networks.attach_unit_mask(classifier, "extractor.body.1", mask)
    networks.save(classifier, tmp_path / "pruned.safetensors")
    command = ["export-classifier", "pruned.safetensors", "--imported", "mine"]
    assert cli.main([*command, "--checkpoint", "w.safetensors", "--out", "fair.safetensors"]) == 0
    network = own_ways.module(tmp_path).whole(8, 1).eval()
    network.load_state_dict(load_file(tmp_path / "fair.safetensors"))
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network(images)[:, 0], classifier.eval()(images))
        assert not torch.allclose(way.scores(images), classifier(images).sigmoid())


def test_weights_of_another_network_are_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(made("whole network", tmp_path)) == 0
    for name, entry_ in (
        ("small", {"architecture": "small_resnet", "options": {"width": 8}}),
        ("wide", {"architecture": "clinic_nets:whole", "options": {"width": 9}}),
    ):
        networks.save(networks.build(Backbone(**entry_), 0), tmp_path / f"{name}.safetensors")
        command = ["export-classifier", f"{name}.safetensors", "--imported", "mine"]
        assert cli.main([*command, "--checkpoint", "w.safetensors", "--out", "x"]) == 2
        assert "is of another network" in capsys.readouterr().err


# --- the other commands ---


def table_of(folder: Path) -> list[str]:
    """Pictures of two groups and labels beside a classifier, and the commands' options of them."""
    rng = np.random.default_rng(0)
    names = [f"p{n}.png" for n in range(48)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 52, 3), np.uint8)).save(folder / name)
    frame = pd.DataFrame({"path": names, "y": np.arange(48) % 2, "g": list("aabb") * 12})
    frame.to_csv(folder / "t.csv", index=False)
    return ["--label", "y", "--group", "g", "--image", "path"]


def scores_of(folder: Path, images: Images, backbone: Backbone) -> np.ndarray:
    """P(class 1) of the pictures by the imported classifier, prepared as a run prepares them."""
    classifier = networks.load(folder / "mine" / "classifier.safetensors", backbone, own=True)
    pixels = read_files([folder / f"p{n}.png" for n in range(48)], images).pixels
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (images.mean, images.std))
    with torch.inference_mode():
        return classifier((tensor - mean) / std).double().sigmoid().numpy()


@pytest.mark.parametrize("name", ["extractor", "own normalization", "timm folder"])
def test_the_imported_folder_is_a_classifier_of_the_other_commands(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the preparation that it says: squares that are stretched, another mean."""
    from sklearn.metrics import roc_auc_score

    way = made(name, tmp_path)
    assert imported(way, "--fit", "stretch", "--interpolation", "bicubic") == 0
    columns = table_of(tmp_path)
    backbone, images = entry(tmp_path)
    assert images.fit == "stretch"
    scores = scores_of(tmp_path, images, backbone)
    assert cli.main(["audit", "t.csv", *columns, "--model", "mine"]) == 0
    rows = pd.read_csv("t.audit.csv").set_index("metric")["value"]
    table = pd.read_csv("t.csv")
    assert rows["auc"] == pytest.approx(roc_auc_score(table["y"], scores), abs=1e-6)
    assert rows["brier"] == pytest.approx(((scores - table["y"]) ** 2).mean(), abs=1e-5)
    command = ["debias", "--table", "t.csv", *columns, "--model", "mine", "--out", "fair"]
    command += ["--set", "epochs=1", "min_cell=2", "lr_extractor=0.01"]
    capsys.readouterr()
    assert cli.main(command) == 0
    [told] = [line for line in capsys.readouterr().out.splitlines() if "export-classifier" in line]
    words = shlex.split(told)[1:]
    at = words.index("--checkpoint") + 1
    [file] = [way.checkpoint, *way.checkpoint.rglob(words[at])][-1:]  # from where it lies
    assert file.name == words[at]
    assert cli.main([*words[:at], str(file), *words[at + 1 :]]) == 0
    back = checkpoint_files.read(Path(f"fair/fair{file.suffix}")).tensors
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in checkpoint_files.read(file).tensors.items()
    }
    assert cli.main(["audit", "t.csv", *columns, "--model", "mine", "--architecture", "x"]) == 2
    capsys.readouterr()
    Path("mine/backbone.yaml").write_text("backbones: {}\n")
    assert cli.main(["audit", "t.csv", *columns, "--model", "mine", "--force"]) == 2
    assert "is not as import-classifier writes it" in capsys.readouterr().err


@pytest.mark.parametrize("method", sorted(api.CLASSES))
def test_what_a_method_makes_of_an_imported_classifier_goes_back_or_is_refused_first(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default settings: no result comes out that `export-classifier` then refuses."""
    way = made("whole network", tmp_path)
    assert imported(way) == 0
    columns = table_of(tmp_path)
    command = ["debias", "--table", "t.csv", *columns, "--model", "mine", "--out", "fair"]
    command += ["--method", method, "--set", "epochs=1", "min_cell=2"]
    command += ["adapt=norm"] if method == "PEFT" else []  # it has no 1 x 1 convolution
    capsys.readouterr()
    code = cli.main(command)
    if method == "DiffPrune":
        assert code == 2 and not Path("fair").exists()
        said = capsys.readouterr().err
        assert "no place in the network's own weights" in said
        assert "--set unit=channel" in said
        assert cli.main([*command, "unit=channel", "min_balanced_accuracy=0"]) == 0
    else:
        assert code == 0, capsys.readouterr().err
    [told] = [line for line in capsys.readouterr().out.splitlines() if "export-classifier" in line]
    assert cli.main(shlex.split(told)[1:]) == 0
    network = own_ways.module(tmp_path).whole(8, 1).eval()
    network.load_state_dict(load_file("fair/fair.safetensors"))
    backbone, _ = entry(tmp_path)
    debiased = networks.load(Path("fair/model.safetensors"), backbone, own=True)
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network(images)[:, 0], debiased(images))


def test_the_bits_of_sixteen_bit_images_go_with_the_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dark ones need fewer bits than those that the classifier was trained on."""
    way = made("own normalization", tmp_path)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"p{n}.png" for n in range(48)]
    grey = [(rng.random((40, 52)) * rng.integers(10, 60)).astype(np.uint8) for _ in paths]
    for path, picture in zip(paths, grey, strict=True):
        Image.fromarray(picture).save(path)
    scores = own_ways.reference(paths, way)
    scores[:16].to_csv("reference.csv", index=False)
    for path, picture in zip(paths, grey, strict=True):
        Image.fromarray((picture * (4095 / 255)).round().astype(np.uint16)).save(path)
    reference = ["--reference", "reference.csv"]
    assert imported(way, *reference) == 2
    assert imported(way, *reference, "--bits", "12") == 0, capsys.readouterr().err
    assert "16-bit images are read as of 12 bits (--bits)" in capsys.readouterr().out
    assert entry(tmp_path)[1].bits == 12
    frame = pd.DataFrame({"path": scores["path"], "y": np.arange(48) % 2, "g": list("aabb") * 12})
    frame.to_csv("t.csv", index=False)
    command = ["audit", "t.csv", "--label", "y", "--group", "g", "--image", "path", "--force"]
    brier = {}
    for bits in ([], ["--bits", "16"]):
        assert cli.main([*command, "--model", "mine", *bits]) == 0
        rows = pd.read_csv("t.audit.csv").set_index("metric")["value"]
        told = f"16-bit images are read as of {[*bits, '12'][1 if bits else 0]} bits (--bits)\n"
        assert told in capsys.readouterr().out
        brier[bool(bits)] = rows["brier"]
    truth = ((scores["score"] - frame["y"]) ** 2).mean()
    assert brier[False] == pytest.approx(truth, abs=1e-5) and brier[True] != brier[False]
    assert cli.main([*command, "--model", "mine", "--bits", "9"]) == 2  # levels are above


@pytest.mark.parametrize(
    "library", ["resnet18", pytest.param("timm:resnet10t", marks=pytest.mark.ci)]
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_librarys_network_is_a_classifier_of_the_other_commands(
    library: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name alone; the debiased weights fit the library's own network as they are."""
    from sklearn.metrics import roc_auc_score

    torchvision = import_torchvision()
    if library.startswith("timm:"):
        make = functools.partial(pytest.importorskip("timm").create_model, "resnet10t")
    else:
        make = torchvision.models.resnet18
    monkeypatch.chdir(tmp_path)
    network = make(num_classes=2).eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    save_file(state, "w.safetensors") if suffix == "safetensors" else torch.save(state, "w.pth")
    columns = table_of(tmp_path)
    given = ["--model", f"w.{suffix}", "--architecture", library, "--size", "32"]
    assert cli.main(["audit", "t.csv", *columns, *given]) == 0
    pixels = read_files([tmp_path / f"p{n}.png" for n in range(48)], Images(size=32)).pixels
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in own_ways.IMAGENET)
    with torch.inference_mode():
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        scores = network((tensor - mean) / std).softmax(1)[:, 1].numpy()
    rows = pd.read_csv("t.audit.csv").set_index("metric")["value"]
    assert rows["auc"] == pytest.approx(roc_auc_score(pd.read_csv("t.csv")["y"], scores), abs=0.01)
    command = ["debias", "--table", "t.csv", *columns, *given, "--out", "fair"]
    command += ["--set", "epochs=1", "min_cell=2", "lr_extractor=0.01"]
    assert cli.main(command) == 0
    fair = load_file("fair/model.safetensors")
    network.load_state_dict(fair)
    assert any(not torch.equal(fair[n], v) for n, v in state.items())


def own_network(tmp_path: Path, outputs: int, bias: bool = True) -> nn.Module:
    """A network of a module beside, `beside:network`, with seeded weights."""
    (tmp_path / "beside.py").write_text(
        "from torch import nn\ndef network():\n    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        f"nn.Linear(4, {outputs}, bias={bias}))\n"
    )
    torch.manual_seed(outputs)
    space: dict[str, Any] = {}
    exec((tmp_path / "beside.py").read_text(), space)
    return space["network"]()


def test_which_of_two_copies_is_said_to_audit_and_debias_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("beside", None)
    first, second = (own_network(tmp_path, 1).state_dict() for _ in range(2))
    second = {name: 2 * value for name, value in second.items()}
    torch.save({"model": first, "model_ema": second}, "two.pth")
    given = [*table_of(tmp_path), "--architecture", "beside:network", "--size", "16"]
    assert cli.main(["audit", "t.csv", *given, "--model", "two.pth"]) == 2
    assert "choose one, such as --place model" in capsys.readouterr().err
    values = {}
    for place, state in (("model", first), ("model_ema", second)):
        torch.save(state, "one.pth")
        for name, more in (("two.pth", ["--place", place]), ("one.pth", [])):
            assert cli.main(["audit", "t.csv", *given, "--model", name, *more, "--force"]) == 0
            values[place, name] = pd.read_csv("t.audit.csv")["value"].to_numpy()
        np.testing.assert_array_equal(values[place, "two.pth"], values[place, "one.pth"])
    assert not np.array_equal(
        values["model", "two.pth"], values["model_ema", "two.pth"], equal_nan=True
    )


def test_debias_says_that_a_last_layer_without_bias_has_one_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("beside", None)
    torch.save(own_network(tmp_path, 1, bias=False).state_dict(), "w.pth")
    given = [*table_of(tmp_path), "--architecture", "beside:network", "--size", "16"]
    command = ["debias", "--table", "t.csv", *given, "--model", "w.pth", "--out", "fair"]
    assert cli.main([*command, "--set", "epochs=1", "min_cell=2"]) == 0
    told = capsys.readouterr().out
    assert "WARNING: your last layer 4 has no bias" in told and "4.bias is new" in told
    assert "4.bias" in load_file("fair/model.safetensors")


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("beside:network", "g.safetensors"),
        ("beside:nothing", "nothing"),
        ("no_such_module:network", "no_such_module"),
    ],
)
@pytest.mark.parametrize("command", ["audit", "debias"])
def test_a_classifier_that_cannot_be_loaded_is_told_before_images_are_read(
    command: str,
    architecture: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("beside", None)
    save_file(own_network(tmp_path, 1).state_dict(), "g.safetensors")
    if said == "g.safetensors":
        Path(said).write_text("garbage")
    given = [*table_of(tmp_path), "--architecture", architecture, "--size", "16"]
    for picture in tmp_path.glob("*.png"):
        picture.write_bytes(b"no picture")
    table = ["t.csv"] if command == "audit" else ["--table", "t.csv"]
    assert cli.main([command, *table, *given, "--model", "g.safetensors"]) == 2
    told = capsys.readouterr().err
    assert said in told and ".png" not in told


NETWORKS = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, 2)
    def forward(self, x): return self.fc(self.body(x))

class Plain(Base): pass

class Auxiliary(Base):
    "A second head, registered later, which is called and not returned."
    def __init__(self):
        super().__init__()
        self.sex = nn.Linear(8, 2)
    def forward(self, x):
        self.seen = self.sex(self.body(x))
        return super().forward(x)

class Unused(Auxiliary):
    def forward(self, x): return Base.forward(self, x)

class Early(nn.Module):
    "The last layer is registered before what feeds it."
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)
        self.body = nn.Sequential(*Base().body, nn.Linear(8, 8), nn.ReLU())
    def forward(self, x): return self.fc(self.body(x))

class Temperature(Base):
    "A factor that is 1 in a new network, and another one in the file."
    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.ones(()))
    def forward(self, x): return super().forward(x) * self.factor

class Sigmoid(Base):
    def forward(self, x): return super().forward(x).sigmoid()
"""
REFUSED = {  # of a .pth, which is taken apart
    "Auxiliary": "ends in the layer 'fc': write --head fc",
    "Unused": "ends in the layer 'fc': write --head fc",
    "Early": "ends in the layer 'fc': write --head fc",
    "Temperature": "does something after its last layer 'fc'",
    "Sigmoid": "does something after its last layer 'fc'",
}


FOUND_BY_A_PASS = ("Auxiliary", "Unused", "Early")


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "module.safetensors"])
@pytest.mark.parametrize("name", ["Plain", *REFUSED])
def test_a_network_of_ones_own_says_what_it_says_or_is_refused(
    name: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever its file's ending, an audit has the AUC of the network, or says what to do."""
    from sklearn.metrics import roc_auc_score

    monkeypatch.chdir(tmp_path)
    (tmp_path / "heads.py").write_text(NETWORKS)
    sys.modules.pop("heads", None)
    space: dict[str, Any] = {}
    exec(NETWORKS, space)
    torch.manual_seed(3)
    network = space[name]().eval()
    if name == "Temperature":
        network.factor.fill_(-3)
    prefix = "module." if suffix.startswith("module") else ""
    state = {prefix + key: value for key, value in network.state_dict().items()}
    file = f"w.{suffix}"
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    given = [*table_of(tmp_path), "--architecture", f"heads:{name}", "--model", file]
    given += ["--size", "16", "--mean", "0", "0", "0", "--std", "1", "1", "1"]
    commands = {
        "audit": ["audit", "t.csv", *given],
        "debias": ["debias", "--table", "t.csv", *given, "--out", "o", "--set", "epochs=1"],
    }
    commands["debias"] += ["min_cell=2", "--method", "Baseline"]
    pixels = read_files([tmp_path / f"p{n}.png" for n in range(48)], Images(size=16)).pixels
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    whole = suffix == "safetensors"  # the network itself is asked, and not taken apart
    for command, words in commands.items():
        code, said = cli.main(words), capsys.readouterr().err
        if name == "Sigmoid" and whole and command == "audit":
            assert code == 2 and "look like probabilities" in said
        elif name == "Plain" or (whole and (command == "audit" or name in FOUND_BY_A_PASS)):
            assert code == 0, said
        else:
            assert code == 2 and REFUSED[name] in said, said
    if name in REFUSED and not whole:  # named: that layer's logits are the network's
        assert cli.main([*commands["audit"], "--head", "fc", "--force"]) == 0
        with torch.no_grad():
            logits = network.fc(network.body(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255))
    if Path("t.audit.csv").exists():
        rows = pd.read_csv("t.audit.csv").set_index("metric")["value"]
        scores = (logits[:, 1] - logits[:, 0]).numpy()
        wanted = roc_auc_score(pd.read_csv("t.csv")["y"], scores)
        assert rows["auc"] == pytest.approx(wanted, abs=1e-6)
    else:
        assert name == "Sigmoid" and whole


def test_more_than_two_classes_are_refused_by_audit_and_debias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("beside", None)
    torch.save(own_network(tmp_path, 3).state_dict(), "w.pth")
    given = [*table_of(tmp_path), "--architecture", "beside:network", "--size", "16"]
    given += ["--model", "w.pth"]
    for command in (["audit", "t.csv"], ["debias", "--set", "min_cell=2", "--table", "t.csv"]):
        assert cli.main([*command, *given]) == 2
        told = capsys.readouterr().err
        assert "w.pth tells 3 classes apart, and this command two" in told


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--score or --model"),
        (["--score", "y", "--model", "w.pth"], "--score or --model"),
        (["--score", "y", "--size", "32"], "--size: is of a classifier (--model)"),
        (["--model", "w.pth"], "--image: which column"),
        (["--model", "w.pth", "--image", "path"], "--architecture: which network is w.pth of?"),
        (
            ["--model", "w.pth", "--image", "path", "--architecture", "resnet81"],
            "no network 'resnet81'; did you mean 'resnet",
        ),
    ],
)
def test_what_an_audit_of_a_classifier_needs(
    more: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"path": ["a"], "y": [1], "g": ["a"]}).to_csv("t.csv", index=False)
    Path("w.pth").write_bytes(b"x")
    assert cli.main(["audit", "t.csv", "--label", "y", "--group", "g", *more]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


# --- the reference --------------------------------------------------------------------------------


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(score=1 - table["score"])


@pytest.mark.parametrize(
    ("trap", "said"),
    [
        ("normalization", "--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5"),
        ("resizing", "--fit stretch"),
        ("classes", "--swap-classes"),
        ("channels", "images.flip(1)"),
        ("something else", "look first at the normalization"),
    ],
)
def test_a_classifier_that_is_fed_otherwise_is_refused(
    trap: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trap: wrongly prepared pixels give scores all the same. What is the matter is named."""
    way = made("own normalization", tmp_path)
    paths = own_ways.pictures(tmp_path)
    if trap == "channels":
        program = way._replace(scores=lambda images: way.scores(images.flip(1)))
        table = own_ways.reference(paths, program)
    elif trap == "something else":
        program = way._replace(scores=lambda images: way.scores(images.flip(2) * 0.7))
        table = own_ways.reference(paths, program)
    else:
        table = own_ways.reference(paths, way, stretch=trap == "resizing")
    table = swapped(table) if trap == "classes" else table
    table.to_csv("reference.csv", index=False)
    arguments = way.arguments[:2] if trap == "normalization" else way.arguments
    wrong = way._replace(arguments=arguments)
    assert imported(wrong, "--reference", "reference.csv") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "mine").exists()
    if said.startswith("--"):  # what it says is right
        advice = said.split() if trap != "resizing" else ["--fit", "stretch"]
        assert imported(wrong, "--reference", "reference.csv", *advice) == 0


@pytest.mark.parametrize("copy", ["e.", "exponential_average."])
def test_a_copy_that_is_not_complete_is_passed_over(copy: str) -> None:
    """Such as the average of a student's weights without its statistics, before or after it."""
    wanted = {"body.weight": torch.zeros(3, 2), "body.scale": torch.zeros(3)}
    state = {copy + "body.weight": torch.ones(3, 2)}
    state |= {f"model.{name}": value for name, value in wanted.items()}
    state |= {"model.last.weight": torch.zeros(1, 3), "model.last.bias": torch.zeros(1)}
    found = names.match(state, wanted, 3, "file")
    assert found.names == {name: f"model.{name}" for name in wanted}
    assert (found.head, found.outputs) == ("model.last", 1)
    del state["model.body.scale"]
    with pytest.raises(UserError, match="no weights for 1 of 2"):
        names.match(state, wanted, 3, "file")


COPIES = [
    ("student.", "teacher."),
    ("teacher.", "student."),  # of equal length
    ("model.", "ema."),
    ("", "ema."),
    ("model.backbone.", "ema.backbone."),
    ("", "ema.backbone."),
    ("net.", "net.net."),
]


def copy_of(prefix: str, value: float, head: bool = True) -> dict[str, torch.Tensor]:
    """A network of which every number is `value`; its head lies beside `backbone`."""
    owner = prefix.removesuffix("backbone.")
    names_ = {f"{prefix}conv.weight": (4, 3, 3, 3), f"{prefix}conv.bias": (4,)}
    if head:
        names_ |= {f"{owner}fc.weight": (1, 4), f"{owner}fc.bias": (1,)}
    return {name: torch.full(shape, value) for name, shape in names_.items()}


@pytest.mark.parametrize("prefixes", COPIES)
@pytest.mark.parametrize("of", [0, 1])
@pytest.mark.parametrize("only", [True, False])
def test_of_two_copies_an_extractor_gets_its_own_last_layer(
    prefixes: tuple[str, str], of: int, only: bool
) -> None:
    """The one that is named, or the only one; in whatever order the copies lie in the file."""
    wanted = {"conv.weight": torch.zeros(4, 3, 3, 3), "conv.bias": torch.zeros(4)}
    head = prefixes[of].removesuffix("backbone.") + "fc"
    parts = [copy_of(p, float(i), i == of or not only) for i, p in enumerate(prefixes)]
    for state in (parts[0] | parts[1], parts[1] | parts[0]):
        found = names.match(state, wanted, 4, "file", None if only else head)
        assert found.head == head
        used = [*found.names.values(), f"{head}.weight", f"{head}.bias"]
        assert {float(state[name].mean()) for name in used} == {of}
        assert set(found.unused) == set(state) - set(used)
        if not only:
            with pytest.raises(UserError, match="name one"):
                names.match(state, wanted, 4, "file")


def test_a_last_layer_of_neither_copy_is_refused() -> None:
    wanted = {"conv.weight": torch.zeros(4, 3, 3, 3), "conv.bias": torch.zeros(4)}
    state = copy_of("query.", 0, False) | copy_of("key.", 1, False) | copy_of("", 2)
    state = {name: value for name, value in state.items() if not name.startswith("conv.")}
    with pytest.raises(UserError, match=r"2 whole copies.*\['key\.', 'query\.'\].*'fc'"):
        names.match(state, wanted, 4, "file")
    # a layer of another kind under the extractor's names is no copy
    state = copy_of("net.", 0) | {"a.conv.weight": torch.ones(9, 2), "a.conv.bias": torch.ones(4)}
    assert names.match(state, wanted, 4, "file").names["conv.bias"] == "net.conv.bias"


def test_scores_that_prove_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way = made("whole network", tmp_path)
    paths = own_ways.pictures(tmp_path, 3)
    own_ways.reference(paths, way).assign(score=0.5).to_csv("reference.csv", index=False)
    assert imported(way, "--reference", "reference.csv") == 2
    assert "all the same" in capsys.readouterr().err


def test_logits_are_a_reference_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    way = made("two outputs", tmp_path)
    table = own_ways.reference(own_ways.pictures(tmp_path), way)
    logits = torch.logit(torch.tensor(table["score"].to_numpy(), dtype=torch.float64))
    assert logits.min() < 0 or logits.max() > 1
    table.assign(score=logits.numpy()).to_csv("reference.csv", index=False)
    assert imported(way, "--reference", "reference.csv") == 0, capsys.readouterr().err


CONFIDENT = np.array([-13.5, 28.0, -11.8, 21.3, -12.2, 24.9, -9.1, 17.0, -14.4, 31.2, -8.8, 19.5])
WRITTEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logits": lambda logits: logits,
    "probabilities": scipy.special.expit,
    "four decimals": lambda logits: scipy.special.expit(logits).round(4),
    "32 bits": lambda logits: scipy.special.expit(logits.astype(np.float32)).astype(float),
    "16 bits": lambda logits: scipy.special.expit(logits).astype(np.float16).astype(float),
    "bfloat16": lambda logits: torch.tensor(logits).bfloat16().sigmoid().double().numpy(),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.5, 1])
def test_what_is_rounded_agrees_and_what_is_prepared_otherwise_does_not(
    written: str, spread: float
) -> None:
    """Of confident classifiers and others: a scale and a shift are what a normalization does."""
    paths = [Path(f"{i}.png") for i in range(12)]
    right = CONFIDENT * spread
    reference = Reference.of(WRITTEN[written](right))
    rng = np.random.default_rng(0)
    for _ in range(20):  # a card's rounding
        found = compare(right + rng.normal(0, 1e-3 * spread, 12), reference, paths)
        assert found.agree, (found, written)
    for wrong in (0.4 * right + 0.5 * spread, 0.6 * right, right - 6 * spread, -right):
        found = compare(wrong, reference, paths)
        assert not found.agree, (wrong, written)
        assert found.worst == abs(found.ours - found.theirs) or found.scale == "logit"


def test_scores_that_cannot_tell_are_called_weak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way = made("whole network", tmp_path)
    table = own_ways.reference(own_ways.pictures(tmp_path), way)
    for n, warned in ((5, True), (8, False), (12, False)):
        table[:n].to_csv("reference.csv", index=False)
        assert imported(way, "--reference", "reference.csv") == 0, capsys.readouterr().err
        assert (f"WARNING: --reference: {n} images" in capsys.readouterr().out) == warned
    scores = scipy.special.expit(CONFIDENT)
    assert ["12 of 12 probabilities" in said for said in Reference.of(scores).weakness()] == [True]
    for fine in (CONFIDENT, np.where(np.arange(12) < 2, 0.4, scores)):
        assert not list(Reference.of(fine).weakness())


def test_a_confident_classifier_that_is_fed_otherwise_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its probabilities are 0 and 1 either way."""
    way = made("own normalization", tmp_path)
    state = torch.load(way.checkpoint)
    for name in ("classify.weight", "classify.bias"):
        state[name] *= 40
    torch.save(state, way.checkpoint)
    paths = own_ways.pictures(tmp_path)
    network = own_ways.module(tmp_path).whole().eval()
    network.load_state_dict(state)

    def logits(images: torch.Tensor) -> torch.Tensor:
        low, high = network(images).T
        return high - low

    table = own_ways.reference(paths, way._replace(scores=logits))
    table.to_csv("reference.csv", index=False)
    assert imported(way, "--reference", "reference.csv") == 0, capsys.readouterr().err
    shifted = ["--mean", "0.49", "0.49", "0.49"]
    assert imported(way, "--reference", "reference.csv", *shifted) == 2
    assert "the logits of the scores are not the reference's" in capsys.readouterr().err


@pytest.mark.parametrize("decimals", [1, 8])
def test_scores_of_percent_are_told(
    decimals: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way = made("whole network", tmp_path)
    table = own_ways.reference(own_ways.pictures(tmp_path), way)
    (100 * table["score"]).round(decimals).to_frame().assign(path=table["path"]).to_csv("r.csv")
    assert imported(way, "--reference", "r.csv") == 2
    told = capsys.readouterr().err
    assert "They agree as percent: divide them by 100" in told and told.count("\n") == 1
    assert imported(way, "--reference", "r.csv", "--mean", "0.9", "0.1", "0.5") == 2
    told = capsys.readouterr().err
    assert "may be percent (then divide them by 100 first); look" in told


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("whole network", ["--architecture", "clinic_nets:whol"], "did you mean 'whole'"),
        ("whole network", ["--options", "outputs=1", "widht=8"], "widht"),
        ("whole network", ["--options", "width=[1"], "--options width=[1: the value is not YAML"),
        ("whole network", ["--options", "outputs=1", "width=9"], "(8, 3, 5, 5)"),
        ("extractor", ["--architecture", "shufflenet_v2_x0_5"], "of another architecture"),
        ("two outputs", ["--architecture", "shufflenet_v2_x1_0"], "is ("),
        ("two outputs", ["--architecture", "shufflnet_v2_x0_5"], "did you mean"),
        ("two outputs", ["--channels", "1"], "one number"),
        (".pth with module.", ["--head", "fd"], "valid: module.fc"),
        ("other last layer", ["--fit", "strech"], "fit"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    name: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way = made(name, tmp_path)
    assert imported(way, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole network by torch.save is a program; so it says how to save the weights alone."""
    way = made("whole network", tmp_path)
    network = own_ways.module(tmp_path).whole()
    torch.save(network, tmp_path / "network.pt")
    assert imported(way._replace(checkpoint=tmp_path / "network.pt")) == 2
    assert "torch.save(model.state_dict()" in capsys.readouterr().err


def test_torchscript_is_not_run_by_a_command_and_it_says_what_scores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """In one line, without torch's own warning."""
    network = own_network(tmp_path, 1)
    torch.jit.script(network).save(tmp_path / "ts.pt")
    columns = table_of(tmp_path)
    command = ["audit", "t.csv", *columns, "--model", "ts.pt", "--architecture", "beside:network"]
    for loads in (command, ["import-classifier", "ts.pt", *command[-2:], "--size", "32"]):
        recwarn.clear()
        assert cli.main(loads) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and not [w for w in recwarn if "jit" in str(w.message).lower()]
        assert "predict_proba(torch.jit.load(file), images)" in said
