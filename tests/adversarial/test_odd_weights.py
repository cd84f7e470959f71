"""Weight files of every kind of oddness: loaded as they are, or refused in one line.

A user's file has no digest, so its numbers are taken for what they are; what a network cannot be
made of is refused. A result has one, so that any change shows. A damaged checkpoint is set aside.
"""

from __future__ import annotations

import collections
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from swift_debias.config.schema import Backbone
from swift_debias.errors import NotFiniteError, UserError
from swift_debias.learning import checkpoint_files, networks, wrapped
from swift_debias.learning.checkpoints import Checkpoints

NETWORK = Backbone(architecture="small_resnet", options={"width": 8})
State = dict[str, Tensor]


def state_of(seed: int = 0) -> State:
    return {
        name: value.clone() for name, value in networks.build(NETWORK, seed).state_dict().items()
    }


def pick(rng: np.random.Generator, state: State, real: bool = True) -> str:
    names = [name for name, value in state.items() if value.is_floating_point() or not real]
    return names[int(rng.integers(len(names)))]


# --- changes of a state that is saved in good order: name -> (change, a word of the refusal) ------


def spoil(value: float) -> Callable[[np.random.Generator, State], None]:
    def change(rng: np.random.Generator, state: State) -> None:
        flat = state[pick(rng, state)].view(-1)
        flat[int(rng.integers(len(flat)))] = value

    return change


def cast(dtype: torch.dtype) -> Callable[[np.random.Generator, State], None]:
    def change(rng: np.random.Generator, state: State) -> None:
        name = pick(rng, state)
        state[name] = (state[name] * 100).to(dtype)

    return change


def reshape(rng: np.random.Generator, state: State) -> None:
    name = pick(rng, state)
    state[name] = torch.cat([state[name], state[name]])


def drop(rng: np.random.Generator, state: State) -> None:
    del state[pick(rng, state)]


def rename(rng: np.random.Generator, state: State) -> None:
    name = pick(rng, state)
    state[name + "_"] = state.pop(name)


def prefix(rng: np.random.Generator, state: State) -> None:
    for name in list(state):
        state["module." + name] = state.pop(name)


def mask(rng: np.random.Generator, state: State) -> None:
    state["extractor.nowhere.unit_mask"] = torch.ones(8, 1, 1)


def empty(rng: np.random.Generator, state: State) -> None:
    state.clear()


def half(rng: np.random.Generator, state: State) -> None:
    for name, value in state.items():
        state[name] = value.half() if value.is_floating_point() else value


def nothing(rng: np.random.Generator, state: State) -> None:
    pass


def without_counts(rng: np.random.Generator, state: State) -> None:
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]


CHANGES: dict[str, tuple[Callable[[np.random.Generator, State], None], str | None]] = {
    "as it is": (nothing, None),
    "half precision": (half, None),
    "double precision": (cast(torch.float64), None),
    "bfloat16": (cast(torch.bfloat16), None),
    "without BatchNorm's counts": (without_counts, None),
    "nan": (spoil(float("nan")), "not finite"),
    "infinite": (spoil(float("inf")), "not finite"),
    "minus infinite": (spoil(-float("inf")), "not finite"),
    "int8": (cast(torch.int8), "not real numbers"),
    "int64": (cast(torch.int64), "not real numbers"),
    "bool": (cast(torch.bool), "not real numbers"),
    "other shape": (reshape, "size mismatch"),
    "missing": (drop, "no weights for 1"),
    "renamed": (rename, "no weights for 1"),
    "prefixed": (prefix, None),  # as DataParallel leaves them
    "mask of no layer": (mask, "1 unknown"),
    "no tensors": (empty, "no weights for"),
}


def one_line(error: UserError, path: Path) -> str:
    (line,) = str(error).splitlines()
    assert path.name in line
    return line


