"""Tables: cells over folds beside the published values.

A table is an *experiment* of the config: blocks of (task, backbone, attribute), rows are methods,
columns are test set x metric, as in the paper. render.py writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from ..evaluation.cells import EMPTY, KEYS, Block, Cell
from ..evaluation.intervals import SIGNED
from ..evaluation.metrics import at_threshold
from ..evaluation.plausibility import CHECKS, NO_MARKS, Check, Marks
from ..evaluation.thresholds import EXTERNAL

CSV_COLUMNS = ["table", *KEYS, "mean", "std", "n_folds", "published_mean", "published_std"]
INTERVALS = ["low", "high", "floor_mean", "floor_95", "below_floor"]
CSV_COLUMNS += ["marks", *INTERVALS]
# What a gap alone does not tell: whether it fell because everybody is decided alike, or wrongly.
# The csv has them beside what a view shows; a view that names them prints them.
BESIDE = (*SIGNED, "balanced_accuracy", "tpr_min", "tnr_min", "selection_rate")


@dataclass(frozen=True)
class Table:
    """A table ready to be written.

    `cells` has the CSV columns, one row a cell: those shown, then what stands beside them
    (`BESIDE`) of the same methods and test sets, as far as computed; `notes` says what is missing
    or left out; `titles` names the methods; `marks` says which cells are not to be taken at their
    word; `remarks` are sentences below it that everybody is to read.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    cells: pd.DataFrame
    notes: tuple[str, ...]
    titles: Mapping[str, str]
    synthetic: bool = False
    best: bool = True
    marks: Marks = NO_MARKS
    remarks: tuple[str, ...] = ()

    @property
    def legend(self) -> tuple[Check, ...]:
        """The marks that some cell shown bears, in the order of the checks."""
        used = {one.mark for key in shown_keys(self.blocks) for one in self.marks.about(key)}
        return tuple(one for mark, one in CHECKS.items() if mark in used)

    @property
    def caption(self) -> str:
        """What the numbers are, for below the title."""
        folds = sorted({int(n) for n in self.cells["n_folds"] if n > 0})
        count = "no" if not folds else " to ".join(str(n) for n in sorted({folds[0], folds[-1]}))
        parts = [f"Mean ± sample standard deviation over {count} fold{'s' * (count != '1')}."]
        if self.best:
            parts.append("Best in bold, second underlined; equal at the printed precision share.")
        if self.best and any(not one.ranked for one in self.legend):
            letters = ", ".join(one.letter for one in self.legend if not one.ranked)
            parts.append(f"Numbers marked {letters} are neither.")
        if self.best and any(one.shared for one in self.legend):
            letters = ", ".join(one.letter for one in self.legend if one.shared)
            parts.append(f"Those marked {letters} share the first place; none of them is bold.")
        if self.synthetic:
            parts.insert(0, "Synthetic data: not comparable with the paper.")
        elif self.cells["published_mean"].notna().any():
            parts.append("Grey: published (Yan et al., MELBA 2025).")
        return " ".join(parts)


def assemble(
    name: str,
    title: str,
    parts: Sequence[Block],
    ours: Mapping[tuple[str, ...], Cell],
    theirs: Mapping[tuple[str, ...], Cell],
    titles: Mapping[str, str],
    synthetic: bool,
    best: bool = True,
    marks: Marks = NO_MARKS,
    intervals: pd.DataFrame | None = None,
    remarks: Sequence[str] = (),
) -> Table:
    """A table of the cells of `parts`, ours beside theirs.

    Args:
        name: e.g. table1; names the files.
        title: without number.
        parts: the blocks of the table, in order.
        ours: the run's cells (`lookup`).
        theirs: the published cells (`published_lookup`); empty for synthetic data.
        titles: display names of the methods.
        synthetic: the data are made up; the caption says so.
        best: mark the best and the second best.
        marks: what is implausible (`plausibility.marks`).
        intervals: KEYS and the columns of `setup_intervals`: the csv has those of the cells that
            have a value.
        remarks: sentences below the table.
    """
    keys = shown_keys(parts)
    further = shown_keys([part._replace(metrics=_beside(part.metrics)) for part in parts])
    besides = [key for key in further if key not in keys and ours.get(key, EMPTY).n_folds]
    rows, reasons = [], []
    for key in [*keys, *besides]:
        own, other = ours.get(key, EMPTY), theirs.get(key, EMPTY)
        marked = "; ".join(one.mark for one in marks.about(key))
        values = (own.mean, own.std, own.n_folds, other.mean, other.std)
        rows.append((name, *key, *values, marked))
        if own.reason and key in keys:
            folds = f" ({own.n_null} of {own.n_folds + own.n_null} folds)" if own.n_null else ""
            place = " ".join(part for part in (titles.get(key[3], key[3]), *key[4:]) if part)
            reasons.append((f"{'/'.join(key[:3])}: {own.reason}", place + folds))
    frame = pd.DataFrame(rows, columns=[c for c in CSV_COLUMNS if c not in INTERVALS])
    frame = _with_intervals(frame, intervals)
    notes = _merge_reasons(reasons)
    return Table(
        name, title, tuple(parts), frame, notes, titles, synthetic, best, marks, tuple(remarks)
    )


def _beside(metrics: Sequence[str]) -> tuple[str, ...]:
    """What stands beside these metrics, at the threshold that they are at."""
    external = any(metric.endswith(EXTERNAL) for metric in metrics)
    return tuple(at_threshold(name, "external" if external else "fixed") for name in BESIDE)


def shown_keys(parts: Sequence[Block]) -> list[tuple[str, ...]]:
    """Keys of the cells of several blocks, each once."""
    return list(dict.fromkeys(key for part in parts for key in part.cell_keys()))


def _with_intervals(cells: pd.DataFrame, intervals: pd.DataFrame | None) -> pd.DataFrame:
    """With the columns `INTERVALS`, empty where a cell has no value or no interval."""
    if intervals is None or intervals.empty:
        return cells.assign(**dict.fromkeys(INTERVALS, np.nan))
    plain = intervals[[*KEYS, *INTERVALS]].astype(dict.fromkeys(KEYS, "object"))
    found = cells.merge(plain, on=KEYS, how="left", validate="many_to_one")
    found.loc[found["mean"].isna(), INTERVALS] = np.nan
    return found


def _merge_reasons(reasons: list[tuple[str, str]], shown: int = 4) -> tuple[str, ...]:
    """One line a reason: how many cells it concerns, and the first few of them."""
    lines = []
    for reason, group in groupby(sorted(reasons, key=lambda pair: pair[0]), lambda pair: pair[0]):
        places = [place for _, place in group]
        more = f" and {len(places) - shown} more" if len(places) > shown else ""
        lines.append(f"{reason}: {', '.join(places[:shown])}{more}")
    return tuple(lines)
