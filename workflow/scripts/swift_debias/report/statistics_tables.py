"""Tests over folds and intervals, as tables of report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..evaluation.words import title


def fold_tests(compared: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Paired tests over folds for readers (`fold_tests.compare`)."""
    if compared.empty:
        return compared
    return pd.DataFrame(
        {
            "table": compared["table"],
            "attribute": compared["attribute"].map(title),
            "network": compared["backbone"].map(title),
            "test set": compared["dataset"].map(title),
            "metric": compared["metric"].map(title),
            "method": compared["method"].map(lambda m: titles.get(m, m)),
            "against": compared["other"].map(lambda m: titles.get(m, m)),
            "folds": compared["n_folds"],
            "difference": compared["difference"],
            "95 % interval": _ranges(compared, "low", "high", sign="+"),
            "p (sign flips)": compared["p_permutation"],
            "Holm": compared["p_permutation_holm"],
            "lowest possible p": compared["p_floor"],
            "remark": compared["reason"],
        }
    )


def _ranges(frame: pd.DataFrame, low: str, high: str, sign: str = "") -> list[str]:
    """Two columns as 'from to to'; '' where there is none."""
    return [
        "" if np.isnan(a) else f"{a:{sign}.3f} to {b:{sign}.3f}"
        for a, b in frame[[low, high]].to_numpy(float)
    ]


def intervals(found: pd.DataFrame, titles: Mapping[str, str], shown: Sequence[str]) -> pd.DataFrame:
    """Intervals over patients and folds for readers (`setup_intervals.setup_intervals`).

    Args:
        found: the intervals of all cells.
        titles: display names of the methods.
        shown: metrics to show.
    """
    part = found[found["metric"].isin(shown)]
    return pd.DataFrame(
        {
            "attribute": part["attribute"].map(title),
            "network": part["backbone"].map(title),
            "test set": part["dataset"].map(title),
            "metric": part["metric"].map(title),
            "method": part["method"].map(lambda m: titles.get(m, m)),
            "images": part["n_images"],
            "patients": part["n_patients"],
            "value": part["value"],
            "95 % interval": _ranges(part, "low", "high"),
            "difference to Baseline": part["difference"].astype(float),
            "its 95 % interval": _ranges(part, "difference_low", "difference_high", sign="+"),
            "variance from folds": _share_of_folds(part),
            "what would help": _what_helps(part),
            "noise floor (mean, 95 %)": _floors(part),
            "below the floor": part["below_floor"].map({True: "yes", False: ""}).fillna(""),
            "remark": part["reason"],
        }
    )


def _shares(frame: pd.DataFrame) -> pd.Series:
    """How much of each value's variance comes from the folds; NaN with one model."""
    return frame["variance_folds"] / (frame["variance_test"] + frame["variance_folds"])


def _share_of_folds(frame: pd.DataFrame) -> list[str]:
    return ["" if np.isnan(share) else f"{share:.0%}" for share in _shares(frame)]


MINOR = 0.2  # share of a variance whose source hardly matters: halving it narrows by 5 %
HELPS = ("more test patients, not more folds", "more of both", "more folds, not more test patients")


def _what_helps(frame: pd.DataFrame) -> list[str]:
    """What would narrow an interval: the part of its variance that dominates, in words."""
    return [
        "" if np.isnan(share) else HELPS[int(share > MINOR) + int(share > 1 - MINOR)]
        for share in _shares(frame)
    ]


SMALLEST = "smallest cell (effective patients)"
TARGET = (
    "An interval speaks of the expected metric of models trained on this pool and this external "
    "set, over patients like those of the test set. It covers other patients and other trainings, "
    "not another pool and not another hospital."
)


def sentences(found: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """What the intervals are about, what would narrow them, and what the test sets can show.

    Args:
        found: the intervals of all cells (`setup_intervals`).
        shown: metrics of the report.
    """
    lines = [TARGET]
    shares = _shares(found[found["metric"].isin(shown)]).astype(float).dropna()
    if len(shares):
        test, folds = int((shares <= MINOR).sum()), int((shares > 1 - MINOR).sum())
        lines.append(
            f"Of {len(shares)} intervals, more test patients would narrow {test} and more folds "
            f"would not; more folds would narrow {folds} and more test patients would not; "
            f"{len(shares) - test - folds} need more of both."
        )
    sizes = test_sizes(found)
    if len(sizes):
        worst = sizes.sort_values(SMALLEST, kind="stable").to_dict("records")[0]
        sure = int((sizes["power"] >= 0.8).sum())
        lines.append(
            f"{sure} of {len(sizes)} test sets would show a fall of EOdds from .2 to .05 four "
            f"times in five or more. The smallest cell has {worst[SMALLEST]:.0f} effective "
            f"patients ({worst['test set']}, {worst['attribute']}): there the chance is "
            f"{worst['power']:.0%}."
        )
    return lines


def test_sizes(found: pd.DataFrame) -> pd.DataFrame:
    """What each test set can show of two groups: a row a setup and test set."""
    keys = ["attribute", "backbone", "dataset"]
    known = found[found["power"].notna()]  # of several classes the one with the smallest cell
    known = known.sort_values("smallest_cell", kind="stable").drop_duplicates(["task", *keys])
    known = known.sort_index()
    columns = {
        "attribute": known["attribute"].map(title),
        "network": known["backbone"].map(title),
        "test set": known["dataset"].map(title),
        SMALLEST: known["smallest_cell"].astype(float),
        "power": known["power"].astype(float),
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def _floors(frame: pd.DataFrame) -> list[str]:
    return [
        "" if np.isnan(mean) else f"{mean:.3f}, {high:.3f}"
        for mean, high in frame[["floor_mean", "floor_95"]].to_numpy(float)
    ]