@pytest.mark.parametrize("name", CHANGES)
def test_a_users_weights_are_loaded_or_refused(name: str, tmp_path: Path) -> None:
    change, refusal = CHANGES[name]
    for seed in range(3):
        rng, path = np.random.default_rng([seed]), tmp_path / "own.safetensors"
        state = state_of(seed)
        change(rng, state)
        path.write_bytes(save(state))
        if refusal is None:
            found = networks.load(path, NETWORK, own=True).state_dict()
            for key, value in state.items():
                key = key.removeprefix("module.")
                assert torch.equal(found[key], value.to(found[key].dtype)), key
            continue
        with pytest.raises(UserError) as caught:
            networks.load(path, NETWORK, own=True)
        assert refusal in one_line(caught.value, path)


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"prefixed", "mask of no layer"}))
def test_weights_of_an_extractor_and_of_a_network_of_ones_own(name: str, tmp_path: Path) -> None:
    """`weights:` of a backbone, and the front door's networks: the same rules."""
    change, refusal = CHANGES[name]
    path = tmp_path / "extractor.safetensors"
    state = dict(networks.build(NETWORK, 1).extractor.state_dict())
    change(np.random.default_rng(1), state)
    path.write_bytes(save(state))
    loads: list[Callable[[], nn.Module]] = [
        lambda: networks.build(NETWORK.model_copy(update={"weights": str(path)}), 0).extractor,
        lambda: wrapped.load(f"{__name__}:extractor", path),
    ]
    for load in loads:
        if refusal is None:
            found = load().state_dict()
            assert all(torch.equal(found[k], v.to(found[k].dtype)) for k, v in state.items())
            continue
        with pytest.raises(UserError) as caught:
            load()
        assert refusal in one_line(caught.value, path)


def extractor() -> nn.Module:
    return networks.build(NETWORK, 2).extractor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_network_that_is_not_finite_is_saved(value: float, tmp_path: Path) -> None:
    for seed in range(5):
        classifier = networks.build(NETWORK, seed)
        state = classifier.state_dict()
        spoil(value)(np.random.default_rng(seed), state)
        with pytest.raises(NotFiniteError, match="not finite"):
            networks.save(classifier, tmp_path / "model.safetensors")
        assert not list(tmp_path.iterdir())


# --- damage of bytes ------------------------------------------------------------------------------


def damages(data: bytes, rng: np.random.Generator, n: int) -> Iterator[tuple[str, bytes]]:
    """Random damage: name, and the bytes that are left."""
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for _ in range(n):
        for where, first, last in (("header", 0, header), ("tensors", header, len(data))):
            broken = bytearray(data)
            broken[int(rng.integers(first, last))] ^= 1 << int(rng.integers(8))
            yield f"bit of {where}", bytes(broken)
        yield "cut", data[: int(rng.integers(len(data)))]
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 4096))
        zeroed = bytes(len(data[start : start + length]))
        changed = data[:start] + zeroed + data[start + length :]
        if changed != data:
            yield "zeroed", changed
        yield "longer", data + rng.bytes(int(rng.integers(1, 100)))
    yield "empty", b""
    yield "text", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    yield "pickle", pickle.dumps({"weight": [1.0]})
    yield "huge header", struct.pack("<Q", 1 << 62) + data[8:]


def test_every_change_of_a_result_shows(tmp_path: Path) -> None:
    path, counts = tmp_path / "model.safetensors", collections.Counter[str]()
    networks.save(networks.build(NETWORK, 3), path)
    data = path.read_bytes()
    for what, broken in damages(data, np.random.default_rng(0), 40):
        path.write_bytes(broken)
        with pytest.raises(UserError) as caught:
            networks.load(path, NETWORK)
        assert "damaged" in one_line(caught.value, path), what
        counts[what] += 1
    path.write_bytes(save(state_of(3)))  # the same tensors, written by something else
    with pytest.raises(UserError, match="no digest"):
        networks.load(path, NETWORK)
    path.write_bytes(data)
    networks.load(path, NETWORK)
    print(dict(counts))


def test_a_users_damaged_file_is_a_finite_network_or_refused(tmp_path: Path) -> None:
    path, counts = tmp_path / "own.safetensors", collections.Counter[str]()
    expected = networks.build(NETWORK, 0).state_dict()
    for what, broken in damages(save(state_of(4)), np.random.default_rng(1), 15):
        path.write_bytes(broken)
        try:
            found = networks.load(path, NETWORK, own=True).state_dict()
        except UserError as error:
            one_line(error, path)
            counts[f"{what}: refused"] += 1
            continue
        counts[f"{what}: taken"] += 1
        assert what in ("bit of header", "bit of tensors", "zeroed"), what
        for name, value in found.items():
            assert value.shape == expected[name].shape
            assert value.isfinite().all()
    print(dict(counts))


