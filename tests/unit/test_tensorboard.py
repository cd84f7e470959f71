"""Histories as event files: read back by their format's own rules, and against pandas."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from swift_debias import cli
from swift_debias.errors import UserError
from swift_debias.files import write_parquet
from swift_debias.report import tensorboard

BASELINE = "baseline/skin/net/fold0"
HISTORIES = {
    "baseline/skin/net/fold0/history.parquet": BASELINE,
    "debiased/skin/net/sex/swift/fold1/history.parquet": "swift/skin/net/sex/fold1",
    "debiased/skin/net/sex/swift/fold1/repeat2/history.parquet": "swift/skin/net/sex/fold1/repeat2",
    "first_steps/skin/net/sex/ab12/fold0/history.parquet": "first_step/skin/net/sex/ab12/fold0",
}
FRAME = pd.DataFrame(
    {
        "stage": ["one", "one", "two"],
        "epoch": [1, 2, 1],
        "loss": [0.5, 0.25, 0.125],
        "auc": [0.75, None, None],
    }
)
POINTS = {
    "one/loss": [(1, 0.5), (2, 0.25)],
    "one/auc": [(1, 0.75)],
    "two/loss": [(1, 0.125)],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "mine"
    for name in HISTORIES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(FRAME, folder / name)
    return folder


def records(path: Path) -> Iterator[bytes]:
    """Records of an event file: length, its checksum, the bytes, theirs (TFRecord)."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield data[place + 12 : place + 12 + length]
        place += 16 + length


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curve -> (step, value), of a folder's event files."""
    events = pytest.importorskip("tensorboardX").proto.event_pb2
    found: dict[str, list[tuple[int, float]]] = {}
    for path in folder.glob("*tfevents*"):
        for record in records(path):
            event = events.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_every_history_has_its_curves(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboardX")
    for _ in range(2):  # written anew, not twice
        assert cli.main(["export-logs", str(run)]) == 0
        out = run / "tensorboard"
        assert f"{out}: {len(HISTORIES)} histories" in capsys.readouterr().out
        folders = {str(path.parent.relative_to(out)) for path in out.rglob("*tfevents*")}
        assert folders == set(HISTORIES.values())
        for folder in folders:
            assert scalars(out / folder) == POINTS


def test_a_history_by_steps() -> None:
    frame = FRAME.rename(columns={"epoch": "step"}).assign(step=[100, 200, 300])
    assert tensorboard.curves(frame)["one/loss"] == [(100, 0.5), (200, 0.25)]


def test_stages_of_one_history_may_count_differently() -> None:
    """Rows of epochs, of steps, and of neither, as older runs have them."""
    rows = [
        *({"stage": "step1", "epoch": epoch, "loss": epoch / 4} for epoch in (1, 2, 5)),
        *({"stage": "held out", "step": step, "auc": step / 8} for step in (2, 4)),
        {"stage": "search", "hard_rate": 0.5},
        *({"stage": "mine", "gap": gap} for gap in (0.5, 0.25)),
        *({"stage": "groups", "step": 1, "rate": rate} for rate in (0.125, 0.75)),
        *({"stage": "half", "rate": rate} | at for rate, at in ((1, {"step": 7}), (2, {}))),
    ]
    expected = {
        "step1/loss": [(1, 0.25), (2, 0.5), (5, 1.25)],
        "held out/auc": [(2, 0.25), (4, 0.5)],
        "search/hard_rate": [(1, 0.5)],
        "mine/gap": [(1, 0.5), (2, 0.25)],
        "groups/rate": [(1, 0.125), (2, 0.75)],
        "half/rate": [(1, 1.0), (2, 2.0)],
    }
    for order in (rows, [*rows[3:], *rows[:3]]):
        assert tensorboard.curves(pd.DataFrame(order)) == expected


def test_a_classifier_that_was_taken_over_has_no_curve() -> None:
    """Its history has neither rows nor columns."""
    assert tensorboard.curves(pd.DataFrame()) == {}


def test_mistakes_are_told_in_a_line(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with pytest.raises(UserError, match="name the folder of a run"):
        tensorboard.export(tmp_path / "results", tmp_path / "out")
    with pytest.raises(UserError, match=r"holds other files .*: name another folder with --out"):
        tensorboard.export(run, run)
    assert all((run / name).is_file() for name in HISTORIES)


def test_what_another_program_wrote_is_left(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Event files of somebody's trainings are called alike; they were removed."""
    pytest.importorskip("tensorboardX")
    out = tmp_path / "runs"
    theirs = out / "resnet" / "events.out.tfevents.1700000000.host.1.0"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"weeks of work")
    words = ["export-logs", str(run), "--out", str(out)]
    assert cli.main(words) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert f"{theirs.relative_to(out)}" in told and "name another folder with --out" in told
    assert [path for path in out.rglob("*") if path.is_file()] == [theirs]

    # and where they came beside ours, or into a folder of ours
    theirs.unlink()
    assert cli.main(words) == 0
    for folder in (out / "resnet", out / BASELINE):
        own = folder / theirs.name
        own.write_bytes(b"weeks of work")
        before = sorted(path for path in out.rglob("*") if path.is_file())
        assert cli.main(words) == 2
        assert sorted(path for path in out.rglob("*") if path.is_file()) == before
        own.unlink()
    assert cli.main(words) == 0


def test_what_is_no_longer_in_the_run_is_removed(run: Path) -> None:
    pytest.importorskip("tensorboardX")
    out = run / "tensorboard"
    tensorboard.export(run, out)
    (run / next(iter(HISTORIES))).unlink()
    tensorboard.export(run, out)
    assert not (out / "baseline").exists()
    assert len([*out.rglob("*tfevents*")]) == len(HISTORIES) - 1


def test_without_the_library_it_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    assert cli.main(["export-logs", str(run)]) == 2
    said = capsys.readouterr().err
    assert said == "swift-debias: error: export-logs needs tensorboardX: pip install tensorboardX\n"
