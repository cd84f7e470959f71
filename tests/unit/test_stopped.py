"""A command that is interrupted, or whose folder is filled while it works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from swift_debias import cli
from swift_debias.cli import _outputs, compare, debias, inspect
from swift_debias.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "workflow" / "scripts"
NETWORK = """
from torch import nn


def network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
"""
LONG, SHORT = ["epochs=20000", "min_cell=2"], ["epochs=1", "min_cell=2"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody's folder, and the options of `debias` but for its settings and `--out`."""
    monkeypatch.chdir(tmp_path)
    Path("a_network.py").write_text(NETWORK)
    scope: dict[str, Callable[[], nn.Module]] = {}
    exec(NETWORK, scope)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(scope["network"]().state_dict(), "m.safetensors")
    rng = np.random.default_rng(0)
    for n in range(48):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).save(f"{n}.png")
    numbers = np.arange(48)
    rows = {"f": [f"{n}.png" for n in numbers], "y": numbers % 2, "sex": numbers // 2 % 2}
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    options = ["--table", "t.csv", "--image", "f", "--label", "y", "--group", "sex"]
    return [*options, "--model", "m.safetensors", "--architecture", "a_network:network",
            "--size", "12"]  # fmt: skip


RUNNING: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while RUNNING:
        RUNNING.pop().kill()


def started(*words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "swift_debias.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    )
    RUNNING.append(process)
    return process


def until(there: Callable[[], bool], process: subprocess.Popen[str], limit: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def interrupted(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C; what is said of it. Exit code 130.

    Where the signal came while a library ran code of a text (a dataclass, while it is imported)
    Python ends by the signal itself after `main` has returned; shells call that 130 too.
    """
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("wait", [0.0, pytest.param(3.0, marks=pytest.mark.ci)])
def test_ctrl_c_is_one_line_and_leaves_no_empty_folder(own: list[str], wait: float) -> None:
    process = started("debias", *own, "--out", "deep/fair", "--set", *LONG)
    until(Path("deep/fair").is_dir, process)
    time.sleep(wait)
    said = interrupted(process)
    assert said == "swift-debias: interrupted; the same command starts anew\n"
    assert not Path("deep").exists()


def test_ctrl_c_leaves_a_folder_that_was_there(own: list[str]) -> None:
    for filled in (False, True):
        Path("fair").mkdir(exist_ok=True)
        if filled:
            Path("fair/notes.txt").write_text("mine")
        process = started("debias", *own, "--out", "fair", "--set", *LONG)
        time.sleep(0.2)
        until(lambda: _is_held(Path("fair")), process)
        assert interrupted(process).count("\n") == 1
        assert [f.name for f in Path("fair").iterdir()] == ["notes.txt"] * filled


def _is_held(folder: Path) -> bool:
    try:
        with _outputs.held(folder, []):
            return False
    except UserError:
        return True


def test_ctrl_c_while_every_command_works(
    own: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the command; one that keeps what is finished says so. Folders it made are gone."""

    def stop(options: object) -> None:
        Path("made/deep").mkdir(parents=True)
        raise KeyboardInterrupt

    for command, words, then in [
        (debias, ["debias", *own, "--out", "made/deep"], "starts anew"),
        (inspect, ["inspect", "t.csv"], "starts anew"),
        (compare, ["compare", "a_network.py", "--out", "made/deep"], "goes on where it was"),
    ]:
        monkeypatch.setattr(command, "run", stop)
        assert cli.main(words) == 130
        assert capsys.readouterr().err == f"swift-debias: interrupted; the same command {then}\n"
        if hasattr(command, "writes"):
            assert not Path("made").exists()
        else:
            Path("made/deep").rmdir()
            Path("made").rmdir()
    monkeypatch.setattr(cli, "_parser", lambda: stop(None))  # while it is still being imported
    assert cli.main([]) == 130


def test_a_second_command_for_the_same_folder_is_refused_at_once(
    own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    process = started("debias", *own, "--set", *LONG)  # both with the default --out
    until(lambda: Path("debiased").is_dir() and _is_held(Path("debiased")), process)
    for more in ([], ["--force"]):
        assert cli.main(["debias", *own, *more, "--set", *SHORT]) == 2
        said = capsys.readouterr().err
        assert said.startswith("swift-debias: error: debiased: another swift-debias command")
        assert said.count("\n") == 1 and "--out" in said
    assert not list(Path("debiased").iterdir())
    interrupted(process)
    Path("debiased").mkdir(exist_ok=True)
    assert cli.main(["debias", *own, "--set", *SHORT]) == 0  # the lock went with its process


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "audit.html"])
def test_what_appears_while_it_works_is_left_and_the_result_is_kept(
    own: list[str],
    force: bool,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from swift_debias import api

    fit = api.CLASSES["SWiFT"].fit

    def slow(self: object, *given: object) -> object:
        found = fit(self, *given)
        Path("fair", name).write_text("somebody else's")
        return found

    if force:
        Path("fair").mkdir()
        Path("fair", name).write_text("old")
        Path("fair/cost.json").write_text("old")
    Path("fair-2").mkdir()  # a name that is taken
    monkeypatch.setattr(api.CLASSES["SWiFT"], "fit", slow)
    words = ["debias", *own, "--out", "fair", *["--force"] * force, "--set", *SHORT]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        f"swift-debias: error: {Path('fair', name)} was written by something else while the "
        "command ran, and is left as it is: the result is in fair-3\n"
    )
    assert Path("fair", name).read_text() == "somebody else's"
    assert sorted(f.name for f in Path("fair").iterdir()) == sorted(["cost.json"] * force + [name])
    assert not list(Path("fair-2").iterdir())
    assert set(load_file("fair-3/model.safetensors")) == set(load_file("m.safetensors"))
    assert len(pd.read_csv("fair-3/audit.csv")) > 50
    written = {Path("fair-3") / p.name for p in debias.writes(_named("fair-3"))}
    assert set(Path("fair-3").iterdir()) == written - {Path("fair-3/rule.json")}


def _named(out: str) -> object:
    return type("Options", (), {"out": Path(out)})


def test_force_writes_over_what_was_there_before(own: list[str]) -> None:
    for _ in range(2):
        assert cli.main(["debias", *own, "--out", "fair", "--force", "--set", *SHORT]) == 0
    assert not Path("fair-2").exists()


def test_of_many_that_hold_a_folder_at_once_one_does(tmp_path: Path) -> None:
    """Also where the folder is not there, and each of them makes it."""
    for turn in range(20):
        folder, got, refused = tmp_path / f"{turn}" / "out", [], []
        start = threading.Barrier(6)
        done = threading.Event()

        def hold(
            folder: Path = folder, got: list[int] = got, refused: list[str] = refused,
            start: threading.Barrier = start, done: threading.Event = done,
        ) -> None:  # fmt: skip
            start.wait()
            try:
                with _outputs.held(folder, []) as place:
                    got.append(1)
                    done.wait(10)
                    place.ready()
            except UserError as error:
                refused.append(str(error))
            if len(refused) == 5:
                done.set()

        threads = [threading.Thread(target=hold) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 5)


def test_a_folder_that_went_away_is_made_again(tmp_path: Path) -> None:
    with _outputs.held(tmp_path / "a" / "b", [tmp_path / "a" / "b" / "c"]) as place:
        _outputs.remove_empty([tmp_path / "a" / "b", tmp_path / "a"])
        assert place.ready() == tmp_path / "a" / "b" and place.ready().is_dir()
    assert not list(tmp_path.glob("*-2"))


def test_import_and_export_hold_their_folders(own: list[str], tmp_path: Path) -> None:
    words = ["import-classifier", "m.safetensors", "--architecture", "a_network:network"]
    with _outputs.held(Path("mine"), []):
        assert cli.main([*words, "--size", "12", "--out", "mine"]) == 2
    assert cli.main([*words, "--size", "12", "--out", "mine"]) == 0
    assert len(list(Path("mine").iterdir())) == 3


def test_a_note_is_a_line(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`audit` and `debias` say that images are transparent, without the place in the code."""
    for n in (3, 8):
        Image.new("RGBA", (12, 12), (9, 9, 9, 90)).save(f"{n}.png")
    said = "2 of 48 images have transparent pixels, which lie on black (the first is 3.png); where"
    audit = ["audit", "t.csv", *own[2:], "--out", "a"]
    for words in (audit, ["debias", *own, "--set", *SHORT]):
        assert cli.main(words) == 0
        told = capsys.readouterr()
        assert sum(line.startswith(said) for line in told.out.splitlines()) == 1
        assert "Warning" not in told.err and "Note" not in told.out
