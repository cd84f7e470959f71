"""What the searches tried: every trial, what was chosen, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation.words import title
from ..files import read_json
from ..run import layout

TITLE = "Searches: every trial, scored on a part of the external set"
CAPTION = (
    "All trials of a search are scored on samples that they were not fitted to, and on no test "
    "set; one choice for all folds. A chosen trial's score is no result: it was the best of many."
)
KEYS = ["task", "backbone", "attribute", "method"]
COLUMNS = [
    *(*KEYS, "trial", "settings", "eodds", "auc", "auc_change", "auc_se", "chosen"),
    *("underpowered", "rule", "reason", "select_images"),
]
BUDGET = [*KEYS, "trials", "images_seen", "seconds", "underpowered"]


def read(files: Iterable[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials (COLUMNS) and the budgets (BUDGET) of searches.

    Args:
        files: `search/{task}/{backbone}/{attribute}/{method}.json`.
    """
    trials: list[dict[str, Any]] = []
    budgets: list[dict[str, Any]] = []
    for path in files:
        names, found = layout.keys("search", path), read_json(path)
        keys = {key: names[key] for key in KEYS}
        for number, trial in enumerate(found["trials"], start=1):
            scores = {name: trial[name] for name in ("eodds", "auc", "auc_change", "auc_se")}
            trials.append(
                keys
                | {"trial": number, "settings": _settings(trial["settings"])}
                | scores
                | {
                    "chosen": trial["settings"] == found["chosen"],
                    **{key: found[key] for key in COLUMNS[-4:]},
                }
            )
        spent = {name: found[name] for name in ("images_seen", "seconds", "underpowered")}
        budgets.append(keys | {"trials": len(found["trials"])} | spent)
    frame = pd.DataFrame(trials, columns=COLUMNS)
    numbers = dict.fromkeys(["eodds", "auc", "auc_change", "auc_se"], "float64")
    return frame.astype(numbers), pd.DataFrame(budgets, columns=BUDGET)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def for_readers(trials: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The trials with the names of things."""
    return pd.DataFrame(
        {
            **{key: trials[key].map(title) for key in KEYS if key != "method"},
            "method": trials["method"].map(lambda name: titles.get(name, name)),
            "settings": trials["settings"],
            "EOdds": trials["eodds"],
            "AUC": trials["auc"],
            "AUC change": trials["auc_change"],
            "its standard error": trials["auc_se"],
            "chosen": trials["chosen"].map({True: "yes", False: ""}),
            "underpowered": trials["underpowered"].map({True: "yes", False: ""}),
        }
    )


def budget(
    budgets: pd.DataFrame,
    epochs: Mapping[str, Sequence[int]],
    titles: Mapping[str, str],
    folds: int,
) -> list[str]:
    """What the searches of a table's methods were allowed: one sentence, and a warning if any.

    Args:
        budgets: of these methods (`read`).
        epochs: method -> epochs of a step of its trials, least and most over tasks and grid; of
            methods without epochs, none.
        titles: display names.
        folds: of the run.
    """
    if budgets.empty:
        return []
    parts = []
    for method, rows in budgets.groupby("method", sort=False):
        name = str(method)
        lengths = epochs.get(name, ())
        trained = f" of {_range(lengths)} epochs a step" if lengths else ""
        parts.append(
            f"{titles.get(name, name)} {_range(rows['trials'])} trials{trained}, "
            f"{_range(rows['images_seen'])} images seen"
        )
    over = f"{folds} fold{'s' * (folds != 1)}"
    said = f"Searched settings, over {over} of a setup: {'; '.join(parts)}."
    weak = budgets[budgets["underpowered"].astype(bool)]
    if weak.empty:
        return [said]
    names = ", ".join(dict.fromkeys(titles.get(m, m) for m in weak["method"]))
    return [
        said,
        f"Underpowered: {names} ({len(weak)} of {len(budgets)} searches); the AUC's change was too "
        "uncertain to hold it to the tolerance.",
    ]


def _range(values: Iterable[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
