"""The histories of a run as TensorBoard's event files, for people who have that open already.

    swift-debias export-logs results/demo
    tensorboard --logdir results/demo/tensorboard

A folder a training or debiasing, named by its keys; a curve a number of its history, at the epoch
or step. Written by tensorboardX (extra `tensorboard`), whose files TensorBoard and its like read.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..files import read_parquet
from ..run import layout

# kind of history -> the folder of its curves, in which keys are filled in
FOLDERS = {
    "baseline_history": "baseline/{task}/{backbone}/fold{fold}",
    "first_history": "first_step/{task}/{backbone}/{attribute}/{first}/fold{fold}",
    "history": "{method}/{task}/{backbone}/{attribute}/fold{fold}",
    "repeat_history": "{method}/{task}/{backbone}/{attribute}/fold{fold}/repeat{repeat}",
}


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

    A classifier that is taken over, as a Baseline is, has no history: no curve.
    """
    if history.empty:
        return {}
    number = "epoch" if "epoch" in history else "step"
    found: dict[str, list[tuple[int, float]]] = {}
    for stage, rows in history.groupby("stage", sort=False):
        for name in rows.columns.drop(["stage", number]):
            values = pd.to_numeric(rows[name], errors="coerce")
            points = [
                (int(step), float(value))
                for step, value in zip(rows[number], values, strict=True)
                if pd.notna(value)
            ]
            if points:
                found[f"{stage}/{name}"] = points
    return found


def export(run: Path, out: Path) -> int:
    """Write the event files of a run anew.

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
    if out.exists():
        if any(path.is_file() and "tfevents" not in path.name for path in out.rglob("*")):
            raise UserError(f"{out} holds other files: name another folder with --out")
        shutil.rmtree(out)
    for folder, path in found.items():
        with SummaryWriter(str(out / folder)) as writer:
            for name, points in curves(read_parquet(path)).items():
                for step, value in points:
                    writer.add_scalar(name, value, step)
    return len(found)