@pytest.mark.parametrize("form", ["archive", "legacy"])
def test_a_damaged_file_of_torch_save_is_told_in_one_line(form: str, tmp_path: Path) -> None:
    """Whatever the archive or the unpickler makes of it."""
    path, rng, refused = tmp_path / "own.pth", np.random.default_rng(2), 0
    saved = {"state_dict": state_of(5), "epoch": 3}
    torch.save(saved, path, _use_new_zipfile_serialization=form == "archive")
    data = path.read_bytes()
    for number in range(240):
        broken = bytearray(data)
        near = min(len(broken), 600) if number % 5 else len(broken)  # most bytes are weights
        at = int(rng.integers(near))
        if number % 3 == 0:
            broken = broken[:at]
        elif number % 3 == 1:
            broken[at] = int(rng.integers(256))
        else:
            del broken[at : at + int(rng.integers(1, 20))]
        path.write_bytes(broken)
        try:
            found = checkpoint_files.read(path)
        except UserError as error:
            one_line(error, path)
            refused += 1
        else:
            assert all(value.isfinite().all() for value in found.tensors.values())
    assert refused > 100


def bad_keys() -> dict[str, Any]:
    """What torch.save writes and reads again, and is no dictionary of plain weights."""
    ones, weights = torch.ones(2), {"fc.weight": torch.ones(1, 2)}
    return {
        "meta": {**weights, "x": torch.zeros(3, device="meta")},
        "nested": {**weights, "x": torch.nested.nested_tensor([ones, torch.ones(3)])},
        "sparse, not finite": {**weights, "x": torch.diag(ones / 0).to_sparse()},
        "list": [ones],
        "number": 3,
    }


@pytest.mark.filterwarnings("ignore:.*nested tensors.*")
@pytest.mark.parametrize("kind", bad_keys())
def test_a_file_without_plain_weights_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    torch.save(bad_keys()[kind], tmp_path / "own.pth")
    with pytest.raises(UserError) as caught:
        checkpoint_files.read(tmp_path / "own.pth")
    one_line(caught.value, tmp_path / "own.pth")


@pytest.mark.parametrize("place", [(), (0,), ("model", 1), ((1, "a"),), (None, 2.5)])
def test_weights_under_any_keys_are_written_back_there(place: Any, tmp_path: Path) -> None:
    saved: Any = {"fc.weight": torch.ones(1, 2), 7: torch.zeros(3), "note": "mine"}
    for key in reversed(place):
        saved = {key: saved, "epoch": 3}
    torch.save(saved, tmp_path / "own.pth")
    original = checkpoint_files.read(tmp_path / "own.pth")
    assert original.place == place and list(original.tensors) == ["fc.weight"]
    checkpoint_files.write(original, {"fc.weight": torch.full((1, 2), 5.0)}, tmp_path / "out.pth")
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    for key in place:
        assert found["epoch"] == 3
        found = found[key]
    assert found["fc.weight"].tolist() == [[5, 5]] and found["note"] == "mine"
    assert torch.equal(found[7], torch.zeros(3))


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_set_aside_and_the_stage_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 1))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    module(torch.randn(8, 5)).sum().backward()
    optimizer.step()
    checkpoints = Checkpoints(tmp_path, key="job")
    checkpoints.save("step1", 3, module, optimizer, [{"epoch": 3, "loss": 0.5}])
    path = tmp_path / "step1.safetensors"
    data, counts = path.read_bytes(), collections.Counter[str]()
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    for what, broken in damages(data, np.random.default_rng(2), 45):
        path.write_bytes(broken)
        fresh = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 1))
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        other = torch.optim.Adam(fresh.parameters(), lr=0.1)
        assert checkpoints.load("step1", fresh, other) == (0, []), what
        assert all(torch.equal(before[name], v) for name, v in fresh.state_dict().items())
        assert not other.state
        (line,) = capsys.readouterr().err.splitlines()
        assert "step1: begins anew" in line and str(path) in line
        assert not path.exists()
        assert (tmp_path / "step1.damaged").read_bytes() == broken
        counts[what] += 1
    print(dict(counts))
    assert sum(counts.values()) >= 200
    path.write_bytes(data)
    epoch, history = checkpoints.load("step1", fresh, other)
    assert (epoch, history) == (3, [{"epoch": 3, "loss": 0.5}])
    for name, value in module.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    assert Checkpoints(tmp_path, key="another job").load("step1", fresh, other) == (0, [])
    assert path.exists()  # it is sound, though of another job


def umask() -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("Umask:")
    )
    return int(line.split()[1], 8)


def test_files_follow_the_umask_and_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for path in (one, two):
        networks.save(networks.build(NETWORK, 5), path)
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert one.read_bytes() == two.read_bytes()
    header = json.loads(one.read_bytes()[8:][: struct.unpack("<Q", one.read_bytes()[:8])[0]])
    assert list(header["__metadata__"]) == ["swift_digest"]
