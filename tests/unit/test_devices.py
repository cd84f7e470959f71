"""Jobs side by side on one machine get a card each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swift_debias.config.schema import Compute
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
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    devices.take_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    devices.take_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


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
