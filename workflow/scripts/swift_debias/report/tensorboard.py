"""The histories of a run as TensorBoard's event files, for people who have that open already.

    swift-debias export-logs results/demo
    tensorboard --logdir results/demo/tensorboard

A folder a training or debiasing, named by its keys; a curve a number of each stage of its history.
Written by tensorboardX (extra `tensorboard`), whose files TensorBoard and its like read. Which
files they are stands beside them (`WRITTEN`), and those alone are removed by the next call.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..files import read_json, read_parquet, remove, write_json
from ..run import layout

# kind of history -> the folder of its curves, in which keys are filled in
FOLDERS = {
    "baseline_history": "baseline/{task}/{backbone}/fold{fold}",
    "first_history": "first_step/{task}/{backbone}/{attribute}/{first}/fold{fold}",
    "history": "{method}/{task}/{backbone}/{attribute}/fold{fold}",
    "repeat_history": "{method}/{task}/{backbone}/{attribute}/fold{fold}/repeat{repeat}",
}

PLACES = ("epoch", "step")
WRITTEN = "export-logs.json"  # in the folder: the event files that this command wrote


def histories(run: Path) -> dict[str, Path]:
    """Folder of the curves -> the history's file, of all that a run has written so far."""
    found = {}
    for kind, folder in FOLDERS.items():
        pattern = layout.path(kind, **dict.fromkeys(layout.key_names(kind), "*"))
        for path in sorted(run.glob(pattern)):
            found[folder.format(**layout.keys(kind, path.relative_to(run)))] = path
    return found


def curves(history: pd.DataFrame) -> dict[str, list[tuple[int, float]]]:
    """Curve -> (step, value): of each number and each stage; what has no value is left out.

    A classifier that is taken over, as a Baseline is, has no history: no curve. What a row is says
    methods/__init__.py; stages of one history may count differently.
    """
    if history.empty:
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    for stage, rows in history.groupby("stage", sort=False):
        places = _places(rows)
        for name in rows.columns.drop(["stage", *PLACES], errors="ignore"):
            values = pd.to_numeric(rows[name], errors="coerce")
            points = [
                (place, float(value))
                for place, value in zip(places, values, strict=True)
                if pd.notna(value)
            ]
            if points:
                found[f"{stage}/{name}"] = points
    return found


def _places(rows: pd.DataFrame) -> list[int]:
    """Where the rows of a stage stand: at their epochs or steps; else 1, 2, 3 in their order.

    Else: where a row has neither, as of a method of one's own, or several rows have the same.
    """
    for name in PLACES:
        if name in rows and rows[name].notna().all() and rows[name].is_unique:
            return [int(place) for place in rows[name]]
    return [*range(1, len(rows) + 1)]


def export(run: Path, out: Path) -> int:
    """Write the event files of a run anew; those of an earlier call are removed, and nothing else.

    Returns:
        how many histories were written.

    Raises:
        UserError: there is none, `out` holds something else, or tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError("export-logs needs tensorboardX: pip install tensorboardX") from error
    found = histories(run)
    if not found:
        raise UserError(f"no history in {run}: name the folder of a run, results/<run>")
    _make_room(out)
    try:
        for folder, path in found.items():
            with SummaryWriter(str(out / folder)) as writer:
                for name, points in curves(read_parquet(path)).items():
                    for step, value in points:
                        writer.add_scalar(name, value, step)
    finally:  # of a call that was stopped too
        ours = [path for folder in found for path in (out / folder).glob("*tfevents*")]
        write_json(out / WRITTEN, {"files": sorted(p.relative_to(out).as_posix() for p in ours)})
    return len(found)


def _make_room(out: Path) -> None:
    """Remove what an earlier call wrote.

    Raises:
        UserError: something else is there, such as another program's event files.
    """
    note = out / WRITTEN
    names = read_json(note)["files"] if note.is_file() else []
    ours = {note, *(out / name for name in names)}
    there = [path for path in sorted(out.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if other := [path for path in there if path not in ours]:
        raise UserError(
            f"{out} holds other files ({other[0].relative_to(out)}), which export-logs did not "
            "write: name another folder with --out, or move them"
        )
    remove(there)
    folders = {above for path in there for above in path.parents if out in above.parents}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # somebody's
            folder.rmdir()
