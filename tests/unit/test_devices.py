"""Jobs side by side on one machine get a card each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swift_debias.config.schema import Compute
from swift_debias.errors import UserError
from swift_debias.learning import devices

CODE = "import sys, pathlib; from swift_debias.learning import devices; sys.stdout.write("
CODE += "devices.free_card(['0', '1'], pathlib.Path(sys.argv[1]))); sys.stdout.flush(); input()"


def job(folder: Path) -> subprocess.Popen[str]:
    """Another process that takes a card and keeps it."""
    scripts = str(Path(devices.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder)],
        env={**os.environ, "PYTHONPATH": scripts},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def card_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read(1)


def test_each_job_gets_a_card_until_it_ends(tmp_path: Path) -> None:
    jobs = [job(tmp_path), job(tmp_path)]
    try:
        cards = [card_of(each) for each in jobs]
        assert sorted(cards) == ["0", "1"]
        more = [devices.free_card(["0", "1"], tmp_path) for _ in range(2)]
        assert sorted(more) == ["0", "1"]  # jobs too many share, evenly
        jobs[1].kill()
        jobs[1].wait()
        assert devices.free_card(["0", "1"], tmp_path) == cards[1]
    finally:
        for each in jobs:
            each.kill()
            each.communicate()


@pytest.mark.parametrize("visible", ["3", "GPU-1234", ""])
def test_a_card_that_a_scheduler_chose_is_kept(
    monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    devices.take_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_one_of_several_cards_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    devices.take_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    devices.take_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize("runtime", [True, False])
def test_locks_lie_in_a_folder_of_this_user_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: bool
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path if runtime else tmp_path / "absent"))
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = devices.lock_folder()
    assert folder == devices.lock_folder() == tmp_path / f"swift-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(UserError, match="not a folder of this user alone"):
        devices.lock_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")  # planted
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    with pytest.raises(UserError, match="not a folder of this user alone"):
        devices.lock_folder()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "card-0-job-1.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        devices.free_card(["0"], tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize("given", devices.GIVEN)
def test_a_job_with_a_gpu_that_torch_does_not_see_stops(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in devices.GIVEN:
        monkeypatch.delenv(name, raising=False)
    assert devices.choose("auto") == "cpu"  # none was given
    with pytest.raises(UserError, match="device: cuda is set, but torch"):
        devices.choose("cuda")
    for none in devices.NO_CARD:
        monkeypatch.setenv(given, none)
        assert devices.choose("auto") == "cpu"
    monkeypatch.setenv(given, "0")
    with pytest.raises(UserError, match=rf"given a GPU \({given}=0\).*device: cpu"):
        devices.choose("auto")
    assert devices.choose("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.choose("auto") == devices.choose("cuda") == "cuda"


def test_cpu_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda _: None)
    assert devices.prepare_device(Compute(device="cpu")) == torch.device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format_follows_the_setting(channels_last: bool) -> None:
    convolution = torch.nn.Conv2d(3, 4, 3)
    compute = Compute(channels_last=channels_last)
    placed = devices.place(convolution, torch.device("cpu"), compute)  # type: ignore[arg-type]
    assert placed.weight.stride() == ((27, 1, 9, 3) if channels_last else (27, 9, 3, 1))
