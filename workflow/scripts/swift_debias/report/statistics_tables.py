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
            "noise floor (mean, 95 %)": _floors(part),
            "below the floor": part["below_floor"].map({True: "yes", False: ""}).fillna(""),
            "power": part["power"],
            "remark": part["reason"],
        }
    )


def _share_of_folds(frame: pd.DataFrame) -> list[str]:
    """How much of a value's variance comes from the folds: above half, more folds would help."""
    shares = frame["variance_folds"] / (frame["variance_test"] + frame["variance_folds"])
    return ["" if np.isnan(share) else f"{share:.0%}" for share in shares]


def _floors(frame: pd.DataFrame) -> list[str]:
    return [
        "" if np.isnan(mean) else f"{mean:.3f}, {high:.3f}"
        for mean, high in frame[["floor_mean", "floor_95"]].to_numpy(float)
    ]
